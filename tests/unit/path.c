/* Ways to a server and what becomes of them, in a network that this test has for itself. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "net/address.h"
#include "net/dial.h"
#include "net/path.h"
#include "net/stream.h"
#include "turning.h"

/* Want cmocka. */
#include "namespace.h"

#define PORT 993

static struct turning turning;

static int begin(void **state)
{
	(void)state;
	turning_init(&turning);
	namespace_lay_cable();
	namespace_ip("addr add 192.0.2.2/24 dev here\n"
		     "addr add 2001:db8::2/64 dev here nodad\n"
		     "route add default via 192.0.2.1\n"
		     "route add default via 2001:db8::1\n");
	return 0;
}

static int end(void **state)
{
	(void)state;
	namespace_take_cable();
	turning_done(&turning);
	return 0;
}

static union address address(const char *text)
{
	union address result = {0};
	if (strchr(text, ':')) {
		result.in6.sin6_family = AF_INET6;
		result.in6.sin6_port = htons(PORT);
		assert_int_equal(inet_pton(AF_INET6, text, &result.in6.sin6_addr), 1);
	} else {
		result.in.sin_family = AF_INET;
		result.in.sin_port = htons(PORT);
		assert_int_equal(inet_pton(AF_INET, text, &result.in.sin_addr), 1);
	}
	return result;
}

static void assert_path(const char *ours, const char *theirs, enum path expected)
{
	union address from = address(ours);
	union address to = address(theirs);
	assert_string_equal(path_name(path_look(&from, &to)), path_name(expected));
}

static void test_same(void **state)
{
	(void)state;
	assert_path("127.0.0.1", "127.0.0.1", PATH_SAME);
	assert_path("::1", "::1", PATH_SAME);
	assert_path("192.0.2.2", "203.0.113.1", PATH_SAME);
	assert_path("2001:db8::2", "2001:db8:7::1", PATH_SAME);
	/* What comes beside it changes nothing. */
	namespace_ip("addr add 198.51.100.2/24 dev here\n");
	assert_path("192.0.2.2", "203.0.113.1", PATH_SAME);
}

static void test_other(void **state)
{
	(void)state;
	namespace_ip("addr add 198.51.100.2/24 dev here\n"
		     "route add 203.0.113.0/24 via 198.51.100.1\n"
		     "addr add 2001:db8:1::2/64 dev here nodad\n"
		     "route add 2001:db8:7::/48 via 2001:db8:1::1 src 2001:db8:1::2\n");
	assert_path("192.0.2.2", "203.0.113.1", PATH_OTHER);
	assert_path("192.0.2.2", "203.1.113.1", PATH_SAME);
	assert_path("2001:db8::2", "2001:db8:7::1", PATH_OTHER);
}

static void test_no_address(void **state)
{
	(void)state;
	namespace_ip("addr add 198.51.100.2/24 dev here\n"
		     "route add 203.0.113.0/24 via 198.51.100.1\n"
		     "addr add 2001:db8:1::2/64 dev here nodad\n"
		     "addr del 192.0.2.2/24 dev here\n"
		     "addr del 2001:db8::2/64 dev here\n");
	assert_path("192.0.2.2", "203.0.113.1", PATH_GONE);
	assert_path("2001:db8::2", "2001:db8:1::1", PATH_GONE);
}

static void test_no_route(void **state)
{
	(void)state;
	namespace_ip("route del default\n"
		     "route del default via 2001:db8::1\n");
	assert_path("192.0.2.2", "203.0.113.1", PATH_GONE);
	assert_path("192.0.2.2", "192.0.2.1", PATH_SAME);
	assert_path("2001:db8::2", "2001:db8:7::1", PATH_GONE);
	assert_path("2001:db8::2", "2001:db8::1", PATH_SAME);
}

static void test_routes_that_lead_nowhere(void **state)
{
	(void)state;
	static const char *const kinds[] = {"blackhole", "unreachable", "prohibit"};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char commands[256];
		snprintf(commands, sizeof(commands),
			"route replace %s 203.0.113.0/24\nroute replace %s 2001:db8:7::/48\n",
			kinds[i], kinds[i]);
		namespace_ip(commands);
		assert_path("192.0.2.2", "203.0.113.1", PATH_GONE);
		assert_path("2001:db8::2", "2001:db8:7::1", PATH_GONE);
	}
}

