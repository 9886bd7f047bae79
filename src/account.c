#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

static void work(struct task *task);

/* -- beginning and end -- */

struct account *account_new(struct accounts *accounts, const struct config_account *config)
{
	struct account *account = calloc(1, sizeof(*account));
	if (!account) {
		return NULL;
	}
	account->set = accounts;
	account->config = config;
	account->budget = config->max_connections;
	account->state = ACCOUNT_STATE_CONNECTING;
	account->tls_version = "";
	list_init(&account->node);
	list_init(&account->wishes);
	list_init(&account->due);
	list_init(&account->touched);
	listing_init(&account->listing);
	task_init(&account->task, accounts->turn, work);
	tally_init(&account->tally, &accounts->tally);
	notice_change_init(&account->changed, ACCOUNT_EVENT_CHANGED, account, NULL);
	account->capabilities = calloc(1, sizeof(*account->capabilities));
	account->key = key_new(accounts->turn, &account->task, config);
	if (!account->capabilities || !account->key) {
		return account_free(account);
	}
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		const char *name = config->mailboxes[i];
		if (!config_is_pattern(name) && !account_find_mailbox(account, name) &&
			!account_add_mailbox(account, name, true)) {
			return account_free(account);
		}
	}
	listing_configure(account);
	return account;
}

struct account *account_free(struct account *account)
{
	if (!account) {
		return NULL;
	}
	list_remove(&account->node);
	while (!list_is_empty(&account->wishes)) {
		wish_drop(list_entry(account->wishes.next, struct wish, node));
	}
	for (unsigned int i = 0; i < account->n_connections; i++) {
		connection_free(account->connections[i]);
	}
	free(account->connections);
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		mailbox_free(account->mailboxes[i]);
	}
	free(account->mailboxes);
	free(account->by_name);
	listing_done(&account->listing);
	notice_withdraw(&account->set->queue, &account->changed);
	key_free(account->key);
	free(account->capabilities);
	failure_forget(&account->failure);
	task_done(&account->task);
	free(account);
	return NULL;
}

static int tell(struct account *account, struct mailbox *mailbox, enum account_event_kind kind)
{
	struct notice *notice = notice_new(kind);
	if (!notice) {
		return -ENOMEM;
	}
	notice->told.account = account;
	notice->told.mailbox = mailbox;
	notice_queue_put(&account->set->queue, notice);
	return 0;
}

int account_begin(struct account *account)
{
	account->is_announced = true;
	int error = tell(account, NULL, ACCOUNT_EVENT_ADDED);
	for (size_t i = 0; error == 0 && i < account->n_mailboxes; i++) {
		account->mailboxes[i]->is_announced = true;
		error = tell(account, account->mailboxes[i], ACCOUNT_EVENT_MAILBOX_ADDED);
	}
	account_wake(account);
	return error;
}

static bool is_configured(const struct config_account *config, const char *name)
{
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		if (strcmp(config->mailboxes[i], name) == 0) {
			return true;
		}
	}
	return false;
}

/* Those that it names in its order, the others behind them. */
static void sort_mailboxes(struct account *account)
{
	const struct config_account *config = account->config;
	struct mailbox **sorted = calloc(account->n_mailboxes_allocated + 1, sizeof(*sorted));
	size_t n = 0;
	for (size_t i = 0; sorted && i < config->n_mailboxes; i++) {
		struct mailbox *mailbox = account_find_mailbox(account, config->mailboxes[i]);
		if (mailbox && n < account->n_mailboxes) {
			sorted[n] = mailbox;
			n++;
		}
	}
	for (size_t i = 0; sorted && i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (!mailbox->is_literal && n < account->n_mailboxes) {
			sorted[n] = mailbox;
			n++;
		}
	}
	if (sorted && n == account->n_mailboxes) {
		free(account->mailboxes);
		account->mailboxes = sorted;
	} else {
		free(sorted);
	}
}

