/* What is asked of the database: its statements, prepared once. The first error is sticky, so that
 * the many steps of a batch need one check. Part of state.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum state_query {
	STATE_QUERY_BEGIN,
	STATE_QUERY_COMMIT,
	STATE_QUERY_ROLLBACK,
	STATE_QUERY_FIND_MAILBOX,
	STATE_QUERY_ADD_MAILBOX,
	STATE_QUERY_FORGET_MAILBOX,
	STATE_QUERY_GET_CURSOR,
	STATE_QUERY_PUT_CURSOR,
	STATE_QUERY_GET_STOPPED,
	STATE_QUERY_PUT_STOPPED,
	STATE_QUERY_GET_FLAGS,
	STATE_QUERY_PUT_FLAGS,
	STATE_QUERY_CLEAR_FLAGS,
	STATE_QUERY_GET_RUNS,
	STATE_QUERY_GET_RUN_UP_TO,
	STATE_QUERY_GET_RUN_FROM,
	STATE_QUERY_PUT_RUN,
	STATE_QUERY_CLEAR_RUNS,
	STATE_QUERY_CLEAR_RUNS_BETWEEN,
	STATE_QUERY_GET_TOLD,
	STATE_QUERY_PUT_TOLD,
	STATE_QUERY_CLEAR_TOLD_UP_TO,
	STATE_QUERY_GET_LISTED,
	STATE_QUERY_PUT_LISTED,
	STATE_N_QUERIES,
};

struct state_queries {
	sqlite3 *db; /* borrowed; NULL: not prepared */
	sqlite3_stmt *statements[STATE_N_QUERIES];
	int error;       /* sticky, until the owner clears it */
	bool is_damaged; /* a statement has found that out about the file; the same */
};

/* 0 or a negative errno; then nothing is prepared. */
int state_query_prepare(struct state_queries *queries, sqlite3 *db);
void state_query_finalize(struct state_queries *queries);

void state_query_fail(struct state_queries *queries, int error);

/* The parameters of a query, from 1 on. Text must live until state_query_end(). */
void state_query_number(
	struct state_queries *queries, enum state_query query, int index, int64_t number);
void state_query_text(
	struct state_queries *queries, enum state_query query, int index, const char *text);

/* True when there is a row; after an error there is none. */
bool state_query_step(struct state_queries *queries, enum state_query query);

/* The row, until the next step. */
sqlite3_stmt *state_query_row(struct state_queries *queries, enum state_query query);

void state_query_end(struct state_queries *queries, enum state_query query);

/* One step, and the end. */
void state_query_run(struct state_queries *queries, enum state_query query);

/* For those on one mailbox that take nothing else. */
void state_query_run_on(struct state_queries *queries, enum state_query query, int64_t id);
