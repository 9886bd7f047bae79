#include <string.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

/* Pieces of work of one connection in a row; then the others have their turn. */
#define N_STEPS 16

/* A wish that so many connections broke over is what breaks them. */
#define N_BROKEN_HIGHEST 3

static struct wish *find_wish(
	const struct account *account, const struct connection *connection, uint64_t id)
{
	const struct list *wishes = &account->wishes;
	for (struct list *node = wishes->next; node != wishes; node = node->next) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (wish->id == id && wish->connection == connection) {
			return wish;
		}
	}
	return NULL;
}

/* -- what is said of mailboxes -- */

static int follow(struct account *account, struct mailbox *mailbox, struct imap_event *event)
{
	unsigned int items = MESSAGE_DEFAULT;
	items |= account->config->preview ? MESSAGE_PREVIEW : 0;
	switch (event->kind) {
	case IMAP_EVENT_BASELINE:
		return mailbox_follow_baseline(mailbox, event);
	case IMAP_EVENT_NEW:
		return mailbox_follow_new(mailbox, event, items);
	case IMAP_EVENT_FLAGS:
		return mailbox_follow_flags(mailbox, event);
	case IMAP_EVENT_EXPUNGED:
		return mailbox_follow_expunged(mailbox, event);
	case IMAP_EVENT_SYNCHRONISED:
		return mailbox_follow_synchronised(mailbox, event);
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
		break;
	}
	return 0;
}

/* The views of this connection's mailboxes are ahead of what could be told: what is stored is the
 * truth, and the connection begins anew from there. */
static void lose(struct account *account, struct connection *connection)
{
	struct failure failure;
	failure_set(&failure, FAILURE_LIMIT_EXCEEDED, "out of memory");
	connection_abort(connection, &failure);
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (mailbox->connection == connection &&
			mailbox_reload(mailbox, account->set->state) < 0) {
			log_error(account_name(account), mailbox_name(mailbox),
				"out of memory: what is known of the mailbox is lost");
		}
	}
}

static void on_mailbox(
	struct account *account, struct connection *connection, struct imap_event *event)
{
	struct mailbox *mailbox = event->mailbox->owner;
	bool was_synchronised = mailbox->is_synchronised;
	if (follow(account, mailbox, event) < 0) {
		lose(account, connection);
		return;
	}
	account_touch(account, mailbox);
	if (event->kind == IMAP_EVENT_SYNCHRONISED) {
		mailbox->has_news = false;
		if (!was_synchronised && !mailbox_is_watched(mailbox)) {
			/* It may have a connection of its own now. */
			account_wake(account);
		}
	}
	show_views(account);
}

/* It rests for a while, and its connection is free for others. */
static void on_mailbox_failed(struct account *account, const struct imap_event *event)
{
	struct mailbox *mailbox = event->mailbox->owner;
	struct failure failure = event->failure;
	mailbox_put_to_rest(mailbox, &failure, turn_now(account->set->turn));
	/* No event is looked at behind this. */
	account_detach(account, mailbox);
	visit_at(mailbox, mailbox->rest);
	account_wake(account);
	show_account(account);
	account_end_wishes(account, mailbox, WISH_STOP, &failure);
}

/* -- what is said of wishes -- */

static void expect_moved(struct account *account, const struct imap_event *event)
{
	struct mailbox *target =
		event->moved_target ? account_find_mailbox(account, event->moved_target) : NULL;
	if (target) {
		mailbox_expect_moved(target, event->moved_uidvalidity, &event->uids);
	}
}

static void on_done(struct account *account, struct wish *wish, const struct imap_event *event)
{
	struct failure failure = event->failure;
	bool is_listing = wish->kind == WISH_LISTING;
	wish->connection = NULL;
	struct mailbox *visited = wish->kind == WISH_VISIT ? wish->mailbox : NULL;
	wish_end(wish, &failure);
	if (visited) {
		visit_ended(visited);
	}
	if (is_listing) {
		/* No event is looked at behind this. */
		listing_end(account, &failure);
	}
}

