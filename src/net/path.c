#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/path.h"

const char *path_name(enum path path)
{
	switch (path) {
	case PATH_UNKNOWN:
		return "unknown";
	case PATH_SAME:
		return "same";
	case PATH_OTHER:
		return "other";
	case PATH_GONE:
		return "gone";
	}
	return "";
}

static bool is_same_host(const union address *a, const union address *b)
{
	if (a->any.sa_family != b->any.sa_family) {
		return false;
	}
	if (a->any.sa_family == AF_INET) {
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	}
	return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr) &&
		a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}

/* Of a datagram socket, so that nothing is sent. -1: cannot be asked now. */
static int open_socket(const union address *address)
{
	return socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool is_ours_still(const union address *ours)
{
	int fd = open_socket(ours);
	if (fd < 0) {
		return true;
	}
	union address any_port = *ours;
	if (ours->any.sa_family == AF_INET) {
		any_port.in.sin_port = 0;
	} else {
		any_port.in6.sin6_port = 0;
	}
	int result = bind(fd, &any_port.any, address_len(&any_port));
	bool is_gone = result < 0 && (errno == EADDRNOTAVAIL || errno == ENODEV);
	close(fd);
	return !is_gone;
}

/* connect(2) as the routing table has it: EINVAL is a route of type blackhole, EACCES prohibit. */
static bool is_no_way(int error)
{
	return error == ENETUNREACH || error == EHOSTUNREACH || error == ENETDOWN ||
		error == EADDRNOTAVAIL || error == ENODEV || error == EACCES || error == EINVAL;
}

enum path path_look(const union address *ours, const union address *peer)
{
	int fd = open_socket(peer);
	if (fd < 0) {
		return PATH_UNKNOWN;
	}
	enum path path = PATH_UNKNOWN;
	union address chosen = {0};
	socklen_t len = sizeof(chosen);
	if (connect(fd, &peer->any, address_len(peer)) < 0) {
		path = is_no_way(errno) ? PATH_GONE : PATH_UNKNOWN;
	} else if (getsockname(fd, &chosen.any, &len) == 0) {
		if (is_same_host(&chosen, ours)) {
			path = PATH_SAME;
		} else {
			path = is_ours_still(ours) ? PATH_OTHER : PATH_GONE;
		}
	}
	close(fd);
	return path;
}