static int configure_mailboxes(struct account *account)
{
	const struct config_account *config = account->config;
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		const char *name = config->mailboxes[i];
		if (config_is_pattern(name)) {
			continue;
		}
		struct mailbox *mailbox = account_find_mailbox(account, name);
		if (!mailbox && !account_add_mailbox(account, name, true)) {
			return -ENOMEM;
		}
		if (mailbox) {
			mailbox->is_literal = true;
		}
	}
	for (size_t i = account->n_mailboxes; i > 0; i--) {
		struct mailbox *mailbox = account->mailboxes[i - 1];
		if (!mailbox->is_literal || is_configured(config, mailbox_name(mailbox))) {
			continue;
		}
		/* Perhaps a pattern finds it now, which the listing will show. */
		mailbox->is_literal = false;
	}
	sort_mailboxes(account);
	return 0;
}

int account_reconfigure(struct account *account, const struct config_account *config)
{
	bool is_equal = config_account_equal(account->config, config);
	account->config = config;
	key_set_config(account->key, config);
	for (unsigned int i = 0; i < account->n_connections; i++) {
		connection_set_config(account->connections[i], config);
	}
	account->budget = config->max_connections;
	int error = 0;
	if (!is_equal) {
		error = configure_mailboxes(account);
		listing_configure(account);
	}
	if (account->state == ACCOUNT_STATE_FAILED || key_has_failed(account->key)) {
		account_retry(account);
	}
	account_wake(account);
	return error;
}

void account_shut_down(struct account *account)
{
	struct failure failure;
	failure_set(&failure, FAILURE_CANCELLED, "mailidle stops");
	account_end_wishes(account, NULL, WISH_VISIT, &failure);
	for (unsigned int i = 0; i < account->n_connections; i++) {
		connection_stop(account->connections[i]);
	}
	account_wake(account);
}

void account_hand_over(struct account *account, struct account *successor)
{
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		struct mailbox *mailbox = NULL;
		if (wish->mailbox) {
			mailbox = account_find_mailbox(successor, mailbox_name(wish->mailbox));
		}
		if (!wish->call) {
			continue;
		}
		if ((wish->connection && !wish_can_move_on(wish)) || (wish->mailbox && !mailbox)) {
			wish_end_for(wish, FAILURE_CANCELLED,
				"the configuration of the account has changed meanwhile");
			continue;
		}
		wish_hand_over(wish, &successor->wishes, mailbox, &successor->task);
	}
}

void account_remove(struct account *account)
{
	struct failure failure;
	failure_set(&failure, FAILURE_NO_SUCH_ACCOUNT, "the account is no longer configured");
	account_end_wishes(account, NULL, WISH_VISIT, &failure);
	account->is_removed = true;
	for (size_t i = account->n_mailboxes; i > 0; i--) {
		account_remove_mailbox(account, account->mailboxes[i - 1], false);
	}
	for (unsigned int i = 0; i < account->n_connections; i++) {
		connection_stop(account->connections[i]);
	}
	if (tell(account, NULL, ACCOUNT_EVENT_REMOVED) < 0) {
		/* The bus keeps an object that never changes again; nobody is hurt. */
		log_warning(account_name(account), NULL, "out of memory");
	}
	account->is_announced = false;
	account_wake(account);
}

void account_cut(struct account *account)
{
	for (unsigned int i = 0; i < account->n_connections; i++) {
		struct connection *connection = account->connections[i];
		if (connection_is_under_way(connection)) {
			connection_cut(connection);
			serve_events(account, connection);
		}
	}
	account_wake(account);
}

void account_go_to_sleep(struct account *account)
{
	struct failure failure;
	failure_set(&failure, FAILURE_OFFLINE, "the machine is about to sleep");
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (wish->call && wish->kind != WISH_STOP) {
			wish_end(wish, &failure);
		}
	}
	for (unsigned int i = 0; i < account->n_connections; i++) {
		if (connection_is_under_way(account->connections[i])) {
			connection_stop(account->connections[i]);
		}
		/* What waits has no deadline meanwhile. */
		connection_wake(account->connections[i]);
	}
	account_wake(account);
}

void account_check(struct account *account, bool has_more)
{
	for (unsigned int i = 0; i < account->n_connections; i++) {
		struct connection *connection = account->connections[i];
		serve_events(account, connection);
		connection_check(connection, has_more);
		serve_events(account, connection);
		connection_wake(connection);
	}
	account_wake(account);
}

bool account_is_quiet(const struct account *account)
{
	for (unsigned int i = 0; i < account->n_connections; i++) {
		if (connection_is_under_way(account->connections[i])) {
			return false;
		}
	}
	return true;
}

void account_wake(struct account *account)
{
	account->is_disordered = account->is_all_touched = true;
	task_wake(&account->task);
}

