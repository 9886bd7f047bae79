/* Streams: plain ones, transfers of all kinds, deflated ones too, and their ends.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <semaphore.h>

#include "net/deflate.h"
#include "net/stream.h"
#include "net/ticket.h"
#include "streaming.h"

/* Where a server waits until the test has looked. */
static sem_t gate;

/* The C library's would ask a name server. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
	struct addrinfo **ret_result)
{
	int (*ask)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
	*(void **)&ask = dlsym(RTLD_NEXT, "getaddrinfo");
	bool is_asked = !(hints->ai_flags & AI_NUMERICHOST);
	if (is_asked && strcmp(name, "hang.test") == 0) {
		sem_wait(&gate);
		return EAI_NONAME;
	}
	if (is_asked && strstr(name, ".test")) {
		return EAI_NONAME;
	}
	return ask(name, service, hints, ret_result);
}

static void test_plain(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.target.loopback_only = true;
	server_start(&streaming.server);
	dial(&streaming);
	assert_int_equal(stream_state(streaming.stream), STREAM_CONNECTING);
	assert_string_equal(stream_peer(streaming.stream), "");
	assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), 0);
	assert_int_equal(stream_write(streaming.stream, span_of("x")), 0);
	await_settled(&streaming);
	assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
	assert_echoes(&streaming, "plain\r\n");
	assert_false(stream_is_secure(streaming.stream));
	assert_false(stream_is_resumed(streaming.stream));
	assert_false(stream_is_writing(streaming.stream));
	assert_string_equal(stream_tls_version(streaming.stream), "");
	assert_int_equal(stream_tls_unique(streaming.stream).len, 0);
	assert_int_equal(stream_tls_exporter(streaming.stream).len, 0);
	char peer[64];
	snprintf(peer, sizeof(peer), "127.0.0.1:%u", streaming.server.port);
	assert_string_equal(stream_peer(streaming.stream), peer);
	streaming_done(&streaming);
}

static void test_names_of_states(void **state)
{
	(void)state;
	assert_string_equal(stream_state_name(STREAM_CONNECTING), "connecting");
	assert_string_equal(stream_state_name(STREAM_HANDSHAKING), "handshaking");
	assert_string_equal(stream_state_name(STREAM_OPEN), "open");
	assert_string_equal(stream_state_name(STREAM_CLOSING), "closing");
	assert_string_equal(stream_state_name(STREAM_CLOSED), "closed");
}

static void test_plain_only_to_loopback(void **state)
{
	(void)state;
	static const char *const hosts[] = {"192.0.2.1", "0.0.0.0", "::", "2001:db8::1"};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct streaming streaming;
		init_plain(&streaming);
		streaming.target.loopback_only = true;
		streaming.target.host = hosts[i];
		connect_and_await(&streaming);
		assert_closed(&streaming, FAILURE_INSECURE, "is another machine");
		assert_string_equal(stream_peer(streaming.stream), "");
		streaming_done(&streaming);
	}
}

static void test_refused(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	int listener = server_listen(AF_INET, 1, &streaming.server.port);
	close(listener);
	dial(&streaming);
	await_settled(&streaming);
	assert_closed(&streaming, FAILURE_OFFLINE, "cannot be reached: Connection refused");
	assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), -ENOTCONN);
	assert_int_equal(stream_start_tls(streaming.stream), -EBUSY);
	stream_close(streaming.stream);
	stream_free(streaming.stream);
	turning_done(&streaming.turning);
}

static void say_and_leave(struct peer *peer)
{
	peer_say(peer, "* BYE\r\n");
}

static void say_and_reset(struct peer *peer)
{
	struct linger linger = {.l_onoff = 1};
	setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	peer_say(peer, "* BYE\r\n");
	sem_wait(&gate);
}

static void say_and_shut(struct peer *peer)
{
	peer_say(peer, "* BYE\r\n");
	shutdown(peer->fd, SHUT_WR);
	peer_linger(peer);
}

static void test_ends(void **state)
{
	(void)state;
	static const struct {
		void (*serve)(struct peer *peer);
		const char *words;
	} cases[] = {
		{say_and_leave, "the server closed the connection"},
		{say_and_shut, "the server closed the connection"},
		{say_and_reset, "the connection broke: Connection reset by peer"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct streaming streaming;
		char text[1];
		init_plain(&streaming);
		streaming.server.serve = cases[i].serve;
		connect_and_await(&streaming);
		assert_reads(&streaming, "* BYE\r\n");
		sem_post(&gate);
		assert_false(read_exactly(&streaming, text, 1, 1));
		assert_closed(&streaming, FAILURE_OFFLINE, cases[i].words);
		streaming_done(&streaming);
		while (sem_trywait(&gate) == 0) {
		}
	}
}

/* What the server said before it went is read although writing has failed before. */
static void test_last_words_are_read(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.server.serve = say_and_leave;
	connect_and_await(&streaming);
	/* The first write is answered by a reset, then writing fails. */
	while (stream_write(streaming.stream, span_of("NOOP\r\n")) > 0) {
		sched_yield();
	}
	assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
	assert_reads(&streaming, "* BYE\r\n");
	assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), -ENOTCONN);
	assert_closed(&streaming, FAILURE_OFFLINE, "the connection broke: ");
	streaming_done(&streaming);
}

