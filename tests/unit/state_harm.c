/* The durable cursor under attack: files that are no good, or are gone, and a file system that does
 * its worst. */
#include "state_place.h"

/* Numbers that take some room in the file. */
#define BASE 4000000000U

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

static void make_database(uint32_t n_runs)
{
	struct state *state = open_state();
	struct runs runs;
	runs_init(&runs);
	for (uint32_t i = 1; i <= n_runs; i++) {
		assert_int_equal(runs_set(&runs, BASE + 3 * i, BASE + 3 * i, 0), 0);
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

	make_database(2000);
	run_sql("PRAGMA user_version = 999");
	assert_set_aside(1);

	make_database(2000);
	run_sql("PRAGMA user_version = -1");
	assert_set_aside(1);

	make_database(2000);
	run_sql("DROP TABLE flags");
	assert_set_aside(1);

	make_database(2000); /* a table that is there already */
	run_sql("PRAGMA user_version = 0");
	assert_set_aside(1);

	make_database(2000);
	run_sql("PRAGMA ignore_check_constraints = ON;"
		"INSERT INTO messages VALUES(1, 4294967290, 4294967300, 0)");
	assert_set_aside(1);

	make_database(2000); /* the half of it */
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	assert_true(st.st_size >= 16384);
	assert_int_equal(truncate(file, st.st_size / 8192 * 4096), 0);
	assert_set_aside(1);

	make_database(2000); /* pages overwritten */
	int fd = open(file, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), 8192), sizeof(garbage));
	close(fd);
	assert_set_aside(1);
}

/* Three of them within one second keep their own names. */
static void test_names_aside(void **fixture)
{
	(void)fixture;
	char garbage[8192];
	memset(garbage, 'x', sizeof(garbage));
	for (int i = 1; i <= 3; i++) {
		write_file(file, garbage, sizeof(garbage));
		state_close(open_state());
		assert_int_equal(count_aside(), i);
	}
}

/* It is a new one. */
static void test_empty_file(void **fixture)
{
	(void)fixture;
	write_file(file, "", 0);
	state_close(open_state());
	assert_int_equal(count_aside(), 0);
}

/* While it is open: the next batch fails, what is in memory is asked for, and the one after it goes
 * into a new file. */
static void assert_lost(struct state *state, int error)
{
	state_begin(state);
	state_put_messages(state, &inbox, 20, 20, 0);
	assert_int_equal(state_commit(state), error);
	assert_true(state_take_loss(state));
	assert_false(state_take_loss(state));
	assert_empty(state, &inbox);
	put_something(state, &inbox);
	state = state_close(state);
	state = open_state();
	struct stored stored;
	load(state, &inbox, &stored);
	assert_int_equal(runs_count(&stored.runs), 10);
	runs_done(&stored.runs);
	assert_false(state_take_loss(state));
	state_close(state);
}

static struct state *open_with_something(void)
{
	struct state *state = open_state();
	put_something(state, &inbox);
	assert_false(state_take_loss(state));
	return state;
}

static void test_lost_files(void **fixture)
{
	(void)fixture;
	struct state *state = open_with_something();
	assert_int_equal(unlink(file), 0);
	assert_lost(state, -ESTALE);

	state = open_with_something();
	assert_int_equal(truncate(file, 0), 0);
	assert_lost(state, -ESTALE);

	state = open_with_something();
	char garbage[100] = "garbage";
	write_file(file, garbage, sizeof(garbage));
	assert_lost(state, -ESTALE);
	assert_int_equal(count_aside(), 1);

	/* With the folder; the lock is taken anew. */
	state = open_with_something();
	clear_folder();
	assert_int_equal(rmdir(folder), 0);
	assert_lost(state, -ESTALE);
	assert_int_equal(count_aside(), 0);

	/* The log alone: what the file holds without it may be anything between. */
	state = open_with_something();
	char log[sizeof(file) + 8];
	snprintf(log, sizeof(log), "%s-wal", file);
	assert_int_equal(unlink(log), 0);
	state_begin(state);
	state_put_messages(state, &inbox, 20, 20, 0);
	assert_int_equal(state_commit(state), -ESTALE);
	assert_true(state_take_loss(state));
	put_something(state, &inbox);
	state_close(state);
}

