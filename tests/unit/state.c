/* The durable cursor: what is stored against a model, and kills at any moment. */
#include "state_place.h"

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

static void put_told(void *userdata, uint32_t uid, uint64_t modseq)
{
	char *text = userdata;
	size_t len = strlen(text);
	snprintf(text + len, 100 - len, "%u:%llu ", uid, (unsigned long long)modseq);
}

static void assert_told(struct state *state, const struct state_key *key, const char *expected)
{
	char text[100] = "";
	assert_int_equal(state_load_told(state, key, put_told, text), 0);
	assert_string_equal(text, expected);
}

/* What was told above the cursor, until the cursor says it, or says that it is void. */
static void test_told(void **fixture)
{
	(void)fixture;
	struct state *state = open_state();
	struct runs runs;
	runs_init(&runs);
	struct state_cursor cursor = {.uidvalidity = 2, .uidnext = 10, .highestmodseq = 40};
	assert_told(state, &inbox, "");
	state_put_baseline(state, &inbox, &cursor, &runs);
	state_begin(state);
	state_put_told(state, &inbox, 9, 41);
	state_put_told(state, &inbox, UINT32_MAX, INT64_MAX);
	state_put_told(state, &inbox, 7, 42);
	state_put_told(state, &inbox, 9, 43);
	state_put_told(state, &inbox, 8, UINT64_MAX); /* not a modseq */
	state_put_told(state, &lists, 8, 50);
	assert_int_equal(state_commit(state), 0);
	state = state_close(state);

	state = open_state();
	assert_told(state, &inbox, "7:42 9:43 4294967295:9223372036854775807 ");
	cursor.highestmodseq = 42;
	state_put_cursor(state, &inbox, &cursor);
	assert_told(state, &inbox, "9:43 4294967295:9223372036854775807 ");
	state_forget_told(state, &inbox);
	assert_told(state, &inbox, "");
	state_put_told(state, &inbox, 9, 43);
	cursor.highestmodseq = 0;
	state_put_cursor(state, &inbox, &cursor);
	assert_told(state, &inbox, "");
	state_put_told(state, &inbox, 9, 43);
	state_put_baseline(state, &inbox, &cursor, &runs);
	assert_told(state, &inbox, "");
	state_put_told(state, &inbox, 9, 43);
	state_forget(state, &inbox);
	assert_told(state, &inbox, "");
	assert_told(state, &lists, "8:50 ");
	state_close(state);
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
		cmocka_unit_test_teardown(test_told, clear),
		cmocka_unit_test_teardown(test_keys_are_apart, clear),
		cmocka_unit_test_teardown(test_stopped_and_listed, clear),
		cmocka_unit_test_teardown(test_bad_range, clear),
		cmocka_unit_test_teardown(test_not_committed, clear),
		cmocka_unit_test_teardown(test_model, clear),
		cmocka_unit_test_teardown(test_modes, clear),
		cmocka_unit_test_teardown(test_lock, clear),
		cmocka_unit_test_teardown(test_nonsense, clear),
		cmocka_unit_test_teardown(test_killed, clear),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
