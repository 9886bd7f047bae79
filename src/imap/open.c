#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "util/log.h"

enum {
	SCAN_FLIGHT = 4, /* blocks of a scan on the wire at once */
};

/* -- opening -- */

/* What an EXAMINE says anew; the collected and the untold stay. */
static void expect_answers(struct open *open)
{
	open->stage = OPEN_NOTHING;
	open->has_exists = false;
	open->exists = 0;
	open->uidvalidity = open->uidnext = open->rewound_to = 0;
	open->highestmodseq = 0;
	open->is_synchronised = false;
	open->wants_look = open->wants_scan = false;
	open->missed_push = open->listing_grew = false;
}

bool open_put_command(struct imap_client *client)
{
	const struct open *open = &client->open;
	const struct imap_cursor *cursor = &open->mailbox->cursor;
	struct command *command = command_new(client, COMMAND_OPEN, NULL);
	if (!command) {
		return false;
	}
	bytes_put_str(&command->text, open->wants_writable ? "SELECT " : "EXAMINE ");
	command_put_mailbox(client, command, open->mailbox->name);
	bool by_qresync = client->has_qresync && !client->no_qresync && cursor->uidvalidity != 0 &&
		cursor->highestmodseq != 0 && !cursor->has_flags;
	if (by_qresync) {
		bytes_printf(&command->text, " (QRESYNC (%u %llu))", cursor->uidvalidity,
			(unsigned long long)cursor->highestmodseq);
	} else if (client->has_condstore) {
		bytes_put_str(&command->text, " (CONDSTORE)");
	}
	command_end(client, command);
	return by_qresync;
}

static void put_open(struct imap_client *client)
{
	expect_answers(&client->open);
	client->open.by_qresync = open_put_command(client);
	if (!client_is_over(client)) {
		guess_at_opening(client);
	}
}

void open_mailbox(struct imap_client *client, struct imap_mailbox *mailbox, bool writable)
{
	notify_leave(client);
	bool had_another = client->open.mailbox != NULL || client->open.awaits_closed;
	open_forget(client);
	client->open.mailbox = mailbox;
	client->open.wants_writable = writable;
	client->open.awaits_closed = had_another && client->has_qresync;
	enter(client, IMAP_STATE_EXAMINE);
	put_open(client);
	LIST_FOR_EACH (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->kind == REQUEST_REFRESH && request->mailbox == mailbox &&
			(request->stage == REQUEST_QUEUED || request->stage == REQUEST_VISIT)) {
			/* What is asked for now is later than it. */
			request->stage = REQUEST_STARTED;
		}
	}
}

static void free_messages(struct imap_message **list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		imap_message_free(list[i]);
	}
	free(list);
}

void open_forget(struct imap_client *client)
{
	struct open *open = &client->open;
	struct run run;
	/* What was never told is not known: it will be new, or found, again. */
	for (uint64_t n = 1; open->mailbox && n <= UINT32_MAX && runs_next(&open->strays, n, &run);
		n = (uint64_t)run.last + 1) {
		imap_mailbox_remove(open->mailbox, run.first, run.last);
	}
	for (uint64_t n = 1; open->mailbox && n <= UINT32_MAX && runs_next(&open->pending, n, &run);
		n = (uint64_t)run.last + 1) {
		imap_mailbox_remove(open->mailbox, run.first, run.last);
	}
	bool awaits_closed = open->mailbox != NULL || open->awaits_closed;
	free_messages(open->arrivals, open->n_arrivals);
	free_messages(open->changes, open->n_changes);
	runs_done(&open->scan);
	runs_done(&open->unseen);
	runs_done(&open->strays);
	runs_done(&open->pending);
	runs_done(&open->expunged);
	*open = (struct open){.awaits_closed = awaits_closed};
	runs_init(&open->scan);
	runs_init(&open->unseen);
	runs_init(&open->strays);
	runs_init(&open->pending);
	runs_init(&open->expunged);
	client->watching_since = 0;
	client->left_idle = false;
}

