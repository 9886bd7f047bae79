#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "util/log.h"

enum {
	CHANGES_BATCH = 1000, /* messages in one FLAGS event */
};

int messages_insert(
	struct imap_message ***list, size_t *n, size_t *n_allocated, struct imap_message *message)
{
	size_t low = 0, high = *n;
	/* Servers answer in ascending order nearly always: look at the end first. */
	if (*n > 0 && (*list)[*n - 1]->uid < message->uid) {
		low = *n;
	}
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if ((*list)[middle]->uid < message->uid) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low < *n && (*list)[low]->uid == message->uid) {
		imap_message_merge((*list)[low], message);
		return 0;
	}
	if (*n == *n_allocated) {
		size_t wanted = *n_allocated ? 2 * *n_allocated : 16;
		struct imap_message **grown = reallocarray(*list, wanted, sizeof(*grown));
		if (!grown) {
			imap_message_free(message);
			return -ENOMEM;
		}
		*list = grown;
		*n_allocated = wanted;
	}
	memmove(*list + low + 1, *list + low, (*n - low) * sizeof(**list));
	(*list)[low] = message;
	(*n)++;
	return 0;
}

unsigned int new_mail_items(const struct imap_client *client)
{
	/* With its modseq the cursor knows the message as it is told, and a restart finds no
	 * change. */
	bool has_modseq = client->has_condstore && client->open.mailbox &&
		!client->open.mailbox->cursor.has_flags;
	return (has_modseq ? IMAP_ITEM_MODSEQ : 0) | IMAP_ITEM_FLAGS | IMAP_ITEM_ENVELOPE |
		IMAP_ITEM_INTERNALDATE | IMAP_ITEM_SIZE |
		(client->options.preview ? IMAP_FETCH_PREVIEW : 0);
}

bool message_lacks_preview(const struct imap_message *message, unsigned int items)
{
	if (!(items & IMAP_FETCH_PREVIEW) ||
		(message->items & IMAP_ITEM_PREVIEW && message->preview.data)) {
		return false;
	}
	const struct imap_part *part = imap_message_text_part(message);
	return part && !imap_message_section(message, (const char *)part->section.data);
}

/* -- what is to be told -- */

static void arrival_drop(struct open *open, uint32_t uid)
{
	for (size_t i = 0; i < open->n_arrivals; i++) {
		if (open->arrivals[i]->uid == uid) {
			imap_message_free(open->arrivals[i]);
			memmove(open->arrivals + i, open->arrivals + i + 1,
				(open->n_arrivals - i - 1) * sizeof(*open->arrivals));
			open->n_arrivals--;
			return;
		}
	}
}

static struct imap_message **take_first(
	struct imap_client *client, struct imap_message **list, size_t *n_list, size_t n)
{
	struct imap_message **taken = calloc(n, sizeof(*taken));
	if (!taken) {
		client_fail_memory(client);
		return NULL;
	}
	memcpy(taken, list, n * sizeof(*taken));
	memmove(list, list + n, (*n_list - n) * sizeof(*list));
	*n_list -= n;
	return taken;
}

void follow_tell(struct imap_client *client)
{
	struct open *open = &client->open;
	while (open->n_changes > 0) {
		size_t n = open->n_changes < CHANGES_BATCH ? open->n_changes : CHANGES_BATCH;
		struct imap_event *event = client_event(client, IMAP_EVENT_FLAGS);
		if (!event) {
			return;
		}
		event->mailbox = open->mailbox;
		event->messages = take_first(client, open->changes, &open->n_changes, n);
		if (!event->messages) {
			return;
		}
		event->n_messages = n;
	}
	if (runs_count(&open->expunged) > 0) {
		struct imap_event *event = client_event(client, IMAP_EVENT_EXPUNGED);
		if (!event) {
			return;
		}
		event->mailbox = open->mailbox;
		runs_take(&event->uids, &open->expunged);
	}
}