void account_touch(struct account *account, struct mailbox *mailbox)
{
	if (list_is_empty(&mailbox->touched)) {
		list_append(&account->touched, &mailbox->touched);
	}
	task_wake(&account->task);
}

/* -- mailboxes -- */

/* Where the name is among the sorted ones, or would be. */
static size_t find_place(const struct account *account, const char *name)
{
	size_t first = 0;
	size_t end = account->n_mailboxes;
	while (first < end) {
		size_t middle = first + (end - first) / 2;
		if (strcmp(mailbox_name(account->by_name[middle]), name) < 0) {
			first = middle + 1;
		} else {
			end = middle;
		}
	}
	return first;
}

static int make_room(struct account *account)
{
	if (account->n_mailboxes < account->n_mailboxes_allocated) {
		return 0;
	}
	size_t n = account->n_mailboxes_allocated > 0 ? 2 * account->n_mailboxes_allocated : 4;
	struct mailbox **mailboxes = reallocarray(account->mailboxes, n, sizeof(*mailboxes));
	if (!mailboxes) {
		return -ENOMEM;
	}
	account->mailboxes = mailboxes;
	struct mailbox **by_name = reallocarray(account->by_name, n, sizeof(*by_name));
	if (!by_name) {
		return -ENOMEM;
	}
	account->by_name = by_name;
	account->n_mailboxes_allocated = n;
	return 0;
}

static void take_out(struct mailbox **mailboxes, size_t n, const struct mailbox *mailbox)
{
	size_t i = 0;
	while (mailboxes[i] != mailbox) {
		i++;
	}
	memmove(mailboxes + i, mailboxes + i + 1, (n - i - 1) * sizeof(struct mailbox *));
}

static void unlist(struct account *account, struct mailbox *mailbox)
{
	take_out(account->mailboxes, account->n_mailboxes, mailbox);
	take_out(account->by_name, account->n_mailboxes, mailbox);
	account->n_mailboxes--;
	list_remove(&mailbox->due);
	list_remove(&mailbox->touched);
	task_done(&mailbox->alarm);
}

struct mailbox *account_add_mailbox(struct account *account, const char *name, bool is_literal)
{
	struct accounts *set = account->set;
	if (make_room(account) < 0) {
		return NULL;
	}
	struct mailbox *mailbox =
		mailbox_new(account, &account->tally, &set->queue, set->state, name);
	if (!mailbox) {
		return NULL;
	}
	mailbox->is_literal = is_literal;
	size_t place = find_place(account, name);
	memmove(account->by_name + place + 1, account->by_name + place,
		(account->n_mailboxes - place) * sizeof(struct mailbox *));
	account->by_name[place] = mailbox;
	account->mailboxes[account->n_mailboxes] = mailbox;
	account->n_mailboxes++;
	visit_init(account, mailbox);
	if (account->is_announced) {
		mailbox->is_announced = true;
		if (tell(account, mailbox, ACCOUNT_EVENT_MAILBOX_ADDED) < 0) {
			unlist(account, mailbox);
			return mailbox_free(mailbox);
		}
	}
	account_wake(account);
	return mailbox;
}

static void put_forgotten(struct account *account, const struct mailbox *mailbox)
{
	struct state_key key = mailbox_key(mailbox);
	struct notice *notice = notice_new_silent(delta_new(DELTA_FORGOTTEN, &key));
	if (notice) {
		notice_queue_put(&account->set->queue, notice);
	}
}

void account_remove_mailbox(struct account *account, struct mailbox *mailbox, bool is_forgotten)
{
	struct failure failure;
	failure_set(&failure, FAILURE_NO_SUCH_MAILBOX, "the mailbox is no longer watched");
	if (!account->is_removed) {
		share_pass_on(account, mailbox);
	}
	account_detach(account, mailbox);
	account_end_wishes(account, mailbox, WISH_LISTING, &failure);
	unlist(account, mailbox);
	mailbox_leave(mailbox);
	if (is_forgotten) {
		put_forgotten(account, mailbox);
	}
	if (tell(account, mailbox, ACCOUNT_EVENT_MAILBOX_REMOVED) < 0) {
		/* The bus still has its object, so that it must not be freed. */
		log_warning(account_name(account), mailbox_name(mailbox), "out of memory");
	}
	account_wake(account);
}

