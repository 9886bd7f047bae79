#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/address.h"
#include "net/ticket.h"
#include "net/tls.h"
#include "net/tls_certificate.h"
#include "net/tls_trust.h"

/* Records without data that a peer may send in a row (warnings, requests to renegotiate, tickets),
 * before it is thought to play with us. */
#define N_IDLE_RECORDS_MAX 32

struct tls {
	struct tls_trust *trust;
	struct wire *wire; /* borrowed */
	const char *host;  /* borrowed */
	uint16_t port;
	bool is_verified;
	struct tls_mark mark;    /* the authorities by which the server was found good */
	struct ticket_life life; /* of the tickets that come of it */
	bool has_kept_ticket;
	bool has_ended; /* the server says nothing more */
	uint64_t id;    /* of the session, among all */
	gnutls_session_t session;
	struct failure *failure; /* borrowed, while a handshake goes on */
};

/* So long what is found out by one check of a certificate holds for sessions that are resumed. RFC
 * 8446 section 4.6.1 wants an end to what is derived from a single handshake, in view of revocation
 * and of the time since the server's last signature. */
#define LIFE_SEC (24 * 60 * 60)

static uint64_t last_id;

/* Tickets
 *
 * A session that is resumed proves that the other side has the secret which it shared with us when
 * its certificate was checked (RFC 8446 section 2.2): it is the same server, under the name that is
 * part of the key here, and so nothing of the chain has to be looked at again, as long as looking
 * would come to the same. Whatever could change that makes the ticket one that is not offered, and
 * the full handshake that follows brings the server's certificate of today, and the full check: the
 * way to trust is part of the key, and so are the authorities themselves as they were when they
 * were asked; a ticket dies with the first certificate of the chain that ends, and a day after the
 * check in any case, whatever tickets have come of it since; a clock that was set back ends it,
 * too. Where nobody can tell whether the authorities are the same, the chain is checked again. */

/* NULL when out of memory. */
static char *ticket_key(const struct tls *tls)
{
	struct bytes key;
	bytes_init(&key);
	bytes_printf(&key, "%s\n%u", tls->host, tls->port);
	tls_trust_put_key(tls->trust, &key);
	bytes_put_char(&key, '\n');
	for (size_t i = 0; tls->mark.is_known && i < sizeof(tls->mark.digest); i++) {
		static const char digits[] = "0123456789abcdef";
		bytes_put_char(&key, digits[tls->mark.digest[i] >> 4]);
		bytes_put_char(&key, digits[tls->mark.digest[i] & 15]);
	}
	char *result = bytes_steal(&key);
	bytes_done(&key);
	return result;
}

static void offer_ticket(struct tls *tls)
{
	tls_trust_look(tls->trust, &tls->mark);
	char *key = ticket_key(tls);
	if (!key) {
		return;
	}
	struct bytes ticket;
	bytes_init(&ticket);
	ticket_take(key, time(NULL), &tls->life, &ticket);
	struct span octets = bytes_span(&ticket);
	if (octets.len > 0) {
		/* One that is too old or damaged only costs a full handshake. */
		(void)gnutls_session_set_data(tls->session, octets.data, octets.len);
	}
	bytes_wipe(&ticket);
	free(key);
}

static void keep_ticket(struct tls *tls)
{
	/* With TLS 1.3 GnuTLS would wait for a ticket that has not come. */
	if (gnutls_protocol_get_version(tls->session) == GNUTLS_TLS1_3 &&
		!(gnutls_session_get_flags(tls->session) & GNUTLS_SFLAGS_SESSION_TICKET)) {
		return;
	}
	gnutls_datum_t ticket = {0};
	char *key = ticket_key(tls);
	if (key && gnutls_session_get_data2(tls->session, &ticket) == 0) {
		ticket_put(key, tls->id, &tls->life,
			(struct span){.data = ticket.data, .len = ticket.size});
		explicit_bzero(ticket.data, ticket.size);
		gnutls_free(ticket.data);
	}
	free(key);
}

/* The transport */

static ssize_t push(gnutls_transport_ptr_t transport, const giovec_t *parts, int n_parts)
{
	struct tls *tls = transport;
	int error = wire_queue(tls->wire, parts, (size_t)n_parts);
	if (error < 0) {
		gnutls_transport_set_errno(tls->session, -error);
		return -1;
	}
	ssize_t len = 0;
	for (int i = 0; i < n_parts; i++) {
		len += (ssize_t)parts[i].iov_len;
	}
	return len;
}

static ssize_t pull(gnutls_transport_ptr_t transport, void *buffer, size_t size)
{
	struct tls *tls = transport;
	ssize_t n = wire_receive(tls->wire, buffer, size);
	if (n < 0) {
		gnutls_transport_set_errno(tls->session, (int)-n);
		return -1;
	}
	tls->has_ended = n == 0 && size > 0;
	return n;
}

