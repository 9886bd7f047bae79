#include <stdlib.h>

#include "imap/engine.h"
#include "imap/utf7.h"
#include "util/log.h"

static void handle_bye(struct imap_client *client, const struct imap_response *response)
{
	if (client->state == IMAP_STATE_LOGOUT) {
		struct failure none = {.kind = FAILURE_NONE};
		client_close(client, &none, IMAP_END_ORDINARY, 0);
		return;
	}
	uint64_t retry_after = 0;
	enum imap_end end = classify_refusal(response, &retry_after);
	struct failure failure;
	if (!client->is_secure && client->options.transport == IMAP_TRANSPORT_STARTTLS) {
		/* What is said in the clear is not for a person's eyes. */
		failure_set(&failure, FAILURE_SERVER_REFUSED, "the server said BYE before TLS");
	} else {
		struct span text = login_text(client, response->text);
		failure_set(&failure,
			end == IMAP_END_LIMIT ? FAILURE_LIMIT_EXCEEDED : FAILURE_SERVER_REFUSED,
			"the server said: BYE %.*s", (int)text.len, (const char *)text.data);
	}
	client_close(client, &failure, end, retry_after);
}

static void handle_answer(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	switch (command->kind) {
	case COMMAND_STARTTLS:
	case COMMAND_CAPABILITY:
	case COMMAND_AUTHENTICATE:
	case COMMAND_LOGIN:
	case COMMAND_COMPRESS:
	case COMMAND_ID:
	case COMMAND_NAMESPACE:
	case COMMAND_ENABLE:
		handle_login(client, command, response);
		break;
	case COMMAND_OPEN:
		handle_open(client, command, response);
		break;
	case COMMAND_SEARCH_ALL:
	case COMMAND_SEARCH_UNSEEN:
	case COMMAND_FETCH_FLAGS:
	case COMMAND_FETCH_CHANGES:
		handle_scan(client, command, response);
		break;
	case COMMAND_NOOP:
	case COMMAND_LOOK:
	case COMMAND_LOOK_UIDS:
	case COMMAND_LOOK_BLOCK:
	case COMMAND_LOOK_PART:
		handle_look(client, command, response);
		break;
	case COMMAND_IDLE:
		handle_idle(client, command, response);
		break;
	case COMMAND_NOTIFY_NONE:
		break;
	case COMMAND_NOTIFY:
		handle_notify(client, response);
		break;
	case COMMAND_CHECK:
		notify_checked(client);
		break;
	case COMMAND_STATUS:
	case COMMAND_FETCH:
	case COMMAND_FETCH_PART:
	case COMMAND_FETCH_RAW:
	case COMMAND_STORE:
	case COMMAND_MOVE:
	case COMMAND_COPY:
	case COMMAND_MARK_DELETED:
	case COMMAND_UID_EXPUNGE:
	case COMMAND_LIST:
	case COMMAND_LIST_SPECIAL:
		handle_request(client, command, response);
		break;
	case COMMAND_LOGOUT: {
		struct failure none = {.kind = FAILURE_NONE};
		client_close(client, &none, IMAP_END_ORDINARY, 0);
		break;
	}
	}
}

static void handle_tagged(struct imap_client *client, const struct imap_response *response)
{
	bool was_sent = false;
	struct command *command = commands_find(client, response->tag, &was_sent);
	if (!command && was_sent && client->nudge != 0 &&
		commands_number(client, response->tag) == client->nudge) {
		stumble_at_nudge(client);
		return;
	}
	if (!command && was_sent) {
		stumble_at_repetition(client, response);
	}
	if (!command) {
		/* A server that ended IDLE by itself takes our DONE for a command and answers it
		 * with that word as the tag. An answer given twice is as harmless. */
		if (was_sent || span_equal_nocase(response->tag, "DONE")) {
			return;
		}
		client_fail(client, FAILURE_PROTOCOL_ERROR,
			"the server answered a command that was never sent");
		return;
	}
	log_debug(NULL, NULL, "imap %s: %s answered %s", client->tag_prefix,
		command_name(command->kind), imap_status_name(response->status));
	list_remove(&command->link);
	client->probe_deadline = USEC_NEVER;
	stumble_note_answer(client, command);
	/* Its turn begins when the one before is answered, which may have taken long. */
	struct command *next = commands_awaited(client);
	if (next && next->deadline != USEC_NEVER) {
		next->deadline = client->now + COMMAND_USEC;
	}
	if (command->is_guess) {
		guess_answered(client, command, response);
		command_free(command);
		return;
	}
	if (client->state == IMAP_STATE_LOGOUT && command->kind != COMMAND_LOGOUT) {
		handle_last(client, command, response);
		command_free(command);
		return;
	}
	if (stumbles_at_answer(client, command, response)) {
		command_free(command);
		return;
	}
	open_code(client, response);
	follow_tagged(client, command, response);
	handle_answer(client, command, response);
	command_free(command);
}

/* The request whose command can have asked for such data. */
static struct request *awaiting_request(struct imap_client *client, uint64_t kinds)
{
	struct command *command = commands_awaiting(client, kinds);
	return command ? command->request : NULL;
}

