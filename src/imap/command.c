#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "imap/trace.h"
#include "imap/utf7.h"
#include "imap/writer.h"
#include "util/text.h"

const char *command_name(enum command_kind kind)
{
	switch (kind) {
	case COMMAND_STARTTLS:
		return "STARTTLS";
	case COMMAND_CAPABILITY:
		return "CAPABILITY";
	case COMMAND_AUTHENTICATE:
		return "AUTHENTICATE";
	case COMMAND_LOGIN:
		return "LOGIN";
	case COMMAND_COMPRESS:
		return "COMPRESS";
	case COMMAND_ID:
		return "ID";
	case COMMAND_NAMESPACE:
		return "NAMESPACE";
	case COMMAND_ENABLE:
		return "ENABLE";
	case COMMAND_OPEN:
		return "EXAMINE";
	case COMMAND_SEARCH_ALL:
	case COMMAND_SEARCH_UNSEEN:
		return "UID SEARCH";
	case COMMAND_FETCH_FLAGS:
		return "FETCH";
	case COMMAND_NOOP:
		return "NOOP";
	case COMMAND_FETCH_CHANGES:
	case COMMAND_LOOK:
	case COMMAND_LOOK_UIDS:
	case COMMAND_LOOK_BLOCK:
	case COMMAND_LOOK_PART:
	case COMMAND_FETCH:
	case COMMAND_FETCH_PART:
	case COMMAND_FETCH_RAW:
		return "UID FETCH";
	case COMMAND_IDLE:
		return "IDLE";
	case COMMAND_NOTIFY_NONE:
	case COMMAND_NOTIFY:
		return "NOTIFY";
	case COMMAND_CHECK:
	case COMMAND_STATUS:
		return "STATUS";
	case COMMAND_STORE:
	case COMMAND_MARK_DELETED:
		return "UID STORE";
	case COMMAND_MOVE:
		return "UID MOVE";
	case COMMAND_COPY:
		return "UID COPY";
	case COMMAND_UID_EXPUNGE:
		return "UID EXPUNGE";
	case COMMAND_LIST:
	case COMMAND_LIST_SPECIAL:
		return "LIST";
	case COMMAND_LOGOUT:
		return "LOGOUT";
	}
	return "";
}

struct command *command_new(
	struct imap_client *client, enum command_kind kind, struct request *request)
{
	struct command *command = calloc(1, sizeof(*command));
	if (!command) {
		client_fail_memory(client);
		return NULL;
	}
	bytes_init(&command->text);
	bytes_init(&command->rest);
	runs_init(&command->uids);
	command->kind = kind;
	command->number = ++client->n_commands;
	command->request = request;
	command->deadline = USEC_NEVER;
	command->is_secret = kind == COMMAND_AUTHENTICATE || kind == COMMAND_LOGIN;
	if (request) {
		request->n_pending++;
	}
	bytes_printf(&command->text, "%s%u ", client->tag_prefix, command->number);
	command->is_guess = client->is_guessing;
	list_append(client->is_guessing ? &client->guesses : &client->commands, &command->link);
	return command;
}

struct command *command_free(struct command *command)
{
	if (command) {
		list_remove(&command->link);
		if (command->request) {
			command->request->n_pending--;
		}
		if (command->is_secret) {
			bytes_wipe(&command->text);
			bytes_wipe(&command->rest);
		} else {
			bytes_done(&command->text);
			bytes_done(&command->rest);
		}
		runs_done(&command->uids);
		free(command);
	}
	return NULL;
}

void command_end(struct imap_client *client, struct command *command)
{
	struct bytes *last = command->rest.end > 0 ? &command->rest : &command->text;
	bytes_put_str(last, "\r\n");
	if (command->text.error == -EINVAL || command->rest.error == -EINVAL) {
		client_fail(client, FAILURE_INVALID_ARGUMENT,
			"an argument of %s cannot be said in IMAP", command_name(command->kind));
	} else if (command->text.error < 0 || command->rest.error < 0) {
		client_fail_memory(client);
	} else if (!command->is_guess) {
		guess_meet(client, command);
	}
}

void command_put(struct imap_client *client, enum command_kind kind, struct request *request,
	const char *format, ...)
{
	struct command *command = command_new(client, kind, request);
	if (!command) {
		return;
	}
	char text[160];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	bytes_put_str(&command->text, text);
	command_end(client, command);
}

static bool can_be_quoted(const char *str)
{
	size_t len = strlen(str);
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)str[i] < 0x20 || (uint8_t)str[i] > 0x7e) {
			return false;
		}
	}
	return len <= 1000;
}

void command_put_string(struct imap_client *client, struct command *command, const char *str)
{
	struct bytes *bytes = command->rest.end > 0 ? &command->rest : &command->text;
	size_t len = strlen(str);
	if (can_be_quoted(str)) {
		imap_put_quoted(bytes, str);
	} else if (imap_client_has_capability(client, "LITERAL+") ||
		(len <= 4096 && has_extension(client, "LITERAL-"))) {
		bytes_printf(bytes, "{%zu+}\r\n", len);
		bytes_put(bytes, str, len);
	} else if (bytes == &command->text) {
		bytes_printf(bytes, "{%zu}\r\n", len);
		bytes_put(&command->rest, str, len);
	} else {
		/* A second synchronising literal: never needed, since only LOGIN has two strings;
		 * what cannot be quoted there is refused rather than sent in a wrong form. */
		bytes->error = -EINVAL;
	}
}

