/* The schema: databases of every version that was released become those of today, whole; and steps
 * are taken wholly or not at all. */
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state.h"
#include "state_schema.h"
#include "util/log.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static char folder[4096];
static char file[4200];

static int set_up(void **fixture)
{
	(void)fixture;
	const char *parent = getenv("TMPDIR");
	snprintf(folder, sizeof(folder), "%s/mailidle-schema-XXXXXX", parent ? parent : P_tmpdir);
	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(folder)) {
		return -1;
	}
	snprintf(file, sizeof(file), "%s/mailidle.db", folder);
	return 0;
}

static int tear_down(void **fixture)
{
	(void)fixture;
	char lock[4200];
	snprintf(lock, sizeof(lock), "%s/mailidle.lock", folder);
	unlink(file);
	unlink(lock);
	return rmdir(folder);
}

static void run(sqlite3 *db, const char *sql)
{
	char *error = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK) {
		fail_msg("%s: %s", sql, error);
	}
}

static sqlite3 *open_file(const char *path)
{
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	return db;
}

static int get_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement = NULL;
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
	int number = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	return number;
}

/* Version 1, as it was released: this text never changes, whatever becomes of the schema. */
static const char version_1[] =
	"CREATE TABLE mailboxes(id INTEGER PRIMARY KEY, host TEXT NOT NULL, user TEXT NOT NULL,"
	" mailbox TEXT NOT NULL,"
	" uidvalidity INTEGER NOT NULL DEFAULT 0 CHECK(uidvalidity BETWEEN 0 AND 4294967295),"
	" uidnext INTEGER NOT NULL DEFAULT 0 CHECK(uidnext BETWEEN 0 AND 4294967295),"
	" highestmodseq INTEGER NOT NULL DEFAULT 0 CHECK(highestmodseq >= 0),"
	" has_flags INTEGER NOT NULL DEFAULT 0 CHECK(has_flags IN (0, 1)),"
	" stopped INTEGER NOT NULL DEFAULT 0 CHECK(stopped IN (0, 1)),"
	" UNIQUE(host, user, mailbox)) STRICT;"
	"CREATE TABLE messages("
	" mailbox INTEGER NOT NULL REFERENCES mailboxes(id) ON DELETE CASCADE,"
	" first INTEGER NOT NULL CHECK(first BETWEEN 1 AND 4294967295),"
	" last INTEGER NOT NULL CHECK(last BETWEEN first AND 4294967295),"
	" value INTEGER NOT NULL CHECK(value BETWEEN 0 AND 65535),"
	" PRIMARY KEY(mailbox, first)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE flags("
	" mailbox INTEGER NOT NULL REFERENCES mailboxes(id) ON DELETE CASCADE,"
	" value INTEGER NOT NULL CHECK(value BETWEEN 0 AND 65535),"
	" flags TEXT NOT NULL, PRIMARY KEY(mailbox, value)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE listed(host TEXT NOT NULL, user TEXT NOT NULL,"
	" PRIMARY KEY(host, user)) STRICT, WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

static void take_flags(void *userdata, const struct state_flags *flags)
{
	char *text = userdata;
	size_t len = strlen(text);
	snprintf(text + len, 100 - len, "%u=%s;", flags->value, flags->flags);
}

