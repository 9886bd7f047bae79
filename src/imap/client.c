#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "imap/trace.h"
#include "util/log.h"

const char *imap_state_name(enum imap_state state)
{
	switch (state) {
	case IMAP_STATE_GREETING:
		return "greeting";
	case IMAP_STATE_STARTTLS:
		return "starttls";
	case IMAP_STATE_CAPABILITY:
		return "capability";
	case IMAP_STATE_AUTHENTICATE:
		return "authenticate";
	case IMAP_STATE_COMPRESS:
		return "compress";
	case IMAP_STATE_ENABLE:
		return "enable";
	case IMAP_STATE_READY:
		return "ready";
	case IMAP_STATE_EXAMINE:
		return "examine";
	case IMAP_STATE_SYNCHRONISE:
		return "synchronise";
	case IMAP_STATE_IDLE_REQUESTED:
		return "idle requested";
	case IMAP_STATE_IDLING:
		return "idling";
	case IMAP_STATE_IDLE_ENDING:
		return "idle ending";
	case IMAP_STATE_FETCHING:
		return "fetching";
	case IMAP_STATE_LOGOUT:
		return "logout";
	case IMAP_STATE_CLOSED:
		return "closed";
	}
	return "";
}

/* -- life -- */

/* Tags that a server cannot guess before it has seen one: four letters by chance, then a number. */
static void make_tag_prefix(struct imap_client *client, uint64_t seed)
{
	for (size_t i = 0; i < 4; i++) {
		client->tag_prefix[i] = 'A' + (char)(seed % 26);
		seed /= 26;
	}
	client->tag_prefix[4] = '\0';
}

struct imap_client *imap_client_new(const struct imap_client_options *options, uint64_t now)
{
	struct imap_client *client = calloc(1, sizeof(*client));
	if (!client) {
		return NULL;
	}
	list_init(&client->commands);
	list_init(&client->guesses);
	list_init(&client->requests);
	list_init(&client->events);
	bytes_init(&client->output);
	bytes_init(&client->capability_words);
	bytes_init(&client->secret);
	bytes_init(&client->sasl_said);
	bytes_init(&client->tls_unique);
	bytes_init(&client->tls_exporter);
	bytes_init(&client->trace_line);
	runs_init(&client->open.scan);
	runs_init(&client->open.unseen);
	runs_init(&client->open.strays);
	runs_init(&client->open.pending);
	runs_init(&client->open.expunged);
	client->options = *options;
	client->options.limits = NULL;
	client->options.memory = NULL;
	client->now = now;
	client->is_secure = options->transport == IMAP_TRANSPORT_TLS;
	client->without_plus = options->without_plus;
	client->phase_deadline = now + GREETING_USEC;
	client->probe_deadline = USEC_NEVER;
	client->renewal = USEC_NEVER;
	make_tag_prefix(client, options->seed);
	client->limits = options->limits ? *options->limits : imap_limits_default;
	client->parser = imap_parser_new(&client->limits);
	client->auth = strdup(options->auth ? options->auth : "auto");
	bool has_past = !options->memory || imap_memory_copy(&client->past, options->memory) == 0;
	if (!client->parser || !client->auth || !has_past) {
		return imap_client_free(client);
	}
	return client;
}

static struct event *event_free(struct event *event)
{
	if (event) {
		struct imap_event *e = &event->event;
		for (size_t i = 0; i < e->n_messages; i++) {
			imap_message_free(e->messages[i]);
		}
		free(e->messages);
		for (size_t i = 0; i < e->n_list; i++) {
			for (size_t k = 0; k < e->list[i].n_attributes; k++) {
				free(e->list[i].attributes[k]);
			}
			free(e->list[i].attributes);
			free(e->list[i].name);
		}
		free(e->list);
		runs_done(&e->uids);
		runs_done(&e->baseline);
		free((void *)e->chunk.data);
		free(e->moved_target);
		free(e->list_name);
		free(event);
	}
	return NULL;
}

static void free_commands(struct imap_client *client)
{
	LIST_FOR_EACH_SAFE (node, &client->commands) {
		command_free(list_entry(node, struct command, link));
	}
	LIST_FOR_EACH_SAFE (node, &client->guesses) {
		command_free(list_entry(node, struct command, link));
	}
}

