#include <stdlib.h>
#include <string.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

static const struct failure no_failure;
static const struct failure asleep = {FAILURE_OFFLINE, "the machine sleeps"};

/* Where idle is left for news and reached again within this time, it is one step and not shown: on
 * a short way the news would wait behind it on the bus. */
#define GLIMPSE_USEC (10 * USEC_PER_MSEC)

/* What is to be seen of a mailbox or an account. */
struct sight {
	enum account_state state;
	bool is_passing;               /* it will be idle again by itself */
	const struct failure *failure; /* borrowed */
	uint64_t next_try_usec;
};

static enum account_state state_of_client(enum imap_state state)
{
	switch (state) {
	case IMAP_STATE_GREETING:
	case IMAP_STATE_STARTTLS:
	case IMAP_STATE_CAPABILITY:
	case IMAP_STATE_COMPRESS:
		return ACCOUNT_STATE_CONNECTING;
	case IMAP_STATE_AUTHENTICATE:
		return ACCOUNT_STATE_AUTHENTICATING;
	case IMAP_STATE_ENABLE:
	case IMAP_STATE_READY:
	case IMAP_STATE_EXAMINE:
	case IMAP_STATE_SYNCHRONISE:
	case IMAP_STATE_IDLE_REQUESTED:
		return ACCOUNT_STATE_SYNCHRONIZING;
	case IMAP_STATE_IDLING:
		return ACCOUNT_STATE_IDLE;
	case IMAP_STATE_IDLE_ENDING:
	case IMAP_STATE_LOGOUT:
	case IMAP_STATE_CLOSED:
		return ACCOUNT_STATE_INTERRUPTING;
	case IMAP_STATE_FETCHING:
		return ACCOUNT_STATE_FETCHING;
	}
	return ACCOUNT_STATE_CONNECTING;
}

static struct sight look_at_conversation(const struct connection *connection)
{
	return (struct sight){
		.state = state_of_client(imap_client_state(connection_client(connection))),
		.is_passing = connection_is_logged_in(connection),
		.failure = &no_failure,
	};
}

static struct sight look_at_connection(const struct connection *connection)
{
	struct sight sight = {.failure = &no_failure};
	switch (connection_state(connection)) {
	case CONNECTION_STOPPED:
		sight.state = ACCOUNT_STATE_STOPPED;
		break;
	case CONNECTION_WAITING:
		sight.state = ACCOUNT_STATE_WAITING;
		sight.failure = connection_failure(connection);
		sight.next_try_usec = connection_next_try_usec(connection);
		break;
	case CONNECTION_OFFLINE:
		sight.state = ACCOUNT_STATE_OFFLINE;
		sight.failure = connection_failure(connection);
		break;
	case CONNECTION_UNLOCKING:
	case CONNECTION_DIALING:
		sight.state = ACCOUNT_STATE_CONNECTING;
		break;
	case CONNECTION_ONLINE:
		return look_at_conversation(connection);
	case CONNECTION_CLOSING:
		sight.state = ACCOUNT_STATE_INTERRUPTING;
		break;
	case CONNECTION_FAILED:
		sight.state = ACCOUNT_STATE_FAILED;
		sight.failure = connection_failure(connection);
		break;
	}
	return sight;
}

/* One without a connection of its own is idle between its visits, as long as somebody is there to
 * visit it. */
static struct sight look_at_polled(struct account *account, const struct mailbox *mailbox)
{
	struct sight sight = {.failure = &no_failure};
	struct connection *visitor = visit_visitor(account);
	if (!visitor) {
		sight.state = ACCOUNT_STATE_CONNECTING;
		return account->n_connections > 0 ? look_at_connection(account->connections[0])
						  : sight;
	}
	if (imap_client_mailbox(connection_client(visitor)) == mailbox->view) {
		return look_at_conversation(visitor);
	}
	sight.state = mailbox->is_synchronised ? ACCOUNT_STATE_IDLE : ACCOUNT_STATE_SYNCHRONIZING;
	return sight;
}

/* As soon as its connection is gone, or if nobody serves it. */
static bool is_asleep(const struct account *account, const struct connection *connection)
{
	return account->set->surroundings.is_asleep &&
		!(connection && connection_is_under_way(connection));
}

