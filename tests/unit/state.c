/* The durable cursor: what is stored against a model, and a file system that does its worst. */
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

static const struct state_key inbox = {"imap.example.org", "jo", "INBOX"};
static const struct state_key lists = {"imap.example.org", "jo", "Lists/dev"};

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint32_t chance(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % below);
}

static int set_up(void **fixture)
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

static int clear_folder(void)
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

static int tear_down(void **fixture)
{
	(void)fixture;
	char parent[PATH_MAX + 16];
	snprintf(parent, sizeof(parent), "%s/deep", base);
	clear_folder();
	rmdir(folder);
	rmdir(parent);
	return rmdir(base);
}

static int clear(void **fixture)
{
	(void)fixture;
	return clear_folder();
}

static struct state *open_state(void)
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

static void take_flags(void *userdata, const struct state_flags *flags)
{
	struct stored *stored = userdata;
	assert_true(stored->n_flags < 4);
	snprintf(stored->flags[stored->n_flags++], 32, "%u=%s", flags->value, flags->flags);
}

static void load(struct state *state, const struct state_key *key, struct stored *stored)
{
	*stored = (struct stored){.cursor = {.uidvalidity = 99}};
	runs_init(&stored->runs);
	assert_int_equal(
		state_load(state, key, &stored->cursor, &stored->runs, take_flags, stored), 0);
}

static void assert_empty(struct state *state, const struct state_key *key)
{
	struct stored stored;
	load(state, key, &stored);
	assert_int_equal(stored.cursor.uidvalidity, 0);
	assert_int_equal(runs_count(&stored.runs), 0);
	assert_int_equal(stored.n_flags, 0);
	runs_done(&stored.runs);
}

static void assert_same_runs(const struct runs *a, const struct runs *b)
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

