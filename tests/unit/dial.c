/* Happy Eyeballs with addresses of the loopback interface: some refuse, and some are black holes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "net/dial.h"
#include "net/wire.h"
#include "peer.h"
#include "turning.h"

/* A port where connecting neither succeeds nor fails: the kernel drops what asks for a connection
 * while the queue of those that nobody accepted is full. */
struct hole {
	int listener;
	int fillers[8];
	union address address;
};

static union address loopback(uint16_t port)
{
	return (union address){.in = {
				       .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(port),
			       }};
}

static void hole_init(struct hole *hole)
{
	uint16_t port = 0;
	hole->listener = server_listen(AF_INET, 0, &port);
	assert_true(hole->listener >= 0);
	hole->address = loopback(port);
	bool is_full = false;
	for (size_t i = 0; i < 8; i++) {
		hole->fillers[i] = -1;
		if (is_full) {
			continue;
		}
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		hole->fillers[i] = fd;
		assert_true(connect(fd, &hole->address.any, sizeof(hole->address.in)) == 0 ||
			errno == EINPROGRESS);
		struct pollfd writable = {.fd = fd, .events = POLLOUT};
		is_full = poll(&writable, 1, 200) == 0;
	}
	assert_true(is_full);
}

static void hole_done(struct hole *hole)
{
	for (size_t i = 0; i < 8; i++) {
		if (hole->fillers[i] >= 0) {
			close(hole->fillers[i]);
		}
	}
	close(hole->listener);
}

/* An address that refuses at once. */
static union address refusing(void)
{
	uint16_t port = 0;
	int fd = server_listen(AF_INET, 1, &port);
	assert_true(fd >= 0);
	close(fd);
	return loopback(port);
}

struct dialed {
	int fd;
	uint64_t usec;
	char text[ADDRESS_TEXT_SIZE];
	struct failure failure;
};

static struct dialed dial(const union address *addresses, size_t n_addresses)
{
	struct turning turning;
	struct dial *dial = NULL;
	struct dialed dialed = {0};
	union address ours;
	union address peer;
	turning_init(&turning);
	uint64_t start = clock_now_usec();
	assert_int_equal(dial_new(turning.turn, &turning.owner, addresses, n_addresses, &dial), 0);
	while (!dial_is_done(dial)) {
		turning_await(&turning);
	}
	dialed.usec = clock_now_usec() - start;
	dialed.failure = *dial_failure(dial);
	dialed.fd = dial_take(dial, &ours, &peer);
	if (dialed.fd >= 0) {
		address_print(&peer, dialed.text);
	}
	assert_int_equal(dial_take(dial, &ours, &peer), -1);
	dial_free(dial);
	turning_done(&turning);
	return dialed;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_socket_has_its_options(void **state)
{
	(void)state;
	uint16_t port = 0;
	int listener = server_listen(AF_INET, 4, &port);
	union address address = loopback(port);
	struct dialed dialed = dial(&address, 1);
	assert_true(dialed.fd >= 0);
	assert_false(failure_is_set(&dialed.failure));
	int fd = dialed.fd;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 120);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 20);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 25000);
	close(fd);
	close(listener);
}

