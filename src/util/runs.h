/* A set of numbers (UIDs, message numbers) from 1 to 2^32-1, each with a small value, kept as
 * sorted runs of neighbours with the same value. A million messages that are all read are one run.
 * Where the value is of no interest it is 0 and the thing is simply a set.
 *
 * Adding, removing and looking up cost less than linear time in the number of runs, also by rank
 * (what a message sequence number is): runs live in blocks that know how many numbers they hold.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run {
	uint32_t first;
	uint32_t last;
	uint16_t value;
};

struct runs_block;

struct runs {
	struct runs_block **blocks; /* none is empty; their runs ascend */
	size_t n_blocks;
	size_t n_blocks_allocated;
	uint64_t count; /* of numbers */
};

void runs_init(struct runs *runs);
void runs_done(struct runs *runs);

/* Adds first..last with this value, or gives the numbers that are there this value. 0 or -ENOMEM
 * (the set is then unchanged); -EINVAL for first 0 or last < first. Appending is the fast case. */
int runs_set(struct runs *runs, uint32_t first, uint32_t last, uint16_t value);

/* Removes what is there of first..last. 0 or -ENOMEM (a run in the middle may have to be split). */
int runs_unset(struct runs *runs, uint32_t first, uint32_t last);

/* Whether n is there, and its value if ret_value is not NULL. */
bool runs_get(const struct runs *runs, uint32_t n, uint16_t *ret_value);

/* The run that holds n, else the first one behind n; false when there is none. Iteration:
 * for (uint64_t n = 1; n <= UINT32_MAX && runs_next(runs, n, &run); n = (uint64_t)run.last + 1) */
bool runs_next(const struct runs *runs, uint32_t n, struct run *ret_run);

/* The run that holds n, else the last one before n; false when there is none. */
bool runs_previous(const struct runs *runs, uint32_t n, struct run *ret_run);

/* How many numbers are there. */
static inline uint64_t runs_count(const struct runs *runs)
{
	return runs->count;
}

/* How many numbers below n are there. */
uint64_t runs_rank(const struct runs *runs, uint32_t n);

/* The number with `rank` numbers before it; false when there are not so many. */
bool runs_select(const struct runs *runs, uint64_t rank, uint32_t *ret_n);

/* The highest number; 0 for the empty set. */
uint32_t runs_highest(const struct runs *runs);

/* How many runs there are. */
size_t runs_length(const struct runs *runs);

/* Moves the content of source to target, which must be empty; source is empty afterwards. */
void runs_take(struct runs *target, struct runs *source);

/* Copies the content; target must be empty. 0 or -ENOMEM. */
int runs_copy(struct runs *target, const struct runs *source);