void open_code(struct imap_client *client, const struct imap_response *response)
{
	struct open *open = &client->open;
	if (!open->mailbox) {
		return;
	}
	if (open->stage != OPEN_NOTHING) {
		if (response->code == IMAP_CODE_UIDVALIDITY && response->number != 0 &&
			open->uidvalidity != 0 && response->number != open->uidvalidity) {
			client_fail(client, FAILURE_RESET,
				"UIDVALIDITY changed while the mailbox was open");
		} else if (response->code == IMAP_CODE_UIDNEXT) {
			open->uidnext = response->number;
		}
		return;
	}
	if (response->code == IMAP_CODE_CLOSED) {
		/* RFC 7162 section 3.2.11: what follows is about the mailbox that is being opened.
		 */
		open->awaits_closed = false;
	} else if (response->code == IMAP_CODE_UIDVALIDITY) {
		open->uidvalidity = response->number;
	} else if (response->code == IMAP_CODE_UIDNEXT) {
		open->uidnext = response->number;
	} else if (response->code == IMAP_CODE_HIGHESTMODSEQ) {
		open->highestmodseq = response->number;
		imap_mailbox_forget_told_above(open->mailbox, response->number);
	} else if (response->code == IMAP_CODE_NOMODSEQ) {
		open->highestmodseq = 0;
	}
}

/* -- listing the server's messages -- */

static void scan_begin(struct imap_client *client, bool by_search)
{
	struct open *open = &client->open;
	open->stage = OPEN_SCAN;
	open->scan_by_search = by_search;
	open->has_listing = open->listing_is_off = false; /* that it grew stays true */
	open->scan_next = 1;
	open->phantoms = 0;
	open->n_certain = 0;
	open->wants_scan = false;
	open->awaits_closed = false;
	runs_done(&open->scan);
	runs_done(&open->unseen);
	runs_init(&open->scan);
	runs_init(&open->unseen);
	enter(client, IMAP_STATE_SYNCHRONISE);
}

void open_rescan(struct imap_client *client)
{
	struct open *open = &client->open;
	client->wants_pass = true; /* whoever waits for a look waits for one after this */
	open->n_doubts++;
	log_debug(NULL, open->mailbox->name, "message numbers do not add up: listing anew");
	scan_begin(client,
		open->mailbox->cursor.highestmodseq != 0 && has_extension(client, "ESEARCH"));
}

/* Whether the mailbox keeps the flags of its messages, which without CONDSTORE it must. */
static bool needs_flags(const struct imap_client *client)
{
	return !client->has_condstore || client->open.highestmodseq == 0;
}

static void baseline_begin(struct imap_client *client)
{
	struct open *open = &client->open;
	open->is_baseline = true;
	open->is_reset = open->mailbox->cursor.uidvalidity != 0 || open->mailbox->is_void;
	imap_mailbox_reset(open->mailbox);
	open->mailbox->is_void = open->is_reset;
	open->mailbox->cursor.has_flags = needs_flags(client);
	scan_begin(client, !open->mailbox->cursor.has_flags && has_extension(client, "ESEARCH"));
}

/* Courier gives a mailbox that was never SELECTed a new UIDVALIDITY with each EXAMINE, the time in
 * seconds: a new one is believed when it stays for longer than that, and where it does not, one
 * SELECT makes it stay. */
static bool confirms_uidvalidity(struct imap_client *client)
{
	struct open *open = &client->open;
	bool has_stayed = open->uidvalidity == open->confirmed_uidvalidity;
	if (client->has_condstore || open->uidvalidity == 0 || open->n_confirmations >= 3 ||
		(open->n_confirmations == 1 && has_stayed)) {
		return false;
	}
	open->n_confirmations++; /* 1: EXAMINE again, later; 2: SELECT; 3: EXAMINE for good */
	open->confirmed_uidvalidity = open->uidvalidity;
	expect_answers(open);
	open->confirm_at = client->now + (open->n_confirmations == 1 ? CONFIRM_USEC : 0);
	return true;
}

void open_confirm(struct imap_client *client)
{
	struct open *open = &client->open;
	bool was_writable = open->wants_writable;
	open->confirm_at = 0;
	open->wants_writable = was_writable || open->n_confirmations == 2;
	put_open(client);
	open->wants_writable = was_writable;
}

static void followed(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_cursor *cursor = &open->mailbox->cursor;
	if (cursor->has_flags && !needs_flags(client)) {
		/* The server has CONDSTORE again, and all flags have just been compared: what
		 * changes from here on has a modseq. Sets in the view go on to say who is read. */
		cursor->has_flags = false;
		imap_mailbox_raise_modseq(open->mailbox, open->highestmodseq);
	}
	open->stage = OPEN_FOLLOWED;
	open->awaits_closed = false;
	open->wants_look = follow_has_tail(client);
	open->wants_scan = false;
	if (open->missed_push || open->exists < runs_count(&open->mailbox->messages)) {
		follow_doubt(client);
	}
	enter(client, IMAP_STATE_SYNCHRONISE);
}

