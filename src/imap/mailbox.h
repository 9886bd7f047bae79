/* What is known of one mailbox, whatever connection shows it at the moment: the UIDs that have been
 * told, whether each is read (all its flags where the server has no CONDSTORE), and how far the
 * server was followed. Small whatever the mailbox holds: sorted runs, one table of the distinct
 * sets of flags. RFC 9051 section 2.3, RFC 7162.
 *
 * It holds no message data and does no I/O; imap/client fills it and tells the changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imap/message.h"
#include "util/bytes.h"
#include "util/runs.h"

/* Values of the runs: read or not, when the flags are not known one by one; from
 * IMAP_MAILBOX_FIRST_SET on, a place in the table of sets. */
enum {
	IMAP_MAILBOX_UNREAD = 0,
	IMAP_MAILBOX_READ = 1,
	IMAP_MAILBOX_FIRST_SET = 2,
	IMAP_MAILBOX_MAX_SETS = 4096,       /* more, and messages are only read or unread again */
	IMAP_MAILBOX_SETS_OCTETS = 1048576, /* of all sets: the same */
	IMAP_MAILBOX_MAX_BYGONE = 4096,     /* runs of them; more, and they are forgotten */
	IMAP_MAILBOX_MAX_TOLD = 4096,       /* above the cursor's modseq; more may be told again */
};

/* How far a mailbox has been followed; what is stored. */
struct imap_cursor {
	uint32_t uidvalidity; /* 0: never synchronised */
	uint32_t watermark;   /* a UID from here on that is not among the messages is new; one below
			       * is not. At least 1. 0 means 2^32: every UID is used up */
	uint64_t highestmodseq; /* all changes up to here have been seen; 0: none */
	bool has_flags;         /* the flags of single messages are known: no CONDSTORE */
};

struct imap_mailbox_told {
	uint32_t uid;
	uint64_t modseq;
};

struct imap_mailbox {
	char *name;           /* UTF-8, as on the bus */
	void *owner;          /* borrowed: whose it is; for the owner alone */
	struct runs messages; /* UID to value */
	uint64_t n_unread;
	struct imap_cursor cursor;
	struct runs bygone; /* from the watermark on: told, and gone since */
	bool announce_all;  /* never synchronised, yet everything in it is new: the mailbox was made
			     * while its account was being watched */
	bool is_void;       /* its UIDVALIDITY went, and nobody was told yet */
	uint32_t uidnext;   /* as the server said, else one above the highest UID; 0: unknown */
	/* Messages that were told with a modseq above the cursor's, by UID: a server that is asked
	 * for changes since the cursor names them again. */
	struct imap_mailbox_told *told;
	size_t n_told, n_told_allocated;
	bool has_forgotten; /* some of them, for they are of no worth any more; until the owner has
			     * taken note */
	struct imap_flag_sets *flag_sets;

	/* How often in a row the server failed to give the data of what is new, and the message in
	 * question when it is known. */
	unsigned int n_refusals;
	uint32_t refused_uid;
};

/* A mailbox of which nothing is known. NULL when out of memory. */
struct imap_mailbox *imap_mailbox_new(const char *name);

/* NULL is allowed. Returns NULL. */
struct imap_mailbox *imap_mailbox_free(struct imap_mailbox *mailbox);

/* Forgets all that is known; the cursor is that of a mailbox never synchronised. */
void imap_mailbox_reset(struct imap_mailbox *mailbox);

/* Brings back what was stored: first the sets of flags, then this. The runs are taken. A run whose
 * value is in no set counts as unread. */
void imap_mailbox_restore(
	struct imap_mailbox *mailbox, const struct imap_cursor *cursor, struct runs *messages);

/* Puts a set into the table at its stored place; flags as imap_mailbox_flag_set() gives them. 0,
 * -EINVAL (place taken or out of range), -ENOMEM. */
int imap_mailbox_restore_flag_set(struct imap_mailbox *mailbox, uint16_t value, const char *flags);

/* The set of flags at this place, in ASCII order, separated by blanks; NULL when there is none. */
const char *imap_mailbox_flag_set(const struct imap_mailbox *mailbox, uint16_t value);

/* One above the highest place in the table (IMAP_MAILBOX_FIRST_SET when it is empty). Entries never
 * change: what was stored before needs no second look. */
uint16_t imap_mailbox_flag_sets_end(const struct imap_mailbox *mailbox);

/* The value for these flags under the mailbox's way of keeping them (cursor.has_flags). A value, or
 * -ENOMEM. */
int imap_mailbox_value(struct imap_mailbox *mailbox, const struct imap_message *message);

bool imap_mailbox_is_read(const struct imap_mailbox *mailbox, uint16_t value);

/* Adds the messages first..last, or changes their value. 0 or -ENOMEM. */
int imap_mailbox_put(struct imap_mailbox *mailbox, uint32_t first, uint32_t last, uint16_t value);

/* Removes them. 0 or -ENOMEM. */
int imap_mailbox_remove(struct imap_mailbox *mailbox, uint32_t first, uint32_t last);

/* Replaces all messages: the runs are taken, n_unread is counted anew. */
void imap_mailbox_replace(struct imap_mailbox *mailbox, struct runs *messages);

/* Whether what STATUS said of the mailbox leaves no doubt that it is as the view is: which takes a
 * modseq. */
bool imap_mailbox_is_as_said(const struct imap_mailbox *mailbox, uint32_t uidvalidity,
	uint32_t uidnext, uint32_t messages, uint64_t highestmodseq);

/* The messages first..last were told and are gone: their UIDs are used up (RFC 9051
 * section 2.3.1.1), though a broken server may show them again before the watermark is raised. 0 or
 * -ENOMEM. */
int imap_mailbox_note_bygone(struct imap_mailbox *mailbox, uint32_t first, uint32_t last);

/* The server uses UIDs a second time. */
void imap_mailbox_forget_bygone(struct imap_mailbox *mailbox);

/* Whether a message that the server has, and that is not among the known, is new. */
bool imap_mailbox_is_new(const struct imap_mailbox *mailbox, uint32_t uid);

/* The cursor's modseq goes up to this one (never down). */
void imap_mailbox_raise_modseq(struct imap_mailbox *mailbox, uint64_t modseq);

/* The cursor knows no modseq any more. */
void imap_mailbox_forget_modseq(struct imap_mailbox *mailbox);

/* The message's state with this modseq (0: not known) has been told. 0 or -ENOMEM. */
int imap_mailbox_note_told(struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq);

/* Whether the message's state with this modseq is known to have been told, which above the cursor's
 * modseq is not known of all. */
bool imap_mailbox_was_told(const struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq);

/* Whether the very state of the message that this modseq stands for is among those told above the
 * cursor's. */
bool imap_mailbox_has_told(const struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq);

/* The server's highest modseq is this one: it may give those above it to other states. */
void imap_mailbox_forget_told_above(struct imap_mailbox *mailbox, uint64_t modseq);

/* The watermark goes up to one above the highest UID that was ever known (never down). */
void imap_mailbox_raise_watermark(struct imap_mailbox *mailbox);
