/* A change of what is stored of a mailbox, made from an event of the engine, on its way into the
 * state: it waits until the bus has been told what it is about. It owns all that it needs, so that
 * the mailbox may be gone by then. Deltas are written in the order in which they were made.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/mailbox.h"
#include "state.h"
#include "util/list.h"
#include "util/runs.h"

enum delta_kind {
	DELTA_BASELINE, /* cursor, messages, told: instead of all that was stored */
	DELTA_MESSAGES, /* messages: are there, with these values; told */
	DELTA_REMOVED,  /* messages: are gone */
	DELTA_CURSOR,   /* cursor, forgets_told */
	DELTA_FORGOTTEN,
	DELTA_STOPPED, /* by Stop, until a Start */
	DELTA_STARTED,
	DELTA_LISTED, /* the account's patterns have been listed */
};

struct delta_set {
	uint16_t value;
	char *flags;
};

struct delta {
	struct list node;
	enum delta_kind kind;
	char *host, *user, *mailbox;
	struct imap_cursor cursor;
	struct runs messages;
	struct delta_set *sets; /* of flags, which messages may use from now on */
	size_t n_sets;
	struct imap_mailbox_told *told; /* with a modseq above the cursor's */
	size_t n_told;
	bool forgets_told; /* also those above the cursor */
};

/* The names are copied. NULL when out of memory. */
struct delta *delta_new(enum delta_kind kind, const struct state_key *key);

/* NULL is allowed. Returns NULL. */
struct delta *delta_free(struct delta *delta);

/* Copies the view's sets of flags from place `first` on. 0 or -ENOMEM. */
int delta_add_sets(struct delta *delta, const struct imap_mailbox *view, uint16_t first);

/* These n have been told; those that the delta's cursor covers are left out. 0 or -ENOMEM. */
int delta_add_told(struct delta *delta, const struct imap_mailbox_told *told, size_t n);

bool delta_is_about(const struct delta *delta, const struct state_key *key);

/* About how many octets it takes. */
size_t delta_size(const struct delta *delta);

/* In a batch of the state. */
void delta_write(const struct delta *delta, struct state *state);

/* Does to a view that was loaded from the state what delta_write() will do to the state. 0 or
 * -ENOMEM. */
int delta_apply(const struct delta *delta, struct imap_mailbox *view);

/* Loads the view of a mailbox that is new in this process from the state. 0 or -ENOMEM; -EIO: what
 * is stored cannot be read, and the view stays empty. */
int delta_load(struct state *state, const struct state_key *key, struct imap_mailbox *view);
