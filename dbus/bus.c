#include <errno.h>
#include <ev.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/bus.h"
#include "util/clock.h"
#include "util/log.h"

/* Steps of sd_bus_process(3) in one turn, so that a flood of calls leaves time for the mail. */
#define N_STEPS_HIGHEST 64

/* With more than this in the queue only writing goes on: whoever makes us answer has to wait until
 * the bus takes the answers. Few, since each may be all objects there are. */
#define N_QUEUED_HIGHEST 16

struct bus {
	struct task *owner;   /* borrowed */
	struct ev_loop *loop; /* borrowed */
	sd_bus *connection;
	struct ev_prepare prepare;
	struct ev_io io;
	struct ev_timer timer;
	struct ev_idle idle;
	bool is_awaited; /* the socket was ready, or something is left from before */
	bool is_lost;
};

/* The watchers only end the wait of the loop: what there is to do is seen before the next one. */
static void on_io(struct ev_loop *loop, struct ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	struct bus *bus = watcher->data;
	bus->is_awaited = true;
}

static void on_timer(struct ev_loop *loop, struct ev_timer *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

static void on_idle(struct ev_loop *loop, struct ev_idle *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

static void disarm(struct bus *bus)
{
	ev_io_stop(bus->loop, &bus->io);
	ev_timer_stop(bus->loop, &bus->timer);
	ev_idle_stop(bus->loop, &bus->idle);
}

static void lose(struct bus *bus, int error)
{
	log_debug(NULL, NULL, "bus: %s", strerror(-error));
	bus->is_lost = true;
	disarm(bus);
	ev_prepare_stop(bus->loop, &bus->prepare);
	task_wake(bus->owner);
}

static bool is_writable(struct bus *bus)
{
	struct pollfd poll_fd = {.fd = sd_bus_get_fd(bus->connection), .events = POLLOUT};
	return poll_fd.fd < 0 || poll(&poll_fd, 1, 0) != 0;
}

static uint64_t n_queued(struct bus *bus)
{
	uint64_t n;
	return sd_bus_get_n_queued_write(bus->connection, &n) < 0 ? 0 : n;
}

static bool is_stalled(struct bus *bus)
{
	return n_queued(bus) > N_QUEUED_HIGHEST && !is_writable(bus);
}

/* Whether there may be more to do (1) or not (0), or a negative errno. */
static int process(struct bus *bus)
{
	for (int n = 0; n < N_STEPS_HIGHEST; n++) {
		if (is_stalled(bus)) {
			return 0;
		}
		int result = sd_bus_process(bus->connection, NULL);
		if (result <= 0) {
			return result;
		}
	}
	return 1;
}

/* Until the connection stands, sd-bus may go on to the next of several addresses, on a new socket
 * with the same number: setting the watcher makes libev look again. */
static void arm_io(struct bus *bus, int fd, int poll_events)
{
	int events = (poll_events & POLLIN ? EV_READ : 0) | (poll_events & POLLOUT ? EV_WRITE : 0);
	if (n_queued(bus) > N_QUEUED_HIGHEST) {
		events &= ~EV_READ;
	}
	if (ev_is_active(&bus->io) && bus->io.fd == fd &&
		(bus->io.events & (EV_READ | EV_WRITE)) == events &&
		sd_bus_is_ready(bus->connection) > 0) {
		return;
	}
	ev_io_stop(bus->loop, &bus->io);
	if (events != 0) {
		ev_io_set(&bus->io, fd, events);
		ev_io_start(bus->loop, &bus->io);
	}
}

/* timeout: as sd-bus gives it, an absolute time of CLOCK_MONOTONIC. The loop's idea of now is a
 * little old, so the timer comes a little early and is set again. */
static void arm_timer(struct bus *bus, uint64_t timeout, bool is_busy)
{
	ev_timer_stop(bus->loop, &bus->timer);
	uint64_t now = timeout != UINT64_MAX ? clock_monotonic_usec() : 0;
	if (is_busy || timeout <= now) {
		ev_idle_start(bus->loop, &bus->idle);
		return;
	}
	ev_idle_stop(bus->loop, &bus->idle);
	if (timeout != UINT64_MAX) {
		ev_timer_set(&bus->timer, (double)(timeout - now) / (double)USEC_PER_SEC, 0.);
		ev_timer_start(bus->loop, &bus->timer);
	}
}

static int arm(struct bus *bus, bool is_busy)
{
	int fd = sd_bus_get_fd(bus->connection);
	if (fd < 0) {
		return fd;
	}
	int events = sd_bus_get_events(bus->connection);
	if (events < 0) {
		return events;
	}
	uint64_t timeout;
	int error = sd_bus_get_timeout(bus->connection, &timeout);
	if (error < 0) {
		return error;
	}
	arm_io(bus, fd, events);
	/* With calls received but not to be looked at yet, the timeout is 0; the bus has to take
	 * something first. */
	arm_timer(bus, is_stalled(bus) ? UINT64_MAX : timeout, is_busy);
	return 0;
}

/* Whether sd_bus_process(3) would do more than find the socket empty. */
static bool has_work(struct bus *bus)
{
	uint64_t timeout;
	return bus->is_awaited || n_queued(bus) > 0 || sd_bus_is_ready(bus->connection) <= 0 ||
		sd_bus_get_timeout(bus->connection, &timeout) < 0 ||
		(timeout != UINT64_MAX && timeout <= clock_monotonic_usec());
}

static void on_prepare(struct ev_loop *loop, struct ev_prepare *watcher, int events)
{
	(void)loop;
	(void)events;
	struct bus *bus = watcher->data;
	bool was_writing = bus_is_writing(bus);
	int result = has_work(bus) ? process(bus) : 0;
	bus->is_awaited = result > 0;
	if (result >= 0) {
		int error = arm(bus, result > 0);
		result = error < 0 ? error : result;
	}
	if (result < 0) {
		lose(bus, result);
		return;
	}
	if (was_writing && !bus_is_writing(bus)) {
		task_wake(bus->owner);
	}
}

static int connect_by(int (*open)(sd_bus **connection, const char *description), struct turn *turn,
	struct task *owner, struct bus **ret_bus)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	if (!bus) {
		return -ENOMEM;
	}
	bus->owner = owner;
	bus->loop = turn_loop(turn);
	int error = open(&bus->connection, "mailidle");
	if (error < 0) {
		free(bus);
		return error;
	}
	ev_prepare_init(&bus->prepare, on_prepare);
	ev_init(&bus->io, on_io);
	ev_init(&bus->timer, on_timer);
	ev_idle_init(&bus->idle, on_idle);
	bus->prepare.data = bus;
	bus->io.data = bus;
	ev_prepare_start(bus->loop, &bus->prepare);
	*ret_bus = bus;
	return 0;
}

int bus_new(struct turn *turn, struct task *owner, struct bus **ret_bus)
{
	return connect_by(sd_bus_open_user_with_description, turn, owner, ret_bus);
}

int bus_new_system(struct turn *turn, struct task *owner, struct bus **ret_bus)
{
	return connect_by(sd_bus_open_system_with_description, turn, owner, ret_bus);
}

struct bus *bus_free(struct bus *bus)
{
	if (!bus) {
		return NULL;
	}
	disarm(bus);
	ev_prepare_stop(bus->loop, &bus->prepare);
	sd_bus_close_unref(bus->connection);
	free(bus);
	return NULL;
}

sd_bus *bus_connection(struct bus *bus)
{
	return bus->connection;
}

bool bus_is_writing(struct bus *bus)
{
	return !bus_is_lost(bus) && n_queued(bus) > 0;
}

/* A send that fails is seen at once; the owner is woken when sd-bus has cleaned up. */
bool bus_is_lost(const struct bus *bus)
{
	return bus->is_lost || sd_bus_is_open(bus->connection) <= 0;
}
