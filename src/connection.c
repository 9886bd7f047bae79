#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection_private.h"
#include "terms.h"
#include "transcript.h"
#include "util/clock.h"
#include "util/log.h"

/* So long in IDLE, and what was wrong before is forgiven. */
#define PROBATION_USEC (60 * USEC_PER_SEC)

const char *connection_state_name(enum connection_state state)
{
	switch (state) {
	case CONNECTION_STOPPED:
		return "stopped";
	case CONNECTION_WAITING:
		return "waiting";
	case CONNECTION_OFFLINE:
		return "offline";
	case CONNECTION_UNLOCKING:
		return "unlocking";
	case CONNECTION_DIALING:
		return "dialing";
	case CONNECTION_ONLINE:
		return "online";
	case CONNECTION_CLOSING:
		return "closing";
	case CONNECTION_FAILED:
		return "failed";
	}
	return "";
}

void connection_enter(struct connection *connection, enum connection_state state)
{
	if (connection->state == state) {
		return;
	}
	log_debug(connection->setup.config->name, NULL, "connection=%u state=%s was=%s",
		connection->setup.number, connection_state_name(state),
		connection_state_name(connection->state));
	connection->state = state;
}

struct connection *connection_new(
	const struct connection_setup *setup, void (*run)(struct task *task), void *owner)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	if (!connection) {
		return NULL;
	}
	connection->setup = *setup;
	connection->owner = owner;
	connection->retry_at = USEC_NEVER;
	task_init(&connection->task, setup->turn, run);
	retry_init(&connection->retry, clock_random());
	key_user_init(&connection->key_user, &connection->task);
	gate_pass_init(&connection->gate_pass, &connection->task);
	bytes_init(&connection->trace);
	return connection;
}

void connection_tear_down(struct connection *connection)
{
	gate_leave(connection->setup.gate, &connection->gate_pass);
	key_leave(connection->setup.key, &connection->key_user);
	connection->client = imap_client_free(connection->client);
	connection->stream = stream_free(connection->stream);
	connection->leftover = (struct span){0};
	connection->is_logged_in = false;
	connection->is_securing = false;
	connection->is_key_kept = false;
}

static void free_names(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
	}
	free(names);
}

struct connection *connection_free(struct connection *connection)
{
	if (!connection) {
		return NULL;
	}
	connection_tear_down(connection);
	task_done(&connection->task);
	bytes_done(&connection->trace);
	failure_forget(&connection->failure);
	free(connection->closed);
	free_names(connection->others, connection->n_others);
	free(connection);
	return NULL;
}

struct connection *connection_of(struct task *task)
{
	return list_entry(task, struct connection, task);
}

void *connection_owner(const struct connection *connection)
{
	return connection->owner;
}

void connection_set_config(struct connection *connection, const struct config_account *config)
{
	connection->setup.config = config;
}

void connection_allow(struct connection *connection, bool may_dial)
{
	if (may_dial && !connection->may_dial) {
		task_wake(&connection->task);
	}
	connection->may_dial = may_dial;
}

void connection_hold(struct connection *connection, bool is_held)
{
	if (connection->is_held && !is_held) {
		task_wake(&connection->task);
	}
	connection->is_held = is_held;
}

void connection_keep_key(struct connection *connection, bool is_kept)
{
	connection->is_key_kept = is_kept;
	if (!is_kept && connection->is_logged_in) {
		key_leave(connection->setup.key, &connection->key_user);
	}
}

int connection_watch(struct connection *connection, struct imap_mailbox *view)
{
	connection->watched = view;
	task_wake(&connection->task);
	if (!connection->client) {
		return 0;
	}
	return imap_client_watch(connection->client, view, connection_now(connection));
}

void connection_drop(struct connection *connection, struct imap_mailbox *view)
{
	if (connection->watched == view) {
		connection->watched = NULL;
	}
	if (connection->client) {
		imap_client_drop(connection->client, view, connection_now(connection));
	}
	task_wake(&connection->task);
}

