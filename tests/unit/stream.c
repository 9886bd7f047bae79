/* Streams: plain ones, those through a command, transfers of both kinds, and their ends.
 */
#include "net/stream.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "net/proxy.h"
#include "net/ticket.h"
#include "streaming.h"

#define BIG_SIZE (10 * 1024 * 1024)

static uint8_t *big;

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

static void init_plain(struct streaming *streaming)
{
	streaming_init(streaming);
	streaming->server.tls_at_once = false;
	streaming->server.chain = NULL;
	streaming->target.tls = false;
	streaming->target.host = "127.0.0.1";
}

static void await_closed(struct streaming *streaming)
{
	while (stream_state(streaming->stream) != STREAM_CLOSED) {
		turning_await(&streaming->turning);
	}
}

static void assert_reads(struct streaming *streaming, const char *text)
{
	char answer[256] = "";
	assert_true(read_exactly(streaming, answer, strlen(text), sizeof(answer)));
	assert_string_equal(answer, text);
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
	assert_true(stream_is_loopback(streaming.stream));
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

/* As an owner does it that wants to write and to read, with reads of odd sizes. */
static void swap(struct streaming *streaming)
{
	uint8_t *answer = malloc(BIG_SIZE);
	size_t n_written = 0;
	size_t n_read = 0;
	size_t step = 1;
	while (n_read < BIG_SIZE) {
		streaming->turning.is_woken = false;
		ssize_t n = stream_write(streaming->stream,
			(struct span){.data = big + n_written, .len = BIG_SIZE - n_written});
		assert_true(n >= 0);
		n_written += (size_t)n;
		do {
			size_t room = BIG_SIZE - n_read;
			step = step * 7 % 20011 + 1;
			n = stream_read(
				streaming->stream, answer + n_read, room < step ? room : step);
			assert_true(n >= 0);
			n_read += (size_t)n;
		} while (n > 0 && n_read < BIG_SIZE);
		if (n_read < BIG_SIZE) {
			turning_await(&streaming->turning);
		}
	}
	assert_int_equal(n_written, BIG_SIZE);
	assert_memory_equal(answer, big, BIG_SIZE);
	free(answer);
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

/* Commands. */

static void init_proxy(struct streaming *streaming, const char *command)
{
	init_plain(streaming);
	streaming->target.host = "imap.test";
	streaming->target.port = 143;
	streaming->target.proxy_command = command;
	assert_int_equal(stream_new(streaming->turning.turn, &streaming->turning.owner,
				 &streaming->target, &streaming->stream),
		0);
}

static void proxy_done(struct streaming *streaming)
{
	stream_free(streaming->stream);
	turning_done(&streaming->turning);
}

static void test_proxy_command(void **state)
{
	(void)state;
	struct streaming streaming;
	init_proxy(&streaming, "echo '%h' %p 100%% %x; exec cat");
	await_settled(&streaming);
	assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
	assert_string_equal(stream_peer(streaming.stream), "proxy");
	assert_false(stream_is_loopback(streaming.stream));
	assert_reads(&streaming, "imap.test 143 100% %x\n");
	assert_echoes(&streaming, "through cat\r\n");
	stream_close(streaming.stream);
	await_closed(&streaming);
	assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
	proxy_done(&streaming);
}

static void test_proxy_command_tells_its_end(void **state)
{
	(void)state;
	static const struct {
		const char *command;
		const char *words;
	} cases[] = {
		{"exit 3", "the proxy-command exited with 3"},
		{"exec /nonexistent/program 2>&-", "the proxy-command exited with 127"},
		{"kill -9 $$", "the proxy-command was killed by signal 9"},
		{"exec <&- >&-; sleep 100", "the proxy-command closed the connection"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct streaming streaming;
		char text[1];
		init_proxy(&streaming, cases[i].command);
		assert_false(read_exactly(&streaming, text, 1, 1));
		assert_closed(&streaming, FAILURE_OFFLINE, cases[i].words);
		proxy_done(&streaming);
	}
}

static void test_proxy_command_environment(void **state)
{
	(void)state;
	struct streaming streaming;
	char text[128];
	setenv("NOTIFY_SOCKET", "bad", 1);
	setenv("WATCHDOG_USEC", "bad", 1);
	setenv("LISTEN_FDS", "bad", 1);
	setenv("CREDENTIALS_DIRECTORY", "bad", 1);
	setenv("MAILIDLE_X", "bad", 1);
	setenv("PROXY_TEST", "kept", 1);
	signal(SIGPIPE, SIG_IGN);
	sigset_t set;
	sigset_t before;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	init_proxy(&streaming,
		"echo $NOTIFY_SOCKET$WATCHDOG_USEC$LISTEN_FDS$CREDENTIALS_DIRECTORY$MAILIDLE_X;"
		"echo $PROXY_TEST; ls /proc/self/fd | wc -l;"
		"sed -n 's/^SigBlk:\t//p' /proc/self/status;"
		"echo $((0x$(sed -n 's/^SigIgn:\t//p' /proc/self/status) & 0x1000));"
		"[ $(cut -d ' ' -f 5 /proc/$$/stat) = $$ ] && echo group");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* Of ls, three and the folder that it reads; nothing is blocked, nor SIGPIPE ignored. */
	static const char expected[] = "\nkept\n4\n0000000000000000\n0\ngroup\n";
	memset(text, 0, sizeof(text));
	assert_true(read_exactly(&streaming, text, strlen(expected), sizeof(text)));
	assert_string_equal(text, expected);
	proxy_done(&streaming);
}

static void test_proxy_command_is_killed_as_a_group(void **state)
{
	(void)state;
	struct streaming streaming;
	/* What the shell leaves behind becomes our child, to be seen. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	init_proxy(&streaming, "sleep 1000 & sleep 1000 & echo ready; wait");
	assert_reads(&streaming, "ready\n");
	proxy_done(&streaming);
	for (int i = 0; i < 2; i++) {
		int status = 0;
		assert_true(waitpid(-1, &status, 0) > 0);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	assert_int_equal(waitpid(-1, NULL, 0), -1);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void test_proxy_command_and_hosts(void **state)
{
	(void)state;
	static const char *const bads[] = {
		"", "-oProxyCommand=x", "a b", "a;b", "a$b", "a`b", "a\nb", "a'b", "a/b", "ä"};
	static const char *const goods[] = {
		"imap.example.org", "::1", "fe80::1%eth0", "a_b-c", "A1"};
	char *expanded = NULL;
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		assert_int_equal(proxy_expand("%h", bads[i], 1, &expanded), -EINVAL);
	}
	for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
		assert_int_equal(proxy_expand("%h", goods[i], 1, &expanded), 0);
		assert_string_equal(expanded, goods[i]);
		free(expanded);
	}
	assert_int_equal(proxy_expand("%%h %h:%p%", "a", 65535, &expanded), 0);
	assert_string_equal(expanded, "%h a:65535%");
	free(expanded);

	struct streaming streaming;
	init_plain(&streaming);
	streaming.target.host = "a;b";
	streaming.target.proxy_command = "cat";
	dial(&streaming);
	assert_closed(&streaming, FAILURE_CONFIG_INVALID, "a;b cannot be given to proxy-command");
	proxy_done(&streaming);
}

/* The test's own program carries octets, so that no other has to be there. */
static int relay(const char *host, const char *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	inet_pton(AF_INET, host, &address.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		return 2;
	}
	pid_t pid = fork();
	int from = pid == 0 ? fd : STDIN_FILENO;
	int to = pid == 0 ? STDOUT_FILENO : fd;
	char octets[4096];
	ssize_t n;
	while ((n = read(from, octets, sizeof(octets))) > 0 && write(to, octets, (size_t)n) == n) {
	}
	shutdown(to, SHUT_WR);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
	}
	return 0;
}

static void test_tls_through_proxy_command(void **state)
{
	(void)state;
	struct streaming streaming;
	char command[64];
	streaming_init(&streaming);
	snprintf(command, sizeof(command), "exec /proc/%d/exe --relay %%h %%p", getpid());
	streaming.target.proxy_command = command;
	streaming.target.host = "127.0.0.1";
	connect_and_await(&streaming);
	assert_open(&streaming);
	assert_echoes(&streaming, "in a tunnel\r\n");
	stream_close(streaming.stream);
	await_closed(&streaming);
	assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
	streaming_done(&streaming);
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
	big = malloc(BIG_SIZE);
	if (!big || sem_init(&gate, 0, 0) < 0) {
		return -1;
	}
	uint32_t chance = 1;
	for (size_t i = 0; i < BIG_SIZE; i++) {
		chance = chance * 1664525 + 1013904223;
		big[i] = (uint8_t)(chance >> 24);
	}
	return certificates_make();
}

static int teardown(void **state)
{
	(void)state;
	free(big);
	ticket_clear();
	return certificates_remove();
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--relay") == 0) {
		return relay(argv[2], argv[3]);
	}
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
		cmocka_unit_test(test_proxy_command),
		cmocka_unit_test(test_proxy_command_tells_its_end),
		cmocka_unit_test(test_proxy_command_environment),
		cmocka_unit_test(test_proxy_command_is_killed_as_a_group),
		cmocka_unit_test(test_proxy_command_and_hosts),
		cmocka_unit_test(test_tls_through_proxy_command),
		cmocka_unit_test(test_nothing_leaks),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
