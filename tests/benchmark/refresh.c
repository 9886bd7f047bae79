/* How long it takes from a Refresh call to DONE on the wire, and to the reply.
 *
 * The program is both ends: the caller on the bus, and an IMAP server that says no more than is
 * needed. The time to DONE therefore holds everything: the caller's sd-bus, the bus daemon,
 * mailidled, and the socket. Usage: bench-refresh PORT N (the session bus is that of the
 * environment; mailidled has an account "bench" on PORT of 127.0.0.1, plain, with INBOX). Prints
 * one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t done_nsec; /* when DONE came last */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t is_idling = PTHREAD_COND_INITIALIZER;
static unsigned int n_idles;

static uint64_t now_nsec(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench-refresh: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void say(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0) {
		fail("write");
	}
}

/* Answers one command line. */
static void answer(int fd, char *line, char *idle_tag)
{
	char out[512];
	char *command = strchr(line, ' ');
	if (strcmp(line, "DONE") == 0) {
		snprintf(out, sizeof(out), "%s OK done\r\n", idle_tag);
		say(fd, out);
		return;
	}
	if (!command) {
		return;
	}
	*command++ = '\0';
	if (strncmp(command, "IDLE", 4) == 0) {
		snprintf(idle_tag, 32, "%.31s", line);
		say(fd, "+ idling\r\n");
		pthread_mutex_lock(&mutex);
		n_idles++;
		pthread_cond_signal(&is_idling);
		pthread_mutex_unlock(&mutex);
		return;
	}
	const char *data = "";
	if (strcmp(command, "CAPABILITY") == 0) {
		data = "* CAPABILITY IMAP4rev1 IDLE UIDPLUS ESEARCH CONDSTORE\r\n";
	} else if (strncmp(command, "EXAMINE", 7) == 0) {
		data = "* 1 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 2] x\r\n"
		       "* OK [HIGHESTMODSEQ 5] x\r\n";
	} else if (strstr(command, "SEARCH") && strstr(command, "UNSEEN")) {
		data = "* ESEARCH UID\r\n";
	} else if (strstr(command, "SEARCH")) {
		data = "* ESEARCH UID ALL 1\r\n";
	}
	snprintf(out, sizeof(out), "%s%.31s OK x\r\n", data, line);
	say(fd, out);
}

static void serve(int fd)
{
	char buffer[8192], idle_tag[32] = "";
	size_t len = 0;
	say(fd,
		"* OK [CAPABILITY IMAP4rev1 SASL-IR IDLE AUTH=PLAIN UIDPLUS ESEARCH CONDSTORE] "
		"x\r\n");
	for (;;) {
		ssize_t n = read(fd, buffer + len, sizeof(buffer) - len - 1);
		if (n <= 0) {
			return;
		}
		uint64_t now = now_nsec();
		len += (size_t)n;
		buffer[len] = '\0';
		char *line = buffer, *end;
		while ((end = strstr(line, "\r\n"))) {
			*end = '\0';
			if (strcmp(line, "DONE") == 0) {
				done_nsec = now;
			}
			answer(fd, line, idle_tag);
			line = end + 2;
		}
		len = (size_t)(buffer + len - line);
		memmove(buffer, line, len);
	}
}

static void *run_server(void *arg)
{
	int listener = *(int *)arg, one = 1;
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0) {
			return NULL;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve(fd);
		close(fd);
	}
}

static int listen_on(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 5) < 0) {
		fail("listen");
	}
	return fd;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void print(const char *name, uint64_t *times, size_t n)
{
	qsort(times, n, sizeof(*times), compare);
	printf("\"%s\": {\"min\": %.1f, \"median\": %.1f, \"p99\": %.1f, \"max\": %.1f}", name,
		times[0] / 1e3, times[n / 2] / 1e3, times[n * 99 / 100] / 1e3, times[n - 1] / 1e3);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s PORT N\n", argv[0]);
		return 2;
	}
	size_t n = strtoul(argv[2], NULL, 10);
	uint64_t *to_done = calloc(n + 1, sizeof(*to_done));
	uint64_t *to_reply = calloc(n + 1, sizeof(*to_reply));
	int listener = listen_on(argv[1]);
	pthread_t thread;
	sd_bus *bus = NULL;
	if (n == 0 || !to_done || !to_reply ||
		pthread_create(&thread, NULL, run_server, &listener) ||
		sd_bus_open_user(&bus) < 0) {
		fail("setting up");
	}
	/* Whatever goes wrong at the other end, this ends. */
	alarm(120);
	printf("listening\n");
	fflush(stdout);
	unsigned int seen = 0;
	for (size_t i = 0; i < n; i++) {
		/* It idles again before it is interrupted again. */
		pthread_mutex_lock(&mutex);
		while (n_idles == seen) {
			pthread_cond_wait(&is_idling, &mutex);
		}
		seen = n_idles;
		pthread_mutex_unlock(&mutex);
		usleep(500);
		sd_bus_error error = SD_BUS_ERROR_NULL;
		uint64_t began = now_nsec();
		int r = sd_bus_call_method(bus, "org.example.MailIdle", "/org/example/MailIdle",
			"org.example.MailIdle", "Refresh", &error, NULL, "ss", "bench", "INBOX");
		to_reply[i] = now_nsec() - began;
		if (r < 0) {
			fprintf(stderr, "bench-refresh: Refresh: %s\n", error.message);
			return 1;
		}
		to_done[i] = done_nsec - began;
	}
	printf("{\"unit\": \"µs\", \"n\": %zu, ", n);
	print("done", to_done, n);
	printf(", ");
	print("reply", to_reply, n);
	printf("}\n");
	sd_bus_unref(bus);
	return 0;
}
