#include <stdlib.h>
#include <string.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

/* Visits that an engine has at a time: two or more keep it from going back to IDLE between them,
 * and callers need not wait for all of a long list. */
#define N_VISITS 4

/* After so long without a refusal one connection more is tried again. */
#define LIMIT_FORGIVEN_USEC (30 * USEC_PER_MINUTE)

static uint64_t now_of(const struct account *account)
{
	return turn_now(account->set->turn);
}

/* -- connections -- */

static bool wants_connection(const struct account *account, const struct mailbox *mailbox)
{
	return !mailbox->is_stopped && !mailbox_is_resting(mailbox, now_of(account));
}

static bool is_free(const struct connection *connection)
{
	return !connection_is_stopping(connection) && !connection_watched(connection);
}

static unsigned int n_going_on(const struct account *account)
{
	unsigned int n = 0;
	for (unsigned int i = 0; i < account->n_connections; i++) {
		n += !connection_is_stopping(account->connections[i]);
	}
	return n;
}

static unsigned int n_needed(const struct account *account)
{
	size_t n_wanted = 0;
	size_t n_resting = 0;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		const struct mailbox *mailbox = account->mailboxes[i];
		n_wanted += wants_connection(account, mailbox);
		n_resting += !mailbox->is_stopped;
	}
	/* One that watches nothing lists what patterns find, or waits with a mailbox that rests. */
	bool is_listing = account->n_mailboxes == 0 && account->listing.due != USEC_NEVER;
	if (n_wanted == 0 && (n_resting > 0 || is_listing)) {
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

static bool is_being_served(const struct account *account, const struct mailbox *mailbox)
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

static void give_connections(struct account *account, unsigned int needed)
{
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		/* One whose connection is on its way out has to wait until it is gone. */
		if (!wants_connection(account, mailbox) || mailbox_is_watched(mailbox)) {
			continue;
		}
		struct connection *connection = find_free(account);
		if (!connection && n_going_on(account) < needed) {
			connection = add_connection(account);
		}
		if (!connection) {
			return;
		}
		if (mailbox->connection != connection) {
			if (is_being_served(account, mailbox)) {
				continue;
			}
			account_detach(account, mailbox);
		}
		mailbox->connection = connection;
		if (connection_watch(connection, mailbox->view) < 0) {
			/* The engine is out of memory, and says so by its end. */
			continue;
		}
	}
}

/* From the end, those without a mailbox first. */
static void take_connections(struct account *account, unsigned int needed)
{
	for (int only_free = 1; only_free >= 0; only_free--) {
		for (unsigned int i = account->n_connections; i > 0; i--) {
			struct connection *connection = account->connections[i - 1];
			if (n_going_on(account) <= needed) {
				return;
			}
			if (!connection_is_stopping(connection) &&
				(!only_free || is_free(connection))) {
				connection_stop(connection);
			}
		}
	}
}

static void forgive_limit(struct account *account)
{
	if (account->budget < account->config->max_connections && account->limited != 0 &&
		now_of(account) - account->limited >= LIMIT_FORGIVEN_USEC) {
		account->budget++;
		account->limited = now_of(account);
	}
}

void share_connections(struct account *account)
{
	forgive_limit(account);
	unsigned int needed = n_needed(account);
	if (needed > 0 && n_going_on(account) == 0) {
		add_connection(account);
	}
	take_connections(account, needed);
	give_connections(account, needed);
}

/* -- those without a connection -- */

struct connection *share_visitor(const struct account *account)
{
	for (unsigned int i = account->n_connections; i > 0; i--) {
		if (connection_is_logged_in(account->connections[i - 1])) {
			return account->connections[i - 1];
		}
	}
	return NULL;
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
	return wants_connection(account, mailbox) && !mailbox_is_watched(mailbox);
}

/* Takes the mailbox's view to this connection. Whether that is possible now. */
static bool attach(struct account *account, struct mailbox *mailbox, struct connection *connection)
{
	if (mailbox->connection == connection) {
		return true;
	}
	if (is_being_served(account, mailbox)) {
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
	if (!attach(account, mailbox, connection)) {
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
	return true;
}

void share_visits(struct account *account)
{
	struct connection *visitor = share_visitor(account);
	if (!visitor) {
		return;
	}
	unsigned int n = 0;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		n += account->mailboxes[i]->is_visited;
	}
	if (n == 0 && !is_at_leisure(visitor)) {
		return;
	}
	for (size_t i = 0; i < account->n_mailboxes && n < N_VISITS; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (is_polled(account, mailbox) && !mailbox->is_visited &&
			mailbox->visit_due <= now_of(account) && visit(account, mailbox, visitor)) {
			n++;
		}
	}
}

uint64_t share_due(const struct account *account)
{
	uint64_t now = now_of(account);
	uint64_t due = USEC_NEVER;
	bool has_visitor = share_visitor(account) != NULL;
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		const struct mailbox *mailbox = account->mailboxes[i];
		uint64_t next = USEC_NEVER;
		if (mailbox_is_resting(mailbox, now)) {
			next = mailbox->rest;
		} else if (has_visitor && is_polled(account, mailbox) && !mailbox->is_visited &&
			mailbox->visit_due > now) {
			/* One that is due already waits for the visitor's leisure. */
			next = mailbox->visit_due;
		}
		due = next < due ? next : due;
	}
	return due;
}

/* -- wishes -- */

/* Who serves the wish; NULL: nobody at the moment. */
static struct connection *server_of(struct account *account, const struct wish *wish)
{
	struct mailbox *mailbox = wish->mailbox;
	struct connection *connection = share_visitor(account);
	if (mailbox && mailbox_is_watched(mailbox)) {
		connection = mailbox->connection;
	}
	if (!connection || !connection_is_logged_in(connection)) {
		return NULL;
	}
	if (mailbox && wish_needs_view(wish) && !mailbox->is_synchronised) {
		if (!mailbox_is_watched(mailbox) && !mailbox->is_visited) {
			mailbox->visit_due = now_of(account);
		}
		return NULL;
	}
	return !mailbox || attach(account, mailbox, connection) ? connection : NULL;
}

/* Nobody will serve it until somebody does something about it. */
static bool is_hopeless(const struct account *account, const struct wish *wish)
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