void follow_tell_arrivals(struct imap_client *client, bool all)
{
	struct open *open = &client->open;
	unsigned int items = new_mail_items(client);
	unsigned int plain = items & (IMAP_FETCH_PREVIEW - 1) & ~IMAP_ITEM_MODSEQ;
	size_t n_complete = 0;
	while (n_complete < open->n_arrivals) {
		const struct imap_message *message = open->arrivals[n_complete];
		if (!all &&
			((message->items & plain) != plain ||
				message_lacks_preview(message, items))) {
			break;
		}
		n_complete++;
	}
	while (n_complete > 0) {
		size_t n = n_complete < NEW_MAIL_BATCH ? n_complete : NEW_MAIL_BATCH;
		struct imap_event *event = client_event(client, IMAP_EVENT_NEW);
		if (!event) {
			return;
		}
		event->mailbox = open->mailbox;
		event->messages = take_first(client, open->arrivals, &open->n_arrivals, n);
		if (!event->messages) {
			return;
		}
		event->n_messages = n;
		for (size_t i = 0; i < n; i++) {
			uint32_t uid = event->messages[i]->uid;
			uint16_t value = IMAP_MAILBOX_UNREAD;
			runs_get(&open->mailbox->messages, uid, &value);
			event->messages[i]->value = value;
			uint64_t modseq = event->messages[i]->modseq;
			if (runs_unset(&open->pending, uid, uid) < 0 ||
				imap_mailbox_note_told(open->mailbox, uid, modseq) < 0) {
				client_fail_memory(client);
				return;
			}
		}
		n_complete -= n;
	}
}

/* -- what the server says -- */

/* RFC 7162 section 6: a server with QRESYNC has told everything up to the highest MODSEQ that was
 * seen, or says otherwise, whenever it answers a command. Without QRESYNC no rule is known to be
 * kept: one may answer FETCH from the mailbox as it is, and push older changes later, NOOP at the
 * latest. */
void follow_tagged(struct imap_client *client, const struct command *command,
	const struct imap_response *response)
{
	struct open *open = &client->open;
	if (!open->mailbox || open->stage != OPEN_FOLLOWED) {
		return;
	}
	if (client->has_qresync) {
		uint64_t modseq = response->code == IMAP_CODE_HIGHESTMODSEQ ? response->number
									    : open->seen_modseq;
		open->told_modseq = modseq > open->told_modseq ? modseq : open->told_modseq;
		open->seen_modseq = 0;
	} else if (command->kind == COMMAND_NOOP && response->status == IMAP_STATUS_OK) {
		open->told_modseq = open->seen_modseq;
	} else if (command->kind == COMMAND_NOOP) {
		open->seen_modseq = 0; /* or it would be asked again and again */
	}
}

uint64_t follow_modseq(const struct imap_client *client)
{
	const struct open *open = &client->open;
	const struct imap_cursor *cursor = &open->mailbox->cursor;
	uint64_t modseq = cursor->highestmodseq;
	if (cursor->has_flags) {
		return modseq;
	}
	if (open->missed_push) {
		return modseq; /* what it said is to be asked for again */
	}
	modseq = open->highestmodseq > modseq ? open->highestmodseq : modseq;
	return open->told_modseq > modseq ? open->told_modseq : modseq;
}

bool follow_has_tail(const struct imap_client *client)
{
	const struct open *open = &client->open;
	return open->mailbox &&
		open->exists > runs_count(&open->mailbox->messages) + open->phantoms;
}

void follow_doubt(struct imap_client *client)
{
	struct open *open = &client->open;
	if (open->stage != OPEN_FOLLOWED) {
		return;
	}
	if (open->n_rescans < MAX_RESCANS && open->n_doubts < MAX_DOUBTS) {
		open->wants_scan = true;
	} else {
		open->doubts_later = true;
	}
}

/* There cannot be fewer than are known: the server lost its way, or we did. */
static void check_count(struct imap_client *client)
{
	struct open *open = &client->open;
	if (open->stage != OPEN_FOLLOWED) {
		return;
	}
	uint64_t known = runs_count(&open->mailbox->messages);
	if (open->exists < known) {
		follow_doubt(client);
	}
	if (open->exists < known + open->phantoms) {
		open->phantoms = open->exists > known ? open->exists - (uint32_t)known : 0;
	}
}

