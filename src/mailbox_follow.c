#include <errno.h>
#include <stdlib.h>

#include "mailbox.h"
#include "util/clock.h"
#include "util/log.h"

/* What one signal carries at most; the contract has a number only for NewMail. */
#define N_FLAGS_HIGHEST    1000
#define N_EXPUNGED_HIGHEST 10000
#define SIZE_HIGHEST       ((size_t)4 * 1024 * 1024)

/* A server that has so many messages vanish at once is served by a reset: nobody reads a list of
 * them, and a list of all UIDs that there can be does not fit into memory. */
#define N_GONE_HIGHEST 1000000

static struct notice *new_notice(struct mailbox *mailbox, enum account_event_kind kind)
{
	struct notice *notice = notice_new(kind);
	if (notice) {
		notice->told.account = mailbox->account;
		notice->told.mailbox = mailbox;
	}
	return notice;
}

static struct delta *new_delta(struct mailbox *mailbox, enum delta_kind kind)
{
	struct state_key key = mailbox_key(mailbox);
	struct delta *delta = delta_new(kind, &key);
	if (!delta) {
		return NULL;
	}
	delta->cursor = mailbox->view->cursor;
	if ((kind == DELTA_MESSAGES || kind == DELTA_BASELINE) &&
		delta_add_sets(delta, mailbox->view, mailbox->sets_stored) < 0) {
		return delta_free(delta);
	}
	return delta;
}

static int put_silent(struct mailbox *mailbox, struct delta *delta)
{
	struct notice *notice = notice_new_silent(delta);
	if (!notice) {
		return -ENOMEM;
	}
	notice_queue_put(mailbox->queue, notice);
	return 0;
}

static int put_reset(struct mailbox *mailbox, struct delta *delta)
{
	struct notice *notice = new_notice(mailbox, ACCOUNT_EVENT_RESET);
	if (!notice) {
		delta_free(delta);
		return -ENOMEM;
	}
	notice->told.uidvalidity = mailbox->view->cursor.uidvalidity;
	notice->delta = delta;
	notice_queue_put(mailbox->queue, notice);
	return 0;
}

int mailbox_follow_baseline(struct mailbox *mailbox, struct imap_event *event)
{
	/* A baseline replaces the table of flags, too: it is stored from its beginning. */
	mailbox->sets_stored = IMAP_MAILBOX_FIRST_SET;
	struct delta *delta = new_delta(mailbox, DELTA_BASELINE);
	if (!delta) {
		return -ENOMEM;
	}
	delta->cursor = event->cursor;
	runs_take(&delta->messages, &event->baseline);
	int error = event->is_reset ? put_reset(mailbox, delta) : put_silent(mailbox, delta);
	if (error < 0) {
		return error;
	}
	mailbox->stored = event->cursor;
	mailbox->sets_stored = imap_mailbox_flag_sets_end(mailbox->view);
	mailbox->view->has_forgotten = false;
	runs_done(&mailbox->moved);
	mailbox_note_view(mailbox);
	return 0;
}

/* Takes messages while they fit into one signal, decoded; how many, or -ENOMEM. */
static ssize_t decode_some(struct mailbox *mailbox, struct imap_message **raw, size_t n,
	unsigned int items, struct notice *notice)
{
	notice->told.messages = calloc(n, sizeof(struct message *));
	if (!notice->told.messages) {
		return -ENOMEM;
	}
	size_t size = 0;
	size_t i;
	for (i = 0; i < n && size < SIZE_HIGHEST; i++) {
		struct message *message =
			message_new(raw[i], mailbox->view->cursor.uidvalidity, items);
		if (!message) {
			return -ENOMEM;
		}
		message->is_moved =
			mailbox->moved_uidvalidity == mailbox->view->cursor.uidvalidity &&
			runs_get(&mailbox->moved, message->uid, NULL);
		notice->told.messages[i] = message;
		notice->told.n_messages++;
		size += message_size(message);
	}
	return (ssize_t)i;
}

