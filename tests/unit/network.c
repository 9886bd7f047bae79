/* News of the network, as the kernel tells them of one that this test has for itself. */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "net/network.h"
#include "turning.h"

/* Want cmocka. */
#include "namespace.h"

#define MORE NETWORK_NEWS_MORE
#define LESS NETWORK_NEWS_LESS

static struct turning turning;
static struct network *network;

static bool is_refused; /* what is asked of the kernel */

/* In place of libc's: a question that no kernel knows is refused as a sandbox refuses others. */
ssize_t sendto(int fd, const void *data, size_t len, int flags, __CONST_SOCKADDR_ARG address,
	socklen_t address_len)
{
	struct nlmsghdr unknown;
	if (is_refused && len >= sizeof(unknown)) {
		memcpy(&unknown, data, sizeof(unknown));
		unknown.nlmsg_len = sizeof(unknown);
		unknown.nlmsg_type = 0xfff;
		data = &unknown;
		len = sizeof(unknown);
	}
	return syscall(SYS_sendto, fd, data, len, flags, address.__sockaddr__, address_len);
}

static int begin(void **state)
{
	(void)state;
	is_refused = false;
	turning_init(&turning);
	namespace_lay_cable();
	return 0;
}

static int end(void **state)
{
	(void)state;
	network = network_free(network);
	namespace_take_cable();
	turning_done(&turning);
	return 0;
}

static void watch(void)
{
	assert_int_equal(network_new(turning.turn, &turning.owner, &network), 0);
}

/* What has been told by now: ip(8) has ended, and so the kernel has told all. */
static unsigned int news(void)
{
	turning.is_woken = false;
	for (int i = 0; i < 8; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
	}
	unsigned int result = network_take_news(network);
	assert_int_equal(turning.is_woken, result != 0);
	turning.is_woken = false;
	assert_int_equal(network_take_news(network), 0);
	return result;
}

static void assert_news(const char *commands, unsigned int expected)
{
	namespace_ip(commands);
	unsigned int got = news();
	if (got != expected) {
		fail_msg("%u, not %u, after: %s", got, expected, commands);
	}
}

static void test_nothing_is_new_at_the_beginning(void **state)
{
	(void)state;
	namespace_ip("addr add 192.0.2.2/24 dev here\n"
		     "route add default via 192.0.2.1\n");
	watch();
	assert_int_equal(news(), 0);
	assert_true(network_is_up(network));
}

static void test_without_any_address(void **state)
{
	(void)state;
	watch();
	assert_int_equal(news(), 0);
	assert_false(network_is_up(network));
}

static void test_an_address_comes_and_goes(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
	assert_true(network_is_up(network));
	/* As when a lease is renewed. */
	assert_news("addr change 192.0.2.2/24 dev here valid_lft 3600 preferred_lft 1800\n", 0);
	assert_news("addr change 192.0.2.2/24 dev here valid_lft 7200 preferred_lft 3600\n", 0);
	assert_news("addr add 198.51.100.2/32 dev here\n", MORE);
	assert_news("addr del 198.51.100.2/32 dev here\n", LESS);
	assert_true(network_is_up(network));
	assert_news("addr del 192.0.2.2/24 dev here\n", LESS);
	assert_false(network_is_up(network));
	assert_news(
		"addr add 192.0.2.2/24 dev here\naddr del 192.0.2.2/24 dev here\n", MORE | LESS);
}

static void test_routes(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
	assert_news("route add default via 192.0.2.1\n", MORE);
	assert_news("route replace default via 192.0.2.1 mtu 1400\n", 0);
	assert_news("route add default via 192.0.2.1 metric 50\n", MORE);
	assert_news("route add 203.0.113.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.3\n", MORE);
	assert_news("route del 203.0.113.0/24\n", LESS);
	assert_news("route del default metric 50\n", LESS);
	assert_news("route del default\n", LESS);
	assert_true(network_is_up(network));
}