static void assert_stored(struct state *state, const struct state_key *key,
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

static void put_something(struct state *state, const struct state_key *key)
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

static void run_sql(const char *sql)
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
static int count_aside(void)
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

static void test_empty(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	assert_empty(state, &inbox);
	assert_false(state_is_stopped(state, &inbox));
	assert_false(state_was_listed(state, &inbox));
	assert_int_equal(state_commit(state), 0); /* harmless */
	state_forget(state, &inbox);
	state_remove_messages(state, &inbox, 1, UINT32_MAX);
	assert_empty(state, &inbox);
	assert_null(state_close(state));
	assert_null(state_close(NULL));
}

static void test_baseline(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	struct runs runs;
	runs_init(&runs);
	assert_int_equal(runs_set(&runs, 1, UINT32_MAX, 1), 0);
	assert_int_equal(runs_set(&runs, 7, 7, 65535), 0);
	assert_int_equal(runs_unset(&runs, 9, 12), 0);
	state_begin(state);
	state_begin(state); /* harmless */
	state_put_baseline(state, &inbox, &some_cursor, &runs);
	state_put_flags(state, &inbox, &(struct state_flags){0, ""});
	state_put_flags(state, &inbox, &(struct state_flags){65535, "$Junk \\Seen"});
	state_put_flags(state, &inbox, &(struct state_flags){1, "old"});
	state_put_flags(state, &inbox, &(struct state_flags){1, "\\Flagged"});
	assert_stored(state, &inbox, &some_cursor, &runs);
	assert_int_equal(state_commit(state), 0);
	state = state_close(state);

	state = open_state();
	assert_stored(state, &inbox, &some_cursor, &runs);
	assert_empty(state, &lists);
	struct stored stored;
	load(state, &inbox, &stored);
	assert_int_equal(stored.n_flags, 3);
	assert_string_equal(stored.flags[0], "0=");
	assert_string_equal(stored.flags[1], "1=\\Flagged");
	assert_string_equal(stored.flags[2], "65535=$Junk \\Seen");
	runs_done(&stored.runs);

	/* A new baseline leaves nothing of the old one, nor of its flags. */
	runs_done(&runs);
	runs_init(&runs);
	const struct state_cursor fresh = {.uidvalidity = 2, .uidnext = 1};
	state_put_baseline(state, &inbox, &fresh, &runs);
	assert_stored(state, &inbox, &fresh, &runs);
	load(state, &inbox, &stored);
	assert_int_equal(stored.n_flags, 0);
	runs_done(&stored.runs);

	state_put_cursor(state, &inbox,
		&(struct state_cursor){
			.uidvalidity = 2, .uidnext = 5, .highestmodseq = UINT64_MAX});
	assert_stored(state, &inbox, &(struct state_cursor){.uidvalidity = 2, .uidnext = 5}, &runs);
	state_forget(state, &inbox);
	assert_empty(state, &inbox);
	state_close(state);
	runs_done(&runs);
}

static void test_keys_are_apart(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	put_something(state, &inbox);
	struct stored stored;
	load(state, &(struct state_key){"IMAP.Example.ORG", "jo", "INBOX"}, &stored);
	assert_int_equal(stored.cursor.uidvalidity, some_cursor.uidvalidity);
	runs_done(&stored.runs);
	assert_empty(state, &(struct state_key){"imap.example.org", "Jo", "INBOX"});
	assert_empty(state, &(struct state_key){"imap.example.org", "jo", "Inbox"});
	assert_empty(state, &(struct state_key){"imap.example.com", "jo", "INBOX"});
	state_put_messages(state, &lists, 3, 4, 0);
	state_put_cursor(state, &lists, &(struct state_cursor){.uidvalidity = 1});
	state_forget(state, &inbox);
	assert_empty(state, &inbox);
	load(state, &lists, &stored);
	assert_int_equal(runs_count(&stored.runs), 2);
	runs_done(&stored.runs);
	state_close(state);
}

static void test_stopped_and_listed(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	assert_int_equal(state_set_stopped(state, &inbox, true), 0);
	state_set_listed(state, &inbox);
	state_set_listed(state, &inbox);
	state = state_close(state);
	state = open_state();
	assert_true(state_is_stopped(state, &inbox));
	assert_false(state_is_stopped(state, &lists));
	assert_true(state_was_listed(state, &(struct state_key){"IMAP.example.org", "jo", NULL}));
	assert_false(state_was_listed(state, &(struct state_key){"imap.example.org", "al", NULL}));
	assert_empty(state, &inbox);
	put_something(state, &inbox); /* a new baseline does not start it */
	assert_true(state_is_stopped(state, &inbox));
	assert_int_equal(state_set_stopped(state, &inbox, false), 0);
	assert_false(state_is_stopped(state, &inbox));
	assert_int_equal(state_set_stopped(state, &lists, false), 0);
	state_close(state);
}

static void test_bad_range(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	put_something(state, &inbox);
	state_begin(state);
	state_put_cursor(state, &inbox, &(struct state_cursor){.uidvalidity = 1});
	state_put_messages(state, &inbox, 0, 3, 0);
	assert_int_equal(state_commit(state), -EINVAL);
	state_begin(state);
	state_remove_messages(state, &inbox, 4, 3);
	assert_int_equal(state_commit(state), -EINVAL);
	/* All of the batch is undone, and the next one works. */
	struct stored stored;
	load(state, &inbox, &stored);
	assert_int_equal(stored.cursor.uidvalidity, some_cursor.uidvalidity);
	runs_done(&stored.runs);
	put_something(state, &lists);
	state_close(state);
}

static void test_not_committed(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	put_something(state, &inbox);
	state_begin(state);
	state_forget(state, &inbox);
	assert_empty(state, &inbox);
	state = state_close(state);
	state = open_state();
	struct stored stored;
	load(state, &inbox, &stored);
	assert_int_equal(runs_count(&stored.runs), 10);
	runs_done(&stored.runs);
	state_close(state);
}

/* Small numbers, so that everything meets everything, and the far end. */
static uint32_t some_uid(void)
{
	return chance(8) == 0 ? UINT32_MAX - chance(12) : 1 + chance(60);
}

static void test_model(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	struct runs model;
	struct state_cursor cursor = {.uidvalidity = 1};
	runs_init(&model);
	state_put_cursor(state, &inbox, &cursor);
	for (int i = 0; i < 4000; i++) {
		uint32_t first = some_uid();
		uint32_t last = chance(3) ? first : some_uid();
		uint16_t value = (uint16_t)chance(3);
		if (last < first) {
			last = first;
		}
		if (chance(16) == 0) {
			state_begin(state);
		}
		if (chance(5) < 3) {
			state_put_messages(state, &inbox, first, last, value);
			assert_int_equal(runs_set(&model, first, last, value), 0);
		} else {
			state_remove_messages(state, &inbox, first, last);
			assert_int_equal(runs_unset(&model, first, last), 0);
		}
		if (chance(300) == 0) {
			cursor = (struct state_cursor){
				.uidvalidity = 1 + chance(9), .uidnext = first};
			state_put_baseline(state, &inbox, &cursor, &model);
		}
		if (chance(16) == 0) {
			assert_int_equal(state_commit(state), 0);
		}
		if (chance(400) == 0) {
			assert_int_equal(state_commit(state), 0);
			state_close(state);
			state = open_state();
		}
		if (i % 8 == 0) {
			assert_stored(state, &inbox, &cursor, &model);
		}
	}
	assert_int_equal(state_commit(state), 0);
	assert_stored(state, &inbox, &cursor, &model);
	state_close(state);
	runs_done(&model);
}

static void test_modes(void **fixture)
{
	(void)fixture;
	static const mode_t masks[] = {0, 0777, 0027};
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		clear_folder();
		assert_true(rmdir(folder) == 0 || errno == ENOENT);
		mode_t before = umask(masks[i]);
		struct state *state = open_state();
		put_something(state, &inbox);
		umask(before);
		struct stat st;
		assert_int_equal(stat(folder, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
		DIR *dir = opendir(folder);
		assert_non_null(dir);
		struct dirent *entry;
		int n = 0;
		while ((entry = readdir(dir))) {
			assert_int_equal(fstatat(dirfd(dir), entry->d_name, &st, 0), 0);
			if (S_ISREG(st.st_mode)) {
				assert_int_equal(st.st_mode & 07777, 0600);
				n++;
			}
		}
		closedir(dir);
		assert_true(n >= 3); /* the lock, the database, its log */
		state_close(state);
	}
	/* What was too open is closed. */
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(chmod(file, 0644), 0);
	state_close(open_state());
	struct stat st;
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_lock(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	struct state *other = NULL;
	assert_int_equal(state_open(folder, &other), -EBUSY);
	assert_null(other);
	state_close(state);
	state_close(open_state());
}

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* What there is in the place of the database is set aside, and all begins anew. */
static void assert_set_aside(int n_files)
{
	struct state *state = open_state();
	assert_empty(state, &inbox);
	assert_int_equal(count_aside(), n_files);
	put_something(state, &inbox);
	state = state_close(state);
	state = open_state();
	struct stored stored;
	load(state, &inbox, &stored);
	assert_int_equal(runs_count(&stored.runs), 10);
	runs_done(&stored.runs);
	assert_int_equal(count_aside(), n_files);
	state_close(state);
	clear_folder();
}

static void make_database(void)
{
	struct state *state = open_state();
	struct runs runs;
	runs_init(&runs);
	for (uint32_t i = 1; i <= 2000; i++) {
		assert_int_equal(runs_set(&runs, 3 * i, 3 * i, 0), 0);
	}
	state_put_baseline(state, &inbox, &some_cursor, &runs);
	runs_done(&runs);
	state_close(state);
}

static void test_set_aside(void **fixture)
{
	(void)fixture;
	char path[sizeof(file) + 8];
	char garbage[8192];
	memset(garbage, 'x', sizeof(garbage));
	state_close(open_state());

	write_file(file, garbage, sizeof(garbage));
	snprintf(path, sizeof(path), "%s-wal", file);
	write_file(path, "garbage", 7);
	snprintf(path, sizeof(path), "%s-shm", file);
	write_file(path, "garbage", 7);
	assert_set_aside(1);

	make_database();
	run_sql("PRAGMA user_version = 999");
	assert_set_aside(1);

	make_database();
	run_sql("PRAGMA user_version = -1");
	assert_set_aside(1);

	make_database();
	run_sql("DROP TABLE flags");
	assert_set_aside(1);

	make_database(); /* a table that is there already */
	run_sql("PRAGMA user_version = 0");
	assert_set_aside(1);

	make_database();
	run_sql("PRAGMA ignore_check_constraints = ON;"
		"INSERT INTO messages VALUES(1, 4294967290, 4294967300, 0)");
	assert_set_aside(1);

	make_database(); /* the half of it */
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	assert_true(st.st_size >= 16384);
	assert_int_equal(truncate(file, st.st_size / 8192 * 4096), 0);
	assert_set_aside(1);

	make_database(); /* pages overwritten */
	int fd = open(file, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), 8192), sizeof(garbage));
	close(fd);
	assert_set_aside(1);

	/* Three of them within one second keep their own names. */
	for (int i = 1; i <= 3; i++) {
		write_file(file, garbage, sizeof(garbage));
		state_close(open_state());
		assert_int_equal(count_aside(), i);
	}
	clear_folder();

	/* An empty file is a new one. */
	write_file(file, "", 0);
	state_close(open_state());
	assert_int_equal(count_aside(), 0);
}

static void test_nonsense(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	put_something(state, &inbox);
	put_something(state, &lists);
	state = state_close(state);
	run_sql("INSERT INTO messages SELECT id, 5, 20, 0 FROM mailboxes WHERE mailbox = 'INBOX'");
	state = open_state();
	assert_empty(state, &inbox);
	struct stored stored;
	load(state, &lists, &stored);
	assert_int_equal(runs_count(&stored.runs), 10);
	runs_done(&stored.runs);
	put_something(state, &inbox);
	state_close(state);
}

static void test_links(void **fixture)
{
	(void)fixture;
	char target[sizeof(base) + 16];
	snprintf(target, sizeof(target), "%s/target", base);
	write_file(target, "precious", 8);
	state_close(open_state());
	assert_int_equal(unlink(file), 0);
	assert_int_equal(symlink(target, file), 0);
	struct state *state = open_state();
	assert_empty(state, &inbox);
	state_begin(state);
	state_put_messages(state, &inbox, 1, 1, 0);
	assert_true(state_commit(state) < 0);
	struct stat st;
	assert_int_equal(stat(target, &st), 0);
	assert_int_equal(st.st_size, 8);
	/* When it is gone, all is well. */
	assert_int_equal(unlink(file), 0);
	put_something(state, &inbox);
	state_close(state);
	assert_int_equal(unlink(target), 0);
}

static void test_no_folder(void **fixture)
{
	(void)fixture;
	struct stored stored;
	clear_folder();
	assert_true(rmdir(folder) == 0 || errno == ENOENT);
	write_file(folder, "", 0); /* stops even root */
	struct state *state = open_state();
	assert_empty(state, &inbox);
	assert_false(state_is_stopped(state, &inbox));
	assert_false(state_was_listed(state, &inbox));
	assert_true(state_set_stopped(state, &inbox, true) < 0);
	state_set_listed(state, &inbox);
	state_begin(state);
	state_put_baseline(state, &inbox, &some_cursor, &(struct runs){0});
	state_put_cursor(state, &inbox, &some_cursor);
	state_put_flags(state, &inbox, &(struct state_flags){1, ""});
	state_put_messages(state, &inbox, 1, 2, 0);
	state_remove_messages(state, &inbox, 1, 2);
	state_forget(state, &inbox);
	assert_true(state_commit(state) < 0);
	assert_int_equal(unlink(folder), 0);
	put_something(state, &inbox);
	state = state_close(state);
	state = open_state();
	load(state, &inbox, &stored);
	assert_int_equal(runs_count(&stored.runs), 10);
	runs_done(&stored.runs);
	state_close(state);
}

static void limit_size(rlim_t size)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A limit of the size of files stands for a disk that is full: it stops root as well. */
static void test_full_disk(void **fixture)
{
	(void)fixture;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	state_close(open_state());
	clear_folder();
	limit_size(0);
	struct state *state = open_state();
	state_begin(state);
	state_put_messages(state, &inbox, 1, 1, 0);
	assert_true(state_commit(state) < 0);
	limit_size(RLIM_INFINITY);
	put_something(state, &inbox);

	struct runs runs;
	runs_init(&runs);
	for (uint32_t i = 1; i <= 40000; i++) {
		assert_int_equal(runs_set(&runs, 3 * i, 3 * i, 0), 0);
	}
	const struct state_cursor cursor = {.uidvalidity = 3};
	for (int i = 0; i < 3; i++) {
		limit_size(200 * 1024);
		state_begin(state);
		state_put_baseline(state, &inbox, &cursor, &runs);
		int r = state_commit(state);
		limit_size(RLIM_INFINITY);
		assert_true(r < 0);
		struct stored stored;
		load(state, &inbox, &stored);
		assert_int_equal(stored.cursor.uidvalidity, some_cursor.uidvalidity);
		assert_int_equal(runs_count(&stored.runs), 10);
		runs_done(&stored.runs);
	}
	state_begin(state);
	state_put_baseline(state, &inbox, &cursor, &runs);
	assert_int_equal(state_commit(state), 0);
	state = state_close(state);
	state = open_state();
	assert_stored(state, &inbox, &cursor, &runs);
	state_close(state);
	runs_done(&runs);
	assert_true(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
}

/* Root writes everywhere, so it is somebody else for the time of this. */
static void test_read_only_folder(void **fixture)
{
	(void)fixture;
	const uid_t nobody = 65534;
	bool is_root = geteuid() == 0;
	char parent[PATH_MAX + 16];
	snprintf(parent, sizeof(parent), "%s/deep", base);
	state_close(open_state());
	clear_folder();
	assert_int_equal(rmdir(folder), 0);
	if (is_root) {
		assert_int_equal(chown(base, nobody, 0), 0);
		assert_int_equal(chown(parent, nobody, 0), 0);
		assert_int_equal(seteuid(nobody), 0);
	}
	assert_int_equal(chmod(parent, 0500), 0);
	struct state *state = open_state();
	state_begin(state);
	state_put_messages(state, &inbox, 1, 1, 0);
	assert_int_equal(state_commit(state), -EACCES);
	assert_int_equal(chmod(parent, 0700), 0);
	put_something(state, &inbox);
	state_close(state);

	/* The database alone: root's, and not to be written. */
	if (is_root) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(chown(file, 0, 0), 0);
		assert_int_equal(seteuid(nobody), 0);
		state = open_state();
		assert_empty(state, &inbox);
		state_begin(state);
		state_put_messages(state, &inbox, 1, 1, 0);
		assert_true(state_commit(state) < 0);
		state_close(state);
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(chown(base, 0, 0), 0);
		clear_folder(); /* what is not root's is not taken for its own */
		assert_int_equal(rmdir(folder), 0);
		assert_int_equal(rmdir(parent), 0);
	}
}

/* Batch i of a sequence that both sides know. */
struct batch {
	uint32_t first;
	uint32_t last;
	uint16_t value;
	uint32_t removed;
};

static struct batch make_batch(uint32_t i)
{
	uint32_t mixed = i * 2654435761U;
	return (struct batch){
		.first = 1 + (mixed >> 8) % 500,
		.last = 1 + (mixed >> 8) % 500 + (mixed >> 4) % 40,
		.value = (uint16_t)(mixed >> 20) % 3,
		.removed = 1 + (mixed >> 12) % 540,
	};
}

static void __attribute__((noreturn)) commit_for_ever(int fd, uint32_t i)
{
	struct state *state = NULL;
	if (state_open(folder, &state) < 0) {
		_exit(1);
	}
	for (;; i++) {
		struct batch batch = make_batch(i);
		state_begin(state);
		state_put_messages(state, &inbox, batch.first, batch.last, batch.value);
		state_remove_messages(state, &inbox, batch.removed, batch.removed + 3);
		state_put_cursor(state, &inbox,
			&(struct state_cursor){.uidvalidity = 1, .highestmodseq = i});
		if (state_commit(state) < 0 || write(fd, &i, sizeof(i)) != sizeof(i)) {
			_exit(1);
		}
	}
}

static void test_killed(void **fixture)
{
	(void)fixture;
	struct runs model;
	uint32_t done = 0;
	runs_init(&model);
	for (int round = 0; round < 50; round++) {
		int fds[2];
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			commit_for_ever(fds[1], done + 1);
		}
		close(fds[1]);
		uint32_t acknowledged = 0;
		for (uint32_t n = 1 + chance(20); n > 0; n--) {
			assert_int_equal(read(fds[0], &acknowledged, sizeof(acknowledged)),
				sizeof(acknowledged));
		}
		/* Somewhere within the next batches. */
		nanosleep(&(struct timespec){.tv_nsec = chance(3000000)}, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(fds[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged)) {
		}
		close(fds[0]);

		struct state *state = open_state();
		struct stored stored;
		load(state, &inbox, &stored);
		assert_true(stored.cursor.highestmodseq == acknowledged ||
			stored.cursor.highestmodseq == acknowledged + 1);
		while (done < stored.cursor.highestmodseq) {
			struct batch batch = make_batch(++done);
			assert_int_equal(runs_set(&model, batch.first, batch.last, batch.value), 0);
			assert_int_equal(runs_unset(&model, batch.removed, batch.removed + 3), 0);
		}
		assert_same_runs(&stored.runs, &model);
		runs_done(&stored.runs);
		state_close(state);
	}
	assert_int_equal(count_aside(), 0);
	runs_done(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_empty, clear),
		cmocka_unit_test_teardown(test_baseline, clear),
		cmocka_unit_test_teardown(test_keys_are_apart, clear),
		cmocka_unit_test_teardown(test_stopped_and_listed, clear),
		cmocka_unit_test_teardown(test_bad_range, clear),
		cmocka_unit_test_teardown(test_not_committed, clear),
		cmocka_unit_test_teardown(test_model, clear),
		cmocka_unit_test_teardown(test_modes, clear),
		cmocka_unit_test_teardown(test_lock, clear),
		cmocka_unit_test_teardown(test_set_aside, clear),
		cmocka_unit_test_teardown(test_nonsense, clear),
		cmocka_unit_test_teardown(test_links, clear),
		cmocka_unit_test_teardown(test_no_folder, clear),
		cmocka_unit_test_teardown(test_full_disk, clear),
		cmocka_unit_test_teardown(test_read_only_folder, clear),
		cmocka_unit_test_teardown(test_killed, clear),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
