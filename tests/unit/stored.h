/* What the daemon stores of a mailbox, by the events of a client: the deltas are those that
 * mailbox_follow.c makes of them, and a view can be made of what is stored alone. For tests: out of
 * memory it aborts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imap/client.h"

struct stored {
	struct imap_mailbox *mailbox;
	uint16_t n_sets; /* up to here the sets of flags are stored */
};

void stored_init(struct stored *stored);
void stored_done(struct stored *stored);

/* view: that of the client which told the event. */
void stored_take(
	struct stored *stored, const struct imap_mailbox *view, const struct imap_event *event);

/* The view of a daemon that starts anew; owned by the caller. announces_all: what the daemon asks
 * for when nothing is stored. */
struct imap_mailbox *stored_restore(struct stored *stored, bool announces_all);
