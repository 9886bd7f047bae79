#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state.h"
#include "state_file.h"
#include "state_query.h"
#include "util/log.h"

/* After so many pages in the log they are taken over into the file. */
#define LOG_PAGES_HIGHEST 1000

struct state {
	char *folder;
	int lock_fd;       /* -1: not locked */
	sqlite3 *db;       /* NULL: without memory, for now */
	bool is_read_only; /* what is there could be read, and nothing can be written for now */
	struct state_queries queries;
	bool is_in_batch;
	bool has_warned;
	sqlite3_int64 n_changes; /* of rows, before the batch */
	int n_log_pages;
	struct state_file_look look; /* as we left the files */
	bool is_lost;                /* what was stored; until somebody is told */
};

/* A run of the table; the numbers have room for one beyond the highest UID. */
struct row {
	int64_t first;
	int64_t last;
	int64_t value;
};

static void warn(struct state *state, int error)
{
	if (!state->has_warned) {
		log_warning(NULL, NULL,
			"state in %s cannot be kept for now: %s; after a restart, mail that "
			"arrived in the meantime may be announced again or not at all",
			state->folder, strerror(-error));
		state->has_warned = true;
	}
}

static void close_database(struct state *state)
{
	state_query_finalize(&state->queries);
	sqlite3_close(state->db);
	state->db = NULL;
}

static int prepare(struct state *state)
{
	int r = state_query_prepare(&state->queries, state->db);
	if (r < 0) {
		close_database(state);
	}
	return r;
}

/* In the place of SQLite's own checkpoints: what a batch writes is told from what others do to the
 * file meanwhile. */
static int on_log(void *userdata, sqlite3 *db, const char *name, int n_pages)
{
	(void)db;
	(void)name;
	struct state *state = userdata;
	state->n_log_pages = n_pages;
	return SQLITE_OK;
}

static int open_to_write(struct state *state)
{
	sqlite3 *db;
	int r = 0;
	if (state->lock_fd < 0) {
		r = state_folder_open(state->folder, &state->lock_fd);
	}
	if (r == 0) {
		r = state_file_open(state->folder, &db);
	}
	if (r < 0) {
		return r;
	}
	/* What was read before may have been older than what is there. */
	state->is_lost = state->is_lost || state->is_read_only;
	state->is_read_only = false;
	close_database(state);
	state->db = db;
	state->n_log_pages = 0;
	sqlite3_wal_hook(db, on_log, state);
	r = prepare(state);
	if (r == 0) {
		state_file_look(state->db, &state->look);
	}
	return r;
}

/* What is stored is known all the same, and what has come since can be told. */
static void open_to_read(struct state *state)
{
	if (state_file_open_to_read(state->folder, &state->db) == 0 && prepare(state) == 0) {
		state->is_read_only = true;
	}
}

/* 0 when there is a database now that can be written. */
static int open_database(struct state *state)
{
	if (state->db && !state->is_read_only) {
		return 0;
	}
	int r = open_to_write(state);
	if (!state->db && (r == -EROFS || r == -EACCES || r == -EPERM)) {
		open_to_read(state);
	}
	return r;
}

/* The files are not, or no longer, what we have written; the next batch opens what is there then.
 */
static void lose_database(struct state *state)
{
	state_query_finalize(&state->queries);
	state->db = state_file_abandon(state->db);
	state->is_lost = true;
	state->queries.is_damaged = false;
	state->is_read_only = false;
	if (state->lock_fd >= 0 && !state_folder_is_same(state->folder, state->lock_fd)) {
		close(state->lock_fd);
		state->lock_fd = -1;
	}
}

static void lose_to_others(struct state *state)
{
	log_warning(NULL, NULL,
		"the state in %s was changed or removed by somebody else; all that is known is "
		"stored again",
		state->folder);
	lose_database(state);
}

/* The files are to be still what we have made of them. */
static void check_files(struct state *state)
{
	if (state->db && !state->is_read_only && !state_file_is_same(state->db, &state->look)) {
		lose_to_others(state);
	}
}

/* Behind a batch. What others did while it was written is not to be taken for ours: what was
 * committed then may be gone. */
static int check_batch(struct state *state)
{
	if (!state->db || state->is_read_only) {
		return 0;
	}
	if (!state_file_look_again(state->db, &state->look)) {
		lose_to_others(state);
		return -ESTALE;
	}
	if (state->n_log_pages >= LOG_PAGES_HIGHEST) {
		state->n_log_pages = 0;
		state_file_checkpoint(state->db, &state->look);
	}
	return 0;
}

