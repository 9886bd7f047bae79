#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/network.h"
#include "util/log.h"

/* What the kernel gives at a time in a dump is no more, and is one datagram. */
#define BUFFER_SIZE ((size_t)32 * 1024)

/* Datagrams in one turn. */
#define N_DATAGRAMS_HIGHEST 64

/* A machine with more routes than this is a router: what is beyond them is no news. Links and
 * addresses must be known all the same, or the network would be down for ever. */
#define N_ROUTES_HIGHEST 1024
#define N_FACTS_HIGHEST  (2 * N_ROUTES_HIGHEST)

/* In every network namespace. */
#define LOOPBACK_INDEX 1

enum fact_kind {
	FACT_LINK, /* one that is up, and no loopback */
	FACT_ADDRESS,
	FACT_ROUTE,
};

/* Compared as octets. */
struct fact_key {
	uint32_t kind; /* enum fact_kind */
	uint32_t index;
	uint32_t family;
	uint32_t prefix_len;
	uint32_t metric;
	uint8_t address[16]; /* or destination */
	uint8_t gateway[16];
};

struct fact {
	struct fact_key key;
	bool is_stale; /* the dump that is under way has not told it yet */
};

/* One request at a time, and in this order. */
enum dump {
	DUMP_NONE,
	DUMP_LINKS,
	DUMP_ADDRESSES,
	DUMP_ROUTES,
};

