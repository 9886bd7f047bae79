/* What must survive: for each mailbox (of a host and a user, whatever the account is called) the
 * cursor, that is what has been announced, in a SQLite database (the only place that knows it) in
 * the state folder, "mailidle.db": WAL, synchronous=FULL, folder 0700, files 0600. Messages and
 * their flags are runs of UIDs, so that a change costs a few rows whatever the mailbox holds.
 *
 * A database that is corrupt or newer than this program is set aside under another name
 * ("mailidle.db.corrupt-SECONDS"), with a warning, and a new one begun; also while the daemon runs,
 * which then stores again all that it knows (state_take_loss()). A folder that cannot be written or
 * a full disk: a warning once, and the daemon goes on with what can be read, if anything, until it
 * can be written again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/runs.h"

struct state;

/* Key of a mailbox; names in UTF-8. Borrowed for each call. */
struct state_key {
	const char *host;
	const char *user;
	const char *mailbox;
};

struct state_cursor {
	uint32_t uidvalidity;   /* 0: never synchronised */
	uint32_t uidnext;       /* one above the highest UID announced or in the baseline */
	uint64_t highestmodseq; /* 0: none */
	bool has_flags;         /* the runs' values are indices of the flag table, see below */
};

/* One set of flags that messages of a mailbox have: the flags in ASCII order, each once, separated
 * by blanks; "" for none. Its place in the table is the value of runs. Without has_flags the value
 * is 0 for unread and 1 for read. */
struct state_flags {
	uint16_t value;
	const char *flags; /* borrowed for the call */
};

/* Opens or makes the database and takes a lock on the folder. 0; -EBUSY: another daemon has it (the
 * caller says so and leaves); -ENOMEM. All else is degraded, as said above, and succeeds. */
int state_open(const char *folder, struct state **ret_state);

/* NULL is allowed. Returns NULL. */
struct state *state_close(struct state *state);

/* What is stored. cursor.uidvalidity 0 and empty runs when there is nothing. flags is called for
 * each entry of the flag table. runs must be empty. 0 or -ENOMEM, -EIO. */
int state_load(struct state *state, const struct state_key *key, struct state_cursor *ret_cursor,
	struct runs *runs, void (*flags)(void *userdata, const struct state_flags *flags),
	void *userdata);

/* Calls told for each that was put by state_put_told() and not forgotten. 0 or -ENOMEM, -EIO. */
int state_load_told(struct state *state, const struct state_key *key,
	void (*told)(void *userdata, uint32_t uid, uint64_t modseq), void *userdata);

/* Batches: all that is between begin and commit is one transaction. Errors inside are sticky, make
 * the commit a rollback and are logged once; commit returns them (-ENOSPC, -EROFS, -EIO, ...;
 * -ESTALE after a loss, until state_take_loss() has told of it): the caller goes on and may try the
 * same changes again. begin in a batch, or commit without one, is harmless. */
void state_begin(struct state *state);
int state_commit(struct state *state);

/* Whether what was stored is gone since the last call (or may be): the database has turned out to
 * be corrupt, or somebody has changed, replaced or removed it. Then all that is known is to be
 * stored again, and no batch succeeds until this has been asked. Cheap. Not in a batch. */
bool state_take_loss(struct state *state);

/* Forgets all of the mailbox and stores this instead: a new baseline. */
void state_put_baseline(struct state *state, const struct state_key *key,
	const struct state_cursor *cursor, const struct runs *runs);

void state_put_cursor(
	struct state *state, const struct state_key *key, const struct state_cursor *cursor);

/* Adds an entry to the mailbox's flag table, or changes it. */
void state_put_flags(
	struct state *state, const struct state_key *key, const struct state_flags *flags);

/* Messages first..last are there with this value. */
void state_put_messages(struct state *state, const struct state_key *key, uint32_t first,
	uint32_t last, uint16_t value);

/* The message's state with this modseq (of 63 bits, else it is left out) has been told, and a
 * cursor with it is still to come: that one, or a new baseline, forgets it. */
void state_put_told(
	struct state *state, const struct state_key *key, uint32_t uid, uint64_t modseq);
void state_forget_told(struct state *state, const struct state_key *key);

/* Messages first..last are gone. */
void state_remove_messages(
	struct state *state, const struct state_key *key, uint32_t first, uint32_t last);

/* Forgets the mailbox: it no longer exists on the server. */
void state_forget(struct state *state, const struct state_key *key);

/* Stopped mailboxes stay so across restarts. 0 or, outside a batch, the error of its commit. */
int state_set_stopped(struct state *state, const struct state_key *key, bool stopped);
bool state_is_stopped(struct state *state, const struct state_key *key);

/* Whether the mailboxes of this host and user were listed before (key.mailbox is not looked at): a
 * mailbox that turns up afterwards is announced from its first message. */
bool state_was_listed(struct state *state, const struct state_key *key);
void state_set_listed(struct state *state, const struct state_key *key);
