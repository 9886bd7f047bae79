/* What the files of the accounts share, and nobody else: the set, the accounts, and who does what.
 * See account.h for what they are.
 *
 *   accounts.c  the set: what is configured, events, what is durable, the end
 *   account.c   an account: beginning and end, questions, and its one piece of work: whenever
 *               something has changed, put everything in order again
 *   share.c     which connection watches which mailbox, wishes to engines
 *   visit.c     mailboxes without a connection of their own: NOTIFY, and visits
 *   serve.c     what connections tell
 *   listing.c   mailboxes that patterns find
 *   show.c      what State, Error, Mode and the sums are at the moment
 *   call.c      what callers may ask
 */
#pragma once

#include "account.h"
#include "connection.h"
#include "gate.h"
#include "key.h"
#include "mailbox.h"
#include "notice.h"
#include "server.h"
#include "tally.h"
#include "wish.h"

#define ACCOUNT_N_CONNECTIONS 64

struct listing {
	uint64_t due;           /* µs of CLOCK_BOOTTIME; USEC_NEVER: nothing is to be listed */
	unsigned int n_pending; /* patterns on their way */
	bool has_failed;        /* one of them: what was found is not all */
	bool was_listed;        /* once before, by this process or another */
	bool has_changed; /* the configuration is new: what is not found may exist all the same */
	bool has_new;     /* a pattern was never listed: what it finds may be old */
	char **names;     /* what was found */
	size_t n_names, n_names_allocated;
};

struct account {
	struct list node;                    /* among the dying ones */
	struct accounts *set;                /* borrowed */
	const struct config_account *config; /* borrowed */
	struct task task;
	struct key *key;
	uint64_t tries_since;       /* of the first of n_tries */
	unsigned int n_tries;       /* by Start, of what the server refuses */
	uint64_t tried_by;          /* id of the last call of Start */
	struct mailbox **mailboxes; /* the configuration's order, then as found */
	struct mailbox **by_name;   /* the same, sorted */
	size_t n_mailboxes, n_mailboxes_allocated;
	struct connection **connections; /* the first is [0] */
	unsigned int n_connections;
	unsigned int n_made;    /* connections so far: their numbers */
	unsigned int budget;    /* connections at most: max-connections, or what the server bears */
	uint64_t limited;       /* when the server last refused one; 0: never */
	bool may_notify;        /* the first tells of all mailboxes, or will, as far as is known */
	bool is_notify_settled; /* which ones it tells of is known */
	struct connection *visitor; /* borrowed; NULL: to be looked for; visit_visitor() */
	unsigned int n_trip;        /* mailboxes that it was given to open since it was at home */
	struct list due;            /* mailboxes that are to be visited */
	struct list touched;        /* mailboxes of which other things are to be shown perhaps */
	bool is_disordered;         /* more than a mailbox has changed */
	bool is_all_touched;
	struct list wishes;
	struct listing listing;

	struct notice_change changed;
	bool is_announced; /* the bus knows it */
	enum account_state state;
	struct failure *failure; /* kept */
	uint64_t next_try_usec;
	uint64_t left_idle;   /* as that of a mailbox */
	uint64_t glimpse_due; /* when the first of them is shown as it is; USEC_NEVER */
	bool has_idled;
	struct tally tally;
	uint64_t unread; /* as shown */
	bool is_secure;
	const char *tls_version;
	char **capabilities; /* in one piece of memory */

	bool is_removed; /* no longer configured; it logs out */
	bool is_told;    /* and the bus has been told so */
	bool is_behind;  /* the state lacks something: listing_store() */
};

struct accounts {
	struct turn *turn;   /* borrowed */
	struct state *state; /* borrowed */
	struct task task;    /* commits once more; ends what does not end by itself */
	struct notice_queue queue;
	struct gate gate;
	struct servers *servers;
	struct surroundings surroundings;
	uint8_t *buffer; /* for all connections */
	size_t buffer_size;
	int trace_fd;
	struct account **list;
	size_t n;
	struct list dying;
	struct config *config; /* the current one */
	struct config **past;  /* dying accounts still borrow from them */
	size_t n_past;
	struct list calls;
	struct tally tally;
	uint64_t n_ids;
	struct notice_change changed;
	uint64_t unread;   /* as shown */
	bool is_online;    /* as shown */
	bool is_held;      /* the bus is slow: nothing is read */
	struct task crowd; /* what was put off in a crowd is to be told */
	uint64_t told;     /* µs of CLOCK_BOOTTIME: when something was told last */
	bool is_shutting_down;
	uint64_t cut;                    /* when what is still connected is cut; USEC_NEVER */
	bool is_behind;                  /* the state lacks something of an account or mailbox */
	bool is_catching_up;             /* ... and what it lacked is on its way there */
	bool may_have_lost;              /* the state is to be asked what it has lost */
	uint64_t catch_up_at;            /* what the state lacks is stored not before this */
	struct account *removed_account; /* the event popped last tells its end */
	struct mailbox *removed_mailbox;
};

/* -- accounts.c -- */

uint64_t accounts_new_id(struct accounts *accounts);

/* After anything was put into the queue: whether the bus keeps up. */
void accounts_check_queue(struct accounts *accounts);

/* A removed account has no connections any more. Frees it if nobody needs it. */
void accounts_bury(struct accounts *accounts, struct account *account);

/* Connections to the server of this account, as its user, of those that were removed: still open.
 */
size_t accounts_n_leaving(const struct accounts *accounts, const struct account *account);

/* The sums over all accounts may have changed. */
void accounts_note(struct accounts *accounts);

