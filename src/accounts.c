#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"

#define BUFFER_SIZE       ((size_t)64 * 1024)
#define COMMIT_AGAIN_USEC (30 * USEC_PER_SEC)
#define SHUTDOWN_USEC     (1500 * USEC_PER_MSEC)
#define FALL_ASLEEP_USEC  (900 * USEC_PER_MSEC)
#define CROWD_USEC        (20 * USEC_PER_MSEC)

static void on_deadline(struct task *task);
static void on_crowd(struct task *task);
static void commit_again(struct accounts *accounts);

int accounts_new(struct turn *turn, struct task *owner, struct state *state, int trace_fd,
	struct accounts **ret_accounts)
{
	struct accounts *accounts = calloc(1, sizeof(*accounts));
	if (!accounts) {
		return -ENOMEM;
	}
	accounts->turn = turn;
	accounts->state = state;
	accounts->trace_fd = trace_fd;
	accounts->cut = USEC_NEVER;
	accounts->surroundings.has_network = true;
	task_init(&accounts->task, turn, on_deadline);
	task_init(&accounts->crowd, turn, on_crowd);
	notice_queue_init(&accounts->queue, owner, state);
	gate_init(&accounts->gate);
	list_init(&accounts->dying);
	list_init(&accounts->calls);
	notice_change_init(&accounts->changed, ACCOUNT_EVENT_ROOT_CHANGED, NULL, NULL);
	accounts->buffer_size = BUFFER_SIZE;
	accounts->buffer = malloc(BUFFER_SIZE);
	accounts->servers = servers_new();
	if (!accounts->buffer || !accounts->servers) {
		accounts_free(accounts);
		return -ENOMEM;
	}
	*ret_accounts = accounts;
	return 0;
}

static void free_past(struct accounts *accounts)
{
	for (size_t i = 0; i < accounts->n_past; i++) {
		config_free(accounts->past[i]);
	}
	free(accounts->past);
	accounts->past = NULL;
	accounts->n_past = 0;
}

struct accounts *accounts_free(struct accounts *accounts)
{
	if (!accounts) {
		return NULL;
	}
	/* What was removed but not told yet goes with the events that tell it. */
	while (accounts_next_event(accounts)) {
	}
	for (size_t i = 0; i < accounts->n; i++) {
		account_free(accounts->list[i]);
	}
	while (!list_is_empty(&accounts->dying)) {
		account_free(list_entry(accounts->dying.next, struct account, node));
	}
	while (!list_is_empty(&accounts->calls)) {
		call_free(list_entry(accounts->calls.next, struct call, node));
	}
	free(accounts->list);
	notice_withdraw(&accounts->queue, &accounts->changed);
	notice_queue_done(&accounts->queue);
	task_done(&accounts->task);
	task_done(&accounts->crowd);
	free_past(accounts);
	config_free(accounts->config);
	free(accounts->buffer);
	servers_free(accounts->servers);
	free(accounts);
	return NULL;
}

/* -- configuration -- */

static struct account *find(struct account *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(account_name(list[i]), name) == 0) {
			return list[i];
		}
	}
	return NULL;
}

/* Whether it may keep its connections: at most the mailboxes differ. */
static bool is_similar(const struct config_account *a, const struct config_account *b)
{
	struct config_account copy = *b;
	copy.mailboxes = a->mailboxes;
	copy.n_mailboxes = a->n_mailboxes;
	return config_account_equal(a, &copy);
}

static bool has(struct account *const *list, size_t n, const struct account *account)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == account) {
			return true;
		}
	}
	return false;
}

/* The accounts of the configuration, those kept among them. NULL when out of memory. */
static struct account **new_list(struct accounts *accounts, const struct config *config)
{
	struct account **list = calloc(config->n_accounts + 1, sizeof(*list));
	if (!list) {
		return NULL;
	}
	for (size_t i = 0; i < config->n_accounts; i++) {
		const struct config_account *wanted = config->accounts[i];
		struct account *old = find(accounts->list, accounts->n, wanted->name);
		list[i] = old && is_similar(old->config, wanted) ? old
								 : account_new(accounts, wanted);
		if (list[i]) {
			continue;
		}
		while (i > 0) {
			i--;
			if (!has(accounts->list, accounts->n, list[i])) {
				account_free(list[i]);
			}
		}
		free(list);
		return NULL;
	}
	return list;
}

