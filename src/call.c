#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account_private.h"
#include "imap/writer.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

#define NAME_LEN_HIGHEST 1000

/* Refused logins that Start may ask for: servers lock accounts for more. */
#define N_TRIES_HIGHEST  8
#define TRIES_USEC       USEC_PER_MINUTE

#define N_FLAGS_HIGHEST  128
#define FLAG_LEN_HIGHEST 128
#define LIMIT_BY_DEFAULT 100

/* What every call begins with: who asks, and about what. */
struct asking {
	struct accounts *accounts;
	struct call *call;
	struct account *account; /* NULL: all */
	struct mailbox *mailbox; /* NULL: all of the account */
	struct failure failure;  /* why it is refused */
};

static bool is_name(const char *name)
{
	struct span rest = span_of(name);
	if (rest.len > NAME_LEN_HIGHEST || !text_is_utf8(rest)) {
		return false;
	}
	while (rest.len > 0) {
		if (text_is_control(text_next(&rest))) {
			return false;
		}
	}
	return true;
}

static void refuse(struct asking *asking, enum failure_kind kind, const char *text)
{
	if (!failure_is_set(&asking->failure)) {
		failure_set(&asking->failure, kind, "%s", text);
	}
}

/* Refusals are remembered: the first of them is the answer. */
static bool begin(struct asking *asking, struct accounts *accounts, const char *caller)
{
	*asking = (struct asking){.accounts = accounts};
	unsigned int n = call_count(&accounts->calls, caller);
	asking->call = call_new(&accounts->calls, accounts_new_id(accounts), caller);
	if (n >= WISH_N_OF_CALLER) {
		refuse(asking, FAILURE_LIMIT_EXCEEDED, "you have 8 requests waiting already");
	}
	if (accounts->is_shutting_down) {
		refuse(asking, FAILURE_CANCELLED, "mailidle stops");
	}
	return asking->call != NULL;
}

static void find_account(struct asking *asking, const char *name)
{
	struct accounts *accounts = asking->accounts;
	if (!is_name(name)) {
		refuse(asking, FAILURE_INVALID_ARGUMENT, "this is no name of an account");
		return;
	}
	for (size_t i = 0; i < accounts->n && !asking->account; i++) {
		if (strcmp(account_name(accounts->list[i]), name) == 0) {
			asking->account = accounts->list[i];
		}
	}
	if (!asking->account) {
		refuse(asking, FAILURE_NO_SUCH_ACCOUNT, "no account of this name is configured");
	}
}

static void find_mailbox(struct asking *asking, const char *account, const char *mailbox)
{
	find_account(asking, account);
	if (!is_name(mailbox)) {
		refuse(asking, FAILURE_INVALID_ARGUMENT, "this is no name of a mailbox");
	} else if (asking->account) {
		asking->mailbox = account_find_mailbox(asking->account, mailbox);
		if (!asking->mailbox) {
			refuse(asking, FAILURE_NO_SUCH_MAILBOX,
				"the account watches no mailbox of this name");
		}
	}
}

/* An empty name stands for all. */
static void find_all(struct asking *asking, const char *account, const char *mailbox)
{
	if (account[0] == '\0' && mailbox[0] != '\0') {
		refuse(asking, FAILURE_INVALID_ARGUMENT, "a mailbox without an account");
	} else if (mailbox[0] != '\0') {
		find_mailbox(asking, account, mailbox);
	} else if (account[0] != '\0') {
		find_account(asking, account);
	}
}

static bool has_too_many(const struct account *account)
{
	unsigned int n = 0;
	const struct list *wishes = &account->wishes;
	for (const struct list *node = wishes->next; node != wishes; node = node->next) {
		n += list_entry(node, const struct wish, node)->is_counted;
	}
	return n >= WISH_N_OF_ACCOUNT;
}

/* As the contract counts: refreshes of one mailbox are one, and so is one of several. */
static bool is_joining(const struct asking *asking, const struct mailbox *mailbox)
{
	const struct list *wishes = &mailbox->account->wishes;
	for (const struct list *node = wishes->next; node != wishes; node = node->next) {
		const struct wish *wish = list_entry(node, const struct wish, node);
		if (wish->kind == WISH_REFRESH && wish->is_counted &&
			(wish->call == asking->call ||
				(asking->mailbox && wish->mailbox == mailbox))) {
			return true;
		}
	}
	return false;
}

