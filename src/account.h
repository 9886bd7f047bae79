/* The accounts: what is configured, kept connected, followed and remembered; the top of the IMAP
 * world. It takes the wishes of callers as calls and gives everything that the bus shall see as
 * events. Nothing of D-Bus is known here.
 *
 * An account has mailboxes (those of the configuration, and those that its patterns find) and up to
 * max-connections connections; each connection watches one mailbox, and one of them visits those
 * that have none of their own every poll-interval.
 *
 *   account: stopped, offline, waiting, unlocking, dialing, online, failed
 *
 * Popping an event says: what the one before told has left for the bus. accounts_announced() says
 * that the bus has all that was popped so far, and is what makes it durable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "message.h"
#include "net/network.h"
#include "state.h"
#include "util/failure.h"
#include "util/turn.h"

struct accounts;
struct account;
struct mailbox;

/* What the bus shows as State, of mailboxes and (as that of its first connection) of accounts. */
enum account_state {
	ACCOUNT_STATE_STOPPED,
	ACCOUNT_STATE_OFFLINE,
	ACCOUNT_STATE_WAITING,
	ACCOUNT_STATE_CONNECTING, /* unlocking and dialing */
	ACCOUNT_STATE_AUTHENTICATING,
	ACCOUNT_STATE_SYNCHRONIZING,
	ACCOUNT_STATE_IDLE,
	ACCOUNT_STATE_INTERRUPTING,
	ACCOUNT_STATE_FETCHING,
	ACCOUNT_STATE_FAILED,
};

/* "synchronizing" */
const char *account_state_name(enum account_state state);

/* Idle, or on its way there and back. */
bool account_state_is_online(enum account_state state);

/* -- the set -- */

/* owner is woken when there are events. state is borrowed. trace_fd: where conversations are
 * written, -1 for nowhere. Begins empty. 0 or -ENOMEM. */
int accounts_new(struct turn *turn, struct task *owner, struct state *state, int trace_fd,
	struct accounts **ret_accounts);

/* Cuts connections that are left. NULL is allowed. Returns NULL. */
struct accounts *accounts_free(struct accounts *accounts);

/* Makes the accounts those of the configuration, which is taken. Accounts that did not change keep
 * their connections (only `failed` ones try again), and where only the mailboxes differ those that
 * stay are left alone. */
int accounts_configure(struct accounts *accounts, struct config *config);

/* DONE and LOGOUT everywhere; accounts_is_quiet() is true when nothing is connected any more, at
 * the latest after 1.5 s. The owner is woken then. */
void accounts_shutdown(struct accounts *accounts);
bool accounts_is_quiet(const struct accounts *accounts);

/* The network is another one than before; also called at the beginning, with news 0. news:
 * NETWORK_NEWS_ or-ed. Connections whose path is gone are cut and made anew at once, the others
 * give proof of life where there is something new; what waits tries now. Without a network (is_up)
 * what cannot be reached is `offline`, and waits for the next such call. */
void accounts_network_changed(struct accounts *accounts, unsigned int news, bool is_up);

/* Before the machine sleeps: DONE and LOGOUT everywhere; accounts_is_quiet() is true when nothing
 * is connected any more, at the latest after 0.9 s (the owner is woken then). Everything is
 * `offline` until accounts_wake(), and what is wanted meanwhile answers so. */
void accounts_sleep(struct accounts *accounts);

/* The machine has slept, announced or not: what logged out or waits connects now, what is still
 * connected gives proof of life. */
void accounts_wake(struct accounts *accounts);

/* -- questions; what they point to is valid until the next turn -- */

size_t accounts_count(const struct accounts *accounts);
struct account *accounts_get(const struct accounts *accounts, size_t index);

uint64_t accounts_unread(const struct accounts *accounts);
bool accounts_is_online(const struct accounts *accounts);

const char *account_name(const struct account *account);
const char *account_host(const struct account *account);
uint16_t account_port(const struct account *account);
const char *account_user(const struct account *account);
enum account_state account_state(const struct account *account);
const struct failure *account_failure(const struct account *account);
uint64_t account_next_try_usec(const struct account *account); /* µs since 1970, 0: none */
uint64_t account_unread(const struct account *account);
const char *const *account_capabilities(const struct account *account); /* NULL-terminated */
bool account_is_secure(const struct account *account);
const char *account_tls_version(const struct account *account);
size_t account_n_mailboxes(const struct account *account);
struct mailbox *account_mailbox(const struct account *account, size_t index);

struct account *mailbox_account(const struct mailbox *mailbox);
const char *mailbox_name(const struct mailbox *mailbox);
enum account_state mailbox_state(const struct mailbox *mailbox);
const char *mailbox_mode(const struct mailbox *mailbox); /* "idle", "notify", "poll", "" */
uint32_t mailbox_messages(const struct mailbox *mailbox);
uint32_t mailbox_unread(const struct mailbox *mailbox);
uint32_t mailbox_uidvalidity(const struct mailbox *mailbox);
uint32_t mailbox_uidnext(const struct mailbox *mailbox);
uint64_t mailbox_highestmodseq(const struct mailbox *mailbox);
uint64_t mailbox_last_sync_usec(const struct mailbox *mailbox); /* µs since 1970, 0: never */
const struct failure *mailbox_failure(const struct mailbox *mailbox);
uint64_t mailbox_next_try_usec(const struct mailbox *mailbox); /* µs since 1970, 0: none */

