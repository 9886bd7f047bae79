#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account_private.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

/* Of one account: each has an object on the bus, and is visited. */
#define N_MAILBOXES_HIGHEST 1000

#define NAME_LEN_HIGHEST    1000

void listing_init(struct listing *listing)
{
	*listing = (struct listing){.due = USEC_NEVER};
}

static void forget_names(struct listing *listing)
{
	for (size_t i = 0; i < listing->n_names; i++) {
		free(listing->names[i]);
	}
	free(listing->names);
	listing->names = NULL;
	listing->n_names = listing->n_names_allocated = 0;
}

void listing_done(struct listing *listing)
{
	forget_names(listing);
}

static bool has_patterns(const struct config_account *config)
{
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		if (config_is_pattern(config->mailboxes[i])) {
			return true;
		}
	}
	return false;
}

static struct state_key account_key(const struct account *account)
{
	return (struct state_key){
		.host = account_host(account),
		.user = account_user(account),
		.mailbox = "",
	};
}

/* A pattern that has been listed is remembered as if it were a mailbox, under a name that none has,
 * so that what a new pattern finds is not taken for new. */
static struct state_key pattern_key(
	const struct account *account, const char *pattern, char **ret_name)
{
	struct state_key key = account_key(account);
	*ret_name = NULL;
	if (asprintf(ret_name, "\n%s", pattern) < 0) {
		*ret_name = NULL;
	}
	key.mailbox = *ret_name;
	return key;
}

static bool was_listed(const struct account *account, const char *pattern)
{
	char *name;
	struct state_key key = pattern_key(account, pattern, &name);
	struct imap_mailbox *memory = name ? imap_mailbox_new(name) : NULL;
	bool result = memory && delta_load(account->set->state, &key, memory) == 0 &&
		notice_queue_apply(&account->set->queue, &key, memory) == 0 &&
		memory->cursor.uidvalidity != 0;
	imap_mailbox_free(memory);
	free(name);
	return result;
}

static bool has_new_pattern(const struct account *account)
{
	const struct config_account *config = account->config;
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		const char *name = config->mailboxes[i];
		if (config_is_pattern(name) && !was_listed(account, name)) {
			return true;
		}
	}
	return false;
}

static void put_silent(struct account *account, struct delta *delta)
{
	struct notice *notice = notice_new_silent(delta);
	if (notice) {
		notice_queue_put(&account->set->queue, notice);
	}
}

static void remember_patterns(struct account *account)
{
	const struct config_account *config = account->config;
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		if (!config_is_pattern(config->mailboxes[i])) {
			continue;
		}
		char *name;
		struct state_key key = pattern_key(account, config->mailboxes[i], &name);
		struct delta *delta = name ? delta_new(DELTA_CURSOR, &key) : NULL;
		if (delta) {
			delta->cursor = (struct imap_cursor){.uidvalidity = 1, .watermark = 1};
		}
		put_silent(account, delta);
		free(name);
	}
}

void listing_store(struct account *account)
{
	struct state_key key = account_key(account);
	if (account->listing.was_listed) {
		put_silent(account, delta_new(DELTA_LISTED, &key));
		if (!account->listing.has_new) {
			remember_patterns(account);
		}
	}
}

void listing_configure(struct account *account)
{
	struct listing *listing = &account->listing;
	struct state_key key = account_key(account);
	listing->was_listed = listing->was_listed || state_was_listed(account->set->state, &key);
	listing->has_changed = account->is_announced;
	if (has_patterns(account->config)) {
		listing->has_new = has_new_pattern(account);
		listing->due = turn_now(account->set->turn);
		return;
	}
	listing->due = USEC_NEVER;
	for (size_t i = account->n_mailboxes; i > 0; i--) {
		if (!account->mailboxes[i - 1]->is_literal) {
			account_remove_mailbox(account, account->mailboxes[i - 1], false);
		}
	}
}

static bool begin(struct account *account, const char *pattern, struct connection *connection)
{
	struct accounts *set = account->set;
	struct wish *wish = wish_new(&account->wishes, WISH_LISTING, NULL, NULL, set->turn,
		&account->task, &set->queue, accounts_new_id(set));
	struct failure failure;
	if (!wish) {
		return false;
	}
	wish->target = strdup(pattern);
	if (!wish->target || wish_send(wish, connection, turn_now(set->turn), &failure) <= 0) {
		wish_drop(wish);
		return false;
	}
	return true;
}

