#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/runs.h"

/* Few enough to be moved cheaply, many enough that counting over blocks is short work. */
#define BLOCK_RUNS 256

/* A set of one run is the common case. At least the three runs that a change can put in. */
#define BLOCK_RUNS_AT_FIRST 4

struct runs_block {
	uint64_t count; /* of numbers */
	size_t n_runs;
	size_t size; /* room for so many runs */
	struct run runs[];
};

/* Where a run is, or (in the last block, behind its last run) the end. All zero is the end of the
 * empty set. */
struct position {
	size_t block;
	size_t run;
};

/* Every change is one: the runs from..to (to not included) make room for up to three others. */
struct change {
	struct position from;
	struct position to;
	struct run with[3];
	size_t n_with;
};

void runs_init(struct runs *runs)
{
	*runs = (struct runs){0};
}

void runs_done(struct runs *runs)
{
	for (size_t i = 0; i < runs->n_blocks; i++) {
		free(runs->blocks[i]);
	}
	free(runs->blocks);
	runs_init(runs);
}

static uint64_t run_count(const struct run *run)
{
	return (uint64_t)run->last - run->first + 1;
}

/* The first run that ends at n or behind, else the end. */
static struct position locate(const struct runs *runs, uint32_t n)
{
	size_t low = 0;
	size_t high = runs->n_blocks;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct runs_block *block = runs->blocks[middle];
		if (block->runs[block->n_runs - 1].last < n) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	struct position position = {.block = low};
	if (low == runs->n_blocks) {
		if (low > 0) {
			position.block = low - 1;
			position.run = runs->blocks[low - 1]->n_runs;
		}
		return position;
	}
	const struct runs_block *block = runs->blocks[low];
	low = 0;
	high = block->n_runs;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (block->runs[middle].last < n) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	position.run = low;
	return position;
}

/* NULL at the end. */
static const struct run *run_at(const struct runs *runs, struct position position)
{
	if (position.block >= runs->n_blocks ||
		position.run >= runs->blocks[position.block]->n_runs) {
		return NULL;
	}
	return &runs->blocks[position.block]->runs[position.run];
}

static struct position position_behind(const struct runs *runs, struct position position)
{
	position.run++;
	if (position.run == runs->blocks[position.block]->n_runs &&
		position.block + 1 < runs->n_blocks) {
		position.block++;
		position.run = 0;
	}
	return position;
}

static bool position_before(
	const struct runs *runs, struct position position, struct position *ret_position)
{
	if (position.run > 0) {
		position.run--;
	} else if (position.block > 0) {
		position.block--;
		position.run = runs->blocks[position.block]->n_runs - 1;
	} else {
		return false;
	}
	*ret_position = position;
	return true;
}

static int grow_block(struct runs *runs, size_t index, size_t needed)
{
	struct runs_block *block = runs->blocks[index];
	if (needed <= block->size) {
		return 0;
	}
	size_t size = block->size;
	while (size < needed) {
		size *= 2;
	}
	block = realloc(block, sizeof(*block) + size * sizeof(block->runs[0]));
	if (!block) {
		return -ENOMEM;
	}
	block->size = size;
	runs->blocks[index] = block;
	return 0;
}

/* The block is empty, and must not stay so. */
static int add_block(struct runs *runs, size_t index, size_t size)
{
	if (runs->n_blocks == runs->n_blocks_allocated) {
		size_t n = runs->n_blocks_allocated > 0 ? runs->n_blocks_allocated * 2 : 1;
		struct runs_block **blocks = reallocarray(runs->blocks, n, sizeof(*blocks));
		if (!blocks) {
			return -ENOMEM;
		}
		runs->blocks = blocks;
		runs->n_blocks_allocated = n;
	}
	struct runs_block *block = malloc(sizeof(*block) + size * sizeof(block->runs[0]));
	if (!block) {
		return -ENOMEM;
	}
	block->count = 0;
	block->n_runs = 0;
	block->size = size;
	memmove(runs->blocks + index + 1, runs->blocks + index,
		(runs->n_blocks - index) * sizeof(*runs->blocks));
	runs->blocks[index] = block;
	runs->n_blocks++;
	return 0;
}

static void drop_blocks(struct runs *runs, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		runs->count -= runs->blocks[i]->count;
		free(runs->blocks[i]);
	}
	memmove(runs->blocks + from, runs->blocks + to,
		(runs->n_blocks - to) * sizeof(*runs->blocks));
	runs->n_blocks -= to - from;
}

static void remove_runs(struct runs *runs, struct runs_block *block, size_t from, size_t to)
{
	uint64_t count = 0;
	for (size_t i = from; i < to; i++) {
		count += run_count(&block->runs[i]);
	}
	memmove(block->runs + from, block->runs + to,
		(block->n_runs - to) * sizeof(block->runs[0]));
	block->n_runs -= to - from;
	block->count -= count;
	runs->count -= count;
}

