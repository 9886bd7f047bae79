#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/ticket.h"
#include "net/tls.h"
#include "net/tls_certificate.h"
#include "util/list.h"

/* No SHA-1 signatures; the profile asks for 112 bits, RSA and DH of 2048, in the chain, too.
 * Renegotiation is refused, but a server has to be safe from its being spliced in (RFC 5746). */
#define PRIORITIES \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1" \
	":%SAFE_RENEGOTIATION:%PROFILE_MEDIUM"

/* Records without data that a peer may send in a row (warnings, requests to renegotiate, tickets),
 * before it is thought to play with us. */
#define N_IDLE_RECORDS_MAX 32

struct tls_trust {
	struct list node;
	unsigned int n_references;
	unsigned int n_handshakes; /* while some are under way, the authorities are loaded */
	char *ca_file;
	char *fingerprint;
	char *client_certificate;
	char *client_key;
	gnutls_certificate_credentials_t credentials; /* NULL before the first handshake */
};

struct tls {
	struct tls_trust *trust;
	struct wire *wire; /* borrowed */
	const char *host;  /* borrowed */
	uint16_t port;
	bool is_shaking; /* counted in the trust's handshakes */
	bool is_verified;
	bool has_kept_ticket;
	bool has_ended; /* the server says nothing more */
	uint64_t id;    /* of the session, among all */
	gnutls_session_t session;
	struct failure *failure; /* borrowed, while a handshake goes on */
};

static struct {
	struct list trusts;
	gnutls_priority_t priorities; /* while there are trusts */
	uint64_t last_id;
} shared = {
	.trusts = {.next = &shared.trusts, .prev = &shared.trusts},
};

/* Trust */

static bool is_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool copy_string(const char *source, char **ret_copy)
{
	*ret_copy = source ? strdup(source) : NULL;
	return !source || *ret_copy;
}

struct tls_trust *tls_trust_unref(struct tls_trust *trust)
{
	if (!trust || --trust->n_references > 0) {
		return NULL;
	}
	list_remove(&trust->node);
	if (trust->credentials) {
		gnutls_certificate_free_credentials(trust->credentials);
	}
	free(trust->ca_file);
	free(trust->fingerprint);
	free(trust->client_certificate);
	free(trust->client_key);
	free(trust);
	if (list_is_empty(&shared.trusts) && shared.priorities) {
		gnutls_priority_deinit(shared.priorities);
		shared.priorities = NULL;
	}
	return NULL;
}

int tls_trust_get(const struct stream_trust *wanted, struct tls_trust **ret_trust)
{
	LIST_FOR_EACH (node, &shared.trusts) {
		struct tls_trust *trust = list_entry(node, struct tls_trust, node);
		if (is_same(trust->ca_file, wanted->ca_file) &&
			is_same(trust->fingerprint, wanted->fingerprint) &&
			is_same(trust->client_certificate, wanted->client_certificate) &&
			is_same(trust->client_key, wanted->client_key)) {
			trust->n_references++;
			*ret_trust = trust;
			return 0;
		}
	}
	struct tls_trust *trust = calloc(1, sizeof(*trust));
	if (!trust) {
		return -ENOMEM;
	}
	trust->n_references = 1;
	list_append(&shared.trusts, &trust->node);
	if (!copy_string(wanted->ca_file, &trust->ca_file) ||
		!copy_string(wanted->fingerprint, &trust->fingerprint) ||
		!copy_string(wanted->client_certificate, &trust->client_certificate) ||
		!copy_string(wanted->client_key, &trust->client_key)) {
		tls_trust_unref(trust);
		return -ENOMEM;
	}
	*ret_trust = trust;
	return 0;
}

/* GnuTLS has no words for a file that is not there. */
static int fail_file(struct failure *failure, const char *option, const char *path, int r)
{
	const char *reason = gnutls_strerror(r);
	if (!strstr(path, "pkcs11:")) {
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0) {
			reason = strerror(errno);
		} else {
			close(fd);
		}
	}
	failure_set(failure, FAILURE_CONFIG_INVALID, "%s %.120s cannot be used: %s", option, path,
		reason);
	return -EINVAL;
}

static int verify(gnutls_session_t session);

static int make_credentials(struct tls_trust *trust, struct failure *failure)
{
	if (gnutls_certificate_allocate_credentials(&trust->credentials) < 0) {
		trust->credentials = NULL;
		return -ENOMEM;
	}
	gnutls_certificate_set_verify_function(trust->credentials, verify);
	if (trust->client_certificate) {
		const char *key = trust->client_key ? trust->client_key : trust->client_certificate;
		int r = gnutls_certificate_set_x509_key_file2(trust->credentials,
			trust->client_certificate, key, GNUTLS_X509_FMT_PEM, NULL, 0);
		if (r < 0) {
			/* The next attempt reads the files again. */
			gnutls_certificate_free_credentials(trust->credentials);
			trust->credentials = NULL;
			bool is_key =
				trust->client_key && access(trust->client_certificate, R_OK) == 0;
			return is_key ? fail_file(failure, "client-key", key, r)
				      : fail_file(failure, "client-certificate",
						trust->client_certificate, r);
		}
	}
	return 0;
}

