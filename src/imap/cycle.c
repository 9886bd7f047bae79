#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "imap/trace.h"
#include "imap/writer.h"
#include "util/log.h"

/* One cycle: synchronise, idle, synchronise. A wish, news from the server and the renewal of IDLE
 * all do the same: mark what is wanted, and if idling, end IDLE; a flight is then DONE, what looks
 * for news, what is wanted, IDLE. Pipelining is safe under RFC 9051 section 5.5: everything in a
 * flight speaks in UIDs. */

/* -- what is wanted -- */

static bool has_common(const struct runs *a, const struct runs *b)
{
	struct run one;
	struct run two;
	uint64_t n = 1;
	while (n <= UINT32_MAX && runs_next(a, (uint32_t)n, &one)) {
		if (runs_next(b, one.first > n ? one.first : (uint32_t)n, &two) &&
			two.first <= one.last) {
			return true;
		}
		n = (uint64_t)one.last + 1;
	}
	return false;
}

/* Answers name a message and not the command: of two that ask for the same one, whose is it? Some
 * servers say OK to the first only after they have answered the second. */
static bool is_asked_for(const struct imap_client *client, const struct request *request)
{
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *other = list_entry(node, struct request, link);
		if (other->n_pending > 0 &&
			(other->kind == REQUEST_FETCH || other->kind == REQUEST_FETCH_RAW) &&
			has_common(&other->uids, &request->uids)) {
			return true;
		}
	}
	return false;
}

/* What a look under way will find: its answer is the look's, or the message would not be told. */
static bool is_looked_for(const struct imap_client *client, const struct request *request)
{
	uint32_t watermark = client->open.mailbox->cursor.watermark;
	return follow_has_tail(client) && watermark != 0 &&
		runs_highest(&request->uids) >= watermark &&
		(commands_have(client, COMMAND_LOOK) || commands_have(client, COMMAND_LOOK_UIDS));
}

/* Whether STATUS can say that nothing happened: which needs no mailbox to be left, and goes with
 * any flight (RFC 9051 section 6.3.11 only forbids it for the mailbox that is open). */
static bool asks_first(const struct imap_client *client, const struct request *request)
{
	return request->kind == REQUEST_REFRESH && imap_client_asks_first(client, request->mailbox);
}

static bool is_startable(const struct imap_client *client, const struct request *request)
{
	if (request->stage != REQUEST_QUEUED) {
		return false;
	}
	if (request->kind == REQUEST_LIST || asks_first(client, request)) {
		return true;
	}
	if (request->kind == REQUEST_FETCH_RAW && commands_have(client, COMMAND_FETCH_RAW)) {
		return false; /* chunks name no message: one after the other */
	}
	if (request->mailbox != client->open.mailbox) {
		return false;
	}
	if ((request->kind == REQUEST_FETCH || request->kind == REQUEST_FETCH_RAW) &&
		(is_asked_for(client, request) || is_looked_for(client, request))) {
		return false;
	}
	return !request_is_write(request) || client->open.is_writable;
}

/* A request that the open mailbox cannot serve as it is. */
static struct request *next_elsewhere(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if ((request->stage == REQUEST_QUEUED || request->stage == REQUEST_VISIT) &&
			!is_startable(client, request)) {
			return request;
		}
	}
	return NULL;
}

static bool has_requests(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		if (request->stage == REQUEST_QUEUED || request->stage == REQUEST_VISIT) {
			return true;
		}
	}
	return false;
}

static bool has_wish(const struct imap_client *client)
{
	const struct open *open = &client->open;
	return client->wants_pass || has_requests(client) ||
		(client->watched && open->mailbox != client->watched) || open->is_writable ||
		open->wants_look || open->wants_scan || open->wants_noop || open->owes_answer ||
		(runs_count(&open->pending) > 0 && client->notify.data_due == 0) ||
		notify_is_wanted(client);
}

/* -- the look -- */

/* The mailbox has a message whose data the server failed to give. */
static bool is_careful(const struct imap_mailbox *mailbox)
{
	return mailbox->n_refusals > 0;
}

static void put_look_from(struct imap_client *client, uint32_t uid)
{
	struct command *command = command_new(client, COMMAND_LOOK, NULL);
	if (command) {
		bytes_printf(&command->text, "UID FETCH %u:4294967295 ", uid);
		put_fetch_items(client, &command->text, new_mail_items(client));
		command_end(client, command);
	}
}