struct mailbox *account_find_mailbox(const struct account *account, const char *name)
{
	size_t place = find_place(account, name);
	if (place == account->n_mailboxes ||
		strcmp(mailbox_name(account->by_name[place]), name) != 0) {
		return NULL;
	}
	return account->by_name[place];
}

void account_detach(struct account *account, struct mailbox *mailbox)
{
	struct connection *connection = mailbox->connection;
	if (!connection) {
		return;
	}
	serve_events(account, connection);
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if (wish->mailbox != mailbox || wish->connection != connection) {
			continue;
		}
		if (!wish->call) {
			wish_drop(wish);
		} else if (wish_can_move_on(wish)) {
			wish_requeue(wish);
		} else {
			wish_end_for(wish, FAILURE_OFFLINE, "the connection was closed meanwhile");
		}
	}
	/* Taking in what was told may have ended the connection's use already. */
	if (mailbox->connection == connection) {
		connection_drop(connection, mailbox->view);
		mailbox->connection = NULL;
		mailbox->is_synchronised = false;
		visit_at(mailbox, 0);
		account_touch(account, mailbox);
	}
}

/* -- wishes -- */

void account_end_wishes(struct account *account, const struct mailbox *mailbox,
	enum wish_kind spared, const struct failure *failure)
{
	LIST_FOR_EACH_SAFE (node, &account->wishes) {
		struct wish *wish = list_entry(node, struct wish, node);
		if ((!mailbox || wish->mailbox == mailbox) && wish->kind != spared) {
			wish_end(wish, failure);
		}
	}
}

/* -- the work -- */

bool account_is_open(struct account *account)
{
	return visit_visitor(account) != NULL;
}

void account_retry(struct account *account)
{
	if (key_has_failed(account->key)) {
		key_renew(account->key);
	}
	for (unsigned int i = 0; i < account->n_connections; i++) {
		if (connection_is_under_way(account->connections[i])) {
			continue;
		}
		if (account->set->surroundings.is_asleep) {
			/* There will be another one afterwards. */
			connection_stop(account->connections[i]);
		} else {
			connection_start(account->connections[i]);
		}
	}
	account_wake(account);
}

void account_hurry(struct account *account, struct mailbox *mailbox)
{
	if (account->set->surroundings.is_asleep) {
		return;
	}
	if (mailbox && mailbox->connection) {
		connection_hurry(mailbox->connection);
	}
	bool is_open = account_is_open(account);
	if (!is_open && account->n_connections > 0) {
		connection_hurry(account->connections[0]);
	}
	uint64_t now = turn_now(account->set->turn);
	bool is_resting = mailbox && mailbox_is_resting(mailbox, now);
	if (is_resting) {
		mailbox->rest = now;
		visit_at(mailbox, 0);
	}
	bool is_cut_off =
		mailbox && mailbox->connection && !connection_is_logged_in(mailbox->connection);
	if (is_resting || !is_open || is_cut_off) {
		account_wake(account);
	} else {
		task_wake(&account->task);
	}
}

static void remove_connection(struct account *account, unsigned int i)
{
	struct connection *connection = account->connections[i];
	for (size_t k = 0; k < account->n_mailboxes; k++) {
		if (account->mailboxes[k]->connection == connection) {
			account_detach(account, account->mailboxes[k]);
		}
	}
	account->n_connections--;
	memmove(account->connections + i, account->connections + i + 1,
		(account->n_connections - i) * sizeof(struct connection *));
	connection_free(connection);
	visit_reaped(account, i == 0);
}

/* Connections that are over and have nothing to do. */
static void reap(struct account *account)
{
	for (unsigned int i = account->n_connections; i > 0; i--) {
		if (connection_state(account->connections[i - 1]) == CONNECTION_STOPPED) {
			remove_connection(account, i - 1);
		}
	}
}

/* As long as nobody is logged in the first connection tries alone: a server that is down, or a
 * password that is wrong, is asked once. The others have the secret fetched with it. */
