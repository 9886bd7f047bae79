/* Streams through a command.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "net/proxy.h"
#include "net/ticket.h"
#include "streaming.h"

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
	/* Of ls, three and the folder that it reads; nothing is blocked, nor SIGPIPE ignored. */
	static const char expected[] = "\nkept\n4\n0000000000000000\n0\ngroup\n";
	memset(text, 0, sizeof(text));
	assert_true(read_exactly(&streaming, text, strlen(expected), sizeof(text)));
	assert_string_equal(text, expected);
	proxy_done(&streaming);
}

static void test_proxy_command_has_pipes(void **state)
{
	(void)state;
	struct streaming streaming;
	/* That do not return EAGAIN to it, nor wait for us. */
	init_proxy(&streaming,
		"test -p /dev/stdin && test -p /dev/stdout && echo pipes;"
		"for fd in 0 1; do"
		" echo $((0$(sed -n 's/^flags:\t//p' /proc/$$/fdinfo/$fd) & 04000));"
		"done");
	assert_reads(&streaming, "pipes\n0\n0\n");
	proxy_done(&streaming);
}

static void test_big_transfers_through_proxy_command(void **state)
{
	(void)state;
	struct streaming streaming;
	init_proxy(&streaming, "exec cat");
	swap(&streaming);
	proxy_done(&streaming);
}

/* Closing lets the command read all that was written, and then its end. */
static void test_proxy_command_gets_the_rest(void **state)
{
	(void)state;
	struct streaming streaming;
	char command[1024];
	char path[512];
	/* The shell keeps the output open until all is kept. */
	snprintf(command, sizeof(command), "cat >'%s'; exit 0", peer_path("rest", path));
	init_proxy(&streaming, command);
	struct span rest = {.data = big, .len = BIG_SIZE};
	ssize_t n;
	while ((n = stream_write(streaming.stream, rest)) > 0) {
		rest.data += n;
		rest.len -= (size_t)n;
	}
	uint64_t start = clock_now_usec();
	stream_close(streaming.stream);
	await_closed(&streaming);
	/* Sooner than the deadline of closing. */
	assert_in_range(clock_now_usec() - start, 0, USEC_PER_SEC);
	assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	size_t len = BIG_SIZE - rest.len;
	assert_in_range(len, 4096, BIG_SIZE);
	uint8_t *kept = malloc(len + 1);
	assert_int_equal(fread(kept, 1, len + 1, file), len);
	assert_memory_equal(kept, big, len);
	free(kept);
	fclose(file);
	remove(path);
	proxy_done(&streaming);
}

/* The command reads no more, which the owner learns by writing. */
static void test_proxy_command_reads_no_more(void **state)
{
	(void)state;
	struct streaming streaming;
	init_proxy(&streaming, "echo last words; exec <&-; exec sleep 1000");
	while (stream_write(streaming.stream, span_of("NOOP\r\n")) > 0) {
		sched_yield();
	}
	assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
	assert_reads(&streaming, "last words\n");
	assert_false(read_exactly(&streaming, (char[1]){0}, 1, 1));
	assert_closed(&streaming, FAILURE_OFFLINE, "the proxy-command closed the connection");
	proxy_done(&streaming);
}

/* The same while the owner waits for room, plain and deflated. */
static void test_proxy_command_reads_no_more_later(void **state)
{
	(void)state;
	for (int is_deflated = 0; is_deflated < 2; is_deflated++) {
		struct streaming streaming;
		struct span span = {.data = big, .len = BIG_SIZE};
		char command[1024];
		char path[512];
		assert_int_equal(mkfifo(peer_path("gate", path), 0600), 0);
		snprintf(command, sizeof(command), ": <'%s'; exec <&-; exec sleep 1000", path);
		init_proxy(&streaming, command);
		if (is_deflated) {
			assert_int_equal(
				stream_start_deflate(streaming.stream, (struct span){0}), 0);
		}
		while (stream_write(streaming.stream, span) > 0) {
		}
		assert_int_equal(stream_is_writing(streaming.stream), is_deflated);
		close(open(path, O_WRONLY));
		remove(path);
		while (stream_read(streaming.stream, (char[1]){0}, 1) == 0) {
			turning_await(&streaming.turning);
			if (!stream_is_writing(streaming.stream)) {
				stream_write(streaming.stream, span);
			}
		}
		assert_closed(
			&streaming, FAILURE_OFFLINE, "the proxy-command closed the connection");
		proxy_done(&streaming);
	}
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
	close(pid == 0 ? STDIN_FILENO : STDOUT_FILENO);
	char octets[4096];
	ssize_t n;
	while ((n = read(from, octets, sizeof(octets))) > 0 && write(to, octets, (size_t)n) == n) {
	}
	if (pid > 0) {
		shutdown(fd, SHUT_WR);
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

static int setup(void **state)
{
	(void)state;
	return big_make() == 0 ? certificates_make() : -1;
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
		cmocka_unit_test(test_proxy_command),
		cmocka_unit_test(test_proxy_command_tells_its_end),
		cmocka_unit_test(test_proxy_command_environment),
		cmocka_unit_test(test_proxy_command_has_pipes),
		cmocka_unit_test(test_big_transfers_through_proxy_command),
		cmocka_unit_test(test_proxy_command_gets_the_rest),
		cmocka_unit_test(test_proxy_command_reads_no_more),
		cmocka_unit_test(test_proxy_command_reads_no_more_later),
		cmocka_unit_test(test_proxy_command_is_killed_as_a_group),
		cmocka_unit_test(test_proxy_command_and_hosts),
		cmocka_unit_test(test_tls_through_proxy_command),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
