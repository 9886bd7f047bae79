/* What account and root show of all their mailboxes together, kept right by each mailbox that
 * changes: no event costs a look at the others.
 *
 *   part (of a mailbox) -> tally of its account -> tally of all accounts
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tally {
	struct tally *above; /* borrowed; NULL: none */
	uint64_t unread;
	size_t n_online;
};

/* What one mailbox is of the sums. Zeroed: no part of any. */
struct tally_part {
	struct tally *tally; /* borrowed */
	uint32_t unread;
	bool is_online;
};

/* Of no mailbox yet. above: NULL for none. */
void tally_init(struct tally *tally, struct tally *above);

/* With nothing unread, and not online. */
void tally_part_init(struct tally_part *part, struct tally *tally);

/* No part of the sums any more; may be done twice. */
void tally_part_done(struct tally_part *part);

/* Harmless when it is done. */
void tally_part_set_unread(struct tally_part *part, uint32_t unread);
void tally_part_set_online(struct tally_part *part, bool is_online);
