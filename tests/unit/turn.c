#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/turn.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

/* A task that counts, and does what a test wants of it. */
struct probe {
	struct task task;
	void (*action)(struct probe *probe);
	struct probe *other; /* borrowed */
	unsigned int n_runs;
	uint64_t ran_at;
};

static struct ev_loop *loop;
static struct turn *turn;

/* How long libev was about to wait, ms, and what it is woken up by then; -1: nothing. */
static int waited;
static int alarm_fd = -1;

int epoll_wait(int fd, struct epoll_event *events, int n_events, int timeout)
{
	if (alarm_fd >= 0 && timeout != 0) {
		waited = timeout;
		assert_int_equal(write(alarm_fd, "x", 1), 1);
	}
	return (int)syscall(SYS_epoll_pwait, fd, events, n_events, timeout, NULL, 0);
}

/* The order in which probes ran. */
static struct probe *order[16];
static size_t n_order;

static void run_probe(struct task *task)
{
	struct probe *probe = (struct probe *)((char *)task - offsetof(struct probe, task));
	probe->n_runs++;
	probe->ran_at = turn_now(turn);
	if (n_order < sizeof(order) / sizeof(order[0])) {
		order[n_order++] = probe;
	}
	if (probe->action) {
		probe->action(probe);
	}
}

static void probe_init(struct probe *probe, void (*action)(struct probe *probe))
{
	*probe = (struct probe){.action = action};
	task_init(&probe->task, turn, run_probe);
}

/* A loop that does not come to its end is a failure, not a test that hangs. */
static void on_watchdog(struct ev_loop *the_loop, struct ev_timer *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(the_loop, EVBREAK_ALL);
	fail_msg("the loop did not end");
}

static struct ev_timer watchdog;

static int begin(void **state)
{
	(void)state;
	loop = ev_loop_new(EVFLAG_AUTO);
	n_order = 0;
	if (!loop || turn_new(loop, &turn) < 0) {
		return -1;
	}
	ev_timer_init(&watchdog, on_watchdog, 30, 0);
	ev_timer_start(loop, &watchdog);
	ev_unref(loop);
	return 0;
}

static int end(void **state)
{
	(void)state;
	ev_ref(loop);
	ev_timer_stop(loop, &watchdog);
	turn = turn_free(turn);
	ev_loop_destroy(loop);
	return turn ? -1 : 0;
}

static void test_ends_when_nothing_is_left(void **state)
{
	(void)state;
	ev_run(loop, 0);
	assert_null(turn_free(NULL));
	assert_ptr_equal(turn_loop(turn), loop);
}

static void test_wake(void **state)
{
	(void)state;
	struct probe first;
	struct probe second;
	struct probe asleep;
	probe_init(&first, NULL);
	probe_init(&second, NULL);
	probe_init(&asleep, NULL);
	task_wake(&first.task);
	task_wake(&second.task);
	task_wake(&first.task);
	ev_run(loop, 0);
	assert_int_equal(first.n_runs, 1);
	assert_int_equal(second.n_runs, 1);
	assert_int_equal(asleep.n_runs, 0);
	assert_ptr_equal(order[0], &first);
	task_wake(&first.task);
	ev_run(loop, 0);
	assert_int_equal(first.n_runs, 2);
	task_done(&first.task);
	task_done(&second.task);
	task_done(&asleep.task);
}

static void on_wake_probe(struct ev_loop *the_loop, struct ev_timer *watcher, int events)
{
	(void)the_loop;
	(void)events;
	struct probe *probe = watcher->data;
	task_wake(&probe->task);
	/* Only later, from the top of the stack. */
	assert_int_equal(probe->n_runs, 0);
}

/* The last watcher of all stops, and what it woke runs nevertheless. */
static void test_wake_from_watcher(void **state)
{
	(void)state;
	struct probe probe;
	probe_init(&probe, NULL);
	struct ev_timer timer;
	ev_timer_init(&timer, on_wake_probe, 0.005, 0);
	timer.data = &probe;
	ev_timer_start(loop, &timer);
	ev_run(loop, 0);
	assert_int_equal(probe.n_runs, 1);
	task_done(&probe.task);
}

static void wake_other(struct probe *probe)
{
	unsigned int n_before = probe->other->n_runs;
	task_wake(&probe->other->task);
	assert_int_equal(probe->other->n_runs, n_before);
}