/* Tells the messages in as many signals as it takes; what is to be stored goes behind the last. */
static int tell_messages(struct mailbox *mailbox, enum account_event_kind kind,
	const struct imap_event *event, unsigned int items, size_t n_highest, struct delta *delta)
{
	size_t i = 0;
	while (i < event->n_messages) {
		size_t n = event->n_messages - i < n_highest ? event->n_messages - i : n_highest;
		struct notice *notice = new_notice(mailbox, kind);
		ssize_t n_taken = -ENOMEM;
		if (notice) {
			n_taken = decode_some(mailbox, event->messages + i, n, items, notice);
		}
		if (n_taken < 0) {
			notice_free(notice);
			delta_free(delta);
			return -ENOMEM;
		}
		i += (size_t)n_taken;
		if (i == event->n_messages) {
			notice->delta = delta;
		}
		notice_queue_put(mailbox->queue, notice);
	}
	return 0;
}

static struct delta *messages_delta(struct mailbox *mailbox, const struct imap_event *event)
{
	struct delta *delta = new_delta(mailbox, DELTA_MESSAGES);
	struct imap_mailbox_told *told = calloc(event->n_messages, sizeof(*told));
	bool is_whole = delta && told;
	for (size_t i = 0; is_whole && i < event->n_messages; i++) {
		const struct imap_message *message = event->messages[i];
		told[i] = (struct imap_mailbox_told){message->uid, message->modseq};
		is_whole =
			runs_set(&delta->messages, message->uid, message->uid, message->value) >= 0;
	}
	is_whole = is_whole && delta_add_told(delta, told, event->n_messages) == 0;
	free(told);
	return is_whole ? delta : delta_free(delta);
}

static int follow_messages(struct mailbox *mailbox, enum account_event_kind kind,
	const struct imap_event *event, unsigned int items, size_t n_highest)
{
	if (event->n_messages == 0) {
		return 0;
	}
	struct delta *delta = messages_delta(mailbox, event);
	if (!delta) {
		return -ENOMEM;
	}
	int error = tell_messages(mailbox, kind, event, items, n_highest, delta);
	if (error < 0) {
		return error;
	}
	mailbox->sets_stored = imap_mailbox_flag_sets_end(mailbox->view);
	mailbox_note_view(mailbox);
	return 0;
}

int mailbox_follow_new(struct mailbox *mailbox, struct imap_event *event, unsigned int items)
{
	int error =
		follow_messages(mailbox, ACCOUNT_EVENT_NEW_MAIL, event, items, event->n_messages);
	for (size_t i = 0; error == 0 && i < event->n_messages; i++) {
		uint32_t uid = event->messages[i]->uid;
		error = runs_unset(&mailbox->moved, uid, uid);
	}
	return error;
}

int mailbox_follow_flags(struct mailbox *mailbox, struct imap_event *event)
{
	return follow_messages(
		mailbox, ACCOUNT_EVENT_FLAGS_CHANGED, event, MESSAGE_FLAGS, N_FLAGS_HIGHEST);
}

static struct notice *expunged_notice(
	struct mailbox *mailbox, const struct runs *uids, uint64_t *next)
{
	struct notice *notice = new_notice(mailbox, ACCOUNT_EVENT_EXPUNGED);
	if (!notice) {
		return NULL;
	}
	uint64_t n = runs_count(uids);
	size_t n_highest = n < N_EXPUNGED_HIGHEST ? (size_t)n : N_EXPUNGED_HIGHEST;
	notice->told.uids = calloc(n_highest, sizeof(*notice->told.uids));
	if (!notice->told.uids) {
		return notice_free(notice);
	}
	struct run run;
	while (notice->told.n_uids < n_highest && *next <= UINT32_MAX &&
		runs_next(uids, (uint32_t)*next, &run)) {
		uint32_t uid = *next > run.first ? (uint32_t)*next : run.first;
		notice->told.uids[notice->told.n_uids] = uid;
		notice->told.n_uids++;
		*next = (uint64_t)uid + 1;
	}
	return notice;
}

static int tell_expunged(struct mailbox *mailbox, const struct runs *uids, struct delta *delta)
{
	uint64_t next = 1;
	uint32_t highest = runs_highest(uids);
	while (next <= highest) {
		struct notice *notice = expunged_notice(mailbox, uids, &next);
		if (!notice) {
			delta_free(delta);
			return -ENOMEM;
		}
		if (next > highest) {
			notice->delta = delta;
		}
		notice_queue_put(mailbox->queue, notice);
	}
	return 0;
}

