#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/engine.h"
#include "imap/writer.h"
#include "util/text.h"

enum {
	LEAST_STRING = 32, /* octets that the shortest one takes */
};

/* -- life of a request -- */

static struct request *request_new(struct imap_client *client, uint64_t id, enum request_kind kind,
	struct imap_mailbox *mailbox)
{
	struct request *request = calloc(1, sizeof(*request));
	if (request) {
		request->id = id;
		request->kind = kind;
		request->mailbox = mailbox;
		runs_init(&request->uids);
		list_append(&client->requests, &request->link);
	}
	return request;
}

static void list_items_free(struct imap_list_item *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < list[i].n_attributes; k++) {
			free(list[i].attributes[k]);
		}
		free(list[i].attributes);
		free(list[i].name);
	}
	free(list);
}

static void drop_messages(struct request *request)
{
	for (size_t i = 0; i < request->n_messages; i++) {
		imap_message_free(request->messages[i]);
	}
	free(request->messages);
	request->messages = NULL;
	request->n_messages = request->n_messages_allocated = 0;
	request->octets = 0;
}

struct request *request_free(struct imap_client *client, struct request *request)
{
	if (!request) {
		return NULL;
	}
	/* Its commands on the wire go on without it; those that are not yet sent do not go at all.
	 */
	LIST_FOR_EACH_SAFE (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		if (command->request == request) {
			command->request = NULL;
			if (!command->is_sent) {
				command_free(command);
			}
		}
	}
	list_remove(&request->link);
	bool has_raw = false;
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *other = list_entry(node, struct request, link);
		has_raw = has_raw || (other->kind == REQUEST_FETCH_RAW && other->n_pending > 0);
	}
	imap_parser_set_streaming(client->parser, has_raw);
	drop_messages(request);
	list_items_free(request->list, request->n_list);
	runs_done(&request->uids);
	free(request->add);
	free(request->remove);
	free(request->target);
	free(request);
	return NULL;
}

bool request_is_write(const struct request *request)
{
	return request->kind == REQUEST_STORE || request->kind == REQUEST_MOVE;
}

void request_end(struct imap_client *client, struct request *request)
{
	struct imap_event *event = client_event(client, IMAP_EVENT_DONE);
	if (event) {
		event->id = request->id;
		event->failure = request->failure;
	}
	request_free(client, request);
}

static void request_fail(struct imap_client *client, struct request *request,
	enum failure_kind kind, const char *format, ...) __attribute__((format(printf, 4, 5)));

static void request_fail(struct imap_client *client, struct request *request,
	enum failure_kind kind, const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	failure_set(&request->failure, kind, "%s", text);
	request_end(client, request);
}

/* -- fetch -- */

static struct command *put_uid_command(struct imap_client *client, enum command_kind kind,
	struct request *request, const char *verb)
{
	struct command *command = command_new(client, kind, request);
	if (command) {
		bytes_put_str(&command->text, verb);
		imap_put_set(&command->text, &request->uids);
		bytes_put_char(&command->text, ' ');
	}
	return command;
}

static bool lacks_text(const struct request *request, const struct imap_message *message)
{
	if (message_lacks_preview(message, request->items)) {
		return true;
	}
	const struct imap_part *part =
		request->items & IMAP_FETCH_TEXT ? imap_message_text_part(message) : NULL;
	return part && !imap_message_section(message, (const char *)part->section.data);
}

/* The text parts, those with the same section number in one command. */
static void put_parts(struct imap_client *client, struct request *request)
{
	bool *is_asked = calloc(request->n_messages + 1, sizeof(*is_asked));
	if (!is_asked) {
		client_fail_memory(client);
		return;
	}
	for (size_t i = 0; i < request->n_messages; i++) {
		if (is_asked[i] || !lacks_text(request, request->messages[i])) {
			continue;
		}
		struct span section = imap_message_text_part(request->messages[i])->section;
		struct runs uids;
		runs_init(&uids);
		int r = 0;
		for (size_t k = i; r == 0 && k < request->n_messages; k++) {
			const struct imap_message *message = request->messages[k];
			if (is_asked[k] || !lacks_text(request, message)) {
				continue;
			}
			const struct imap_part *part = imap_message_text_part(message);
			if (span_equal(section, (const char *)part->section.data)) {
				is_asked[k] = true;
				r = runs_set(&uids, message->uid, message->uid, 0);
			}
		}
		struct command *command =
			r == 0 ? command_new(client, COMMAND_FETCH_PART, request) : NULL;
		if (!command) {
			runs_done(&uids);
			client_fail_memory(client);
			break;
		}
		bytes_put_str(&command->text, "UID FETCH ");
		imap_put_set(&command->text, &uids);
		bytes_printf(&command->text, " (UID BODY.PEEK[%.*s]<0.%d>)", (int)section.len,
			(const char *)section.data,
			request->items & IMAP_FETCH_TEXT ? TEXT_OCTETS : PREVIEW_OCTETS);
		command_end(client, command);
		runs_done(&uids);
	}
	free(is_asked);
}