/* The mailbox is open: which way leads from what is known to what is there? */
static void choose_way(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_cursor *cursor = &open->mailbox->cursor;
	uint64_t known = runs_count(&open->mailbox->messages);
	if (needs_flags(client) && !cursor->has_flags) {
		cursor->has_flags = true;
		imap_mailbox_forget_modseq(open->mailbox);
	}
	if (open->uidnext != 0 && (cursor->watermark == 0 || open->uidnext < cursor->watermark)) {
		open->rewound_to = open->uidnext;
	}
	if (open->by_qresync && open->rewound_to == 0 && cursor->highestmodseq != 0 &&
		open->highestmodseq >= cursor->highestmodseq && !open->awaits_closed) {
		followed(client);
		return;
	}
	bool has_modseq = !cursor->has_flags && cursor->highestmodseq != 0 &&
		open->highestmodseq >= cursor->highestmodseq;
	if (has_modseq && open->highestmodseq == cursor->highestmodseq && open->exists == known &&
		open->uidnext != 0 && open->uidnext == cursor->watermark) {
		followed(client);
		return;
	}
	if (!cursor->has_flags && cursor->highestmodseq > open->highestmodseq) {
		/* A mailbox brought back from a backup: its modseqs say nothing about ours. */
		imap_mailbox_forget_modseq(open->mailbox);
	}
	scan_begin(client, has_modseq && has_extension(client, "ESEARCH"));
}

/* It is not to be had, and what was wanted of it has failed. */
static void open_failed(struct imap_client *client, const struct failure *failure)
{
	struct imap_mailbox *mailbox = client->open.mailbox;
	/* What cannot be selected may still be examined. */
	bool is_for_write = client->open.wants_writable;
	open_forget(client);
	if (client->watched == mailbox && !is_for_write) {
		client->watched = NULL;
	}
	LIST_FOR_EACH_SAFE (node, &client->requests) {
		struct request *request = list_entry(node, struct request, link);
		if (request->mailbox == mailbox && (!is_for_write || request_is_write(request))) {
			request->failure = *failure;
			request_end(client, request);
		}
	}
	struct imap_event *event =
		is_for_write ? NULL : client_event(client, IMAP_EVENT_MAILBOX_FAILED);
	if (event) {
		event->mailbox = mailbox;
		event->failure = *failure;
	}
	enter(client, IMAP_STATE_READY);
}

static void open_refused(struct imap_client *client, const struct imap_response *response)
{
	struct imap_mailbox *mailbox = client->open.mailbox;
	uint64_t retry_after = 0;
	struct failure failure;
	enum imap_end end = classify_refusal(response, &retry_after);
	refusal_set(&failure, response);
	if (end != IMAP_END_ORDINARY) {
		client_close(client, &failure, end, retry_after);
		return;
	}
	const char *prefix = imap_client_namespace(client);
	if (failure.kind == FAILURE_NO_SUCH_MAILBOX && *prefix &&
		strncmp(mailbox->name, prefix, strlen(prefix)) != 0) {
		failure_set(&failure, FAILURE_NO_SUCH_MAILBOX,
			"the server has no such mailbox (its names begin with \"%s\"): %.*s",
			prefix, (int)response->text.len, (const char *)response->text.data);
	}
	open_failed(client, &failure);
	client->open.awaits_closed = false;
}

/* How much of the server's listing, or of what is known, is too much; false where nothing is. */
static bool is_too_large(const struct imap_client *client, struct failure *ret_failure)
{
	const struct open *open = &client->open;
	const struct imap_limits *limits = &client->limits;
	const struct runs *sets[] = {&open->mailbox->messages, &open->scan, &open->unseen};
	uint64_t n = open->exists;
	size_t n_runs = 0;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		n = runs_count(sets[i]) > n ? runs_count(sets[i]) : n;
		n_runs += runs_length(sets[i]);
	}
	if (n > limits->messages) {
		failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED,
			"the server counts %llu messages: a mailbox of more than %u is not "
			"followed",
			(unsigned long long)n, limits->messages);
		return true;
	}
	if (n_runs > limits->runs) {
		failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED,
			"the messages are too scattered: in more than %zu places", limits->runs);
		return true;
	}
	return false;
}

void open_bound(struct imap_client *client)
{
	struct failure failure;
	if (client->open.mailbox && client->open.stage != OPEN_NOTHING &&
		is_too_large(client, &failure)) {
		client_close(client, &failure, IMAP_END_ORDINARY, 0);
	}
}

