/* The service manager that started us, where there is one: it is told when we are ready, how things
 * stand, that we are alive, and that we stop. sd_notify(3), sd_watchdog_enabled(3).
 */
#pragma once

#include <stdbool.h>

#include "account.h"
#include "util/turn.h"

struct supervisor {
	struct accounts *accounts; /* borrowed */
	struct task status;        /* runs when the status in words may be another one */
	struct task watchdog;
	bool is_there;
	bool is_ready;
	uint64_t watchdog_usec; /* 0: nobody waits for signs of life */
	char text[64];          /* of the last status */
};

void supervisor_init(struct supervisor *supervisor, struct turn *turn, struct accounts *accounts);
void supervisor_done(struct supervisor *supervisor);

/* Harmless when it is called again. */
void supervisor_ready(struct supervisor *supervisor);

/* Something happened in the accounts: the status follows within two seconds. */
void supervisor_changed(struct supervisor *supervisor);

void supervisor_stopping(struct supervisor *supervisor);
