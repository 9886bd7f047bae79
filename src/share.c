#include <stdlib.h>
#include <string.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

/* After so long without a refusal one connection more is tried again. */
#define LIMIT_FORGIVEN_USEC (30 * USEC_PER_MINUTE)

static uint64_t now_of(const struct account *account)
{
	return turn_now(account->set->turn);
}

/* -- connections -- */

static bool is_wanted(const struct account *account, const struct mailbox *mailbox)
{
	return !mailbox->is_stopped && !mailbox_is_resting(mailbox, now_of(account));
}

static bool is_first(const struct account *account, const struct connection *connection)
{
	return account->n_connections > 0 && account->connections[0] == connection;
}

/* Whether it is to have a connection of its own, as far as there are enough. Where the first one
 * does NOTIFY, it has one only if it is not among those that are told of; as long as that is not
 * known, none is made, and none given up. */
static bool wants_connection(const struct account *account, const struct mailbox *mailbox)
{
	const struct connection *connection = mailbox->connection;
	if (!is_wanted(account, mailbox)) {
		return false;
	}
	if (!account->may_notify ||
		(mailbox_is_watched(mailbox) && is_first(account, connection))) {
		return true;
	}
	if (account->is_notify_settled) {
		return !mailbox->is_notified;
	}
	return mailbox_is_watched(mailbox) && connection_is_logged_in(connection);
}

static bool is_going_on(const struct connection *connection)
{
	return !connection_is_stopping(connection) &&
		connection_state(connection) != CONNECTION_STOPPED;
}

static bool is_free(const struct connection *connection)
{
	return is_going_on(connection) && !connection_watched(connection);
}

static unsigned int n_going_on(const struct account *account)
{
	unsigned int n = 0;
	for (unsigned int i = 0; i < account->n_connections; i++) {
		n += is_going_on(account->connections[i]);
	}
	return n;
}

static unsigned int n_needed(const struct account *account)
{
	size_t n_wanted = 0;
	bool is_needed = account->n_mailboxes == 0 && account->listing.due != USEC_NEVER;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		const struct mailbox *mailbox = account->mailboxes[i];
		n_wanted += wants_connection(account, mailbox);
		is_needed = is_needed || !mailbox->is_stopped;
	}
	/* One that watches nothing lists what patterns find, or waits with a mailbox that rests. */
	if (is_needed && n_wanted == 0) {
		n_wanted = 1;
	}
	return n_wanted < account->budget ? (unsigned int)n_wanted : account->budget;
}

static struct connection *add_connection(struct account *account)
{
	if (account->n_connections == ACCOUNT_N_CONNECTIONS) {
		return NULL;
	}
	struct accounts *set = account->set;
	struct connection_setup setup = {
		.turn = set->turn,
		.surroundings = &set->surroundings,
		.gate = &set->gate,
		.key = account->key,
		.servers = set->servers,
		.config = account->config,
		.buffer = set->buffer,
		.buffer_size = set->buffer_size,
		.trace_fd = set->trace_fd,
		.number = account->n_made + 1,
	};
	struct connection **connections = reallocarray(
		account->connections, account->n_connections + 1, sizeof(*connections));
	if (!connections) {
		return NULL;
	}
	account->connections = connections;
	struct connection *connection = connection_new(&setup, serve_connection, account);
	if (!connection) {
		return NULL;
	}
	account->n_made++;
	account->connections[account->n_connections] = connection;
	account->n_connections++;
	connection_hold(connection, set->is_held);
	connection_start(connection);
	return connection;
}

static struct connection *find_free(const struct account *account)
{
	for (unsigned int i = 0; i < account->n_connections; i++) {
		if (is_free(account->connections[i])) {
			return account->connections[i];
		}
	}
	return NULL;
}

/* The connection of the last one that has one: which are the first ones is the configuration's
 * decision. The one that takes it has been seen to work. */
static struct connection *find_yielding(const struct account *account, size_t index)
{
	if (!account->mailboxes[index]->is_synchronised) {
		return NULL;
	}
	for (size_t i = account->n_mailboxes; i > index + 1; i--) {
		const struct mailbox *mailbox = account->mailboxes[i - 1];
		if (mailbox_is_watched(mailbox) && connection_is_logged_in(mailbox->connection) &&
			!(account->may_notify && is_first(account, mailbox->connection))) {
			return mailbox->connection;
		}
	}
	return NULL;
}

/* It watches this mailbox from now on, instead of another one or of none. */
static void give_connection(
	struct account *account, struct mailbox *mailbox, struct connection *connection)
{
	struct imap_mailbox *watched = connection_watched(connection);
	struct mailbox *other = watched ? watched->owner : NULL;
	if (mailbox->connection != connection) {
		if (visit_is_being_served(account, mailbox)) {
			return;
		}
		account_detach(account, mailbox);
	}
	mailbox->connection = connection;
	/* Out of memory the engine says so by its end. */
	(void)connection_watch(connection, mailbox->view);
	if (other) {
		visit_at(other, 0);
	}
}