static struct sight look_at_mailbox(struct account *account, const struct mailbox *mailbox)
{
	struct sight sight = {.failure = &no_failure};
	if (mailbox->is_stopped) {
		sight.state =
			mailbox->connection ? ACCOUNT_STATE_INTERRUPTING : ACCOUNT_STATE_STOPPED;
		return sight;
	}
	if (is_asleep(account, mailbox->connection)) {
		sight.state = ACCOUNT_STATE_OFFLINE;
		sight.failure = &asleep;
		return sight;
	}
	if (mailbox_is_resting(mailbox, turn_now(account->set->turn))) {
		sight.state = ACCOUNT_STATE_WAITING;
		sight.failure = failure_kept(mailbox->problem);
		sight.next_try_usec = mailbox->rest_usec;
		return sight;
	}
	sight = mailbox_is_watched(mailbox) ? look_at_connection(mailbox->connection)
					    : look_at_polled(account, mailbox);
	if (sight.state == ACCOUNT_STATE_STOPPED) {
		/* Its connection is, but it is not: there will be another one. */
		sight.state = ACCOUNT_STATE_CONNECTING;
	}
	return sight;
}

/* NULL: not to be known at the moment. */
static const char *find_mode(struct account *account, const struct mailbox *mailbox)
{
	if (!mailbox_is_watched(mailbox)) {
		if (!account_is_open(account) ||
			(account->may_notify && !account->is_notify_settled)) {
			return NULL;
		}
		return account->may_notify && mailbox->is_notified ? "notify" : "poll";
	}
	if (!connection_is_logged_in(mailbox->connection)) {
		return NULL;
	}
	const struct imap_client *client = connection_client(mailbox->connection);
	if (imap_client_has_notify(client)) {
		return "notify";
	}
	if (imap_client_may_notify(client)) {
		return NULL;
	}
	return imap_client_has_idle(client) ? "idle" : "poll";
}

/* Where nothing arrives at the moment, what is known from before stays. */
static void show_mode(struct account *account, struct mailbox *mailbox)
{
	if (mailbox->is_stopped || mailbox_is_resting(mailbox, turn_now(account->set->turn))) {
		return;
	}
	const char *mode = find_mode(account, mailbox);
	if (mode) {
		mailbox_set_mode(mailbox, mode);
	}
}

static bool has_caller(const struct account *account)
{
	const struct list *wishes = &account->wishes;
	for (const struct list *node = wishes->next; node != wishes; node = node->next) {
		if (list_entry(node, const struct wish, node)->call) {
			return true;
		}
	}
	return false;
}

/* Whether it is shown as idle for a moment more. left_idle: when it was left, of the same object;
 * 0: it was not. What callers want is shown at once. */
static bool is_glimpse(struct account *account, enum account_state shown, const struct sight *sight,
	bool is_called, uint64_t *left_idle)
{
	bool is_idle = shown == ACCOUNT_STATE_IDLE && sight->state != ACCOUNT_STATE_IDLE;
	if (!is_idle || !sight->is_passing || !account_state_is_online(sight->state) || is_called) {
		*left_idle = 0;
		return false;
	}
	uint64_t now = turn_now(account->set->turn);
	*left_idle = *left_idle > 0 ? *left_idle : now;
	uint64_t due = *left_idle + GLIMPSE_USEC;
	if (due <= now) {
		return false;
	}
	account->glimpse_due = due < account->glimpse_due ? due : account->glimpse_due;
	return true;
}

static void change(struct account *account, unsigned int properties)
{
	if (account->is_announced) {
		notice_queue_change(&account->set->queue, &account->changed, properties);
	}
}

/* The only writer of an account's state. */
static void enter(struct account *account, const struct sight *sight)
{
	unsigned int properties = 0;
	enum account_state was = account->state;
	account->state = sight->state;
	if (was != sight->state) {
		properties |= ACCOUNT_PROPERTY_STATE;
		log_line(account_state_log_level(sight->state, &account->has_idled),
			account_name(account), NULL, "state=%s was=%s",
			account_state_name(sight->state), account_state_name(was));
	}
	const struct failure *shown = failure_kept(account->failure);
	if (shown->kind != sight->failure->kind || strcmp(shown->text, sight->failure->text) != 0) {
		failure_keep(&account->failure, sight->failure);
		properties |= ACCOUNT_PROPERTY_ERROR;
	}
	if (account->next_try_usec != sight->next_try_usec) {
		account->next_try_usec = sight->next_try_usec;
		properties |= ACCOUNT_PROPERTY_NEXT_TRY;
	}
	change(account, properties);
}

static void show_security(struct account *account)
{
	bool is_secure = false;
	const char *tls_version = "";
	if (account->n_connections > 0) {
		is_secure = connection_is_secure(account->connections[0]);
		tls_version = connection_tls_version(account->connections[0]);
	}
	if (account->is_secure != is_secure || strcmp(account->tls_version, tls_version) != 0) {
		account->is_secure = is_secure;
		account->tls_version = tls_version;
		change(account, ACCOUNT_PROPERTY_SECURE);
	}
}

