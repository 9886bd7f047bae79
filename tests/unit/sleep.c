/* The machine's sleep, with clocks that this test sets. */
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "turning.h"
#include "util/sleep.h"

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __real_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old);
int __wrap_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old);

static struct turning turning;
static struct sleep_watch *watch;
static time_t slept_sec;
static long slept_nsec;

/* What the kernel makes readable when somebody sets the clock; -1: a timer of its own. */
static int cancelled = -1;
static int flags_set;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = __real_clock_gettime(clock, time);
	if (clock == CLOCK_BOOTTIME) {
		time->tv_sec += slept_sec;
		time->tv_nsec += slept_nsec;
		if (time->tv_nsec >= 1000000000) {
			time->tv_sec++;
			time->tv_nsec -= 1000000000;
		}
	}
	return result;
}

int __wrap_timerfd_create(int clock, int flags)
{
	int fd = __real_timerfd_create(clock, flags);
	if (clock != CLOCK_REALTIME || fd < 0) {
		return fd;
	}
	close(fd);
	cancelled = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(cancelled >= 0);
	return cancelled;
}

int __wrap_timerfd_settime(
	int fd, int flags, const struct itimerspec *new, struct itimerspec *ret_old)
{
	if (fd != cancelled) {
		return __real_timerfd_settime(fd, flags, new, ret_old);
	}
	/* The kernel takes it. */
	int real = __real_timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
	assert_true(real >= 0);
	int result = __real_timerfd_settime(real, flags, new, ret_old);
	close(real);
	flags_set = flags;
	return result;
}

static int begin(void **state)
{
	(void)state;
	slept_sec = 0;
	slept_nsec = 0;
	turning_init(&turning);
	assert_int_equal(sleep_watch_new(turning.turn, &turning.owner, &watch), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	watch = sleep_watch_free(watch);
	cancelled = -1;
	turning_done(&turning);
	return 0;
}

/* The clock is set, by a person or because the machine has slept. Whether the owner is woken. */
static bool set_clock(void)
{
	turning.is_woken = false;
	assert_int_equal(eventfd_write(cancelled, 1), 0);
	for (int i = 0; i < 4; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
	}
	return turning.is_woken;
}

static void test_sleep_is_noticed(void **state)
{
	(void)state;
	assert_int_equal(flags_set, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	assert_false(sleep_watch_take(watch));
	for (int i = 0; i < 3; i++) {
		slept_sec += 8 * 60 * 60;
		flags_set = 0;
		assert_true(set_clock());
		/* For the next time. */
		assert_int_equal(flags_set, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
		assert_true(sleep_watch_take(watch));
		assert_false(sleep_watch_take(watch));
	}
}

static void test_a_clock_that_is_set_is_no_sleep(void **state)
{
	(void)state;
	assert_false(set_clock());
	assert_false(sleep_watch_take(watch));
}

static void test_a_second_is_no_sleep_but_adds_up(void **state)
{
	(void)state;
	slept_nsec = 900000000;
	assert_false(set_clock());
	assert_false(sleep_watch_take(watch));
	slept_sec = 1;
	assert_true(set_clock());
	assert_true(sleep_watch_take(watch));
}

/* Whoever looks before the kernel says anything sees it, too, and is not told a second time. */
static void test_seen_before_it_is_told(void **state)
{
	(void)state;
	slept_sec = 60;
	assert_true(sleep_watch_take(watch));
	assert_false(set_clock());
	assert_false(sleep_watch_take(watch));
}

static void test_the_end(void **state)
{
	(void)state;
	assert_null(sleep_watch_free(NULL));
	unsigned int n_descriptors = turning_count_descriptors();
	struct sleep_watch *another = NULL;
	assert_int_equal(sleep_watch_new(turning.turn, &turning.owner, &another), 0);
	sleep_watch_free(another);
	assert_int_equal(turning_count_descriptors(), n_descriptors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sleep_is_noticed, begin, end),
		cmocka_unit_test_setup_teardown(test_a_clock_that_is_set_is_no_sleep, begin, end),
		cmocka_unit_test_setup_teardown(test_a_second_is_no_sleep_but_adds_up, begin, end),
		cmocka_unit_test_setup_teardown(test_seen_before_it_is_told, begin, end),
		cmocka_unit_test_setup_teardown(test_the_end, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
