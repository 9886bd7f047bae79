#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "moment.h"
#include "wire.h"

/* Below this a wire that was full can take more. */
#define BACKLOG_LOW (64 * 1024)

/* Octets on their way. */
struct parcel {
	struct list node;
	struct wire *wire;
	uint64_t due;
	size_t len; /* 0: the end */
	uint8_t data[];
};

void network_init(struct network *network, int poll, uint64_t round_trip_nsec, const char *chain,
	const char *key)
{
	*network = (struct network){.poll = poll, .half_nsec = round_trip_nsec / 2};
	list_init(&network->connecting);
	list_init(&network->inward);
	list_init(&network->outward);
	list_init(&network->ready);
	if (gnutls_certificate_allocate_credentials(&network->credentials) < 0 ||
		gnutls_certificate_set_x509_key_file2(
			network->credentials, chain, key, GNUTLS_X509_FMT_PEM, NULL, 0) < 0 ||
		gnutls_priority_init2(&network->priorities, "NORMAL", NULL, 0) < 0 ||
		gnutls_session_ticket_key_generate(&network->ticket_key) < 0) {
		errno = EINVAL;
		fail("certificate and key");
	}
}

static void make_ready(struct wire *wire)
{
	if (list_is_empty(&wire->ready)) {
		list_append(&wire->network->ready, &wire->ready);
	}
}

struct wire *network_next_ready(struct network *network)
{
	if (list_is_empty(&network->ready)) {
		return NULL;
	}
	struct wire *wire = list_entry(network->ready.next, struct wire, ready);
	list_remove(&wire->ready);
	return wire;
}

/* Parcels */

static void put_parcel(struct list *way, struct wire *wire, const void *data, size_t len)
{
	struct parcel *parcel = malloc(sizeof(*parcel) + len);
	if (!parcel) {
		fail("memory");
	}
	*parcel = (struct parcel){
		.wire = wire, .due = now_nsec() + wire->network->half_nsec, .len = len};
	if (len > 0) {
		memcpy(parcel->data, data, len);
	}
	list_append(way, &parcel->node);
}

static void free_parcel(struct parcel *parcel)
{
	list_remove(&parcel->node);
	free(parcel);
}

static void drop_parcels(struct list *way, const struct wire *wire)
{
	LIST_FOR_EACH_SAFE (node, way) {
		struct parcel *parcel = list_entry(node, struct parcel, node);
		if (parcel->wire == wire) {
			free_parcel(parcel);
		}
	}
}

/* The socket */

static void set_interest(struct wire *wire)
{
	uint32_t wanted = EPOLLIN | (bytes_len(&wire->out) > 0 ? EPOLLOUT : 0);
	if (wanted == wire->interest || wire->is_deaf) {
		return;
	}
	struct epoll_event event = {.events = wanted, .data.ptr = wire};
	int op = wire->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(wire->network->poll, op, wire->fd, &event) < 0) {
		fail("epoll");
	}
	wire->interest = wanted;
}

static void flush(struct wire *wire)
{
	size_t before = wire_backlog(wire);
	while (bytes_len(&wire->out) > 0) {
		struct span span = bytes_span(&wire->out);
		ssize_t n = send(wire->fd, span.data, span.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR) {
				bytes_clear(&wire->out);
				wire->has_ended = true;
			}
			break;
		}
		bytes_consume(&wire->out, (size_t)n);
	}
	if (wire->has_ended || (before >= BACKLOG_LOW && wire_backlog(wire) < BACKLOG_LOW)) {
		make_ready(wire);
	}
	set_interest(wire);
}

static void arrive(struct wire *wire, const void *data, size_t len)
{
	bytes_put(&wire->in, data, len);
	wire->has_ended = wire->has_ended || len == 0;
	make_ready(wire);
}

void wire_on_socket(struct wire *wire, uint32_t events)
{
	if (events & EPOLLOUT) {
		flush(wire);
	}
	while (!wire->has_ended && events & ~(uint32_t)EPOLLOUT) {
		uint8_t buffer[16 * 1024];
		ssize_t n = recv(wire->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			break;
		}
		size_t len = n > 0 ? (size_t)n : 0;
		if (wire->network->half_nsec > 0) {
			put_parcel(&wire->network->inward, wire, buffer, len);
		} else {
			arrive(wire, buffer, len);
		}
		if (len == 0) {
			wire->is_deaf = true;
			epoll_ctl(wire->network->poll, EPOLL_CTL_DEL, wire->fd, NULL);
			return;
		}
		if (len < sizeof(buffer)) {
			break;
		}
	}
}

