/* What a session of the simulation is made of, by its seed alone: how the server behaves, what is
 * in the mailbox at first, and what others do to it and what is asked of the client.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/imap_server.h"

enum {
	PLAN_STEPS = 24,
};

enum step_kind {
	STEP_ARRIVE,
	STEP_CHANGE,
	STEP_EXPUNGE,
	STEP_RESET, /* UIDVALIDITY changes */
	STEP_DELETE,
	STEP_CREATE,
	STEP_BYE,
	STEP_PASSWORD,  /* the same, and the next login is refused */
	STEP_ABILITIES, /* CONDSTORE goes, or comes back */
	STEP_REFRESH,   /* from here on nothing that changes the mailbox */
	STEP_FETCH,
	STEP_TIME,
	STEP_LOGOUT,
};

struct step {
	enum step_kind kind;
	uint32_t argument;
	unsigned int flags;
	bool at_once; /* with the step before */
};

struct plan {
	uint32_t pace; /* a step is taken at one of so many occasions */
	struct imap_server_traits traits;
	bool announces_all;
	bool is_early; /* the mailbox is watched from the beginning, before there is a greeting */
	bool watches_another;               /* by NOTIFY */
	struct imap_server_mailbox mailbox; /* at first */
	struct step steps[PLAN_STEPS];
	size_t n_steps;
};

/* Takes from a chance that was initialised with the seed, and goes on from there for the session.
 */
void plan_choose(struct plan *plan, uint64_t seed, struct chance *chance);