static void give_connections(struct account *account, unsigned int needed)
{
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		/* One whose connection is on its way out has to wait until it is gone. */
		if (mailbox_is_watched(mailbox) || !is_wanted(account, mailbox)) {
			continue;
		}
		struct connection *connection = find_free(account);
		bool is_its_own = wants_connection(account, mailbox);
		if (connection && !is_its_own && !is_first(account, connection)) {
			continue;
		}
		if (!connection && !is_its_own) {
			continue;
		}
		if (!connection && n_going_on(account) < needed) {
			if (account->n_connections >= account->budget) {
				/* One that is on its way out counts, too; its end wakes us. */
				return;
			}
			connection = add_connection(account);
		}
		if (!connection) {
			connection = find_yielding(account, i);
		}
		if (!connection) {
			return;
		}
		give_connection(account, mailbox, connection);
	}
}

static void stop_connection(struct account *account, struct connection *connection)
{
	connection_stop(connection);
	/* It may be gone already. */
	account_wake(account);
}

/* Those whose mailbox does without, then those without a mailbox, then others from the end. */
static void take_connections(struct account *account, unsigned int needed)
{
	for (unsigned int i = account->n_connections; account->may_notify && i > 1; i--) {
		struct connection *connection = account->connections[i - 1];
		struct imap_mailbox *watched = connection_watched(connection);
		if (is_going_on(connection) && watched &&
			!wants_connection(account, watched->owner)) {
			stop_connection(account, connection);
		}
	}
	for (int only_free = 1; only_free >= 0; only_free--) {
		for (unsigned int i = account->n_connections; i > 0; i--) {
			struct connection *connection = account->connections[i - 1];
			if (n_going_on(account) <= needed) {
				return;
			}
			if (is_going_on(connection) && (!only_free || is_free(connection))) {
				stop_connection(account, connection);
			}
		}
	}
}

void share_forgive(struct account *account)
{
	if (account->limited != 0 && account->budget < account->config->max_connections &&
		now_of(account) - account->limited >= LIMIT_FORGIVEN_USEC) {
		account->budget++;
		account->limited = now_of(account);
		account_wake(account);
	}
}

void share_connections(struct account *account)
{
	unsigned int needed = n_needed(account);
	if (needed > 0 && n_going_on(account) == 0) {
		add_connection(account);
	}
	take_connections(account, needed);
	give_connections(account, needed);
}

static struct mailbox *find_successor(
	const struct account *account, const struct connection *connection)
{
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (is_wanted(account, mailbox) && !mailbox_is_watched(mailbox) &&
			(mailbox->connection == connection ||
				!visit_is_being_served(account, mailbox))) {
			return mailbox;
		}
	}
	return NULL;
}

void share_pass_on(struct account *account, struct mailbox *mailbox)
{
	struct connection *connection = mailbox->connection;
	struct mailbox *successor = NULL;
	if (mailbox_is_watched(mailbox) && connection_is_logged_in(connection)) {
		successor = find_successor(account, connection);
	}
	if (successor) {
		give_connection(account, successor, connection);
	}
}

/* -- wishes -- */

/* Who serves the wish; NULL: nobody at the moment. */
static struct connection *server_of(struct account *account, const struct wish *wish)
{
	struct mailbox *mailbox = wish->mailbox;
	struct connection *connection = visit_visitor(account);
	if (mailbox && mailbox_is_watched(mailbox)) {
		connection = mailbox->connection;
	}
	if (!connection || !connection_is_logged_in(connection)) {
		return NULL;
	}
	if (mailbox && wish_needs_view(wish) && !mailbox->is_synchronised) {
		if (!mailbox_is_watched(mailbox) && !mailbox->is_visited) {
			visit_at(mailbox, 0);
		}
		return NULL;
	}
	return !mailbox || visit_attach(account, mailbox, connection) ? connection : NULL;
}

/* Nobody will serve it until somebody does something about it. */
static bool is_hopeless(struct account *account, const struct wish *wish)
{
	const struct connection *connection = NULL;
	if (wish->mailbox && mailbox_is_watched(wish->mailbox)) {
		connection = wish->mailbox->connection;
	} else if (account->n_connections > 0 && !account_is_open(account)) {
		connection = account->connections[0];
	}
	return connection && connection_state(connection) == CONNECTION_FAILED;
}

static void serve(struct account *account, struct wish *wish)
{
	if (wish->kind == WISH_STOP) {
		if (!wish->mailbox->connection) {
			/* What is shown comes before the reply. */
			show_account(account);
			wish_end(wish, &(struct failure){0});
		}
		return;
	}
	struct connection *connection = server_of(account, wish);
	if (!connection && is_hopeless(account, wish)) {
		/* What is shown comes before the reply. */
		show_account(account);
		struct failure failure =
			*failure_kept(wish->mailbox ? wish->mailbox->failure : account->failure);
		wish_end(wish, &failure);
		return;
	}
	if (!connection) {
		return;
	}
	struct failure failure = {0};
	int result = wish_send(wish, connection, now_of(account), &failure);
	if (result == 0) {
		wish_end(wish, &failure);
	} else if (result < 0) {
		wish_end_for(wish, FAILURE_LIMIT_EXCEEDED, "out of memory");
	}
}

void share_wishes(struct account *account)
{
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (!wish->connection) {
			serve(account, wish);
		}
	}
}