static void lose_if_damaged(struct state *state)
{
	if (!state->queries.is_damaged) {
		return;
	}
	lose_database(state);
	int r = state_file_set_aside(state->folder);
	if (r < 0) {
		log_debug(NULL, NULL, "state: cannot be set aside: %s", strerror(-r));
	}
}

int state_open(const char *folder, struct state **ret_state)
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->lock_fd = -1;
	state->folder = strdup(folder);
	int r = state->folder ? open_database(state) : -ENOMEM;
	if (r == -ENOMEM || (r == -EBUSY && state->lock_fd < 0)) {
		state_close(state);
		return r;
	}
	if (r < 0) {
		warn(state, r);
	}
	*ret_state = state;
	return 0;
}

struct state *state_close(struct state *state)
{
	if (!state) {
		return NULL;
	}
	close_database(state); /* rolls back what was not committed */
	if (state->lock_fd >= 0) {
		close(state->lock_fd);
	}
	free(state->folder);
	free(state);
	return NULL;
}

static void fail(struct state *state, int error)
{
	state_query_fail(&state->queries, error);
}

/* Host names compare without regard to case (RFC 4343). */
static char *lower(const char *host)
{
	char *text = strdup(host);
	for (char *c = text; c && *c; c++) {
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
	}
	return text;
}

/* 0: not there, or an error. */
static int64_t find_mailbox(struct state *state, const struct state_key *key)
{
	if (state->queries.error) {
		return 0; /* there may not even be a database */
	}
	char *host = lower(key->host);
	if (!host) {
		fail(state, -ENOMEM);
		return 0;
	}
	state_query_text(&state->queries, STATE_QUERY_FIND_MAILBOX, 1, host);
	state_query_text(&state->queries, STATE_QUERY_FIND_MAILBOX, 2, key->user);
	state_query_text(&state->queries, STATE_QUERY_FIND_MAILBOX, 3, key->mailbox);
	int64_t id = state_query_step(&state->queries, STATE_QUERY_FIND_MAILBOX)
		? sqlite3_column_int64(
			  state_query_row(&state->queries, STATE_QUERY_FIND_MAILBOX), 0)
		: 0;
	state_query_end(&state->queries, STATE_QUERY_FIND_MAILBOX);
	free(host);
	return id;
}

/* 0 after an error. */
static int64_t make_mailbox(struct state *state, const struct state_key *key)
{
	int64_t id = find_mailbox(state, key);
	if (id || state->queries.error) {
		return id;
	}
	char *host = lower(key->host);
	if (!host) {
		fail(state, -ENOMEM);
		return 0;
	}
	state_query_text(&state->queries, STATE_QUERY_ADD_MAILBOX, 1, host);
	state_query_text(&state->queries, STATE_QUERY_ADD_MAILBOX, 2, key->user);
	state_query_text(&state->queries, STATE_QUERY_ADD_MAILBOX, 3, key->mailbox);
	state_query_run(&state->queries, STATE_QUERY_ADD_MAILBOX);
	free(host);
	return state->queries.error ? 0 : sqlite3_last_insert_rowid(state->db);
}

void state_begin(struct state *state)
{
	if (state->is_in_batch) {
		return;
	}
	state->is_in_batch = true;
	check_files(state);
	state->queries.error = state->is_lost ? -ESTALE : open_database(state);
	if (state->queries.error == 0 && state->is_lost) {
		state->queries.error = -ESTALE;
	}
	if (state->queries.error == 0) {
		state->n_changes = sqlite3_total_changes64(state->db);
		state_query_run(&state->queries, STATE_QUERY_BEGIN);
	}
}

int state_commit(struct state *state)
{
	if (!state->is_in_batch) {
		return 0;
	}
	if (state->queries.error == 0) {
		state_query_run(&state->queries, STATE_QUERY_COMMIT);
	}
	int error = state->queries.error;
	state->queries.error = 0;
	state->is_in_batch = false;
	if (error && state->db && !sqlite3_get_autocommit(state->db)) {
		state_query_run(&state->queries, STATE_QUERY_ROLLBACK);
		state->queries.error = 0;
	}
	lose_if_damaged(state);
	int changed = check_batch(state);
	error = error ? error : changed;
	if (error && error != -ESTALE) {
		warn(state, error);
	} else if (!error && state->has_warned &&
		sqlite3_total_changes64(state->db) != state->n_changes) {
		/* A batch without changes writes nothing. */
		log_info(NULL, NULL, "state in %s is kept again", state->folder);
		state->has_warned = false;
	}
	return error;
}

