/* The database's file: the folder and its lock, the schema and its migrations, and what to do with
 * a file that is no good. With state, state_query and state_schema the only place that knows
 * SQLite.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Makes the folder (and what leads to it) where it is missing, sees that it is ours with mode 0700,
 * and locks it until ret_fd is closed. -EBUSY: locked by another process; else a negative errno. */
int state_folder_open(const char *folder, int *ret_fd);

/* Opens or makes "mailidle.db" in the folder, with the schema of this program. A file that is
 * corrupt, newer or something else is set aside. The folder must be locked. 0 or a negative errno,
 * with the reason logged at debug. */
int state_file_open(const char *folder, sqlite3 **ret_db);

/* Opens a database that may be read but not written, as it was at its last checkpoint: what a kill
 * left in the log is not in it. It stays as it is, whatever becomes of the file. 0 or a negative
 * errno. */
int state_file_open_to_read(const char *folder, sqlite3 **ret_db);

/* What the files of a database look like from outside. */
struct state_file_look {
	struct stat file;
	struct stat log; /* the write-ahead log */
};

/* To be taken while nothing is being written, and checkpoints are the caller's. */
void state_file_look(sqlite3 *db, struct state_file_look *ret_look);

/* After a batch of our own, which makes the log grow and leaves the rest alone. Whether that is all
 * that has happened since that look: the log is looked at anew then. */
bool state_file_look_again(sqlite3 *db, struct state_file_look *look);

/* Whether nobody has changed, replaced or removed the files since that look. */
bool state_file_is_same(sqlite3 *db, const struct state_file_look *look);

/* Takes what is in the log over into the file, and looks at both anew; nothing else ever writes to
 * the file of an open database. Files that are other ones by now stay different. What fails is
 * tried again with the next one. */
void state_file_checkpoint(sqlite3 *db, struct state_file_look *look);

/* Closes the database without another change to files that may not be its own any more. NULL is
 * allowed. Returns NULL. */
sqlite3 *state_file_abandon(sqlite3 *db);

/* Sets a file aside that turned out to be corrupt. The database must be closed. 0 or a negative
 * errno. */
int state_file_set_aside(const char *folder);

/* Whether the lock is still that of the folder of this name. */
bool state_folder_is_same(const char *folder, int lock_fd);

/* The negative errno for a result code of SQLite's. */
int state_file_errno(int result);