/* Never waits, whatever GnuTLS asks for. */
static int pull_timeout(gnutls_transport_ptr_t transport, unsigned int msec)
{
	(void)msec;
	struct tls *tls = transport;
	struct pollfd ready = {.fd = tls->wire->read_fd, .events = POLLIN};
	return poll(&ready, 1, 0) > 0 ? 1 : 0;
}

/* The session */

/* RFC 6066 section 3: neither literals nor a final dot in a server name. A certificate has none,
 * too. GnuTLS copies. */
static int name_server(struct tls *tls)
{
	size_t len = strlen(tls->host);
	if (address_is_literal(tls->host, NULL, NULL)) {
		return 0;
	}
	return gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, tls->host, len);
}

static int verify(gnutls_session_t session);

static int init_session(struct tls *tls, gnutls_certificate_credentials_t credentials)
{
	gnutls_priority_t priorities;
	if (tls_trust_priorities(&priorities) < 0) {
		return -ENOMEM;
	}
	/* The one certificate that was configured is meant, whatever issuers a server lists. */
	if (gnutls_init(&tls->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT) <
		0) {
		tls->session = NULL;
		return -ENOMEM;
	}
	gnutls_session_set_ptr(tls->session, tls);
	gnutls_session_set_verify_function(tls->session, verify);
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_vec_push_function(tls->session, push);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
	gnutls_handshake_set_timeout(tls->session, GNUTLS_INDEFINITE_TIMEOUT);
	if (gnutls_priority_set(tls->session, priorities) < 0 ||
		gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, credentials) < 0 ||
		name_server(tls) < 0) {
		return -ENOMEM;
	}
	offer_ticket(tls);
	return 0;
}

int tls_new(struct tls_trust *trust, struct wire *wire, const char *host, uint16_t port,
	struct tls **ret_tls, struct failure *failure)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	if (!tls) {
		return -ENOMEM;
	}
	tls->trust = tls_trust_ref(trust);
	tls->wire = wire;
	tls->host = host;
	tls->port = port;
	tls->id = ++last_id;
	gnutls_certificate_credentials_t credentials;
	int error = tls_trust_credentials(trust, &credentials, failure);
	if (error == 0) {
		error = init_session(tls, credentials);
	}
	if (error < 0) {
		tls_free(tls);
		return error;
	}
	*ret_tls = tls;
	return 0;
}

struct tls *tls_free(struct tls *tls)
{
	if (!tls) {
		return NULL;
	}
	if (tls->session) {
		gnutls_deinit(tls->session);
	}
	tls_trust_unref(tls->trust);
	free(tls);
	return NULL;
}

static int check(struct tls *tls)
{
	int error = tls_trust_load(tls->trust, &tls->mark, tls->failure);
	if (error == 0) {
		error = tls_certificate_check(
			tls->session, tls->host, tls_trust_fingerprint(tls->trust), tls->failure);
	}
	tls->is_verified = error == 0;
	return error == 0 ? 0
			  : (error == -ENOMEM ? GNUTLS_E_MEMORY_ERROR : GNUTLS_E_CERTIFICATE_ERROR);
}

/* Called by GnuTLS in a full handshake, before anything of ours but the hello is sent, our
 * certificate included. */
static int verify(gnutls_session_t session)
{
	struct tls *tls = gnutls_session_get_ptr(session);
	int r = check(tls);
	if (r == 0) {
		time_t now = time(NULL);
		/* One that is trusted whatever its dates has no end. */
		time_t end = tls_trust_fingerprint(tls->trust) ? INT64_MAX
							       : tls_certificate_end(session);
		tls->life = (struct ticket_life){
			.first = now,
			.last = end < now + LIFE_SEC ? end : now + LIFE_SEC,
		};
	}
	return r;
}

/* See above for what is not looked at. The fingerprint is cheap. */
static int verify_resumed(struct tls *tls)
{
	bool is_vouched_for = tls_is_resumed(tls) && tls->mark.is_known &&
		!tls_trust_fingerprint(tls->trust) && ticket_is_alive(&tls->life, time(NULL));
	tls->is_verified = is_vouched_for;
	return is_vouched_for ? 0 : check(tls);
}

/* RFC 8996: as little to be trusted as somebody else's certificate. */
static void tell_too_old(struct failure *failure)
{
	failure_set(failure, FAILURE_CERTIFICATE_INVALID,
		"the server speaks no version of TLS later than 1.1, which are not secure");
}