/* What is done to the files while a batch is written is not taken for what the batch did. */
static void test_lost_while_written(void **fixture)
{
	(void)fixture;
	char log[sizeof(file) + 8];
	snprintf(log, sizeof(log), "%s-wal", file);
	for (int i = 0; i < 3; i++) {
		make_database(2000);
		struct state *state = open_state();
		put_something(state, &inbox);
		state_begin(state);
		state_put_messages(state, &inbox, 20, 20, 0);
		if (i == 0) {
			struct stat st;
			assert_int_equal(stat(file, &st), 0);
			assert_int_equal(truncate(file, st.st_size / 8192 * 4096), 0);
		} else {
			assert_int_equal(unlink(i == 1 ? file : log), 0);
		}
		assert_int_equal(state_commit(state), -ESTALE);
		/* Nothing is stored without the rest. */
		state_begin(state);
		state_put_messages(state, &inbox, 20, 20, 0);
		assert_int_equal(state_commit(state), -ESTALE);
		assert_true(state_take_loss(state));
		assert_false(state_take_loss(state));
		put_something(state, &inbox);
		state_close(state);
		clear_folder();
	}
}

static void test_log_cut(void **fixture)
{
	(void)fixture;
	struct state *state = open_with_something();
	char log[sizeof(file) + 8];
	snprintf(log, sizeof(log), "%s-wal", file);
	assert_int_equal(truncate(log, 0), 0);
	state_begin(state);
	state_put_messages(state, &inbox, 20, 20, 0);
	assert_int_equal(state_commit(state), -ESTALE);
	assert_true(state_take_loss(state));
	put_something(state, &inbox);
	state_close(state);
}

/* What is taken over from the log into the file is no loss, and the log stays small. */
static void test_checkpoints(void **fixture)
{
	(void)fixture;
	char log[sizeof(file) + 8];
	snprintf(log, sizeof(log), "%s-wal", file);
	struct state *state = open_with_something();
	struct stat before, after;
	assert_int_equal(stat(file, &before), 0);
	for (uint32_t i = 0; i < 3000; i++) {
		state_begin(state);
		for (uint32_t n = 1; n <= 3; n++) {
			uint32_t uid = 3 * (1000 * n + i);
			state_put_messages(state, &inbox, uid, uid, 0);
		}
		assert_int_equal(state_commit(state), 0);
	}
	assert_false(state_take_loss(state));
	assert_int_equal(stat(file, &after), 0);
	assert_true(after.st_size > before.st_size);
	assert_int_equal(stat(log, &after), 0);
	assert_true(after.st_size < 8 * 1024 * 1024);
	state_close(state);
}

/* What SQLite finds out by itself: pages that others wrote, as seen by a batch that needs them. */
static void test_corrupt_while_open(void **fixture)
{
	(void)fixture;
	make_database(200000); /* more than SQLite keeps in memory */
	struct state *state = open_state();
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	char garbage[4096];
	memset(garbage, 'x', sizeof(garbage));
	int fd = open(file, O_WRONLY);
	assert_true(fd >= 0);
	for (off_t at = 4096; at < st.st_size; at += 4096) {
		assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
	}
	/* As if the disk had done it. */
	assert_int_equal(futimens(fd, (const struct timespec[]){st.st_atim, st.st_mtim}), 0);
	close(fd);
	state_begin(state);
	for (uint32_t uid = 1; uid < 600000; uid += 5000) {
		state_put_messages(state, &inbox, BASE + uid, BASE + uid, 1);
	}
	assert_int_equal(state_commit(state), -EIO);
	assert_true(state_take_loss(state));
	assert_int_equal(count_aside(), 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_set_aside, clear),
		cmocka_unit_test_teardown(test_names_aside, clear),
		cmocka_unit_test_teardown(test_empty_file, clear),
		cmocka_unit_test_teardown(test_lost_files, clear),
		cmocka_unit_test_teardown(test_lost_while_written, clear),
		cmocka_unit_test_teardown(test_log_cut, clear),
		cmocka_unit_test_teardown(test_checkpoints, clear),
		cmocka_unit_test_teardown(test_corrupt_while_open, clear),
		cmocka_unit_test_teardown(test_links, clear),
		cmocka_unit_test_teardown(test_no_folder, clear),
		cmocka_unit_test_teardown(test_full_disk, clear),
		cmocka_unit_test_teardown(test_read_only_folder, clear),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
