/* What somebody wants of a mailbox or an account: callers of the bus (then there is a call that is
 * owed one reply, for one or several wishes) or the account itself (a visit, a listing). A wish
 * waits until a connection can serve it, is given to its engine, gathers what comes, and ends: with
 * an answer, with a failure, or when its 20 s are over.
 *
 * It does not choose the connection, and does not know whether one is there: that is the account's
 * task.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "connection.h"
#include "mailbox.h"
#include "notice.h"
#include "util/list.h"

/* Limits of the contract. */
#define WISH_N_UIDS       1000
#define WISH_N_OF_CALLER  8
#define WISH_N_OF_ACCOUNT 64

/* What is owed to a caller: one reply. */
struct call {
	struct list node;
	uint64_t id;
	char *caller;
	unsigned int n_wishes;  /* that have not ended */
	struct failure failure; /* the first */
};

enum wish_kind {
	WISH_REFRESH,
	WISH_FETCH,
	WISH_FETCH_RAW,
	WISH_LIST_SINCE,
	WISH_LIST_UNREAD,
	WISH_SET_FLAGS,
	WISH_MOVE,
	WISH_LIST_MAILBOXES,
	WISH_STOP,    /* no engine serves it: it ends when the mailbox is stopped */
	WISH_VISIT,   /* the account's own: a mailbox without a connection is looked at */
	WISH_LISTING, /* the account's own: what a pattern finds */
};

struct wish {
	struct list node; /* of the account, in the order of asking */
	struct task task; /* its time is over */
	enum wish_kind kind;
	struct call *call;             /* borrowed; NULL: the account's own */
	struct notice_queue *queue;    /* borrowed */
	struct task *owner;            /* borrowed; woken when the time is over */
	struct mailbox *mailbox;       /* borrowed; NULL for lists */
	struct connection *connection; /* borrowed: whose engine has it; NULL: it waits */
	uint64_t id;                   /* with the engine */
	unsigned int n_broken;         /* connections that broke while it was wanted of them */
	bool is_counted; /* against the limit of the account; others may join one that is */

	struct runs uids;
	unsigned int items; /* enum message_item */
	uint32_t uidvalidity;
	uint32_t uid;
	uint32_t limit;
	char **add, **remove; /* NULL-terminated */
	size_t n_add, n_remove;
	char *target; /* of a move; the pattern of a listing */

	struct message **messages;
	size_t n_messages, n_messages_allocated;
	size_t size;
	int raw_fd; /* -1: none */
	uint64_t raw_size;
	struct account_list_item *list;
	size_t n_list;
};

/* NULL when out of memory; else it is in the list, and ends with its last wish, or by call_end().
 */
struct call *call_new(struct list *calls, uint64_t id, const char *caller);

/* Without a reply. */
void call_free(struct call *call);

/* A call without wishes is answered: by this failure (kind NONE: success), or the first one that it
 * had. */
void call_end(struct call *call, struct notice_queue *queue, const struct failure *failure);

unsigned int call_count(const struct list *calls, const char *caller);

/* A wish at the end of the list. With a call its time begins to run. id: for the engine. NULL when
 * out of memory. */
struct wish *wish_new(struct list *wishes, enum wish_kind kind, struct call *call,
	struct mailbox *mailbox, struct turn *turn, struct task *owner, struct notice_queue *queue,
	uint64_t id);

/* Without a word to anybody: its call, if that has no other wish, goes too. */
void wish_drop(struct wish *wish);

/* It has ended: the reply of the call goes out with its last wish. failure is copied; kind NONE:
 * success. */
void wish_end(struct wish *wish, const struct failure *failure);
void wish_end_for(struct wish *wish, enum failure_kind kind, const char *text);

/* Whether the view has to be the server's before it can be served. */
bool wish_needs_view(const struct wish *wish);

/* Whether it can be given to another connection when the one that has it breaks. */
bool wish_can_move_on(const struct wish *wish);

/* What it has gathered is forgotten, and it waits again. */
void wish_requeue(struct wish *wish);

/* It waits again, at the end of another account's list, for its mailbox of the same name. */
void wish_hand_over(
	struct wish *wish, struct list *wishes, struct mailbox *mailbox, struct task *owner);

/* Gives it to the connection's engine. 1: it was; 0: there is nothing to ask the server, it is over
 * with ret_failure (kind NONE: an empty answer); -ENOMEM. */
int wish_send(struct wish *wish, struct connection *connection, uint64_t now,
	struct failure *ret_failure);

/* What comes of it; 0; or -EMSGSIZE, -ENOMEM, or a negative errno of write(2): it is to be ended
 * with ret_failure. */
int wish_gather_message(struct wish *wish, struct imap_event *event, struct failure *ret_failure);
int wish_gather_chunk(struct wish *wish, const struct imap_event *event, uint64_t now,
	struct failure *ret_failure);
int wish_gather_list(struct wish *wish, struct imap_event *event, struct failure *ret_failure);
