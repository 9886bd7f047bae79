/* A server's half of a TLS connection over a network with a round-trip time of its own.
 *
 * Octets are held for half of the round-trip time in each direction, below TLS, so that handshakes
 * take as long as they would. The kernel connects two sockets of one machine at once, where a
 * client would wait for a round trip: nothing is read from a new connection before that time is
 * over. What a client sends thus arrives as if its connect() had taken the round trip, and the time
 * since the connection was accepted is the time since the client called connect(). What is not
 * simulated: the end of a connection, which is seen at once when the server closes; the bandwidth;
 * the windows of TCP.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"
#include "util/list.h"

/* What connections have in common. */
struct network {
	int poll;           /* epoll; sockets are in it with their wire as data */
	uint64_t half_nsec; /* half of the round-trip time; 0: nothing is held */
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priorities;
	gnutls_datum_t ticket_key;
	struct list connecting; /* wires */
	struct list inward;     /* parcels, the next to arrive first */
	struct list outward;
	struct list ready; /* wires */
};

struct wire {
	struct network *network;
	int fd;
	uint32_t interest; /* what epoll tells of; 0: not in it yet */
	gnutls_session_t session;
	bool is_open;        /* the handshake is done */
	bool is_deaf;        /* the end has been read; it may still be on its way to us */
	bool has_ended;      /* nothing will come any more */
	uint64_t due;        /* while connecting */
	struct list waiting; /* in connecting */
	struct list ready;
	struct bytes in;  /* of TLS, arrived */
	struct bytes out; /* of TLS, to be sent */
	size_t n_outward; /* octets in parcels */
};

/* chain, key: PEM files. */
void network_init(struct network *network, int poll, uint64_t round_trip_nsec, const char *chain,
	const char *key);

/* Lets arrive what is due. */
void network_release(struct network *network, uint64_t now);

/* When network_release() is to be called next; NSEC_NEVER. */
uint64_t network_due(const struct network *network);

/* A wire that has something to receive, or that can take more; NULL when none is left. */
struct wire *network_next_ready(struct network *network);

/* For a socket that was accepted, which becomes the wire's. */
void wire_init(struct wire *wire, struct network *network, int fd);
void wire_done(struct wire *wire);

/* The socket is ready as epoll says. */
void wire_on_socket(struct wire *wire, uint32_t events);

/* Goes on with the handshake, then appends what has come to the buffer. False at the end. */
bool wire_receive(struct wire *wire, struct bytes *buffer);

void wire_send(struct wire *wire, struct span span);

/* Octets that are on their way out. */
size_t wire_backlog(const struct wire *wire);
