/* One turn of the loop: watchers only wake tasks, and the tasks run from one place at the end of
 * the turn, each from the top of the stack. So "up is an event" costs no scan: a lower layer says
 * task_wake() on the task of its owner, which it borrows, and never calls it; the owner then pops
 * what the lower layer queued until it is empty.
 *
 * Deadlines are µs of CLOCK_BOOTTIME, so that time in suspend counts; one timerfd carries the
 * nearest of all tasks. A deadline with slack goes where another one went before, so that those of
 * different mailboxes fall together, and stay together.
 *
 * Knows libev(3); nothing else below the sockets does.
 */
#pragma once

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/list.h"

struct turn;

struct task {
	struct turn *turn; /* borrowed; NULL before task_init() and after task_done() */
	void (*run)(struct task *task);
	struct list ready;    /* in turn's queue when woken */
	uint64_t deadline;    /* USEC_NEVER: none */
	size_t heap_position; /* SIZE_MAX: not in the heap */
};

/* Needs a loop that outlives it. 0 or a negative errno of timerfd_create(2). */
int turn_new(struct ev_loop *loop, struct turn **ret_turn);

/* NULL is allowed. All tasks must be done. Returns NULL. */
struct turn *turn_free(struct turn *turn);

struct ev_loop *turn_loop(struct turn *turn);

/* µs of CLOCK_BOOTTIME, read once for each turn. */
uint64_t turn_now(struct turn *turn);

/* The task is asleep and has no deadline. `run` is called after task_wake() or when the deadline is
 * reached (which clears it), never from inside either. */
void task_init(struct task *task, struct turn *turn, void (*run)(struct task *task));

/* Harmless on a task that was never initialised but zeroed, and when done twice. A task may end
 * itself, or any other, while it runs. */
void task_done(struct task *task);

/* Runs the task later in this turn (or in the next one, when it wakes itself again and again). */
void task_wake(struct task *task);

/* Sets the deadline, µs; USEC_NEVER for none. It may come up to slack µs later, and does so (with a
 * slack of a second or more) unless there is company before. 0 or -ENOMEM. */
int task_set_deadline(struct task *task, uint64_t deadline, uint64_t slack);
