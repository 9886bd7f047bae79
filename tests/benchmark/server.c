/* The IMAP server of the benchmark: scripted, with TLS, one thread, and never the bottleneck.
 *
 *     bench-server --port N --chain FILE --key FILE [--round-trip MSEC] [--messages N]
 *                  [--mailboxes N] [--notify] [--compress]
 *
 * listens on 127.0.0.1. --round-trip simulates a network (wire.h says how). --mailboxes: of each
 * user (boxes.h); --messages: in each of them at first. --notify, --compress: with NOTIFY, with
 * COMPRESS=DEFLATE.
 *
 * Lines on standard input are orders: "deliver USER MAILBOX N", the mailbox by its number; "drop"
 * closes every connection at once.
 * Standard output tells what happened (note.h). It ends with its input.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "dialogue.h"
#include "moment.h"
#include "note.h"
#include "util/bytes.h"

#define CAPABILITIES \
	"IMAP4rev1 SASL-IR AUTH=PLAIN ID ENABLE NAMESPACE IDLE UIDPLUS " \
	"ESEARCH CONDSTORE QRESYNC"

/* Notes are written after so much silence, or when there are so many octets of them. */
#define NOTES_MSEC 1
#define NOTES_MAX  (64 * 1024)

struct options {
	uint16_t port;
	const char *chain;
	const char *key;
	uint64_t round_trip_nsec;
	bool has_notify;
	bool has_compress;
	unsigned int n_boxes;
	uint32_t n_messages;
};

static struct house house;
static struct bytes orders;
static int listener, timer;

static void usage(void)
{
	fprintf(stderr,
		"usage: bench-server --port N --chain FILE --key FILE [--round-trip MSEC] "
		"[--messages N] [--mailboxes N] [--notify] [--compress]\n");
	exit(2);
}

static struct options parse(int argc, char **argv)
{
	static const struct option names[] = {{"port", required_argument, NULL, 'p'},
		{"chain", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'},
		{"round-trip", required_argument, NULL, 'r'},
		{"messages", required_argument, NULL, 'm'},
		{"mailboxes", required_argument, NULL, 'b'}, {"notify", no_argument, NULL, 'n'},
		{"compress", no_argument, NULL, 'z'}, {0}};
	struct options options = {.n_messages = 1, .n_boxes = 1};
	int option;
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'p':
			options.port = (uint16_t)atoi(optarg);
			break;
		case 'c':
			options.chain = optarg;
			break;
		case 'k':
			options.key = optarg;
			break;
		case 'r':
			options.round_trip_nsec = (uint64_t)(atof(optarg) * (double)NSEC_PER_MSEC);
			break;
		case 'm':
			options.n_messages = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.has_notify = true;
			break;
		case 'b':
			options.n_boxes = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'z':
			options.has_compress = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || !options.port || !options.chain || !options.key ||
		options.n_boxes == 0) {
		usage();
	}
	return options;
}

static void start_listening(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(listener, SOMAXCONN) < 0) {
		fail("listen");
	}
}

static void watch(int poll, int fd, void *mark)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
	if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) {
		fail("epoll");
	}
}

static void accept_all(void)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		dialogue_new(&house, fd);
	}
	if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
		fail("accept");
	}
}

static void obey(char *order)
{
	char name[64];
	unsigned int number, n;
	if (sscanf(order, "deliver %63s %u %u", name, &number, &n) == 3) {
		deliver(&house, name, number, n);
	} else if (strcmp(order, "drop") == 0) {
		LIST_FOR_EACH_SAFE (node, &house.dialogues) {
			dialogue_free(list_entry(node, struct dialogue, node));
		}
	} else {
		fprintf(stderr, "bench-server: no such order: %s\n", order);
		exit(2);
	}
}

/* False at the end of the input. */
static bool take_orders(void)
{
	char *place = bytes_reserve(&orders, 4096);
	ssize_t n = place ? read(STDIN_FILENO, place, 4096) : -1;
	if (n <= 0) {
		return false;
	}
	bytes_commit(&orders, (size_t)n);
	for (;;) {
		struct span span = bytes_span(&orders);
		char *end = span.len > 0 ? memchr(span.data, '\n', span.len) : NULL;
		if (!end) {
			return true;
		}
		*end = '\0';
		obey((char *)span.data);
		bytes_consume(&orders, (size_t)(end + 1 - (char *)span.data));
	}
}

static void arm_timer(void)
{
	static uint64_t armed = NSEC_NEVER;
	uint64_t due = network_due(&house.network);
	struct itimerspec spec = {0};
	if (due == armed) {
		return;
	}
	armed = due;
	if (due != NSEC_NEVER) {
		spec.it_value.tv_sec = (time_t)(due / NSEC_PER_SEC);
		spec.it_value.tv_nsec = (long)(due % NSEC_PER_SEC);
	}
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void run(int poll)
{
	struct epoll_event events[64];
	for (;;) {
		arm_timer();
		if (notes_len() > NOTES_MAX) {
			notes_write();
		}
		int n = epoll_wait(poll, events, 64, notes_len() > 0 ? NOTES_MSEC : -1);
		bool has_orders = false;
		if (n == 0) {
			notes_write();
		}
		for (int i = 0; i < n; i++) {
			void *mark = events[i].data.ptr;
			if (mark == &orders) {
				has_orders = true;
			} else if (mark == &listener) {
				accept_all();
			} else if (mark != &timer) {
				wire_on_socket(mark, events[i].events);
			}
		}
		network_release(&house.network, now_nsec());
		struct wire *wire;
		while ((wire = network_next_ready(&house.network))) {
			dialogue_turn(list_entry(wire, struct dialogue, wire));
		}
		/* Last, for it may free what the events speak of. */
		if (has_orders && !take_orders()) {
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	struct rlimit limit;
	char capabilities[256];
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	snprintf(capabilities, sizeof(capabilities), CAPABILITIES "%s%s",
		options.has_notify ? " NOTIFY" : "",
		options.has_compress ? " COMPRESS=DEFLATE" : "");
	int poll = epoll_create1(EPOLL_CLOEXEC);
	house.capabilities = capabilities;
	house.users.n_boxes = options.n_boxes;
	house.users.n_messages = options.n_messages;
	list_init(&house.users.list);
	list_init(&house.dialogues);
	network_init(&house.network, poll, options.round_trip_nsec, options.chain, options.key);
	start_listening(options.port);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch(poll, listener, &listener);
	watch(poll, timer, &timer);
	watch(poll, STDIN_FILENO, &orders);
	note(now_nsec(), 0, "listening", "%u", options.port);
	run(poll);
	notes_write();
	return 0;
}
