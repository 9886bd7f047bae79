/* Session tickets, for TLS to be resumed: octets under a key, in memory only, the oldest forgotten
 * first, and overwritten when they go. A ticket is handed out once (RFC 8446 appendix C.4: one that
 * is used twice lets an observer link the connections). Knows no TLS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "util/bytes.h"

#define TICKETS_MAX 64

/* From when on and until when a ticket may be used, in seconds since 1970. A clock that says
 * something earlier has been set back, and nobody knows how far. */
struct ticket_life {
	time_t first;
	time_t last;
};

static inline bool ticket_is_alive(const struct ticket_life *life, time_t now)
{
	return life->first <= now && now <= life->last;
}

/* Remembers a ticket, copied. source is the connection that it came from: its next one takes the
 * place of its last. Nothing happens when memory is short. */
void ticket_put(
	const char *key, uint64_t source, const struct ticket_life *life, struct span ticket);

/* The newest ticket of the key that may be used now, which is forgotten; those that may not be are,
 * too. ret_ticket must be an initialised, empty buffer and is the caller's, to be wiped; it stays
 * empty when there is none, and ret_life as it was. */
void ticket_take(
	const char *key, time_t now, struct ticket_life *ret_life, struct bytes *ret_ticket);

/* Forgets all. */
void ticket_clear(void);