bool state_take_loss(struct state *state)
{
	check_files(state);
	bool is_lost = state->is_lost;
	state->is_lost = false;
	return is_lost;
}

/* A change outside a batch is a batch of its own. */
static bool enter(struct state *state)
{
	bool is_own = !state->is_in_batch;
	state_begin(state);
	return is_own;
}

static int leave(struct state *state, bool is_own)
{
	return is_own ? state_commit(state) : state->queries.error;
}

static void clear_told(struct state *state, int64_t id, int64_t highest)
{
	state_query_number(&state->queries, STATE_QUERY_CLEAR_TOLD_UP_TO, 1, id);
	state_query_number(&state->queries, STATE_QUERY_CLEAR_TOLD_UP_TO, 2, highest);
	state_query_run(&state->queries, STATE_QUERY_CLEAR_TOLD_UP_TO);
}

static void put_cursor(struct state *state, int64_t id, const struct state_cursor *cursor)
{
	/* MODSEQ has 63 bits (RFC 7162 section 7); 0 costs one look at all flags. */
	uint64_t modseq = cursor->highestmodseq > INT64_MAX ? 0 : cursor->highestmodseq;
	state_query_number(&state->queries, STATE_QUERY_PUT_CURSOR, 1, id);
	state_query_number(&state->queries, STATE_QUERY_PUT_CURSOR, 2, cursor->uidvalidity);
	state_query_number(&state->queries, STATE_QUERY_PUT_CURSOR, 3, cursor->uidnext);
	state_query_number(&state->queries, STATE_QUERY_PUT_CURSOR, 4, (int64_t)modseq);
	state_query_number(&state->queries, STATE_QUERY_PUT_CURSOR, 5, cursor->has_flags);
	state_query_run(&state->queries, STATE_QUERY_PUT_CURSOR);
	clear_told(state, id, modseq ? (int64_t)modseq : INT64_MAX);
}

static void put_row(struct state *state, int64_t id, const struct row *row)
{
	state_query_number(&state->queries, STATE_QUERY_PUT_RUN, 1, id);
	state_query_number(&state->queries, STATE_QUERY_PUT_RUN, 2, row->first);
	state_query_number(&state->queries, STATE_QUERY_PUT_RUN, 3, row->last);
	state_query_number(&state->queries, STATE_QUERY_PUT_RUN, 4, row->value);
	state_query_run(&state->queries, STATE_QUERY_PUT_RUN);
}

static void read_row(sqlite3_stmt *statement, struct row *row)
{
	*row = (struct row){
		.first = sqlite3_column_int64(statement, 0),
		.last = sqlite3_column_int64(statement, 1),
		.value = sqlite3_column_int64(statement, 2),
	};
}

/* STATE_QUERY_GET_RUN_UP_TO or STATE_QUERY_GET_RUN_FROM. */
static bool get_row(struct state *state, enum state_query query, int64_t id, int64_t number,
	struct row *ret_row)
{
	state_query_number(&state->queries, query, 1, id);
	state_query_number(&state->queries, query, 2, number);
	bool has_row = state_query_step(&state->queries, query);
	if (has_row) {
		read_row(state_query_row(&state->queries, query), ret_row);
	}
	state_query_end(&state->queries, query);
	return has_row;
}

static void clear_rows(struct state *state, int64_t id, int64_t first, int64_t last)
{
	state_query_number(&state->queries, STATE_QUERY_CLEAR_RUNS_BETWEEN, 1, id);
	state_query_number(&state->queries, STATE_QUERY_CLEAR_RUNS_BETWEEN, 2, first);
	state_query_number(&state->queries, STATE_QUERY_CLEAR_RUNS_BETWEEN, 3, last);
	state_query_run(&state->queries, STATE_QUERY_CLEAR_RUNS_BETWEEN);
}

static void check_range(struct state *state, uint32_t first, uint32_t last)
{
	if (first == 0 || last < first) {
		fail(state, -EINVAL);
	}
}

