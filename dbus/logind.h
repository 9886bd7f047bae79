/* The machine's sleep, as systemd-logind announces it on the system bus: org.freedesktop.login1(5),
 * PrepareForSleep, and a delay inhibitor, by which it waits for us (InhibitDelayMaxSec=, 5 s).
 *
 * Where there is no system bus, no logind, or no leave to inhibit, nothing is announced, which is
 * no error; a logind that comes later, or comes back, is found.
 */
#pragma once

#include <stdbool.h>

#include "util/turn.h"

struct logind;

/* Begins to connect to the system bus ($DBUS_SYSTEM_BUS_ADDRESS). owner is borrowed, and woken when
 * logind_is_preparing() has changed. 0 or -ENOMEM. */
int logind_new(struct turn *turn, struct task *owner, struct logind **ret_logind);

/* NULL is allowed. Returns NULL. */
struct logind *logind_free(struct logind *logind);

/* Something has changed in the machine: where there is no system bus, this is a moment to look for
 * it. (One that was lost is looked for a few times by itself, then no more.) */
void logind_try_again(struct logind *logind);

/* The machine is about to sleep, or sleeps. Not for ever: when it runs on for two minutes, and
 * logind does not say that the sleep is over, there was none. */
bool logind_is_preparing(const struct logind *logind);

/* From us it may sleep now. The inhibitor is taken anew when the sleep is over. */
void logind_let_sleep(struct logind *logind);
