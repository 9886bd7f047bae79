#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox.h"
#include "util/clock.h"
#include "util/log.h"

const char *account_state_name(enum account_state state)
{
	switch (state) {
	case ACCOUNT_STATE_STOPPED:
		return "stopped";
	case ACCOUNT_STATE_OFFLINE:
		return "offline";
	case ACCOUNT_STATE_WAITING:
		return "waiting";
	case ACCOUNT_STATE_CONNECTING:
		return "connecting";
	case ACCOUNT_STATE_AUTHENTICATING:
		return "authenticating";
	case ACCOUNT_STATE_SYNCHRONIZING:
		return "synchronizing";
	case ACCOUNT_STATE_IDLE:
		return "idle";
	case ACCOUNT_STATE_INTERRUPTING:
		return "interrupting";
	case ACCOUNT_STATE_FETCHING:
		return "fetching";
	case ACCOUNT_STATE_FAILED:
		return "failed";
	}
	return "";
}

bool account_state_is_online(enum account_state state)
{
	return state == ACCOUNT_STATE_IDLE || state == ACCOUNT_STATE_INTERRUPTING ||
		state == ACCOUNT_STATE_SYNCHRONIZING || state == ACCOUNT_STATE_FETCHING;
}

struct mailbox *mailbox_new(struct account *account, struct tally *tally,
	struct notice_queue *queue, struct state *state, const char *name)
{
	struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
	if (!mailbox) {
		return NULL;
	}
	mailbox->account = account;
	mailbox->queue = queue;
	mailbox->mode = "";
	mailbox->state = ACCOUNT_STATE_CONNECTING;
	tally_part_init(&mailbox->part, tally);
	runs_init(&mailbox->moved);
	list_init(&mailbox->due);
	list_init(&mailbox->touched);
	backoff_init(&mailbox->backoff, clock_random());
	notice_change_init(&mailbox->changed, ACCOUNT_EVENT_MAILBOX_CHANGED, account, mailbox);
	mailbox->view = imap_mailbox_new(name);
	if (!mailbox->view || mailbox_reload(mailbox, state) < 0) {
		return mailbox_free(mailbox);
	}
	mailbox->view->owner = mailbox;
	struct state_key key = mailbox_key(mailbox);
	mailbox->is_stopped = notice_queue_is_stopped(queue, &key, state_is_stopped(state, &key));
	if (mailbox->is_stopped) {
		mailbox->state = ACCOUNT_STATE_STOPPED;
	}
	return mailbox;
}

struct mailbox *mailbox_free(struct mailbox *mailbox)
{
	if (!mailbox) {
		return NULL;
	}
	notice_withdraw(mailbox->queue, &mailbox->changed);
	failure_forget(&mailbox->failure);
	failure_forget(&mailbox->problem);
	list_remove(&mailbox->due);
	list_remove(&mailbox->touched);
	task_done(&mailbox->alarm);
	runs_done(&mailbox->moved);
	imap_mailbox_free(mailbox->view);
	tally_part_done(&mailbox->part);
	free(mailbox);
	return NULL;
}

void mailbox_leave(struct mailbox *mailbox)
{
	tally_part_done(&mailbox->part);
	mailbox->is_announced = false;
}

int mailbox_reload(struct mailbox *mailbox, struct state *state)
{
	struct state_key key = mailbox_key(mailbox);
	imap_mailbox_reset(mailbox->view);
	int error = delta_load(state, &key, mailbox->view);
	if (error == -ENOMEM) {
		return error;
	}
	error = notice_queue_apply(mailbox->queue, &key, mailbox->view);
	if (error < 0) {
		imap_mailbox_reset(mailbox->view);
		mailbox_note_view(mailbox);
		return error;
	}
	mailbox->stored = mailbox->view->cursor;
	mailbox->sets_stored = imap_mailbox_flag_sets_end(mailbox->view);
	mailbox->is_synchronised = false;
	mailbox_note_view(mailbox);
	return 0;
}

struct state_key mailbox_key(const struct mailbox *mailbox)
{
	return (struct state_key){
		.host = account_host(mailbox->account),
		.user = account_user(mailbox->account),
		.mailbox = mailbox->view->name,
	};
}

void mailbox_tell_changes(struct mailbox *mailbox)
{
	if (mailbox->is_announced) {
		notice_queue_change(mailbox->queue, &mailbox->changed, mailbox->changes);
	}
	mailbox->changes = 0;
}

static bool is_same_failure(const struct failure *a, const struct failure *b)
{
	return a->kind == b->kind && (a->kind == FAILURE_NONE || strcmp(a->text, b->text) == 0);
}