/* A changed password file is seen by inotify, but not on every file system. */
static void check_file(struct account *account)
{
	if (key_has_failed(account->key) && key_has_new_file(account->key)) {
		account_retry(account);
		show_account(account);
	}
}

/* Whether the state lets anybody hope to be served within 20 s. */
static void check_state(struct asking *asking, struct account *account, struct mailbox *mailbox)
{
	check_file(account);
	enum account_state state = mailbox ? mailbox->state : account->state;
	const struct failure *failure = failure_kept(mailbox ? mailbox->failure : account->failure);
	if (mailbox ? mailbox->is_stopped : state == ACCOUNT_STATE_STOPPED) {
		refuse(asking, FAILURE_STOPPED, "it was stopped, and waits for Start");
	} else if (state == ACCOUNT_STATE_FAILED) {
		refuse(asking, FAILURE_AUTHENTICATION_FAILED, failure->text);
	} else if (account->set->surroundings.is_asleep) {
		refuse(asking, FAILURE_OFFLINE, "the machine sleeps");
	}
}

/* Answers at once: with what the call was refused for, or success. */
static uint64_t answer(struct asking *asking)
{
	uint64_t id = asking->call->id;
	call_end(asking->call, &asking->accounts->queue, &asking->failure);
	return id;
}

static struct wish *new_wish(struct asking *asking, enum wish_kind kind, struct account *account,
	struct mailbox *mailbox)
{
	struct accounts *accounts = asking->accounts;
	return wish_new(&account->wishes, kind, asking->call, mailbox, accounts->turn,
		&account->task, &accounts->queue, accounts_new_id(accounts));
}

/* Out of memory: no answer, as the header says. */
static uint64_t give_up(struct asking *asking, struct wish *wish)
{
	if (wish) {
		wish_drop(wish);
	} else {
		call_free(asking->call);
	}
	return 0;
}

/* The wish of a call about one mailbox, or NULL: then the answer is given, or memory is out and the
 * id is 0. */
static struct wish *wish_for_mailbox(struct asking *asking, enum wish_kind kind, uint64_t *ret_id)
{
	if (!failure_is_set(&asking->failure)) {
		check_state(asking, asking->account, asking->mailbox);
	}
	if (!failure_is_set(&asking->failure) && has_too_many(asking->account)) {
		refuse(asking, FAILURE_LIMIT_EXCEEDED, "64 requests wait for the account already");
	}
	if (failure_is_set(&asking->failure)) {
		*ret_id = answer(asking);
		return NULL;
	}
	*ret_id = asking->call->id;
	struct wish *wish = new_wish(asking, kind, asking->account, asking->mailbox);
	if (!wish) {
		*ret_id = give_up(asking, NULL);
		return NULL;
	}
	wish->is_counted = true;
	account_hurry(asking->account, asking->mailbox);
	return wish;
}

/* -- arguments -- */

static int take_uids(struct asking *asking, const uint32_t *uids, size_t n, struct runs *set)
{
	if (n > WISH_N_UIDS) {
		refuse(asking, FAILURE_LIMIT_EXCEEDED, "more than 1000 UIDs");
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (uids[i] == 0) {
			refuse(asking, FAILURE_INVALID_ARGUMENT, "0 is no UID");
			return 0;
		}
		int error = runs_set(set, uids[i], uids[i], 0);
		if (error < 0) {
			return error;
		}
	}
	return 0;
}

static unsigned int take_items(struct asking *asking, const char *const *names, size_t n)
{
	unsigned int items = 0;
	for (size_t i = 0; i < n; i++) {
		enum message_item item = message_item_from_name(names[i]);
		if (item == 0) {
			refuse(asking, FAILURE_INVALID_ARGUMENT, "there is no such item");
		}
		items |= item;
	}
	return n > 0 ? items : MESSAGE_DEFAULT;
}

static uint32_t take_limit(struct asking *asking, uint32_t limit)
{
	if (limit > WISH_N_UIDS) {
		refuse(asking, FAILURE_LIMIT_EXCEEDED, "a limit above 1000");
	}
	return limit > 0 ? limit : LIMIT_BY_DEFAULT;
}

