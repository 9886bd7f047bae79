#include <stdio.h>
#include <stdlib.h>

#include "connection_private.h"
#include "terms.h"
#include "util/clock.h"
#include "util/log.h"

/* An attempt is not made more often than this, however often somebody asks: one that came to
 * nothing, or to a session that was over at once, would be made in a loop. */
#define HURRY_USEC USEC_PER_SEC

/* The same after news of the network, which come in swarms: an address, then a route. Doubled each
 * time, since there are machines on which they never end. */
#define NEWS_USEC         (200 * USEC_PER_MSEC)
#define N_HURRIED_HIGHEST 5
#define CALM_USEC         (30 * USEC_PER_SEC)

/* A name that is still being resolved after so long is perhaps asked of a network that is gone. */
#define RESOLVED_USEC USEC_PER_SEC

/* -- beginnings -- */

bool connection_is_under_way(const struct connection *connection)
{
	return connection->state == CONNECTION_UNLOCKING ||
		connection->state == CONNECTION_DIALING || connection->state == CONNECTION_ONLINE ||
		connection->state == CONNECTION_CLOSING;
}

void connection_start(struct connection *connection)
{
	if (connection_is_under_way(connection)) {
		return;
	}
	connection->is_stopping = false;
	failure_forget(&connection->failure);
	connection->retry_at = USEC_NEVER;
	connection->is_following = false;
	connection->tried = connection_now(connection);
	connection->n_hurried = connection->is_hurried ? connection->n_hurried + 1 : 0;
	connection->is_hurried = false;
	connection_enter(connection, CONNECTION_UNLOCKING);
	if (key_is_open_to(connection->setup.key, &connection->key_user)) {
		/* Those that start together share what is fetched. What goes wrong here is seen
		 * when its task joins again. */
		key_join(connection->setup.key, &connection->key_user);
	}
	task_wake(&connection->task);
}

static void wait_until(struct connection *connection, uint64_t retry)
{
	uint64_t now = connection_now(connection);
	connection->retry_at = retry;
	connection->next_try_usec = clock_realtime_usec() + (retry > now ? retry - now : 0);
	connection->is_following = false;
	connection_enter(connection, CONNECTION_WAITING);
	task_wake(&connection->task);
}

static void try_after(struct connection *connection, uint64_t pause_usec)
{
	uint64_t soonest = connection->tried + pause_usec;
	if (soonest <= connection_now(connection)) {
		connection_start(connection);
	} else if (soonest < connection->retry_at) {
		wait_until(connection, soonest);
	}
}

void connection_hurry(struct connection *connection)
{
	if (connection->is_following) {
		return;
	}
	if (connection->state == CONNECTION_WAITING) {
		try_after(connection, HURRY_USEC);
	} else if (connection->state == CONNECTION_OFFLINE) {
		connection_start(connection);
	}
}

void connection_follow(struct connection *connection, const struct connection *leader)
{
	key_leave(connection->setup.key, &connection->key_user);
	gate_leave(connection->setup.gate, &connection->gate_pass);
	failure_keep(&connection->failure, failure_kept(leader->failure));
	connection->retry_at = USEC_NEVER;
	connection->next_try_usec = leader->next_try_usec;
	connection->is_following = true;
	connection_enter(connection, leader->state);
}

/* -- ends -- */

static uint64_t choose_wait(struct connection *connection, enum imap_end end, uint64_t retry_after)
{
	struct key *key = connection->setup.key;
	enum key_verdict verdict = KEY_LATER;
	if (end == IMAP_END_CREDENTIALS) {
		verdict = key_refused(key, &connection->key_user);
	}
	uint64_t wait = retry_wait_usec(&connection->retry, end, retry_after, verdict);
	if (end == IMAP_END_TOKEN) {
		key_discard(key);
	}
	return wait;
}