void follow_exists(struct imap_client *client, uint32_t exists)
{
	struct open *open = &client->open;
	if (open->stage != OPEN_NOTHING && exists > client->limits.messages) {
		/* If it is true, the listing says so. */
		follow_doubt(client);
		return;
	}
	bool is_listed = open->scan_by_search && open->has_listing;
	open->listing_grew = open->listing_grew ||
		(open->stage == OPEN_SCAN && !is_listed && exists > open->exists);
	open->exists = exists;
	open->has_exists = true;
	check_count(client);
	open->wants_look = open->wants_look ||
		(open->stage == OPEN_FOLLOWED && follow_has_tail(client) &&
			!notify_brings_data(client));
}

/* The messages from..to of the view, a part of one run, are gone. 0 or -ENOMEM. */
static int take_gone(struct open *open, uint32_t from, uint32_t to)
{
	struct imap_mailbox *mailbox = open->mailbox;
	struct run run;
	int r = runs_set(&open->expunged, from, to, 0);
	for (uint64_t p = from;
		r == 0 && p <= to && runs_next(&open->pending, p, &run) && run.first <= to;
		p = (uint64_t)run.last + 1) {
		/* Never told as new, so nobody needs to hear that it went. */
		uint32_t end = run.last < to ? run.last : to;
		uint32_t begin = run.first > from ? run.first : from;
		for (uint64_t uid = begin; uid <= end; uid++) {
			arrival_drop(open, uid);
		}
		r = runs_unset(&open->expunged, begin, end);
	}
	for (uint64_t p = from;
		r == 0 && p <= to && runs_next(&open->strays, p, &run) && run.first <= to;
		p = (uint64_t)run.last + 1) {
		r = runs_unset(&open->expunged, run.first > from ? run.first : from,
			run.last < to ? run.last : to);
	}
	for (uint64_t p = from;
		r == 0 && p <= to && runs_next(&open->expunged, p, &run) && run.first <= to;
		p = (uint64_t)run.last + 1) {
		r = imap_mailbox_note_bygone(mailbox, run.first > from ? run.first : from,
			run.last < to ? run.last : to);
	}
	r = r < 0 ? r : runs_unset(&open->strays, from, to);
	r = r < 0 ? r : runs_unset(&open->pending, from, to);
	return r < 0 ? r : imap_mailbox_remove(mailbox, from, to);
}

void follow_gone(struct imap_client *client, uint32_t first, uint32_t last)
{
	struct open *open = &client->open;
	struct run run;
	for (uint64_t n = first;
		n <= last && runs_next(&open->mailbox->messages, n, &run) && run.first <= last;
		n = (uint64_t)run.last + 1) {
		uint32_t from = run.first > first ? run.first : first;
		uint32_t to = run.last < last ? run.last : last;
		if (take_gone(open, from, to) < 0) {
			client_fail_memory(client);
			return;
		}
	}
}

/* Message numbers of a listing that is under way. */
static void scan_expunge(struct imap_client *client, uint32_t number)
{
	struct open *open = &client->open;
	uint32_t uid;
	if (open->scan_by_search && !open->has_listing) {
		return; /* the answer will not have it */
	}
	if (open->scan_by_search && runs_count(&open->scan) != open->exists_at_listing) {
		/* It left out what is gone by now, and a number says nothing of it. */
		open->listing_is_off = true;
		return;
	}
	if (number <= open->exists_at_listing) {
		open->exists_at_listing--;
	}
	if (!runs_select(&open->scan, number - 1, &uid)) {
		return;
	}
	if (runs_unset(&open->scan, uid, uid) < 0) {
		client_fail_memory(client);
	}
	if (!open->scan_by_search && open->scan_next > 1) {
		open->scan_next--;
	}
}