static void tell_chunk(struct imap_client *client, const struct request *request, struct span chunk,
	uint64_t total)
{
	struct imap_event *event = client_event(client, IMAP_EVENT_CHUNK);
	if (!event) {
		return;
	}
	void *copy = malloc(chunk.len + 1);
	if (!copy) {
		client_fail_memory(client);
		return;
	}
	memcpy(copy, chunk.data, chunk.len);
	event->id = request->id;
	event->chunk = (struct span){.data = copy, .len = chunk.len};
	event->chunk_total = total;
}

/* What the answers that have come take, of all requests. */
static size_t held_octets(const struct imap_client *client)
{
	size_t octets = 0;
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		octets += request->kind == REQUEST_FETCH ? request->octets : 0;
	}
	return octets;
}

void request_take_message(
	struct imap_client *client, struct request *request, const struct imap_response *response)
{
	if (request->kind == REQUEST_FETCH_RAW) {
		const struct imap_section *section = imap_message_section(response->message, "");
		if (section && !request->has_raw && !section->streamed && section->data.len > 0) {
			/* A short one may come as a quoted string. */
			tell_chunk(client, request, section->data, section->data.len);
		}
		request->has_raw =
			request->has_raw || (section && (section->streamed || section->data.data));
		return;
	}
	/* Flags that are pushed meanwhile come the same way; they are no answer by themselves. */
	if (request->kind != REQUEST_FETCH ||
		(!(request->items & IMAP_ITEM_FLAGS) &&
			(response->message->items & (IMAP_ITEM_FLAGS | IMAP_ITEM_MODSEQ)) &&
			!(response->message->items &
				~(IMAP_ITEM_UID | IMAP_ITEM_FLAGS | IMAP_ITEM_MODSEQ)) &&
			!response->message->sections && request->items != 0)) {
		return;
	}
	if (failure_is_set(&request->failure)) {
		return;
	}
	struct imap_message *message = imap_response_take_message(response);
	request->octets += message->arena.used;
	if (held_octets(client) > MAX_REPLY_OCTETS) {
		imap_message_free(message);
		failure_set(&request->failure, FAILURE_LIMIT_EXCEEDED,
			"the answer would be too large: ask for fewer messages at a time");
		drop_messages(request);
		return;
	}
	if (messages_insert(&request->messages, &request->n_messages,
		    &request->n_messages_allocated, message) < 0) {
		client_fail_memory(client);
	}
}

void request_take_chunk(
	struct imap_client *client, struct request *request, const struct imap_response *response)
{
	if (request->kind != REQUEST_FETCH_RAW || request->has_raw) {
		return;
	}
	struct command *command = commands_awaiting(client, KIND(FETCH_RAW));
	/* 60 s, and a second for each 64 KiB (threats: timers). */
	uint64_t allowed = COMMAND_USEC + response->chunk_total / 65536 * USEC_PER_SEC;
	if (command && command->deadline != USEC_NEVER && !request->octets) {
		command->deadline = client->now + allowed;
	}
	request->octets += response->chunk.len;
	tell_chunk(client, request, response->chunk, response->chunk_total);
}

static void end_fetch(struct imap_client *client, struct request *request)
{
	for (size_t i = 0; i < request->n_messages && !failure_is_set(&request->failure); i++) {
		struct imap_event *event = client_event(client, IMAP_EVENT_MESSAGE);
		if (!event) {
			return;
		}
		event->messages = calloc(1, sizeof(*event->messages));
		if (!event->messages) {
			client_fail_memory(client);
			return;
		}
		event->id = request->id;
		event->mailbox = request->mailbox;
		event->messages[0] = request->messages[i];
		event->n_messages = 1;
		request->messages[i] = NULL;
	}
	request_end(client, request);
}