static void check_flags(struct asking *asking, const char *const *flags, size_t n)
{
	if (n > N_FLAGS_HIGHEST) {
		refuse(asking, FAILURE_LIMIT_EXCEEDED, "more than 128 flags");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (strlen(flags[i]) > FLAG_LEN_HIGHEST || !imap_is_flag(flags[i])) {
			refuse(asking, FAILURE_INVALID_ARGUMENT, "this is no flag");
		}
	}
}

static char **copy_strings(const char *const *strings, size_t n)
{
	char **copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(strings[i]);
		if (!copy[i]) {
			while (i > 0) {
				i--;
				free(copy[i]);
			}
			free(copy);
			return NULL;
		}
	}
	return copy;
}

/* -- calls about several mailboxes -- */

/* Calls what is to be done for each mailbox that is meant; 0 or -ENOMEM. */
static int for_each(struct asking *asking, int act(struct asking *asking, struct mailbox *mailbox))
{
	if (asking->mailbox) {
		return act(asking, asking->mailbox);
	}
	struct accounts *accounts = asking->accounts;
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		if (asking->account && asking->account != account) {
			continue;
		}
		for (size_t n = 0; n < account->n_mailboxes; n++) {
			int error = act(asking, account->mailboxes[n]);
			if (error < 0) {
				return error;
			}
		}
	}
	return 0;
}

/* The wishes made so far have gone with the call, or are many: they end by themselves. */
static uint64_t finish(struct asking *asking, int error)
{
	uint64_t id = asking->call->id;
	if (asking->call->n_wishes > 0) {
		return id;
	}
	return error < 0 ? give_up(asking, NULL) : answer(asking);
}

static int refresh(struct asking *asking, struct mailbox *mailbox)
{
	struct account *account = mailbox->account;
	struct asking one = {.accounts = asking->accounts, .call = asking->call};
	if (!asking->mailbox && mailbox->is_stopped) {
		return 0;
	}
	check_state(&one, account, mailbox);
	bool is_counted = !is_joining(asking, mailbox);
	if (!failure_is_set(&one.failure) && is_counted && has_too_many(account)) {
		refuse(&one, FAILURE_LIMIT_EXCEEDED, "64 requests wait for the account already");
	}
	if (failure_is_set(&one.failure)) {
		if (!failure_is_set(&asking->call->failure)) {
			asking->call->failure = one.failure;
		}
		return 0;
	}
	struct wish *wish = new_wish(asking, WISH_REFRESH, account, mailbox);
	if (!wish) {
		return -ENOMEM;
	}
	wish->is_counted = is_counted;
	account_hurry(account, mailbox);
	return 0;
}

/* An account whose mailboxes are still unknown. */
static void hurry_unknown(struct asking *asking)
{
	struct accounts *accounts = asking->accounts;
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		if ((asking->account && asking->account != account) || account->n_mailboxes > 0) {
			continue;
		}
		check_file(account);
		if (account->state == ACCOUNT_STATE_FAILED) {
			refuse(asking, FAILURE_AUTHENTICATION_FAILED,
				failure_kept(account->failure)->text);
		}
		if (accounts->surroundings.is_asleep) {
			refuse(asking, FAILURE_OFFLINE, "the machine sleeps");
			continue;
		}
		account_hurry(account, NULL);
	}
}

uint64_t accounts_refresh(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox)
{
	struct asking asking;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_all(&asking, account, mailbox);
	if (failure_is_set(&asking.failure)) {
		return answer(&asking);
	}
	if (!asking.mailbox) {
		hurry_unknown(&asking);
	}
	return finish(&asking, for_each(&asking, refresh));
}

/* Durable before the reply. What cannot be stored is stored as soon as it can be, and behind what
 * waits for the same. */
static void store_stopped(struct accounts *accounts, struct mailbox *mailbox)
{
	struct state_key key = mailbox_key(mailbox);
	int error = state_set_stopped(accounts->state, &key, mailbox->is_stopped);
	if (error < 0 || notice_queue_is_behind(&accounts->queue)) {
		mailbox->is_behind = true;
		accounts->is_behind = true;
	}
}