/* Takes first..last out of the runs: what reaches over an end is cut. */
static void cut_hole(struct state *state, int64_t id, int64_t first, int64_t last)
{
	struct row row;
	if (get_row(state, STATE_QUERY_GET_RUN_UP_TO, id, last, &row) && row.last > last) {
		put_row(state, id, &(struct row){last + 1, row.last, row.value});
	}
	if (get_row(state, STATE_QUERY_GET_RUN_UP_TO, id, first - 1, &row) && row.last >= first) {
		put_row(state, id, &(struct row){row.first, first - 1, row.value});
	}
	clear_rows(state, id, first, last);
}

/* Fills a hole, and joins it with neighbours of the same value. */
static void fill_hole(struct state *state, int64_t id, int64_t first, int64_t last, int64_t value)
{
	struct row row;
	struct row filled = {first, last, value};
	if (get_row(state, STATE_QUERY_GET_RUN_UP_TO, id, first - 1, &row) &&
		row.last == first - 1 && row.value == value) {
		filled.first = row.first;
	}
	if (get_row(state, STATE_QUERY_GET_RUN_FROM, id, last + 1, &row) && row.value == value) {
		filled.last = row.last;
		clear_rows(state, id, row.first, row.first);
	}
	put_row(state, id, &filled);
}

void state_put_baseline(struct state *state, const struct state_key *key,
	const struct state_cursor *cursor, const struct runs *runs)
{
	bool is_own = enter(state);
	int64_t id = make_mailbox(state, key);
	if (id) {
		state_query_run_on(&state->queries, STATE_QUERY_CLEAR_RUNS, id);
		state_query_run_on(&state->queries, STATE_QUERY_CLEAR_FLAGS, id);
		clear_told(state, id, INT64_MAX);
		put_cursor(state, id, cursor);
	}
	struct run run;
	for (uint64_t n = 1; id && !state->queries.error && n <= UINT32_MAX &&
		runs_next(runs, (uint32_t)n, &run);
		n = (uint64_t)run.last + 1) {
		put_row(state, id, &(struct row){run.first, run.last, run.value});
	}
	leave(state, is_own);
}

void state_put_cursor(
	struct state *state, const struct state_key *key, const struct state_cursor *cursor)
{
	bool is_own = enter(state);
	int64_t id = make_mailbox(state, key);
	if (id) {
		put_cursor(state, id, cursor);
	}
	leave(state, is_own);
}

void state_put_flags(
	struct state *state, const struct state_key *key, const struct state_flags *flags)
{
	bool is_own = enter(state);
	int64_t id = make_mailbox(state, key);
	if (id) {
		state_query_number(&state->queries, STATE_QUERY_PUT_FLAGS, 1, id);
		state_query_number(&state->queries, STATE_QUERY_PUT_FLAGS, 2, flags->value);
		state_query_text(&state->queries, STATE_QUERY_PUT_FLAGS, 3, flags->flags);
		state_query_run(&state->queries, STATE_QUERY_PUT_FLAGS);
	}
	leave(state, is_own);
}

void state_put_messages(struct state *state, const struct state_key *key, uint32_t first,
	uint32_t last, uint16_t value)
{
	bool is_own = enter(state);
	check_range(state, first, last);
	int64_t id = make_mailbox(state, key);
	if (id) {
		cut_hole(state, id, first, last);
		fill_hole(state, id, first, last, value);
	}
	leave(state, is_own);
}

void state_put_told(struct state *state, const struct state_key *key, uint32_t uid, uint64_t modseq)
{
	if (modseq > INT64_MAX) {
		return;
	}
	bool is_own = enter(state);
	int64_t id = make_mailbox(state, key);
	if (id) {
		state_query_number(&state->queries, STATE_QUERY_PUT_TOLD, 1, id);
		state_query_number(&state->queries, STATE_QUERY_PUT_TOLD, 2, uid);
		state_query_number(&state->queries, STATE_QUERY_PUT_TOLD, 3, (int64_t)modseq);
		state_query_run(&state->queries, STATE_QUERY_PUT_TOLD);
	}
	leave(state, is_own);
}

void state_forget_told(struct state *state, const struct state_key *key)
{
	bool is_own = enter(state);
	int64_t id = find_mailbox(state, key);
	if (id) {
		clear_told(state, id, INT64_MAX);
	}
	leave(state, is_own);
}

void state_remove_messages(
	struct state *state, const struct state_key *key, uint32_t first, uint32_t last)
{
	bool is_own = enter(state);
	check_range(state, first, last);
	int64_t id = find_mailbox(state, key);
	if (id) {
		cut_hole(state, id, first, last);
	}
	leave(state, is_own);
}