/* -- list -- */

/* Whether a name can be meant by a pattern of LIST (RFC 9051 section 6.3.9): "*" is anything, "%"
 * anything without the delimiter. In any case, for the sake of INBOX. -ENOMEM when out of memory.
 */
static int list_has(const char *pattern, const char *name, char delimiter)
{
	size_t len = strlen(name);
	/* reached[i]: the pattern so far means the first i octets. */
	bool *reached = calloc(len + 1, sizeof(*reached));
	if (!reached) {
		return -ENOMEM;
	}
	reached[0] = true;
	for (; *pattern; pattern++) {
		bool is_wild = *pattern == '*' || *pattern == '%';
		for (size_t i = is_wild ? 1 : len; is_wild && i <= len; i++) {
			bool goes_on = *pattern == '*' || name[i - 1] != delimiter;
			reached[i] = reached[i] || (goes_on && reached[i - 1]);
		}
		for (size_t i = len; !is_wild && i > 0; i--) {
			reached[i] = reached[i - 1] &&
				tolower((uint8_t)name[i - 1]) == tolower((uint8_t)*pattern);
		}
		reached[0] = reached[0] && is_wild;
	}
	bool is_meant = reached[len];
	free(reached);
	return is_meant;
}

/* NOTIFY brings LIST lines unasked, which are no answer. */
static bool is_answer(struct imap_client *client, const struct request *request,
	const struct imap_list_item *item)
{
	if (!client->notify.was_sent || request->kind != REQUEST_LIST) {
		return true;
	}
	int r = list_has(request->target, item->name, item->delimiter);
	if (r < 0) {
		client_fail_memory(client);
	}
	return r > 0;
}

void request_take_list(
	struct imap_client *client, struct request *request, const struct imap_response *response)
{
	const struct imap_list_entry *entry = &response->list;
	if (request->kind != REQUEST_LIST && request->kind != REQUEST_MOVE) {
		return;
	}
	if (failure_is_set(&request->failure)) {
		return;
	}
	if (request->n_list >= client->limits.list || request->octets > MAX_LIST_OCTETS) {
		failure_set(&request->failure, FAILURE_LIMIT_EXCEEDED,
			"the server has too many mailboxes: more than %zu, or than %u MiB of names",
			client->limits.list, MAX_LIST_OCTETS >> 20);
		list_items_free(request->list, request->n_list);
		request->list = NULL;
		request->n_list = request->n_list_allocated = 0;
		return;
	}
	if (request->n_list == request->n_list_allocated) {
		size_t wanted = request->n_list ? 2 * request->n_list : 16;
		struct imap_list_item *grown = reallocarray(request->list, wanted, sizeof(*grown));
		if (!grown) {
			client_fail_memory(client);
			return;
		}
		request->list = grown;
		request->n_list_allocated = wanted;
	}
	struct imap_list_item item = {.delimiter = entry->delimiter,
		.is_selectable = !(entry->attributes & IMAP_MAILBOX_NOSELECT)};
	item.name = take_mailbox_name(client, entry->name);
	if (!item.name || !is_answer(client, request, &item)) {
		free(item.name);
		return;
	}
	request->octets += sizeof(item) + strlen(item.name);
	item.attributes = calloc(entry->n_words + 1, sizeof(*item.attributes));
	for (size_t i = 0; item.attributes && i < entry->n_words; i++) {
		item.attributes[i] = text_clean(entry->words[i], TEXT_ONE_LINE, 128);
		if (!item.attributes[i]) {
			break;
		}
		request->octets += sizeof(*item.attributes) + LEAST_STRING +
			strlen(item.attributes[item.n_attributes]);
		item.n_attributes++;
	}
	if (!item.attributes || item.n_attributes < entry->n_words) {
		request->list[request->n_list++] = item;
		client_fail_memory(client);
		return;
	}
	request->list[request->n_list++] = item;
}

static void end_list(struct imap_client *client, struct request *request)
{
	if (!failure_is_set(&request->failure)) {
		struct imap_event *event = client_event(client, IMAP_EVENT_LISTED);
		if (!event) {
			return;
		}
		event->id = request->id;
		event->list = request->list;
		event->n_list = request->n_list;
		request->list = NULL;
		request->n_list = request->n_list_allocated = 0;
	}
	request_end(client, request);
}