static int stop(struct asking *asking, struct mailbox *mailbox)
{
	struct account *account = mailbox->account;
	struct failure failure;
	failure_set(&failure, FAILURE_CANCELLED, "the mailbox was stopped");
	if (!mailbox->is_stopped) {
		mailbox->is_stopped = true;
		store_stopped(asking->accounts, mailbox);
		account_end_wishes(account, mailbox, WISH_STOP, &failure);
		if (asking->mailbox) {
			share_pass_on(account, mailbox);
		}
		if (mailbox_is_watched(mailbox)) {
			connection_stop(mailbox->connection);
		} else {
			account_detach(account, mailbox);
		}
	}
	account_wake(account);
	return new_wish(asking, WISH_STOP, account, mailbox) ? 0 : -ENOMEM;
}

uint64_t accounts_stop(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox)
{
	struct asking asking;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_all(&asking, account, mailbox);
	if (failure_is_set(&asking.failure)) {
		return answer(&asking);
	}
	return finish(&asking, for_each(&asking, stop));
}

static bool is_tried_too_often(struct account *account)
{
	uint64_t now = turn_now(account->set->turn);
	if (failure_kept(account->failure)->kind != FAILURE_AUTHENTICATION_FAILED) {
		return false;
	}
	if (now - account->tries_since >= TRIES_USEC) {
		account->tries_since = now;
		account->n_tries = 0;
	}
	account->n_tries++;
	return account->n_tries > N_TRIES_HIGHEST;
}

/* Once for a call, however many mailboxes it means. */
static void try_again(struct asking *asking, struct account *account)
{
	if (account->tried_by == asking->call->id) {
		return;
	}
	account->tried_by = asking->call->id;
	if (!is_tried_too_often(account)) {
		account_retry(account);
	} else if (!failure_is_set(&asking->call->failure)) {
		failure_set(&asking->call->failure, FAILURE_LIMIT_EXCEEDED,
			"the server refused the login of %s %d times within a minute",
			account_name(account), N_TRIES_HIGHEST);
	}
}

static int start(struct asking *asking, struct mailbox *mailbox)
{
	struct account *account = mailbox->account;
	if (mailbox->is_stopped) {
		mailbox->is_stopped = false;
		visit_at(mailbox, 0);
		store_stopped(asking->accounts, mailbox);
		struct failure failure;
		failure_set(&failure, FAILURE_CANCELLED, "the mailbox was started again");
		LIST_FOR_EACH_SAFE (node, &account->wishes) {
			struct wish *wish = list_entry(node, struct wish, node);
			if (wish->mailbox == mailbox && wish->kind == WISH_STOP) {
				wish_end(wish, &failure);
			}
		}
	}
	if (mailbox->rest != 0) {
		mailbox->rest = 0;
		visit_at(mailbox, 0);
	}
	account->budget = account->config->max_connections;
	try_again(asking, account);
	return 0;
}

uint64_t accounts_start(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox)
{
	struct asking asking;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_all(&asking, account, mailbox);
	if (failure_is_set(&asking.failure)) {
		return answer(&asking);
	}
	for (size_t i = 0; !asking.mailbox && i < accounts->n; i++) {
		if (!asking.account || asking.account == accounts->list[i]) {
			try_again(&asking, accounts->list[i]);
		}
	}
	return finish(&asking, for_each(&asking, start));
}

/* -- calls about one mailbox -- */

uint64_t accounts_fetch(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *const *items,
	size_t n_items)
{
	struct asking asking;
	struct runs set;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	runs_init(&set);
	find_mailbox(&asking, account, mailbox);
	unsigned int wanted = take_items(&asking, items, n_items);
	if (take_uids(&asking, uids, n_uids, &set) < 0) {
		runs_done(&set);
		return give_up(&asking, NULL);
	}
	if (n_uids == 0 && !failure_is_set(&asking.failure)) {
		check_state(&asking, asking.account, asking.mailbox);
		return answer(&asking);
	}
	struct wish *wish = wish_for_mailbox(&asking, WISH_FETCH, &id);
	if (wish) {
		wish->items = wanted;
		runs_take(&wish->uids, &set);
	}
	runs_done(&set);
	return id;
}

uint64_t accounts_fetch_raw(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t uid)
{
	struct asking asking;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_mailbox(&asking, account, mailbox);
	if (uid == 0) {
		refuse(&asking, FAILURE_INVALID_ARGUMENT, "0 is no UID");
	}
	struct wish *wish = wish_for_mailbox(&asking, WISH_FETCH_RAW, &id);
	if (wish) {
		wish->uid = uid;
	}
	return id;
}