void state_forget(struct state *state, const struct state_key *key)
{
	bool is_own = enter(state);
	int64_t id = find_mailbox(state, key);
	if (id) {
		state_query_run_on(&state->queries, STATE_QUERY_CLEAR_RUNS, id);
		state_query_run_on(&state->queries, STATE_QUERY_CLEAR_FLAGS, id);
		clear_told(state, id, INT64_MAX);
		state_query_run_on(&state->queries, STATE_QUERY_FORGET_MAILBOX, id);
	}
	leave(state, is_own);
}

int state_set_stopped(struct state *state, const struct state_key *key, bool stopped)
{
	bool is_own = enter(state);
	int64_t id = stopped ? make_mailbox(state, key) : find_mailbox(state, key);
	if (id) {
		state_query_number(&state->queries, STATE_QUERY_PUT_STOPPED, 1, id);
		state_query_number(&state->queries, STATE_QUERY_PUT_STOPPED, 2, stopped);
		state_query_run(&state->queries, STATE_QUERY_PUT_STOPPED);
	}
	return leave(state, is_own);
}

void state_set_listed(struct state *state, const struct state_key *key)
{
	bool is_own = enter(state);
	char *host = state->queries.error ? NULL : lower(key->host);
	if (host) {
		state_query_text(&state->queries, STATE_QUERY_PUT_LISTED, 1, host);
		state_query_text(&state->queries, STATE_QUERY_PUT_LISTED, 2, key->user);
		state_query_run(&state->queries, STATE_QUERY_PUT_LISTED);
		free(host);
	} else {
		fail(state, -ENOMEM);
	}
	leave(state, is_own);
}

/* Questions see what the batch has changed so far. An error ends a batch that is open; without one
 * it is the question's own. */
static bool enter_question(struct state *state)
{
	if (open_database(state) < 0 && !state->db) {
		return false;
	}
	return !state->is_in_batch || state->queries.error == 0;
}

static int leave_question(struct state *state)
{
	int error = state->queries.error;
	if (!state->is_in_batch) {
		state->queries.error = 0;
		lose_if_damaged(state);
	}
	if (error) {
		warn(state, error);
	}
	return error;
}

bool state_is_stopped(struct state *state, const struct state_key *key)
{
	if (!enter_question(state)) {
		return false;
	}
	int64_t id = find_mailbox(state, key);
	state_query_number(&state->queries, STATE_QUERY_GET_STOPPED, 1, id);
	bool is_stopped = id && state_query_step(&state->queries, STATE_QUERY_GET_STOPPED) &&
		sqlite3_column_int(state_query_row(&state->queries, STATE_QUERY_GET_STOPPED), 0) !=
			0;
	state_query_end(&state->queries, STATE_QUERY_GET_STOPPED);
	leave_question(state);
	return is_stopped;
}

bool state_was_listed(struct state *state, const struct state_key *key)
{
	if (!enter_question(state)) {
		return false;
	}
	bool was_listed = false;
	char *host = lower(key->host);
	if (host) {
		state_query_text(&state->queries, STATE_QUERY_GET_LISTED, 1, host);
		state_query_text(&state->queries, STATE_QUERY_GET_LISTED, 2, key->user);
		was_listed = state_query_step(&state->queries, STATE_QUERY_GET_LISTED);
		state_query_end(&state->queries, STATE_QUERY_GET_LISTED);
		free(host);
	} else {
		fail(state, -ENOMEM);
	}
	leave_question(state);
	return was_listed;
}

static bool is_uid(int64_t number)
{
	return number >= 1 && number <= UINT32_MAX;
}

/* The rows were held against CHECKs when the file was opened, but runs that overlap would not have
 * been noticed. */
static int load_runs(struct state *state, int64_t id, struct runs *runs)
{
	int r = 0;
	int64_t highest = 0;
	state_query_number(&state->queries, STATE_QUERY_GET_RUNS, 1, id);
	while (r == 0 && state_query_step(&state->queries, STATE_QUERY_GET_RUNS)) {
		struct row row;
		read_row(state_query_row(&state->queries, STATE_QUERY_GET_RUNS), &row);
		if (row.first <= highest || !is_uid(row.first) || !is_uid(row.last) ||
			row.last < row.first || row.value < 0 || row.value > UINT16_MAX) {
			r = -EBADMSG;
			break;
		}
		r = runs_set(runs, (uint32_t)row.first, (uint32_t)row.last, (uint16_t)row.value);
		highest = row.last;
	}
	state_query_end(&state->queries, STATE_QUERY_GET_RUNS);
	return r;
}

