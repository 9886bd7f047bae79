/* For tests: a server on the loopback interface, in a thread, that says what the test tells it to,
 * plain or with GnuTLS.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "turning.h"
#include "util/clock.h"

struct server;

/* One connection, seen from the server. */
struct peer {
	struct server *server;
	int fd;
	gnutls_session_t session; /* NULL: plain */
};

struct server {
	/* What the test sets; paths are below the folder of certificates. */
	void (*serve)(struct peer *peer);
	const char *chain; /* NULL: no TLS */
	const char *key;
	const char *client_ca; /* clients must have a certificate */
	const char *priorities;
	bool tls_at_once;
	int family; /* 0: AF_INET */

	int listener;
	uint16_t port;
	pthread_t thread;
	gnutls_certificate_credentials_t credentials;
	gnutls_datum_t ticket_key;

	/* What the thread notes, for after server_stop(). */
	unsigned int n_handshakes;
	int n_octets;
	int result;
	char text[256];
	uint8_t binding[64];
	unsigned int binding_len;
};

static const char *peer_certificates = ".";

static inline const char *peer_path(const char *name, char path[static 512])
{
	snprintf(path, 512, "%s/%s", peer_certificates, name);
	return path;
}

/* Whether TLS is up. */
static inline bool peer_start_tls(struct peer *peer)
{
	struct server *server = peer->server;
	gnutls_init(&peer->session, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
	gnutls_priority_set_direct(
		peer->session, server->priorities ? server->priorities : "NORMAL", NULL);
	gnutls_credentials_set(peer->session, GNUTLS_CRD_CERTIFICATE, server->credentials);
	gnutls_session_ticket_enable_server(peer->session, &server->ticket_key);
	/* As long as RFC 8446 section 4.6.1 allows: when tickets go is the client's business. */
	gnutls_db_set_cache_expiration(peer->session, 7 * 24 * 60 * 60);
	if (server->client_ca) {
		gnutls_certificate_server_set_request(peer->session, GNUTLS_CERT_REQUIRE);
	}
	gnutls_transport_set_int(peer->session, peer->fd);
	int r;
	do {
		r = gnutls_handshake(peer->session);
	} while (r < 0 && !gnutls_error_is_fatal(r));
	server->result = r;
	server->n_handshakes += r == 0;
	return r == 0;
}

static inline ssize_t peer_recv(struct peer *peer, void *buffer, size_t size)
{
	ssize_t n;
	do {
		n = peer->session ? gnutls_record_recv(peer->session, buffer, size)
				  : recv(peer->fd, buffer, size, 0);
	} while (n == GNUTLS_E_INTERRUPTED || (peer->session && n == GNUTLS_E_AGAIN));
	return n;
}

static inline bool peer_send(struct peer *peer, const void *data, size_t len)
{
	const char *from = data;
	while (len > 0) {
		ssize_t n = peer->session ? gnutls_record_send(peer->session, from, len)
					  : send(peer->fd, from, len, MSG_NOSIGNAL);
		if (n == GNUTLS_E_INTERRUPTED) {
			continue;
		}
		if (n <= 0) {
			return false;
		}
		from += n;
		len -= (size_t)n;
	}
	return true;
}

static inline bool peer_say(struct peer *peer, const char *text)
{
	return peer_send(peer, text, strlen(text));
}

/* Whether a line came; it is in the server's text. */
static inline bool peer_hear(struct peer *peer)
{
	size_t len = 0;
	char *text = peer->server->text;
	do {
		if (len + 1 >= sizeof(peer->server->text) || peer_recv(peer, text + len, 1) != 1) {
			return false;
		}
		len++;
	} while (text[len - 1] != '\n');
	text[len] = '\0';
	return true;
}

/* Repeats line for line. */
static inline void peer_echo(struct peer *peer)
{
	while (peer_hear(peer) && peer_say(peer, peer->server->text)) {
	}
}

/* Until the client has gone. */
static inline void peer_linger(struct peer *peer)
{
	char octets[4096];
	while (recv(peer->fd, octets, sizeof(octets), 0) > 0) {
	}
}

static inline void *server_run(void *data)
{
	struct server *server = data;
	for (;;) {
		struct peer peer = {.server = server};
		peer.fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
		if (peer.fd < 0) {
			return NULL;
		}
		struct timeval patience = {.tv_sec = TURNING_PATIENCE_SEC};
		setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		if ((!server->tls_at_once || peer_start_tls(&peer)) && server->serve) {
			server->serve(&peer);
		}
		if (peer.session) {
			gnutls_deinit(peer.session);
		}
		close(peer.fd);
	}
}

/* A listening socket on a port that is free; -1 when the family is not there. */
static inline int server_listen(int family, int backlog, uint16_t *ret_port)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -1;
	}
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	uint16_t first = (uint16_t)(clock_random() % 3000);
	for (unsigned int i = 0; i < 3000; i++) {
		uint16_t port = (uint16_t)(22000 + (first + i) % 3000);
		union {
			struct sockaddr any;
			struct sockaddr_in in;
			struct sockaddr_in6 in6;
		} address = {0};
		socklen_t len = family == AF_INET ? sizeof(address.in) : sizeof(address.in6);
		address.any.sa_family = (sa_family_t)family;
		if (family == AF_INET) {
			address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
			address.in.sin_port = htons(port);
		} else {
			address.in6.sin6_addr = in6addr_loopback;
			address.in6.sin6_port = htons(port);
		}
		if (bind(fd, &address.any, len) == 0 && listen(fd, backlog) == 0) {
			*ret_port = port;
			return fd;
		}
	}
	close(fd);
	return -1;
}

static inline void server_start(struct server *server)
{
	int family = server->family ? server->family : AF_INET;
	server->listener = server_listen(family, 64, &server->port);
	assert_true(server->listener >= 0);
	if (server->chain) {
		char chain[512];
		char key[512];
		char client_ca[512];
		gnutls_certificate_allocate_credentials(&server->credentials);
		assert_int_equal(gnutls_certificate_set_x509_key_file(server->credentials,
					 peer_path(server->chain, chain),
					 peer_path(server->key, key), GNUTLS_X509_FMT_PEM),
			0);
		if (server->client_ca) {
			assert_true(gnutls_certificate_set_x509_trust_file(server->credentials,
					    peer_path(server->client_ca, client_ca),
					    GNUTLS_X509_FMT_PEM) > 0);
		}
		gnutls_session_ticket_key_generate(&server->ticket_key);
	}
	assert_int_equal(pthread_create(&server->thread, NULL, server_run, server), 0);
}

/* Waits for the connection that is being served. */
static inline void server_stop(struct server *server)
{
	shutdown(server->listener, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->listener);
	if (server->credentials) {
		gnutls_certificate_free_credentials(server->credentials);
		server->credentials = NULL;
		gnutls_free(server->ticket_key.data);
		server->ticket_key.data = NULL;
	}
}