static void test_wake_from_task(void **state)
{
	(void)state;
	struct probe lower;
	struct probe upper;
	probe_init(&lower, wake_other);
	probe_init(&upper, NULL);
	lower.other = &upper;
	task_wake(&lower.task);
	unsigned int n_before = ev_iteration(loop);
	ev_run(loop, EVRUN_NOWAIT);
	/* In the same turn. */
	assert_int_equal(upper.n_runs, 1);
	assert_int_equal(ev_iteration(loop) - n_before, 1);
	task_done(&lower.task);
	task_done(&upper.task);
}

static void test_deadlines(void **state)
{
	(void)state;
	static const uint64_t after_msec[] = {20, 5, 30, 5, 10, 0};
	struct probe probes[6];
	uint64_t start = turn_now(turn);
	for (size_t i = 0; i < 6; i++) {
		probe_init(&probes[i], NULL);
		uint64_t deadline = start + after_msec[i] * USEC_PER_MSEC;
		assert_int_equal(task_set_deadline(&probes[i].task, deadline, 0), 0);
	}
	unsigned int n_before = ev_iteration(loop);
	ev_run(loop, 0);
	assert_int_equal(n_order, 6);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(probes[i].n_runs, 1);
		assert_true(probes[i].ran_at >= start + after_msec[i] * USEC_PER_MSEC);
		assert_true(i == 0 || order[i]->ran_at >= order[i - 1]->ran_at);
		assert_true(probes[i].task.deadline == USEC_NEVER);
		task_done(&probes[i].task);
	}
	/* It waits, rather than to look again and again. */
	assert_in_range(ev_iteration(loop) - n_before, 1, 20);
}

static void test_deadline_changes(void **state)
{
	(void)state;
	struct probe later;
	struct probe sooner;
	struct probe never;
	probe_init(&later, NULL);
	probe_init(&sooner, NULL);
	probe_init(&never, NULL);
	uint64_t start = turn_now(turn);
	task_set_deadline(&later.task, start + 1000, 0);
	task_set_deadline(&sooner.task, start + 10 * USEC_PER_MINUTE, 0);
	task_set_deadline(&never.task, start + 1000, 0);
	task_set_deadline(&later.task, start + 30 * USEC_PER_MSEC, 0);
	task_set_deadline(&sooner.task, start + 10 * USEC_PER_MSEC, 0);
	task_set_deadline(&never.task, USEC_NEVER, 0);
	task_set_deadline(&never.task, USEC_NEVER, 0);
	ev_run(loop, 0);
	assert_int_equal(n_order, 2);
	assert_ptr_equal(order[0], &sooner);
	assert_ptr_equal(order[1], &later);
	assert_true(later.ran_at >= start + 30 * USEC_PER_MSEC);
	task_done(&later.task);
	task_done(&sooner.task);
	task_done(&never.task);
}

static void set_again(struct probe *probe)
{
	if (probe->n_runs < 4) {
		task_set_deadline(&probe->task, turn_now(turn) + 3 * USEC_PER_MSEC, 0);
	}
}

static void test_deadline_from_task(void **state)
{
	(void)state;
	struct probe probe;
	probe_init(&probe, set_again);
	uint64_t start = turn_now(turn);
	task_set_deadline(&probe.task, start, 0);
	ev_run(loop, 0);
	assert_int_equal(probe.n_runs, 4);
	assert_true(probe.ran_at >= start + 9 * USEC_PER_MSEC);
	task_done(&probe.task);
}

/* A prepare watcher that comes after the turn's own must not be forgotten until the loop wakes. */
static void on_prepare_late(struct ev_loop *the_loop, struct ev_prepare *watcher, int events)
{
	(void)events;
	struct probe *probe = watcher->data;
	task_set_deadline(&probe->task, turn_now(turn) + 2 * USEC_PER_MSEC, 0);
	ev_prepare_stop(the_loop, watcher);
}

static void test_deadline_from_prepare(void **state)
{
	(void)state;
	struct probe probe;
	struct probe far;
	probe_init(&probe, NULL);
	probe_init(&far, NULL);
	task_set_deadline(&far.task, turn_now(turn) + USEC_PER_MINUTE, 0);
	struct ev_prepare prepare;
	ev_prepare_init(&prepare, on_prepare_late);
	ev_set_priority(&prepare, EV_MINPRI);
	prepare.data = &probe;
	ev_prepare_start(loop, &prepare);
	while (probe.n_runs == 0) {
		ev_run(loop, EVRUN_ONCE);
	}
	assert_int_equal(far.n_runs, 0);
	task_done(&probe.task);
	task_done(&far.task);
}

#define N_MANY 300