void handle_open(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	struct open *open = &client->open;
	(void)command;
	if (!open->mailbox || commands_have(client, COMMAND_OPEN)) {
		return; /* it was dropped meanwhile */
	}
	if (response->status != IMAP_STATUS_OK) {
		bool is_of_command =
			classify_refusal(response, &(uint64_t){0}) == IMAP_END_ORDINARY;
		if (response->status == IMAP_STATUS_BAD && open->by_qresync && is_of_command) {
			client->no_qresync = true;
			put_open(client);
			return;
		}
		open_refused(client, response);
		return;
	}
	if (!open->has_exists) {
		client_fail(client, FAILURE_PROTOCOL_ERROR, "EXAMINE said nothing of EXISTS");
		return;
	}
	struct failure failure;
	if (is_too_large(client, &failure)) {
		open_failed(client, &failure);
		return;
	}
	open->is_writable = open->wants_writable;
	const struct imap_cursor *cursor = &open->mailbox->cursor;
	if (open->uidvalidity == 0 || open->uidvalidity != cursor->uidvalidity) {
		if (!confirms_uidvalidity(client)) {
			baseline_begin(client);
		}
		return;
	}
	choose_way(client);
}

/* -- scanning -- */

static bool scan_is_listed(const struct open *open)
{
	return open->scan_by_search ? open->has_listing : open->scan_next > open->exists;
}

/* All that is in the scan gets into the view: as new from the watermark on, but for what was told
 * and then was gone. 0 or -ENOMEM. */
static int take_unknown(struct open *open)
{
	struct imap_mailbox *mailbox = open->mailbox;
	uint32_t watermark = mailbox->cursor.watermark;
	uint64_t first_new = watermark != 0 ? watermark : UINT64_C(1) << 32;
	struct run run, seen;
	int r = 0;
	for (uint64_t n = 1; r == 0 && n <= UINT32_MAX && runs_next(&open->scan, n, &run);
		n = (uint64_t)run.last + 1) {
		uint16_t value = open->scan_by_search ? IMAP_MAILBOX_UNREAD : run.value;
		if (run.last >= first_new) {
			uint32_t first = run.first > first_new ? run.first : watermark;
			r = runs_set(&open->pending, first, run.last, 0);
		}
		if (r == 0 && run.first < first_new) {
			uint32_t last = run.last >= first_new ? watermark - 1 : run.last;
			r = runs_set(&open->strays, run.first, last, 0);
		}
		for (uint64_t p = run.first; r == 0 && p <= run.last &&
			runs_next(&mailbox->bygone, p, &seen) && seen.first <= run.last;
			p = (uint64_t)seen.last + 1) {
			uint32_t from = seen.first > run.first ? seen.first : run.first;
			uint32_t to = seen.last < run.last ? seen.last : run.last;
			r = runs_unset(&open->pending, from, to);
			r = r < 0 ? r : runs_set(&open->strays, from, to, 0);
		}
		r = r < 0 ? r : imap_mailbox_put(mailbox, run.first, run.last, value);
	}
	return r;
}

/* The known messages that the server has not, and the other way round. */
static void scan_compare(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_mailbox *mailbox = open->mailbox;
	struct runs gone;
	struct run run, there;
	runs_init(&gone);
	int r = runs_copy(&gone, &mailbox->messages);
	for (uint64_t n = 1; r == 0 && n <= UINT32_MAX && runs_next(&open->scan, n, &run);
		n = (uint64_t)run.last + 1) {
		r = runs_unset(&gone, run.first, run.last);
	}
	for (uint64_t n = 1; r == 0 && n <= UINT32_MAX && runs_next(&gone, n, &run);
		n = (uint64_t)run.last + 1) {
		follow_gone(client, run.first, run.last);
	}
	runs_done(&gone);
	/* Now the known ones are all in the scan: what is left of it is unknown. */
	for (uint64_t n = 1; r == 0 && n <= UINT32_MAX && runs_next(&mailbox->messages, n, &there);
		n = (uint64_t)there.last + 1) {
		r = runs_unset(&open->scan, there.first, there.last);
	}
	r = r < 0 ? r : take_unknown(open);
	if (r < 0) {
		client_fail_memory(client);
		return;
	}
	follow_tell(client);
}