/* Whether it is about the mailbox that is open there. */
static bool is_of_mailbox(const struct imap_response *response)
{
	switch (response->kind) {
	case IMAP_RESPONSE_INVALID:
	case IMAP_RESPONSE_STATUS_LINE:
	case IMAP_RESPONSE_SEARCH:
	case IMAP_RESPONSE_ESEARCH:
	case IMAP_RESPONSE_EXISTS:
	case IMAP_RESPONSE_EXPUNGE:
	case IMAP_RESPONSE_VANISHED:
	case IMAP_RESPONSE_FETCH:
	case IMAP_RESPONSE_CHUNK:
		return true;
	case IMAP_RESPONSE_ENABLED:
	case IMAP_RESPONSE_NAMESPACE:
	case IMAP_RESPONSE_LIST:
	case IMAP_RESPONSE_STATUS:
	case IMAP_RESPONSE_UNKNOWN:
	case IMAP_RESPONSE_FLAGS:
	case IMAP_RESPONSE_ID:
	case IMAP_RESPONSE_RECENT:
	case IMAP_RESPONSE_CAPABILITY:
	case IMAP_RESPONSE_CONTINUATION:
	case IMAP_RESPONSE_TAGGED:
		break;
	}
	return false;
}

/* Untagged data about the world after login. */
static void handle_untagged(struct imap_client *client, const struct imap_response *response)
{
	struct request *request;
	guess_heard(client, response);
	if (client->is_astray && is_of_mailbox(response)) {
		return;
	}
	switch (response->kind) {
	case IMAP_RESPONSE_INVALID:
		log_debug(NULL, NULL, "imap %s: skipped a response: %.*s", client->tag_prefix,
			(int)response->text.len, (const char *)response->text.data);
		/* It may have been about message numbers, which are then off. */
		follow_doubt(client);
		return;
	case IMAP_RESPONSE_STATUS_LINE:
		open_code(client, response);
		notify_take_warning(client, response);
		request = awaiting_request(client, KIND(MOVE) | KIND(COPY));
		if (response->code == IMAP_CODE_COPYUID && request) {
			request_take_copyuid(client, request, response);
		}
		return;
	case IMAP_RESPONSE_ENABLED:
		take_enabled(client, response);
		return;
	case IMAP_RESPONSE_NAMESPACE:
		free(client->namespace_prefix);
		client->namespace_prefix = NULL;
		if (imap_utf7_decode(response->namespace_prefix, &client->namespace_prefix) < 0) {
			client_fail_memory(client);
		}
		return;
	case IMAP_RESPONSE_LIST:
		request = awaiting_request(client, KIND(LIST) | KIND(LIST_SPECIAL));
		if (request) {
			request_take_list(client, request, response);
		}
		return;
	case IMAP_RESPONSE_STATUS:
		notify_take_status(client, response, elsewhere_take(client, response));
		return;
	case IMAP_RESPONSE_SEARCH:
	case IMAP_RESPONSE_ESEARCH:
		follow_search(client, response);
		return;
	case IMAP_RESPONSE_EXISTS:
		follow_exists(client, response->number);
		return;
	case IMAP_RESPONSE_EXPUNGE:
		follow_expunge(client, response->number);
		return;
	case IMAP_RESPONSE_VANISHED:
		follow_vanished(client, response);
		return;
	case IMAP_RESPONSE_FETCH:
		follow_fetch(client, response);
		return;
	case IMAP_RESPONSE_CHUNK:
		request = awaiting_request(client, KIND(FETCH_RAW));
		if (request) {
			request_take_chunk(client, request, response);
		}
		return;
	case IMAP_RESPONSE_UNKNOWN:
	case IMAP_RESPONSE_FLAGS:
	case IMAP_RESPONSE_ID:
	case IMAP_RESPONSE_RECENT:
	case IMAP_RESPONSE_CAPABILITY:
	case IMAP_RESPONSE_CONTINUATION:
	case IMAP_RESPONSE_TAGGED:
		return;
	}
}

void handle_response(struct imap_client *client, const struct imap_response *response)
{
	if (!client->has_greeting) {
		handle_greeting(client, response);
		return;
	}
	if (response->kind == IMAP_RESPONSE_STATUS_LINE && response->status == IMAP_STATUS_BYE) {
		handle_bye(client, response);
		return;
	}
	if (response->kind == IMAP_RESPONSE_TAGGED) {
		handle_tagged(client, response);
		if (!list_is_empty(&client->guesses)) {
			/* What follows may be the answer to what is put now. */
			settle(client);
		}
		return;
	}
	if (response->kind == IMAP_RESPONSE_CONTINUATION) {
		handle_continuation(client, response);
		return;
	}
	/* Nothing that is said in the clear before TLS is believed. */
	if (client->options.transport == IMAP_TRANSPORT_STARTTLS && !client->is_secure) {
		return;
	}
	if (response->kind == IMAP_RESPONSE_CAPABILITY) {
		take_capabilities(client, response->words, response->n_words);
		return;
	}
	if (client->is_authenticated) {
		handle_untagged(client, response);
	}
}