void show_views(struct account *account)
{
	uint64_t unread = account_unread(account);
	if (account->unread != unread) {
		account->unread = unread;
		change(account, ACCOUNT_PROPERTY_UNREAD);
	}
	accounts_note(account->set);
	LIST_FOR_EACH (node, &account->touched) {
		mailbox_tell_changes(list_entry(node, struct mailbox, touched));
	}
}

static bool is_stopped(const struct account *account)
{
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		if (!account->mailboxes[i]->is_stopped) {
			return false;
		}
	}
	return account->n_mailboxes > 0;
}

static struct sight look_at_first(const struct account *account)
{
	struct sight sight = {.state = ACCOUNT_STATE_STOPPED, .failure = &no_failure};
	const struct connection *first =
		account->n_connections > 0 ? account->connections[0] : NULL;
	if (is_asleep(account, first) && !is_stopped(account)) {
		sight.state = ACCOUNT_STATE_OFFLINE;
		sight.failure = &asleep;
		return sight;
	}
	if (first) {
		sight = look_at_connection(first);
	}
	if (sight.state == ACCOUNT_STATE_STOPPED && !is_stopped(account)) {
		sight.state = ACCOUNT_STATE_CONNECTING;
	}
	return sight;
}

static void touch_all(struct account *account)
{
	for (size_t i = 0; account->is_all_touched && i < account->n_mailboxes; i++) {
		struct mailbox *mailbox = account->mailboxes[i];
		list_remove(&mailbox->touched);
		list_append(&account->touched, &mailbox->touched);
	}
	account->is_all_touched = false;
}

/* What is visited is left without a word of it, and a glimpse comes to its end by time. */
static bool is_in_motion(const struct mailbox *mailbox)
{
	const struct imap_client *client =
		mailbox->connection ? connection_client(mailbox->connection) : NULL;
	bool is_visited = client && !mailbox_is_watched(mailbox) &&
		imap_client_mailbox(client) == mailbox->view;
	return is_visited || mailbox->left_idle != 0;
}

static void forget_touched(struct account *account)
{
	LIST_FOR_EACH_SAFE (node, &account->touched) {
		struct mailbox *mailbox = list_entry(node, struct mailbox, touched);
		if (!is_in_motion(mailbox)) {
			list_remove(node);
		}
	}
}

void show_account(struct account *account)
{
	bool is_called = has_caller(account);
	account->glimpse_due = USEC_NEVER;
	touch_all(account);
	LIST_FOR_EACH (node, &account->touched) {
		struct mailbox *mailbox = list_entry(node, struct mailbox, touched);
		show_mode(account, mailbox);
		struct sight sight = look_at_mailbox(account, mailbox);
		if (!is_glimpse(account, mailbox->state, &sight, is_called, &mailbox->left_idle)) {
			mailbox_enter(mailbox, sight.state, sight.failure, sight.next_try_usec);
		}
	}
	struct sight sight = look_at_first(account);
	if (!is_glimpse(account, account->state, &sight, is_called, &account->left_idle)) {
		enter(account, &sight);
	}
	show_security(account);
	show_views(account);
	forget_touched(account);
}

static bool is_same(char *const *a, char *const *b)
{
	while (*a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return !*a && !*b;
}

/* All in one piece of memory. NULL when out of it. */
static char **pack_strings(char *const *strings)
{
	size_t n = 0;
	size_t size = 0;
	for (; strings[n]; n++) {
		size += strlen(strings[n]) + 1;
	}
	char **pack = calloc(1, (n + 1) * sizeof(*pack) + size);
	if (!pack) {
		return NULL;
	}
	char *to = (char *)&pack[n + 1];
	for (size_t i = 0; i < n; i++) {
		pack[i] = to;
		to = stpcpy(to, strings[i]) + 1;
	}
	return pack;
}

static void free_strings(char **strings)
{
	for (size_t i = 0; strings && strings[i]; i++) {
		free(strings[i]);
	}
	free(strings);
}

void show_capabilities(struct account *account, struct imap_client *client)
{
	const struct span *words;
	size_t n = imap_client_capabilities(client, &words);
	char **capabilities = calloc(n + 1, sizeof(*capabilities));
	bool is_whole = capabilities != NULL;
	for (size_t i = 0; is_whole && i < n; i++) {
		capabilities[i] = text_clean(words[i], TEXT_ONE_LINE, 0);
		is_whole = capabilities[i] != NULL;
	}
	char **pack = is_whole ? pack_strings(capabilities) : NULL;
	free_strings(capabilities);
	if (!pack || is_same(pack, account->capabilities)) {
		free(pack);
		return;
	}
	free(account->capabilities);
	account->capabilities = pack;
	change(account, ACCOUNT_PROPERTY_CAPABILITIES);
}
