#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state_file.h"
#include "util/clock.h"
#include "util/log.h"

#define FILE_NAME "mailidle.db"
#define LOCK_NAME "mailidle.lock"

/* Names tried for what is set aside. */
#define MAX_ASIDE 100

/* What must be there after the last step, whatever user_version says. */
static const char schema_probe[] =
	"SELECT id, host, user, mailbox, uidvalidity, uidnext, highestmodseq, has_flags, stopped "
	"FROM mailboxes LIMIT 0;"
	"SELECT mailbox, first, last, value FROM messages LIMIT 0;"
	"SELECT mailbox, value, flags FROM flags LIMIT 0;"
	"SELECT host, user FROM listed LIMIT 0;";

/* Step n leads from user_version n to n + 1. Steps that were released never change. CHECK is also
 * what quick_check holds the rows against. */
static const char *const migrations[] = {
	"CREATE TABLE mailboxes("
	"	id INTEGER PRIMARY KEY,"
	"	host TEXT NOT NULL,"
	"	user TEXT NOT NULL,"
	"	mailbox TEXT NOT NULL,"
	"	uidvalidity INTEGER NOT NULL DEFAULT 0 CHECK(uidvalidity BETWEEN 0 AND 4294967295),"
	"	uidnext INTEGER NOT NULL DEFAULT 0 CHECK(uidnext BETWEEN 0 AND 4294967295),"
	"	highestmodseq INTEGER NOT NULL DEFAULT 0 CHECK(highestmodseq >= 0),"
	"	has_flags INTEGER NOT NULL DEFAULT 0 CHECK(has_flags IN (0, 1)),"
	"	stopped INTEGER NOT NULL DEFAULT 0 CHECK(stopped IN (0, 1)),"
	"	UNIQUE(host, user, mailbox)"
	") STRICT;"
	"CREATE TABLE messages("
	"	mailbox INTEGER NOT NULL REFERENCES mailboxes(id) ON DELETE CASCADE,"
	"	first INTEGER NOT NULL CHECK(first BETWEEN 1 AND 4294967295),"
	"	last INTEGER NOT NULL CHECK(last BETWEEN first AND 4294967295),"
	"	value INTEGER NOT NULL CHECK(value BETWEEN 0 AND 65535),"
	"	PRIMARY KEY(mailbox, first)"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE flags("
	"	mailbox INTEGER NOT NULL REFERENCES mailboxes(id) ON DELETE CASCADE,"
	"	value INTEGER NOT NULL CHECK(value BETWEEN 0 AND 65535),"
	"	flags TEXT NOT NULL,"
	"	PRIMARY KEY(mailbox, value)"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE listed("
	"	host TEXT NOT NULL,"
	"	user TEXT NOT NULL,"
	"	PRIMARY KEY(host, user)"
	") STRICT, WITHOUT ROWID;",
};

#define N_MIGRATIONS ((int)(sizeof(migrations) / sizeof(migrations[0])))

enum verdict {
	VERDICT_GOOD,
	VERDICT_UNUSABLE, /* for now: no room, no right, ... */
	VERDICT_CORRUPT,
	VERDICT_NEWER,
};

int state_file_errno(int result)
{
	switch (result & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_CANTOPEN:
		return -EACCES;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	}
	return -EIO;
}

/* Modes are given without regard to the umask, which might be stricter than is of use. */
static int make_folders(const char *folder)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s", folder);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		return -ENAMETOOLONG;
	}
	for (char *c = path + 1; n > 0; c++) {
		if (*c != '/' && *c != '\0') {
			continue;
		}
		bool is_end = *c == '\0';
		*c = '\0';
		if (mkdir(path, 0700) == 0) {
			if (chmod(path, 0700) < 0) {
				return -errno;
			}
		} else if (errno != EEXIST && (is_end || errno != EACCES)) {
			return -errno;
		}
		if (is_end) {
			break;
		}
		*c = '/';
	}
	return 0;
}