static int keep_past(struct accounts *accounts)
{
	if (!accounts->config) {
		return 0;
	}
	struct config **past = reallocarray(accounts->past, accounts->n_past + 1, sizeof(*past));
	if (!past) {
		return -ENOMEM;
	}
	accounts->past = past;
	past[accounts->n_past] = accounts->config;
	accounts->n_past++;
	return 0;
}

static void remove_others(struct accounts *accounts, struct account **list, size_t n)
{
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		if (has(list, n, account)) {
			continue;
		}
		struct account *successor = find(list, n, account_name(account));
		if (successor) {
			account_hand_over(account, successor);
		}
		list_append(&accounts->dying, &account->node);
		account_remove(account);
	}
}

int accounts_configure(struct accounts *accounts, struct config *config)
{
	struct account **list = new_list(accounts, config);
	if (!list || keep_past(accounts) < 0) {
		for (size_t i = 0; list && i < config->n_accounts; i++) {
			if (!has(accounts->list, accounts->n, list[i])) {
				account_free(list[i]);
			}
		}
		free(list);
		config_free(config);
		return -ENOMEM;
	}
	size_t n = config->n_accounts;
	struct account **old = accounts->list;
	size_t n_old = accounts->n;
	remove_others(accounts, list, n);
	accounts->config = config;
	accounts->list = list;
	accounts->n = n;
	int error = 0;
	for (size_t i = 0; i < n; i++) {
		int result = has(old, n_old, list[i])
			? account_reconfigure(list[i], config->accounts[i])
			: account_begin(list[i]);
		error = error < 0 ? error : result;
	}
	free(old);
	if (list_is_empty(&accounts->dying)) {
		free_past(accounts);
	}
	accounts_note(accounts);
	return error;
}

static bool is_same_login(const struct account *a, const struct account *b)
{
	return account_port(a) == account_port(b) &&
		strcmp(account_host(a), account_host(b)) == 0 &&
		strcmp(account_user(a), account_user(b)) == 0;
}

size_t accounts_n_leaving(const struct accounts *accounts, const struct account *account)
{
	size_t n = 0;
	const struct list *dying = &accounts->dying;
	for (const struct list *node = dying->next; node != dying; node = node->next) {
		const struct account *other = list_entry(node, const struct account, node);
		n += is_same_login(other, account) ? other->n_connections : 0;
	}
	return n;
}

void accounts_bury(struct accounts *accounts, struct account *account)
{
	if (!account->is_told || account->n_connections > 0) {
		return;
	}
	for (size_t i = 0; i < accounts->n; i++) {
		if (is_same_login(accounts->list[i], account)) {
			account_wake(accounts->list[i]);
		}
	}
	list_remove(&account->node);
	account_free(account);
	if (list_is_empty(&accounts->dying)) {
		free_past(accounts);
	}
	if (accounts->is_shutting_down) {
		task_wake(accounts->queue.owner);
	}
}

/* -- the end -- */

static void cut_after(struct accounts *accounts, uint64_t usec)
{
	accounts->cut = turn_now(accounts->turn) + usec;
	if (task_set_deadline(&accounts->task, accounts->cut, 0) < 0) {
		accounts->cut = 0;
		task_wake(&accounts->task);
	}
}

void accounts_shutdown(struct accounts *accounts)
{
	if (accounts->is_shutting_down) {
		return;
	}
	accounts->is_shutting_down = true;
	for (size_t i = 0; i < accounts->n; i++) {
		account_shut_down(accounts->list[i]);
	}
	cut_after(accounts, SHUTDOWN_USEC);
	accounts->catch_up_at = 0;
	commit_again(accounts);
	accounts->may_have_lost = true;
	task_wake(accounts->queue.owner);
}

bool accounts_is_quiet(const struct accounts *accounts)
{
	for (size_t i = 0; i < accounts->n; i++) {
		if (!account_is_quiet(accounts->list[i])) {
			return false;
		}
	}
	const struct list *dying = &accounts->dying;
	for (const struct list *node = dying->next; node != dying; node = node->next) {
		if (!account_is_quiet(list_entry(node, const struct account, node))) {
			return false;
		}
	}
	return true;
}

static void cut_all(struct accounts *accounts)
{
	for (size_t i = 0; i < accounts->n; i++) {
		account_cut(accounts->list[i]);
	}
	LIST_FOR_EACH (node, &accounts->dying) {
		account_cut(list_entry(node, struct account, node));
	}
	task_wake(accounts->queue.owner);
}

