/* How long a connection waits after each kind of end before it tries again. Pure.
 *
 *   ordinary            full jitter, 1 s doubled up to 5 min
 *   throttled, a limit  at least 1 min, then 2, then 5; longer if the server says so, up to 5 min
 *   token               at once, the first time; else as ordinary
 *   credentials         as the key says
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imap/client.h"
#include "key.h"
#include "util/backoff.h"

struct retry {
	struct backoff backoff;
	unsigned int n_long;   /* throttled or limited so often, as far as it matters */
	bool is_token_renewed; /* a token that expired was the reason for an attempt at once */
};

void retry_init(struct retry *retry, uint64_t seed);

/* The wait in µs; 0: at once; USEC_NEVER: until somebody asks for it. retry_after_usec: 0 or what
 * the server asked for. verdict: of the key, for IMAP_END_CREDENTIALS. */
uint64_t retry_wait_usec(struct retry *retry, enum imap_end end, uint64_t retry_after_usec,
	enum key_verdict verdict);

/* The connection has been in IDLE for long enough: what was wrong before is forgotten. */
void retry_forgive(struct retry *retry);