static bool has_others(const struct connection *connection, const char *const *names, size_t n)
{
	bool is_same = n == connection->n_others;
	for (size_t i = 0; is_same && i < n; i++) {
		is_same = strcmp(names[i], connection->others[i]) == 0;
	}
	return is_same;
}

static int tell_others(struct connection *connection)
{
	return imap_client_watch_others(connection->client, (const char *const *)connection->others,
		connection->n_others, connection_now(connection));
}

int connection_watch_others(struct connection *connection, const char *const *names, size_t n)
{
	if (has_others(connection, names, n)) {
		return 0;
	}
	char **copies = n > 0 ? calloc(n, sizeof(*copies)) : NULL;
	for (size_t i = 0; copies && i < n; i++) {
		copies[i] = strdup(names[i]);
		if (!copies[i]) {
			free_names(copies, i);
			copies = NULL;
		}
	}
	if (n > 0 && !copies) {
		return -ENOMEM;
	}
	free_names(connection->others, connection->n_others);
	connection->others = copies;
	connection->n_others = n;
	task_wake(&connection->task);
	if (connection->client && tell_others(connection) < 0) {
		return -ENOMEM;
	}
	return 1;
}

/* -- the work -- */

static bool dial(struct connection *connection)
{
	struct stream_target target = terms_target(connection->setup.config);
	int error =
		stream_new(connection->setup.turn, &connection->task, &target, &connection->stream);
	if (error < 0) {
		connection_over_for(connection, FAILURE_LIMIT_EXCEEDED, strerror(-error));
		return true;
	}
	connection_enter(connection, CONNECTION_DIALING);
	return true;
}

/* The key is asked for even by those that must wait for another connection, so that all of them
 * share what is fetched. */
static bool unlock(struct connection *connection)
{
	struct key *key = connection->setup.key;
	if (key_has_failed(key)) {
		connection_tear_down(connection);
		struct failure refused;
		failure_set(&refused, FAILURE_AUTHENTICATION_FAILED,
			"the server refused the credentials twice");
		failure_keep(&connection->failure, &refused);
		connection_enter(connection, CONNECTION_FAILED);
		return false;
	}
	if (!key_is_open_to(key, &connection->key_user)) {
		return false;
	}
	int error = key_join(key, &connection->key_user);
	if (error < 0) {
		connection_over_for(connection, FAILURE_AUTHENTICATION_FAILED, strerror(-error));
		return true;
	}
	switch (key_status(key)) {
	case KEY_PENDING:
		return false;
	case KEY_UNAVAILABLE: {
		struct failure failure = *key_failure(key);
		connection_over(connection, &failure, IMAP_END_CREDENTIALS, 0);
		return true;
	}
	case KEY_READY:
		break;
	}
	if (!connection->may_dial || !gate_enter(connection->setup.gate, &connection->gate_pass)) {
		return false;
	}
	return dial(connection);
}

static bool begin_conversation(struct connection *connection)
{
	struct key *key = connection->setup.key;
	struct imap_client_options options =
		terms_options(connection->setup.config, key_kind(key), key_is_without_plus(key));
	options.seed = clock_random();
	options.memory = servers_recall(connection->setup.servers, connection->setup.config);
	servers_advise(connection->setup.servers, connection->setup.config, &options);
	uint64_t now = connection_now(connection);
	connection->client = imap_client_new(&options, now);
	if (!connection->client) {
		connection_over_for(connection, FAILURE_LIMIT_EXCEEDED, "out of memory");
		return true;
	}
	if (connection->setup.trace_fd >= 0) {
		imap_client_set_trace(connection->client, &connection->trace);
	}
	connection_enter(connection, CONNECTION_ONLINE);
	if (tell_others(connection) < 0 ||
		(connection->watched &&
			imap_client_watch(connection->client, connection->watched, now) < 0)) {
		connection_over_for(connection, FAILURE_LIMIT_EXCEEDED, "out of memory");
	}
	return true;
}

