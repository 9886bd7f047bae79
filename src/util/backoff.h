/* How long to wait after a failure: full jitter, a wait drawn evenly from 0 to a bound that is 1 s
 * at first and doubles up to 5 minutes; at least 100 ms, so that chance makes no busy loop of a
 * refused connection. Pure: chance comes in as a seed.
 */
#pragma once

#include <stdint.h>

struct backoff {
	uint64_t seed;
	unsigned int n_failures;
};

void backoff_init(struct backoff *backoff, uint64_t seed);

/* The wait in µs before the next attempt, one failure more. */
uint64_t backoff_next_usec(struct backoff *backoff);

/* As backoff_next_usec(), but never less than at_least µs (for [LIMIT], [UNAVAILABLE], throttling).
 */
uint64_t backoff_next_long_usec(struct backoff *backoff, uint64_t at_least);

/* Starts over: to be called after a minute in IDLE, not after login. */
void backoff_reset(struct backoff *backoff);
