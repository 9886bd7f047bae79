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
#include "state_schema.h"
#include "util/clock.h"
#include "util/log.h"

#define FILE_NAME "mailidle.db"
#define LOCK_NAME "mailidle.lock"

/* Names tried for what is set aside. */
#define MAX_ASIDE 100

/* Of a file that is read into memory: what a database of ours never reaches. */
#define READ_HIGHEST (1 << 28)

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

/* The file's content is not trusted, not even its schema: no functions or virtual tables from there
 * are run. */
static void distrust(sqlite3 *db)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
}

/* Nothing is written back to a file that may be corrupt. */
static enum state_verdict configure(sqlite3 *db)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	distrust(db);
	return state_schema_run(db,
		"PRAGMA cell_size_check = ON;"
		"PRAGMA locking_mode = EXCLUSIVE;"
		"PRAGMA journal_mode = WAL;"
		"PRAGMA synchronous = FULL;");
}

static enum state_verdict try_open(const char *path, sqlite3 **ret_db, int *ret_errno)
{
	sqlite3 *db = NULL;
	int result = sqlite3_open_v2(path, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW |
			SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE,
		NULL);
	enum state_verdict verdict =
		result == SQLITE_OK ? STATE_VERDICT_GOOD : state_schema_verdict(db, result, "open");
	if (verdict == STATE_VERDICT_GOOD) {
		verdict = configure(db);
	}
	if (verdict == STATE_VERDICT_GOOD) {
		verdict = state_schema_check(db);
	}
	if (verdict == STATE_VERDICT_GOOD) {
		verdict = state_schema_migrate(db, state_schema_steps, state_schema_n_steps);
	}
	if (verdict == STATE_VERDICT_GOOD) {
		verdict = state_schema_probe(db);
	}
	if (verdict == STATE_VERDICT_GOOD) {
		/* A log that SQLite could not open to write it opens to read, for good. */
		verdict = state_schema_run(db, "BEGIN IMMEDIATE; ROLLBACK;");
	}
	if (verdict != STATE_VERDICT_GOOD) {
		int r = state_file_errno(db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM);
		*ret_errno = r < 0 ? r : -EIO;
		sqlite3_close(db);
		return verdict;
	}
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	*ret_db = db;
	return STATE_VERDICT_GOOD;
}

/* The write-ahead log first: a crash in between must not leave it beside a new file. */
static int set_aside(const char *path, enum state_verdict verdict)
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
		verdict == STATE_VERDICT_NEWER ? "of a newer version" : "damaged", aside);
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
	return r < 0 ? r : set_aside(path, STATE_VERDICT_CORRUPT);
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
		enum state_verdict verdict = try_open(path, ret_db, &r);
		if (verdict == STATE_VERDICT_GOOD) {
			return 0;
		}
		if (verdict == STATE_VERDICT_UNUSABLE) {
			return r;
		}
		int moved = set_aside(path, verdict);
		if (moved < 0) {
			return moved;
		}
	}
	return r;
}

/* A copy in memory, without its write-ahead log: bytes 18 and 19 of the header say whether there is
 * one (https://www.sqlite.org/fileformat.html section 1.3.3). */
static int read_file(const char *path, unsigned char **ret_data, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && (!S_ISREG(st.st_mode) || st.st_size < 100 || st.st_size > READ_HIGHEST)) {
		r = -EINVAL;
	}
	size_t len = r == 0 ? (size_t)st.st_size : 0;
	unsigned char *data = len > 0 ? sqlite3_malloc64(len) : NULL;
	if (r == 0 && !data) {
		r = -ENOMEM;
	} else if (r == 0 && read(fd, data, len) != (ssize_t)len) {
		r = -EIO;
	}
	close(fd);
	if (r < 0) {
		sqlite3_free(data);
		return r;
	}
	data[18] = data[19] = 1;
	*ret_data = data;
	*ret_len = len;
	return 0;
}

int state_file_open_to_read(const char *folder, sqlite3 **ret_db)
{
	char path[PATH_MAX];
	unsigned char *data = NULL;
	size_t len = 0;
	int r = find_file(folder, path);
	if (r == 0) {
		r = read_file(path, &data, &len);
	}
	if (r < 0) {
		return r;
	}
	sqlite3 *db = NULL;
	if (sqlite3_open(":memory:", &db) != SQLITE_OK) {
		sqlite3_free(data);
		sqlite3_close(db);
		return -ENOMEM;
	}
	distrust(db);
	/* It owns the data from now on, also when it fails. */
	int result = sqlite3_deserialize(db, "main", data, (sqlite3_int64)len, (sqlite3_int64)len,
		SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY);
	if (result != SQLITE_OK || state_schema_check(db) != STATE_VERDICT_GOOD ||
		state_schema_probe(db) != STATE_VERDICT_GOOD) {
		sqlite3_close(db);
		return -EIO;
	}
	*ret_db = db;
	return 0;
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

static bool is_unchanged(const struct stat *now, const struct stat *before)
{
	return is_same_file(now, before) && now->st_size == before->st_size &&
		now->st_mtim.tv_sec == before->st_mtim.tv_sec &&
		now->st_mtim.tv_nsec == before->st_mtim.tv_nsec;
}

bool state_file_look_again(sqlite3 *db, struct state_file_look *look)
{
	struct state_file_look now;
	state_file_look(db, &now);
	if (!is_unchanged(&now.file, &look->file) || !is_same_file(&now.log, &look->log) ||
		now.log.st_size < look->log.st_size) {
		return false;
	}
	look->log = now.log;
	return true;
}

bool state_file_is_same(sqlite3 *db, const struct state_file_look *look)
{
	struct state_file_look now;
	state_file_look(db, &now);
	return is_unchanged(&now.file, &look->file) && is_same_file(&now.log, &look->log) &&
		now.log.st_size == look->log.st_size;
}

void state_file_checkpoint(sqlite3 *db, struct state_file_look *look)
{
	if (sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) !=
		SQLITE_OK) {
		log_debug(NULL, NULL, "state: checkpoint: %s", sqlite3_errmsg(db));
	}
	struct state_file_look now;
	state_file_look(db, &now);
	if (is_same_file(&now.file, &look->file) && is_same_file(&now.log, &look->log)) {
		*look = now;
	}
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