static void on_wish(
	struct account *account, struct connection *connection, struct imap_event *event)
{
	struct wish *wish = find_wish(account, connection, event->id);
	if (event->kind == IMAP_EVENT_MOVED) {
		expect_moved(account, event);
	}
	if (!wish) {
		return;
	}
	if (event->kind == IMAP_EVENT_DONE) {
		on_done(account, wish, event);
		return;
	}
	struct failure failure;
	int error = 0;
	if (event->kind == IMAP_EVENT_MESSAGE) {
		error = wish_gather_message(wish, event, &failure);
	} else if (event->kind == IMAP_EVENT_CHUNK) {
		error = wish_gather_chunk(wish, event, turn_now(account->set->turn), &failure);
	} else if (event->kind == IMAP_EVENT_LISTED && wish->kind == WISH_LISTING) {
		listing_gather(account, event);
	} else if (event->kind == IMAP_EVENT_LISTED) {
		error = wish_gather_list(wish, event, &failure);
	}
	if (error < 0) {
		wish_end(wish, &failure);
	}
}

/* -- beginnings and ends -- */

static void wake_all(struct account *account)
{
	for (unsigned int i = 0; i < account->n_connections; i++) {
		connection_wake(account->connections[i]);
	}
}

static void on_ready(struct account *account, struct connection *connection)
{
	visit_ready(account, connection);
	if (connection == account->connections[0]) {
		show_capabilities(account, connection_client(connection));
		if (account->listing.due != USEC_NEVER) {
			account->listing.due = turn_now(account->set->turn);
		}
	}
	wake_all(account);
}

/* Both those that its engine had and those that waited for it. */
static void count_broken(struct account *account, const struct connection *connection)
{
	LIST_FOR_EACH (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		const struct connection *server = wish->connection;
		if (!server && wish->mailbox) {
			server = wish->mailbox->connection;
		}
		wish->n_broken += server == connection;
	}
}

/* Wishes that this connection's engine had. */
static void take_back_wishes(
	struct account *account, struct connection *connection, const struct failure *failure)
{
	unsigned int n_listings = 0;
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (wish->connection != connection) {
			continue;
		}
		wish->connection = NULL;
		n_listings += wish->kind == WISH_LISTING;
		if (!wish->call) {
			wish_drop(wish);
		} else if (wish_can_move_on(wish)) {
			wish_requeue(wish);
		} else {
			wish_end_for(wish, FAILURE_OFFLINE,
				failure->text[0] != '\0' ? failure->text
							 : "the connection was closed meanwhile");
		}
	}
	struct failure lost;
	failure_set(&lost, FAILURE_OFFLINE, "the connection was closed meanwhile");
	for (; n_listings > 0; n_listings--) {
		listing_end(account, &lost);
	}
}

/* The next connection would break over them, too. */
static void end_breaking_wishes(struct account *account, const struct failure *failure)
{
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (wish->call && wish->kind != WISH_STOP && !wish->connection &&
			wish->n_broken >= N_BROKEN_HIGHEST) {
			wish_end(wish, failure);
		}
	}
}

/* An attempt has come to nothing: whoever waits for it waits in vain. */
static void end_waiting_wishes(
	struct account *account, const struct connection *connection, const struct failure *failure)
{
	bool is_leader = !account_is_open(account) && connection == account->connections[0];
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		bool is_served = wish->mailbox && mailbox_is_watched(wish->mailbox) &&
			wish->mailbox->connection == connection;
		if (wish->call && wish->kind != WISH_STOP && (is_leader || is_served)) {
			wish_end(wish, failure);
		}
	}
}

static unsigned int n_alive(const struct account *account)
{
	unsigned int n = 0;
	for (unsigned int i = 0; i < account->n_connections; i++) {
		n += connection_state(account->connections[i]) != CONNECTION_STOPPED;
	}
	return n;
}

/* The server bears fewer connections: its mailbox is polled by another one. */
static void lower_budget(struct account *account, struct connection *connection)
{
	if (n_alive(account) < 2 || !account_is_open(account)) {
		return;
	}
	account->budget = n_alive(account) - 1;
	account->limited = turn_now(account->set->turn);
	log_warning(account_name(account), NULL,
		"the server allows no more than %u connections: other mailboxes are polled",
		account->budget);
	connection_cut(connection);
	struct imap_mailbox *watched = connection_watched(connection);
	if (watched) {
		account_detach(account, watched->owner);
	}
}