static void put_look(struct imap_client *client)
{
	struct open *open = &client->open;
	uint64_t tail = follow_has_tail(client)
		? open->exists - open->phantoms - runs_count(&open->mailbox->messages)
		: 0;
	/* Where every UID is used up nothing can be new: a question all the same, for its answer
	 * says that the view is up to date. */
	bool is_used_up = open->mailbox->cursor.watermark == 0;
	uint32_t from = is_used_up ? UINT32_MAX : open->mailbox->cursor.watermark;
	open->wants_look = false;
	open->owes_answer = true;
	open->exists_at_look = open->exists;
	/* 4294967295 and not "*": "7:*" would name the last message even when its UID is below 7.
	 */
	if (tail > DIRECT_LOOK_MAX || is_careful(open->mailbox) || is_used_up) {
		command_put(client, COMMAND_LOOK_UIDS, NULL, "UID FETCH %u:4294967295 (UID FLAGS)",
			from);
		return;
	}
	put_look_from(client, from);
}

bool cycle_lacks_noop(const struct imap_client *client)
{
	const struct open *open = &client->open;
	return open->mailbox && open->stage == OPEN_FOLLOWED && !client->has_qresync &&
		!open->mailbox->cursor.has_flags && !open->missed_push &&
		open->seen_modseq > follow_modseq(client);
}

static void put_pass(struct imap_client *client)
{
	/* EXAMINE has just said what NOOP would say. */
	if (client->open.is_synchronised || cycle_lacks_noop(client)) {
		command_put(client, COMMAND_NOOP, NULL, "NOOP");
	}
	put_look(client);
	client->open.wants_noop = false;
	LIST_FOR_EACH (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->kind == REQUEST_REFRESH && request->mailbox == client->open.mailbox &&
			(request->stage == REQUEST_QUEUED || request->stage == REQUEST_VISIT)) {
			request->stage = REQUEST_STARTED;
		}
	}
	client->wants_pass = false;
	client->left_idle = false;
}

static const struct imap_message *arrival(const struct open *open, uint32_t uid)
{
	for (size_t i = 0; i < open->n_arrivals; i++) {
		if (open->arrivals[i]->uid == uid) {
			return open->arrivals[i];
		}
	}
	return NULL;
}

/* The data of pending messages, a block at a time; singly where the server failed before. */
static void put_look_block(struct imap_client *client)
{
	struct open *open = &client->open;
	size_t n_wanted = is_careful(open->mailbox) ? 1 : NEW_MAIL_BATCH;
	struct command *command = command_new(client, COMMAND_LOOK_BLOCK, NULL);
	struct run run;
	if (!command) {
		return;
	}
	for (uint64_t n = 1; n_wanted > 0 && n <= UINT32_MAX && runs_next(&open->pending, n, &run);
		n = (uint64_t)run.last + 1) {
		for (uint64_t uid = run.first; uid <= run.last && n_wanted > 0; uid++) {
			if (!arrival(open, uid)) {
				if (runs_set(&command->uids, uid, uid, 0) < 0) {
					client_fail_memory(client);
					return;
				}
				n_wanted--;
			}
		}
	}
	bytes_put_str(&command->text, "UID FETCH ");
	imap_put_set(&command->text, &command->uids);
	bytes_put_char(&command->text, ' ');
	put_fetch_items(client, &command->text, new_mail_items(client));
	command_end(client, command);
}

/* The beginning of the text of those that the server has no preview of: those with the same section
 * at once. */
static bool put_look_part(struct imap_client *client)
{
	struct open *open = &client->open;
	struct command *command = NULL;
	struct span section = {0};
	for (size_t i = 0; i < open->n_arrivals; i++) {
		const struct imap_message *message = open->arrivals[i];
		if (!message_lacks_preview(message, new_mail_items(client))) {
			continue;
		}
		const struct imap_part *part = imap_message_text_part(message);
		if (!command) {
			command = command_new(client, COMMAND_LOOK_PART, NULL);
			section = part->section;
		}
		if (command && span_equal(section, (const char *)part->section.data) &&
			runs_set(&command->uids, message->uid, message->uid, 0) < 0) {
			client_fail_memory(client);
			return true;
		}
	}
	if (!command) {
		return false;
	}
	bytes_put_str(&command->text, "UID FETCH ");
	imap_put_set(&command->text, &command->uids);
	bytes_printf(&command->text, " (UID BODY.PEEK[%.*s]<0.%d>)", (int)section.len,
		(const char *)section.data, PREVIEW_OCTETS);
	command_end(client, command);
	return true;
}