struct imap_client *imap_client_free(struct imap_client *client)
{
	if (!client) {
		return NULL;
	}
	free_commands(client);
	open_forget(client);
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		request_free(client, list_entry(node, struct request, link));
	}
	LIST_FOR_EACH_SAFE (node, &client->events) {
		event_free(list_entry(node, struct event, link));
	}
	event_free(client->popped);
	login_wipe(client);
	bytes_wipe(&client->output);
	bytes_done(&client->capability_words);
	bytes_done(&client->trace_line);
	notify_done(client);
	imap_memory_done(&client->past);
	imap_memory_done(&client->memory);
	free(client->capabilities);
	free(client->namespace_prefix);
	free(client->auth);
	imap_parser_free(client->parser);
	free(client);
	return NULL;
}

/* -- states and events -- */

struct imap_event *client_event(struct imap_client *client, enum imap_event_kind kind)
{
	if (kind != IMAP_EVENT_FLAGS && kind != IMAP_EVENT_EXPUNGED && kind != IMAP_EVENT_STATE) {
		/* What changed before it is told before it. */
		follow_tell(client);
		if (client_is_over(client)) {
			return NULL;
		}
	}
	struct event *event = calloc(1, sizeof(*event));
	if (!event) {
		client_fail_memory(client);
		return NULL;
	}
	event->event.kind = kind;
	runs_init(&event->event.uids);
	runs_init(&event->event.baseline);
	list_append(&client->events, &event->link);
	return &event->event;
}

void enter(struct imap_client *client, enum imap_state state)
{
	if (client->state == state || client->state == IMAP_STATE_CLOSED) {
		return;
	}
	log_debug(NULL, NULL, "imap %s: %s -> %s", client->tag_prefix,
		imap_state_name(client->state), imap_state_name(state));
	client->state = state;
	/* CLOSED has an event of its own. States that follow each other within one turn are merged.
	 */
	if (state != IMAP_STATE_CLOSED) {
		struct list *last = client->events.prev;
		if (last == &client->events ||
			list_entry(last, struct event, link)->event.kind != IMAP_EVENT_STATE) {
			client_event(client, IMAP_EVENT_STATE);
		}
	}
}

bool client_is_over(const struct imap_client *client)
{
	return client->state == IMAP_STATE_CLOSED;
}

void client_close(struct imap_client *client, const struct failure *failure, enum imap_end end,
	uint64_t retry_after_usec)
{
	if (client_is_over(client)) {
		return;
	}
	struct failure none = {.kind = FAILURE_NONE};
	if (client->state == IMAP_STATE_LOGOUT) {
		/* It ends as wanted, whatever the last words were. */
		failure = &none;
		end = IMAP_END_ORDINARY;
		retry_after_usec = 0;
	}
	/* What is known for certain is told; what is half known will be new again. */
	follow_tell_arrivals(client, false);
	follow_tell(client);
	open_forget(client);
	enter(client, IMAP_STATE_CLOSED);
	login_wipe(client);
	bytes_wipe(&client->output);
	free_commands(client);
	/* Not by client_event(), which would come back here when out of memory. */
	struct event *event = calloc(1, sizeof(*event));
	if (!event) {
		return;
	}
	event->event.kind = IMAP_EVENT_CLOSED;
	event->event.failure = *failure;
	event->event.end = end;
	event->event.retry_after_usec = retry_after_usec;
	list_append(&client->events, &event->link);
}

void client_fail(struct imap_client *client, enum failure_kind kind, const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	struct failure failure;
	failure_set(&failure, kind, "%s", text);
	client_close(client, &failure, IMAP_END_ORDINARY, 0);
}

void client_fail_memory(struct imap_client *client)
{
	client_fail(client, FAILURE_LIMIT_EXCEEDED, "out of memory");
}

struct imap_event *imap_client_next_event(struct imap_client *client)
{
	client->popped = event_free(client->popped);
	if (list_is_empty(&client->events)) {
		return NULL;
	}
	client->popped = list_entry(client->events.next, struct event, link);
	list_remove(&client->popped->link);
	return &client->popped->event;
}

/* -- octets in -- */

void settle(struct imap_client *client)
{
	if (!client_is_over(client)) {
		open_bound(client);
	}
	if (!client_is_over(client) && !client->is_held) {
		follow_tell(client);
		notify_settle(client);
		cycle_advance(client);
		commands_flush(client);
	}
}

/* What comes of an answer that takes long is a sign of life, too, but may have lain here since
 * before the path died: it is no proof. In IDLE only the answer to DONE counts at all. */
static void postpone_probe(struct imap_client *client)
{
	const struct command *head = commands_head(client);
	if (client->probe_deadline != USEC_NEVER && head && head->kind != COMMAND_IDLE) {
		client->probe_deadline = client->now + PROBE_USEC;
	}
}