static struct failure stream_end(const struct connection *connection)
{
	struct failure failure = *stream_failure(connection->stream);
	if (!failure_is_set(&failure)) {
		failure_set(&failure, FAILURE_OFFLINE, "the connection was closed");
	}
	return failure;
}

static bool wait_for_stream(struct connection *connection)
{
	switch (stream_state(connection->stream)) {
	case STREAM_CONNECTING:
	case STREAM_HANDSHAKING:
	case STREAM_CLOSING:
		return false;
	case STREAM_OPEN:
		return begin_conversation(connection);
	case STREAM_CLOSED:
		break;
	}
	struct failure failure = stream_end(connection);
	connection_over(connection, &failure, IMAP_END_ORDINARY, 0);
	return true;
}

static void lose_stream(struct connection *connection)
{
	struct failure failure = stream_end(connection);
	imap_client_disconnected(connection->client, &failure, connection_now(connection));
}

static void tick(struct connection *connection)
{
	uint64_t slack;
	uint64_t now = connection_now(connection);
	if (imap_client_deadline(connection->client, &slack) <= now) {
		imap_client_tick(connection->client, now);
	}
}

/* STARTTLS is on its way: nothing is read or written until the handshake is done. */
static bool secure(struct connection *connection)
{
	switch (stream_state(connection->stream)) {
	case STREAM_CONNECTING:
	case STREAM_HANDSHAKING:
	case STREAM_CLOSING:
		break;
	case STREAM_OPEN:
		connection->is_securing = false;
		imap_client_secured(connection->client, connection_now(connection));
		return true;
	case STREAM_CLOSED:
		connection->is_securing = false;
		lose_stream(connection);
		return true;
	}
	tick(connection);
	return false;
}

static void forgive(struct connection *connection, uint64_t now)
{
	uint64_t since = imap_client_idling_since(connection->client);
	if (since != 0 && now >= since && now - since >= PROBATION_USEC) {
		retry_forgive(&connection->retry);
	}
}

/* Leaving goes on in any case. */
static bool is_held(const struct connection *connection)
{
	return connection->is_held && !connection->is_stopping;
}

static bool converse(struct connection *connection)
{
	uint64_t now = connection_now(connection);
	forgive(connection, now);
	if (connection->is_securing) {
		return secure(connection);
	}
	if (is_held(connection)) {
		return false;
	}
	const struct connection_setup *setup = &connection->setup;
	ssize_t len = stream_read(connection->stream, setup->buffer, setup->buffer_size);
	if (len < 0) {
		lose_stream(connection);
		return true;
	}
	if (len > 0) {
		size_t consumed =
			imap_client_receive(connection->client, setup->buffer, (size_t)len, now);
		connection->leftover = (struct span){
			.data = setup->buffer + consumed,
			.len = (size_t)len - consumed,
		};
		return true;
	}
	/* Only now: what was late because we were is not the server's fault. */
	tick(connection);
	return false;
}

bool connection_step(struct connection *connection)
{
	switch (connection->state) {
	case CONNECTION_STOPPED:
	case CONNECTION_OFFLINE:
	case CONNECTION_FAILED:
		return false;
	case CONNECTION_WAITING:
		if (connection->retry_at > connection_now(connection) ||
			connection->setup.surroundings->is_asleep) {
			return false;
		}
		connection_start(connection);
		return true;
	case CONNECTION_UNLOCKING:
		return unlock(connection);
	case CONNECTION_DIALING:
		return wait_for_stream(connection);
	case CONNECTION_ONLINE:
		return converse(connection);
	case CONNECTION_CLOSING:
		if (stream_state(connection->stream) == STREAM_CLOSED) {
			connection->stream = stream_free(connection->stream);
			connection_rest(connection);
		}
		return false;
	}
	return false;
}