/* -- synchronised -- */

void cycle_tell_synchronised(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_mailbox *mailbox = open->mailbox;
	struct imap_cursor *cursor = &mailbox->cursor;
	follow_tell(client);
	imap_mailbox_raise_watermark(mailbox);
	imap_mailbox_raise_modseq(mailbox, follow_modseq(client));
	uint32_t uidnext = cursor->watermark;
	mailbox->uidnext = open->uidnext > uidnext && uidnext != 0 ? open->uidnext : uidnext;
	mailbox->n_refusals = 0;
	mailbox->refused_uid = 0;
	struct imap_event *event = client_event(client, IMAP_EVENT_SYNCHRONISED);
	if (!event) {
		return;
	}
	event->mailbox = mailbox;
	event->cursor = *cursor;
	open->is_synchronised = true;
	open->owes_answer = false;
	open->numbers_off = open->phantoms > 0;
	open->n_certain = open->phantoms > 0 ? 0 : (uint32_t)runs_count(&mailbox->messages);
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->kind == REQUEST_REFRESH && request->mailbox == mailbox &&
			request->stage == REQUEST_STARTED) {
			request_end(client, request);
		}
	}
}

/* A look came to its end: is everything there that is on the server? */
static void look_ended(struct imap_client *client)
{
	struct open *open = &client->open;
	follow_tell_arrivals(client, false);
	if (commands_owe(client,
		    KIND(NOOP) | KIND(LOOK) | KIND(LOOK_UIDS) | KIND(LOOK_BLOCK) |
			    KIND(LOOK_PART))) {
		return; /* the rest of the look is still to be answered */
	}
	if (client_is_over(client) || runs_count(&open->pending) > 0) {
		return; /* the next flight fetches what is missing */
	}
	uint64_t known = runs_count(&open->mailbox->messages);
	open->wants_look = follow_has_tail(client) && open->exists != open->exists_at_look;
	if (follow_has_tail(client) && !open->is_second_look) {
		/* It may have gone before it could be fetched, which the next NOOP will tell. */
		open->wants_look = open->is_second_look = true;
	}
	if (open->wants_look) {
		return;
	}
	open->is_second_look = false;
	if (follow_has_tail(client) || open->exists < known) {
		follow_doubt(client); /* it is there, but not where news are; or one went unsaid */
	}
	if (!open->wants_scan && follow_has_tail(client)) {
		open->phantoms = open->exists - (uint32_t)known;
	}
	if (open->wants_scan) {
		return;
	}
	open->wants_noop = cycle_lacks_noop(client);
	if (open->wants_noop) {
		imap_mailbox_raise_watermark(open->mailbox); /* what came is not to come again */
	} else {
		cycle_tell_synchronised(client);
	}
}

/* Whatever is still missing of what has come; false when nothing is. */
static bool put_missing(struct imap_client *client)
{
	struct open *open = &client->open;
	if (runs_count(&open->pending) == 0) {
		return false;
	}
	if (runs_count(&open->pending) > open->n_arrivals && open->n_arrivals < NEW_MAIL_BATCH) {
		if (open->asks_first) {
			command_put(client, COMMAND_NOOP, NULL, "NOOP");
		}
		put_look_block(client);
		return true;
	}
	if (put_look_part(client)) {
		return true;
	}
	/* What came without all its data will not come better. */
	follow_tell_arrivals(client, true);
	look_ended(client);
	return false;
}

/* A message that the server fails to give is announced with its identity alone in the end. */
static void look_refused(struct imap_client *client, const struct command *command)
{
	struct open *open = &client->open;
	struct imap_mailbox *mailbox = open->mailbox;
	uint32_t uid = 0;
	if (runs_count(&command->uids) == 1) {
		runs_select(&command->uids, 0, &uid);
	}
	if (uid == 0 || mailbox->refused_uid != uid) {
		mailbox->refused_uid = uid;
		mailbox->n_refusals = 1;
		return;
	}
	if (++mailbox->n_refusals < MAX_REFUSALS) {
		return;
	}
	log_debug(NULL, mailbox->name, "the server refuses the data of message %u", uid);
	mailbox->n_refusals = 1; /* careful with the others, too */
	mailbox->refused_uid = 0;
	struct imap_message *message = imap_message_new();
	if (message) {
		message->uid = uid;
		message->items = IMAP_ITEM_UID;
	}
	if (!message ||
		messages_insert(&open->arrivals, &open->n_arrivals, &open->n_arrivals_allocated,
			message) < 0) {
		client_fail_memory(client);
		return;
	}
	follow_tell_arrivals(client, true);
}