/* A file, because NFS locks no folders. */
static int lock_folder(int folder_fd, int *ret_fd)
{
	int fd = openat(
		folder_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	int r = 0;
	if (fchmod(fd, 0600) < 0) {
		r = -errno;
	} else if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int state_folder_open(const char *folder, int *ret_fd)
{
	int r = make_folders(folder);
	if (r < 0) {
		return r;
	}
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	struct stat st;
	if (fstat(fd, &st) < 0) {
		r = -errno;
	} else if (st.st_uid != geteuid()) {
		r = -EPERM;
	} else if ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0) {
		r = -errno;
	} else {
		r = lock_folder(fd, ret_fd);
	}
	close(fd);
	return r;
}

/* SQLite gives its own files the mode of this one. */
static int make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && !S_ISREG(st.st_mode)) {
		r = -EINVAL;
	}
	if (r == 0 && (st.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0) {
		r = -errno;
	}
	close(fd);
	return r;
}

static enum verdict verdict_of(sqlite3 *db, int result, const char *what)
{
	log_debug(NULL, NULL, "state: %s: %s", what,
		db ? sqlite3_errmsg(db) : sqlite3_errstr(result));
	switch (result & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* a schema that is not ours */
	case SQLITE_FORMAT:
	case SQLITE_SCHEMA:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
		return VERDICT_CORRUPT;
	}
	return VERDICT_UNUSABLE;
}

static enum verdict run(sqlite3 *db, const char *sql)
{
	int result = sqlite3_exec(db, sql, NULL, NULL, NULL);
	return result == SQLITE_OK ? VERDICT_GOOD : verdict_of(db, result, sql);
}

/* The file's content is not trusted, not even its schema: no functions or virtual tables from there
 * are run. Nothing is written back to a file that may be corrupt. */
static enum verdict configure(sqlite3 *db)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	return run(db,
		"PRAGMA cell_size_check = ON;"
		"PRAGMA locking_mode = EXCLUSIVE;"
		"PRAGMA journal_mode = WAL;"
		"PRAGMA synchronous = FULL;");
}

static enum verdict get_text(sqlite3 *db, const char *sql, char *text, size_t size)
{
	sqlite3_stmt *statement = NULL;
	int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
	if (result == SQLITE_OK) {
		result = sqlite3_step(statement);
	}
	enum verdict verdict = VERDICT_GOOD;
	if (result == SQLITE_ROW) {
		const unsigned char *column = sqlite3_column_text(statement, 0);
		snprintf(text, size, "%s", column ? (const char *)column : "");
	} else {
		verdict = verdict_of(db, result, sql);
	}
	sqlite3_finalize(statement);
	return verdict;
}

static enum verdict check(sqlite3 *db)
{
	char text[128];
	enum verdict verdict = get_text(db, "PRAGMA quick_check(1)", text, sizeof(text));
	if (verdict == VERDICT_GOOD && strcmp(text, "ok") != 0) {
		log_debug(NULL, NULL, "state: quick_check: %s", text);
		verdict = VERDICT_CORRUPT;
	}
	return verdict;
}

static enum verdict migrate(sqlite3 *db)
{
	char text[32];
	enum verdict verdict = get_text(db, "PRAGMA user_version", text, sizeof(text));
	if (verdict != VERDICT_GOOD) {
		return verdict;
	}
	long version = strtol(text, NULL, 10);
	if (version < 0) {
		return VERDICT_CORRUPT;
	}
	if (version > N_MIGRATIONS) {
		return VERDICT_NEWER;
	}
	for (; version < N_MIGRATIONS && verdict == VERDICT_GOOD; version++) {
		char *sql = sqlite3_mprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %ld; COMMIT",
			migrations[version], version + 1);
		verdict = sql ? run(db, sql) : VERDICT_UNUSABLE;
		sqlite3_free(sql);
	}
	return verdict;
}

static enum verdict try_open(const char *path, sqlite3 **ret_db, int *ret_errno)
{
	sqlite3 *db = NULL;
	int result = sqlite3_open_v2(path, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW |
			SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
		NULL);
	enum verdict verdict = result == SQLITE_OK ? VERDICT_GOOD : verdict_of(db, result, "open");
	if (verdict == VERDICT_GOOD) {
		verdict = configure(db);
	}
	if (verdict == VERDICT_GOOD) {
		verdict = check(db);
	}
	if (verdict == VERDICT_GOOD) {
		verdict = migrate(db);
	}
	if (verdict == VERDICT_GOOD) {
		verdict = run(db, schema_probe);
	}
	if (verdict != VERDICT_GOOD) {
		int r = state_file_errno(db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM);
		*ret_errno = r < 0 ? r : -EIO;
		sqlite3_close(db);
		return verdict;
	}
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	*ret_db = db;
	return VERDICT_GOOD;
}

