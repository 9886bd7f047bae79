/* For tests: a loop, its turn, and an owner that only notes that it was woken.
 */
#pragma once

#include <dirent.h>
#include <ev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/turn.h"

/* Wants the C library's headers before it. */
#include <cmocka.h>

/* Longer than anything should take, also on a busy machine and under a sanitizer. */
#define TURNING_PATIENCE_SEC 40

struct turning {
	struct ev_loop *loop;
	struct turn *turn;
	struct task owner;
	bool is_woken;
	ev_timer guard;
};

static void turning_on_guard(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	fail_msg("nothing happened for %d s", TURNING_PATIENCE_SEC);
}

static void turning_run(struct task *task)
{
	struct turning *turning = list_entry(task, struct turning, owner);
	turning->is_woken = true;
	ev_break(turning->loop, EVBREAK_ONE);
}

static inline void turning_init(struct turning *turning)
{
	*turning = (struct turning){0};
	turning->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(turning->loop);
	assert_int_equal(turn_new(turning->loop, &turning->turn), 0);
	task_init(&turning->owner, turning->turn, turning_run);
	ev_timer_init(&turning->guard, turning_on_guard, TURNING_PATIENCE_SEC, 0);
	ev_timer_start(turning->loop, &turning->guard);
}

static inline void turning_done(struct turning *turning)
{
	task_done(&turning->owner);
	ev_timer_stop(turning->loop, &turning->guard);
	turn_free(turning->turn);
	ev_loop_destroy(turning->loop);
}

/* Until the owner is woken; it is not, afterwards. */
static inline void turning_await(struct turning *turning)
{
	while (!turning->is_woken) {
		ev_run(turning->loop, 0);
	}
	turning->is_woken = false;
}

/* Open descriptors of this process. */
static inline unsigned int turning_count_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	assert_non_null(folder);
	unsigned int n = 0;
	while (readdir(folder)) {
		n++;
	}
	closedir(folder);
	return n;
}