void follow_expunge(struct imap_client *client, uint32_t number)
{
	struct open *open = &client->open;
	uint32_t uid;
	if (open->stage == OPEN_NOTHING) {
		return; /* of the mailbox that was open before */
	}
	if (number == 0 || number > open->exists) {
		follow_doubt(client);
		return;
	}
	open->exists--;
	if (open->stage == OPEN_SCAN) {
		scan_expunge(client, number);
		return;
	}
	if (number <= open->n_certain) {
		open->n_certain--;
	} else if (open->numbers_off) {
		/* Who it was is not known; but now that it is said, listing may add up. */
		open->n_rescans = 0;
		follow_doubt(client);
		return;
	}
	if (runs_select(&open->mailbox->messages, number - 1, &uid)) {
		follow_gone(client, uid, uid);
	}
	check_count(client);
}

void follow_vanished(struct imap_client *client, const struct imap_response *response)
{
	struct open *open = &client->open;
	struct run run;
	bool is_opening = open->stage == OPEN_NOTHING;
	if (!open->mailbox ||
		(is_opening && (!response->earlier || !open->by_qresync || open->awaits_closed))) {
		return;
	}
	if (!response->earlier) {
		uint64_t n = runs_count(&response->set);
		open->n_certain = 0;
		open->exists = n < open->exists ? open->exists - (uint32_t)n : 0;
	}
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&response->set, n, &run);
		n = (uint64_t)run.last + 1) {
		if (open->stage == OPEN_SCAN) {
			uint64_t before = runs_count(&open->scan);
			if (runs_unset(&open->scan, run.first, run.last) < 0) {
				client_fail_memory(client);
				return;
			}
			uint64_t n_listed = before - runs_count(&open->scan);
			/* Of a server whose listing was longer than EXISTS nothing adds up. */
			open->exists_at_listing -= n_listed < open->exists_at_listing
				? (uint32_t)n_listed
				: open->exists_at_listing;
			open->listing_is_off = open->listing_is_off ||
				n_listed != (uint64_t)run.last - run.first + 1;
		} else {
			follow_gone(client, run.first, run.last);
		}
		if (client_is_over(client)) {
			return;
		}
	}
	if (!response->partial) {
		check_count(client);
	}
}

void follow_search(struct imap_client *client, const struct imap_response *response)
{
	struct open *open = &client->open;
	bool was_sent;
	struct command *command = commands_awaiting(client, KIND(SEARCH_ALL) | KIND(SEARCH_UNSEEN));
	if (response->kind == IMAP_RESPONSE_ESEARCH && response->search.correlator.data) {
		command = commands_find(client, response->search.correlator, &was_sent);
	}
	if (!command || open->stage != OPEN_SCAN ||
		(command->kind != COMMAND_SEARCH_ALL && command->kind != COMMAND_SEARCH_UNSEEN)) {
		return;
	}
	bool is_all = command->kind == COMMAND_SEARCH_ALL;
	struct runs *target = is_all ? &open->scan : &open->unseen;
	struct run run;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&response->set, n, &run);
		n = (uint64_t)run.last + 1) {
		if (runs_set(target, run.first, run.last, IMAP_MAILBOX_READ) < 0) {
			client_fail_memory(client);
			return;
		}
	}
	if (is_all && !response->partial) {
		open->has_listing = true;
		open->exists_at_listing = open->exists;
	}
}

/* -- FETCH -- */

/* A message that says no more than UID, flags and value of another one. */
static struct imap_message *copy_flags(const struct imap_message *message, uint32_t uid)
{
	struct imap_message *copy = imap_message_new();
	if (!copy) {
		return NULL;
	}
	copy->items = IMAP_ITEM_UID | IMAP_ITEM_FLAGS;
	copy->uid = uid;
	copy->modseq = message->modseq;
	copy->n_flags = message->n_flags;
	copy->flags = arena_alloc(&copy->arena, (message->n_flags + 1) * sizeof(*copy->flags));
	for (size_t i = 0; copy->flags && i < message->n_flags; i++) {
		copy->flags[i] = arena_dup(&copy->arena, message->flags[i]);
	}
	if (copy->arena.error < 0) {
		return imap_message_free(copy);
	}
	return copy;
}