static void log_end(const struct connection *connection, uint64_t wait)
{
	const struct failure *failure = failure_kept(connection->failure);
	char next[64] = "not tried again by itself";
	if (wait != USEC_NEVER) {
		snprintf(next, sizeof(next), "next attempt in %.1f s",
			(double)wait / (double)USEC_PER_SEC);
	}
	log_warning(connection->setup.config->name, NULL, "connection=%u ended, %s: %s: %s",
		connection->setup.number, next, failure_name(failure->kind), failure->text);
}

void connection_rest(struct connection *connection)
{
	connection->is_stopping = false;
	failure_forget(&connection->failure);
	connection_enter(connection, CONNECTION_STOPPED);
}

/* The owner learns of it by the event CLOSED. */
static void put_closed(
	struct connection *connection, const struct failure *failure, enum imap_end end)
{
	if (!connection->closed) {
		connection->closed = malloc(sizeof(*connection->closed));
	}
	if (connection->closed) {
		*connection->closed = (struct imap_event){
			.kind = IMAP_EVENT_CLOSED,
			.failure = *failure,
			.end = end,
		};
	}
	connection->has_closed = true;
	connection->was_logged_in = connection->is_logged_in;
}

/* Whether that is why an attempt came to nothing. What is on this machine needs none. */
static bool lacks_network(const struct connection *connection, enum imap_end end)
{
	if (connection->setup.surroundings->has_network || connection->is_logged_in) {
		return false;
	}
	if (end == IMAP_END_CREDENTIALS) {
		return key_needs_network(connection->setup.key);
	}
	return connection->stream && stream_is_unreachable(connection->stream) &&
		!terms_is_local(connection->setup.config);
}

static void lie_down(struct connection *connection, const struct failure *failure)
{
	struct failure offline;
	failure_set(&offline, FAILURE_OFFLINE, "there is no network: %s", failure->text);
	put_closed(connection, &offline, IMAP_END_ORDINARY);
	connection_tear_down(connection);
	failure_keep(&connection->failure, &offline);
	connection->retry_at = USEC_NEVER;
	connection->is_following = false;
	log_info(connection->setup.config->name, NULL, "connection=%u is offline: %s",
		connection->setup.number, offline.text);
	connection_enter(connection, CONNECTION_OFFLINE);
	task_wake(&connection->task);
}

/* Not the wait after a failure, but neither a reason to forget those before. */
void connection_begin_anew(struct connection *connection, const struct failure *failure)
{
	log_info(connection->setup.config->name, NULL, "connection=%u cut: %s",
		connection->setup.number, failure->text);
	put_closed(connection, failure, IMAP_END_ORDINARY);
	connection_tear_down(connection);
	connection_enter(connection, CONNECTION_WAITING);
	connection_start(connection);
}

void connection_over(struct connection *connection, const struct failure *failure,
	enum imap_end end, uint64_t retry_after)
{
	if (end == IMAP_END_STUMBLED && !connection->is_stopping) {
		connection_begin_anew(connection, failure);
		return;
	}
	if (!connection->is_stopping && lacks_network(connection, end)) {
		lie_down(connection, failure);
		return;
	}
	put_closed(connection, failure, end);
	if (connection->is_stopping || !failure_is_set(failure)) {
		struct stream *stream = connection->stream;
		connection->stream = NULL;
		connection_tear_down(connection);
		connection->stream = stream;
		if (stream && stream_state(stream) == STREAM_OPEN) {
			stream_close(stream);
			connection_enter(connection, CONNECTION_CLOSING);
		} else {
			connection->stream = stream_free(stream);
			connection_rest(connection);
		}
		task_wake(&connection->task);
		return;
	}
	uint64_t wait = choose_wait(connection, end, retry_after);
	connection_tear_down(connection);
	failure_keep(&connection->failure, failure);
	connection->end = end;
	log_end(connection, wait);
	if (wait == USEC_NEVER) {
		connection_enter(connection, CONNECTION_FAILED);
		task_wake(&connection->task);
	} else {
		wait_until(connection, connection_now(connection) + wait);
	}
}