/* There is room. */
static void insert_runs(struct runs *runs, struct runs_block *block, size_t at,
	const struct run *with, size_t n_with)
{
	memmove(block->runs + at + n_with, block->runs + at,
		(block->n_runs - at) * sizeof(block->runs[0]));
	memcpy(block->runs + at, with, n_with * sizeof(block->runs[0]));
	block->n_runs += n_with;
	for (size_t i = 0; i < n_with; i++) {
		uint64_t count = run_count(&with[i]);
		block->count += count;
		runs->count += count;
	}
}

static int split_block(struct runs *runs, size_t index)
{
	int error = add_block(runs, index + 1, BLOCK_RUNS);
	if (error < 0) {
		return error;
	}
	struct runs_block *block = runs->blocks[index];
	size_t half = block->n_runs / 2;
	insert_runs(runs, runs->blocks[index + 1], 0, block->runs + half, block->n_runs - half);
	remove_runs(runs, block, half, block->n_runs);
	return 0;
}

/* Small neighbours become one, without which the blocks would stay many when runs become few. Where
 * memory is short they stay as they are. */
static void merge_with_next(struct runs *runs, size_t index)
{
	if (index + 1 >= runs->n_blocks) {
		return;
	}
	const struct runs_block *next = runs->blocks[index + 1];
	size_t n_runs = runs->blocks[index]->n_runs + next->n_runs;
	if (n_runs > BLOCK_RUNS / 2 || grow_block(runs, index, n_runs) < 0) {
		return;
	}
	struct runs_block *block = runs->blocks[index];
	insert_runs(runs, block, block->n_runs, next->runs, next->n_runs);
	drop_blocks(runs, index + 1, index + 2);
}

/* Gets all the memory that the change needs. Where a block had to be split, true is returned and
 * the change has to be planned again; the set is the same. */
static int make_room(struct runs *runs, struct change *change, bool *ret_is_split)
{
	size_t index = change->from.block;
	*ret_is_split = false;
	if (runs->n_blocks == 0) {
		return add_block(runs, 0, BLOCK_RUNS_AT_FIRST);
	}
	const struct runs_block *block = runs->blocks[index];
	size_t n_kept = change->from.run;
	if (change->to.block == index) {
		n_kept += block->n_runs - change->to.run;
	}
	size_t needed = n_kept + change->n_with;
	if (needed <= BLOCK_RUNS) {
		return grow_block(runs, index, needed);
	}
	/* What is appended leaves full blocks behind, not half empty ones. */
	if (index + 1 == runs->n_blocks && change->from.run == block->n_runs) {
		int error = add_block(runs, index + 1, BLOCK_RUNS_AT_FIRST);
		if (error == 0) {
			change->from = (struct position){.block = index + 1};
			change->to = change->from;
		}
		return error;
	}
	*ret_is_split = true;
	return split_block(runs, index);
}

static void apply(struct runs *runs, const struct change *change)
{
	size_t index = change->from.block;
	struct runs_block *block = runs->blocks[index];
	if (change->to.block == index) {
		remove_runs(runs, block, change->from.run, change->to.run);
	} else {
		remove_runs(runs, block, change->from.run, block->n_runs);
		struct runs_block *last = runs->blocks[change->to.block];
		remove_runs(runs, last, 0, change->to.run);
		size_t to = change->to.block + (last->n_runs == 0 ? 1 : 0);
		drop_blocks(runs, index + 1, to);
	}
	insert_runs(runs, block, change->from.run, change->with, change->n_with);
	if (block->n_runs == 0) {
		drop_blocks(runs, index, index + 1);
	}
	/* Backwards, since what is merged moves what lies behind. */
	merge_with_next(runs, index + 1);
	merge_with_next(runs, index);
	if (index > 0) {
		merge_with_next(runs, index - 1);
	}
}

static struct change plan_set(const struct runs *runs, struct run new)
{
	uint32_t first = new.first;
	uint32_t last = new.last;
	struct change change = {.from = locate(runs, first), .to = locate(runs, last)};

	/* On the left: a run that reaches into the new one, or ends where it begins. */
	struct position before;
	const struct run *run = run_at(runs, change.from);
	if (run && run->first < first) {
		if (run->value == new.value) {
			new.first = run->first;
		} else {
			change.with[change.n_with++] = (struct run){
				.first = run->first,
				.last = first - 1,
				.value = run->value,
			};
		}
	} else if (position_before(runs, change.from, &before)) {
		run = run_at(runs, before);
		if (run->last + 1 == first && run->value == new.value) {
			new.first = run->first;
			change.from = before;
		}
	}