static int load_authorities(struct tls_trust *trust, struct failure *failure)
{
	if (trust->fingerprint) {
		return 0;
	}
	if (!trust->ca_file) {
		/* None at all is no mistake of the file: then no certificate is good. */
		(void)gnutls_certificate_set_x509_system_trust(trust->credentials);
		return 0;
	}
	int r = gnutls_certificate_set_x509_trust_file(
		trust->credentials, trust->ca_file, GNUTLS_X509_FMT_PEM);
	return r > 0 ? 0
		     : fail_file(failure, "ca-file", trust->ca_file,
			       r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND);
}

/* The authorities of a system take some megabytes. */
static void unload_authorities(struct tls_trust *trust)
{
	if (trust->fingerprint) {
		return;
	}
	gnutls_x509_trust_list_t none;
	if (gnutls_x509_trust_list_init(&none, 0) == 0) {
		/* Frees the list that was there. */
		gnutls_certificate_set_trust_list(trust->credentials, none, 0);
#ifdef __GLIBC__
		malloc_trim(0);
#endif
	}
}

static void end_handshake(struct tls *tls)
{
	if (tls->is_shaking) {
		tls->is_shaking = false;
		if (--tls->trust->n_handshakes == 0) {
			unload_authorities(tls->trust);
		}
	}
}

static int begin_handshake(struct tls *tls, struct failure *failure)
{
	struct tls_trust *trust = tls->trust;
	int error = 0;
	if (!trust->credentials) {
		error = make_credentials(trust, failure);
	}
	if (error == 0 && trust->n_handshakes == 0) {
		error = load_authorities(trust, failure);
	}
	if (error == 0) {
		trust->n_handshakes++;
		tls->is_shaking = true;
	}
	return error;
}

/* Tickets */

/* All that the server's identity and our trust in it depend on. NULL when out of memory. */
static char *ticket_key(const struct tls *tls)
{
	const struct tls_trust *trust = tls->trust;
	struct bytes key;
	bytes_init(&key);
	bytes_printf(&key, "%s\n%u", tls->host, tls->port);
	const char *parts[] = {
		trust->ca_file,
		trust->fingerprint,
		trust->client_certificate,
		trust->client_key,
	};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		bytes_put_str(&key, parts[i] ? "\n" : "\n-");
		bytes_put_str(&key, parts[i] ? parts[i] : "");
	}
	char *result = bytes_steal(&key);
	bytes_done(&key);
	return result;
}

static void offer_ticket(struct tls *tls)
{
	char *key = ticket_key(tls);
	if (!key) {
		return;
	}
	struct bytes ticket;
	bytes_init(&ticket);
	ticket_take(key, &ticket);
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
		ticket_put(key, tls->id, (struct span){.data = ticket.data, .len = ticket.size});
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

static int init_session(struct tls *tls)
{
	if (!shared.priorities &&
		gnutls_priority_init2(&shared.priorities, PRIORITIES, NULL, 0) < 0) {
		shared.priorities = NULL;
		return -ENOMEM;
	}
	/* The one certificate that was configured is meant, whatever issuers a server lists. */
	if (gnutls_init(&tls->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT) <
		0) {
		tls->session = NULL;
		return -ENOMEM;
	}
	gnutls_session_set_ptr(tls->session, tls);
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_vec_push_function(tls->session, push);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
	gnutls_handshake_set_timeout(tls->session, GNUTLS_INDEFINITE_TIMEOUT);
	if (gnutls_priority_set(tls->session, shared.priorities) < 0 ||
		gnutls_credentials_set(
			tls->session, GNUTLS_CRD_CERTIFICATE, tls->trust->credentials) < 0 ||
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
	trust->n_references++;
	tls->trust = trust;
	tls->wire = wire;
	tls->host = host;
	tls->port = port;
	tls->id = ++shared.last_id;
	int error = begin_handshake(tls, failure);
	if (error == 0) {
		error = init_session(tls);
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
	end_handshake(tls);
	if (tls->session) {
		gnutls_deinit(tls->session);
	}
	tls_trust_unref(tls->trust);
	free(tls);
	return NULL;
}

/* Called by GnuTLS before anything of ours but the hello is sent, our certificate included. */
static int verify(gnutls_session_t session)
{
	struct tls *tls = gnutls_session_get_ptr(session);
	int error =
		tls_certificate_check(session, tls->host, tls->trust->fingerprint, tls->failure);
	if (error == -ENOMEM) {
		return GNUTLS_E_MEMORY_ERROR;
	}
	tls->is_verified = error == 0;
	return error < 0 ? GNUTLS_E_CERTIFICATE_ERROR : 0;
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
		failure_set(failure, FAILURE_PROTOCOL_ERROR, "the server refused TLS: %s",
			gnutls_alert_get_name(gnutls_alert_get(tls->session)));
		break;
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
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
		/* Resumed: what was good then may have expired, or the trust may have changed. */
		r = verify(tls->session);
	}
	tls->failure = NULL;
	if (r < 0) {
		(void)gnutls_alert_send_appropriate(tls->session, r);
		tell(tls, r, failure);
	}
	end_handshake(tls);
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