static void test_many_deadlines(void **state)
{
	(void)state;
	static struct probe probes[N_MANY];
	static uint64_t deadlines[N_MANY];
	uint64_t start = turn_now(turn);
	uint32_t chance = 7;
	for (size_t i = 0; i < N_MANY; i++) {
		probe_init(&probes[i], NULL);
		deadlines[i] = USEC_NEVER;
	}
	for (size_t step = 0; step < 5000; step++) {
		chance = chance * 1103515245 + 12345;
		size_t i = (chance >> 8) % N_MANY;
		chance = chance * 1103515245 + 12345;
		deadlines[i] = start + (chance >> 8) % (20 * USEC_PER_MSEC);
		if (chance >> 30 == 0) {
			deadlines[i] = USEC_NEVER;
		}
		assert_int_equal(task_set_deadline(&probes[i].task, deadlines[i], 0), 0);
		assert_true(probes[i].task.deadline == deadlines[i]);
	}
	ev_run(loop, 0);
	for (size_t i = 0; i < N_MANY; i++) {
		assert_int_equal(probes[i].n_runs, deadlines[i] != USEC_NEVER);
		assert_true(probes[i].n_runs == 0 || probes[i].ran_at >= deadlines[i]);
		task_done(&probes[i].task);
	}
}

static void test_slack(void **state)
{
	(void)state;
	struct probe first;
	struct probe second;
	probe_init(&first, NULL);
	probe_init(&second, NULL);
	uint64_t minute = USEC_PER_MINUTE;
	uint64_t now = turn_now(turn);
	/* Alone it comes as late as it may; without a second of slack when it is due. */
	task_set_deadline(&first.task, now + 5 * minute, 5 * minute);
	assert_true(first.task.deadline == now + 10 * minute);
	task_set_deadline(&second.task, now + 5 * minute, USEC_PER_SEC - 1);
	assert_true(second.task.deadline == now + 5 * minute);
	/* In company, where it may: at either end, and between. */
	task_set_deadline(&second.task, now + 9 * minute, 9 * minute);
	assert_true(second.task.deadline == now + 10 * minute);
	task_set_deadline(&second.task, now + 10 * minute, minute);
	assert_true(second.task.deadline == now + 10 * minute);
	task_set_deadline(&second.task, now + 9 * minute, minute);
	assert_true(second.task.deadline == now + 10 * minute);
	/* Not before it is due, nor later than it may. */
	task_set_deadline(&second.task, now + 10 * minute + 1, minute);
	assert_true(second.task.deadline == now + 11 * minute + 1);
	task_set_deadline(&second.task, now + 8 * minute, 2 * minute - 1);
	assert_true(second.task.deadline == now + 10 * minute - 1);
	/* Of several the last. */
	task_set_deadline(&first.task, now + 8 * minute, 20 * minute);
	assert_true(first.task.deadline == now + 11 * minute + 1);
	/* More of them than are remembered: each within its own time all the same. */
	for (uint64_t i = 20; i < 60; i++) {
		task_set_deadline(&first.task, now + i * minute, 2 * USEC_PER_SEC);
		assert_true(first.task.deadline == now + i * minute + 2 * USEC_PER_SEC);
	}
	/* Near the end of time nothing wraps. */
	task_set_deadline(&first.task, USEC_NEVER - 1, UINT64_MAX);
	assert_true(first.task.deadline == USEC_NEVER - 1);
	task_set_deadline(&second.task, USEC_NEVER - 10 * minute, 10 * minute);
	assert_true(second.task.deadline == USEC_NEVER - 10 * minute);
	ev_run(loop, EVRUN_NOWAIT);
	assert_int_equal(first.n_runs + second.n_runs, 0);
	task_done(&first.task);
	task_done(&second.task);
}

static void end_both(struct probe *probe)
{
	task_done(&probe->other->task);
	free(probe->other);
	task_done(&probe->task);
	free(probe);
}

/* Whoever comes first ends the other, which was ready or had a deadline, and itself. */
static void test_end_in_task(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct probe *first = malloc(sizeof(*first));
		struct probe *second = malloc(sizeof(*second));
		assert_non_null(first);
		assert_non_null(second);
		probe_init(first, end_both);
		probe_init(second, end_both);
		first->other = second;
		second->other = first;
		task_wake(&first->task);
		if (i == 0) {
			task_wake(&second->task);
		}
		task_set_deadline(&first->task, turn_now(turn) + 5 * USEC_PER_MSEC, 0);
		task_set_deadline(&second->task, turn_now(turn) + 1 * USEC_PER_MSEC, 0);
		n_order = 0;
		ev_run(loop, 0);
		assert_int_equal(n_order, 1);
	}
}