/* A text that did not come when it was asked for will not come: the preview is empty. */
static void give_up_previews(struct open *open, const struct runs *uids)
{
	for (size_t i = 0; i < open->n_arrivals; i++) {
		struct imap_message *message = open->arrivals[i];
		const struct imap_part *part = imap_message_text_part(message);
		if (runs_get(uids, message->uid, NULL) && part &&
			!imap_message_section(message, (const char *)part->section.data)) {
			message->items |= IMAP_ITEM_PREVIEW;
			message->preview = span_of("");
		}
	}
}

static void handle_look_block(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	struct open *open = &client->open;
	struct run run;
	bool lacks_one = false;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&command->uids, n, &run);
		n = (uint64_t)run.last + 1) {
		for (uint64_t uid = run.first; uid <= run.last; uid++) {
			/* Those told or gone meanwhile are pending no more. */
			lacks_one = lacks_one ||
				(runs_get(&open->pending, uid, NULL) && !arrival(open, uid));
		}
	}
	bool is_refused =
		response->status != IMAP_STATUS_OK && response->code != IMAP_CODE_EXPUNGEISSUED;
	if (!is_refused && lacks_one && !open->asks_first) {
		open->asks_first = true; /* it may be gone, which NOOP will tell */
	} else if (is_refused || lacks_one) {
		look_refused(client, command);
	} else {
		open->asks_first = false;
		open->mailbox->refused_uid = 0;
	}
	if (client_is_over(client)) {
		return;
	}
	if (command->kind == COMMAND_LOOK_PART) {
		give_up_previews(open, &command->uids);
	}
	follow_tell_arrivals(client, !client->options.preview);
	look_ended(client);
}

/* An answer that says that the server has had too much of us, whatever was asked, ends the
 * connection. */
static bool sends_us_away(struct imap_client *client, const struct imap_response *response)
{
	uint64_t retry_after = 0;
	enum imap_end end = response->status == IMAP_STATUS_OK
		? IMAP_END_ORDINARY
		: classify_refusal(response, &retry_after);
	if (end == IMAP_END_ORDINARY) {
		return false;
	}
	struct failure failure;
	refusal_set(&failure, response);
	client_close(client, &failure, end, retry_after);
	return true;
}

void handle_look(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	struct open *open = &client->open;
	if (!refusal_is_of_data(response) && sends_us_away(client, response)) {
		return;
	}
	if (!open->mailbox || open->stage != OPEN_FOLLOWED) {
		return;
	}
	if (command->kind == COMMAND_LOOK_BLOCK || command->kind == COMMAND_LOOK_PART) {
		handle_look_block(client, command, response);
		return;
	}
	bool is_refused =
		response->status != IMAP_STATUS_OK && response->code != IMAP_CODE_EXPUNGEISSUED;
	if (command->kind == COMMAND_LOOK_UIDS && response->status != IMAP_STATUS_OK) {
		client_fail(
			client, FAILURE_SERVER_REFUSED, "the server refuses even UIDs and flags");
		return;
	}
	if (command->kind == COMMAND_LOOK && is_refused) {
		look_refused(client, command);
		open->wants_look = true;
		follow_tell_arrivals(client, false);
		return;
	}
	if (command->kind == COMMAND_LOOK && !client->options.preview) {
		follow_tell_arrivals(client, true);
	}
	/* Also after NOOP, which may be answered later than the look that it was sent with. */
	look_ended(client);
}

/* -- IDLE -- */

/* Nothing is to be done: what stands in for IDLE where there is none. */
static void rest(struct imap_client *client)
{
	uint64_t interval = client->options.poll_interval_usec;
	if (!client->open.mailbox) {
		interval = client->options.idle_timeout_usec;
	} else if (client->n_quick_idles >= QUICK_IDLES && interval > QUICK_POLL_USEC) {
		interval = QUICK_POLL_USEC;
	}
	client->is_polling = true;
	client->is_renewing = false;
	if (client->renewal == USEC_NEVER || client->renewal > client->now + interval) {
		client->renewal_slack = interval / 8;
		client->renewal = client->now + interval - client->renewal_slack;
	}
	if (client->open.mailbox) {
		if (client->watching_since == 0) {
			client->watching_since = client->now;
		}
		enter(client, IMAP_STATE_IDLING);
	} else {
		enter(client, IMAP_STATE_READY);
	}
}