/* An owner who is told only by being woken. */
static void test_broken_write_wakes(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.server.serve = NULL;
	connect_and_await(&streaming);
	ssize_t n;
	do {
		streaming.turning.is_woken = false;
		n = stream_write(streaming.stream, span_of("NOOP\r\n"));
		assert_true(n >= 0);
	} while (n > 0);
	turning_await(&streaming.turning);
	assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), -ENOTCONN);
	streaming_done(&streaming);
}

static void test_waiting_for_the_name_has_a_deadline(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.target.host = "hang.test";
	streaming.target.deadline_usec = 200 * USEC_PER_MSEC;
	connect_and_await(&streaming);
	assert_closed(&streaming, FAILURE_TIMEOUT, "hang.test was not found within 1 s");
	sem_post(&gate);
	streaming_done(&streaming);
}

static void test_name_is_not_found(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.target.host = "none.test";
	connect_and_await(&streaming);
	assert_closed(
		&streaming, FAILURE_OFFLINE, "none.test was not found: there is no such name");
	streaming_done(&streaming);
}

static void wait_before_hearing(struct peer *peer)
{
	sem_wait(&gate);
	peer_linger(peer);
}

/* A peer that does not read makes writing stop, and reading again makes it go on. */
static void test_peer_does_not_read(void **state)
{
	(void)state;
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct streaming streaming;
		if (is_tls) {
			streaming_init(&streaming);
		} else {
			init_plain(&streaming);
		}
		streaming.server.serve = wait_before_hearing;
		connect_and_await(&streaming);
		struct span rest = {.data = big, .len = BIG_SIZE};
		ssize_t n;
		while ((n = stream_write(streaming.stream, rest)) > 0) {
			rest.data += n;
			rest.len -= (size_t)n;
		}
		assert_int_equal(n, 0);
		assert_int_equal(stream_is_writing(streaming.stream), is_tls);
		assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
		while (stream_read(streaming.stream, (char[1]){0}, 1) > 0) {
		}
		streaming.turning.is_woken = false;
		sem_post(&gate);
		do {
			turning_await(&streaming.turning);
			n = stream_write(streaming.stream, rest);
		} while (n == 0);
		assert_true(n > 0);
		streaming_done(&streaming);
	}
}

static void wait_for_gate(struct peer *peer)
{
	(void)peer;
	sem_wait(&gate);
}

/* Neither the rest nor the peer's end come. */
static void test_closing_has_a_deadline(void **state)
{
	(void)state;
	for (int is_full = 0; is_full < 2; is_full++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.serve = wait_for_gate;
		connect_and_await(&streaming);
		struct span span = {.data = big, .len = BIG_SIZE};
		while (is_full && stream_write(streaming.stream, span) > 0) {
		}
		uint64_t start = clock_now_usec();
		stream_close(streaming.stream);
		assert_int_equal(stream_state(streaming.stream), STREAM_CLOSING);
		assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), 0);
		assert_int_equal(stream_write(streaming.stream, span), -ENOTCONN);
		await_closed(&streaming);
		assert_in_range(clock_now_usec() - start, USEC_PER_SEC, 2 * USEC_PER_SEC);
		assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
		sem_post(&gate);
		streaming_done(&streaming);
	}
}