/* The kernel tells the new one, and of the old one nothing. */
static void test_a_route_is_replaced(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\nroute add default via 192.0.2.1\n", MORE);
	assert_news("route replace default via 192.0.2.3\n", MORE | LESS);
	assert_news("route replace default via 192.0.2.1\n", MORE | LESS);
	assert_news("route del default\n", LESS);
	assert_news("route add default via 192.0.2.3\n", MORE);
	assert_news("addr add 2001:db8::2/64 dev here nodad noprefixroute\n"
		    "route add 2001:db8:7::/48 dev here\n",
		MORE);
	assert_news("route replace 2001:db8:7::/48 via 2001:db8::1 dev here onlink\n", MORE | LESS);
	assert_news("route replace 2001:db8:7::/48 dev here\n", MORE | LESS);
}

static void test_what_is_no_news(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
	assert_news("addr add 127.0.0.2/8 dev lo\n", 0);
	assert_news("addr add 203.0.113.5/32 dev lo\n", 0);
	assert_news("addr add 169.254.7.7/16 scope link dev here\n", 0);
	assert_news("addr add fe80::7/64 dev here nodad\n", 0);
	assert_news("route add 198.51.100.0/24 via 192.0.2.1 table 77\n", 0);
	assert_news("route add 198.51.100.0/24 via 192.0.2.1 table 1077\n", 0);
	assert_news("route add blackhole 198.51.100.0/24\n", 0);
	assert_news("route add unreachable 2001:db8:7::/48\n", 0);
	assert_news("route del blackhole 198.51.100.0/24\n", 0);
	assert_news("route add multicast 239.0.0.0/8 dev here\n", 0);
	assert_news("rule add pref 10 to 198.51.100.0/24 blackhole\n", 0);
	assert_news("link add other type veth peer name another\n", 0);
	assert_news(
		"link set other addrgenmode none up\nlink set another addrgenmode none up\n", 0);
	assert_news("link del other\n", 0);
	assert_news("rule del pref 10\n", 0);
	assert_news("addr del 203.0.113.5/32 dev lo\naddr del 127.0.0.2/8 dev lo\n", 0);
}

static void test_a_link_goes_down_and_up(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\nroute add default via 192.0.2.1\n", MORE);
	/* IPv4 addresses stay, and routes go silently. */
	assert_news("link set here down\n", LESS);
	assert_false(network_is_up(network));
	/* Its route comes before the kernel finds that the link works. */
	namespace_ip("link set here up\n");
	do {
		turning_await(&turning);
		assert_int_equal(network_take_news(network), MORE);
	} while (!network_is_up(network));
	assert_news("route add default via 192.0.2.1\n", MORE);
	/* The other end is unplugged, and plugged in again. */
	namespace_ip("link set there down\n");
	turning_await(&turning);
	assert_int_equal(network_take_news(network), LESS);
	assert_false(network_is_up(network));
	namespace_ip("link set there up\n");
	turning_await(&turning);
	assert_int_equal(network_take_news(network), MORE);
	assert_true(network_is_up(network));
}

/* RFC 4862 section 5.4: until nobody objects, an address is not to be used. */
static void test_an_address_counts_when_it_is_unique(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 2001:db8::2/64 dev here noprefixroute\n", 0);
	assert_false(network_is_up(network));
	turning_await(&turning);
	assert_int_equal(network_take_news(network), MORE);
	assert_true(network_is_up(network));
	assert_int_not_equal(system("ip addr show tentative dev here | grep -q 2001"), 0);
	assert_news("addr change 2001:db8::2/64 dev here noprefixroute valid_lft 900 "
		    "preferred_lft 600\n",
		0);
	assert_news("addr del 2001:db8::2/64 dev here\n", LESS);
}

static void add_routes(const char *verb, int first, int n)
{
	FILE *ip = popen("ip -batch -", "we");
	assert_non_null(ip);
	for (int i = first; i < first + n; i++) {
		fprintf(ip, "route %s 10.%d.%d.0/24 via 192.0.2.1\n", verb, i / 256, i % 256);
	}
	assert_int_equal(pclose(ip), 0);
}