uint64_t accounts_list_since(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t uidvalidity, uint32_t uid, uint32_t limit)
{
	struct asking asking;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_mailbox(&asking, account, mailbox);
	uint32_t highest = take_limit(&asking, limit);
	struct wish *wish = wish_for_mailbox(&asking, WISH_LIST_SINCE, &id);
	if (wish) {
		wish->items = MESSAGE_DEFAULT;
		wish->uidvalidity = uidvalidity;
		wish->uid = uid;
		wish->limit = highest;
	}
	return id;
}

uint64_t accounts_list_unread(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t limit)
{
	struct asking asking;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_mailbox(&asking, account, mailbox);
	uint32_t highest = take_limit(&asking, limit);
	if (!failure_is_set(&asking.failure)) {
		const struct imap_mailbox *view = asking.mailbox->view;
		check_state(&asking, asking.account, asking.mailbox);
		if (view->cursor.uidvalidity != 0 && view->n_unread == 0) {
			return answer(&asking);
		}
	}
	struct wish *wish = wish_for_mailbox(&asking, WISH_LIST_UNREAD, &id);
	if (wish) {
		wish->items = MESSAGE_DEFAULT;
		wish->limit = highest;
	}
	return id;
}

uint64_t accounts_set_flags(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *const *add,
	size_t n_add, const char *const *remove, size_t n_remove)
{
	struct asking asking;
	struct runs set;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	runs_init(&set);
	find_mailbox(&asking, account, mailbox);
	check_flags(&asking, add, n_add);
	check_flags(&asking, remove, n_remove);
	if (n_add == 0 && n_remove == 0) {
		refuse(&asking, FAILURE_INVALID_ARGUMENT, "there is no flag to add or to remove");
	}
	if (take_uids(&asking, uids, n_uids, &set) < 0) {
		runs_done(&set);
		return give_up(&asking, NULL);
	}
	if (n_uids == 0 && !failure_is_set(&asking.failure)) {
		check_state(&asking, asking.account, asking.mailbox);
		return answer(&asking);
	}
	struct wish *wish = wish_for_mailbox(&asking, WISH_SET_FLAGS, &id);
	if (wish) {
		wish->add = copy_strings(add, n_add);
		wish->remove = copy_strings(remove, n_remove);
		wish->n_add = n_add;
		wish->n_remove = n_remove;
		runs_take(&wish->uids, &set);
		if (!wish->add || !wish->remove) {
			id = give_up(&asking, wish);
		}
	}
	runs_done(&set);
	return id;
}

uint64_t accounts_move(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *target)
{
	struct asking asking;
	struct runs set;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	runs_init(&set);
	find_mailbox(&asking, account, mailbox);
	if (target[0] == '\0' || !is_name(target)) {
		refuse(&asking, FAILURE_INVALID_ARGUMENT, "this is no name of a mailbox");
	}
	if (take_uids(&asking, uids, n_uids, &set) < 0) {
		runs_done(&set);
		return give_up(&asking, NULL);
	}
	if (n_uids == 0 && !failure_is_set(&asking.failure)) {
		check_state(&asking, asking.account, asking.mailbox);
		return answer(&asking);
	}
	struct wish *wish = wish_for_mailbox(&asking, WISH_MOVE, &id);
	if (wish) {
		runs_take(&wish->uids, &set);
		wish->target = strdup(target);
		if (!wish->target) {
			id = give_up(&asking, wish);
		}
	}
	runs_done(&set);
	return id;
}

uint64_t accounts_list_mailboxes(struct accounts *accounts, const char *caller, const char *account)
{
	struct asking asking;
	uint64_t id;
	if (!begin(&asking, accounts, caller)) {
		return 0;
	}
	find_account(&asking, account);
	wish_for_mailbox(&asking, WISH_LIST_MAILBOXES, &id);
	return id;
}

void accounts_caller_gone(struct accounts *accounts, const char *caller)
{
	log_debug(NULL, NULL, "%s left, and its requests with it", caller);
	for (size_t i = 0; i < accounts->n; i++) {
		struct account *account = accounts->list[i];
		LIST_FOR_EACH_SAFE (node, &account->wishes) {
			struct wish *wish = list_entry(node, struct wish, node);
			if (wish->call && strcmp(wish->call->caller, caller) == 0) {
				wish_drop(wish);
			}
		}
	}
}
