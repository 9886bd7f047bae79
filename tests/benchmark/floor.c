/* The floor: the smallest client imaginable that does on the wire what mailidled does, with GnuTLS,
 * epoll and nothing else; no state, no parser worth the name. What it takes is what the network,
 * TLS and the server take. Built with FLOOR_HAS_BUS it speaks sd-bus as well (floor_bus.h), and
 * what it takes is what the bus takes, too.
 *
 *     bench-floor --port N --ca FILE [--sessions N] [--at-once N] [--notify]
 *     bench-floor-on-bus ... [--prepared N]
 *
 * Each session is of another user (user1, user2, ...): TLS, the greeting, AUTHENTICATE, and when
 * that is answered EXAMINE, a look for news and IDLE in one write; where TLS was resumed, all of it
 * behind the greeting in one write, for then it is known what the server can do. News cost DONE,
 * NOOP, UID FETCH and IDLE in one write, or nothing with NOTIFY. It knows that the server's UIDs
 * are its message numbers. At most so many sessions at once are on their way to being logged in; a
 * session that ends is opened again, with a ticket of TLS if there is one.
 *
 * Chain and name of the server's certificate are verified in every full handshake. One that a
 * ticket makes short is believed: the ticket is of a session that was verified, and only its server
 * can use it. Credentials and priorities are shared by all sessions.
 *
 * --prepared: so many messages for Fetch on the bus. It is session 1 that is there.
 *
 * A line on standard input is an order to session 1: "fetch LAST BLOCK" drains the envelopes of
 * messages 1 to LAST, asked for in blocks and in one write. Lines on standard output:
 *
 *     NS idle N              N sessions have reached IDLE by now
 *     NS newmail SESSION N   what is known of N messages is there; the signal comes afterwards
 *     NS fetched BEGAN OCTETS
 *
 * NS and BEGAN are nanoseconds of CLOCK_MONOTONIC. It ends with its input.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "floor_bus.h"
#include "moment.h"

#define ITEMS       "(UID MODSEQ FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"
#define TICKETS_MAX 64
#define LINE_KEPT   64

enum floor_state {
	FLOOR_CONNECTING,
	FLOOR_HANDSHAKE,
	FLOOR_GREETING,
	FLOOR_LOGIN,  /* nothing is said before it is answered */
	FLOOR_FLIGHT, /* up to the "+" of IDLE */
	FLOOR_IDLE,
};

struct session {
	gnutls_session_t tls;
	int fd;
	unsigned int number;
	enum floor_state state;
	bool is_logged_in;
	uint32_t n_known, n_exists;
	unsigned int n_left; /* FETCH commands of an order that are to be answered */
	unsigned int len;    /* of the line so far; what is longer is cut */
	char line[LINE_KEPT];
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static const char *ca;
static const char *flight = "e EXAMINE INBOX\r\nf UID FETCH 4294967295 (UID FLAGS)\r\ni IDLE\r\n";
static bool has_notify;
static unsigned int n_sessions = 1, n_at_once = 8;
static uint32_t n_prepared;
static unsigned int n_busy, n_idle;
static struct session *sessions;
static unsigned int *closed; /* sessions to be opened, a ring of n_sessions */
static unsigned int first_closed, n_closed;
static int epoll;
static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priorities;
static gnutls_datum_t tickets[TICKETS_MAX];
static unsigned int n_tickets;
static uint64_t began, n_octets; /* of the order that is carried out */

static void check(int r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "bench-floor: %s: %s\n", what, gnutls_strerror(r));
		exit(1);
	}
}

static void say(struct session *session, const char *text, size_t len)
{
	ssize_t n = gnutls_record_send(session->tls, text, len);
	check((int)n, "send");
}

static void watch(int op, struct session *session, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = session};
	if (epoll_ctl(epoll, op, session->fd, &event) < 0) {
		fail("epoll");
	}
}

/* Opening */