/* -- account.c -- */

/* With the mailboxes that the configuration names; nothing is told or begun yet. NULL when out of
 * memory. */
struct account *account_new(struct accounts *accounts, const struct config_account *config);

/* Cuts. NULL is allowed. Returns NULL. */
struct account *account_free(struct account *account);

/* Tells the bus that it is there, and begins. */
int account_begin(struct account *account);

/* The same account as read again: at most its mailboxes differ. 0 or -ENOMEM. */
int account_reconfigure(struct account *account, const struct config_account *config);

/* What callers want of it they want of the account that takes its place and its name, as far as it
 * is not on its way to the server already. */
void account_hand_over(struct account *account, struct account *successor);

/* Tells the bus that it is gone, ends its wishes, logs out; accounts_bury() follows. */
void account_remove(struct account *account);

/* Ends its wishes and logs out. */
void account_shut_down(struct account *account);
void account_cut(struct account *account);

/* The machine is about to sleep: logs out, and ends what callers want. account_check() is what
 * follows. */
void account_go_to_sleep(struct account *account);

/* The network is another one, or the machine has slept: see connection_check(). */
void account_check(struct account *account, bool has_more);
bool account_is_quiet(const struct account *account);

/* Something has changed that may concern all of its mailboxes or connections: its task will put
 * everything in order. */
void account_wake(struct account *account);

/* Something has changed that concerns this mailbox alone: what of it is shown, and what it waits
 * for, is looked at by the account's task. */
void account_touch(struct account *account, struct mailbox *mailbox);

/* A mailbox at the end of the list, told to the bus when the account is. NULL when out of memory.
 */
struct mailbox *account_add_mailbox(struct account *account, const char *name, bool is_literal);

/* is_forgotten: it does not exist any more, and nothing of it is kept. */
void account_remove_mailbox(struct account *account, struct mailbox *mailbox, bool is_forgotten);

struct mailbox *account_find_mailbox(const struct account *account, const char *name);

/* Nothing refers to the mailbox's view afterwards; its wishes go back to the queue or end. */
void account_detach(struct account *account, struct mailbox *mailbox);

/* Ends the wishes for the mailbox (NULL: all of the account), but for those of this kind. */
void account_end_wishes(struct account *account, const struct mailbox *mailbox,
	enum wish_kind spared, const struct failure *failure);

/* Logged in by any connection. */
bool account_is_open(struct account *account);

/* Tries again now what failed or waits, with a freshly fetched secret. */
void account_retry(struct account *account);

/* Tries soon, since somebody asks for this mailbox (NULL: for any). */
void account_hurry(struct account *account, struct mailbox *mailbox);

/* -- share.c -- */

/* Enough connections, each with a mailbox to watch. */
void share_connections(struct account *account);

/* A server that refused a connection is tried again after a long time. */
void share_forgive(struct account *account);

/* The mailbox is not to be watched any more: its connection watches another one, where there is one
 * that has none. */
void share_pass_on(struct account *account, struct mailbox *mailbox);

/* Wishes that can be served now go to engines; those that cannot be any more end. */
void share_wishes(struct account *account);

/* -- visit.c -- */

/* A new mailbox: to be visited as soon as that is possible. */
void visit_init(struct account *account, struct mailbox *mailbox);

/* It is to be visited at this time (µs of CLOCK_BOOTTIME; past: as soon as possible), if it has no
 * connection of its own then. */
void visit_at(struct mailbox *mailbox, uint64_t due);

/* A visit came to its end: the next one is due some time later. */
void visit_ended(struct mailbox *mailbox);

/* Visits that are due. */
void visit_work(struct account *account);

/* The connection that serves mailboxes without one of their own; NULL when none is logged in. */
struct connection *visit_visitor(struct account *account);

/* Takes the mailbox's view to this connection. Whether that is possible now. */
bool visit_attach(struct account *account, struct mailbox *mailbox, struct connection *connection);

/* Whether an engine has a wish for it. */
bool visit_is_being_served(const struct account *account, const struct mailbox *mailbox);

/* Connections were freed, the first one among them. */
void visit_reaped(struct account *account, bool was_first);

/* The connection has just logged in; is over; says that NOTIFY came into force or is over. */
void visit_ready(struct account *account, const struct connection *connection);
void visit_closed(struct account *account, const struct connection *connection);
void visit_notify(struct account *account, const struct connection *connection);

/* What the server said of a mailbox that is not open. */
void visit_changed(
	struct account *account, struct connection *connection, const struct imap_event *event);

/* Which mailboxes are to be told of by NOTIFY. */
void visit_tell_others(struct account *account);

/* -- serve.c -- */

/* The task of a connection. */
void serve_connection(struct task *task);

/* Everything that the connection's engine has told is taken in. */
void serve_events(struct account *account, struct connection *connection);

/* -- listing.c -- */

void listing_init(struct listing *listing);
void listing_done(struct listing *listing);

/* The account's configuration is new. */
void listing_configure(struct account *account);

/* Puts what was listed on its way into the state once more. */
void listing_store(struct account *account);

/* Lists when that is due and the first connection is logged in. */
void listing_work(struct account *account);

/* What a pattern found; and that it has all been said. */
void listing_gather(struct account *account, const struct imap_event *event);
void listing_end(struct account *account, const struct failure *failure);

/* -- show.c -- */

/* Puts on show what has changed of mailboxes and account. */
void show_account(struct account *account);

/* The same for the views and their sums alone. */
void show_views(struct account *account);

/* What is known of the server from its first connection, which has just logged in. */
void show_capabilities(struct account *account, struct imap_client *client);
