/* The machine that we run on: its network, its sleep, and logind, which announces the sleep. What
 * they say is brought to the accounts, and the accounts' consent to sleep to logind.
 *
 *   awake -> (logind prepares: the accounts log out) going to sleep -> (they have, and logind is
 *   told) asleep -> (logind says it is over) awake
 */
#pragma once

#include <stdbool.h>

#include "account.h"
#include "dbus/logind.h"
#include "net/network.h"
#include "util/sleep.h"
#include "util/turn.h"

enum machine_state {
	MACHINE_STATE_AWAKE,
	MACHINE_STATE_GOING_TO_SLEEP,
	MACHINE_STATE_ASLEEP,
};

struct machine {
	struct accounts *accounts; /* borrowed */
	enum machine_state state;
	struct network *network;
	struct sleep_watch *sleep_watch;
	struct logind *logind;
};

/* owner and accounts are borrowed; owner is woken when there is something to do for machine_run(),
 * and is the task that the accounts wake, too. 0 or -ENOMEM. */
int machine_init(
	struct machine *machine, struct turn *turn, struct task *owner, struct accounts *accounts);

/* Harmless on one that is zeroed. */
void machine_done(struct machine *machine);

/* Does what there is to do. */
void machine_run(struct machine *machine);

/* The user has changed something: perhaps there is more of the machine to be seen than before. */
void machine_look_again(struct machine *machine);
