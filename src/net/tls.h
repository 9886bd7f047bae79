/* TLS 1.2 and 1.3 over a wire (RFC 5246, RFC 8446), as a client; the one place that knows GnuTLS.
 *
 * What sessions have in common is shared: one set of priorities, and one set of credentials for
 * each way to trust (net/tls_trust.h). Resumption is by tickets (net/ticket.h), for as long as the
 * check of the certificate would come to the same. It does not renegotiate.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/tls_trust.h"
#include "net/wire.h"
#include "util/bytes.h"
#include "util/failure.h"

struct tls;

/* A session whose handshake is yet to come. wire and host are borrowed. 0; -EINVAL with the
 * failure set (FAILURE_CONFIG_INVALID: a file that cannot be used); -ENOMEM. */
int tls_new(struct tls_trust *trust, struct wire *wire, const char *host, uint16_t port,
	struct tls **ret_tls, struct failure *failure);

/* Overwrites keys. NULL is allowed. Returns NULL. */
struct tls *tls_free(struct tls *tls);

/* 0: done, the certificate is good. -EAGAIN: more is to come. -EPROTO: failed, the failure says
 * why, and an alert has been queued. */
int tls_handshake(struct tls *tls, struct failure *failure);

/* The number of octets; 0 when nothing can be had before the wire is readable again; -ENOTCONN at
 * the end, with or without close_notify: IMAP frames itself; then the failure says why. */
ssize_t tls_read(struct tls *tls, void *buffer, size_t size, struct failure *failure);

/* The number of octets taken, all in the wire's queue; 0 while octets wait there, or when the wire
 * has failed; -ENOTCONN when TLS has failed, then the failure says why. */
ssize_t tls_write(struct tls *tls, struct span span, struct failure *failure);

/* Remembers the latest ticket, and queues close_notify. */
void tls_bye(struct tls *tls);

/* "TLS1.3": a static string. */
const char *tls_version(const struct tls *tls);

bool tls_is_resumed(const struct tls *tls);

/* Octets of a channel binding, their number; 0 when there is none. tls-unique (RFC 5929) is there
 * with TLS 1.2, and only with the extended master secret, without which it binds nothing (RFC
 * 7627); tls-exporter is that of RFC 9266. */
size_t tls_unique(const struct tls *tls, uint8_t *buffer, size_t size);
size_t tls_exporter(const struct tls *tls, uint8_t *buffer, size_t size);