static int load_cursor(struct state *state, int64_t id, struct state_cursor *ret_cursor)
{
	state_query_number(&state->queries, STATE_QUERY_GET_CURSOR, 1, id);
	int r = -EBADMSG;
	if (state_query_step(&state->queries, STATE_QUERY_GET_CURSOR)) {
		sqlite3_stmt *statement = state_query_row(&state->queries, STATE_QUERY_GET_CURSOR);
		int64_t uidvalidity = sqlite3_column_int64(statement, 0);
		int64_t uidnext = sqlite3_column_int64(statement, 1);
		int64_t modseq = sqlite3_column_int64(statement, 2);
		if (uidvalidity >= 0 && uidvalidity <= UINT32_MAX && uidnext >= 0 &&
			uidnext <= UINT32_MAX && modseq >= 0) {
			*ret_cursor = (struct state_cursor){
				.uidvalidity = (uint32_t)uidvalidity,
				.uidnext = (uint32_t)uidnext,
				.highestmodseq = (uint64_t)modseq,
				.has_flags = sqlite3_column_int(statement, 3) != 0,
			};
			r = 0;
		}
	}
	state_query_end(&state->queries, STATE_QUERY_GET_CURSOR);
	return r;
}

static void load_flags(struct state *state, int64_t id,
	void (*flags)(void *userdata, const struct state_flags *flags), void *userdata)
{
	state_query_number(&state->queries, STATE_QUERY_GET_FLAGS, 1, id);
	while (state_query_step(&state->queries, STATE_QUERY_GET_FLAGS)) {
		sqlite3_stmt *statement = state_query_row(&state->queries, STATE_QUERY_GET_FLAGS);
		int64_t value = sqlite3_column_int64(statement, 0);
		const unsigned char *text = sqlite3_column_text(statement, 1);
		if (!text) {
			fail(state, -ENOMEM);
		} else if (value >= 0 && value <= UINT16_MAX) {
			flags(userdata,
				&(struct state_flags){
					.value = (uint16_t)value,
					.flags = (const char *)text,
				});
		}
	}
	state_query_end(&state->queries, STATE_QUERY_GET_FLAGS);
}

int state_load(struct state *state, const struct state_key *key, struct state_cursor *ret_cursor,
	struct runs *runs, void (*flags)(void *userdata, const struct state_flags *flags),
	void *userdata)
{
	struct state_cursor cursor = {0};
	int r = 0;
	if (enter_question(state)) {
		int64_t id = find_mailbox(state, key);
		r = id ? load_cursor(state, id, &cursor) : 0;
		if (r == 0 && cursor.uidvalidity != 0) {
			r = load_runs(state, id, runs);
		}
		if (r == 0 && cursor.uidvalidity != 0) {
			load_flags(state, id, flags, userdata);
		}
		int error = leave_question(state);
		r = error ? error : r;
	}
	if (r == -EBADMSG) {
		log_warning(NULL, key->mailbox,
			"state: what is stored of it makes no sense; it begins anew");
		cursor = (struct state_cursor){0};
		r = 0;
		runs_done(runs);
		runs_init(runs);
	}
	if (r < 0) {
		runs_done(runs);
		runs_init(runs);
		return r == -ENOMEM ? r : -EIO;
	}
	*ret_cursor = cursor;
	return 0;
}

int state_load_told(struct state *state, const struct state_key *key,
	void (*told)(void *userdata, uint32_t uid, uint64_t modseq), void *userdata)
{
	if (!enter_question(state)) {
		return 0;
	}
	int64_t id = find_mailbox(state, key);
	state_query_number(&state->queries, STATE_QUERY_GET_TOLD, 1, id);
	while (id && state_query_step(&state->queries, STATE_QUERY_GET_TOLD)) {
		sqlite3_stmt *statement = state_query_row(&state->queries, STATE_QUERY_GET_TOLD);
		int64_t uid = sqlite3_column_int64(statement, 0);
		int64_t modseq = sqlite3_column_int64(statement, 1);
		if (is_uid(uid) && modseq > 0) {
			told(userdata, (uint32_t)uid, (uint64_t)modseq);
		}
	}
	state_query_end(&state->queries, STATE_QUERY_GET_TOLD);
	int error = leave_question(state);
	return error < 0 && error != -ENOMEM ? -EIO : error;
}