/* -- events -- */

/* Properties that changed, of whichever object the event is about. */
enum account_property {
	ACCOUNT_PROPERTY_STATE = 1 << 0,
	ACCOUNT_PROPERTY_ERROR = 1 << 1,
	ACCOUNT_PROPERTY_NEXT_TRY = 1 << 2,
	ACCOUNT_PROPERTY_UNREAD = 1 << 3,
	ACCOUNT_PROPERTY_CAPABILITIES = 1 << 4, /* account */
	ACCOUNT_PROPERTY_SECURE = 1 << 5,       /* account; and TlsVersion */
	ACCOUNT_PROPERTY_MODE = 1 << 6,         /* mailbox, and the following */
	ACCOUNT_PROPERTY_MESSAGES = 1 << 7,
	ACCOUNT_PROPERTY_UIDVALIDITY = 1 << 8,
	ACCOUNT_PROPERTY_UIDNEXT = 1 << 9,
	ACCOUNT_PROPERTY_HIGHESTMODSEQ = 1 << 10,
	ACCOUNT_PROPERTY_ONLINE = 1 << 11, /* the root object; and UNREAD there */
};

enum account_event_kind {
	ACCOUNT_EVENT_ADDED,           /* account */
	ACCOUNT_EVENT_REMOVED,         /* account, which is freed after the next pop */
	ACCOUNT_EVENT_CHANGED,         /* account, properties */
	ACCOUNT_EVENT_MAILBOX_ADDED,   /* mailbox */
	ACCOUNT_EVENT_MAILBOX_REMOVED, /* mailbox, which is freed after the next pop */
	ACCOUNT_EVENT_MAILBOX_CHANGED, /* mailbox, properties */
	ACCOUNT_EVENT_ROOT_CHANGED,    /* properties: UNREAD, ONLINE */
	ACCOUNT_EVENT_NEW_MAIL,        /* mailbox, messages: 1 to 100, ascending UIDs */
	ACCOUNT_EVENT_FLAGS_CHANGED,   /* mailbox, messages: uid and flags; 1 or more */
	ACCOUNT_EVENT_EXPUNGED,        /* mailbox, uids, 1 or more */
	ACCOUNT_EVENT_RESET,           /* mailbox, uidvalidity */
	ACCOUNT_EVENT_REPLY,           /* id, failure; and what the request gives */
};

struct account_list_item {
	char *name;
	char **attributes; /* NULL-terminated */
};

/* Valid until the next pop. */
struct account_event {
	enum account_event_kind kind;
	struct account *account;
	struct mailbox *mailbox;
	unsigned int properties;
	struct message **messages;
	size_t n_messages;
	uint32_t *uids;
	size_t n_uids;
	uint32_t uidvalidity;
	uint64_t id;            /* REPLY: what the call returned */
	struct failure failure; /* REPLY: kind NONE for success */
	int raw_fd; /* REPLY to fetch_raw: a sealed memfd; set to -1 when taken; else -1 */
	uint64_t raw_size;
	struct account_list_item *list; /* REPLY to list_mailboxes */
	size_t n_list;
};

/* The next event, or NULL. */
struct account_event *accounts_next_event(struct accounts *accounts);

/* All that was popped before the last accounts_next_event() that gave NULL has been told: the
 * changes behind it are committed in one transaction. Cheap when there is nothing to commit. */
void accounts_announced(struct accounts *accounts);

/* Whether there is something that accounts_announced() has not tried to commit yet. */
bool accounts_has_announcement(const struct accounts *accounts);

/* -- wishes. Each returns an id, not 0, and is answered by exactly one REPLY event (also when it is
 * refused at once, but never inside the call), within 20 s but for fetch_raw while octets arrive.
 * caller: a name that stands for who asks (a unique bus name), for the limits and
 * accounts_caller_gone(). 0 only when out of memory. Strings and arrays are borrowed for the call.
 * -- */

uint64_t accounts_refresh(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox);
uint64_t accounts_fetch(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *const *items,
	size_t n_items);
uint64_t accounts_fetch_raw(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t uid);
uint64_t accounts_list_since(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t uidvalidity, uint32_t uid, uint32_t limit);
uint64_t accounts_list_unread(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, uint32_t limit);
uint64_t accounts_stop(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox);
uint64_t accounts_start(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox);
uint64_t accounts_set_flags(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *const *add,
	size_t n_add, const char *const *remove, size_t n_remove);
uint64_t accounts_move(struct accounts *accounts, const char *caller, const char *account,
	const char *mailbox, const uint32_t *uids, size_t n_uids, const char *target);
uint64_t accounts_list_mailboxes(
	struct accounts *accounts, const char *caller, const char *account);

/* The caller left the bus: its queued requests are dropped and get no reply. */
void accounts_caller_gone(struct accounts *accounts, const char *caller);