/* UIDNEXT went back: a mailbox brought back from a backup, whose server will use UIDs a second time
 * (RFC 9051 section 2.3.1.1 forbids it): from there on all is new again, and modseqs say nothing
 * about ours. One that has such a UID already shows that UIDNEXT lies. Whether to list anew. */
static bool scan_rewinds(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_cursor *cursor = &open->mailbox->cursor;
	uint32_t uidnext = open->rewound_to;
	open->rewound_to = 0;
	if (uidnext == 0 || runs_highest(&open->scan) >= uidnext) {
		return false;
	}
	log_debug(NULL, open->mailbox->name,
		"the server has gone back from UID %u to %u: UIDs are used a second time",
		cursor->watermark, uidnext);
	follow_gone(client, uidnext, UINT32_MAX);
	cursor->watermark = uidnext;
	imap_mailbox_forget_bygone(open->mailbox);
	if (cursor->has_flags || cursor->highestmodseq == 0) {
		return false;
	}
	imap_mailbox_forget_modseq(open->mailbox);
	scan_begin(client, false);
	return true;
}

static void tell_baseline(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_event *event = client_event(client, IMAP_EVENT_BASELINE);
	if (!event) {
		return;
	}
	event->mailbox = open->mailbox;
	event->is_reset = open->is_reset;
	event->cursor = open->mailbox->cursor;
	if (!open->mailbox->announce_all &&
		runs_copy(&event->baseline, &open->mailbox->messages) < 0) {
		client_fail_memory(client);
	}
}

static void scan_becomes_baseline(struct imap_client *client)
{
	struct open *open = &client->open;
	struct imap_mailbox *mailbox = open->mailbox;
	struct run run;
	int r = 0;
	for (uint64_t n = 1; r == 0 && n <= UINT32_MAX && runs_next(&open->unseen, n, &run);
		n = (uint64_t)run.last + 1) {
		/* Only what is in the listing: the two answers may lie a moment apart. */
		struct run there;
		for (uint64_t p = run.first; r == 0 && p <= run.last &&
			runs_next(&open->scan, p, &there) && there.first <= run.last;
			p = (uint64_t)there.last + 1) {
			uint32_t first = there.first > run.first ? there.first : run.first;
			uint32_t last = there.last < run.last ? there.last : run.last;
			r = runs_set(&open->scan, first, last, IMAP_MAILBOX_UNREAD);
			there.last = last;
		}
	}
	mailbox->cursor.uidvalidity = open->uidvalidity;
	mailbox->cursor.highestmodseq = mailbox->cursor.has_flags ? 0 : open->highestmodseq;
	imap_mailbox_replace(mailbox, &open->scan);
	if (mailbox->announce_all) {
		r = r < 0 ? r : runs_copy(&open->pending, &mailbox->messages);
	} else {
		/* The highest UID seen rules: a UIDNEXT may lie. */
		imap_mailbox_raise_watermark(mailbox);
	}
	if (r < 0) {
		client_fail_memory(client);
		return;
	}
	tell_baseline(client);
	mailbox->announce_all = false;
	mailbox->is_void = false;
	open->is_baseline = false;
	open->is_reset = false;
}

/* Messages below all that was told, and yet unknown: no new mail, but their flags are told, so that
 * whoever keeps what is told knows them from now on. */
static void put_strays(struct imap_client *client)
{
	struct open *open = &client->open;
	uint32_t first = 0, last = runs_highest(&open->strays);
	runs_select(&open->strays, 0, &first);
	command_put(
		client, COMMAND_FETCH_CHANGES, NULL, "UID FETCH %u:%u (UID FLAGS)", first, last);
}

/* Something came or went between the answers, which NOOP may have to tell: FETCH must not (RFC 9051
 * section 7.5.1). After some attempts what is listed is believed. Whether to go on. */
static bool scan_adds_up(struct imap_client *client)
{
	struct open *open = &client->open;
	uint32_t listed = (uint32_t)runs_count(&open->scan);
	/* What came after a listing stands behind what is listed. */
	bool by_search = open->scan_by_search && open->has_listing;
	uint32_t exists = by_search ? open->exists_at_listing : open->exists;
	if (listed == exists && !open->listing_is_off) {
		open->n_rescans = 0;
		open->numbers_off = false;
		open->n_certain = listed;
		return true;
	}
	if (open->n_rescans++ < MAX_RESCANS) {
		command_put(client, COMMAND_NOOP, NULL, "NOOP");
		scan_begin(client, open->scan_by_search);
		return false;
	}
	log_debug(NULL, open->mailbox->name,
		"the server counts %u messages, but lists %u: going on with these", exists, listed);
	open->phantoms = exists > listed ? exists - listed : 0;
	open->numbers_off = true;
	uint32_t later = open->exists > exists ? open->exists - exists : 0;
	open->exists = listed + open->phantoms + later;
	return true;
}