void network_release(struct network *network, uint64_t now)
{
	LIST_FOR_EACH_SAFE (node, &network->connecting) {
		struct wire *wire = list_entry(node, struct wire, waiting);
		if (wire->due > now) {
			break;
		}
		list_remove(&wire->waiting);
		set_interest(wire);
	}
	LIST_FOR_EACH_SAFE (node, &network->inward) {
		struct parcel *parcel = list_entry(node, struct parcel, node);
		if (parcel->due > now) {
			break;
		}
		arrive(parcel->wire, parcel->data, parcel->len);
		free_parcel(parcel);
	}
	while (!list_is_empty(&network->outward)) {
		struct parcel *parcel = list_entry(network->outward.next, struct parcel, node);
		if (parcel->due > now) {
			break;
		}
		struct wire *wire = parcel->wire;
		bytes_put(&wire->out, parcel->data, parcel->len);
		wire->n_outward -= parcel->len;
		free_parcel(parcel);
		flush(wire);
	}
}

uint64_t network_due(const struct network *network)
{
	uint64_t due = NSEC_NEVER;
	if (!list_is_empty(&network->connecting)) {
		due = list_entry(network->connecting.next, struct wire, waiting)->due;
	}
	const struct list *const ways[] = {&network->inward, &network->outward};
	for (size_t i = 0; i < 2; i++) {
		if (!list_is_empty(ways[i])) {
			uint64_t next = list_entry(ways[i]->next, struct parcel, node)->due;
			due = next < due ? next : due;
		}
	}
	return due;
}

/* TLS */

static ssize_t push(gnutls_transport_ptr_t transport, const void *data, size_t len)
{
	struct wire *wire = transport;
	if (wire->network->half_nsec > 0) {
		put_parcel(&wire->network->outward, wire, data, len);
		wire->n_outward += len;
	} else {
		bytes_put(&wire->out, data, len);
	}
	return (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t transport, void *buffer, size_t size)
{
	struct wire *wire = transport;
	struct span span = bytes_span(&wire->in);
	if (span.len == 0) {
		gnutls_transport_set_errno(wire->session, EAGAIN);
		return wire->has_ended ? 0 : -1;
	}
	size_t n = span.len < size ? span.len : size;
	memcpy(buffer, span.data, n);
	bytes_consume(&wire->in, n);
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t transport, unsigned int msec)
{
	const struct wire *wire = transport;
	(void)msec;
	return bytes_len(&wire->in) > 0;
}

void wire_init(struct wire *wire, struct network *network, int fd)
{
	int one = 1;
	*wire = (struct wire){.network = network, .fd = fd};
	list_init(&wire->waiting);
	list_init(&wire->ready);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	unsigned int flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;
	if (gnutls_init(&wire->session, flags) < 0 ||
		gnutls_priority_set(wire->session, network->priorities) < 0 ||
		gnutls_credentials_set(
			wire->session, GNUTLS_CRD_CERTIFICATE, network->credentials) < 0 ||
		gnutls_session_ticket_enable_server(wire->session, &network->ticket_key) < 0) {
		errno = ENOMEM;
		fail("TLS");
	}
	gnutls_transport_set_ptr(wire->session, wire);
	gnutls_transport_set_push_function(wire->session, push);
	gnutls_transport_set_pull_function(wire->session, pull);
	gnutls_transport_set_pull_timeout_function(wire->session, pull_timeout);
	gnutls_handshake_set_timeout(wire->session, GNUTLS_INDEFINITE_TIMEOUT);
	if (network->half_nsec > 0) {
		wire->due = now_nsec() + 2 * network->half_nsec;
		list_append(&network->connecting, &wire->waiting);
	} else {
		set_interest(wire);
	}
}

void wire_done(struct wire *wire)
{
	drop_parcels(&wire->network->inward, wire);
	drop_parcels(&wire->network->outward, wire);
	list_remove(&wire->waiting);
	list_remove(&wire->ready);
	gnutls_deinit(wire->session);
	close(wire->fd);
	bytes_done(&wire->in);
	bytes_done(&wire->out);
}

bool wire_receive(struct wire *wire, struct bytes *buffer)
{
	if (!wire->is_open) {
		int r = gnutls_handshake(wire->session);
		flush(wire);
		if (r < 0) {
			return !gnutls_error_is_fatal(r) && !wire->has_ended;
		}
		wire->is_open = true;
	}
	for (;;) {
		void *place = bytes_reserve(buffer, 16 * 1024);
		ssize_t n = place ? gnutls_record_recv(wire->session, place, 16 * 1024) : 0;
		if (n > 0) {
			bytes_commit(buffer, (size_t)n);
		} else if (n == GNUTLS_E_AGAIN) {
			/* Tickets and alerts leave by themselves. */
			flush(wire);
			return !wire->has_ended;
		} else if (n == 0 || gnutls_error_is_fatal((int)n)) {
			return false;
		}
	}
}

void wire_send(struct wire *wire, struct span span)
{
	while (span.len > 0) {
		ssize_t n = gnutls_record_send(wire->session, span.data, span.len);
		if (n < 0 && gnutls_error_is_fatal((int)n)) {
			wire->has_ended = true;
			make_ready(wire);
			return;
		}
		if (n > 0) {
			span.data += n;
			span.len -= (size_t)n;
		}
	}
	flush(wire);
}

size_t wire_backlog(const struct wire *wire)
{
	return bytes_len(&wire->out) + wire->n_outward;
}
