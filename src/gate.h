/* How many connections of all accounts together may be on their way from dialing to being logged
 * in, so that waking up a laptop is not a storm: 8. The others wait in a queue, first come, first
 * served.
 */
#pragma once

#include <stdbool.h>

#include "util/list.h"
#include "util/turn.h"

struct gate {
	unsigned int n_inside;
	struct list waiting;
};

/* Whoever wants to pass has one; embedded. */
struct gate_pass {
	struct list waiting;
	struct task *owner; /* borrowed; woken when let in */
	bool is_inside;
};

void gate_init(struct gate *gate);

void gate_pass_init(struct gate_pass *pass, struct task *owner);

/* Whether the pass is inside; else it waits, and its owner is woken when it is its turn. */
bool gate_enter(struct gate *gate, struct gate_pass *pass);

/* Whether somebody waits. */
bool gate_is_crowded(const struct gate *gate);

/* Leaves the gate or the queue; harmless on a pass that is in neither. */
void gate_leave(struct gate *gate, struct gate_pass *pass);