/* The command that asked for data of this message; NULL: it is a push. */
static struct command *asked_for(const struct imap_client *client, uint32_t uid)
{
	uint64_t kinds = KIND(FETCH) | KIND(FETCH_PART) | KIND(FETCH_RAW) | KIND(LOOK_BLOCK) |
		KIND(LOOK_PART);
	LIST_FOR_EACH (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		const struct runs *uids =
			command->request ? &command->request->uids : &command->uids;
		if (command->is_sent && kinds & (UINT64_C(1) << command->kind) &&
			runs_get(uids, uid, NULL)) {
			return command;
		}
	}
	uint32_t watermark = client->open.mailbox->cursor.watermark;
	return uid >= (watermark != 0 ? watermark : UINT32_MAX)
		? commands_awaiting(client, KIND(LOOK) | KIND(LOOK_UIDS))
		: NULL;
}

/* Whether new flags of a known message are news. Where all flags are known, the old value tells;
 * else the modseq does, and where the server says none, a push is a change and an answer is not. */
static bool is_change(const struct imap_client *client, const struct imap_message *message,
	uint32_t uid, uint16_t old, uint16_t value)
{
	const struct imap_mailbox *mailbox = client->open.mailbox;
	if (imap_mailbox_is_read(mailbox, old) != imap_mailbox_is_read(mailbox, value)) {
		return true;
	}
	if (mailbox->cursor.has_flags) {
		return old != value; /* also where the old one said no more than read or unread */
	}
	if (client->open.stage == OPEN_SCAN && commands_awaiting(client, KIND(FETCH_FLAGS))) {
		return true; /* it compares what no modseq tells: all flags may be others */
	}
	if ((client->open.stage == OPEN_NOTHING || client->open.stage == OPEN_CHANGES) &&
		imap_mailbox_has_told(mailbox, uid, message->modseq)) {
		/* Above the cursor, to which a push adds nothing (RFC 7162 section 6), and hence
		 * among the changes since. */
		return false;
	}
	/* Some name the last message whatever was asked for; no push has such items. */
	unsigned int never_pushed = IMAP_ITEM_ENVELOPE | IMAP_ITEM_SIZE | IMAP_ITEM_INTERNALDATE;
	if (!(message->items & never_pushed) && !asked_for(client, uid)) {
		/* Whatever its modseq: an older change may be pushed after a newer message was
		 * fetched. */
		return true;
	}
	return message->modseq != 0 && mailbox->cursor.highestmodseq != 0 &&
		!imap_mailbox_was_told(mailbox, uid, message->modseq);
}

static void tell_change(struct imap_client *client, const struct imap_message *message,
	uint32_t uid, uint16_t value)
{
	struct open *open = &client->open;
	struct imap_message *copy = copy_flags(message, uid);
	if (!copy || imap_mailbox_note_told(open->mailbox, uid, message->modseq) < 0) {
		imap_message_free(copy);
		client_fail_memory(client);
		return;
	}
	copy->value = value;
	if (messages_insert(&open->changes, &open->n_changes, &open->n_changes_allocated, copy) <
		0) {
		client_fail_memory(client);
		return;
	}
	/* A merged message keeps the older one's value. */
	for (size_t i = open->n_changes; i > 0; i--) {
		if (open->changes[i - 1]->uid == uid) {
			open->changes[i - 1]->value = value;
			break;
		}
	}
}

static bool has_arrival(const struct open *open, uint32_t uid)
{
	for (size_t i = 0; i < open->n_arrivals; i++) {
		if (open->arrivals[i]->uid == uid) {
			return true;
		}
	}
	return false;
}

