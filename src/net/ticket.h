/* Session tickets, for TLS to be resumed: octets under a key, in memory only, the oldest forgotten
 * first, and overwritten when they go. A ticket is handed out once (RFC 8446 appendix C.4: one that
 * is used twice lets an observer link the connections). Knows no TLS.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"

#define TICKETS_MAX 64

/* Remembers a ticket, copied. source is the connection that it came from: its next one takes the
 * place of its last. Nothing happens when memory is short. */
void ticket_put(const char *key, uint64_t source, struct span ticket);

/* The newest ticket of the key, which is forgotten; ret_ticket must be an initialised, empty buffer
 * and is the caller's, to be wiped. It stays empty when there is none. */
void ticket_take(const char *key, struct bytes *ret_ticket);

/* Forgets all. */
void ticket_clear(void);
