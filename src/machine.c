#include "machine.h"
#include "util/log.h"

int machine_init(
	struct machine *machine, struct turn *turn, struct task *owner, struct accounts *accounts)
{
	machine->accounts = accounts;
	int error = network_new(turn, owner, &machine->network);
	if (error == 0) {
		error = sleep_watch_new(turn, owner, &machine->sleep_watch);
	}
	if (error == 0) {
		error = logind_new(turn, owner, &machine->logind);
	}
	if (error == 0) {
		accounts_network_changed(accounts, 0, network_is_up(machine->network));
	}
	return error;
}

void machine_done(struct machine *machine)
{
	machine->logind = logind_free(machine->logind);
	machine->sleep_watch = sleep_watch_free(machine->sleep_watch);
	machine->network = network_free(machine->network);
}

static const char *state_name(enum machine_state state)
{
	switch (state) {
	case MACHINE_STATE_AWAKE:
		return "awake";
	case MACHINE_STATE_GOING_TO_SLEEP:
		return "going to sleep";
	case MACHINE_STATE_ASLEEP:
		return "asleep";
	}
	return "";
}

static void enter(struct machine *machine, enum machine_state state)
{
	log_info(NULL, NULL, "machine=%s was=%s", state_name(state), state_name(machine->state));
	machine->state = state;
}

static void follow_logind(struct machine *machine)
{
	bool is_preparing = logind_is_preparing(machine->logind);
	if (is_preparing && machine->state == MACHINE_STATE_AWAKE) {
		enter(machine, MACHINE_STATE_GOING_TO_SLEEP);
		accounts_sleep(machine->accounts);
	} else if (!is_preparing && machine->state != MACHINE_STATE_AWAKE) {
		enter(machine, MACHINE_STATE_AWAKE);
		accounts_wake(machine->accounts);
	}
	if (machine->state == MACHINE_STATE_GOING_TO_SLEEP &&
		accounts_is_quiet(machine->accounts)) {
		enter(machine, MACHINE_STATE_ASLEEP);
		logind_let_sleep(machine->logind);
	}
}

void machine_run(struct machine *machine)
{
	unsigned int news = network_take_news(machine->network);
	/* Announced by logind or not; when it is, logind says soon that it is over. */
	bool has_slept = sleep_watch_take(machine->sleep_watch);
	follow_logind(machine);
	if (news != 0) {
		accounts_network_changed(machine->accounts, news, network_is_up(machine->network));
	}
	if (has_slept && machine->state == MACHINE_STATE_AWAKE) {
		accounts_wake(machine->accounts);
	}
	if (news != 0 || has_slept) {
		logind_try_again(machine->logind);
	}
}

void machine_look_again(struct machine *machine)
{
	logind_try_again(machine->logind);
}