void listing_work(struct account *account)
{
	struct listing *listing = &account->listing;
	uint64_t now = turn_now(account->set->turn);
	if (account->n_connections == 0 || listing->due == USEC_NEVER) {
		return;
	}
	struct connection *connection = account->connections[0];
	if (!connection_is_logged_in(connection)) {
		/* What it finds needs connections, and they the secret. */
		connection_keep_key(connection, true);
		return;
	}
	if (listing->n_pending > 0) {
		return;
	}
	if (listing->due > now) {
		connection_keep_key(connection, false);
		return;
	}
	listing->due = now + account->config->idle_timeout_usec;
	listing->has_failed = false;
	forget_names(listing);
	const struct config_account *config = account->config;
	for (size_t i = 0; i < config->n_mailboxes; i++) {
		if (!config_is_pattern(config->mailboxes[i])) {
			continue;
		}
		if (begin(account, config->mailboxes[i], connection)) {
			listing->n_pending++;
		} else {
			listing->has_failed = true;
		}
	}
}

static bool has_name(const struct listing *listing, const char *name)
{
	for (size_t i = 0; i < listing->n_names; i++) {
		if (strcmp(listing->names[i], name) == 0) {
			return true;
		}
	}
	return false;
}

/* Modified UTF-7 can carry anything. */
static bool is_fit(const char *name)
{
	struct span rest = span_of(name);
	if (rest.len == 0 || rest.len > NAME_LEN_HIGHEST || !text_is_utf8(rest)) {
		return false;
	}
	while (rest.len > 0) {
		if (text_is_control(text_next(&rest))) {
			return false;
		}
	}
	return true;
}

static bool add_name(struct listing *listing, const char *name)
{
	if (listing->n_names == listing->n_names_allocated) {
		size_t n = listing->n_names_allocated > 0 ? 2 * listing->n_names_allocated : 16;
		char **names = reallocarray(listing->names, n, sizeof(*names));
		if (!names) {
			return false;
		}
		listing->names = names;
		listing->n_names_allocated = n;
	}
	listing->names[listing->n_names] = strdup(name);
	if (!listing->names[listing->n_names]) {
		return false;
	}
	listing->n_names++;
	return true;
}

void listing_gather(struct account *account, const struct imap_event *event)
{
	struct listing *listing = &account->listing;
	for (size_t i = 0; i < event->n_list; i++) {
		const struct imap_list_item *item = &event->list[i];
		const char *name = strcasecmp(item->name, "INBOX") == 0 ? "INBOX" : item->name;
		if (!item->is_selectable || !is_fit(name) || has_name(listing, name)) {
			continue;
		}
		if (listing->n_names == N_MAILBOXES_HIGHEST) {
			log_warning(account_name(account), NULL,
				"the patterns find more than %d mailboxes: the others are not "
				"watched",
				N_MAILBOXES_HIGHEST);
			return;
		}
		if (!add_name(listing, name)) {
			listing->has_failed = true;
			return;
		}
	}
}

/* Those that the configuration names stay, and say what is wrong with them. */
static void remove_missing(struct account *account)
{
	struct listing *listing = &account->listing;
	for (size_t i = account->n_mailboxes; i > 0; i--) {
		struct mailbox *mailbox = account->mailboxes[i - 1];
		if (!mailbox->is_literal && !has_name(listing, mailbox_name(mailbox))) {
			log_info(account_name(account), mailbox_name(mailbox),
				"is no longer among those that the patterns find");
			account_remove_mailbox(account, mailbox, !listing->has_changed);
		}
	}
}

/* One that was made while the account was being watched is announced from its first message. */
static bool add_found(struct account *account)
{
	struct listing *listing = &account->listing;
	bool is_all = true;
	for (size_t i = 0; i < listing->n_names; i++) {
		const char *name = listing->names[i];
		if (account_find_mailbox(account, name)) {
			continue;
		}
		struct mailbox *mailbox = account_add_mailbox(account, name, false);
		if (!mailbox) {
			is_all = false;
			continue;
		}
		mailbox->view->announce_all = mailbox->view->cursor.uidvalidity == 0 &&
			listing->was_listed && !listing->has_new;
	}
	return is_all;
}

static void note_listed(struct account *account)
{
	struct listing *listing = &account->listing;
	if (!listing->was_listed) {
		struct state_key key = account_key(account);
		put_silent(account, delta_new(DELTA_LISTED, &key));
	}
	if (listing->has_new || !listing->was_listed) {
		remember_patterns(account);
	}
	listing->was_listed = true;
	listing->has_changed = false;
	listing->has_new = false;
}

void listing_end(struct account *account, const struct failure *failure)
{
	struct listing *listing = &account->listing;
	if (listing->n_pending == 0) {
		return;
	}
	listing->n_pending--;
	listing->has_failed = listing->has_failed || failure_is_set(failure);
	if (listing->n_pending > 0) {
		return;
	}
	if (!listing->has_failed && !account->is_removed) {
		remove_missing(account);
		if (add_found(account)) {
			note_listed(account);
		}
	}
	forget_names(listing);
	account_wake(account);
}