static void put_list(struct imap_client *client, enum command_kind kind, struct request *request,
	const char *pattern)
{
	struct command *command = command_new(client, kind, request);
	if (!command) {
		return;
	}
	bytes_put_str(&command->text, "LIST \"\" ");
	command_put_mailbox(client, command, pattern);
	if (has_extension(client, "SPECIAL-USE") && has_extension(client, "LIST-EXTENDED")) {
		bytes_put_str(&command->text, " RETURN (SPECIAL-USE)");
	}
	command_end(client, command);
}

/* -- move -- */

static void put_copy(struct imap_client *client, struct request *request)
{
	bool has_move = has_extension(client, "MOVE");
	struct command *command = put_uid_command(client, has_move ? COMMAND_MOVE : COMMAND_COPY,
		request, has_move ? "UID MOVE " : "UID COPY ");
	if (command) {
		command_put_mailbox(client, command, request->target);
		command_end(client, command);
	}
}

static const char *with_attribute(const struct request *request, const char *attribute)
{
	for (size_t i = 0; i < request->n_list; i++) {
		for (size_t k = 0; k < request->list[i].n_attributes; k++) {
			if (strcasecmp(request->list[i].attributes[k], attribute) == 0) {
				return request->list[i].name;
			}
		}
	}
	return NULL;
}

/* The mailbox with the special use is known now, or there is none. */
static void target_listed(struct imap_client *client, struct request *request)
{
	const char *name = with_attribute(request, request->target);
	if (!name && strcasecmp(request->target, "\\Archive") == 0) {
		/* Gmail archives by leaving a message in All Mail alone. */
		name = with_attribute(request, "\\All");
	}
	if (!name) {
		request_fail(client, request, FAILURE_NO_SUCH_MAILBOX,
			"the server names no mailbox for %s", request->target);
		return;
	}
	char *target = strdup(name);
	if (!target) {
		client_fail_memory(client);
		return;
	}
	free(request->target);
	request->target = target;
	put_copy(client, request);
}

void request_take_copyuid(
	struct imap_client *client, struct request *request, const struct imap_response *response)
{
	if (request->kind != REQUEST_MOVE) {
		return;
	}
	struct imap_event *event = client_event(client, IMAP_EVENT_MOVED);
	if (!event) {
		return;
	}
	event->id = request->id;
	event->moved_uidvalidity = response->number;
	event->moved_target = strdup(request->target);
	if (!event->moved_target || runs_copy(&event->uids, &response->code_target) < 0) {
		client_fail_memory(client);
	}
}

/* -- beginning and answers -- */

static void start_store(struct imap_client *client, struct request *request)
{
	const struct {
		const char *sign;
		const char *flags;
	} halves[] = {{"+FLAGS ", request->add}, {"-FLAGS ", request->remove}};
	for (size_t i = 0; i < 2; i++) {
		struct command *command = halves[i].flags
			? put_uid_command(client, COMMAND_STORE, request, "UID STORE ")
			: NULL;
		if (command) {
			bytes_put_str(&command->text, halves[i].sign);
			bytes_put_str(&command->text, halves[i].flags);
			command_end(client, command);
		}
	}
	if (request->n_pending == 0 && !client_is_over(client)) {
		request_end(client, request);
	}
}

bool request_fails_early(struct imap_client *client, struct request *request)
{
	if (request->kind != REQUEST_MOVE || has_extension(client, "MOVE") ||
		has_extension(client, "UIDPLUS")) {
		return false;
	}
	/* COPY and EXPUNGE would take along what others have marked as deleted. */
	request_fail(
		client, request, FAILURE_NOT_SUPPORTED, "the server has neither MOVE nor UIDPLUS");
	return true;
}

static void start_move(struct imap_client *client, struct request *request)
{
	if (request->target[0] == '\\') {
		put_list(client, COMMAND_LIST_SPECIAL, request, "*");
	} else {
		put_copy(client, request);
	}
}