void command_put_mailbox(struct imap_client *client, struct command *command, const char *name)
{
	if (client->has_utf8) {
		imap_put_quoted(&command->text, name);
		return;
	}
	char *encoded = NULL;
	int r = imap_utf7_encode(name, &encoded);
	if (r < 0) {
		command->text.error = r == -ENOMEM ? r : -EINVAL;
		return;
	}
	imap_put_quoted(&command->text, encoded);
	free(encoded);
}

char *take_mailbox_name(struct imap_client *client, struct span name)
{
	char *decoded = NULL;
	if (client->has_utf8) {
		decoded = text_clean(name, TEXT_ONE_LINE, 0);
	} else if (imap_utf7_decode(name, &decoded) < 0) {
		decoded = NULL;
	}
	if (!decoded) {
		client_fail_memory(client);
	}
	return decoded;
}

void put_fetch_items(const struct imap_client *client, struct bytes *bytes, unsigned int items)
{
	bytes_put_str(bytes, "(UID");
	if (items & IMAP_ITEM_MODSEQ) {
		bytes_put_str(bytes, " MODSEQ");
	}
	if (items & IMAP_ITEM_FLAGS) {
		bytes_put_str(bytes, " FLAGS");
	}
	if (items & IMAP_ITEM_INTERNALDATE) {
		bytes_put_str(bytes, " INTERNALDATE");
	}
	if (items & IMAP_ITEM_SIZE) {
		bytes_put_str(bytes, " RFC822.SIZE");
	}
	if (items & IMAP_ITEM_ENVELOPE) {
		bytes_put_str(bytes, " ENVELOPE");
	}
	if (items & (IMAP_FETCH_PREVIEW | IMAP_ITEM_PREVIEW) &&
		imap_client_has_capability(client, "PREVIEW")) {
		bytes_put_str(bytes, " PREVIEW");
	}
	if (items & (IMAP_ITEM_BODYSTRUCTURE | IMAP_FETCH_PREVIEW | IMAP_FETCH_TEXT)) {
		bytes_put_str(bytes, " BODYSTRUCTURE");
	}
	if (items & IMAP_FETCH_IDENTITY) {
		if (imap_client_has_capability(client, "OBJECTID")) {
			bytes_put_str(bytes, " EMAILID THREADID");
		} else if (imap_client_has_capability(client, "X-GM-EXT-1")) {
			bytes_put_str(bytes, " X-GM-MSGID X-GM-THRID X-GM-LABELS");
		}
	}
	bytes_put_char(bytes, ')');
}

struct command *commands_head(const struct imap_client *client)
{
	if (list_is_empty(&client->commands)) {
		return NULL;
	}
	struct command *command = list_entry(client->commands.next, struct command, link);
	return command->is_sent ? command : NULL;
}

struct command *commands_awaiting(const struct imap_client *client, uint64_t kinds)
{
	LIST_FOR_EACH (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		if (!command->is_sent) {
			return NULL;
		}
		if (kinds & (UINT64_C(1) << command->kind)) {
			return command;
		}
	}
	return NULL;
}

bool commands_have(const struct imap_client *client, enum command_kind kind)
{
	LIST_FOR_EACH (node, &client->commands) {
		if (list_entry(node, struct command, link)->kind == kind) {
			return true;
		}
	}
	return false;
}

struct command *commands_awaited(const struct imap_client *client)
{
	struct command *head = commands_head(client);
	return head                        ? head
		: guesses_are_sent(client) ? list_entry(client->guesses.next, struct command, link)
					   : NULL;
}

bool commands_owe(const struct imap_client *client, uint64_t kinds)
{
	LIST_FOR_EACH (node, &client->commands) {
		const struct command *command = list_entry(node, struct command, link);
		if (kinds & (UINT64_C(1) << command->kind)) {
			return true;
		}
	}
	return false;
}

uint32_t commands_number(const struct imap_client *client, struct span tag)
{
	size_t prefix = strlen(client->tag_prefix);
	uint64_t number = 0;
	if (tag.len <= prefix || tag.len > prefix + 10 ||
		memcmp(tag.data, client->tag_prefix, prefix) != 0) {
		return 0;
	}
	for (size_t i = prefix; i < tag.len; i++) {
		if (tag.data[i] < '0' || tag.data[i] > '9') {
			return 0;
		}
		number = number * 10 + (tag.data[i] - '0');
	}
	return number <= UINT32_MAX ? (uint32_t)number : 0;
}

static struct command *find_in(const struct list *commands, uint32_t number)
{
	for (struct list *node = commands->next; node != commands; node = node->next) {
		struct command *command = list_entry(node, struct command, link);
		if (command->number == number) {
			return command;
		}
	}
	return NULL;
}

