/* What an account's connections log in with: its secret, fetched once for all connections that
 * start together and wiped when the last of them has logged in or ended, and what servers have
 * thought of it. A refused password is tried once more, a minute later and freshly fetched; a
 * refused token at once; then the key has failed, until it is renewed: by key_renew(), or when the
 * password file changes, which is watched meanwhile.
 *
 *   nothing -> fetching -> ready | unavailable;  refused -> (once more) -> failed
 *
 * It never calls its owners: users' tasks are woken when the secret is there or cannot be had, the
 * account's task when the key was renewed by a changed file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "imap/sasl.h"
#include "util/failure.h"
#include "util/turn.h"

struct key;

/* A connection that uses the key; embedded. */
struct key_user {
	struct list node;
	struct task *owner;   /* borrowed */
	unsigned int n_fetch; /* which fetch it uses */
	bool was_refused;     /* its own attempt was the last one that was refused */
};

enum key_status {
	KEY_PENDING,
	KEY_READY,
	KEY_UNAVAILABLE, /* could not be fetched: key_failure(); it counts as refused */
};

enum key_verdict {
	KEY_AGAIN, /* try again at once */
	KEY_LATER, /* try again in KEY_REST_USEC, or later */
	KEY_NEVER, /* wait for key_renew() */
};

#define KEY_REST_USEC (60 * USEC_PER_SEC)

/* config and owner are borrowed. NULL when out of memory. */
struct key *key_new(struct turn *turn, struct task *owner, const struct config_account *config);

/* Wipes. No user may be left. NULL is allowed. Returns NULL. */
struct key *key_free(struct key *key);

/* The same account, as read again. */
void key_set_config(struct key *key, const struct config_account *config);

void key_user_init(struct key_user *user, struct task *owner);

/* Begins to use it: fetches if nobody has done so. 0, -ENOMEM, or a negative errno when not even a
 * process could be started. */
int key_join(struct key *key, struct key_user *user);

/* Harmless on one that has not joined. */
void key_leave(struct key *key, struct key_user *user);

/* For users that have joined. */
enum key_status key_status(const struct key *key);
enum imap_secret_kind key_kind(const struct key *key);
const char *key_value(const struct key *key); /* NULL with IMAP_SECRET_NONE */
const struct failure *key_failure(const struct key *key);

/* What the server said; the user leaves. */
void key_accepted(struct key *key, struct key_user *user);
enum key_verdict key_refused(struct key *key, struct key_user *user);

/* The secret that was fetched is of no use any more (a token that expired). */
void key_discard(struct key *key);

/* Tries again as if it had never been refused, with a freshly fetched secret. */
void key_renew(struct key *key);

/* Whether the password file is another one than when it was refused. */
bool key_has_new_file(const struct key *key);

/* Whether the key was renewed since the last question because its file changed. */
bool key_take_renewal(struct key *key);

bool key_has_failed(const struct key *key);

/* For users that have joined: whether the secret could not be fetched perhaps for want of a
 * network, which what gives out tokens needs. */
bool key_needs_network(const struct key *key);

/* Whether this user may try, or shall let the one that was refused go first. */
bool key_is_open_to(const struct key *key, const struct key_user *user);

/* A PLUS mechanism was refused here before: the weaker one is taken at once. */
bool key_is_without_plus(const struct key *key);
void key_set_without_plus(struct key *key);
