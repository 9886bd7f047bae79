#include <stdlib.h>

#include "delta.h"
#include "tests/unit/stored.h"

static const struct state_key key = {"imap.example.org", "jo", "INBOX"};

void stored_init(struct stored *stored)
{
	stored->mailbox = imap_mailbox_new("INBOX");
	stored->n_sets = IMAP_MAILBOX_FIRST_SET;
	if (!stored->mailbox) {
		abort();
	}
}

void stored_done(struct stored *stored)
{
	stored->mailbox = imap_mailbox_free(stored->mailbox);
}

static void store(struct stored *stored, const struct imap_mailbox *view, struct delta *delta)
{
	if (!delta || delta_apply(delta, stored->mailbox) < 0) {
		abort();
	}
	if (delta->kind == DELTA_BASELINE || delta->kind == DELTA_MESSAGES) {
		stored->n_sets = imap_mailbox_flag_sets_end(view);
	}
	delta_free(delta);
}

static struct delta *baseline_of(const struct imap_mailbox *view, const struct imap_cursor *cursor,
	const struct runs *messages)
{
	struct delta *delta = delta_new(DELTA_BASELINE, &key);
	if (!delta || delta_add_sets(delta, view, IMAP_MAILBOX_FIRST_SET) < 0 ||
		runs_copy(&delta->messages, messages) < 0) {
		abort();
	}
	delta->cursor = *cursor;
	return delta;
}

static void store_messages(
	struct stored *stored, const struct imap_mailbox *view, const struct imap_event *event)
{
	struct delta *delta = delta_new(DELTA_MESSAGES, &key);
	if (!delta || delta_add_sets(delta, view, stored->n_sets) < 0) {
		abort();
	}
	for (size_t i = 0; i < event->n_messages; i++) {
		uint32_t uid = event->messages[i]->uid;
		runs_set(&delta->messages, uid, uid, event->messages[i]->value);
	}
	store(stored, view, delta);
}

void stored_take(
	struct stored *stored, const struct imap_mailbox *view, const struct imap_event *event)
{
	struct delta *delta;
	switch (event->kind) {
	case IMAP_EVENT_BASELINE:
		store(stored, view, baseline_of(view, &event->cursor, &event->baseline));
		return;
	case IMAP_EVENT_NEW:
	case IMAP_EVENT_FLAGS:
		store_messages(stored, view, event);
		return;
	case IMAP_EVENT_EXPUNGED:
		delta = delta_new(DELTA_REMOVED, &key);
		if (!delta || runs_copy(&delta->messages, &event->uids) < 0) {
			abort();
		}
		store(stored, view, delta);
		return;
	case IMAP_EVENT_SYNCHRONISED:
		delta = delta_new(DELTA_CURSOR, &key);
		if (!delta) {
			abort();
		}
		delta->cursor = event->cursor;
		store(stored, view, delta);
		return;
	case IMAP_EVENT_STATE:
	case IMAP_EVENT_START_TLS:
	case IMAP_EVENT_START_DEFLATE:
	case IMAP_EVENT_CREDENTIALS:
	case IMAP_EVENT_READY:
	case IMAP_EVENT_MAILBOX_FAILED:
	case IMAP_EVENT_NOTIFY:
	case IMAP_EVENT_CHANGED_ELSEWHERE:
	case IMAP_EVENT_LISTED:
	case IMAP_EVENT_MESSAGE:
	case IMAP_EVENT_CHUNK:
	case IMAP_EVENT_MOVED:
	case IMAP_EVENT_DONE:
	case IMAP_EVENT_CLOSED:
		return;
	}
}

struct imap_mailbox *stored_restore(struct stored *stored, bool announces_all)
{
	const struct imap_mailbox *mailbox = stored->mailbox;
	struct imap_mailbox *view = imap_mailbox_new("INBOX");
	if (!view) {
		abort();
	}
	view->announce_all = announces_all;
	if (mailbox->cursor.uidvalidity != 0) {
		struct delta *delta = baseline_of(mailbox, &mailbox->cursor, &mailbox->messages);
		if (delta_apply(delta, view) < 0) {
			abort();
		}
		delta_free(delta);
		view->announce_all = false;
	}
	stored->n_sets = imap_mailbox_flag_sets_end(view);
	return view;
}