void connection_over_for(struct connection *connection, enum failure_kind kind, const char *text)
{
	struct failure failure;
	failure_set(&failure, kind, "%s", text);
	connection_over(connection, &failure, IMAP_END_ORDINARY, 0);
}

void connection_abort(struct connection *connection, const struct failure *failure)
{
	if (connection->state == CONNECTION_DIALING || connection->state == CONNECTION_ONLINE) {
		connection_over(connection, failure, IMAP_END_ORDINARY, 0);
	}
}

void connection_cut(struct connection *connection)
{
	if (connection->client) {
		put_closed(connection, &(struct failure){0}, IMAP_END_ORDINARY);
	}
	connection_tear_down(connection);
	connection->retry_at = USEC_NEVER;
	connection_rest(connection);
	task_wake(&connection->task);
}

void connection_stop(struct connection *connection)
{
	connection->is_stopping = true;
	if (connection->state == CONNECTION_ONLINE) {
		/* Also while it logs in: the engine knows how to leave. */
		imap_client_logout(connection->client, connection_now(connection));
		task_wake(&connection->task);
	} else if (connection->state != CONNECTION_CLOSING) {
		connection_cut(connection);
	}
}

/* -- changes of the network -- */

/* What is wrong with it may be over: portals of hotels have certificates, too. Throttling, limits
 * and credentials are not the network's. */
static bool waits_for_network(const struct connection *connection)
{
	enum failure_kind kind = failure_kept(connection->failure)->kind;
	return connection->end == IMAP_END_ORDINARY &&
		(kind == FAILURE_OFFLINE || kind == FAILURE_TIMEOUT ||
			kind == FAILURE_CERTIFICATE_INVALID);
}

static void try_for_news(struct connection *connection)
{
	if (connection->tried + CALM_USEC <= connection_now(connection)) {
		connection->n_hurried = 0;
	} else if (connection->n_hurried > N_HURRIED_HIGHEST) {
		connection->n_hurried = N_HURRIED_HIGHEST;
	}
	connection->is_hurried = true;
	try_after(connection, NEWS_USEC << connection->n_hurried);
}

static void lose_way(struct connection *connection)
{
	struct failure failure;
	failure_set(&failure, FAILURE_OFFLINE, "the way to the server is gone");
	connection_begin_anew(connection, &failure);
}

static void check_dialing(struct connection *connection, bool has_more)
{
	enum path path = stream_path(connection->stream);
	bool is_stuck = path == PATH_UNKNOWN && has_more &&
		connection->tried + RESOLVED_USEC <= connection_now(connection);
	if (path == PATH_GONE || is_stuck) {
		/* Nothing was said yet: the secret, and the place in the gate, are kept. */
		connection->stream = stream_free(connection->stream);
		connection->tried = connection_now(connection);
		connection_enter(connection, CONNECTION_UNLOCKING);
		task_wake(&connection->task);
	}
}

static void check_online(struct connection *connection, bool has_more)
{
	enum path path = stream_path(connection->stream);
	if (path == PATH_GONE) {
		lose_way(connection);
	} else if (connection->is_logged_in && (has_more || path != PATH_SAME)) {
		imap_client_probe(connection->client, connection_now(connection));
		task_wake(&connection->task);
	}
}

void connection_check(struct connection *connection, bool has_more)
{
	switch (connection->state) {
	case CONNECTION_STOPPED:
	case CONNECTION_UNLOCKING:
	case CONNECTION_CLOSING:
	case CONNECTION_FAILED:
		break;
	case CONNECTION_WAITING:
		if (!connection->is_following && waits_for_network(connection)) {
			try_for_news(connection);
		}
		break;
	case CONNECTION_OFFLINE:
		if (!connection->is_following &&
			(has_more || connection->setup.surroundings->has_network)) {
			try_for_news(connection);
		}
		break;
	case CONNECTION_DIALING:
		check_dialing(connection, has_more);
		break;
	case CONNECTION_ONLINE:
		if (!connection->is_stopping) {
			check_online(connection, has_more);
		}
		break;
	}
}