void request_start(struct imap_client *client, struct request *request)
{
	struct command *command;
	request->stage = REQUEST_STARTED;
	switch (request->kind) {
	case REQUEST_REFRESH:
		elsewhere_ask(client, request);
		return;
	case REQUEST_FETCH:
		command = put_uid_command(client, COMMAND_FETCH, request, "UID FETCH ");
		if (command) {
			unsigned int flags = request->items & IMAP_ITEM_FLAGS;
			/* The modseq says whether they are news, which no push may tell any more.
			 */
			put_fetch_items(client, &command->text,
				request->items |
					(flags ? new_mail_items(client) & IMAP_ITEM_MODSEQ : 0));
			command_end(client, command);
		}
		return;
	case REQUEST_FETCH_RAW:
		command = put_uid_command(client, COMMAND_FETCH_RAW, request, "UID FETCH ");
		if (command) {
			bytes_put_str(&command->text, "(UID BODY.PEEK[])");
			command_end(client, command);
			imap_parser_set_streaming(client->parser, true);
		}
		return;
	case REQUEST_STORE:
		start_store(client, request);
		return;
	case REQUEST_MOVE:
		start_move(client, request);
		return;
	case REQUEST_LIST:
		put_list(client, COMMAND_LIST, request, request->target);
		return;
	}
}

/* COPY is done: what was copied, and nothing else, is to go (RFC 4315 section 2.1). */
static void put_mark_deleted(struct imap_client *client, struct request *request)
{
	struct command *command =
		put_uid_command(client, COMMAND_MARK_DELETED, request, "UID STORE ");
	if (command) {
		bytes_put_str(&command->text, "+FLAGS.SILENT (\\Deleted)");
		command_end(client, command);
	}
}

static void put_uid_expunge(struct imap_client *client, struct request *request)
{
	struct command *command = command_new(client, COMMAND_UID_EXPUNGE, request);
	if (command) {
		bytes_put_str(&command->text, "UID EXPUNGE ");
		imap_put_set(&command->text, &request->uids);
		command_end(client, command);
	}
}

/* The message itself came; those that a person reads by their parts may want those, too. */
static void fetched(struct imap_client *client, struct request *request)
{
	if (!failure_is_set(&request->failure)) {
		request->stage = REQUEST_PARTS;
		put_parts(client, request);
	}
	if (!client_is_over(client) && request->n_pending == 0) {
		end_fetch(client, request);
	}
}

/* The last command of a step was answered. */
static void request_advance(
	struct imap_client *client, struct request *request, const struct command *command)
{
	bool is_good = !failure_is_set(&request->failure);
	if (command->kind == COMMAND_FETCH) {
		fetched(client, request);
	} else if (command->kind == COMMAND_FETCH_PART) {
		end_fetch(client, request);
	} else if (command->kind == COMMAND_LIST) {
		end_list(client, request);
	} else if (command->kind == COMMAND_LIST_SPECIAL && is_good) {
		target_listed(client, request);
	} else if (command->kind == COMMAND_COPY && is_good) {
		put_mark_deleted(client, request);
	} else if (command->kind == COMMAND_MARK_DELETED && is_good) {
		put_uid_expunge(client, request);
	} else if (command->kind == COMMAND_FETCH_RAW && is_good && !request->has_raw) {
		request_fail(client, request, FAILURE_NO_SUCH_MESSAGE,
			"there is no such message any more");
	} else {
		/* With a look behind it the modseq of what was written is that of the view, and
		 * EXAMINE will find nothing. */
		client->wants_pass = client->wants_pass || command->kind == COMMAND_STORE ||
			command->kind == COMMAND_MOVE || command->kind == COMMAND_UID_EXPUNGE;
		request_end(client, request);
	}
}

void handle_request(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	struct request *request = command->request;
	if (!request) {
		return; /* it was cancelled: the answer is for nobody */
	}
	uint64_t retry_after = 0;
	enum imap_end end = response->status == IMAP_STATUS_OK
		? IMAP_END_ORDINARY
		: classify_refusal(response, &retry_after);
	if (end == IMAP_END_THROTTLED && !refusal_is_of_data(response)) {
		struct failure failure;
		refusal_set(&failure, response);
		client_close(client, &failure, end, retry_after);
		return;
	}
	if (response->code == IMAP_CODE_COPYUID) {
		request_take_copyuid(client, request, response);
	}
	command->request = NULL;
	request->n_pending--;
	if (command->kind == COMMAND_STATUS) {
		elsewhere_answered(client, request, response);
		return;
	}
	/* RFC 5530: some of the messages are gone; the others were answered. */
	if (response->status != IMAP_STATUS_OK && response->code != IMAP_CODE_EXPUNGEISSUED &&
		!failure_is_set(&request->failure)) {
		refusal_set(&request->failure, response);
	}
	if (request->n_pending == 0) {
		request_advance(client, request, command);
	}
}

