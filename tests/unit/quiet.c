/* How often the machine is woken up when nothing happens, by a clock of our own: sessions that
 * began at different times renew IDLE together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/turn.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

#define N_SESSIONS_HIGHEST 1000

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __real_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old);
int __wrap_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old);

static uint64_t now;
static int timer = -1;     /* an event of ours */
static uint64_t timer_due; /* USEC_NEVER: it is not armed */

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	if (clock != CLOCK_BOOTTIME) {
		return __real_clock_gettime(clock, time);
	}
	time->tv_sec = (time_t)(now / USEC_PER_SEC);
	time->tv_nsec = (long)(now % USEC_PER_SEC * 1000);
	return 0;
}

int __wrap_timerfd_create(int clock, int flags)
{
	if (clock != CLOCK_BOOTTIME) {
		return __real_timerfd_create(clock, flags);
	}
	timer = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	timer_due = USEC_NEVER;
	return timer;
}

int __wrap_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old)
{
	if (fd != timer) {
		return __real_timerfd_settime(fd, flags, new, ret_old);
	}
	const struct timespec *due = &new->it_value;
	bool is_armed = due->tv_sec != 0 || due->tv_nsec != 0;
	timer_due = is_armed ? (uint64_t)due->tv_sec * USEC_PER_SEC + (uint64_t)due->tv_nsec / 1000
			     : USEC_NEVER;
	return 0;
}

/* A connection in IDLE, as the engine has it: to be renewed in the second half of its time. */
struct session {
	struct task task;
	uint64_t timeout;
	uint64_t begins;
	uint64_t renewed;
	unsigned int n_renewals;
};

static struct session sessions[N_SESSIONS_HIGHEST];
static size_t n_sessions;

static void idle(struct session *session)
{
	session->renewed = now;
	assert_int_equal(
		task_set_deadline(&session->task, now + session->timeout / 2, session->timeout / 2),
		0);
}

static void renew(struct task *task)
{
	struct session *session = list_entry(task, struct session, task);
	assert_true(now - session->renewed >= session->timeout / 2);
	assert_true(now - session->renewed <= session->timeout);
	session->n_renewals++;
	idle(session);
}

/* Begins what begins now; when the next one does, at most `end`. */
static uint64_t begin_sessions(uint64_t end)
{
	uint64_t next = end;
	for (size_t i = 0; i < n_sessions; i++) {
		struct session *session = &sessions[i];
		if (session->renewed == 0 && session->begins <= now) {
			idle(session);
		} else if (session->renewed == 0 && session->begins < next) {
			next = session->begins;
		}
	}
	return next;
}

/* Until then; how often it was woken up. */
static unsigned int pass_time(struct ev_loop *loop, uint64_t end)
{
	unsigned int n_wakes = 0;
	while (now < end) {
		uint64_t next = begin_sessions(end);
		/* Once for what has happened, once to arm what comes. */
		ev_run(loop, EVRUN_NOWAIT);
		ev_run(loop, EVRUN_NOWAIT);
		now = timer_due < next ? timer_due : next;
		if (now == timer_due) {
			timer_due = USEC_NEVER;
			n_wakes++;
			assert_int_equal(eventfd_write(timer, 1), 0);
		}
	}
	return n_wakes;
}

/* n of them, begun one after the other, with these times of IDLE in turn; how often they wake the
 * machine in the hour after they have all begun and had one time for it. */
static unsigned int wakes_of_an_hour(
	size_t n, uint64_t all_begun, const uint64_t *timeouts, size_t n_timeouts)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	struct turn *turn;
	now = 12345678;
	assert_non_null(loop);
	assert_int_equal(turn_new(loop, &turn), 0);
	n_sessions = n;
	uint64_t settled = now + all_begun;
	for (size_t i = 0; i < n; i++) {
		sessions[i] = (struct session){.timeout = timeouts[i % n_timeouts]};
		sessions[i].begins = now + 1 + all_begun * i / n;
		task_init(&sessions[i].task, turn, renew);
	}
	pass_time(loop, settled + timeouts[n_timeouts - 1]);
	for (size_t i = 0; i < n; i++) {
		sessions[i].n_renewals = 0;
	}
	unsigned int n_wakes = pass_time(loop, now + 60 * USEC_PER_MINUTE);
	for (size_t i = 0; i < n; i++) {
		uint64_t n_least = 60 * USEC_PER_MINUTE / sessions[i].timeout;
		assert_in_range(sessions[i].n_renewals, n_least, 2 * n_least + 1);
		task_done(&sessions[i].task);
	}
	turn_free(turn);
	ev_loop_destroy(loop);
	return n_wakes;
}

static void test_sessions_renew_together(void **state)
{
	(void)state;
	static const uint64_t timeout = 9 * USEC_PER_MINUTE;
	/* 60 minutes are 6.7 times of IDLE, whatever the number of sessions. */
	assert_in_range(wakes_of_an_hour(1, 0, &timeout, 1), 6, 7);
	assert_in_range(wakes_of_an_hour(50, 5 * USEC_PER_MINUTE, &timeout, 1), 6, 7);
	assert_in_range(wakes_of_an_hour(1000, 5 * USEC_PER_MINUTE, &timeout, 1), 6, 7);
	/* Two groups at most, where they began over all of it. */
	assert_in_range(wakes_of_an_hour(50, timeout, &timeout, 1), 6, 14);
	assert_in_range(wakes_of_an_hour(50, 3 * timeout, &timeout, 1), 6, 14);
}

static void test_other_times_fall_in(void **state)
{
	(void)state;
	static const uint64_t timeouts[] = {
		4 * USEC_PER_MINUTE, 9 * USEC_PER_MINUTE, 29 * USEC_PER_MINUTE};
	/* The shortest alone has 15. */
	assert_in_range(wakes_of_an_hour(60, 5 * USEC_PER_MINUTE, timeouts, 3), 15, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sessions_renew_together),
		cmocka_unit_test(test_other_times_fall_in),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