/* One lost packet must not end a connection that rests, while what is asked has a deadline. */
static void test_patience_is_for_what_is_sent(void **state)
{
	(void)state;
	uint16_t port = 0;
	char octets[4];
	int listener = server_listen(AF_INET, 4, &port);
	union address address = loopback(port);
	struct dialed dialed = dial(&address, 1);
	int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(dialed.fd >= 0 && peer >= 0);
	struct wire wire;
	wire_init(&wire);
	wire_open(&wire, dialed.fd, dialed.fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(wire_send(&wire, span_of("DONE")), 4);
		assert_int_equal(option(dialed.fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 25000);
		assert_int_equal(recv(peer, octets, sizeof(octets), MSG_WAITALL), 4);
		/* An answer brings the acknowledgement with it. */
		assert_int_equal(send(peer, "+", 1, 0), 1);
		assert_int_equal(
			poll(&(struct pollfd){.fd = dialed.fd, .events = POLLIN}, 1, -1), 1);
		assert_int_equal(wire_receive(&wire, octets, sizeof(octets)), 1);
		wire_rest(&wire);
		assert_int_equal(option(dialed.fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	}
	/* What nobody takes is not acknowledged. */
	static const char many[65536];
	struct span span = {.data = (const uint8_t *)many, .len = sizeof(many)};
	while (wire_send(&wire, span) > 0) {
	}
	wire_rest(&wire);
	assert_int_equal(option(dialed.fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 25000);
	wire_done(&wire);
	close(peer);
	close(listener);
}

static void test_black_hole_costs_the_delay(void **state)
{
	(void)state;
	struct hole hole;
	uint16_t port = 0;
	hole_init(&hole);
	int listener = server_listen(AF_INET, 4, &port);
	unsigned int n_descriptors = turning_count_descriptors();
	union address addresses[] = {hole.address, hole.address, loopback(port), hole.address};
	struct dialed dialed = dial(addresses, 4);
	char expected[ADDRESS_TEXT_SIZE];
	address_print(&addresses[2], expected);
	assert_string_equal(dialed.text, expected);
	/* The third attempt begins after two delays. */
	assert_in_range(dialed.usec, 495 * USEC_PER_MSEC, 2500 * USEC_PER_MSEC);
	close(dialed.fd);
	/* The attempts that lost are closed. */
	assert_int_equal(turning_count_descriptors(), n_descriptors);
	close(listener);
	hole_done(&hole);
}

static void test_failure_costs_nothing(void **state)
{
	(void)state;
	uint16_t port = 0;
	int listener = server_listen(AF_INET, 4, &port);
	union address addresses[11];
	for (size_t i = 0; i < 10; i++) {
		addresses[i] = refusing();
	}
	addresses[10] = loopback(port);
	struct dialed dialed = dial(addresses, 11);
	assert_true(dialed.fd >= 0);
	/* With delays it would be 2.5 s. */
	assert_in_range(dialed.usec, 0, 1500 * USEC_PER_MSEC);
	close(dialed.fd);
	close(listener);
}

static void test_failure_ends_the_delay(void **state)
{
	(void)state;
	struct hole hole;
	uint16_t port = 0;
	hole_init(&hole);
	int listener = server_listen(AF_INET, 4, &port);
	/* One delay, then the others fail one after the other. */
	union address addresses[10] = {hole.address};
	for (size_t i = 1; i < 9; i++) {
		addresses[i] = refusing();
	}
	addresses[9] = loopback(port);
	struct dialed dialed = dial(addresses, 10);
	assert_true(dialed.fd >= 0);
	assert_in_range(dialed.usec, 245 * USEC_PER_MSEC, 1500 * USEC_PER_MSEC);
	close(dialed.fd);
	close(listener);
	hole_done(&hole);
}

static void test_all_refuse(void **state)
{
	(void)state;
	unsigned int n_descriptors = turning_count_descriptors();
	char expected[256];
	union address address = refusing();
	struct dialed dialed = dial(&address, 1);
	assert_int_equal(dialed.fd, -1);
	assert_int_equal(dialed.failure.kind, FAILURE_OFFLINE);
	snprintf(expected, sizeof(expected), "127.0.0.1:%u cannot be reached: Connection refused",
		ntohs(address.in.sin_port));
	assert_string_equal(dialed.failure.text, expected);
	/* A family that this machine does not have says less than an address that refuses. */
	union address other = {.any.sa_family = 200};
	union address addresses[] = {other, address, other};
	dialed = dial(addresses, 3);
	assert_int_equal(dialed.fd, -1);
	strcat(expected, " (nor can its other addresses)");
	assert_string_equal(dialed.failure.text, expected);
	assert_int_equal(turning_count_descriptors(), n_descriptors);
}

static void test_freed_at_any_time(void **state)
{
	(void)state;
	struct hole hole;
	struct turning turning;
	uint16_t port = 0;
	hole_init(&hole);
	turning_init(&turning);
	int listener = server_listen(AF_INET, 16, &port);
	union address addresses[] = {refusing(), hole.address, loopback(port)};
	unsigned int n_descriptors = turning_count_descriptors();
	for (int n_turns = 0; n_turns < 6; n_turns++) {
		struct dial *dial = NULL;
		assert_int_equal(dial_new(turning.turn, &turning.owner, addresses, 3, &dial), 0);
		for (int i = 0; i < n_turns; i++) {
			ev_run(turning.loop, EVRUN_NOWAIT);
		}
		dial_free(dial);
		assert_int_equal(turning_count_descriptors(), n_descriptors);
	}
	struct dial *done = NULL;
	assert_int_equal(dial_new(turning.turn, &turning.owner, &addresses[2], 1, &done), 0);
	turning_await(&turning);
	assert_true(dial_is_done(done));
	/* Nobody took the socket. */
	dial_free(done);
	assert_int_equal(turning_count_descriptors(), n_descriptors);
	assert_null(dial_free(NULL));
	close(listener);
	turning_done(&turning);
	hole_done(&hole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_socket_has_its_options),
		cmocka_unit_test(test_patience_is_for_what_is_sent),
		cmocka_unit_test(test_black_hole_costs_the_delay),
		cmocka_unit_test(test_failure_costs_nothing),
		cmocka_unit_test(test_failure_ends_the_delay),
		cmocka_unit_test(test_all_refuse),
		cmocka_unit_test(test_freed_at_any_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