/* -- the machine -- */

static void check_all(struct accounts *accounts, bool has_more)
{
	if (accounts->is_shutting_down || accounts->surroundings.is_asleep) {
		return;
	}
	for (size_t i = 0; i < accounts->n; i++) {
		account_check(accounts->list[i], has_more);
	}
}

void accounts_network_changed(struct accounts *accounts, unsigned int news, bool is_up)
{
	if (accounts->surroundings.has_network != is_up) {
		log_info(NULL, NULL, is_up ? "there is a network" : "there is no network");
	}
	accounts->surroundings.has_network = is_up;
	if (news != 0) {
		check_all(accounts, news & NETWORK_NEWS_MORE);
	}
}

void accounts_sleep(struct accounts *accounts)
{
	if (accounts->surroundings.is_asleep || accounts->is_shutting_down) {
		return;
	}
	log_info(NULL, NULL, "the machine is about to sleep: logging out");
	accounts->surroundings.is_asleep = true;
	for (size_t i = 0; i < accounts->n; i++) {
		account_go_to_sleep(accounts->list[i]);
	}
	cut_after(accounts, FALL_ASLEEP_USEC);
	task_wake(accounts->queue.owner);
}

void accounts_wake(struct accounts *accounts)
{
	log_info(NULL, NULL, "the machine has slept");
	if (accounts->surroundings.is_asleep && !accounts->is_shutting_down) {
		/* What is still logging out has its own deadlines. */
		accounts->cut = USEC_NEVER;
	}
	accounts->surroundings.is_asleep = false;
	check_all(accounts, true);
}

/* -- what is durable -- */

static void note_behind(struct accounts *accounts)
{
	accounts->is_behind = true;
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		account->is_behind = true;
		for (size_t n = 0; n < account->n_mailboxes; n++) {
			account->mailboxes[n]->is_behind = true;
		}
	}
}

static void note_loss(struct accounts *accounts)
{
	if (state_take_loss(accounts->state)) {
		note_behind(accounts);
	}
}