/* The write-ahead log first: a crash in between must not leave it beside a new file. */
static int set_aside(const char *path, enum verdict verdict)
{
	static const char *const suffixes[] = {"-wal", "-shm", ""};
	char aside[PATH_MAX];
	uint64_t seconds = clock_realtime_usec() / USEC_PER_SEC;
	struct stat st;
	int n = 0;
	do { /* within one second, a number tells them apart */
		snprintf(aside, sizeof(aside),
			n ? "%s.corrupt-%" PRIu64 "-%d" : "%s.corrupt-%" PRIu64, path, seconds, n);
	} while (lstat(aside, &st) == 0 && ++n < MAX_ASIDE);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		char from[PATH_MAX + 8];
		char to[PATH_MAX + 8];
		snprintf(from, sizeof(from), "%s%s", path, suffixes[i]);
		snprintf(to, sizeof(to), "%s%s", aside, suffixes[i]);
		if (rename(from, to) < 0 && errno != ENOENT) {
			return -errno;
		}
	}
	log_warning(NULL, NULL, "state: the database is %s and has been set aside as %s",
		verdict == VERDICT_NEWER ? "of a newer version" : "damaged", aside);
	return 0;
}

/* path: room for PATH_MAX. */
static int find_file(const char *folder, char *path)
{
	char resolved[PATH_MAX];
	if (!realpath(folder, resolved)) { /* SQLITE_OPEN_NOFOLLOW means every part of the path */
		return -errno;
	}
	int n = snprintf(path, PATH_MAX, "%s/" FILE_NAME, resolved);
	if (n < 0 || (size_t)n + strlen(".corrupt--9999999999-wal") + 20 >= PATH_MAX) {
		return -ENAMETOOLONG;
	}
	return 0;
}

int state_file_set_aside(const char *folder)
{
	char path[PATH_MAX];
	int r = find_file(folder, path);
	return r < 0 ? r : set_aside(path, VERDICT_CORRUPT);
}

int state_file_open(const char *folder, sqlite3 **ret_db)
{
	char path[PATH_MAX];
	int r = find_file(folder, path);
	if (r < 0) {
		return r;
	}
	for (int attempt = 0; attempt < 2; attempt++) {
		r = make_file(path);
		if (r < 0) {
			return r;
		}
		enum verdict verdict = try_open(path, ret_db, &r);
		if (verdict == VERDICT_GOOD) {
			return 0;
		}
		if (verdict == VERDICT_UNUSABLE) {
			return r;
		}
		int moved = set_aside(path, verdict);
		if (moved < 0) {
			return moved;
		}
	}
	return r;
}

static void look_at(const char *path, struct stat *ret_st)
{
	if (stat(path, ret_st) < 0) {
		*ret_st = (struct stat){0};
	}
}

void state_file_look(sqlite3 *db, struct state_file_look *ret_look)
{
	const char *path = sqlite3_db_filename(db, "main");
	look_at(path, &ret_look->file);
	look_at(sqlite3_filename_wal(path), &ret_look->log);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

void state_file_look_again(sqlite3 *db, struct state_file_look *look)
{
	struct state_file_look now;
	state_file_look(db, &now);
	if (is_same_file(&now.file, &look->file) && is_same_file(&now.log, &look->log)) {
		*look = now;
	}
}

bool state_file_is_same(sqlite3 *db, const struct state_file_look *look)
{
	struct state_file_look now;
	state_file_look(db, &now);
	return is_same_file(&now.file, &look->file) && is_same_file(&now.log, &look->log) &&
		now.file.st_size == look->file.st_size &&
		now.file.st_mtim.tv_sec == look->file.st_mtim.tv_sec &&
		now.file.st_mtim.tv_nsec == look->file.st_mtim.tv_nsec;
}

sqlite3 *state_file_abandon(sqlite3 *db)
{
	if (db) {
		sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_close(db);
	}
	return NULL;
}

bool state_folder_is_same(const char *folder, int lock_fd)
{
	char path[PATH_MAX];
	struct stat held, there;
	int n = snprintf(path, sizeof(path), "%s/" LOCK_NAME, folder);
	return n > 0 && (size_t)n < sizeof(path) && fstat(lock_fd, &held) == 0 &&
		stat(path, &there) == 0 && is_same_file(&held, &there);
}
