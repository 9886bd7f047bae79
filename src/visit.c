#include <errno.h>
#include <stdlib.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

/* Mailboxes that are asked by STATUS at a time, in one flight: callers need not wait for all of a
 * long list. */
#define N_ASKED_HIGHEST 100

/* Mailboxes that are opened one after the other; then the visitor goes home, whatever else there is
 * to be seen elsewhere. */
#define N_TRIP_HIGHEST 8

static uint64_t now_of(const struct account *account)
{
	return turn_now(account->set->turn);
}

/* -- when -- */

static void make_due(struct account *account, struct mailbox *mailbox)
{
	list_remove(&mailbox->due);
	list_append(&account->due, &mailbox->due);
	task_wake(&account->task);
}

static void on_alarm(struct task *task)
{
	struct mailbox *mailbox = list_entry(task, struct mailbox, alarm);
	make_due(mailbox->account, mailbox);
	if (mailbox->rest != 0) {
		/* It may have a connection of its own again. */
		account_wake(mailbox->account);
	}
}

void visit_init(struct account *account, struct mailbox *mailbox)
{
	task_init(&mailbox->alarm, account->set->turn, on_alarm);
	make_due(account, mailbox);
}

void visit_at(struct mailbox *mailbox, uint64_t due)
{
	struct account *account = mailbox->account;
	uint64_t now = now_of(account);
	due = mailbox->rest > due ? mailbox->rest : due;
	list_remove(&mailbox->due);
	bool is_now = due <= now;
	/* What was to wait for long may well be late by some of it. */
	uint64_t slack = is_now ? 0 : (due - now) / 8;
	if (task_set_deadline(&mailbox->alarm, is_now ? USEC_NEVER : due, slack) < 0 || is_now) {
		make_due(account, mailbox);
	}
}

/* A server that pushes may be silent for other reasons than that nothing happens. */
static uint64_t interval(const struct mailbox *mailbox)
{
	const struct config_account *config = mailbox->account->config;
	bool is_longer = config->idle_timeout_usec > config->poll_interval_usec;
	return mailbox->is_notified && is_longer ? config->idle_timeout_usec
						 : config->poll_interval_usec;
}

void visit_ended(struct mailbox *mailbox)
{
	visit_at(mailbox, mailbox->has_news ? 0 : now_of(mailbox->account) + interval(mailbox));
}

/* -- by whom -- */

struct connection *visit_visitor(struct account *account)
{
	if (account->visitor && connection_is_logged_in(account->visitor)) {
		return account->visitor;
	}
	account->visitor = NULL;
	for (unsigned int i = account->n_connections; i > 0 && !account->visitor; i--) {
		if (connection_is_logged_in(account->connections[i - 1])) {
			account->visitor = account->connections[i - 1];
		}
	}
	return account->visitor;
}

static bool is_at_leisure(const struct connection *connection)
{
	switch (imap_client_state(connection_client(connection))) {
	case IMAP_STATE_READY:
		return !connection_watched(connection);
	case IMAP_STATE_IDLING:
		return true;
	case IMAP_STATE_GREETING:
	case IMAP_STATE_STARTTLS:
	case IMAP_STATE_CAPABILITY:
	case IMAP_STATE_AUTHENTICATE:
	case IMAP_STATE_COMPRESS:
	case IMAP_STATE_ENABLE:
	case IMAP_STATE_EXAMINE:
	case IMAP_STATE_SYNCHRONISE:
	case IMAP_STATE_IDLE_REQUESTED:
	case IMAP_STATE_IDLE_ENDING:
	case IMAP_STATE_FETCHING:
	case IMAP_STATE_LOGOUT:
	case IMAP_STATE_CLOSED:
		break;
	}
	return false;
}

static bool is_polled(const struct account *account, const struct mailbox *mailbox)
{
	return !mailbox->is_stopped && !mailbox_is_resting(mailbox, now_of(account)) &&
		!mailbox_is_watched(mailbox);
}

bool visit_is_being_served(const struct account *account, const struct mailbox *mailbox)
{
	const struct list *wishes = &account->wishes;
	for (const struct list *node = wishes->next; node != wishes; node = node->next) {
		const struct wish *wish = list_entry(node, const struct wish, node);
		if (wish->mailbox == mailbox && wish->connection) {
			return true;
		}
	}
	return false;
}

bool visit_attach(struct account *account, struct mailbox *mailbox, struct connection *connection)
{
	if (mailbox->connection == connection) {
		return true;
	}
	if (mailbox->connection && visit_is_being_served(account, mailbox)) {
		return false;
	}
	account_detach(account, mailbox);
	/* What was told meanwhile may have ended the connection. */
	if (!connection_is_logged_in(connection)) {
		return false;
	}
	mailbox->connection = connection;
	return true;
}

static bool visit(struct account *account, struct mailbox *mailbox, struct connection *connection)
{
	struct accounts *set = account->set;
	if (!visit_attach(account, mailbox, connection)) {
		return false;
	}
	struct wish *wish = wish_new(&account->wishes, WISH_VISIT, NULL, mailbox, set->turn,
		&account->task, &set->queue, accounts_new_id(set));
	struct failure failure;
	if (!wish) {
		return false;
	}
	mailbox->is_visited = true;
	if (wish_send(wish, connection, now_of(account), &failure) <= 0) {
		wish_drop(wish);
		return false;
	}
	list_remove(&mailbox->due);
	return true;
}

