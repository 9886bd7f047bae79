/* Whether the server's certificate is the one that was asked for, and if not, why, in words for a
 * person. Part of net/tls, the one place that knows GnuTLS.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <time.h>

#include "util/failure.h"

/* Checks the peer's chain against the session's credentials: issuer, dates, purpose (TLS server),
 * strength, and that the host is among the names of the certificate's subjectAltName (RFC 9525; a
 * common name is no host name). With a fingerprint ("sha256:HEX", or NULL) only that is checked.
 * 0; -EPERM with FAILURE_CERTIFICATE_INVALID; -ENOMEM. */
int tls_certificate_check(gnutls_session_t session, const char *host, const char *fingerprint,
	struct failure *failure);

/* The last second, since 1970, at which all of a chain that was found good is valid: the peer's
 * certificates and their issuers among the authorities. 0 when one of them cannot be read. */
time_t tls_certificate_end(gnutls_session_t session);
