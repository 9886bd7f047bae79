#include "gate.h"

#define N_INSIDE_HIGHEST 8

void gate_init(struct gate *gate)
{
	gate->n_inside = 0;
	list_init(&gate->waiting);
}

void gate_pass_init(struct gate_pass *pass, struct task *owner)
{
	list_init(&pass->waiting);
	pass->owner = owner;
	pass->is_inside = false;
}

static void let_in(struct gate *gate, struct gate_pass *pass)
{
	list_remove(&pass->waiting);
	pass->is_inside = true;
	gate->n_inside++;
}

bool gate_enter(struct gate *gate, struct gate_pass *pass)
{
	if (pass->is_inside) {
		return true;
	}
	if (gate->n_inside < N_INSIDE_HIGHEST) {
		let_in(gate, pass);
	} else if (list_is_empty(&pass->waiting)) {
		list_append(&gate->waiting, &pass->waiting);
	}
	return pass->is_inside;
}

bool gate_is_crowded(const struct gate *gate)
{
	return !list_is_empty(&gate->waiting);
}

void gate_leave(struct gate *gate, struct gate_pass *pass)
{
	list_remove(&pass->waiting);
	if (!pass->is_inside) {
		return;
	}
	pass->is_inside = false;
	gate->n_inside--;
	if (!list_is_empty(&gate->waiting)) {
		struct gate_pass *next = list_entry(gate->waiting.next, struct gate_pass, waiting);
		let_in(gate, next);
		task_wake(next->owner);
	}
}
