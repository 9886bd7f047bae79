/* The database's file: the folder and its lock, the schema and its migrations, and what to do with
 * a file that is no good. With state.c the only place that knows SQLite.
 */
#pragma once

#include <sqlite3.h>

/* Makes the folder (and what leads to it) where it is missing, sees that it is ours with mode 0700,
 * and locks it until ret_fd is closed. -EBUSY: locked by another process; else a negative errno. */
int state_folder_open(const char *folder, int *ret_fd);

/* Opens or makes "mailidle.db" in the folder, with the schema of this program. A file that is
 * corrupt, newer or something else is set aside. The folder must be locked. 0 or a negative errno,
 * with the reason logged at debug. */
int state_file_open(const char *folder, sqlite3 **ret_db);

/* The negative errno for a result code of SQLite's. */
int state_file_errno(int result);