struct command *commands_find(const struct imap_client *client, struct span tag, bool *ret_was_sent)
{
	uint32_t number = commands_number(client, tag);
	*ret_was_sent = false;
	struct command *command = find_in(&client->commands, number);
	command = command ? command : find_in(&client->guesses, number);
	if (command) {
		/* An answer to what was not yet asked is an attack or a lunacy. */
		return command->is_sent ? command : NULL;
	}
	*ret_was_sent = number > 0 && number <= client->n_commands;
	return NULL;
}

/* Whether nothing may be written behind the command until it is answered. */
static bool is_blocking(const struct imap_client *client, const struct command *command)
{
	/* What is asked of a mailbox depends on what EXAMINE says; the others change the transport,
	 * or what the server is. */
	const uint64_t blocking =
		KIND(STARTTLS) | KIND(AUTHENTICATE) | KIND(LOGIN) | KIND(COMPRESS) | KIND(OPEN);
	if (client->options.is_stepwise) {
		return true;
	}
	if (command->kind == COMMAND_IDLE) {
		return !command->is_done;
	}
	return blocking & (UINT64_C(1) << command->kind) || bytes_len(&command->rest) > 0;
}

static void write_command(struct imap_client *client, struct command *command)
{
	struct span text = bytes_span(&command->text);
	trace_sent(client, command, text);
	bytes_put(&client->output, text.data, text.len);
	if (command->is_secret) {
		bytes_wipe(&command->text);
	} else if (!command->is_guess) {
		bytes_done(&command->text);
	}
	command->is_sent = true;
	command->deadline = client->now + COMMAND_USEC;
	client->is_astray = client->is_astray && command->kind != COMMAND_OPEN;
}

/* Whether all of them are on the wire then. */
static bool write_commands(struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		if (!command->is_sent) {
			write_command(client, command);
		}
		if (is_blocking(client, command)) {
			return node->next == &client->commands && bytes_len(&command->rest) == 0;
		}
	}
	return true;
}

/* Those that travel together are a flight. */
static void note_flight(struct imap_client *client)
{
	struct list *lists[] = {&client->commands, &client->guesses};
	size_t n_awaited = 0;
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 2; i++) {
			LIST_FOR_EACH (node, lists[i]) {
				struct command *command = list_entry(node, struct command, link);
				n_awaited += pass == 0 && command->is_sent;
				command->in_company =
					command->in_company || (command->is_sent && n_awaited > 1);
			}
		}
	}
	const struct command *head = commands_awaited(client);
	client->begins_with_login =
		head && (head->kind == COMMAND_LOGIN || head->kind == COMMAND_AUTHENTICATE);
	client->login = client->begins_with_login ? head->number : client->login;
	client->heard_at = client->now;
	client->has_progress = false;
}

void commands_flush(struct imap_client *client)
{
	/* What was sent in vain is answered first. */
	if (client_is_over(client) || client->transport_changes || guesses_are_sent(client)) {
		return;
	}
	size_t before = bytes_len(&client->output);
	if (write_commands(client)) {
		LIST_FOR_EACH (node, &client->guesses) {
			write_command(client, list_entry(node, struct command, link));
		}
	}
	if (bytes_len(&client->output) > before) {
		note_flight(client);
	}
	if (client->output.error < 0) {
		client_fail_memory(client);
	} else if (bytes_len(&client->output) > 0 && client->output_since == 0) {
		client->output_since = client->now;
	}
}

/* The command that waits for leave to go on. */
static struct command *awaiting_continuation(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		if (command->is_sent &&
			(command->kind == COMMAND_AUTHENTICATE || command->kind == COMMAND_IDLE ||
				bytes_len(&command->rest) > 0)) {
			return command;
		}
	}
	return guess_awaiting_continuation(client);
}

void command_put_done(struct imap_client *client, struct command *idle)
{
	bytes_put_str(&client->output, "DONE\r\n");
	trace_sent_line(client, "DONE");
	if (client->output_since == 0) {
		client->output_since = client->now;
	}
	idle->is_done = true;
	idle->deadline = client->now + DONE_USEC;
}

void handle_continuation(struct imap_client *client, const struct imap_response *response)
{
	struct command *command = awaiting_continuation(client);
	if (client->state == IMAP_STATE_STARTTLS) {
		/* Also one that comes before STARTTLS left: nothing but the OK is an answer. */
		client_fail(client, FAILURE_INSECURE, "the server did not agree to STARTTLS");
		return;
	}
	if (!command || stumbles_at_continuation(client)) {
		return;
	}
	stumble_note_answer(client, command);
	if (command->is_guess) {
		guesses_void(client);
		command_put_done(client, command);
	} else if (command->kind == COMMAND_AUTHENTICATE) {
		login_continue(client, response->text);
	} else if (command->kind == COMMAND_IDLE) {
		handle_idle_continuation(client, command);
	} else {
		struct span rest = bytes_span(&command->rest);
		bytes_put(&client->output, rest.data, rest.len);
		bytes_wipe(&command->rest);
		commands_flush(client);
	}
}
