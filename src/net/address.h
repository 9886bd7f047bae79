/* A socket address of the Internet, and what is asked about one.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Room for "[address%scope]:port" with its final NUL. */
#define ADDRESS_TEXT_SIZE 96

/* Takes AF_INET and AF_INET6 of the right length; false for anything else. */
bool address_set(union address *address, const struct sockaddr *source, socklen_t len);

socklen_t address_len(const union address *address);

/* 127.0.0.0/8 and ::1; also the first when it is written as an IPv6 address (::ffff:127.0.0.1). */
bool address_is_loopback(const union address *address);

/* "192.0.2.1:993", "[2001:db8::1%eth0]:993". */
void address_print(const union address *address, char text[static ADDRESS_TEXT_SIZE]);

/* Whether a host as configured is this machine by its mere name: "localhost" (RFC 6761 section 6.3)
 * or the literal of a loopback address. */
bool address_is_local_name(const char *host);

/* Orders for dialing, RFC 8305 section 4: the families take turns, the first address stays first,
 * and within a family the order (that of RFC 6724, from the resolver) stays. */
void address_interleave(union address *addresses, size_t n_addresses);

/* Keeps loopback addresses only. How many are left. */
size_t address_keep_loopback(union address *addresses, size_t n_addresses);

/* Whether the text is an address literal, an IPv6 one perhaps with "%scope". ret_octets (16 octets,
 * or NULL) gets the address as in a certificate, ret_len 4 or 16. */
bool address_is_literal(const char *text, unsigned char *ret_octets, size_t *ret_len);
