#include <errno.h>
#include <stddef.h>

#include "state_file.h"
#include "state_query.h"
#include "util/log.h"

static const char *const texts[STATE_N_QUERIES] = {
	[STATE_QUERY_BEGIN] = "BEGIN IMMEDIATE",
	[STATE_QUERY_COMMIT] = "COMMIT",
	[STATE_QUERY_ROLLBACK] = "ROLLBACK",
	[STATE_QUERY_FIND_MAILBOX] =
		"SELECT id FROM mailboxes WHERE host = ?1 AND user = ?2 AND mailbox = ?3",
	[STATE_QUERY_ADD_MAILBOX] = "INSERT INTO mailboxes(host, user, mailbox) VALUES(?1, ?2, ?3)",
	[STATE_QUERY_FORGET_MAILBOX] = "DELETE FROM mailboxes WHERE id = ?1",
	[STATE_QUERY_GET_CURSOR] = "SELECT uidvalidity, uidnext, highestmodseq, has_flags "
				   "FROM mailboxes WHERE id = ?1",
	[STATE_QUERY_PUT_CURSOR] = "UPDATE mailboxes SET uidvalidity = ?2, uidnext = ?3, "
				   "highestmodseq = ?4, has_flags = ?5 WHERE id = ?1",
	[STATE_QUERY_GET_STOPPED] = "SELECT stopped FROM mailboxes WHERE id = ?1",
	[STATE_QUERY_PUT_STOPPED] = "UPDATE mailboxes SET stopped = ?2 WHERE id = ?1",
	[STATE_QUERY_GET_FLAGS] =
		"SELECT value, flags FROM flags WHERE mailbox = ?1 ORDER BY value",
	[STATE_QUERY_PUT_FLAGS] = "REPLACE INTO flags(mailbox, value, flags) VALUES(?1, ?2, ?3)",
	[STATE_QUERY_CLEAR_FLAGS] = "DELETE FROM flags WHERE mailbox = ?1",
	[STATE_QUERY_GET_RUNS] =
		"SELECT first, last, value FROM messages WHERE mailbox = ?1 ORDER BY first",
	[STATE_QUERY_GET_RUN_UP_TO] =
		"SELECT first, last, value FROM messages "
		"WHERE mailbox = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
	[STATE_QUERY_GET_RUN_FROM] =
		"SELECT first, last, value FROM messages WHERE mailbox = ?1 AND first = ?2",
	[STATE_QUERY_PUT_RUN] =
		"REPLACE INTO messages(mailbox, first, last, value) VALUES(?1, ?2, ?3, ?4)",
	[STATE_QUERY_CLEAR_RUNS] = "DELETE FROM messages WHERE mailbox = ?1",
	[STATE_QUERY_CLEAR_RUNS_BETWEEN] =
		"DELETE FROM messages WHERE mailbox = ?1 AND first BETWEEN ?2 AND ?3",
	[STATE_QUERY_GET_TOLD] = "SELECT uid, modseq FROM told WHERE mailbox = ?1 ORDER BY uid",
	[STATE_QUERY_PUT_TOLD] = "REPLACE INTO told(mailbox, uid, modseq) VALUES(?1, ?2, ?3)",
	[STATE_QUERY_CLEAR_TOLD_UP_TO] = "DELETE FROM told WHERE mailbox = ?1 AND modseq <= ?2",
	[STATE_QUERY_GET_LISTED] = "SELECT 1 FROM listed WHERE host = ?1 AND user = ?2",
	[STATE_QUERY_PUT_LISTED] = "INSERT OR IGNORE INTO listed(host, user) VALUES(?1, ?2)",
};

void state_query_finalize(struct state_queries *queries)
{
	for (size_t i = 0; i < STATE_N_QUERIES; i++) {
		sqlite3_finalize(queries->statements[i]);
		queries->statements[i] = NULL;
	}
	queries->db = NULL;
}

int state_query_prepare(struct state_queries *queries, sqlite3 *db)
{
	queries->db = db;
	for (size_t i = 0; i < STATE_N_QUERIES; i++) {
		int result = sqlite3_prepare_v3(
			db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &queries->statements[i], NULL);
		if (result != SQLITE_OK) {
			log_debug(NULL, NULL, "state: %s: %s", texts[i], sqlite3_errmsg(db));
			state_query_finalize(queries);
			return state_file_errno(result);
		}
	}
	return 0;
}

void state_query_fail(struct state_queries *queries, int error)
{
	if (queries->error == 0) {
		queries->error = error;
	}
}

static void fail_sqlite(struct state_queries *queries, enum state_query query, int result)
{
	log_debug(NULL, NULL, "state: %s: %s", texts[query], sqlite3_errmsg(queries->db));
	switch (result & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
	case SQLITE_SCHEMA:
	case SQLITE_ERROR: /* the schema is another one now */
		queries->is_damaged = true;
		break;
	}
	state_query_fail(queries, state_file_errno(result));
}

sqlite3_stmt *state_query_row(struct state_queries *queries, enum state_query query)
{
	return queries->statements[query];
}

void state_query_number(
	struct state_queries *queries, enum state_query query, int index, int64_t number)
{
	if (sqlite3_bind_int64(queries->statements[query], index, number) != SQLITE_OK) {
		state_query_fail(queries, -ENOMEM);
	}
}

void state_query_text(
	struct state_queries *queries, enum state_query query, int index, const char *text)
{
	if (sqlite3_bind_text(queries->statements[query], index, text, -1, SQLITE_STATIC) !=
		SQLITE_OK) {
		state_query_fail(queries, -ENOMEM);
	}
}

bool state_query_step(struct state_queries *queries, enum state_query query)
{
	if (queries->error) {
		return false;
	}
	int result = sqlite3_step(queries->statements[query]);
	if (result != SQLITE_ROW && result != SQLITE_DONE) {
		fail_sqlite(queries, query, result);
	}
	return result == SQLITE_ROW;
}

void state_query_end(struct state_queries *queries, enum state_query query)
{
	sqlite3_reset(queries->statements[query]);
	sqlite3_clear_bindings(queries->statements[query]);
}

void state_query_run(struct state_queries *queries, enum state_query query)
{
	state_query_step(queries, query);
	state_query_end(queries, query);
}

void state_query_run_on(struct state_queries *queries, enum state_query query, int64_t id)
{
	state_query_number(queries, query, 1, id);
	state_query_run(queries, query);
}
