/* A TCP connection to the first of some addresses that answers: Happy Eyeballs, RFC 8305 section 5.
 * An attempt gets 250 ms, or until it fails, before the next one starts beside it; the first that
 * is connected wins, and the others are closed. The order is the caller's (address_interleave()),
 * and so is the deadline.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "net/address.h"
#include "net/path.h"
#include "util/failure.h"
#include "util/turn.h"

struct dial;

/* Starts with the first of n_addresses (1 or more, they are copied) at the end of this turn. owner
 * is borrowed, and woken when it is done. 0 or -ENOMEM. */
int dial_new(struct turn *turn, struct task *owner, const union address *addresses,
	size_t n_addresses, struct dial **ret_dial);

/* Closes whatever is under way. NULL is allowed. Returns NULL. */
struct dial *dial_free(struct dial *dial);

bool dial_is_done(const struct dial *dial);

/* The connected socket, now the caller's, and its two addresses: non-blocking, not inherited by
 * programs, without Nagle's delay. Reading says ETIMEDOUT when what is sent is not acknowledged
 * within WIRE_PATIENCE_MSEC, and, as long as wire_rest() sees to it, 180 s after the last octet on
 * a path that is dead (keepalive: three probes, after 120, 140 and 160 s). -1 when no address
 * answered, or when it has been taken. */
int dial_take(struct dial *dial, union address *ret_ours, union address *ret_theirs);

/* What has become of the ways that the attempts take: GONE when that is so of all. */
enum path dial_path(const struct dial *dial);

/* FAILURE_OFFLINE with the reason when it is done and nothing is connected. */
const struct failure *dial_failure(const struct dial *dial);

/* Then: whether no packet can have reached any of the addresses, for want of an address of ours or
 * a route. */
bool dial_is_unreachable(const struct dial *dial);