int mailbox_follow_expunged(struct mailbox *mailbox, struct imap_event *event)
{
	if (runs_count(&event->uids) == 0) {
		return 0;
	}
	struct delta *delta = new_delta(mailbox, DELTA_REMOVED);
	if (!delta || runs_copy(&delta->messages, &event->uids) < 0) {
		delta_free(delta);
		return -ENOMEM;
	}
	int error = runs_count(&event->uids) > N_GONE_HIGHEST
		? put_reset(mailbox, delta)
		: tell_expunged(mailbox, &event->uids, delta);
	if (error < 0) {
		return error;
	}
	mailbox_note_view(mailbox);
	return 0;
}

static bool is_same_cursor(const struct imap_cursor *a, const struct imap_cursor *b)
{
	return a->uidvalidity == b->uidvalidity && a->watermark == b->watermark &&
		a->highestmodseq == b->highestmodseq && a->has_flags == b->has_flags;
}

static int store_cursor(struct mailbox *mailbox, const struct imap_cursor *cursor)
{
	struct delta *delta = new_delta(mailbox, DELTA_CURSOR);
	if (!delta) {
		return -ENOMEM;
	}
	delta->cursor = *cursor;
	delta->forgets_told = mailbox->view->has_forgotten;
	mailbox->view->has_forgotten = false;
	return put_silent(mailbox, delta);
}

int mailbox_follow_synchronised(struct mailbox *mailbox, const struct imap_event *event)
{
	if ((!is_same_cursor(&mailbox->stored, &event->cursor) || mailbox->view->has_forgotten) &&
		store_cursor(mailbox, &event->cursor) < 0) {
		return -ENOMEM;
	}
	if (mailbox->is_behind) {
		task_wake(mailbox->queue->owner);
	}
	mailbox->stored = event->cursor;
	mailbox->is_synchronised = true;
	mailbox->rest = 0;
	failure_forget(&mailbox->problem);
	backoff_reset(&mailbox->backoff);
	mailbox->last_sync_usec = clock_realtime_usec();
	mailbox_note_view(mailbox);
	return 0;
}

static int store_view(struct mailbox *mailbox)
{
	mailbox->sets_stored = IMAP_MAILBOX_FIRST_SET;
	struct delta *delta = new_delta(mailbox, DELTA_BASELINE);
	if (!delta || runs_copy(&delta->messages, &mailbox->view->messages) < 0) {
		delta_free(delta);
		return -ENOMEM;
	}
	/* The one of the view may be ahead of what has been told. */
	delta->cursor = mailbox->stored;
	if (delta_add_told(delta, mailbox->view->told, mailbox->view->n_told) < 0) {
		delta_free(delta);
		return -ENOMEM;
	}
	if (put_silent(mailbox, delta) < 0) {
		return -ENOMEM;
	}
	mailbox->sets_stored = imap_mailbox_flag_sets_end(mailbox->view);
	return 0;
}

int mailbox_store(struct mailbox *mailbox)
{
	if (mailbox->stored.uidvalidity != 0 && store_view(mailbox) < 0) {
		return -ENOMEM;
	}
	struct delta *delta =
		new_delta(mailbox, mailbox->is_stopped ? DELTA_STOPPED : DELTA_STARTED);
	if (!delta || put_silent(mailbox, delta) < 0) {
		return -ENOMEM;
	}
	mailbox->is_behind = false;
	return 0;
}

void mailbox_expect_moved(struct mailbox *mailbox, uint32_t uidvalidity, const struct runs *uids)
{
	if (mailbox->moved_uidvalidity != uidvalidity) {
		runs_done(&mailbox->moved);
		mailbox->moved_uidvalidity = uidvalidity;
	}
	struct run run;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(uids, (uint32_t)n, &run);
		n = (uint64_t)run.last + 1) {
		if (runs_set(&mailbox->moved, run.first, run.last, 0) < 0) {
			/* At worst somebody is notified of what they did themselves. */
			return;
		}
	}
}
