#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state_schema.h"
#include "util/log.h"

/* What must be there after the last step, whatever user_version says. */
static const char probe[] =
	"SELECT id, host, user, mailbox, uidvalidity, uidnext, highestmodseq, has_flags, stopped "
	"FROM mailboxes LIMIT 0;"
	"SELECT mailbox, first, last, value FROM messages LIMIT 0;"
	"SELECT mailbox, value, flags FROM flags LIMIT 0;"
	"SELECT host, user FROM listed LIMIT 0;"
	"SELECT mailbox, uid, modseq FROM told LIMIT 0;";

/* Step n leads from user_version n to n + 1. Steps that were released never change. CHECK is also
 * what quick_check holds the rows against. */
const char *const state_schema_steps[] = {
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

	"CREATE TABLE told("
	"	mailbox INTEGER NOT NULL REFERENCES mailboxes(id) ON DELETE CASCADE,"
	"	uid INTEGER NOT NULL CHECK(uid BETWEEN 1 AND 4294967295),"
	"	modseq INTEGER NOT NULL CHECK(modseq > 0),"
	"	PRIMARY KEY(mailbox, uid)"
	") STRICT, WITHOUT ROWID;",
};

const int state_schema_n_steps = sizeof(state_schema_steps) / sizeof(state_schema_steps[0]);

enum state_verdict state_schema_verdict(sqlite3 *db, int result, const char *what)
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
		return STATE_VERDICT_CORRUPT;
	}
	return STATE_VERDICT_UNUSABLE;
}

enum state_verdict state_schema_run(sqlite3 *db, const char *sql)
{
	int result = sqlite3_exec(db, sql, NULL, NULL, NULL);
	return result == SQLITE_OK ? STATE_VERDICT_GOOD : state_schema_verdict(db, result, sql);
}

static enum state_verdict get_text(sqlite3 *db, const char *sql, char *text, size_t size)
{
	sqlite3_stmt *statement = NULL;
	int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
	if (result == SQLITE_OK) {
		result = sqlite3_step(statement);
	}
	enum state_verdict verdict = STATE_VERDICT_GOOD;
	if (result == SQLITE_ROW) {
		const unsigned char *column = sqlite3_column_text(statement, 0);
		snprintf(text, size, "%s", column ? (const char *)column : "");
	} else {
		verdict = state_schema_verdict(db, result, sql);
	}
	sqlite3_finalize(statement);
	return verdict;
}

enum state_verdict state_schema_check(sqlite3 *db)
{
	char text[128];
	enum state_verdict verdict = get_text(db, "PRAGMA quick_check(1)", text, sizeof(text));
	if (verdict == STATE_VERDICT_GOOD && strcmp(text, "ok") != 0) {
		log_debug(NULL, NULL, "state: quick_check: %s", text);
		verdict = STATE_VERDICT_CORRUPT;
	}
	return verdict;
}

enum state_verdict state_schema_migrate(sqlite3 *db, const char *const *steps, int n_steps)
{
	char text[32];
	enum state_verdict verdict = get_text(db, "PRAGMA user_version", text, sizeof(text));
	if (verdict != STATE_VERDICT_GOOD) {
		return verdict;
	}
	long version = strtol(text, NULL, 10);
	if (version < 0) {
		return STATE_VERDICT_CORRUPT;
	}
	if (version > n_steps) {
		return STATE_VERDICT_NEWER;
	}
	for (; version < n_steps && verdict == STATE_VERDICT_GOOD; version++) {
		char *sql = sqlite3_mprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %ld; COMMIT",
			steps[version], version + 1);
		verdict = sql ? state_schema_run(db, sql) : STATE_VERDICT_UNUSABLE;
		sqlite3_free(sql);
	}
	return verdict;
}

enum state_verdict state_schema_probe(sqlite3 *db)
{
	return state_schema_run(db, probe);
}