size_t imap_client_receive(struct imap_client *client, const void *data, size_t len, uint64_t now)
{
	const uint8_t *octets = data;
	size_t used = 0;
	client->now = client->heard_at = now;
	postpone_probe(client);
	while (used < len && !client_is_over(client)) {
		if (client->transport_changes) {
			if (client->state == IMAP_STATE_STARTTLS) {
				client_fail(client, FAILURE_INSECURE,
					"octets in the clear followed the server's OK to STARTTLS");
			}
			break;
		}
		const struct imap_response *response = NULL;
		size_t consumed = 0;
		int r = imap_parser_receive(
			client->parser, octets + used, len - used, &consumed, &response);
		trace_received(client, octets + used, consumed);
		used += consumed;
		if (r == -ENOMEM) {
			client_fail_memory(client);
		} else if (r < 0) {
			client_fail(client,
				r == -EMSGSIZE ? FAILURE_LIMIT_EXCEEDED : FAILURE_PROTOCOL_ERROR,
				"%s", imap_parser_problem(client->parser));
		} else if (r > 0) {
			handle_response(client, response);
		}
	}
	settle(client);
	if (client->state == IMAP_STATE_IDLING && !imap_parser_is_midway(client->parser)) {
		imap_parser_trim(client->parser);
	}
	return client_is_over(client) ? len : used;
}

void imap_client_disconnected(
	struct imap_client *client, const struct failure *failure, uint64_t now)
{
	client->now = now;
	if (client->state == IMAP_STATE_LOGOUT) {
		struct failure none = {.kind = FAILURE_NONE};
		client_close(client, &none, IMAP_END_ORDINARY, 0);
		return;
	}
	client_close(client, failure, IMAP_END_ORDINARY, 0);
}

void imap_client_secured(struct imap_client *client, uint64_t now)
{
	if (client->state != IMAP_STATE_STARTTLS || !client->transport_changes) {
		return;
	}
	client->now = now;
	/* Nothing learnt before TLS survives: a new parser, no capabilities. */
	imap_parser_free(client->parser);
	client->parser = imap_parser_new(&client->limits);
	if (!client->parser) {
		client_fail_memory(client);
		return;
	}
	client->transport_changes = false;
	client->is_secure = true;
	client->has_capabilities = false;
	client->n_capabilities = 0;
	client->phase_deadline = USEC_NEVER;
	login_recall(client);
	login_begin(client);
	settle(client);
}

void imap_client_compressed(struct imap_client *client, uint64_t now)
{
	if (client->state == IMAP_STATE_COMPRESS && client->transport_changes) {
		client->now = now;
		client->transport_changes = false;
		client->is_compressed = true;
		client->phase_deadline = USEC_NEVER;
		login_begin(client);
		settle(client);
	}
}

void imap_client_set_trace(struct imap_client *client, struct bytes *trace)
{
	client->trace = trace;
}

/* -- octets out -- */

struct span imap_client_output(const struct imap_client *client)
{
	return bytes_span(&client->output);
}

void imap_client_sent(struct imap_client *client, size_t len, uint64_t now)
{
	client->now = now;
	bytes_consume(&client->output, len);
	client->output_since = bytes_len(&client->output) > 0 ? now : 0;
	if (bytes_len(&client->output) == 0 && client->output.size > 0) {
		/* It may have carried a password. */
		bytes_wipe(&client->output);
	}
}

/* -- time -- */

uint64_t imap_client_deadline(const struct imap_client *client, uint64_t *ret_slack)
{
	*ret_slack = 0;
	if (client_is_over(client)) {
		return USEC_NEVER;
	}
	uint64_t deadline = client->phase_deadline;
	if (client->output_since && client->output_since + UNSENT_USEC < deadline) {
		deadline = client->output_since + UNSENT_USEC;
	}
	if (client->probe_deadline < deadline) {
		deadline = client->probe_deadline;
	}
	uint64_t silence = stumble_deadline(client);
	if (silence < deadline) {
		deadline = silence;
	}
	const struct command *head = commands_awaited(client);
	if (head && head->deadline < deadline) {
		deadline = head->deadline;
	}
	if (client->open.confirm_at && client->open.confirm_at < deadline) {
		deadline = client->open.confirm_at;
	}
	if (client->notify.data_due && client->notify.data_due < deadline) {
		deadline = client->notify.data_due;
	}
	if (client->renewal < deadline) {
		deadline = client->renewal;
		*ret_slack = client->renewal_slack;
	}
	return deadline;
}