static void start_tls(struct connection *connection)
{
	int error = stream_start_tls(connection->stream);
	if (error < 0) {
		connection_over_for(connection, FAILURE_PROTOCOL_ERROR, "TLS could not be begun");
		return;
	}
	connection->is_securing = true;
}

static void start_deflate(struct connection *connection)
{
	int error = stream_start_deflate(connection->stream, connection->leftover);
	connection->leftover = (struct span){0};
	if (error < 0) {
		connection_over_for(
			connection, FAILURE_PROTOCOL_ERROR, "DEFLATE could not be begun");
		return;
	}
	imap_client_compressed(connection->client, connection_now(connection));
}

static void give_credentials(struct connection *connection)
{
	const struct key *key = connection->setup.key;
	struct imap_credentials credentials = terms_credentials(
		connection->setup.config, key_kind(key), key_value(key), connection->stream);
	if (credentials.kind != IMAP_SECRET_NONE && !credentials.secret) {
		/* Somebody else found out that it is of no use: a new one is fetched. */
		connection_over_for(connection, FAILURE_AUTHENTICATION_FAILED,
			"the credentials were refused to another connection");
		return;
	}
	imap_client_credentials(connection->client, &credentials, connection_now(connection));
}

static void note_login(struct connection *connection)
{
	connection->is_logged_in = true;
	gate_leave(connection->setup.gate, &connection->gate_pass);
	key_accepted(connection->setup.key, &connection->key_user);
	if (!connection->is_key_kept) {
		key_leave(connection->setup.key, &connection->key_user);
	}
	log_info(connection->setup.config->name, NULL, "connection=%u logged in by %s to %s",
		connection->setup.number,
		imap_client_mechanism(connection->client)
			? imap_client_mechanism(connection->client)
			: "PREAUTH",
		stream_peer(connection->stream));
}

/* What this login led to, the next one may assume. */
static void note_memory(struct connection *connection)
{
	struct imap_memory memory;
	imap_client_take_memory(connection->client, &memory);
	servers_remember(connection->setup.servers, connection->setup.config, &memory);
}

static void note_end(struct connection *connection, const struct imap_event *event)
{
	const struct connection_setup *setup = &connection->setup;
	servers_note_end(setup->servers, setup->config, connection->client);
	if (event->end == IMAP_END_CREDENTIALS) {
		/* Before it counts a second time it is heard without any assumption. */
		servers_forget(setup->servers, setup->config);
	}
}

static void note_plus(struct connection *connection)
{
	if (imap_client_plus_failed(connection->client)) {
		key_set_without_plus(connection->setup.key);
	}
}

/* Whether the event is for the owner. */
static bool handle(struct connection *connection, struct imap_event *event)
{
	switch (event->kind) {
	case IMAP_EVENT_START_TLS:
		start_tls(connection);
		return false;
	case IMAP_EVENT_START_DEFLATE:
		start_deflate(connection);
		return false;
	case IMAP_EVENT_CREDENTIALS:
		give_credentials(connection);
		return false;
	case IMAP_EVENT_READY:
		note_plus(connection);
		note_login(connection);
		note_memory(connection);
		return true;
	case IMAP_EVENT_CLOSED: {
		note_plus(connection);
		note_end(connection, event);
		struct failure failure = event->failure;
		connection_over(connection, &failure, event->end, event->retry_after_usec);
		return false;
	}
	case IMAP_EVENT_STATE:
	case IMAP_EVENT_BASELINE:
	case IMAP_EVENT_NEW:
	case IMAP_EVENT_FLAGS:
	case IMAP_EVENT_EXPUNGED:
	case IMAP_EVENT_SYNCHRONISED:
	case IMAP_EVENT_MAILBOX_FAILED:
	case IMAP_EVENT_NOTIFY:
	case IMAP_EVENT_CHANGED_ELSEWHERE:
	case IMAP_EVENT_LISTED:
	case IMAP_EVENT_MESSAGE:
	case IMAP_EVENT_CHUNK:
	case IMAP_EVENT_MOVED:
	case IMAP_EVENT_DONE:
		return true;
	}
	return true;
}

