/* What streams trust, as GnuTLS wants it: shared by all that trust the same. Part of net/tls, the
 * one place that knows GnuTLS.
 *
 * The authorities of a system take some megabytes and milliseconds: they are loaded when a chain
 * has to be checked, serve whatever else is checked soon, and are freed when no handshake has ended
 * for a second. So a burst of connections loads them once, and none of them stays.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/stream.h"
#include "util/bytes.h"
#include "util/failure.h"
#include "util/turn.h"

struct tls_trust;

/* Which authorities there are: the state of the files that they come from. Two that are known and
 * the same stand for the same authorities. */
struct tls_mark {
	bool is_known;
	uint8_t digest[32];
};

/* A reference to what is shared by all streams of the turn (borrowed) with this trust; files are
 * read when they are needed. 0 or -ENOMEM. */
int tls_trust_get(
	struct turn *turn, const struct stream_trust *wanted, struct tls_trust **ret_trust);
struct tls_trust *tls_trust_ref(struct tls_trust *trust);

/* Gives a reference back. NULL is allowed. Returns NULL. */
struct tls_trust *tls_trust_unref(struct tls_trust *trust);

/* What GnuTLS needs for a session, borrowed; the client's certificate is in it. 0; -EINVAL with the
 * failure set (FAILURE_CONFIG_INVALID: a file that cannot be used); -ENOMEM. */
int tls_trust_credentials(struct tls_trust *trust,
	gnutls_certificate_credentials_t *ret_credentials, struct failure *failure);

/* Borrowed; it stays as long as any trust. 0 or -ENOMEM. */
int tls_trust_priorities(gnutls_priority_t *ret_priorities);

/* NULL: none, authorities are asked. */
const char *tls_trust_fingerprint(const struct tls_trust *trust);

/* Appends what tells this trust from others, the authorities themselves excepted. */
void tls_trust_put_key(const struct tls_trust *trust, struct bytes *bytes);

/* The authorities as they are now, loaded or not. A fingerprint needs none: that is known, too. Not
 * known where the system keeps them in a way that we do not know, or when a file is not there. */
void tls_trust_look(const struct tls_trust *trust, struct tls_mark *ret_mark);

/* The credentials have the authorities, as they are now, for as long as this turn; ret_mark: which
 * ones. 0; -EINVAL with the failure set as above; -ENOMEM. */
int tls_trust_load(struct tls_trust *trust, struct tls_mark *ret_mark, struct failure *failure);

/* A handshake has ended: if no other one does soon, memory is given back. */
void tls_trust_rest(struct tls_trust *trust);

bool tls_trust_has_authorities(const struct tls_trust *trust);