static void open_session(struct session *session)
{
	int one = 1;
	unsigned int number = session->number;
	*session = (struct session){.number = number};
	session->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(session->fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
		errno != EINPROGRESS) {
		fail("connect");
	}
	check(gnutls_init(&session->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL),
		"session");
	check(gnutls_priority_set(session->tls, priorities), "priorities");
	check(gnutls_credentials_set(session->tls, GNUTLS_CRD_CERTIFICATE, credentials),
		"credentials");
	check(gnutls_server_name_set(session->tls, GNUTLS_NAME_DNS, "localhost", 9), "name");
	gnutls_session_set_verify_cert(session->tls, "localhost", 0);
	gnutls_transport_set_int(session->tls, session->fd);
	if (n_tickets > 0) {
		gnutls_datum_t *ticket = &tickets[--n_tickets];
		gnutls_session_set_data(session->tls, ticket->data, ticket->size);
		gnutls_free(ticket->data);
	}
	n_busy++;
	watch(EPOLL_CTL_ADD, session, EPOLLOUT);
}

static void open_more(void)
{
	while (n_closed > 0 && n_busy < n_at_once) {
		open_session(&sessions[closed[first_closed]]);
		first_closed = (first_closed + 1) % n_sessions;
		n_closed--;
	}
}

static void close_session(struct session *session)
{
	n_busy -= !session->is_logged_in;
	n_idle -= session->state == FLOOR_IDLE;
	gnutls_deinit(session->tls);
	close(session->fd);
	closed[(first_closed + n_closed++) % n_sessions] = session->number - 1;
	open_more();
}

static void keep_ticket(struct session *session)
{
	if (n_tickets < TICKETS_MAX &&
		gnutls_session_get_flags(session->tls) & GNUTLS_SFLAGS_SESSION_TICKET &&
		gnutls_session_get_data2(session->tls, &tickets[n_tickets]) == 0) {
		n_tickets++;
	}
}

/* What is said */

static void put_login(struct session *session)
{
	char plain[64], text[512];
	int len = snprintf(plain, sizeof(plain), "%cuser%u%csecret", 0, session->number, 0);
	gnutls_datum_t encoded, raw = {(unsigned char *)plain, (unsigned int)len};
	bool is_known = gnutls_session_is_resumed(session->tls);
	check(gnutls_base64_encode2(&raw, &encoded), "base64");
	len = snprintf(text, sizeof(text), "l AUTHENTICATE PLAIN %.*s\r\n%s", (int)encoded.size,
		encoded.data, is_known ? flight : "");
	gnutls_free(encoded.data);
	session->state = is_known ? FLOOR_FLIGHT : FLOOR_LOGIN;
	say(session, text, (size_t)len);
}

static void hear_login(struct session *session, const char *line)
{
	if (strncmp(line, "l OK", 4) != 0) {
		fprintf(stderr, "bench-floor: login: %s\n", line);
		exit(1);
	}
	keep_ticket(session);
	if (session->state == FLOOR_LOGIN) {
		session->state = FLOOR_FLIGHT;
		say(session, flight, strlen(flight));
	}
	session->is_logged_in = true;
	n_busy--;
	open_more();
}

static void put_look(struct session *session)
{
	char text[160];
	int len = snprintf(text, sizeof(text),
		"DONE\r\nn NOOP\r\nf UID FETCH %u:4294967295 " ITEMS "\r\ni IDLE\r\n",
		session->n_known + 1);
	n_idle--;
	session->state = FLOOR_FLIGHT;
	say(session, text, (size_t)len);
}

static void put_fetch(struct session *session, uint32_t last, uint32_t block)
{
	size_t size = 64 * ((size_t)last / block + 4), len = 0;
	char *text = malloc(size);
	if (!text) {
		fail("memory");
	}
	len += (size_t)snprintf(text, size, "DONE\r\n");
	for (uint32_t first = 1; first <= last; first += block) {
		uint32_t end = first + block - 1 < last ? first + block - 1 : last;
		len += (size_t)snprintf(
			text + len, size - len, "d UID FETCH %u:%u (UID ENVELOPE)\r\n", first, end);
		session->n_left++;
	}
	len += (size_t)snprintf(text + len, size - len, "i IDLE\r\n");
	n_idle--;
	session->state = FLOOR_FLIGHT;
	say(session, text, len);
	free(text);
}

