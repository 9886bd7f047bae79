#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/sleep.h"

#define SLEEP_USEC USEC_PER_SEC

/* Seconds since 1970 that nobody will see (the year 36812), and that every kernel takes. */
#define FAR_AWAY_SEC ((time_t)1 << 40)

struct sleep_watch {
	struct turn *turn;  /* borrowed */
	struct task *owner; /* borrowed */
	struct ev_io timer;
	uint64_t slept; /* µs since the machine was started, at the last look */
};

static uint64_t slept_usec(void)
{
	/* In this order, so that a pause between the two never looks like sleep. */
	uint64_t with_sleep = clock_now_usec();
	uint64_t without = clock_monotonic_usec();
	return with_sleep > without ? with_sleep - without : 0;
}

static int arm(int fd)
{
	struct itimerspec spec = {.it_value = {.tv_sec = FAR_AWAY_SEC}};
	int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
	return timerfd_settime(fd, flags, &spec, NULL) < 0 ? -errno : 0;
}

/* Somebody set the clock, or it was set because the machine had slept. */
static void on_cancelled(struct ev_loop *loop, struct ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	struct sleep_watch *watch = watcher->data;
	uint64_t n_expirations;
	if (read(watcher->fd, &n_expirations, sizeof(n_expirations)) < 0 && errno == EAGAIN) {
		return;
	}
	(void)arm(watcher->fd);
	if (slept_usec() > watch->slept + SLEEP_USEC) {
		task_wake(watch->owner);
	}
}

int sleep_watch_new(struct turn *turn, struct task *owner, struct sleep_watch **ret_watch)
{
	struct sleep_watch *watch = calloc(1, sizeof(*watch));
	if (!watch) {
		return -ENOMEM;
	}
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	int error = fd < 0 ? -errno : arm(fd);
	if (error < 0) {
		if (fd >= 0) {
			close(fd);
		}
		free(watch);
		return error;
	}
	watch->turn = turn;
	watch->owner = owner;
	watch->slept = slept_usec();
	ev_io_init(&watch->timer, on_cancelled, fd, EV_READ);
	watch->timer.data = watch;
	ev_io_start(turn_loop(turn), &watch->timer);
	*ret_watch = watch;
	return 0;
}

struct sleep_watch *sleep_watch_free(struct sleep_watch *watch)
{
	if (!watch) {
		return NULL;
	}
	ev_io_stop(turn_loop(watch->turn), &watch->timer);
	close(watch->timer.fd);
	free(watch);
	return NULL;
}

bool sleep_watch_take(struct sleep_watch *watch)
{
	uint64_t before = watch->slept;
	uint64_t now = slept_usec();
	if (now <= before + SLEEP_USEC) {
		return false;
	}
	watch->slept = now;
	return true;
}