static void swap_transfers(struct peer *peer)
{
	uint8_t *octets = malloc(BIG_SIZE);
	size_t n_read = 0;
	ssize_t n;
	while (n_read < BIG_SIZE && (n = peer_recv(peer, octets + n_read, BIG_SIZE - n_read)) > 0) {
		n_read += (size_t)n;
		/* Half is sent back while the rest is under way. */
		if (n_read > BIG_SIZE / 2 && peer->server->n_octets == 0) {
			peer->server->n_octets = BIG_SIZE / 2;
			peer_send(peer, octets, BIG_SIZE / 2);
		}
	}
	peer_send(peer, octets + BIG_SIZE / 2, BIG_SIZE - BIG_SIZE / 2);
	peer->server->result = memcmp(octets, big, BIG_SIZE) == 0;
	free(octets);
	peer_linger(peer);
}

static void test_big_transfers(void **state)
{
	(void)state;
	static const char *const priorities[] = {
		NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"};
	for (size_t i = 0; i < 3; i++) {
		struct streaming streaming;
		if (i == 0) {
			init_plain(&streaming);
		} else {
			streaming_init(&streaming);
			streaming.server.priorities = priorities[i];
		}
		streaming.server.serve = swap_transfers;
		connect_and_await(&streaming);
		assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
		swap(&streaming);
		streaming_done(&streaming);
		assert_int_equal(streaming.server.result, 1);
	}
}

static void on_pause(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ONE);
}

/* An owner that does not read what is there is not woken again and again. */
static void test_unread_octets_cost_nothing(void **state)
{
	(void)state;
	struct streaming streaming;
	init_plain(&streaming);
	streaming.server.serve = say_and_shut;
	connect_and_await(&streaming);
	while (stream_read(streaming.stream, (char[1]){0}, 1) == 0) {
		turning_await(&streaming.turning);
	}
	unsigned int n_before = ev_iteration(streaming.turning.loop);
	ev_timer pause;
	ev_timer_init(&pause, on_pause, 0.2, 0);
	ev_timer_start(streaming.turning.loop, &pause);
	ev_run(streaming.turning.loop, 0);
	assert_in_range(ev_iteration(streaming.turning.loop) - n_before, 0, 8);
	assert_reads(&streaming, " BYE\r\n");
	streaming_done(&streaming);
}

/* Deflated. */

#define FIRST_WORDS "* OK deflated\r\n"

/* Sends what a peer has deflated. */
static bool send_deflated(struct peer *peer, struct deflate *deflate)
{
	struct span output = deflate_output(deflate);
	bool is_sent = peer_send(peer, output.data, output.len);
	deflate_sent(deflate, output.len);
	return is_sent;
}

/* Repeats whatever comes, deflated both ways, until the client has gone. How much it was, or that
 * it was not deflated, is noted. The first words follow the answer to COMPRESS closely. */
static void echo_deflated(struct peer *peer)
{
	struct deflate *deflate = NULL;
	struct bytes first;
	uint8_t octets[4096];
	/* Small pieces need not wait for each other. */
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	peer->server->n_octets = 0;
	deflate_new((struct span){0}, &deflate);
	deflate_write(deflate, span_of(FIRST_WORDS));
	bytes_init(&first);
	bytes_put_str(&first, "a OK\r\n");
	bytes_put(&first, deflate_output(deflate).data, deflate_output(deflate).len);
	deflate_sent(deflate, deflate_output(deflate).len);
	bool is_on = peer_hear(peer) && peer_send(peer, bytes_span(&first).data, bytes_len(&first));
	bytes_done(&first);
	while (is_on) {
		ssize_t n = deflate_read(deflate, octets, sizeof(octets));
		if (n > 0) {
			peer->server->n_octets += (int)n;
			is_on = deflate_write(deflate,
					(struct span){.data = octets, .len = (size_t)n}) == 0 &&
				send_deflated(peer, deflate);
		} else if (n == 0) {
			n = peer_recv(peer, octets, sizeof(octets));
			is_on = n > 0;
			memcpy(deflate_input(deflate, sizeof(octets)), octets, n > 0 ? n : 0);
			deflate_received(deflate, n > 0 ? (size_t)n : 0);
		} else {
			peer->server->n_octets = -1;
			is_on = false;
		}
	}
	deflate_free(deflate);
}