/* Flags of a message in the view. */
static void apply_flags(
	struct imap_client *client, const struct imap_message *message, uint32_t uid)
{
	struct open *open = &client->open;
	uint16_t old = 0;
	if (!(message->items & IMAP_ITEM_FLAGS) || !runs_get(&open->mailbox->messages, uid, &old)) {
		return;
	}
	int value = imap_mailbox_value(open->mailbox, message);
	if (value < 0 || (value != old && imap_mailbox_put(open->mailbox, uid, uid, value) < 0)) {
		client_fail_memory(client);
		return;
	}
	if (runs_get(&open->pending, uid, NULL)) {
		/* Told with the message. */
		struct imap_message *copy =
			has_arrival(open, uid) ? copy_flags(message, uid) : NULL;
		if (has_arrival(open, uid) &&
			(!copy ||
				messages_insert(&open->arrivals, &open->n_arrivals,
					&open->n_arrivals_allocated, copy) < 0)) {
			client_fail_memory(client);
		}
		return;
	}
	bool is_stray = runs_get(&open->strays, uid, NULL);
	if (is_stray && runs_unset(&open->strays, uid, uid) < 0) {
		client_fail_memory(client);
	} else if (is_stray || is_change(client, message, uid, old, value)) {
		tell_change(client, message, uid, value);
	}
}

/* A line of FETCH n:m (UID FLAGS). */
static void scan_fetch(struct imap_client *client, struct imap_message *message)
{
	struct open *open = &client->open;
	if (!(message->items & IMAP_ITEM_FLAGS)) {
		return;
	}
	if (!(message->items & IMAP_ITEM_UID) &&
		!runs_select(&open->scan, message->number - 1, &message->uid)) {
		return; /* a push of what is still to be listed */
	}
	int value = imap_mailbox_value(open->mailbox, message);
	if (value < 0 || runs_set(&open->scan, message->uid, message->uid, value) < 0) {
		client_fail_memory(client);
		return;
	}
	if (!open->is_baseline && open->mailbox->cursor.highestmodseq == 0) {
		apply_flags(client, message, message->uid); /* else CHANGEDSINCE tells */
	}
}

static bool is_looking(const struct imap_client *client)
{
	return commands_awaiting(
		client, KIND(LOOK) | KIND(LOOK_UIDS) | KIND(LOOK_BLOCK) | KIND(LOOK_PART));
}

/* Whether it says no more than a server says unasked. */
static bool is_push(const struct imap_message *message)
{
	unsigned int pushed = IMAP_ITEM_UID | IMAP_ITEM_FLAGS | IMAP_ITEM_MODSEQ;
	return !(message->items & ~pushed) && !message->sections;
}

static size_t arrivals_octets(const struct open *open)
{
	size_t octets = 0;
	for (size_t i = 0; i < open->n_arrivals; i++) {
		octets += open->arrivals[i]->arena.used;
	}
	return octets;
}

/* A message that the view has not, or has as pending. Takes the message. */
static void take_arrival(struct imap_client *client, struct imap_message *message)
{
	struct open *open = &client->open;
	uint32_t uid = message->uid;
	if (!runs_get(&open->pending, uid, NULL)) {
		int value = message->items & IMAP_ITEM_FLAGS
			? imap_mailbox_value(open->mailbox, message)
			: IMAP_MAILBOX_UNREAD;
		if (value < 0 || imap_mailbox_put(open->mailbox, uid, uid, value) < 0 ||
			runs_set(&open->pending, uid, uid, 0) < 0) {
			imap_message_free(message);
			client_fail_memory(client);
			return;
		}
	}
	if (message->number > 0 &&
		runs_rank(&open->mailbox->messages, uid) + 1 != message->number) {
		open->numbers_off = true;
	}
	if ((commands_awaiting(client, KIND(LOOK_UIDS)) || is_push(message)) &&
		!has_arrival(open, uid)) {
		imap_message_free(message); /* its data will be asked for */
		return;
	}
	if (messages_insert(
		    &open->arrivals, &open->n_arrivals, &open->n_arrivals_allocated, message) < 0) {
		client_fail_memory(client);
		return;
	}
	if (open->n_arrivals >= 2 * NEW_MAIL_BATCH) {
		follow_tell_arrivals(client, false);
	}
	if (open->n_arrivals >= 4 * NEW_MAIL_BATCH || arrivals_octets(open) > ARRIVALS_OCTETS) {
		/* More than ever lacks something: what is wanted of them does not come. */
		follow_tell_arrivals(client, true);
	}
}