static void on_closed(
	struct account *account, struct connection *connection, const struct imap_event *event)
{
	struct failure failure = event->failure;
	visit_closed(account, connection);
	account_wake(account);
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (mailbox->connection != connection) {
			continue;
		}
		mailbox->is_synchronised = false;
		if (!mailbox_is_watched(mailbox)) {
			mailbox->connection = NULL;
			visit_at(mailbox, 0);
		}
	}
	if (event->end == IMAP_END_LIMIT && !connection_is_stopping(connection)) {
		lower_budget(account, connection);
	}
	if (connection_was_logged_in(connection)) {
		count_broken(account, connection);
	}
	take_back_wishes(account, connection, &failure);
	wake_all(account);
	/* What is shown comes before replies. */
	show_account(account);
	enum connection_state state = connection_state(connection);
	bool is_waiting = state == CONNECTION_WAITING || state == CONNECTION_OFFLINE ||
		state == CONNECTION_FAILED;
	if (!is_waiting || connection_is_immediate(connection)) {
		return;
	}
	/* Who is told to rest does so, whoever waits. */
	bool is_sent_away = event->end == IMAP_END_THROTTLED || event->end == IMAP_END_LIMIT;
	if (!connection_was_logged_in(connection) || is_sent_away) {
		end_waiting_wishes(account, connection, &failure);
		return;
	}
	/* It broke while it served: those who wait are given to the next one at once. */
	end_breaking_wishes(account, &failure);
	if (!list_is_empty(&account->wishes)) {
		connection_hurry(connection);
	}
}

/* -- the conversation -- */

static void touch(struct account *account, const struct imap_mailbox *view)
{
	if (view) {
		account_touch(account, view->owner);
	}
}

/* What is shown of the mailbox that is watched and of the one that is open; and of all those
 * without a connection of their own as long as they show how far the first one is. */
static void on_state(struct account *account, const struct connection *connection)
{
	if (connection == account->connections[0] && !connection_is_logged_in(connection)) {
		account->is_all_touched = true;
	}
	const struct imap_client *client = connection_client(connection);
	touch(account, connection_watched(connection));
	touch(account, client ? imap_client_mailbox(client) : NULL);
}

static void handle(struct account *account, struct connection *connection, struct imap_event *event)
{
	task_wake(&account->task);
	switch (event->kind) {
	case IMAP_EVENT_BASELINE:
	case IMAP_EVENT_NEW:
	case IMAP_EVENT_FLAGS:
	case IMAP_EVENT_EXPUNGED:
	case IMAP_EVENT_SYNCHRONISED:
		on_mailbox(account, connection, event);
		break;
	case IMAP_EVENT_MAILBOX_FAILED:
		on_mailbox_failed(account, event);
		break;
	case IMAP_EVENT_LISTED:
	case IMAP_EVENT_MESSAGE:
	case IMAP_EVENT_CHUNK:
	case IMAP_EVENT_MOVED:
	case IMAP_EVENT_DONE:
		on_wish(account, connection, event);
		break;
	case IMAP_EVENT_READY:
		on_ready(account, connection);
		account_wake(account);
		break;
	case IMAP_EVENT_CLOSED:
		on_closed(account, connection, event);
		break;
	case IMAP_EVENT_NOTIFY:
		visit_notify(account, connection);
		account_wake(account);
		break;
	case IMAP_EVENT_CHANGED_ELSEWHERE:
		visit_changed(account, connection, event);
		break;
	case IMAP_EVENT_STATE:
		on_state(account, connection);
		break;
	case IMAP_EVENT_START_TLS:
	case IMAP_EVENT_START_DEFLATE:
	case IMAP_EVENT_CREDENTIALS:
		break;
	}
}

void serve_events(struct account *account, struct connection *connection)
{
	struct imap_event *event;
	while ((event = connection_next_event(connection))) {
		handle(account, connection, event);
		accounts_check_queue(account->set);
	}
}

void serve_connection(struct task *task)
{
	struct connection *connection = connection_of(task);
	struct account *account = connection_owner(connection);
	enum connection_state before = connection_state(connection);
	bool has_more = true;
	for (int n = 0; has_more && n < N_STEPS; n++) {
		has_more = connection_step(connection);
		serve_events(account, connection);
		connection_flush(connection);
	}
	if (has_more) {
		connection_wake(connection);
	}
	if (connection_state(connection) != before) {
		account_wake(account);
	}
}