static void tell(const struct tls *tls, int r, struct failure *failure)
{
	if (failure_is_set(failure)) {
		return;
	}
	if (r == GNUTLS_E_UNEXPECTED_PACKET_LENGTH && tls->has_ended) {
		/* That is what GnuTLS calls a record that was begun and never finished. */
		wire_tell(tls->wire, failure);
		return;
	}
	switch (r) {
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PREMATURE_TERMINATION:
		wire_tell(tls->wire, failure);
		break;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		if (gnutls_alert_get(tls->session) == GNUTLS_A_PROTOCOL_VERSION) {
			tell_too_old(failure);
			break;
		}
		failure_set(failure, FAILURE_PROTOCOL_ERROR, "the server refused TLS: %s",
			gnutls_alert_get_name(gnutls_alert_get(tls->session)));
		break;
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
		if (gnutls_handshake_get_last_in(tls->session) == GNUTLS_HANDSHAKE_SERVER_HELLO) {
			tell_too_old(failure);
			break;
		}
		/* fall through */
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNEXPECTED_PACKET:
		failure_set(failure, FAILURE_PROTOCOL_ERROR,
			"what the server says is no TLS, or none later than 1.1: %s",
			gnutls_strerror(r));
		break;
	default:
		failure_set(failure, FAILURE_PROTOCOL_ERROR, "TLS failed: %s", gnutls_strerror(r));
		break;
	}
}

int tls_handshake(struct tls *tls, struct failure *failure)
{
	tls->failure = failure;
	int r;
	unsigned int n = 0;
	do {
		r = gnutls_handshake(tls->session);
		n++;
	} while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r) &&
		n < N_IDLE_RECORDS_MAX);
	if (r == GNUTLS_E_AGAIN) {
		tls->failure = NULL;
		return -EAGAIN;
	}
	if (r == 0 && !tls->is_verified) {
		r = verify_resumed(tls);
	}
	tls->failure = NULL;
	if (r < 0) {
		(void)gnutls_alert_send_appropriate(tls->session, r);
		tell(tls, r, failure);
	}
	tls_trust_rest(tls->trust);
	return r < 0 ? -EPROTO : 0;
}

ssize_t tls_read(struct tls *tls, void *buffer, size_t size, struct failure *failure)
{
	ssize_t r = GNUTLS_E_AGAIN;
	for (unsigned int n = 0; n < N_IDLE_RECORDS_MAX; n++) {
		r = gnutls_record_recv(tls->session, buffer, size);
		if (r == 0) {
			wire_tell(tls->wire, failure);
			return -ENOTCONN;
		}
		if (r > 0) {
			if (!tls->has_kept_ticket) {
				/* Servers send their tickets before they say anything. */
				tls->has_kept_ticket = true;
				keep_ticket(tls);
			}
			return r;
		}
		if (gnutls_error_is_fatal((int)r)) {
			tell(tls, (int)r, failure);
			return -ENOTCONN;
		}
		if (r == GNUTLS_E_AGAIN && gnutls_record_check_pending(tls->session) == 0) {
			return 0;
		}
		/* A request to renegotiate is ignored, as RFC 5246 section 7.4.1.1 allows. */
	}
	failure_set(failure, FAILURE_PROTOCOL_ERROR,
		"the server sends TLS records without data: %s", gnutls_strerror((int)r));
	return -ENOTCONN;
}

ssize_t tls_write(struct tls *tls, struct span span, struct failure *failure)
{
	size_t n = 0;
	while (n < span.len && !wire_is_writing(tls->wire) && tls->wire->error == 0) {
		ssize_t r = gnutls_record_send(tls->session, span.data + n, span.len - n);
		if (r > 0) {
			n += (size_t)r;
		} else if (tls->wire->error != 0) {
			/* What there is to read tells more. */
			break;
		} else if (r != GNUTLS_E_INTERRUPTED && r != GNUTLS_E_AGAIN) {
			tell(tls, (int)r, failure);
			return -ENOTCONN;
		}
	}
	return (ssize_t)n;
}

void tls_bye(struct tls *tls)
{
	keep_ticket(tls);
	(void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

const char *tls_version(const struct tls *tls)
{
	const char *name = gnutls_protocol_get_name(gnutls_protocol_get_version(tls->session));
	return name ? name : "";
}

bool tls_is_resumed(const struct tls *tls)
{
	return gnutls_session_is_resumed(tls->session) != 0;
}

static size_t binding_of(
	const struct tls *tls, gnutls_channel_binding_t type, uint8_t *buffer, size_t size)
{
	gnutls_datum_t binding = {0};
	size_t len = 0;
	if (gnutls_session_channel_binding(tls->session, type, &binding) == 0) {
		if (binding.size <= size) {
			memcpy(buffer, binding.data, binding.size);
			len = binding.size;
		}
		gnutls_free(binding.data);
	}
	return len;
}

size_t tls_unique(const struct tls *tls, uint8_t *buffer, size_t size)
{
	if (gnutls_protocol_get_version(tls->session) != GNUTLS_TLS1_2 ||
		gnutls_session_ext_master_secret_status(tls->session) == 0) {
		return 0;
	}
	return binding_of(tls, GNUTLS_CB_TLS_UNIQUE, buffer, size);
}

size_t tls_exporter(const struct tls *tls, uint8_t *buffer, size_t size)
{
	return binding_of(tls, GNUTLS_CB_TLS_EXPORTER, buffer, size);
}