static void put_idle(struct imap_client *client)
{
	if (list_is_empty(&client->commands) && !client->is_renewing) {
		enter(client, IMAP_STATE_IDLE_REQUESTED);
	}
	command_put(client, COMMAND_IDLE, NULL, "IDLE");
}

void handle_idle_continuation(struct imap_client *client, struct command *command)
{
	if (command->is_continued) {
		return; /* said twice */
	}
	uint64_t timeout = client->options.idle_timeout_usec;
	command->is_continued = true;
	if (client->state == IMAP_STATE_LOGOUT || client->nudge != 0) {
		/* LOGOUT waits behind it; a NOOP comes in its midst, and ends it in some way. */
		command->is_disturbed = client->nudge != 0;
		command_put_done(client, command);
		client->left_idle = true;
		return;
	}
	command->deadline = USEC_NEVER;
	client->idle_since = client->now;
	/* Together with another one, it does no harm to be early. */
	client->renewal_slack = timeout / 2;
	client->renewal = client->now + timeout - client->renewal_slack;
	client->is_renewing = false;
	if (client->watching_since == 0) {
		client->watching_since = client->now;
	}
	enter(client, IMAP_STATE_IDLING);
}

static void end_idle(struct imap_client *client, struct command *idle)
{
	command_put_done(client, idle);
	client->left_idle = true;
	if (has_requests(client) || client->open.wants_look || client->open.wants_scan) {
		client->is_renewing = false;
	}
	if (!client->is_renewing) {
		enter(client, IMAP_STATE_IDLE_ENDING);
	}
}

static bool serves_a_request(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->commands) {
		const struct command *command = list_entry(node, struct command, link);
		if (command->request && command->request->kind != REQUEST_REFRESH) {
			return true;
		}
	}
	return false;
}

void handle_idle(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	if (sends_us_away(client, response)) {
		return;
	}
	if (command->is_disturbed) {
		client->nudge = 0; /* it may have no answer of its own */
	}
	/* Some say OK without ever a continuation. */
	bool is_quick =
		!command->is_continued || client->now - client->idle_since < QUICK_IDLE_USEC;
	client->renewal = USEC_NEVER;
	if (client->notify.is_in_force && !command->is_done && is_quick) {
		notify_end(client); /* it may be its fault: IDLE alone has another chance */
	} else if (response->status != IMAP_STATUS_OK && !command->is_done) {
		/* It has the word and not the thing. */
		client->no_idle = true;
	} else if (!is_quick) {
		client->n_quick_idles = 0;
	} else if (!command->is_done) {
		client->n_quick_idles++;
		client->no_idle = client->n_quick_idles >= QUICK_IDLES;
	}
	client->left_idle = client->left_idle || !command->is_done;
	if (!client->is_renewing) {
		enter(client,
			serves_a_request(client) ? IMAP_STATE_FETCHING : IMAP_STATE_SYNCHRONISE);
	}
}

/* -- the next flight -- */

/* Goes to where the next request, or nothing, wants us; true when that takes commands. */
static bool go_elsewhere(struct imap_client *client)
{
	struct request *request = next_elsewhere(client);
	struct open *open = &client->open;
	if (request && request_fails_early(client, request)) {
		return true;
	}
	if (request) {
		open_mailbox(client, request->mailbox, request_is_write(request));
		return true;
	}
	struct imap_mailbox *home = client->watched ? client->watched : open->mailbox;
	if (open->mailbox != home || open->is_writable) {
		open_mailbox(client, home, false);
		return true;
	}
	return false;
}

static bool needs_pass(const struct imap_client *client)
{
	const struct open *open = &client->open;
	if (client->left_idle || client->wants_pass || open->wants_look || !open->is_synchronised ||
		(open->owes_answer && !open->wants_noop)) {
		return true;
	}
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		if (request->kind == REQUEST_REFRESH && request->mailbox == open->mailbox &&
			(request->stage == REQUEST_QUEUED || request->stage == REQUEST_VISIT)) {
			return true;
		}
	}
	return false;
}