static void test_link_that_is_down(void **state)
{
	(void)state;
	namespace_ip("link set here down\n");
	assert_path("192.0.2.2", "203.0.113.1", PATH_GONE);
	assert_path("2001:db8::2", "2001:db8:7::1", PATH_GONE);
}

static void turn_some(void)
{
	for (int i = 0; i < 8; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
	}
}

/* Nobody is there, so that the attempts go on. */
static void test_dialing(void **state)
{
	(void)state;
	struct dial *dial = NULL;
	union address targets[] = {address("2001:db8::77"), address("192.0.2.77")};
	assert_int_equal(dial_new(turning.turn, &turning.owner, targets, 2, &dial), 0);
	assert_int_equal(dial_path(dial), PATH_UNKNOWN);
	turn_some();
	assert_int_equal(dial_path(dial), PATH_SAME);
	/* RFC 8305: the second has begun, too. */
	assert_int_equal(usleep(300000), 0);
	turn_some();
	namespace_ip("addr del 2001:db8::2/64 dev here\n");
	assert_int_equal(dial_path(dial), PATH_SAME);
	namespace_ip("addr del 192.0.2.2/24 dev here\n");
	assert_int_equal(dial_path(dial), PATH_GONE);
	dial_free(dial);
}

static struct stream *connect_to(const char *host, const char *proxy_command, uint16_t port)
{
	struct stream *stream = NULL;
	struct stream_target target = {
		.host = host,
		.port = port,
		.proxy_command = proxy_command,
		.deadline_usec = 30 * USEC_PER_SEC,
	};
	assert_int_equal(stream_new(turning.turn, &turning.owner, &target, &stream), 0);
	return stream;
}

static void await(const struct stream *stream, enum stream_state state)
{
	while (stream_state(stream) != state) {
		turning_await(&turning);
	}
}

static int listen_at(const char *host, uint16_t *ret_port)
{
	union address here = address(host);
	socklen_t len = sizeof(here);
	here.in.sin_port = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &here.any, address_len(&here)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, &here.any, &len), 0);
	*ret_port = ntohs(here.in.sin_port);
	return fd;
}

static void test_streams(void **state)
{
	(void)state;
	uint16_t port = 0;
	int listener = listen_at("127.0.0.1", &port);
	struct stream *stream = connect_to("127.0.0.1", NULL, port);
	assert_int_equal(stream_path(stream), PATH_UNKNOWN);
	await(stream, STREAM_OPEN);
	assert_int_equal(stream_path(stream), PATH_SAME);
	assert_false(stream_is_unreachable(stream));
	stream_free(stream);
	close(listener);

	stream = connect_to("127.0.0.1", NULL, port);
	await(stream, STREAM_CLOSED);
	assert_int_equal(stream_path(stream), PATH_UNKNOWN);
	/* There is a way, and nobody at its end. */
	assert_false(stream_is_unreachable(stream));
	stream_free(stream);

	stream = connect_to("192.0.2.1", "cat", port);
	await(stream, STREAM_OPEN);
	assert_int_equal(stream_path(stream), PATH_UNKNOWN);
	stream_free(stream);
}

static void test_a_stream_loses_its_way(void **state)
{
	(void)state;
	uint16_t port = 0;
	namespace_ip("addr add 198.51.100.2/24 dev here\n");
	int listener = listen_at("192.0.2.2", &port);
	struct stream *stream = connect_to("192.0.2.2", NULL, port);
	await(stream, STREAM_OPEN);
	assert_int_equal(stream_path(stream), PATH_SAME);
	namespace_ip("addr del 192.0.2.2/24 dev here\n");
	assert_int_equal(stream_path(stream), PATH_GONE);
	stream_free(stream);
	close(listener);

	stream = connect_to("192.0.2.77", NULL, port);
	await(stream, STREAM_CLOSED);
	assert_true(stream_is_unreachable(stream));
	stream_free(stream);
}

int main(void)
{
	if (!namespace_enter()) {
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, begin, end),
		cmocka_unit_test_setup_teardown(test_other, begin, end),
		cmocka_unit_test_setup_teardown(test_no_address, begin, end),
		cmocka_unit_test_setup_teardown(test_no_route, begin, end),
		cmocka_unit_test_setup_teardown(test_routes_that_lead_nowhere, begin, end),
		cmocka_unit_test_setup_teardown(test_link_that_is_down, begin, end),
		cmocka_unit_test_setup_teardown(test_dialing, begin, end),
		cmocka_unit_test_setup_teardown(test_streams, begin, end),
		cmocka_unit_test_setup_teardown(test_a_stream_loses_its_way, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