static unsigned int n_under_way(const struct account *account)
{
	unsigned int n = 0;
	const struct list *wishes = &account->wishes;
	for (const struct list *node = wishes->next; node != wishes; node = node->next) {
		n += list_entry(node, const struct wish, node)->kind == WISH_VISIT;
	}
	return n;
}

/* Whether there is room for one more; is_cheap: STATUS will do. */
static bool has_room(const struct account *account, unsigned int n, bool is_cheap)
{
	return is_cheap ? n < N_ASKED_HIGHEST : account->n_trip < N_TRIP_HIGHEST;
}

void visit_work(struct account *account)
{
	struct connection *visitor = list_is_empty(&account->due) ? NULL : visit_visitor(account);
	if (!visitor) {
		return;
	}
	unsigned int n = n_under_way(account);
	if (n == 0 && !is_at_leisure(visitor)) {
		return;
	}
	account->n_trip = n == 0 ? 0 : account->n_trip;
	LIST_FOR_EACH_SAFE (node, &account->due) {
		struct mailbox *mailbox = list_entry(node, struct mailbox, due);
		if (!is_polled(account, mailbox)) {
			/* Whatever makes it so makes it due. */
			visit_at(mailbox,
				mailbox_is_resting(mailbox, now_of(account)) ? mailbox->rest
									     : USEC_NEVER);
			continue;
		}
		const struct imap_client *client = connection_client(visitor);
		bool is_cheap = !mailbox->has_news && imap_client_asks_first(client, mailbox->view);
		if (mailbox->is_visited || !has_room(account, n, is_cheap) ||
			!visit(account, mailbox, visitor)) {
			continue;
		}
		n++;
		account->n_trip += !is_cheap;
		if (!connection_is_logged_in(visitor)) {
			return;
		}
	}
}

/* -- NOTIFY -- */

static struct connection *first_of(const struct account *account)
{
	return account->n_connections > 0 ? account->connections[0] : NULL;
}

static void forget_notify(struct account *account)
{
	account->is_notify_settled = false;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		account->mailboxes[i]->is_notified = false;
	}
}

void visit_ready(struct account *account, const struct connection *connection)
{
	account->visitor = NULL;
	if (connection == first_of(account)) {
		forget_notify(account);
		account->may_notify = imap_client_may_notify(connection_client(connection));
	}
}

void visit_reaped(struct account *account, bool was_first)
{
	account->visitor = NULL;
	struct connection *first = first_of(account);
	if (was_first && first && connection_is_logged_in(first)) {
		visit_ready(account, first);
	}
}

void visit_closed(struct account *account, const struct connection *connection)
{
	account->visitor = NULL;
	if (connection == first_of(account)) {
		forget_notify(account);
	}
}

void visit_notify(struct account *account, const struct connection *connection)
{
	const struct imap_client *client = connection_client(connection);
	if (connection != first_of(account) || !client) {
		return;
	}
	account->may_notify = imap_client_may_notify(client);
	account->is_notify_settled = true;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		mailbox->is_notified = imap_client_has_notify(client) &&
			imap_client_notifies(client, mailbox_name(mailbox));
		/* What changed before it was told, or after it was told no more. */
		visit_at(mailbox, 0);
	}
}

/* The view is as the server says: as if it had been visited. */
static void find_unchanged(
	struct account *account, struct mailbox *mailbox, struct connection *connection)
{
	struct imap_event synchronised = {
		.kind = IMAP_EVENT_SYNCHRONISED,
		.mailbox = mailbox->view,
		.cursor = mailbox->view->cursor,
	};
	if (visit_attach(account, mailbox, connection) &&
		mailbox_follow_synchronised(mailbox, &synchronised) == 0) {
		visit_ended(mailbox);
	}
}

void visit_changed(
	struct account *account, struct connection *connection, const struct imap_event *event)
{
	const struct imap_elsewhere *said = &event->elsewhere;
	struct mailbox *mailbox = account_find_mailbox(account, event->list_name);
	if (!mailbox || !is_polled(account, mailbox)) {
		return;
	}
	account_touch(account, mailbox);
	bool is_same = said->has_messages &&
		imap_mailbox_is_as_said(mailbox->view, said->uidvalidity, said->uidnext,
			said->messages, said->highestmodseq);
	if (is_same && !mailbox->is_visited) {
		find_unchanged(account, mailbox, connection);
	} else if (!is_same) {
		mailbox->has_news = true;
		if (!mailbox->is_visited) {
			visit_at(mailbox, 0);
		}
	}
}

void visit_tell_others(struct account *account)
{
	struct connection *first = first_of(account);
	if (!first) {
		return;
	}
	const char **names = calloc(account->n_mailboxes + 1, sizeof(*names));
	size_t n = 0;
	for (size_t i = 0; names && i < account->n_mailboxes; i++) {
		const struct mailbox *mailbox = account->mailboxes[i];
		bool is_own = connection_watched(first) == mailbox->view;
		if (!is_own && !mailbox->is_stopped &&
			!mailbox_is_resting(mailbox, now_of(account))) {
			names[n] = mailbox_name(mailbox);
			n++;
		}
	}
	int result = names ? connection_watch_others(first, names, n) : -ENOMEM;
	if (result > 0) {
		account->is_notify_settled = false;
	} else if (result < 0) {
		log_debug(account_name(account), NULL, "out of memory: not all are notified");
	}
	free(names);
}