static void wake_itself(struct probe *probe)
{
	task_wake(&probe->task);
}

static void set_passed_deadline(struct probe *probe)
{
	task_set_deadline(&probe->task, turn_now(turn), 0);
}

static void on_readable(struct ev_loop *the_loop, struct ev_io *watcher, int events)
{
	(void)the_loop;
	(void)events;
	struct probe *probe = watcher->data;
	char octet;
	assert_int_equal(read(watcher->fd, &octet, 1), 1);
	if (octet == '.') {
		task_done(&probe->task);
		ev_io_stop(loop, watcher);
	}
}

static void starve(void (*action)(struct probe *probe))
{
	struct probe probe;
	probe_init(&probe, action);
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	struct ev_io io;
	ev_io_init(&io, on_readable, fds[0], EV_READ);
	io.data = &probe;
	ev_io_start(loop, &io);
	assert_int_equal(write(fds[1], "1234567.", 8), 8);
	task_wake(&probe.task);
	ev_run(loop, 0);
	/* Eight turns, in each of which the task had a bounded number of runs. */
	assert_in_range(probe.n_runs, 8, 1000);
	close(fds[0]);
	close(fds[1]);
}

static void test_self_waking_task_starves_nobody(void **state)
{
	(void)state;
	starve(wake_itself);
}

static void test_passed_deadline_starves_nobody(void **state)
{
	(void)state;
	starve(set_passed_deadline);
}

static void look_twice(struct probe *probe)
{
	uint64_t now = turn_now(turn);
	usleep(2000);
	assert_true(turn_now(turn) == now);
	if (probe->other) {
		assert_true(now > probe->other->ran_at);
	}
}

static void test_now(void **state)
{
	(void)state;
	struct probe first;
	struct probe second;
	probe_init(&first, look_twice);
	probe_init(&second, look_twice);
	second.other = &first;
	task_wake(&first.task);
	ev_run(loop, EVRUN_NOWAIT);
	task_wake(&second.task);
	ev_run(loop, EVRUN_NOWAIT);
	assert_int_equal(first.n_runs + second.n_runs, 2);
	assert_true(second.ran_at <= clock_now_usec());
	task_done(&first.task);
	task_done(&second.task);
}

static void test_done_is_harmless(void **state)
{
	(void)state;
	struct probe probe = {0};
	task_done(&probe.task);
	task_wake(&probe.task);
	probe_init(&probe, NULL);
	task_wake(&probe.task);
	task_set_deadline(&probe.task, turn_now(turn), 0);
	task_done(&probe.task);
	task_done(&probe.task);
	task_wake(&probe.task);
	assert_int_equal(task_set_deadline(&probe.task, 1, 0), 0);
	ev_run(loop, 0);
	assert_int_equal(probe.n_runs, 0);
}

static void on_alarm(struct ev_loop *the_loop, struct ev_io *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(the_loop, EVBREAK_ALL);
}

/* Not even once a minute, as libev does where it must look at the clock by itself. */
static void test_sleeps_when_nothing_happens(void **state)
{
	(void)state;
	int fds[2];
	struct ev_io alarm;
	assert_int_equal(pipe(fds), 0);
	ev_io_init(&alarm, on_alarm, fds[0], EV_READ);
	ev_io_start(loop, &alarm);
	ev_ref(loop);
	ev_timer_stop(loop, &watchdog);
	alarm_fd = fds[1];
	ev_run(loop, 0);
	alarm_fd = -1;
	ev_timer_start(loop, &watchdog);
	ev_unref(loop);
	ev_io_stop(loop, &alarm);
	close(fds[0]);
	close(fds[1]);
	assert_true(waited < 0 || waited > 24 * 60 * 60 * 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ends_when_nothing_is_left),
		TEST(test_wake),
		TEST(test_wake_from_watcher),
		TEST(test_wake_from_task),
		TEST(test_deadlines),
		TEST(test_deadline_changes),
		TEST(test_deadline_from_task),
		TEST(test_deadline_from_prepare),
		TEST(test_many_deadlines),
		TEST(test_slack),
		TEST(test_end_in_task),
		TEST(test_self_waking_task_starves_nobody),
		TEST(test_passed_deadline_starves_nobody),
		TEST(test_now),
		TEST(test_done_is_harmless),
		TEST(test_sleeps_when_nothing_happens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
