/* Notices: the events of the accounts on their way to the bus, in order, and behind each of them
 * the change of the state that becomes true when it has been told. Changed properties wait in what
 * is part of the object that they belong to: one for each object, however often they change.
 *
 *   queued -> popped -> (with the pop that gives NULL) told -> committed
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "account.h"
#include "delta.h"
#include "util/list.h"
#include "util/turn.h"

/* A place in the queue: of a notice or a change. */
struct notice_place {
	struct list node;
	size_t size;
	bool is_change;
	bool is_late; /* the second place of a change */
};

struct notice {
	struct notice_place place;
	struct account_event told; /* what the bus is told */
	bool is_silent;            /* nothing is told: there is a delta alone */
	struct delta *delta;
};

/* Changed properties, embedded in their mailbox or account. Values are read when it is told: where
 * its place is before a reply, with news behind, a new State has another place behind the news. */
struct notice_change {
	struct notice_place place;
	struct notice_place late;
	enum account_event_kind kind;
	struct account *account; /* borrowed; may be NULL, as may */
	struct mailbox *mailbox; /* borrowed */
	unsigned int properties; /* those of its first place */
};

struct notice_queue {
	struct task *owner;  /* borrowed; woken when there are events */
	struct state *state; /* borrowed */
	struct list notices;
	struct notice *current;     /* popped last */
	struct account_event shown; /* a change that was popped last */
	struct list popped;         /* deltas of what was popped */
	struct list told;           /* deltas that may be committed */
	bool has_told;              /* some of them since the last commit, or attempt at it */
	size_t n;
	size_t n_news; /* of them: neither changes nor silent */
	size_t size;
};

void notice_queue_init(struct notice_queue *queue, struct task *owner, struct state *state);

/* Frees what was not popped. */
void notice_queue_done(struct notice_queue *queue);

/* An event of this kind without content, not yet queued. NULL when out of memory. */
struct notice *notice_new(enum account_event_kind kind);

/* One that tells nothing, and takes the delta (also when it fails). NULL when out of memory. */
struct notice *notice_new_silent(struct delta *delta);

/* What it holds is freed with it: messages, uids, list, raw_fd, delta. NULL is allowed. */
struct notice *notice_free(struct notice *notice);

/* Takes the event. */
void notice_queue_put(struct notice_queue *queue, struct notice *notice);

void notice_change_init(struct notice_change *change, enum account_event_kind kind,
	struct account *account, struct mailbox *mailbox);

/* One that waits already goes behind what is news since, with all its changes, but behind no reply;
 * a State goes behind the news of its object in any case. */
void notice_queue_change(
	struct notice_queue *queue, struct notice_change *change, unsigned int properties);

/* The object is freed, or shows nothing any more. */
void notice_withdraw(struct notice_queue *queue, struct notice_change *change);

/* The next one that tells something, or NULL; the one before is freed. */
struct account_event *notice_queue_next(struct notice_queue *queue);

/* Commits what has been told. 0, or the error of state_commit(): it is still to be committed. */
int notice_queue_commit(struct notice_queue *queue);

/* Whether something that has been told is not committed yet. */
bool notice_queue_is_behind(const struct notice_queue *queue);

/* After a commit that failed: whether so much waits to be stored that it is not worth its memory
 * any more; then it is thrown away, and the owner has to store all anew some day. */
bool notice_queue_gives_up(struct notice_queue *queue);

/* Whether anything waits to be told but changed properties. */
bool notice_queue_has_news(const struct notice_queue *queue);

/* Whether the bus is so slow that nothing more should be read from servers; and whether that is
 * over again. */
bool notice_queue_is_full(const struct notice_queue *queue);
bool notice_queue_has_room(const struct notice_queue *queue);

/* Does to the view what deltas that are not committed yet will do to the state. 0 or -ENOMEM. */
int notice_queue_apply(
	const struct notice_queue *queue, const struct state_key *key, struct imap_mailbox *view);

/* Whether the mailbox is stopped when all that waits is durable; is_stopped: what is stored. */
bool notice_queue_is_stopped(
	const struct notice_queue *queue, const struct state_key *key, bool is_stopped);