/* What is heard */

/* FETCH of a new message. */
static void hear_message(struct session *session, uint32_t number, char *line)
{
	uint64_t now = now_nsec();
	session->n_known = number;
	if (FLOOR_HAS_BUS && session->number == 1) {
		floor_bus_announce(line);
	}
	printf("%llu newmail %u %u\n", (unsigned long long)now, session->number, number);
}

static void hear_idle(struct session *session)
{
	session->state = FLOOR_IDLE;
	n_idle++;
	printf("%llu idle %u\n", (unsigned long long)now_nsec(), n_idle);
	if (session->n_known == 0) {
		session->n_known = session->n_exists;
	} else if (session->n_exists > session->n_known && !has_notify) {
		put_look(session);
	}
}

static void hear_line(struct session *session, char *line)
{
	unsigned int number;
	char word[8];
	if (session->state == FLOOR_GREETING) {
		put_login(session);
	} else if (!session->is_logged_in) {
		hear_login(session, line);
	} else if (strncmp(line, "+ ", 2) == 0) {
		hear_idle(session);
	} else if (strncmp(line, "f OK", 4) == 0) {
		if (FLOOR_HAS_BUS && session->number == 1) {
			floor_bus_refreshed();
		}
	} else if (strncmp(line, "d OK", 4) == 0) {
		if (--session->n_left == 0) {
			printf("%llu fetched %llu %llu\n", (unsigned long long)now_nsec(),
				(unsigned long long)began, (unsigned long long)n_octets);
		}
	} else if (session->n_left == 0 && sscanf(line, "* %u %7s", &number, word) == 2) {
		if (strcmp(word, "EXISTS") == 0) {
			session->n_exists = number;
			if (session->state == FLOOR_IDLE && !has_notify) {
				put_look(session);
			}
		} else if (session->n_known && number > session->n_known) {
			hear_message(session, number, line);
		}
	}
}

/* The line that ends at end, of which the front may have come before. */
static void end_line(struct session *session, char *front, char *end)
{
	*end = '\0';
	if (session->len == 0) {
		hear_line(session, front);
		return;
	}
	size_t room = LINE_KEPT - 1 - session->len, n = (size_t)(end - front);
	memcpy(session->line + session->len, front, n < room ? n + 1 : room);
	session->line[LINE_KEPT - 1] = '\0';
	session->len = 0;
	hear_line(session, session->line);
}

static void hear(struct session *session, char *data, size_t len)
{
	char *end;
	n_octets += len;
	while ((end = memchr(data, '\n', len))) {
		char *next = end + 1;
		len -= (size_t)(next - data);
		end_line(session, data, end);
		data = next;
	}
	size_t room = LINE_KEPT - 1 - session->len, n = len < room ? len : room;
	memcpy(session->line + session->len, data, n);
	session->len += (unsigned int)n;
}

/* Whether the handshake is done. */
static bool shake(struct session *session)
{
	if (session->state == FLOOR_CONNECTING) {
		session->state = FLOOR_HANDSHAKE;
		watch(EPOLL_CTL_MOD, session, EPOLLIN);
	}
	int r = gnutls_handshake(session->tls);
	if (r == GNUTLS_E_AGAIN) {
		return false;
	}
	check(r, "handshake");
	session->state = FLOOR_GREETING;
	return true;
}

static void advance(struct session *session)
{
	static char buffer[16 * 1024];
	if (session->state <= FLOOR_HANDSHAKE && !shake(session)) {
		return;
	}
	ssize_t n;
	while ((n = gnutls_record_recv(session->tls, buffer, sizeof(buffer))) > 0) {
		hear(session, buffer, (size_t)n);
	}
	if (n != GNUTLS_E_AGAIN) {
		close_session(session);
	}
}

