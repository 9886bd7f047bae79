#include "tests/unit/plan.h"

static struct imap_server_traits choose_traits(uint64_t seed, struct chance *chance)
{
	uint32_t kind = (uint32_t)(seed % 5);
	return (struct imap_server_traits){
		.has_qresync = kind == 0,
		.has_condstore = kind <= 2,
		.has_esearch = kind == 0 || kind == 1 || kind == 3,
		.has_idle = chance_below(chance, 8) != 0,
		.has_uidnext = kind != 4 || chance_below(chance, 2),
		.has_exists_in_answers = chance_below(chance, 2),
		.has_pushes_before_ok = chance_below(chance, 2),
		.has_pushes_before_plus = chance_below(chance, 4) == 0,
		.has_fresh_answers = chance_below(chance, 2),
		.has_modseq_in_answers = chance_below(chance, 2),
		.keeps_gone = chance_below(chance, 2),
		.omits_gone = chance_below(chance, 4) == 0,
		.refuses_gone = chance_below(chance, 2),
		.descends = chance_below(chance, 2),
		.expunges_last = chance_below(chance, 2),
		.pushes = (enum imap_server_pushes)chance_below(chance, 3),
	};
}

/* From a chance of its own: what else happens is the same with NOTIFY and without. */
static void choose_notify(struct plan *plan, uint64_t seed)
{
	struct chance chance;
	chance_init(&chance, ~seed);
	plan->traits.has_notify = chance_below(&chance, 2);
	plan->watches_another = chance_below(&chance, 2);
	plan->traits.notify_fault = chance_below(&chance, 2)
		? IMAP_SERVER_NOTIFIES_WELL
		: (enum imap_server_notify_fault)chance_below(
			  &chance, IMAP_SERVER_NOTIFY_IS_EARLY + 1);
}

static unsigned int some_flags(struct chance *chance)
{
	return chance_below(chance, 3) ? 0 : chance_below(chance, 1u << IMAP_SERVER_FLAGS);
}

static void choose_mailbox(struct plan *plan, struct chance *chance)
{
	uint32_t n = chance_below(chance, 8);
	plan->announces_all = chance_below(chance, 8) == 0;
	imap_server_mailbox_create(&plan->mailbox, 1000);
	plan->mailbox.exists = !plan->announces_all || chance_below(chance, 2);
	for (uint32_t i = 0; i < n; i++) {
		imap_server_arrive(&plan->mailbox, some_flags(chance));
	}
	for (uint32_t i = chance_below(chance, n + 1); i > 0; i--) {
		imap_server_expunge(&plan->mailbox, chance_below(chance, 64));
	}
	if (!plan->mailbox.exists) {
		plan->steps[plan->n_steps++] = (struct step){.kind = STEP_CREATE};
	}
}

static void choose_steps(struct plan *plan, struct chance *chance)
{
	static const enum step_kind kinds[] = {STEP_ARRIVE, STEP_ARRIVE, STEP_ARRIVE, STEP_ARRIVE,
		STEP_CHANGE, STEP_CHANGE, STEP_CHANGE, STEP_EXPUNGE, STEP_EXPUNGE, STEP_EXPUNGE,
		STEP_REFRESH, STEP_FETCH, STEP_TIME};
	size_t n = 4 + chance_below(chance, PLAN_STEPS - 6);
	size_t reset = chance_below(chance, 3) ? n : chance_below(chance, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		struct step *step = &plan->steps[plan->n_steps++];
		*step = (struct step){
			.kind = kinds[chance_below(chance, sizeof(kinds) / sizeof(kinds[0]))],
			.argument = chance_below(chance, 64),
			.flags = some_flags(chance),
			.at_once = chance_below(chance, 3) == 0,
		};
		if (i == reset) {
			static const enum step_kind ends[] = {STEP_RESET, STEP_DELETE, STEP_BYE,
				STEP_ABILITIES, STEP_LOGOUT, STEP_PASSWORD};
			step->kind = ends[chance_below(chance, 6)];
		}
		if (step->kind == STEP_DELETE) {
			plan->steps[plan->n_steps++] =
				(struct step){.kind = STEP_CREATE, .argument = step->argument};
		}
	}
}

/* From a chance of its own, too. */
static void choose_manners(struct plan *plan, uint64_t seed)
{
	struct chance chance;
	chance_init(&chance, seed ^ UINT64_C(0x5555555555555555));
	plan->is_early = chance_below(&chance, 4) != 0;
	if (chance_below(&chance, 3) == 0) {
		plan->traits.stumble = (enum imap_server_stumble)(
			1 + chance_below(&chance, IMAP_SERVER_SKIPS_ONE));
	}
}

void plan_choose(struct plan *plan, uint64_t seed, struct chance *chance)
{
	*plan = (struct plan){.pace = 2 + chance_below(chance, 12)};
	plan->traits = choose_traits(seed, chance);
	choose_notify(plan, seed);
	choose_manners(plan, seed);
	choose_mailbox(plan, chance);
	choose_steps(plan, chance);
}
