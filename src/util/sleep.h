/* Notices that the machine slept, by its clocks alone: CLOCK_BOOTTIME has gone on, CLOCK_MONOTONIC
 * has not. A timer that never expires is cancelled by the kernel when it resumes (TFD_TIMER_
 * CANCEL_ON_SET, timerfd_create(2)), so that nothing has to wake up now and then to look.
 */
#pragma once

#include <stdbool.h>

#include "util/turn.h"

struct sleep_watch;

/* owner is borrowed, and woken after a sleep. 0, -ENOMEM, or a negative errno of timerfd_create(2)
 * or timerfd_settime(2). */
int sleep_watch_new(struct turn *turn, struct task *owner, struct sleep_watch **ret_watch);

/* NULL is allowed. Returns NULL. */
struct sleep_watch *sleep_watch_free(struct sleep_watch *watch);

/* Whether more than a second of sleep has passed since it was last true, or since the beginning. A
 * clock that was set is no sleep. */
bool sleep_watch_take(struct sleep_watch *watch);
