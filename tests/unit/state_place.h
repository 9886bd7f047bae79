/* A state folder for a test, and what tests of the state ask again and again. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "state.h"
#include "util/log.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static char base[PATH_MAX];
static char folder[PATH_MAX + 32];
static char file[PATH_MAX + 64];

static const struct state_key inbox __attribute__((unused)) = {"imap.example.org", "jo", "INBOX"};
static const struct state_key lists
	__attribute__((unused)) = {"imap.example.org", "jo", "Lists/dev"};

static uint64_t seed = 0x9e3779b97f4a7c15;

static inline uint32_t chance(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % below);
}

static inline int set_up(void **fixture)
{
	(void)fixture;
	const char *parent = getenv("TMPDIR");
	snprintf(base, sizeof(base), "%s/mailidle-state-XXXXXX", parent ? parent : P_tmpdir);
	if (!mkdtemp(base)) {
		return -1;
	}
	snprintf(folder, sizeof(folder), "%s/deep/state", base);
	snprintf(file, sizeof(file), "%s/mailidle.db", folder);
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

static inline int clear_folder(void)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		if (unlinkat(dirfd(dir), entry->d_name, 0) < 0) {
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
		}
	}
	if (dir) {
		closedir(dir);
	}
	return 0;
}

static inline int tear_down(void **fixture)
{
	(void)fixture;
	char parent[PATH_MAX + 16];
	snprintf(parent, sizeof(parent), "%s/deep", base);
	clear_folder();
	rmdir(folder);
	rmdir(parent);
	return rmdir(base);
}

static inline int clear(void **fixture)
{
	(void)fixture;
	return clear_folder();
}

static inline struct state *open_state(void)
{
	struct state *state = NULL;
	assert_int_equal(state_open(folder, &state), 0);
	assert_non_null(state);
	return state;
}

struct stored {
	struct state_cursor cursor;
	struct runs runs;
	char flags[4][32];
	size_t n_flags;
};

static inline void take_flags(void *userdata, const struct state_flags *flags)
{
	struct stored *stored = userdata;
	assert_true(stored->n_flags < 4);
	snprintf(stored->flags[stored->n_flags++], 32, "%u=%s", flags->value, flags->flags);
}

static inline void load(struct state *state, const struct state_key *key, struct stored *stored)
{
	*stored = (struct stored){.cursor = {.uidvalidity = 99}};
	runs_init(&stored->runs);
	assert_int_equal(
		state_load(state, key, &stored->cursor, &stored->runs, take_flags, stored), 0);
}

static inline void assert_empty(struct state *state, const struct state_key *key)
{
	struct stored stored;
	load(state, key, &stored);
	assert_int_equal(stored.cursor.uidvalidity, 0);
	assert_int_equal(runs_count(&stored.runs), 0);
	assert_int_equal(stored.n_flags, 0);
	runs_done(&stored.runs);
}

static inline void assert_same_runs(const struct runs *a, const struct runs *b)
{
	struct run x;
	struct run y;
	assert_int_equal(runs_count(a), runs_count(b));
	assert_int_equal(runs_length(a), runs_length(b));
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(a, (uint32_t)n, &x);
		n = (uint64_t)x.last + 1) {
		assert_true(runs_next(b, (uint32_t)n, &y));
		assert_int_equal(x.first, y.first);
		assert_int_equal(x.last, y.last);
		assert_int_equal(x.value, y.value);
	}
}

static inline void assert_stored(struct state *state, const struct state_key *key,
	const struct state_cursor *cursor, const struct runs *runs)
{
	struct stored stored;
	load(state, key, &stored);
	assert_int_equal(stored.cursor.uidvalidity, cursor->uidvalidity);
	assert_int_equal(stored.cursor.uidnext, cursor->uidnext);
	assert_int_equal(stored.cursor.highestmodseq, cursor->highestmodseq);
	assert_int_equal(stored.cursor.has_flags, cursor->has_flags);
	assert_same_runs(&stored.runs, runs);
	runs_done(&stored.runs);
}

static const struct state_cursor some_cursor = {
	.uidvalidity = 4294967295,
	.uidnext = 4294967295,
	.highestmodseq = INT64_MAX,
	.has_flags = true,
};

static inline void put_something(struct state *state, const struct state_key *key)
{
	struct runs runs;
	runs_init(&runs);
	assert_int_equal(runs_set(&runs, 1, 10, 1), 0);
	state_begin(state);
	state_put_baseline(state, key, &some_cursor, &runs);
	assert_int_equal(state_commit(state), 0);
	assert_stored(state, key, &some_cursor, &runs);
	runs_done(&runs);
}

static inline void run_sql(const char *sql)
{
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	char *error = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK) {
		fail_msg("%s: %s", sql, error);
	}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* How many databases were set aside, not counting what belongs to them. */
static inline int count_aside(void)
{
	static const char prefix[] = "mailidle.db.corrupt-";
	int n = 0;
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	struct dirent *entry;
	while ((entry = readdir(dir))) {
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
			!strstr(entry->d_name, "-wal") && !strstr(entry->d_name, "-shm");
	}
	closedir(dir);
	return n;
}

static inline void write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}