/* In place of the event that there was no memory for. Nobody takes anything from it. */
static struct imap_event closed_without_memory = {
	.kind = IMAP_EVENT_CLOSED,
	.failure = {FAILURE_LIMIT_EXCEEDED, "out of memory"},
};

struct imap_event *connection_next_event(struct connection *connection)
{
	while (!connection->has_closed && connection->client) {
		struct imap_event *event = imap_client_next_event(connection->client);
		if (!event) {
			return NULL;
		}
		if (handle(connection, event)) {
			return event;
		}
	}
	if (!connection->has_closed) {
		free(connection->closed);
		connection->closed = NULL;
		return NULL;
	}
	connection->has_closed = false;
	return connection->closed ? connection->closed : &closed_without_memory;
}

static void send(struct connection *connection)
{
	for (;;) {
		struct span span = imap_client_output(connection->client);
		if (span.len == 0) {
			return;
		}
		ssize_t len = stream_write(connection->stream, span);
		if (len < 0) {
			/* The next read says why. */
			task_wake(&connection->task);
			return;
		}
		if (len == 0) {
			return;
		}
		imap_client_sent(connection->client, (size_t)len, connection_now(connection));
	}
}

void connection_flush(struct connection *connection)
{
	if (bytes_len(&connection->trace) > 0) {
		transcript_write(&connection->trace, connection->setup.trace_fd,
			connection->setup.config->name, connection->setup.number);
	}
	uint64_t deadline = USEC_NEVER;
	uint64_t slack = 0;
	if (connection->state == CONNECTION_ONLINE) {
		if (!connection->is_securing) {
			send(connection);
		}
		if (!is_held(connection)) {
			deadline = imap_client_deadline(connection->client, &slack);
		}
	} else if (connection->state == CONNECTION_WAITING &&
		!connection->setup.surroundings->is_asleep) {
		deadline = connection->retry_at;
	}
	if (task_set_deadline(&connection->task, deadline, slack) < 0) {
		task_wake(&connection->task);
	}
}

void connection_wake(struct connection *connection)
{
	task_wake(&connection->task);
}

/* -- questions -- */

enum connection_state connection_state(const struct connection *connection)
{
	return connection->state;
}

struct imap_client *connection_client(const struct connection *connection)
{
	return connection->client;
}

struct imap_mailbox *connection_watched(const struct connection *connection)
{
	return connection->watched;
}

bool connection_is_logged_in(const struct connection *connection)
{
	return connection->is_logged_in && !connection->is_stopping;
}

bool connection_is_immediate(const struct connection *connection)
{
	return connection->state == CONNECTION_WAITING &&
		connection->retry_at <= connection_now(connection);
}

bool connection_was_logged_in(const struct connection *connection)
{
	return connection->was_logged_in;
}

bool connection_is_stopping(const struct connection *connection)
{
	return connection->is_stopping;
}

const struct failure *connection_failure(const struct connection *connection)
{
	return failure_kept(connection->failure);
}

uint64_t connection_next_try_usec(const struct connection *connection)
{
	return connection->state == CONNECTION_WAITING ? connection->next_try_usec : 0;
}

bool connection_is_following(const struct connection *connection)
{
	return (connection->state == CONNECTION_WAITING ||
		       connection->state == CONNECTION_OFFLINE) &&
		connection->is_following;
}

bool connection_is_secure(const struct connection *connection)
{
	return connection->stream && stream_is_secure(connection->stream);
}

const char *connection_tls_version(const struct connection *connection)
{
	return connection->stream ? stream_tls_version(connection->stream) : "";
}