static void refresh(void)
{
	if (sessions[0].state != FLOOR_IDLE) {
		fprintf(stderr, "bench-floor: not idle\n");
		exit(1);
	}
	put_look(&sessions[0]);
}

/* False at the end of the input. */
static bool take_order(void)
{
	char order[128];
	unsigned int last, block;
	ssize_t n = read(STDIN_FILENO, order, sizeof(order) - 1);
	if (n <= 0) {
		return false;
	}
	order[n] = '\0';
	if (sessions[0].state != FLOOR_IDLE || sscanf(order, "fetch %u %u", &last, &block) != 2 ||
		block == 0) {
		fprintf(stderr, "bench-floor: not idle, or no such order: %s\n", order);
		exit(1);
	}
	began = now_nsec();
	n_octets = 0;
	put_fetch(&sessions[0], last, block);
	return true;
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {{"port", required_argument, NULL, 'p'},
		{"ca", required_argument, NULL, 'c'}, {"sessions", required_argument, NULL, 's'},
		{"at-once", required_argument, NULL, 'a'}, {"notify", no_argument, NULL, 'n'},
		{"prepared", required_argument, NULL, 'r'}, {0}};
	int option;
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option == 'p') {
			address.sin_port = htons((uint16_t)atoi(optarg));
		} else if (option == 'c') {
			ca = optarg;
		} else if (option == 's') {
			n_sessions = (unsigned int)atoi(optarg);
		} else if (option == 'a') {
			n_at_once = (unsigned int)atoi(optarg);
		} else if (option == 'r') {
			n_prepared = (uint32_t)strtoul(optarg, NULL, 10);
		} else if (option == 'n') {
			has_notify = true;
			flight = "e EXAMINE INBOX\r\nf UID FETCH 4294967295 (UID FLAGS)\r\nn "
				 "NOTIFY SET (SELECTED (MessageNew " ITEMS
				 " MessageExpunge))\r\ni IDLE\r\n";
		} else {
			exit(2);
		}
	}
	if (optind != argc || !address.sin_port || !ca || n_sessions == 0) {
		fprintf(stderr,
			"usage: bench-floor --port N --ca FILE [--sessions N] "
			"[--at-once N] [--notify] [--prepared N]\n");
		exit(2);
	}
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static char on_bus;

static void watch_bus(void)
{
	static struct epoll_event event = {.data.ptr = &on_bus};
	uint32_t wanted = (uint32_t)floor_bus_events();
	int op = event.events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (wanted != event.events) {
		event.events = wanted;
		if (epoll_ctl(epoll, op, floor_bus_fd(), &event) < 0) {
			fail("epoll");
		}
	}
}

static void loop(void)
{
	struct epoll_event events[64];
	for (;;) {
		if (FLOOR_HAS_BUS) {
			watch_bus();
		}
		fflush(stdout);
		int n = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < n; i++) {
			if (FLOOR_HAS_BUS && events[i].data.ptr == &on_bus) {
				floor_bus_process();
			} else if (events[i].data.ptr) {
				advance(events[i].data.ptr);
			} else if (!take_order()) {
				return;
			}
		}
	}
}

int main(int argc, char **argv)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct rlimit limit;
	parse(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	sessions = calloc(n_sessions, sizeof(*sessions));
	closed = calloc(n_sessions, sizeof(*closed));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!sessions || !closed || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0) {
		fail("setting up");
	}
	if (FLOOR_HAS_BUS) {
		floor_bus_open(refresh, n_prepared);
	}
	check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
	check(gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM), ca);
	check(gnutls_priority_init2(&priorities, "NORMAL", NULL, 0), "priorities");
	for (n_closed = 0; n_closed < n_sessions; n_closed++) {
		sessions[n_closed].number = n_closed + 1;
		closed[n_closed] = n_closed;
	}
	open_more();
	loop();
	return 0;
}