/* Flags that are pushed while messages are being listed: what is still to be listed will show them,
 * unless it is compared with what was known. */
static void miss_push(struct imap_client *client)
{
	struct open *open = &client->open;
	open->missed_push = open->missed_push || !open->is_baseline ||
		commands_awaiting(
			client, KIND(SEARCH_ALL) | KIND(SEARCH_UNSEEN) | KIND(FETCH_FLAGS));
}

/* Of two answers about a message that is new, one for a look and one for a request, the first that
 * has all that the look needs is the look's. */
static bool is_of_look(const struct imap_client *client, const struct imap_message *message)
{
	const struct open *open = &client->open;
	unsigned int plain = new_mail_items(client) & (IMAP_FETCH_PREVIEW - 1) & ~IMAP_ITEM_MODSEQ;
	return imap_mailbox_is_new(open->mailbox, message->uid) &&
		commands_awaiting(client, KIND(LOOK)) && (message->items & plain) == plain;
}

/* FETCH about the open mailbox, with a UID. */
static void follow_message(struct imap_client *client, const struct imap_response *response)
{
	struct open *open = &client->open;
	struct imap_message *message = response->message;
	uint32_t uid = message->uid;
	bool is_known = runs_get(&open->mailbox->messages, uid, NULL);
	if (is_known) {
		/* The number must be the message's place in the view: an answer without harm else.
		 */
		if (open->stage == OPEN_FOLLOWED && message->number > 0 &&
			runs_rank(&open->mailbox->messages, uid) + 1 != message->number) {
			open->numbers_off = true;
			if (!runs_get(&open->pending, uid, NULL)) {
				open->n_certain = 0;
				follow_doubt(client);
			}
		}
		apply_flags(client, message, uid);
	} else if (open->is_baseline && open->stage == OPEN_SCAN) {
		miss_push(client);
	}
	struct command *command = asked_for(client, uid);
	if (command && command->request && !is_of_look(client, message)) {
		request_take_message(client, command->request, response);
		return;
	}
	if (open->stage != OPEN_FOLLOWED || client_is_over(client)) {
		return;
	}
	bool is_untold =
		imap_mailbox_is_new(open->mailbox, uid) || runs_get(&open->pending, uid, NULL);
	if (is_untold && (is_looking(client) || notify_takes(client, message))) {
		take_arrival(client, imap_response_take_message(response));
	} else if (!is_known && !imap_mailbox_is_new(open->mailbox, uid) &&
		!runs_get(&open->mailbox->bygone, uid, NULL)) {
		/* Below all that was announced, and yet unknown. */
		follow_doubt(client);
	}
}

void follow_fetch(struct imap_client *client, const struct imap_response *response)
{
	struct open *open = &client->open;
	struct imap_message *message = response->message;
	if (!open->mailbox) {
		return;
	}
	if (open->stage == OPEN_NOTHING && (!open->by_qresync || open->awaits_closed)) {
		return; /* of the mailbox that was open before, whose modseqs are others */
	}
	if (message->modseq > open->seen_modseq) {
		open->seen_modseq = message->modseq;
	}
	if (open->stage == OPEN_SCAN && commands_awaiting(client, KIND(FETCH_FLAGS))) {
		scan_fetch(client, message);
		return;
	}
	if (!(message->items & IMAP_ITEM_UID)) {
		/* Without UID it is known by its number, if the numbers are right at all. */
		uint32_t uid;
		if (open->stage == OPEN_SCAN) {
			miss_push(client);
		} else if (open->stage == OPEN_NOTHING || message->number == 0) {
			return;
		} else if (open->numbers_off && message->number > open->n_certain) {
			open->missed_push = true;
			follow_doubt(client);
		} else if (runs_select(&open->mailbox->messages, message->number - 1, &uid)) {
			apply_flags(client, message, uid);
		}
		return;
	}
	follow_message(client, response);
}
