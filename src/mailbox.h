/* A mailbox of an account: its view, what it shows on the bus, and how what the engine says of it
 * becomes events for the bus and changes of the state (mailbox_follow.c). It knows which connection
 * refers to its view, so that never two do, and when it is to be visited or tried again; that all
 * this happens is the account's task. The questions are in account.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "connection.h"
#include "imap/client.h"
#include "imap/mailbox.h"
#include "notice.h"
#include "tally.h"
#include "util/backoff.h"
#include "util/list.h"
#include "util/log.h"
#include "util/turn.h"

/* What was shown last, to see what has changed. */
struct mailbox_shown {
	uint32_t messages;
	uint32_t unread;
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint64_t highestmodseq;
};

struct mailbox {
	struct account *account;    /* borrowed */
	struct notice_queue *queue; /* borrowed */
	struct imap_mailbox *view;
	struct notice_change changed;
	unsigned int changes; /* enum account_property: what is to be told */
	struct mailbox_shown shown;
	struct tally_part part;
	bool is_literal;   /* the configuration names it; else a pattern found it */
	bool is_announced; /* the bus knows it */

	enum account_state state;
	struct failure *failure; /* kept */
	uint64_t next_try_usec;  /* since 1970, 0: none */
	uint64_t left_idle; /* µs of CLOCK_BOOTTIME: since when idle is shown as it passes by */
	bool has_idled;     /* account_state_log_level() */
	const char *mode;
	uint64_t last_sync_usec; /* since 1970, 0: never */

	bool is_stopped;               /* wanted, by Stop */
	bool is_synchronised;          /* by the connection that refers to it */
	struct connection *connection; /* borrowed: the one that refers to the view; NULL: none */

	/* It cannot be opened: since when it rests and until when. */
	struct failure *problem; /* kept */
	uint64_t rest;           /* µs of CLOCK_BOOTTIME; 0: it does not rest */
	uint64_t rest_usec;      /* the same, since 1970 */
	struct backoff backoff;

	/* Of a mailbox without a connection of its own; visit_at(). */
	struct list due;   /* among those that are to be visited now */
	struct task alarm; /* when it is to be */
	bool is_visited;   /* a visit is under way */
	bool has_news;     /* the server said that it is not as the view is */
	bool is_notified;  /* NOTIFY on the account's first connection tells when it changes */

	struct list touched; /* among those of which other things are to be shown perhaps */

	bool is_behind;            /* the state lacks something: mailbox_store() */
	struct imap_cursor stored; /* as last given to the state */
	uint16_t sets_stored;      /* one above the highest place of the flag table given to it */

	/* What Moves of ours have brought here and has not been seen yet. */
	struct runs moved;
	uint32_t moved_uidvalidity;
};

/* Loads what is stored. is_stopped: as stored. It is part of the tally until mailbox_leave(). NULL
 * when out of memory. */
struct mailbox *mailbox_new(struct account *account, struct tally *tally,
	struct notice_queue *queue, struct state *state, const char *name);

/* It is no longer one of its account's mailboxes. */
void mailbox_leave(struct mailbox *mailbox);

/* No connection may refer to its view. NULL is allowed. Returns NULL. */
struct mailbox *mailbox_free(struct mailbox *mailbox);

/* The view becomes what is stored, and what is about to be: the engine's changes since were lost
 * on their way. No connection may refer to it. 0 or -ENOMEM. */
int mailbox_reload(struct mailbox *mailbox, struct state *state);

/* At what level the log has it that an object enters a state: what comes and goes once it has been
 * idle is everyday business. has_idled belongs to the object. */
enum log_level account_state_log_level(enum account_state state, bool *has_idled);

struct state_key mailbox_key(const struct mailbox *mailbox);

/* Enters a state. failure (kind NONE: none) and next_try_usec are what is shown with it. */
void mailbox_enter(struct mailbox *mailbox, enum account_state state, const struct failure *failure,
	uint64_t next_try_usec);
void mailbox_set_mode(struct mailbox *mailbox, const char *mode);

/* Whether it has a connection of its own, which watches it. */
bool mailbox_is_watched(const struct mailbox *mailbox);

/* The view is what it is; what of it is shown has changed perhaps. */
void mailbox_note_view(struct mailbox *mailbox);

/* Tells the bus what has changed since. Apart from the changes themselves, so that the sums of
 * account and root are told before: whoever waits for a mailbox then finds them right. */
void mailbox_tell_changes(struct mailbox *mailbox);

/* It cannot be opened: it rests for a while. */
void mailbox_put_to_rest(struct mailbox *mailbox, const struct failure *problem, uint64_t now);
bool mailbox_is_resting(const struct mailbox *mailbox, uint64_t now);

/* -- what the engine says of it; 0 or -ENOMEM (something was lost: mailbox_reload()) -- */

int mailbox_follow_baseline(struct mailbox *mailbox, struct imap_event *event);

/* items: what the bus is told of a new message. */
int mailbox_follow_new(struct mailbox *mailbox, struct imap_event *event, unsigned int items);
int mailbox_follow_flags(struct mailbox *mailbox, struct imap_event *event);
int mailbox_follow_expunged(struct mailbox *mailbox, struct imap_event *event);
int mailbox_follow_synchronised(struct mailbox *mailbox, const struct imap_event *event);

/* Puts all that is known of it, and that it is stopped or not, on its way into the state. At a
 * moment when nothing of the view is untold, nor on its way to the bus. 0 or -ENOMEM. */
int mailbox_store(struct mailbox *mailbox);

/* These UIDs come from a Move of ours. */
void mailbox_expect_moved(struct mailbox *mailbox, uint32_t uidvalidity, const struct runs *uids);