void imap_client_tick(struct imap_client *client, uint64_t now)
{
	client->now = now;
	if (client_is_over(client)) {
		return;
	}
	const struct command *head = commands_awaited(client);
	if (client->state == IMAP_STATE_LOGOUT && client->phase_deadline <= now) {
		struct failure none = {.kind = FAILURE_NONE};
		client_close(client, &none, IMAP_END_ORDINARY, 0);
	} else if (client->phase_deadline <= now) {
		client_fail(client, FAILURE_TIMEOUT, "no answer in time (%s)",
			imap_state_name(client->state));
	} else if (client->output_since && client->output_since + UNSENT_USEC <= now) {
		client_fail(client, FAILURE_TIMEOUT, "the server does not read what it is sent");
	} else if (client->probe_deadline <= now) {
		client_fail(client, FAILURE_TIMEOUT, "the server gave no proof of life");
	} else if (head && head->deadline <= now) {
		client->stumble = head->in_company ? IMAP_STUMBLE_HUNG : IMAP_STUMBLE_NONE;
		client_fail(client, FAILURE_TIMEOUT, "no answer in time to %s%s",
			head->is_done ? "DONE of " : "", command_name(head->kind));
	} else if (stumble_deadline(client) <= now) {
		stumble_tick(client);
	} else {
		cycle_tick(client);
		settle(client);
	}
}

/* -- intents -- */

int imap_client_watch(struct imap_client *client, struct imap_mailbox *mailbox, uint64_t now)
{
	client->now = now;
	client->watched = mailbox;
	settle(client);
	return 0;
}

void imap_client_drop(struct imap_client *client, struct imap_mailbox *mailbox, uint64_t now)
{
	client->now = now;
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->mailbox == mailbox) {
			request_free(client, request);
		}
	}
	/* Events that name it go too: nothing refers to it afterwards. */
	LIST_FOR_EACH_SAFE (node, &client->events) {
		struct event *event = list_entry(node, struct event, link);
		if (event->event.mailbox == mailbox) {
			list_remove(&event->link);
			event_free(event);
		}
	}
	if (client->watched == mailbox) {
		client->watched = NULL;
	}
	if (client->open.mailbox == mailbox) {
		open_forget(client);
		if (!client->watched) {
			imap_client_logout(client, now);
			return;
		}
	}
	settle(client);
}

void imap_client_hold(struct imap_client *client)
{
	client->is_held = true;
}

void imap_client_release(struct imap_client *client, uint64_t now)
{
	client->is_held = false;
	client->now = now;
	settle(client);
}

void imap_client_probe(struct imap_client *client, uint64_t now)
{
	client->now = now;
	if (!client_is_over(client)) {
		client->wants_pass = true;
		if (client->probe_deadline == USEC_NEVER) {
			client->probe_deadline = now + PROBE_USEC;
		}
		settle(client);
	}
}

/* -- questions -- */

enum imap_state imap_client_state(const struct imap_client *client)
{
	return client->state;
}

bool imap_client_has_idle(const struct imap_client *client)
{
	return !client->no_idle;
}

size_t imap_client_capabilities(const struct imap_client *client, const struct span **ret_words)
{
	*ret_words = client->capabilities;
	return client->n_capabilities;
}

bool imap_client_has_capability(const struct imap_client *client, const char *capability)
{
	for (size_t i = 0; i < client->n_capabilities; i++) {
		if (span_equal_nocase(client->capabilities[i], capability)) {
			return true;
		}
	}
	return false;
}

const char *imap_client_mechanism(const struct imap_client *client)
{
	return client->mechanism;
}

bool imap_client_plus_failed(const struct imap_client *client)
{
	return client->plus_failed;
}

bool imap_client_has_told(const struct imap_client *client, const struct imap_mailbox *mailbox)
{
	const struct open *open = &client->open;
	if (!list_is_empty(&client->events)) {
		return false;
	}
	return open->mailbox != mailbox ||
		(open->stage == OPEN_FOLLOWED && open->is_synchronised && open->n_changes == 0 &&
			runs_count(&open->pending) == 0 && runs_count(&open->strays) == 0 &&
			runs_count(&open->expunged) == 0);
}

uint64_t imap_client_idling_since(const struct imap_client *client)
{
	return client->watching_since;
}

const char *imap_client_namespace(const struct imap_client *client)
{
	return client->namespace_prefix ? client->namespace_prefix : "";
}

struct imap_mailbox *imap_client_mailbox(const struct imap_client *client)
{
	return client->open.mailbox;
}