static void put_changes(struct imap_client *client)
{
	struct open *open = &client->open;
	const struct imap_cursor *cursor = &open->mailbox->cursor;
	open->stage = OPEN_CHANGES;
	command_put(client, COMMAND_FETCH_CHANGES, NULL,
		"UID FETCH 1:%u (UID FLAGS) (CHANGEDSINCE %llu)",
		runs_highest(&open->mailbox->messages), (unsigned long long)cursor->highestmodseq);
}

static void scan_finish(struct imap_client *client)
{
	struct open *open = &client->open;
	const struct imap_cursor *cursor = &open->mailbox->cursor;
	if (!scan_adds_up(client)) {
		return;
	}
	bool was_baseline = open->is_baseline;
	if (was_baseline) {
		scan_becomes_baseline(client);
	} else if (scan_rewinds(client)) {
		return;
	} else {
		scan_compare(client);
	}
	if (client_is_over(client)) {
		return;
	}
	/* What came while a baseline was listed has a modseq above EXAMINE's: asked for now, it is
	 * no change at the next opening. */
	bool has_changes = open->missed_push || (was_baseline && open->listing_grew) ||
		(!was_baseline &&
			(open->highestmodseq > cursor->highestmodseq || !open->scan_by_search));
	open->missed_push = open->listing_grew = false;
	if (has_changes && cursor->highestmodseq != 0 && runs_count(&open->mailbox->messages) > 0) {
		put_changes(client);
	}
	if (runs_count(&open->strays) > 0) {
		open->stage = OPEN_CHANGES;
		put_strays(client);
	}
	if (open->stage != OPEN_CHANGES) {
		runs_done(&open->scan);
		runs_init(&open->scan);
		followed(client);
	}
}

static void put_scan_blocks(struct imap_client *client)
{
	struct open *open = &client->open;
	for (int i = 0; i < SCAN_FLIGHT && open->scan_next <= open->exists; i++) {
		uint32_t left = open->exists - open->scan_next;
		uint32_t last = open->scan_next + (left < SCAN_BLOCK - 1 ? left : SCAN_BLOCK - 1);
		command_put(client, COMMAND_FETCH_FLAGS, NULL, "FETCH %u:%u (UID FLAGS)",
			open->scan_next, last);
		open->scan_next = last + 1;
	}
}

bool open_advance(struct imap_client *client)
{
	struct open *open = &client->open;
	if (open->stage != OPEN_SCAN) {
		return false;
	}
	while (open->stage == OPEN_SCAN && list_is_empty(&client->commands) &&
		!client_is_over(client)) {
		if (open->exists == 0 || scan_is_listed(open)) {
			scan_finish(client);
		} else if (open->scan_by_search) {
			command_put(
				client, COMMAND_SEARCH_ALL, NULL, "UID SEARCH RETURN (ALL) ALL");
			if (open->is_baseline) {
				command_put(client, COMMAND_SEARCH_UNSEEN, NULL,
					"UID SEARCH RETURN (ALL) UNSEEN");
			}
		} else {
			put_scan_blocks(client);
		}
	}
	return !list_is_empty(&client->commands);
}

void handle_scan(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	struct open *open = &client->open;
	if (!open->mailbox || (open->stage != OPEN_SCAN && open->stage != OPEN_CHANGES)) {
		return;
	}
	if (response->status != IMAP_STATUS_OK) {
		uint64_t retry_after = 0;
		enum imap_end end = classify_refusal(response, &retry_after);
		if (end != IMAP_END_ORDINARY || command->kind == COMMAND_FETCH_FLAGS) {
			struct failure failure;
			refusal_set(&failure, response);
			client_close(client, &failure, end, retry_after);
			return;
		}
		/* What the server promised it cannot do: the plain way then. */
		imap_mailbox_forget_modseq(open->mailbox);
		scan_begin(client, false);
		return;
	}
	if (command->kind == COMMAND_SEARCH_ALL) {
		open->has_listing = true; /* an answer without ALL: nothing is there */
	} else if (command->kind == COMMAND_FETCH_CHANGES && open->stage == OPEN_CHANGES &&
		!commands_have(client, COMMAND_FETCH_CHANGES)) {
		followed(client);
	}
}