static void test_version_1(void **fixture)
{
	(void)fixture;
	sqlite3 *db = open_file(file);
	run(db, version_1);
	run(db,
		"INSERT INTO mailboxes VALUES(7, 'imap.example.org', 'jo', 'INBOX', 11, 22, 33, 1, "
		"0), (8, 'imap.example.org', 'jo', 'Lists', 1, 2, 0, 0, 1);"
		"INSERT INTO messages VALUES(7, 1, 9, 2), (7, 15, 21, 3), (8, 1, 1, 1);"
		"INSERT INTO flags VALUES(7, 2, ''), (7, 3, '$Junk \\Seen');"
		"INSERT INTO listed VALUES('imap.example.org', 'jo');");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);

	const struct state_key inbox = {"imap.example.org", "jo", "INBOX"};
	const struct state_key lists = {"imap.example.org", "jo", "Lists"};
	struct state *state = NULL;
	struct state_cursor cursor;
	struct runs runs;
	char flags[100] = "";
	runs_init(&runs);
	assert_int_equal(state_open(folder, &state), 0);
	assert_int_equal(state_load(state, &inbox, &cursor, &runs, take_flags, flags), 0);
	assert_int_equal(cursor.uidvalidity, 11);
	assert_int_equal(cursor.uidnext, 22);
	assert_int_equal(cursor.highestmodseq, 33);
	assert_true(cursor.has_flags);
	assert_int_equal(runs_count(&runs), 16);
	assert_string_equal(flags, "2=;3=$Junk \\Seen;");
	assert_false(state_is_stopped(state, &inbox));
	assert_true(state_is_stopped(state, &lists));
	assert_true(state_was_listed(state, &lists));
	assert_false(state_take_loss(state));
	runs_done(&runs);
	state_close(state);

	db = open_file(file);
	assert_int_equal(get_number(db, "PRAGMA user_version"), state_schema_n_steps);
	sqlite3_close(db);
}

/* How steps are taken, whatever they are. */
static const char *const steps[] = {
	"CREATE TABLE a(x); INSERT INTO a VALUES(1);",
	"ALTER TABLE a ADD COLUMN y; UPDATE a SET y = 10 * x;",
	"CREATE TABLE b(z); INSERT INTO b SELECT y FROM a;",
};

static void test_all_steps(void **fixture)
{
	(void)fixture;
	for (int n = 0; n <= 3; n++) {
		sqlite3 *db = open_file(":memory:");
		assert_int_equal(state_schema_migrate(db, steps, n), STATE_VERDICT_GOOD);
		assert_int_equal(get_number(db, "PRAGMA user_version"), n);
		assert_int_equal(state_schema_migrate(db, steps, 3), STATE_VERDICT_GOOD);
		assert_int_equal(get_number(db, "PRAGMA user_version"), 3);
		assert_int_equal(get_number(db, "SELECT z FROM b"), 10);
		/* Once more is nothing more. */
		assert_int_equal(state_schema_migrate(db, steps, 3), STATE_VERDICT_GOOD);
		assert_int_equal(get_number(db, "SELECT count(*) FROM b"), 1);
		assert_int_equal(state_schema_migrate(db, steps, 2), STATE_VERDICT_NEWER);
		sqlite3_close(db);
	}
}

static void test_a_step_that_fails(void **fixture)
{
	(void)fixture;
	static const char *const broken[] = {
		"CREATE TABLE a(x); INSERT INTO a VALUES(1);",
		"UPDATE a SET x = 2; DROP TABLE nothing;",
	};
	sqlite3 *db = open_file(file);
	assert_int_equal(state_schema_migrate(db, broken, 2), STATE_VERDICT_CORRUPT);
	sqlite3_close(db);
	db = open_file(file);
	assert_int_equal(get_number(db, "PRAGMA user_version"), 1);
	assert_int_equal(get_number(db, "SELECT x FROM a"), 1);
	assert_int_equal(state_schema_migrate(db, steps, 3), STATE_VERDICT_GOOD);
	assert_int_equal(get_number(db, "SELECT z FROM b"), 10);
	sqlite3_close(db);
}

static void test_the_steps_of_today(void **fixture)
{
	(void)fixture;
	sqlite3 *db = open_file(":memory:");
	assert_int_equal(state_schema_migrate(db, state_schema_steps, state_schema_n_steps),
		STATE_VERDICT_GOOD);
	assert_int_equal(state_schema_check(db), STATE_VERDICT_GOOD);
	assert_int_equal(state_schema_probe(db), STATE_VERDICT_GOOD);
	run(db, "DROP TABLE listed");
	assert_int_equal(state_schema_probe(db), STATE_VERDICT_CORRUPT);
	run(db, "PRAGMA user_version = -1");
	assert_int_equal(state_schema_migrate(db, steps, 3), STATE_VERDICT_CORRUPT);
	sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_version_1, set_up, tear_down),
		cmocka_unit_test(test_all_steps),
		cmocka_unit_test_setup_teardown(test_a_step_that_fails, set_up, tear_down),
		cmocka_unit_test(test_the_steps_of_today),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
