/* What OAuth 2.0 says in SASL: the message that carries a token, and the error object that comes
 * back for a bad one. RFC 7628 (OAUTHBEARER) and Google's XOAUTH2, which Microsoft and Yahoo speak
 * too. No base64 here, and no state: that is imap/sasl.h.
 */
#pragma once

#include <stdint.h>

#include "util/bytes.h"

enum imap_oauth_form {
	IMAP_OAUTH_BEARER,
	IMAP_OAUTH_GOOGLE,
};

/* Puts the client's message; the buffer holds a secret afterwards. None of the strings holds
 * control-A. host: "" leaves host and port out, as IMAP_OAUTH_GOOGLE does always. 0 or -ENOMEM. */
int imap_oauth_put(struct bytes *message, enum imap_oauth_form form, const char *user,
	const char *token, const char *host, uint16_t port);

/* The "status" member of the error object (RFC 7628 section 3.2.2) in clean text of at most 64
 * characters; "" when there is none or it is no JSON object. Owned by the caller, NULL when out of
 * memory. */
char *imap_oauth_problem(struct span json);