enum log_level account_state_log_level(enum account_state state, bool *has_idled)
{
	bool had_idled = *has_idled;
	*has_idled = state == ACCOUNT_STATE_IDLE || (had_idled && account_state_is_online(state));
	return had_idled && *has_idled ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

static void log_transition(struct mailbox *mailbox, enum account_state was)
{
	enum log_level level = account_state_log_level(mailbox->state, &mailbox->has_idled);
	const char *account = account_name(mailbox->account);
	const struct failure *failure = failure_kept(mailbox->failure);
	if (failure_is_set(failure)) {
		log_line(level, account, mailbox->view->name, "state=%s was=%s error=%s: %s",
			account_state_name(mailbox->state), account_state_name(was),
			failure_name(failure->kind), failure->text);
	} else {
		log_line(level, account, mailbox->view->name, "state=%s was=%s",
			account_state_name(mailbox->state), account_state_name(was));
	}
}

void mailbox_enter(struct mailbox *mailbox, enum account_state state, const struct failure *failure,
	uint64_t next_try_usec)
{
	unsigned int properties = 0;
	enum account_state was = mailbox->state;
	mailbox->state = state;
	if (!is_same_failure(failure_kept(mailbox->failure), failure)) {
		failure_keep(&mailbox->failure, failure);
		properties |= ACCOUNT_PROPERTY_ERROR;
	}
	if (mailbox->next_try_usec != next_try_usec) {
		mailbox->next_try_usec = next_try_usec;
		properties |= ACCOUNT_PROPERTY_NEXT_TRY;
	}
	if (was != state) {
		properties |= ACCOUNT_PROPERTY_STATE;
		tally_part_set_online(&mailbox->part, account_state_is_online(state));
		log_transition(mailbox, was);
	}
	mailbox->changes |= properties;
}

void mailbox_set_mode(struct mailbox *mailbox, const char *mode)
{
	if (strcmp(mailbox->mode, mode) != 0) {
		mailbox->mode = mode;
		mailbox->changes |= ACCOUNT_PROPERTY_MODE;
	}
}

bool mailbox_is_watched(const struct mailbox *mailbox)
{
	return mailbox->connection && connection_watched(mailbox->connection) == mailbox->view;
}

static struct mailbox_shown look(const struct mailbox *mailbox)
{
	return (struct mailbox_shown){
		.messages = mailbox_messages(mailbox),
		.unread = mailbox_unread(mailbox),
		.uidvalidity = mailbox_uidvalidity(mailbox),
		.uidnext = mailbox_uidnext(mailbox),
		.highestmodseq = mailbox_highestmodseq(mailbox),
	};
}

void mailbox_note_view(struct mailbox *mailbox)
{
	struct mailbox_shown was = mailbox->shown;
	struct mailbox_shown is = look(mailbox);
	mailbox->shown = is;
	tally_part_set_unread(&mailbox->part, is.unread);
	mailbox->changes |= (was.messages != is.messages ? ACCOUNT_PROPERTY_MESSAGES : 0) |
		(was.unread != is.unread ? ACCOUNT_PROPERTY_UNREAD : 0) |
		(was.uidvalidity != is.uidvalidity ? ACCOUNT_PROPERTY_UIDVALIDITY : 0) |
		(was.uidnext != is.uidnext ? ACCOUNT_PROPERTY_UIDNEXT : 0) |
		(was.highestmodseq != is.highestmodseq ? ACCOUNT_PROPERTY_HIGHESTMODSEQ : 0);
}

void mailbox_put_to_rest(struct mailbox *mailbox, const struct failure *problem, uint64_t now)
{
	failure_keep(&mailbox->problem, problem);
	uint64_t wait = backoff_next_usec(&mailbox->backoff);
	mailbox->rest = now + wait;
	mailbox->rest_usec = clock_realtime_usec() + wait;
}

bool mailbox_is_resting(const struct mailbox *mailbox, uint64_t now)
{
	return mailbox->rest > now;
}

/* -- questions -- */

static uint32_t saturate(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

struct account *mailbox_account(const struct mailbox *mailbox)
{
	return mailbox->account;
}

const char *mailbox_name(const struct mailbox *mailbox)
{
	return mailbox->view->name;
}

enum account_state mailbox_state(const struct mailbox *mailbox)
{
	return mailbox->state;
}

const char *mailbox_mode(const struct mailbox *mailbox)
{
	return mailbox->mode;
}

uint32_t mailbox_messages(const struct mailbox *mailbox)
{
	return saturate(runs_count(&mailbox->view->messages));
}

uint32_t mailbox_unread(const struct mailbox *mailbox)
{
	return saturate(mailbox->view->n_unread);
}

uint32_t mailbox_uidvalidity(const struct mailbox *mailbox)
{
	return mailbox->view->cursor.uidvalidity;
}

uint32_t mailbox_uidnext(const struct mailbox *mailbox)
{
	return mailbox->view->uidnext;
}

uint64_t mailbox_highestmodseq(const struct mailbox *mailbox)
{
	return mailbox->view->cursor.highestmodseq;
}

uint64_t mailbox_last_sync_usec(const struct mailbox *mailbox)
{
	return mailbox->last_sync_usec;
}

const struct failure *mailbox_failure(const struct mailbox *mailbox)
{
	return failure_kept(mailbox->failure);
}

uint64_t mailbox_next_try_usec(const struct mailbox *mailbox)
{
	return mailbox->next_try_usec;
}