/* More than the socket holds while nobody reads: what was lost is looked for. */
static void test_a_flood(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\nroute add default via 192.0.2.1\n", MORE);
	add_routes("add", 0, 900);
	add_routes("del", 0, 900);
	namespace_ip("addr add 198.51.100.2/32 dev here\nroute del default\n");
	assert_int_equal(news(), MORE | LESS);
	assert_true(network_is_up(network));
	/* What is known now is what is there. */
	assert_news("route replace 10.3.3.0/24 via 192.0.2.1\n", MORE);
	assert_news("addr change 198.51.100.2/32 dev here valid_lft 900 preferred_lft 600\n", 0);
	assert_news("addr del 198.51.100.2/32 dev here\n", LESS);
}

/* Beyond what is kept in mind routes are no news, and neither harm nor cost anything. */
static void test_a_router(void **state)
{
	(void)state;
	watch();
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
	add_routes("add", 0, 1500);
	assert_int_equal(news() & MORE, MORE);
	/* They leave room for what else there is. */
	assert_news("addr add 198.51.100.2/32 dev here\n", MORE);
	assert_news("addr del 198.51.100.2/32 dev here\n", LESS);
	network = network_free(network);
	watch();
	assert_int_equal(news(), 0);
	assert_true(network_is_up(network));
	add_routes("del", 0, 1500);
	/* There is room again for what was beyond. */
	assert_int_equal(news() & LESS, LESS);
	assert_news("addr del 192.0.2.2/24 dev here\n", LESS);
	assert_false(network_is_up(network));
}

/* Whoever has the power over the network may send to the socket. */
static void test_only_the_kernel_is_believed(void **state)
{
	(void)state;
	watch();
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg address;
		struct rtattr attribute;
		struct in_addr octets;
	} forged = {
		.header = {.nlmsg_len = sizeof(forged), .nlmsg_type = RTM_NEWADDR},
		.address = {.ifa_family = AF_INET, .ifa_index = if_nametoindex("here")},
		.attribute = {.rta_len = RTA_LENGTH(sizeof(struct in_addr)), .rta_type = IFA_LOCAL},
		.octets = {htonl(0xc0000202)},
	};
	/* The first such socket of a process has its number. */
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = (uint32_t)getpid()};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, &forged, sizeof(forged), 0, (struct sockaddr *)&address,
				 sizeof(address)),
		sizeof(forged));
	close(fd);
	assert_int_equal(news(), 0);
	assert_false(network_is_up(network));
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
}

/* Nothing was told, which is not that there is nothing. */
static void test_a_kernel_that_shows_nothing(void **state)
{
	(void)state;
	is_refused = true;
	watch();
	assert_int_equal(news(), 0);
	assert_true(network_is_up(network));
	assert_news("addr add 192.0.2.2/24 dev here\n", MORE);
	assert_news("addr del 192.0.2.2/24 dev here\n", LESS);
	assert_true(network_is_up(network));
}

static void test_the_end(void **state)
{
	(void)state;
	assert_null(network_free(NULL));
	unsigned int n_descriptors = turning_count_descriptors();
	watch();
	namespace_ip("addr add 192.0.2.2/24 dev here\n");
	network = network_free(network);
	assert_int_equal(turning_count_descriptors(), n_descriptors);
}

int main(void)
{
	if (!namespace_enter()) {
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_is_new_at_the_beginning, begin, end),
		cmocka_unit_test_setup_teardown(test_without_any_address, begin, end),
		cmocka_unit_test_setup_teardown(test_an_address_comes_and_goes, begin, end),
		cmocka_unit_test_setup_teardown(test_routes, begin, end),
		cmocka_unit_test_setup_teardown(test_a_route_is_replaced, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_no_news, begin, end),
		cmocka_unit_test_setup_teardown(test_a_link_goes_down_and_up, begin, end),
		cmocka_unit_test_setup_teardown(
			test_an_address_counts_when_it_is_unique, begin, end),
		cmocka_unit_test_setup_teardown(test_a_flood, begin, end),
		cmocka_unit_test_setup_teardown(test_a_router, begin, end),
		cmocka_unit_test_setup_teardown(test_only_the_kernel_is_believed, begin, end),
		cmocka_unit_test_setup_teardown(test_a_kernel_that_shows_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_the_end, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
