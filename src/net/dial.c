#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/dial.h"
#include "net/wire.h"
#include "util/clock.h"

/* RFC 8305 section 5: the Connection Attempt Delay. */
#define ATTEMPT_DELAY_USEC (250 * USEC_PER_MSEC)

/* Often enough for the routers that forget a silent connection after some minutes. */
#define KEEPALIVE_IDLE_SEC   120
#define KEEPALIVE_PERIOD_SEC 20
#define KEEPALIVE_N_PROBES   3

struct attempt {
	ev_io writable; /* fd -1: not started, or over */
	struct dial *dial;
	bool is_ready;
};

struct dial {
	struct turn *turn;  /* borrowed */
	struct task *owner; /* borrowed */
	struct task task;
	const union address *addresses; /* behind the attempts */
	size_t n_addresses;
	size_t n_started;
	size_t n_pending;
	uint64_t next_at;
	bool is_done;
	int fd; /* the winner's */
	size_t winner;
	int error; /* the negative errno that tells most, and whose it is */
	size_t culprit;
	struct failure failure;
	struct attempt attempts[];
};

static void set_option(int fd, int level, int option, int value)
{
	/* A kernel without it gives a connection that is worse, but works. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void set_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SEC);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_PERIOD_SEC);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_N_PROBES);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, WIRE_PATIENCE_MSEC);
}

/* What only says that this machine has no IPv6, say, hides what is wrong with the server. */
static bool is_telling(int error)
{
	return error != 0 && error != -ENETUNREACH && error != -EAFNOSUPPORT &&
		error != -EADDRNOTAVAIL && error != -EHOSTUNREACH;
}

static void note_error(struct dial *dial, size_t i, int error)
{
	if (dial->error == 0 || (!is_telling(dial->error) && is_telling(error))) {
		dial->error = error;
		dial->culprit = i;
	}
}

static void attempt_close(struct dial *dial, struct attempt *attempt)
{
	if (attempt->writable.fd >= 0) {
		ev_io_stop(turn_loop(dial->turn), &attempt->writable);
		close(attempt->writable.fd);
		ev_io_set(&attempt->writable, -1, EV_WRITE);
		dial->n_pending--;
	}
}

static void win(struct dial *dial, size_t i, int fd)
{
	dial->fd = fd;
	dial->winner = i;
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	struct attempt *attempt = watcher->data;
	ev_io_stop(loop, watcher);
	attempt->is_ready = true;
	task_wake(&attempt->dial->task);
}

/* Whether it is under way, or has won already. */
static bool attempt_start(struct dial *dial, size_t i)
{
	const union address *address = &dial->addresses[i];
	int fd = socket(
		address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (fd < 0) {
		note_error(dial, i, -errno);
		return false;
	}
	set_options(fd);
	if (connect(fd, &address->any, address_len(address)) == 0) {
		win(dial, i, fd);
		return true;
	}
	/* connect(2): one that was interrupted goes on by itself. */
	if (errno != EINPROGRESS && errno != EINTR) {
		note_error(dial, i, -errno);
		close(fd);
		return false;
	}
	struct attempt *attempt = &dial->attempts[i];
	ev_io_set(&attempt->writable, fd, EV_WRITE);
	ev_io_start(turn_loop(dial->turn), &attempt->writable);
	dial->n_pending++;
	return true;
}

static void attempt_finish(struct dial *dial, size_t i)
{
	struct attempt *attempt = &dial->attempts[i];
	int error = 0;
	socklen_t len = sizeof(error);
	attempt->is_ready = false;
	if (getsockopt(attempt->writable.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
		error = errno;
	}
	if (error != 0) {
		note_error(dial, i, -error);
		attempt_close(dial, attempt);
		/* RFC 8305 section 5: a failure is a reason not to wait for the delay. */
		dial->next_at = 0;
		return;
	}
	win(dial, i, attempt->writable.fd);
	ev_io_set(&attempt->writable, -1, EV_WRITE);
	dial->n_pending--;
}

static void finish(struct dial *dial)
{
	for (size_t i = 0; i < dial->n_started; i++) {
		attempt_close(dial, &dial->attempts[i]);
	}
	(void)task_set_deadline(&dial->task, USEC_NEVER, 0);
	dial->is_done = true;
	if (dial->fd < 0) {
		char text[ADDRESS_TEXT_SIZE];
		address_print(&dial->addresses[dial->culprit], text);
		failure_set(&dial->failure, FAILURE_OFFLINE, "%s cannot be reached: %s%s", text,
			strerror(-dial->error),
			dial->n_addresses > 1 ? " (nor can its other addresses)" : "");
	}
	task_wake(dial->owner);
}

static void run(struct task *task)
{
	struct dial *dial = list_entry(task, struct dial, task);
	if (dial->is_done) {
		return;
	}
	for (size_t i = 0; i < dial->n_started && dial->fd < 0; i++) {
		if (dial->attempts[i].is_ready) {
			attempt_finish(dial, i);
		}
	}
	uint64_t now = turn_now(dial->turn);
	while (dial->fd < 0 && dial->n_started < dial->n_addresses && now >= dial->next_at) {
		if (attempt_start(dial, dial->n_started++)) {
			dial->next_at = now + ATTEMPT_DELAY_USEC;
		}
	}
	if (dial->fd >= 0 || dial->n_pending == 0) {
		finish(dial);
		return;
	}
	uint64_t next = dial->n_started < dial->n_addresses ? dial->next_at : USEC_NEVER;
	int error = task_set_deadline(&dial->task, next, 0);
	if (error < 0) {
		note_error(dial, dial->culprit, error);
		finish(dial);
	}
}

static union address address_of(int fd)
{
	union address address = {0};
	socklen_t len = sizeof(address);
	if (getsockname(fd, &address.any, &len) < 0) {
		address.any.sa_family = AF_UNSPEC;
	}
	return address;
}

int dial_new(struct turn *turn, struct task *owner, const union address *addresses,
	size_t n_addresses, struct dial **ret_dial)
{
	size_t attempts_size = n_addresses * sizeof(struct attempt);
	size_t addresses_size = n_addresses * sizeof(union address);
	struct dial *dial = calloc(1, sizeof(*dial) + attempts_size + addresses_size);
	if (!dial) {
		return -ENOMEM;
	}
	void *copy = &dial->attempts[n_addresses];
	dial->turn = turn;
	dial->owner = owner;
	dial->addresses = memcpy(copy, addresses, addresses_size);
	dial->n_addresses = n_addresses;
	dial->fd = -1;
	for (size_t i = 0; i < n_addresses; i++) {
		struct attempt *attempt = &dial->attempts[i];
		ev_io_init(&attempt->writable, on_writable, -1, EV_WRITE);
		attempt->writable.data = attempt;
		attempt->dial = dial;
	}
	task_init(&dial->task, turn, run);
	task_wake(&dial->task);
	*ret_dial = dial;
	return 0;
}

struct dial *dial_free(struct dial *dial)
{
	if (!dial) {
		return NULL;
	}
	for (size_t i = 0; i < dial->n_started; i++) {
		attempt_close(dial, &dial->attempts[i]);
	}
	if (dial->fd >= 0) {
		close(dial->fd);
	}
	task_done(&dial->task);
	free(dial);
	return NULL;
}

bool dial_is_done(const struct dial *dial)
{
	return dial->is_done;
}

int dial_take(struct dial *dial, union address *ret_ours, union address *ret_theirs)
{
	int fd = dial->fd;
	if (fd >= 0) {
		*ret_ours = address_of(fd);
		*ret_theirs = dial->addresses[dial->winner];
		dial->fd = -1;
	}
	return fd;
}

enum path dial_path(const struct dial *dial)
{
	bool is_pending = false;
	for (size_t i = 0; i < dial->n_started; i++) {
		int fd = dial->attempts[i].writable.fd;
		if (fd < 0) {
			continue;
		}
		union address ours = address_of(fd);
		if (path_look(&ours, &dial->addresses[i]) != PATH_GONE) {
			return PATH_SAME;
		}
		is_pending = true;
	}
	return is_pending ? PATH_GONE : PATH_UNKNOWN;
}

const struct failure *dial_failure(const struct dial *dial)
{
	return &dial->failure;
}

bool dial_is_unreachable(const struct dial *dial)
{
	return dial->is_done && dial->error != 0 && !is_telling(dial->error);
}