struct network {
	struct turn *turn;   /* borrowed */
	struct task *owner;  /* borrowed */
	struct ev_io socket; /* fd -1: the kernel tells nothing */
	uint32_t port;
	uint32_t sequence; /* of the request that is under way */
	enum dump dump;
	bool wants_dump; /* what is under way is incomplete */
	bool is_known;   /* all was told once */
	unsigned int news;
	struct fact *facts;
	size_t n_facts, n_facts_allocated;
	uint8_t buffer[BUFFER_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

/* -- what is known -- */

static struct fact *find(const struct network *network, const struct fact_key *key)
{
	for (size_t i = 0; i < network->n_facts; i++) {
		if (memcmp(&network->facts[i].key, key, sizeof(*key)) == 0) {
			return &network->facts[i];
		}
	}
	return NULL;
}

static bool has(const struct network *network, enum fact_kind kind, uint32_t index)
{
	for (size_t i = 0; i < network->n_facts; i++) {
		const struct fact_key *key = &network->facts[i].key;
		if (key->kind == kind && key->index == index) {
			return true;
		}
	}
	return false;
}

static void note(struct network *network, const struct fact_key *key, enum network_news news)
{
	/* A link without an address is nothing. */
	if (key->kind == FACT_LINK && !has(network, FACT_ADDRESS, key->index)) {
		return;
	}
	network->news |= news;
	task_wake(network->owner);
}

static bool make_room(struct network *network, enum fact_kind kind)
{
	if (kind == FACT_ROUTE && network->n_facts >= N_ROUTES_HIGHEST) {
		return false;
	}
	if (network->n_facts < network->n_facts_allocated) {
		return true;
	}
	size_t n = network->n_facts_allocated > 0 ? 2 * network->n_facts_allocated : 16;
	struct fact *facts =
		n <= N_FACTS_HIGHEST ? reallocarray(network->facts, n, sizeof(*facts)) : NULL;
	if (!facts) {
		return false;
	}
	network->facts = facts;
	network->n_facts_allocated = n;
	return true;
}

/* is_silent: at the beginning. */
static void learn(struct network *network, const struct fact_key *key, bool is_silent)
{
	struct fact *fact = find(network, key);
	if (fact) {
		fact->is_stale = false;
		return;
	}
	if (make_room(network, key->kind)) {
		network->facts[network->n_facts] = (struct fact){.key = *key};
		network->n_facts++;
		if (!is_silent) {
			note(network, key, NETWORK_NEWS_MORE);
		}
	}
}

static void forget_at(struct network *network, size_t i)
{
	struct fact_key key = network->facts[i].key;
	network->n_facts--;
	network->facts[i] = network->facts[network->n_facts];
	note(network, &key, NETWORK_NEWS_LESS);
}

static void forget(struct network *network, const struct fact_key *key)
{
	struct fact *fact = find(network, key);
	if (fact) {
		forget_at(network, (size_t)(fact - network->facts));
	}
}

/* What the route takes the place of goes without a word. */
static void forget_replaced(struct network *network, const struct fact_key *route)
{
	for (size_t i = network->n_facts; i > 0; i--) {
		const struct fact_key *key = &network->facts[i - 1].key;
		if (key->kind == FACT_ROUTE && key->family == route->family &&
			key->prefix_len == route->prefix_len && key->metric == route->metric &&
			memcmp(key->address, route->address, sizeof(key->address)) == 0 &&
			memcmp(key, route, sizeof(*key)) != 0) {
			forget_at(network, i - 1);
		}
	}
}

/* IPv4 routes go with their link without a word. */
static void forget_routes(struct network *network, uint32_t index)
{
	for (size_t i = network->n_facts; i > 0; i--) {
		const struct fact_key *key = &network->facts[i - 1].key;
		if (key->kind == FACT_ROUTE && key->index == index) {
			forget_at(network, i - 1);
		}
	}
}

static void forget_stale(struct network *network, enum fact_kind kind)
{
	for (size_t i = network->n_facts; i > 0; i--) {
		const struct fact *fact = &network->facts[i - 1];
		if (fact->key.kind == kind && fact->is_stale) {
			forget_at(network, i - 1);
		}
	}
}

/* -- messages: each is checked to be as long as what is read of it -- */

/* The attribute's octets when it has at least so many, else NULL. */
static const void *attribute(
	const struct nlmsghdr *header, size_t fixed_len, unsigned short type, size_t len_lowest)
{
	const uint8_t *data = NLMSG_DATA(header);
	const struct rtattr *next = (const struct rtattr *)(data + NLMSG_ALIGN(fixed_len));
	size_t all = NLMSG_PAYLOAD(header, 0);
	if (all < NLMSG_ALIGN(fixed_len)) {
		return NULL;
	}
	size_t left = all - NLMSG_ALIGN(fixed_len);
	while (RTA_OK(next, left)) {
		if (next->rta_type == type) {
			return RTA_PAYLOAD(next) >= len_lowest ? RTA_DATA(next) : NULL;
		}
		next = RTA_NEXT(next, left);
	}
	return NULL;
}

static uint32_t number(
	const struct nlmsghdr *header, size_t fixed_len, unsigned short type, uint32_t otherwise)
{
	uint32_t value = otherwise;
	const void *data = attribute(header, fixed_len, type, sizeof(value));
	if (data) {
		memcpy(&value, data, sizeof(value));
	}
	return value;
}

static size_t address_size(unsigned char family)
{
	return family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

static bool is_internet(unsigned char family)
{
	return family == AF_INET || family == AF_INET6;
}

/* That only neighbours have, or a group. */
static bool is_of_a_link(uint32_t family, const uint8_t address[static 16])
{
	if (family == AF_INET) {
		return (address[0] == 169 && address[1] == 254) || address[0] >= 224;
	}
	return (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) || address[0] == 0xff;
}

static void on_link(struct network *network, const struct nlmsghdr *header, bool is_silent)
{
	const struct ifinfomsg *link = NLMSG_DATA(header);
	if (NLMSG_PAYLOAD(header, 0) < sizeof(*link) || link->ifi_family != AF_UNSPEC ||
		(link->ifi_flags & IFF_LOOPBACK)) {
		return;
	}
	struct fact_key key = {.kind = FACT_LINK, .index = (uint32_t)link->ifi_index};
	bool is_there = header->nlmsg_type == RTM_NEWLINK;
	if (is_there && (link->ifi_flags & IFF_UP) && (link->ifi_flags & IFF_RUNNING)) {
		learn(network, &key, is_silent);
	} else {
		forget(network, &key);
	}
	if (!is_there || !(link->ifi_flags & IFF_UP)) {
		forget_routes(network, key.index);
	}
}

static void on_address(struct network *network, const struct nlmsghdr *header, bool is_silent)
{
	const struct ifaddrmsg *fixed = NLMSG_DATA(header);
	if (NLMSG_PAYLOAD(header, 0) < sizeof(*fixed) || !is_internet(fixed->ifa_family) ||
		fixed->ifa_scope >= RT_SCOPE_LINK || fixed->ifa_index == LOOPBACK_INDEX) {
		return;
	}
	size_t size = address_size(fixed->ifa_family);
	/* With a peer, IFA_ADDRESS is the peer's. */
	const void *address = attribute(header, sizeof(*fixed), IFA_LOCAL, size);
	if (!address) {
		address = attribute(header, sizeof(*fixed), IFA_ADDRESS, size);
	}
	if (!address) {
		return;
	}
	struct fact_key key = {
		.kind = FACT_ADDRESS,
		.index = fixed->ifa_index,
		.family = fixed->ifa_family,
	};
	memcpy(key.address, address, size);
	uint32_t flags = number(header, sizeof(*fixed), IFA_FLAGS, fixed->ifa_flags);
	/* RFC 4862 section 5.4: until it is known to be unique it is nobody's. */
	bool is_usable = !(flags & IFA_F_TENTATIVE) || (flags & IFA_F_OPTIMISTIC);
	if (header->nlmsg_type == RTM_NEWADDR && is_usable) {
		learn(network, &key, is_silent);
	} else {
		forget(network, &key);
	}
}

/* Of several next hops the first stands for all. */
static uint32_t first_hop(const struct nlmsghdr *header, size_t size, struct fact_key *key)
{
	const struct rtmsg *fixed = NLMSG_DATA(header);
	const struct rtnexthop *hop =
		attribute(header, sizeof(*fixed), RTA_MULTIPATH, sizeof(*hop));
	const void *gateway = attribute(header, sizeof(*fixed), RTA_GATEWAY, size);
	if (gateway) {
		memcpy(key->gateway, gateway, size);
	}
	return hop ? (uint32_t)hop->rtnh_ifindex : number(header, sizeof(*fixed), RTA_OIF, 0);
}

static void on_route(struct network *network, const struct nlmsghdr *header, bool is_silent)
{
	const struct rtmsg *fixed = NLMSG_DATA(header);
	if (NLMSG_PAYLOAD(header, 0) < sizeof(*fixed) || !is_internet(fixed->rtm_family) ||
		fixed->rtm_type != RTN_UNICAST || fixed->rtm_scope >= RT_SCOPE_HOST ||
		(fixed->rtm_flags & RTM_F_CLONED) ||
		number(header, sizeof(*fixed), RTA_TABLE, fixed->rtm_table) != RT_TABLE_MAIN) {
		return;
	}
	size_t size = address_size(fixed->rtm_family);
	struct fact_key key = {
		.kind = FACT_ROUTE,
		.family = fixed->rtm_family,
		.prefix_len = fixed->rtm_dst_len,
		.metric = number(header, sizeof(*fixed), RTA_PRIORITY, 0),
	};
	key.index = first_hop(header, size, &key);
	const void *destination = attribute(header, sizeof(*fixed), RTA_DST, size);
	if (destination) {
		memcpy(key.address, destination, size);
	}
	if (key.index == LOOPBACK_INDEX || is_of_a_link(key.family, key.address)) {
		return;
	}
	if (header->nlmsg_type == RTM_NEWROUTE) {
		if (header->nlmsg_flags & NLM_F_REPLACE) {
			forget_replaced(network, &key);
		}
		learn(network, &key, is_silent);
	} else {
		forget(network, &key);
	}
}

/* -- dumps -- */

static void ask(struct network *network, enum dump dump);

static void ask_all(struct network *network)
{
	network->wants_dump = false;
	for (size_t i = 0; i < network->n_facts; i++) {
		network->facts[i].is_stale = true;
	}
	ask(network, DUMP_LINKS);
}

/* What is there is not known, so that nothing can be said of what is not. */
static void give_up_dump(struct network *network)
{
	network->dump = DUMP_NONE;
	network->is_known = false;
}

static void finish_dump(struct network *network)
{
	switch (network->dump) {
	case DUMP_NONE:
		return;
	case DUMP_LINKS:
		forget_stale(network, FACT_LINK);
		break;
	case DUMP_ADDRESSES:
		forget_stale(network, FACT_ADDRESS);
		break;
	case DUMP_ROUTES:
		forget_stale(network, FACT_ROUTE);
		break;
	}
	if (network->wants_dump) {
		ask_all(network);
	} else if (network->dump == DUMP_ROUTES) {
		network->dump = DUMP_NONE;
		network->is_known = true;
	} else {
		ask(network, network->dump + 1);
	}
}

static void ask(struct network *network, enum dump dump)
{
	static const unsigned short types[] = {
		[DUMP_LINKS] = RTM_GETLINK,
		[DUMP_ADDRESSES] = RTM_GETADDR,
		[DUMP_ROUTES] = RTM_GETROUTE,
	};
	struct {
		struct nlmsghdr header;
		struct rtgenmsg generic;
	} request = {
		.header =
			{
				.nlmsg_len = NLMSG_LENGTH(sizeof(request.generic)),
				.nlmsg_type = types[dump],
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
				.nlmsg_seq = network->sequence + 1,
			},
		.generic = {.rtgen_family = AF_UNSPEC},
	};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	network->sequence++;
	network->dump = dump;
	if (sendto(network->socket.fd, &request, request.header.nlmsg_len, 0,
		    (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
		log_debug(NULL, NULL, "the network cannot be looked at: %s", strerror(errno));
		give_up_dump(network);
	}
}

/* -- the socket -- */

static void handle(struct network *network, const struct nlmsghdr *header)
{
	bool is_answer = network->dump != DUMP_NONE && header->nlmsg_pid == network->port &&
		header->nlmsg_seq == network->sequence;
	bool is_silent = is_answer && !network->is_known;
	if (is_answer && (header->nlmsg_flags & NLM_F_DUMP_INTR)) {
		network->wants_dump = true;
	}
	switch (header->nlmsg_type) {
	case NLMSG_DONE:
		if (is_answer) {
			finish_dump(network);
		}
		break;
	case NLMSG_ERROR:
		if (is_answer) {
			log_debug(NULL, NULL, "the kernel does not show the network");
			give_up_dump(network);
		}
		break;
	case RTM_NEWLINK:
	case RTM_DELLINK:
		on_link(network, header, is_silent);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		on_address(network, header, is_silent);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		on_route(network, header, is_silent);
		break;
	default:
		break;
	}
}

/* Something was lost: everything is looked at again. */
static void resynchronise(struct network *network)
{
	network->wants_dump = true;
	if (network->dump == DUMP_NONE) {
		ask_all(network);
	}
}

/* Whether there may be more. */
static bool receive(struct network *network)
{
	struct sockaddr_nl sender = {0};
	struct iovec part = {.iov_base = network->buffer, .iov_len = sizeof(network->buffer)};
	struct msghdr message = {
		.msg_name = &sender,
		.msg_namelen = sizeof(sender),
		.msg_iov = &part,
		.msg_iovlen = 1,
	};
	ssize_t n = recvmsg(network->socket.fd, &message, 0);
	if (n < 0 && errno == ENOBUFS) {
		resynchronise(network);
		return true;
	}
	if (n < 0) {
		return errno == EINTR;
	}
	/* Any process may send to the socket: only the kernel is believed. */
	if (message.msg_namelen != sizeof(sender) || sender.nl_pid != 0) {
		return true;
	}
	if (message.msg_flags & MSG_TRUNC) {
		resynchronise(network);
	}
	size_t left = (size_t)n;
	for (const struct nlmsghdr *next = (const struct nlmsghdr *)network->buffer;
		NLMSG_OK(next, left); next = NLMSG_NEXT(next, left)) {
		handle(network, next);
	}
	return true;
}

static void receive_all(struct network *network)
{
	for (int n = 0; n < N_DATAGRAMS_HIGHEST; n++) {
		if (!receive(network)) {
			return;
		}
	}
}

static void on_readable(struct ev_loop *loop, struct ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	receive_all(watcher->data);
}

static int open_socket(struct network *network)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0) {
		return -errno;
	}
	ev_io_set(&network->socket, fd, EV_READ);
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	socklen_t len = sizeof(address);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
		return -errno;
	}
	network->port = address.nl_pid;
	return 0;
}

int network_new(struct turn *turn, struct task *owner, struct network **ret_network)
{
	struct network *network = calloc(1, sizeof(*network));
	if (!network) {
		return -ENOMEM;
	}
	network->turn = turn;
	network->owner = owner;
	ev_io_init(&network->socket, on_readable, -1, EV_READ);
	network->socket.data = network;
	int error = open_socket(network);
	if (error < 0) {
		log_info(
			NULL, NULL, "changes of the network are not noticed: %s", strerror(-error));
	} else {
		ev_io_start(turn_loop(turn), &network->socket);
		ask_all(network);
		/* The kernel answers at once. */
		receive_all(network);
	}
	*ret_network = network;
	return 0;
}

struct network *network_free(struct network *network)
{
	if (!network) {
		return NULL;
	}
	ev_io_stop(turn_loop(network->turn), &network->socket);
	if (network->socket.fd >= 0) {
		close(network->socket.fd);
	}
	free(network->facts);
	free(network);
	return NULL;
}

/* -- questions -- */

unsigned int network_take_news(struct network *network)
{
	unsigned int news = network->news;
	network->news = 0;
	return news;
}

bool network_is_up(const struct network *network)
{
	for (size_t i = 0; i < network->n_facts; i++) {
		const struct fact_key *key = &network->facts[i].key;
		if (key->kind == FACT_LINK && has(network, FACT_ADDRESS, key->index)) {
			return true;
		}
	}
	return !network->is_known;
}
