#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "net/address.h"

bool address_set(union address *address, const struct sockaddr *source, socklen_t len)
{
	if (source->sa_family == AF_INET && len >= sizeof(address->in)) {
		memcpy(&address->in, source, sizeof(address->in));
		return true;
	}
	if (source->sa_family == AF_INET6 && len >= sizeof(address->in6)) {
		memcpy(&address->in6, source, sizeof(address->in6));
		return true;
	}
	return false;
}

socklen_t address_len(const union address *address)
{
	return address->any.sa_family == AF_INET ? sizeof(address->in) : sizeof(address->in6);
}

bool address_is_loopback(const union address *address)
{
	if (address->any.sa_family == AF_INET) {
		return ntohl(address->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	const struct in6_addr *in6 = &address->in6.sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(in6) ||
		(IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
}

void address_print(const union address *address, char text[static ADDRESS_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "?";
	if (address->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(address->in.sin_port));
		return;
	}
	inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host));
	char scope[IF_NAMESIZE] = "";
	if (address->in6.sin6_scope_id != 0 &&
		if_indextoname(address->in6.sin6_scope_id, scope) == NULL) {
		/* The interface has gone: its number is still a scope. */
		snprintf(scope, sizeof(scope), "%u", address->in6.sin6_scope_id);
	}
	snprintf(text, ADDRESS_TEXT_SIZE, "[%s%s%s]:%u", host, scope[0] != '\0' ? "%" : "", scope,
		ntohs(address->in6.sin6_port));
}

void address_interleave(union address *addresses, size_t n_addresses)
{
	for (size_t i = 1; i < n_addresses; i++) {
		sa_family_t last = addresses[i - 1].any.sa_family;
		size_t other = i;
		while (other < n_addresses && addresses[other].any.sa_family == last) {
			other++;
		}
		if (other == n_addresses) {
			return;
		}
		union address next = addresses[other];
		memmove(&addresses[i + 1], &addresses[i], (other - i) * sizeof(addresses[0]));
		addresses[i] = next;
	}
}

size_t address_keep_loopback(union address *addresses, size_t n_addresses)
{
	size_t n_kept = 0;
	for (size_t i = 0; i < n_addresses; i++) {
		if (address_is_loopback(&addresses[i])) {
			addresses[n_kept++] = addresses[i];
		}
	}
	return n_kept;
}

bool address_is_literal(const char *text, unsigned char *ret_octets, size_t *ret_len)
{
	unsigned char octets[sizeof(struct in6_addr)];
	size_t len = 0;
	char host[INET6_ADDRSTRLEN];
	size_t host_len = strcspn(text, "%");
	if (inet_pton(AF_INET, text, octets) == 1) {
		len = sizeof(struct in_addr);
	} else if (host_len < sizeof(host)) {
		memcpy(host, text, host_len);
		host[host_len] = '\0';
		if (inet_pton(AF_INET6, host, octets) == 1) {
			len = sizeof(struct in6_addr);
		}
	}
	if (len > 0 && ret_octets != NULL) {
		memcpy(ret_octets, octets, len);
		*ret_len = len;
	}
	return len > 0;
}

bool address_is_local_name(const char *host)
{
	unsigned char octets[16];
	size_t len = 0;
	if (!address_is_literal(host, octets, &len)) {
		return strcasecmp(host, "localhost") == 0 || strcasecmp(host, "localhost.") == 0;
	}
	union address address = {0};
	if (len == sizeof(address.in.sin_addr)) {
		address.in.sin_family = AF_INET;
		memcpy(&address.in.sin_addr, octets, len);
	} else {
		address.in6.sin6_family = AF_INET6;
		memcpy(&address.in6.sin6_addr, octets, len);
	}
	return address_is_loopback(&address);
}