static void init_deflated(
	struct streaming *streaming, bool is_tls, void (*serve)(struct peer *peer))
{
	if (is_tls) {
		streaming_init(streaming);
	} else {
		init_plain(streaming);
	}
	streaming->server.serve = serve;
	connect_and_await(streaming);
	assert_int_equal(stream_state(streaming->stream), STREAM_OPEN);
}

/* Asks for it and begins, with some octets that were read along with the answer. */
static void start_deflate(struct streaming *streaming, size_t n_first)
{
	char first[16];
	assert_int_equal(stream_write(streaming->stream, span_of("a COMPRESS DEFLATE\r\n")), 20);
	assert_reads(streaming, "a OK\r\n");
	assert_true(read_exactly(streaming, first, n_first, 1));
	struct span span = {.data = (const uint8_t *)first, .len = n_first};
	assert_int_equal(stream_start_deflate(streaming->stream, span), 0);
	memset(first, 0, sizeof(first));
	assert_int_equal(stream_start_deflate(streaming->stream, span), -EBUSY);
}

static void test_deflated(void **state)
{
	(void)state;
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct streaming streaming;
		init_deflated(&streaming, is_tls, echo_deflated);
		start_deflate(&streaming, is_tls ? 0 : 5);
		assert_reads(&streaming, FIRST_WORDS);
		assert_echoes(&streaming, "b NOOP\r\n");
		swap(&streaming);
		assert_false(stream_is_writing(streaming.stream));
		assert_int_equal(stream_is_secure(streaming.stream), is_tls);
		stream_close(streaming.stream);
		await_closed(&streaming);
		assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
		streaming_done(&streaming);
		assert_int_equal(streaming.server.n_octets, BIG_SIZE + 8);
	}
}

/* Much that was deflated already waits when the stream is closed. */
static void count_deflated_later(struct peer *peer)
{
	struct deflate *deflate = NULL;
	uint8_t octets[4096];
	ssize_t n = 1;
	peer->server->result = 1;
	peer->server->n_octets = 0;
	deflate_new((struct span){0}, &deflate);
	sem_wait(&gate);
	while (n > 0) {
		n = deflate_read(deflate, octets, sizeof(octets));
		if (n > 0) {
			peer->server->result &=
				memcmp(octets, big + peer->server->n_octets, (size_t)n) == 0;
			peer->server->n_octets += (int)n;
		} else if (n == 0) {
			n = peer_recv(peer, octets, sizeof(octets));
			memcpy(deflate_input(deflate, sizeof(octets)), octets, n > 0 ? n : 0);
			deflate_received(deflate, n > 0 ? (size_t)n : 0);
		}
	}
	/* The end of TLS is well-formed, too. */
	peer->server->result &= n == 0;
	deflate_free(deflate);
}

static void test_deflated_rest_is_sent(void **state)
{
	(void)state;
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct streaming streaming;
		init_deflated(&streaming, is_tls, count_deflated_later);
		assert_int_equal(stream_start_deflate(streaming.stream, (struct span){0}), 0);
		size_t n_taken = 0;
		ssize_t n;
		do {
			n = stream_write(streaming.stream,
				(struct span){.data = big + n_taken, .len = BIG_SIZE - n_taken});
			n_taken += (size_t)n;
		} while (n > 0);
		assert_int_equal(n, 0);
		assert_true(stream_is_writing(streaming.stream));
		stream_close(streaming.stream);
		assert_int_equal(stream_state(streaming.stream), STREAM_CLOSING);
		sem_post(&gate);
		await_closed(&streaming);
		assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
		streaming_done(&streaming);
		assert_int_equal(streaming.server.n_octets, n_taken);
		assert_int_equal(streaming.server.result, 1);
	}
}

static void say_plainly(struct peer *peer)
{
	peer_say(peer, "* BYE not deflated\r\n* BYE\r\n");
	peer_linger(peer);
}