/* Whether a flight may end with IDLE already: nothing will have to follow what is in it. */
static bool can_idle(const struct imap_client *client)
{
	if (client->no_idle || !client->watched || client->open.mailbox != client->watched ||
		client->open.is_writable || next_elsewhere(client)) {
		return false;
	}
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		if (request->items & (IMAP_FETCH_TEXT | IMAP_FETCH_PREVIEW)) {
			return false;
		}
	}
	bool wants_more = client->options.preview || is_careful(client->open.mailbox) ||
		commands_have(client, COMMAND_LOOK_UIDS);
	bool is_awaited = client->notify.data_due > 0 && !commands_have(client, COMMAND_LOOK);
	return !wants_more || !follow_has_tail(client) || is_awaited;
}

void cycle_put_guess(struct imap_client *client)
{
	uint32_t watermark = client->open.mailbox->cursor.watermark;
	if (watermark == 0 || is_careful(client->open.mailbox)) {
		return;
	}
	notify_put_guess(client);
	put_look_from(client, watermark);
	bool is_asked = false;
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		is_asked = is_asked || request->kind != REQUEST_REFRESH;
	}
	if (!is_asked && !client->open.wants_writable && can_idle(client)) {
		command_put(client, COMMAND_IDLE, NULL, "IDLE");
	}
}

static bool rescan_advances(struct imap_client *client)
{
	open_rescan(client);
	return open_advance(client);
}

static void put_flight(struct imap_client *client)
{
	struct open *open = &client->open;
	if (open->mailbox) {
		if (open_advance(client)) {
			return;
		}
		if (client_is_over(client) || (open->wants_scan && rescan_advances(client))) {
			return;
		}
		if (put_missing(client)) {
			return;
		}
		notify_put(client);
		if (needs_pass(client)) {
			put_pass(client);
		} else if (open->wants_noop) {
			open->wants_noop = false;
			command_put(client, COMMAND_NOOP, NULL, "NOOP");
		}
	} else if (client->wants_pass) {
		client->wants_pass = false;
		command_put(client, COMMAND_NOOP, NULL, "NOOP");
	}
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (is_startable(client, request) &&
			(request->kind != REQUEST_REFRESH || asks_first(client, request))) {
			request_start(client, request);
		}
	}
	if (client_is_over(client)) {
		return;
	}
	if (serves_a_request(client) && client->state != IMAP_STATE_IDLE_ENDING) {
		enter(client, IMAP_STATE_FETCHING);
	}
	if (can_idle(client)) {
		put_idle(client);
	} else if (list_is_empty(&client->commands) && !go_elsewhere(client)) {
		rest(client);
	}
}

void cycle_advance(struct imap_client *client)
{
	if (client_is_over(client) || client->state < IMAP_STATE_READY ||
		client->state == IMAP_STATE_LOGOUT || client->transport_changes) {
		return;
	}
	if (!list_is_empty(&client->commands)) {
		struct command *head = commands_head(client);
		bool is_idling =
			head && head->kind == COMMAND_IDLE && head->is_continued && !head->is_done;
		if (!is_idling || !has_wish(client)) {
			return;
		}
		end_idle(client, head);
	} else if (client->is_polling) {
		if (!has_wish(client)) {
			return;
		}
		client->is_polling = false;
		client->left_idle = client->open.mailbox != NULL;
		if (!client->is_renewing || has_requests(client)) {
			client->is_renewing = false;
			enter(client, IMAP_STATE_SYNCHRONISE);
		}
	}
	if (client->open.confirm_at) {
		if (client->open.confirm_at <= client->now) {
			open_confirm(client);
		}
		return;
	}
	bool lists_by_number = client->open.stage == OPEN_SCAN && !client->open.scan_by_search &&
		client->open.exists > 0;
	if (lists_by_number && guesses_are_sent(client)) {
		/* It is never guessed; and the numbers are others when EXPUNGE comes among the
		 * answers to what was sent in vain. */
		guesses_void(client);
		return;
	}
	/* A flight may come to nothing (a request that is refused at once); then the next one. */
	do {
		put_flight(client);
	} while (
		!client_is_over(client) && list_is_empty(&client->commands) && !client->is_polling);
}

void cycle_tick(struct imap_client *client)
{
	notify_tick(client);
	if (client->renewal <= client->now) {
		client->renewal = USEC_NEVER;
		client->wants_pass = true;
		client->open.n_rescans = client->open.n_doubts = 0;
		if (client->open.doubts_later) {
			client->open.doubts_later = false;
			follow_doubt(client);
		}
		client->is_renewing = !has_requests(client);
	}
}