/* ret_is_left: set where something has to wait. */
static int catch_up_with(struct account *account, bool *ret_is_left)
{
	if (account->is_behind) {
		listing_store(account);
		account->is_behind = false;
	}
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		if (!mailbox->is_behind) {
			continue;
		}
		const struct imap_client *client =
			mailbox->connection ? connection_client(mailbox->connection) : NULL;
		if (client && !imap_client_has_told(client, mailbox->view)) {
			/* There is another moment when it is synchronised. */
			*ret_is_left = true;
		} else if (mailbox_store(mailbox) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

/* All events have been popped: what the views hold and the state lacks goes the way of all changes,
 * as deltas that tell nothing. */
static void catch_up(struct accounts *accounts)
{
	/* A commit that is about to be tried finds it out by itself. */
	if (accounts->may_have_lost && !accounts_has_announcement(accounts)) {
		accounts->may_have_lost = false;
		note_loss(accounts);
	}
	if (!accounts->is_behind || turn_now(accounts->turn) < accounts->catch_up_at) {
		return;
	}
	bool is_left = false;
	for (size_t i = 0; i < accounts->n; i++) {
		if (catch_up_with(accounts->list[i], &is_left) < 0) {
			log_debug(NULL, NULL, "out of memory: the state catches up later");
			return;
		}
	}
	accounts->is_behind = is_left;
	accounts->is_catching_up = true;
}

static void note_caught_up(struct accounts *accounts)
{
	if (accounts->is_catching_up && !accounts->is_behind && accounts->queue.n == 0) {
		accounts->is_catching_up = false;
		log_info(NULL, NULL, "the state lacks nothing any more");
	}
}

static void commit(struct accounts *accounts)
{
	int error = notice_queue_commit(&accounts->queue);
	accounts->may_have_lost = false;
	if (error == 0) {
		note_caught_up(accounts);
		return;
	}
	note_loss(accounts);
	uint64_t again = turn_now(accounts->turn) + COMMIT_AGAIN_USEC;
	if (notice_queue_gives_up(&accounts->queue)) {
		note_behind(accounts);
		accounts->catch_up_at = again;
	}
	task_wake(accounts->queue.owner);
	if (task_set_deadline(&accounts->task, again < accounts->cut ? again : accounts->cut, 0) <
		0) {
		log_debug(NULL, NULL, "out of memory: the state is written with the next change");
	}
}

/* What could not be committed before. Where there is more by now, the owner is about to say so. */
static void commit_again(struct accounts *accounts)
{
	if (!accounts_has_announcement(accounts)) {
		commit(accounts);
	}
}

static void on_deadline(struct task *task)
{
	struct accounts *accounts = list_entry(task, struct accounts, task);
	if (accounts->cut <= turn_now(accounts->turn)) {
		accounts->cut = USEC_NEVER;
		cut_all(accounts);
	}
	commit_again(accounts);
	accounts->may_have_lost = true;
	/* Perhaps it works again. */
	task_wake(accounts->queue.owner);
}

static void on_crowd(struct task *task)
{
	task_wake(list_entry(task, struct accounts, crowd)->queue.owner);
}

/* -- events -- */

uint64_t accounts_new_id(struct accounts *accounts)
{
	accounts->n_ids++;
	return accounts->n_ids;
}

static void hold(struct accounts *accounts, bool is_held)
{
	accounts->is_held = is_held;
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		for (unsigned int n = 0; n < account->n_connections; n++) {
			connection_hold(account->connections[n], is_held);
		}
	}
}

void accounts_check_queue(struct accounts *accounts)
{
	if (!accounts->is_held && notice_queue_is_full(&accounts->queue)) {
		log_debug(NULL, NULL, "the bus is slow: nothing is read from servers");
		hold(accounts, true);
	}
}

static void let_go(struct accounts *accounts)
{
	struct account *account = accounts->removed_account;
	accounts->removed_account = NULL;
	mailbox_free(accounts->removed_mailbox);
	accounts->removed_mailbox = NULL;
	if (account) {
		account->is_told = true;
		accounts_bury(accounts, account);
	}
}

/* As long as connections queue up at the gate, each goes through all its states within some
 * milliseconds, and nobody sees them: what they have come to by the end of that time is told, in
 * one change. News and replies are told at once, with all that came before them. */
static bool is_put_off(struct accounts *accounts)
{
	uint64_t now = turn_now(accounts->turn);
	if (now == accounts->told || now - accounts->told >= CROWD_USEC || accounts->is_held ||
		accounts->is_shutting_down || !gate_is_crowded(&accounts->gate) ||
		accounts->queue.n == 0 || notice_queue_has_news(&accounts->queue)) {
		return false;
	}
	return task_set_deadline(&accounts->crowd, accounts->told + CROWD_USEC, 0) == 0;
}

struct account_event *accounts_next_event(struct accounts *accounts)
{
	let_go(accounts);
	if (is_put_off(accounts)) {
		return NULL;
	}
	struct account_event *event = notice_queue_next(&accounts->queue);
	accounts->may_have_lost = accounts->may_have_lost || event;
	if (!event) {
		catch_up(accounts);
		event = notice_queue_next(&accounts->queue);
	}
	if (accounts->is_held && notice_queue_has_room(&accounts->queue)) {
		hold(accounts, false);
	}
	if (event) {
		accounts->told = turn_now(accounts->turn);
	}
	if (event && event->kind == ACCOUNT_EVENT_REMOVED) {
		accounts->removed_account = event->account;
	} else if (event && event->kind == ACCOUNT_EVENT_MAILBOX_REMOVED) {
		accounts->removed_mailbox = event->mailbox;
	}
	return event;
}

void accounts_announced(struct accounts *accounts)
{
	commit(accounts);
}

bool accounts_has_announcement(const struct accounts *accounts)
{
	return accounts->queue.has_told;
}

/* -- questions -- */

size_t accounts_count(const struct accounts *accounts)
{
	return accounts->n;
}

struct account *accounts_get(const struct accounts *accounts, size_t index)
{
	return accounts->list[index];
}

uint64_t accounts_unread(const struct accounts *accounts)
{
	return accounts->tally.unread;
}

bool accounts_is_online(const struct accounts *accounts)
{
	return accounts->tally.n_online > 0;
}

void accounts_note(struct accounts *accounts)
{
	unsigned int properties = 0;
	uint64_t unread = accounts_unread(accounts);
	bool online = accounts_is_online(accounts);
	if (accounts->unread != unread) {
		accounts->unread = unread;
		properties |= ACCOUNT_PROPERTY_UNREAD;
	}
	if (accounts->is_online != online) {
		accounts->is_online = online;
		properties |= ACCOUNT_PROPERTY_ONLINE;
	}
	notice_queue_change(&accounts->queue, &accounts->changed, properties);
}
