/* One non-blocking stream of bytes to a server: it resolves, dials (Happy Eyeballs, RFC 8305) or
 * runs a proxy command, speaks TLS from the start or when asked, and knows no IMAP.
 *
 *   connecting -> [handshaking] -> open -> closing -> closed
 *                       ^            |
 *                       +-- STARTTLS-+
 *
 * It never calls its owner: whenever something may have changed (state, octets to read, room to
 * write) it wakes the owner's task, and the owner looks. Nothing here blocks, names are resolved on
 * worker threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/path.h"
#include "util/bytes.h"
#include "util/failure.h"
#include "util/turn.h"

enum stream_state {
	STREAM_CONNECTING,
	STREAM_HANDSHAKING,
	STREAM_OPEN,
	STREAM_CLOSING,
	STREAM_CLOSED,
};

/* What TLS trusts. Strings are borrowed for the time of stream_new() and copied. */
struct stream_trust {
	const char *ca_file;     /* PEM to trust instead of the system's; NULL */
	const char *fingerprint; /* "sha256:HEX" of the server's certificate: trust exactly that
				  * one, whatever its chain, name and dates; NULL */
	const char *client_certificate; /* PEM file or PKCS#11 URL; NULL */
	const char *client_key;         /* the same; NULL: in client_certificate's file */
};

struct stream_target {
	const char
		*host; /* a name or an address literal, as configured: the name that is verified */
	uint16_t port;
	const char *proxy_command; /* NULL: dial */
	bool tls;                  /* from the start */
	bool loopback_only; /* plain: refuse any address but 127.0.0.0/8 and ::1 (FAILURE_INSECURE)
			     */
	struct stream_trust trust;
	uint64_t deadline_usec; /* for connecting and the handshake together, from stream_new(): 30
				   s */
};

struct stream;

/* Starts connecting. owner is borrowed and woken. Always succeeds but for -ENOMEM: whatever goes
 * wrong later is told by the state closed and stream_failure(). */
int stream_new(struct turn *turn, struct task *owner, const struct stream_target *target,
	struct stream **ret_stream);

/* Closes at once whatever is under way, without a word to the owner. NULL is allowed. */
struct stream *stream_free(struct stream *stream);

enum stream_state stream_state(const struct stream *stream);
const char *stream_state_name(enum stream_state state);

/* Why it is closed: FAILURE_OFFLINE (name not found, refused, unreachable, reset, end of stream:
 * the text says which), FAILURE_TIMEOUT, FAILURE_CERTIFICATE_INVALID, FAILURE_PROTOCOL_ERROR (TLS),
 * FAILURE_INSECURE, FAILURE_CONFIG_INVALID (a file that cannot be read). kind FAILURE_NONE before,
 * and after stream_close() completed. */
const struct failure *stream_failure(const struct stream *stream);

/* The number of octets, 0 when there are none now (the owner is woken when there are), -ENOTCONN
 * when nothing will come any more (the state is closed). Read until 0. */
ssize_t stream_read(struct stream *stream, void *buffer, size_t size);

/* Takes as many octets as it can now, 0 when it cannot (the owner is woken when it can). Octets
 * taken by TLS but not yet by the socket count as taken; the stream sends them by itself.
 * -ENOTCONN when closed. */
ssize_t stream_write(struct stream *stream, struct span span);

/* Whether octets that stream_write() took still wait for the socket. */
bool stream_is_writing(const struct stream *stream);

/* Begins TLS on an open, plain stream (STARTTLS); the state is handshaking, then open, or closed.
 * All that was written has been sent. -EBUSY: not open, something still unsent, or already TLS. */
int stream_start_tls(struct stream *stream);

/* From here on octets are deflated both ways (RFC 4978), inside TLS where there is TLS.
 * first_input: octets that were read already and belong to the deflated ones, copied. 0; -EBUSY:
 * not open, or deflating already; -ENOMEM. */
int stream_start_deflate(struct stream *stream, struct span first_input);

/* Sends what is left, close_notify, and closes; the state is closing, then closed, within 2 s. */
void stream_close(struct stream *stream);

/* Whether what is read now came through TLS with a verified certificate. */
bool stream_is_secure(const struct stream *stream);

/* "TLS1.3"; "" without TLS. A static string. */
const char *stream_tls_version(const struct stream *stream);

/* Whether the TLS session was resumed. */
bool stream_is_resumed(const struct stream *stream);

/* Channel bindings for SASL: tls-unique (RFC 5929, TLS 1.2 only) and tls-exporter (RFC 9266). Empty
 * where there is none; valid until stream_free(). */
struct span stream_tls_unique(const struct stream *stream);
struct span stream_tls_exporter(const struct stream *stream);

/* The peer's address for people ("192.0.2.1:993", "[2001:db8::1]:993", "proxy"); "" before. */
const char *stream_peer(const struct stream *stream);

/* What has become of the way that the stream takes, after news of the network; while it dials, GONE
 * when that is so of every attempt. PATH_UNKNOWN while a name is being resolved, for a proxy, and
 * when closed. */
enum path stream_path(const struct stream *stream);

/* Of a closed stream: whether no packet of ours can have reached the server, since its name could
 * not be resolved, or this machine has no address or route for it. */
bool stream_is_unreachable(const struct stream *stream);