static void line_up(struct account *account)
{
	bool is_open = account_is_open(account);
	/* What an account that was configured otherwise has not closed yet is on the same server.
	 */
	size_t n_leaving = accounts_n_leaving(account->set, account);
	for (unsigned int i = 0; i < account->n_connections; i++) {
		struct connection *connection = account->connections[i];
		struct connection *first = account->connections[0];
		enum connection_state leading = connection_state(first);
		connection_allow(connection,
			(is_open || i == 0) && n_leaving + i < account->config->max_connections);
		if (is_open || i == 0) {
			if (connection_is_following(connection)) {
				connection_start(connection);
			}
			continue;
		}
		enum connection_state state = connection_state(connection);
		bool is_leader_waiting =
			leading == CONNECTION_WAITING || leading == CONNECTION_OFFLINE;
		if (is_leader_waiting &&
			(state == CONNECTION_UNLOCKING || state == CONNECTION_WAITING ||
				state == CONNECTION_OFFLINE)) {
			connection_follow(connection, first);
		} else if (!is_leader_waiting && connection_is_following(connection)) {
			connection_start(connection);
		}
	}
}

static void set_deadline(struct account *account)
{
	uint64_t now = turn_now(account->set->turn);
	uint64_t due = USEC_NEVER;
	if (account->n_connections > 0 && connection_is_logged_in(account->connections[0])) {
		due = account->listing.due;
	}
	due = account->glimpse_due < due ? account->glimpse_due : due;
	/* What was to wait for long may well be late by some of it. */
	uint64_t slack = due > now && due != USEC_NEVER ? (due - now) / 8 : 0;
	if (task_set_deadline(&account->task, due, slack) < 0) {
		account_wake(account);
	}
}

/* What all of its mailboxes and connections may have to do with. */
static void put_in_order(struct account *account)
{
	account->is_disordered = false;
	/* New ones are told of by NOTIFY where that can be, before they get connections; and again
	 * if the first connection watches another one then. */
	visit_tell_others(account);
	share_connections(account);
	line_up(account);
	visit_tell_others(account);
}

/* What callers and the account itself want leaves in one flight. */
static void share_work(struct account *account)
{
	struct connection *visitor = visit_visitor(account);
	if (list_is_empty(&account->due) && list_is_empty(&account->wishes)) {
		return;
	}
	if (visitor) {
		imap_client_hold(connection_client(visitor));
	}
	visit_work(account);
	share_wishes(account);
	if (visitor && connection_client(visitor)) {
		imap_client_release(connection_client(visitor), turn_now(account->set->turn));
	}
}

static void work(struct task *task)
{
	struct account *account = list_entry(task, struct account, task);
	struct accounts *set = account->set;
	bool is_leaving =
		account->is_removed || set->is_shutting_down || set->surroundings.is_asleep;
	if (account->is_disordered || is_leaving) {
		reap(account);
	}
	if (is_leaving && account_is_quiet(account)) {
		task_wake(set->queue.owner);
	}
	if (account->is_removed) {
		accounts_bury(set, account);
		return;
	}
	if (is_leaving) {
		if (!set->is_shutting_down) {
			/* Only what was stopped has anything to wait for. */
			share_wishes(account);
		}
		show_account(account);
		return;
	}
	if (key_take_renewal(account->key)) {
		account_retry(account);
	}
	share_forgive(account);
	if (account->is_disordered) {
		put_in_order(account);
	}
	listing_work(account);
	share_work(account);
	show_account(account);
	set_deadline(account);
}

/* -- questions -- */

const char *account_name(const struct account *account)
{
	return account->config->name;
}

const char *account_host(const struct account *account)
{
	return account->config->host;
}

uint16_t account_port(const struct account *account)
{
	return account->config->port;
}

const char *account_user(const struct account *account)
{
	return account->config->user;
}

enum account_state account_state(const struct account *account)
{
	return account->state;
}

const struct failure *account_failure(const struct account *account)
{
	return failure_kept(account->failure);
}

uint64_t account_next_try_usec(const struct account *account)
{
	return account->next_try_usec;
}

uint64_t account_unread(const struct account *account)
{
	return account->tally.unread;
}

const char *const *account_capabilities(const struct account *account)
{
	return (const char *const *)account->capabilities;
}

bool account_is_secure(const struct account *account)
{
	return account->is_secure;
}

const char *account_tls_version(const struct account *account)
{
	return account->tls_version;
}

size_t account_n_mailboxes(const struct account *account)
{
	return account->n_mailboxes;
}

struct mailbox *account_mailbox(const struct account *account, size_t index)
{
	return account->mailboxes[index];
}
