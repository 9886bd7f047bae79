#include <limits.h>

#include "util/backoff.h"
#include "util/clock.h"

#define BOUND_AT_FIRST_USEC USEC_PER_SEC
#define BOUND_HIGHEST_USEC  (5 * USEC_PER_MINUTE)
#define LEAST_USEC          (100 * USEC_PER_MSEC)

/* 2^9 s are more than the highest bound. */
#define N_DOUBLINGS 9

void backoff_init(struct backoff *backoff, uint64_t seed)
{
	*backoff = (struct backoff){.seed = seed};
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(struct backoff *backoff)
{
	backoff->seed += 0x9e3779b97f4a7c15;
	uint64_t z = backoff->seed;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t backoff_next_usec(struct backoff *backoff)
{
	uint64_t bound = BOUND_HIGHEST_USEC;
	if (backoff->n_failures < N_DOUBLINGS) {
		bound = BOUND_AT_FIRST_USEC << backoff->n_failures;
	}
	if (backoff->n_failures < UINT_MAX) {
		backoff->n_failures++;
	}
	uint64_t wait = draw(backoff) % (bound + 1);
	return wait > LEAST_USEC ? wait : LEAST_USEC;
}

uint64_t backoff_next_long_usec(struct backoff *backoff, uint64_t at_least)
{
	uint64_t wait = backoff_next_usec(backoff);
	return wait > at_least ? wait : at_least;
}

void backoff_reset(struct backoff *backoff)
{
	backoff->n_failures = 0;
}
