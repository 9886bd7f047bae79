#include "tally.h"

void tally_init(struct tally *tally, struct tally *above)
{
	*tally = (struct tally){.above = above};
}

void tally_part_init(struct tally_part *part, struct tally *tally)
{
	*part = (struct tally_part){.tally = tally};
}

void tally_part_done(struct tally_part *part)
{
	tally_part_set_unread(part, 0);
	tally_part_set_online(part, false);
	part->tally = NULL;
}

void tally_part_set_unread(struct tally_part *part, uint32_t unread)
{
	if (!part->tally) {
		return;
	}
	for (struct tally *tally = part->tally; tally; tally = tally->above) {
		tally->unread += unread;
		tally->unread -= part->unread;
	}
	part->unread = unread;
}

void tally_part_set_online(struct tally_part *part, bool is_online)
{
	if (!part->tally) {
		return;
	}
	for (struct tally *tally = part->tally; tally; tally = tally->above) {
		tally->n_online += is_online;
		tally->n_online -= part->is_online;
	}
	part->is_online = is_online;
}