	/* On the right the same, where both may be: the new one ends with a run and another of the
	 * same value begins behind it. */
	struct run rest = {0};
	run = run_at(runs, change.to);
	if (run && run->first <= last) {
		if (run->last > last && run->value == new.value) {
			new.last = run->last;
		} else if (run->last > last) {
			rest = *run;
			rest.first = last + 1;
		}
		change.to = position_behind(runs, change.to);
		run = run_at(runs, change.to);
	}
	if (run && run->first - 1 == new.last && run->value == new.value) {
		new.last = run->last;
		change.to = position_behind(runs, change.to);
	}

	change.with[change.n_with++] = new;
	if (rest.first > 0) {
		change.with[change.n_with++] = rest;
	}
	return change;
}

static struct change plan_unset(const struct runs *runs, uint32_t first, uint32_t last)
{
	struct change change = {.from = locate(runs, first), .to = locate(runs, last)};
	const struct run *run = run_at(runs, change.from);
	if (run && run->first < first) {
		struct run rest = *run;
		rest.last = first - 1;
		change.with[change.n_with++] = rest;
	}
	run = run_at(runs, change.to);
	if (run && run->first <= last) {
		if (run->last > last) {
			struct run rest = *run;
			rest.first = last + 1;
			change.with[change.n_with++] = rest;
		}
		change.to = position_behind(runs, change.to);
	}
	return change;
}

int runs_set(struct runs *runs, uint32_t first, uint32_t last, uint16_t value)
{
	if (first == 0 || last < first) {
		return -EINVAL;
	}
	struct change change;
	bool is_split;
	do {
		change = plan_set(runs, (struct run){.first = first, .last = last, .value = value});
		int error = make_room(runs, &change, &is_split);
		if (error < 0) {
			return error;
		}
	} while (is_split);
	apply(runs, &change);
	return 0;
}

int runs_unset(struct runs *runs, uint32_t first, uint32_t last)
{
	if (runs->n_blocks == 0 || last < first) {
		return 0;
	}
	struct change change;
	bool is_split;
	do {
		change = plan_unset(runs, first, last);
		int error = make_room(runs, &change, &is_split);
		if (error < 0) {
			return error;
		}
	} while (is_split);
	apply(runs, &change);
	return 0;
}

bool runs_get(const struct runs *runs, uint32_t n, uint16_t *ret_value)
{
	const struct run *run = run_at(runs, locate(runs, n));
	if (!run || n < run->first) {
		return false;
	}
	if (ret_value) {
		*ret_value = run->value;
	}
	return true;
}

bool runs_next(const struct runs *runs, uint32_t n, struct run *ret_run)
{
	const struct run *run = run_at(runs, locate(runs, n));
	if (!run) {
		return false;
	}
	*ret_run = *run;
	return true;
}

bool runs_previous(const struct runs *runs, uint32_t n, struct run *ret_run)
{
	struct position position = locate(runs, n);
	const struct run *run = run_at(runs, position);
	if (!run || n < run->first) {
		if (!position_before(runs, position, &position)) {
			return false;
		}
		run = run_at(runs, position);
	}
	*ret_run = *run;
	return true;
}

uint64_t runs_rank(const struct runs *runs, uint32_t n)
{
	struct position position = locate(runs, n);
	uint64_t rank = 0;
	for (size_t i = 0; i < position.block; i++) {
		rank += runs->blocks[i]->count;
	}
	for (size_t i = 0; i < position.run; i++) {
		rank += run_count(&runs->blocks[position.block]->runs[i]);
	}
	const struct run *run = run_at(runs, position);
	if (run && n > run->first) {
		rank += n - run->first;
	}
	return rank;
}

bool runs_select(const struct runs *runs, uint64_t rank, uint32_t *ret_n)
{
	if (rank >= runs->count) {
		return false;
	}
	size_t index = 0;
	while (rank >= runs->blocks[index]->count) {
		rank -= runs->blocks[index]->count;
		index++;
	}
	const struct run *run = runs->blocks[index]->runs;
	while (rank >= run_count(run)) {
		rank -= run_count(run);
		run++;
	}
	*ret_n = run->first + (uint32_t)rank;
	return true;
}

uint32_t runs_highest(const struct runs *runs)
{
	if (runs->n_blocks == 0) {
		return 0;
	}
	const struct runs_block *block = runs->blocks[runs->n_blocks - 1];
	return block->runs[block->n_runs - 1].last;
}

size_t runs_length(const struct runs *runs)
{
	size_t length = 0;
	for (size_t i = 0; i < runs->n_blocks; i++) {
		length += runs->blocks[i]->n_runs;
	}
	return length;
}

void runs_take(struct runs *target, struct runs *source)
{
	free(target->blocks);
	*target = *source;
	runs_init(source);
}

int runs_copy(struct runs *target, const struct runs *source)
{
	for (size_t i = 0; i < source->n_blocks; i++) {
		const struct runs_block *block = source->blocks[i];
		int error = add_block(target, i, block->size);
		if (error < 0) {
			runs_done(target);
			return error;
		}
		insert_runs(target, target->blocks[i], 0, block->runs, block->n_runs);
	}
	return 0;
}
