/* SASL mechanisms: what the server offers and we have, and the exchange itself. PLAIN, LOGIN,
 * CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256 and their PLUS forms and EXTERNAL by libgsasl (the only
 * place that knows it); XOAUTH2 and OAUTHBEARER (RFC 7628) by a line each. Base64 is done here:
 * what goes in and out is what stands on the IMAP wire, without CRLF.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"

/* What the person has. */
enum imap_secret_kind {
	IMAP_SECRET_NONE, /* a client certificate only: EXTERNAL */
	IMAP_SECRET_PASSWORD,
	IMAP_SECRET_TOKEN, /* OAuth 2.0 access token; never used as a password */
};

struct imap_credentials {
	const char *user; /* borrowed for the call; also authorisation with EXTERNAL */
	enum imap_secret_kind kind;
	const char *secret; /* NULL with IMAP_SECRET_NONE */
	const char *host;   /* for OAUTHBEARER */
	uint16_t port;
	struct span tls_unique; /* channel bindings, RFC 5929 and 9266; empty where TLS has none */
	struct span tls_exporter;
};

/* The strongest mechanism that both sides have, from the "AUTH=" words of the capabilities (words
 * with another beginning are passed over): SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS, SCRAM-SHA-256,
 * SCRAM-SHA-1, CRAM-MD5, PLAIN, LOGIN for a password; OAUTHBEARER, XOAUTH2 for a token; EXTERNAL
 * without a secret. PLUS only where channel bindings exist and without_plus is false; SCRAM and
 * CRAM-MD5 only where SASLprep (RFC 4013, Unicode 3.2: no emoji) takes user and secret.
 * A static string, or NULL when there is none. */
const char *imap_sasl_choose(const struct imap_credentials *credentials,
	const struct span *capabilities, size_t n_capabilities, bool without_plus);

/* The canonical static name of a mechanism that we have, compared without regard to case, or NULL.
 */
const char *imap_sasl_canonical(const char *mechanism);

/* Whether a mechanism works with what the person has. */
bool imap_sasl_is_usable(const char *mechanism, enum imap_secret_kind kind);

struct imap_sasl;

/* Copies the credentials and wipes the copy in imap_sasl_free(). mechanism: as chosen.
 * -EOPNOTSUPP: unknown mechanism, or the secret's kind does not fit, or PLUS without a channel
 * binding; -EINVAL: user or secret is missing, no UTF-8, or holds characters that the mechanism
 * forbids (SASLprep, RFC 4013; control-A with OAuth); -ENOMEM. */
int imap_sasl_new(const char *mechanism, const struct imap_credentials *credentials,
	struct imap_sasl **ret_sasl);

/* NULL is allowed. Wipes. Returns NULL. */
struct imap_sasl *imap_sasl_free(struct imap_sasl *sasl);

/* Whether the client speaks first, so that SASL-IR may carry it (an empty response stands as "="
 * there: the caller's task). */
bool imap_sasl_is_client_first(const struct imap_sasl *sasl);

/* The answer in base64 to the server's challenge in base64 (empty for the initial response of a
 * client-first mechanism). response is appended to, wipe it after use. -EBADMSG: the challenge is
 * malformed or the server could not prove itself: cancel the exchange by "*"; -ENOMEM. */
int imap_sasl_step(struct imap_sasl *sasl, struct span challenge, struct bytes *response);

/* After the server's OK: whether the mechanism is content (SCRAM: the server has proved that it
 * knows the password, too). */
bool imap_sasl_is_complete(const struct imap_sasl *sasl);

/* OAuth: what the server's error object said ("invalid_token", "insufficient_scope"), "" if
 * nothing. Clean text of at most 64 characters. */
const char *imap_sasl_token_problem(const struct imap_sasl *sasl);
