/* A model of an IMAP server for tests, pure: lines in, lines out, no socket and no clock. It has
 * one mailbox, which others fill, flag and expunge while connections look at it, and obeys RFC
 * 3501, 2177, 4731, 5465 and 7162; in what these leave open it behaves as its traits say. It
 * believes what clients say: it is there to judge them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"

enum {
	IMAP_SERVER_FLAGS = 5,
	IMAP_SERVER_SEEN = 1 << 3,
	IMAP_SERVER_MESSAGES = 256, /* at most, in a mailbox */
};

/* In ASCII order, as a view keeps them. Bit n is the n-th. */
extern const char *const imap_server_flags[IMAP_SERVER_FLAGS];

/* Chance that repeats itself: a number below n (n > 0). */
struct chance {
	uint64_t state;
};

void chance_init(struct chance *chance, uint64_t seed);
uint32_t chance_below(struct chance *chance, uint32_t n);

/* When a connection is told what changed, EXAMINE, NOOP and the beginning of IDLE excepted, which
 * tell everything. */
enum imap_server_pushes {
	IMAP_SERVER_PUSHES_AT_ENDS, /* at the end of commands (Dovecot) */
	IMAP_SERVER_PUSHES_ALWAYS,  /* at their beginning too, and at once in IDLE (Cyrus) */
	IMAP_SERVER_PUSHES_RARELY,  /* never else */
};

/* What is wrong with NOTIFY, now and then. */
enum imap_server_notify_fault {
	IMAP_SERVER_NOTIFIES_WELL,
	IMAP_SERVER_NOTIFY_REFUSED,   /* NO or BAD, always */
	IMAP_SERVER_NOTIFY_OVERFLOWS, /* NOTIFICATIONOVERFLOW, and what was due is not pushed */
	IMAP_SERVER_NOTIFY_OMITS,     /* the data of a new message never comes */
	IMAP_SERVER_NOTIFY_STRIPS,    /* it comes without an envelope */
	IMAP_SERVER_NOTIFY_IS_LATE,   /* it comes with the next push */
	IMAP_SERVER_NOTIFY_IS_EARLY,  /* it comes before EXISTS */
};

/* How it takes several commands that have come together. */
enum imap_server_stumble {
	IMAP_SERVER_BEARS,
	IMAP_SERVER_SAYS_BAD,  /* to one behind which there is another */
	IMAP_SERVER_SWALLOWS,  /* what is behind LOGIN, EXAMINE, NOOP and DONE */
	IMAP_SERVER_SKIPS_ONE, /* only the next command behind these */
};

struct imap_server_traits {
	bool has_idle, has_condstore, has_qresync, has_esearch;
	bool has_uidnext;           /* EXAMINE tells it (Courier does not) */
	bool has_exists_in_answers; /* messages that come are told in the middle of FETCH answers */
	bool has_pushes_before_ok;  /* after DONE the mailbox is looked at once more */
	bool has_pushes_before_plus; /* the beginning of IDLE tells before "+" and not after it */
	bool has_fresh_answers;      /* FETCH and SEARCH know flags that were not pushed yet */
	bool has_modseq_in_answers;  /* whether it was asked for or not */
	bool keeps_gone;   /* what others expunged can be fetched until the expunge was told */
	bool omits_gone;   /* neither SEARCH nor FETCH of flags list it; message numbers count it */
	bool refuses_gone; /* ... else NO [EXPUNGEISSUED], or OK without a word */
	bool descends;     /* pushes flags from the last message to the first */
	bool expunges_last; /* pushes them after EXISTS and flags */
	enum imap_server_pushes pushes;
	enum imap_server_stumble stumble;
	bool has_notify;
	enum imap_server_notify_fault notify_fault;
};

struct imap_server_message {
	uint32_t uid;
	unsigned int flags;
	uint64_t modseq;
};

struct imap_server_mailbox {
	bool exists;
	uint32_t uidvalidity, uidnext;
	uint64_t highestmodseq;
	struct imap_server_message messages[IMAP_SERVER_MESSAGES]; /* by UID */
	size_t n_messages;
	struct imap_server_message gone[IMAP_SERVER_MESSAGES]; /* modseq: of the expunge */
	size_t n_gone;
};

/* -- what others do to the mailbox; index is taken modulo the number of messages -- */

void imap_server_mailbox_create(struct imap_server_mailbox *mailbox, uint32_t uidvalidity);
void imap_server_mailbox_delete(struct imap_server_mailbox *mailbox);
void imap_server_arrive(struct imap_server_mailbox *mailbox, unsigned int flags);
void imap_server_change(struct imap_server_mailbox *mailbox, uint32_t index, unsigned int flags);
void imap_server_expunge(struct imap_server_mailbox *mailbox, uint32_t index);

const struct imap_server_message *imap_server_find(
	const struct imap_server_mailbox *mailbox, uint32_t uid);

/* One connection. */
struct imap_server {
	const struct imap_server_traits *traits; /* borrowed, like the next two */
	struct imap_server_mailbox *mailbox;
	struct chance *chance;
	/* Between two lines of an answer: the mailbox may change. NULL: nothing happens. */
	void (*meanwhile)(void *userdata);
	void *userdata;

	struct bytes input, output;
	bool refuses_login; /* once */
	bool is_logged_in;
	bool is_open, is_idling, has_qresync, has_condstore, is_closed;
	char idle_tag[32];
	bool is_notifying;
	bool has_others;        /* NOTIFY named other mailboxes than the selected one */
	char notify_items[160]; /* what is pushed of a new message */
	uint32_t late_from;     /* of messages from this UID on no data was pushed; 0: of none */
	uint32_t uidvalidity;   /* of what is open */
	struct imap_server_message told[IMAP_SERVER_MESSAGES]; /* what the client was told */
	size_t n_told;
	uint32_t horizon; /* the highest UID that the client was told of, in whatever way */
};

/* Greets. */
void imap_server_init(struct imap_server *server, const struct imap_server_traits *traits,
	struct imap_server_mailbox *mailbox, struct chance *chance);
void imap_server_done(struct imap_server *server);

/* Octets from the client; answers are in `output`. */
void imap_server_receive(struct imap_server *server, const void *data, size_t len);

/* The mailbox changed, or some time has passed: an idling connection may be told. */
void imap_server_look(struct imap_server *server, bool has_time_passed);

/* Ends the connection with a BYE of these words, or without (NULL). */
void imap_server_bye(struct imap_server *server, const char *text);