static void test_what_is_not_deflated(void **state)
{
	(void)state;
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct streaming streaming;
		char text[64];
		init_deflated(&streaming, is_tls, say_plainly);
		assert_int_equal(stream_start_deflate(streaming.stream, (struct span){0}), 0);
		assert_false(read_exactly(&streaming, text, sizeof(text), sizeof(text)));
		assert_closed(&streaming, FAILURE_PROTOCOL_ERROR, "what came is not deflated");
		assert_int_equal(stream_start_deflate(streaming.stream, (struct span){0}), -EBUSY);
		streaming_done(&streaming);
	}
}

/* Blocks without anything in them, until the client has gone. */
static void say_nothing_for_ever(struct peer *peer)
{
	static const uint8_t empty[] = {0x00, 0x00, 0x00, 0xff, 0xff};
	uint8_t octets[sizeof(empty) * 3200];
	for (size_t i = 0; i < sizeof(octets); i++) {
		octets[i] = empty[i % sizeof(empty)];
	}
	while (peer_send(peer, octets, sizeof(octets))) {
	}
}

/* The owner has its turn again and again. */
static void test_deflated_nothing_for_ever(void **state)
{
	(void)state;
	for (int is_tls = 0; is_tls < 2; is_tls++) {
		struct streaming streaming;
		init_deflated(&streaming, is_tls, say_nothing_for_ever);
		assert_int_equal(stream_start_deflate(streaming.stream, (struct span){0}), 0);
		for (int i = 0; i < 100; i++) {
			turning_await(&streaming.turning);
			assert_int_equal(stream_read(streaming.stream, (char[1]){0}, 1), 0);
		}
		streaming_done(&streaming);
	}
}

/* Whatever becomes of it, and whenever it is freed. */
static void test_nothing_leaks(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	server_start(&streaming.server);
	uint16_t refusing = 0;
	close(server_listen(AF_INET, 1, &refusing));
	unsigned int n_before = 0;
	for (int i = 0; i < 210; i++) {
		if (i == 10) {
			/* Whatever is opened once for all is open by now. */
			n_before = turning_count_descriptors();
		}
		streaming.target.tls = i % 3 != 0;
		streaming.target.port = i % 7 == 0 ? refusing : streaming.server.port;
		streaming.target.trust.ca_file = i % 5 == 0 ? NULL : ca_file;
		streaming.target.proxy_command = i % 11 == 0 ? "cat" : NULL;
		streaming.target.host = i % 13 == 0 ? "none.test" : "127.0.0.1";
		assert_int_equal(stream_new(streaming.turning.turn, &streaming.turning.owner,
					 &streaming.target, &streaming.stream),
			0);
		for (int n_turns = i % 8; n_turns > 0; n_turns--) {
			ev_run(streaming.turning.loop, EVRUN_NOWAIT);
		}
		if (i % 8 == 7) {
			stream_close(streaming.stream);
		} else if (i % 2 == 0 && !streaming.target.proxy_command) {
			await_settled(&streaming);
		}
		streaming.stream = stream_free(streaming.stream);
	}
	assert_null(stream_free(NULL));
	/* The server's end of the last one. */
	server_stop(&streaming.server);
	assert_in_range(turning_count_descriptors(), 0, n_before);
	turning_done(&streaming.turning);
}

static int setup(void **state)
{
	(void)state;
	return big_make() == 0 && sem_init(&gate, 0, 0) == 0 ? certificates_make() : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(big);
	ticket_clear();
	return certificates_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_names_of_states),
		cmocka_unit_test(test_plain_only_to_loopback),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_last_words_are_read),
		cmocka_unit_test(test_broken_write_wakes),
		cmocka_unit_test(test_waiting_for_the_name_has_a_deadline),
		cmocka_unit_test(test_name_is_not_found),
		cmocka_unit_test(test_peer_does_not_read),
		cmocka_unit_test(test_closing_has_a_deadline),
		cmocka_unit_test(test_big_transfers),
		cmocka_unit_test(test_unread_octets_cost_nothing),
		cmocka_unit_test(test_deflated),
		cmocka_unit_test(test_deflated_rest_is_sent),
		cmocka_unit_test(test_what_is_not_deflated),
		cmocka_unit_test(test_deflated_nothing_for_ever),
		cmocka_unit_test(test_nothing_leaks),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