/* -- intents -- */

static int request_add(struct imap_client *client, struct request *request, uint64_t now)
{
	if (!request) {
		return -ENOMEM;
	}
	client->now = now;
	settle(client);
	return 0;
}

int imap_client_refresh(
	struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox, uint64_t now)
{
	return request_add(client, request_new(client, id, REQUEST_REFRESH, mailbox), now);
}

int imap_client_visit(
	struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox, uint64_t now)
{
	struct request *request = request_new(client, id, REQUEST_REFRESH, mailbox);
	if (request) {
		request->stage = REQUEST_VISIT;
	}
	return request_add(client, request, now);
}

static struct request *request_with_uids(struct imap_client *client, uint64_t id,
	enum request_kind kind, struct imap_mailbox *mailbox, const struct runs *uids)
{
	struct request *request = request_new(client, id, kind, mailbox);
	if (request && runs_copy(&request->uids, uids) < 0) {
		return request_free(client, request);
	}
	return request;
}

int imap_client_fetch(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, unsigned int items, uint64_t now)
{
	struct request *request = request_with_uids(client, id, REQUEST_FETCH, mailbox, uids);
	if (request) {
		request->items = items;
	}
	return request_add(client, request, now);
}

int imap_client_fetch_raw(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	uint32_t uid, uint64_t now)
{
	struct request *request = request_new(client, id, REQUEST_FETCH_RAW, mailbox);
	if (request && runs_set(&request->uids, uid, uid, 0) < 0) {
		request = request_free(client, request);
	}
	return request_add(client, request, now);
}

/* "(\Seen $Junk)"; NULL for an empty list or when out of memory. */
static char *flag_list(const char *const *flags, size_t n)
{
	struct bytes bytes;
	bytes_init(&bytes);
	for (size_t i = 0; i < n; i++) {
		bytes_put_char(&bytes, i == 0 ? '(' : ' ');
		bytes_put_str(&bytes, flags[i]);
	}
	bytes_put_char(&bytes, ')');
	char *list = n > 0 ? bytes_steal(&bytes) : NULL;
	bytes_done(&bytes);
	return list;
}

int imap_client_store(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, const char *const *add, size_t n_add, const char *const *remove,
	size_t n_remove, uint64_t now)
{
	struct request *request = request_with_uids(client, id, REQUEST_STORE, mailbox, uids);
	if (request) {
		request->add = flag_list(add, n_add);
		request->remove = flag_list(remove, n_remove);
		if ((n_add > 0 && !request->add) || (n_remove > 0 && !request->remove)) {
			request = request_free(client, request);
		}
	}
	return request_add(client, request, now);
}

int imap_client_move(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, const char *target, uint64_t now)
{
	struct request *request = request_with_uids(client, id, REQUEST_MOVE, mailbox, uids);
	if (request) {
		request->target = strdup(target);
		if (!request->target) {
			request = request_free(client, request);
		}
	}
	return request_add(client, request, now);
}

int imap_client_list(struct imap_client *client, uint64_t id, const char *pattern, uint64_t now)
{
	struct request *request = request_new(client, id, REQUEST_LIST, NULL);
	if (request) {
		request->target = strdup(pattern);
		if (!request->target) {
			request = request_free(client, request);
		}
	}
	return request_add(client, request, now);
}

void imap_client_cancel(struct imap_client *client, uint64_t id, uint64_t now)
{
	client->now = now;
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->id == id) {
			if (request->is_changed && request->stage != REQUEST_STARTED) {
				notify_unheard(client, request->mailbox->name);
			}
			request_free(client, request);
		}
	}
	LIST_FOR_EACH (node, &client->events) {
		struct event *event = list_entry(node, struct event, link);
		/* A popped event may still be looked at; a queued one of this request turns into
		 * nothing but a state that is as it is. */
		if (event->event.id == id) {
			event->event.kind = IMAP_EVENT_STATE;
			event->event.id = 0;
		}
	}
	settle(client);
}
