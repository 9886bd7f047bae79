#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/runs.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

/* One allocation in so many fails; 0: none does. */
static unsigned int n_allocations_per_failure;
static uint64_t seed = 1;

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);

/* Knuth's MMIX generator; the upper half is good enough. */
static uint32_t draw(uint32_t bound)
{
	seed = seed * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(seed >> 33) % bound;
}

static bool is_failing(void)
{
	return n_allocations_per_failure > 0 && draw(n_allocations_per_failure) == 0;
}

void *__wrap_malloc(size_t size)
{
	return is_failing() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return is_failing() ? NULL : __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size)
{
	return is_failing() ? NULL : __real_reallocarray(memory, n, size);
}

/* The plain thing to compare with: for each number its value + 1, or 0. */
#define MODEL_SIZE 3000

struct model {
	uint32_t base; /* the number of entry 0 */
	uint32_t entries[MODEL_SIZE];
};

static void model_set(struct model *model, uint32_t first, uint32_t last, uint32_t entry)
{
	for (uint32_t i = first - model->base; i <= last - model->base; i++) {
		model->entries[i] = entry;
	}
}

static void check_iteration(const struct model *model, const struct runs *runs)
{
	uint64_t n = 1;
	size_t length = 0;
	struct run run;
	uint32_t i = 0;
	for (; n <= UINT32_MAX && runs_next(runs, (uint32_t)n, &run); n = (uint64_t)run.last + 1) {
		length++;
		for (; i < run.first - model->base; i++) {
			assert_int_equal(model->entries[i], 0);
		}
		assert_true(run.last - model->base < MODEL_SIZE);
		for (; i <= run.last - model->base; i++) {
			assert_int_equal(model->entries[i], run.value + 1);
		}
		/* Neighbours with the same value would be one run. */
		if (i < MODEL_SIZE) {
			assert_int_not_equal(model->entries[i], run.value + 1);
		}
	}
	for (; i < MODEL_SIZE; i++) {
		assert_int_equal(model->entries[i], 0);
	}
	assert_int_equal(runs_length(runs), length);
}

static void check_lookups(const struct model *model, const struct runs *runs)
{
	uint64_t rank = 0;
	uint32_t highest = 0;
	for (uint32_t i = 0; i < MODEL_SIZE; i++) {
		uint32_t n = model->base + i;
		uint16_t value = 0;
		struct run run;
		assert_int_equal(runs_rank(runs, n), rank);
		bool is_there = runs_get(runs, n, &value);
		assert_int_equal(is_there, model->entries[i] > 0);
		if (is_there) {
			uint32_t selected = 0;
			assert_int_equal(value, model->entries[i] - 1);
			assert_true(runs_select(runs, rank, &selected));
			assert_int_equal(selected, n);
			rank++;
			highest = n;
		}
		assert_int_equal(runs_previous(runs, n, &run), highest > 0);
		if (highest > 0) {
			assert_true(run.first <= highest && highest <= run.last);
		}
	}
	uint32_t selected = 0;
	assert_false(runs_select(runs, rank, &selected));
	assert_int_equal(runs_count(runs), rank);
	assert_int_equal(runs_highest(runs), highest);
}

/* Few blocks for the runs there are, or nothing would be faster than linear. */
static void check_blocks(const struct runs *runs)
{
	assert_true(runs->n_blocks <= runs_length(runs) / 64 + 1);
}

static void draw_range(const struct model *model, uint32_t *first, uint32_t *last)
{
	/* Mostly short ranges, which cut runs into many; now and then a long one. */
	uint32_t longest = draw(200) == 0 ? MODEL_SIZE : 1 + draw(6);
	uint32_t start = draw(MODEL_SIZE);
	uint32_t len = draw(longest);
	if (len > MODEL_SIZE - 1 - start) {
		len = MODEL_SIZE - 1 - start;
	}
	*first = model->base + start;
	*last = *first + len;
}

static void run_random(uint32_t base, uint32_t n_values, bool is_short_of_memory)
{
	static struct model model;
	memset(&model, 0, sizeof(model));
	model.base = base;
	struct runs runs;
	runs_init(&runs);
	for (int step = 0; step < 12000; step++) {
		uint32_t first = 0;
		uint32_t last = 0;
		draw_range(&model, &first, &last);
		bool is_set = draw(5) > 1;
		uint16_t value = (uint16_t)draw(n_values);
		n_allocations_per_failure = is_short_of_memory ? 2 : 0;
		int error = is_set ? runs_set(&runs, first, last, value)
				   : runs_unset(&runs, first, last);
		n_allocations_per_failure = 0;
		if (error == 0) {
			model_set(&model, first, last, is_set ? value + 1U : 0);
		} else {
			assert_true(is_short_of_memory);
			assert_int_equal(error, -ENOMEM);
		}
		if (step % 400 == 0 || (error < 0 && step % 16 == 0)) {
			check_iteration(&model, &runs);
			check_lookups(&model, &runs);
			if (!is_short_of_memory) {
				check_blocks(&runs);
			}
		}
	}
	runs_done(&runs);
}

static void test_random_low(void **state)
{
	(void)state;
	run_random(1, 3, false);
}

static void test_random_set(void **state)
{
	(void)state;
	run_random(1000000, 1, false);
}

static void test_random_high(void **state)
{
	(void)state;
	run_random(UINT32_MAX - MODEL_SIZE + 1, UINT16_MAX, false);
}

static void test_random_short_of_memory(void **state)
{
	(void)state;
	run_random(1, 2, true);
}

static void test_empty(void **state)
{
	(void)state;
	struct runs runs;
	struct run run;
	uint32_t n;
	runs_init(&runs);
	assert_false(runs_get(&runs, 1, NULL));
	assert_false(runs_next(&runs, 1, &run));
	assert_false(runs_previous(&runs, UINT32_MAX, &run));
	assert_false(runs_select(&runs, 0, &n));
	assert_int_equal(runs_rank(&runs, UINT32_MAX), 0);
	assert_int_equal(runs_highest(&runs), 0);
	assert_int_equal(runs_length(&runs), 0);
	assert_int_equal(runs_unset(&runs, 1, UINT32_MAX), 0);
	assert_int_equal(runs_set(&runs, 0, 1, 0), -EINVAL);
	assert_int_equal(runs_set(&runs, 2, 1, 0), -EINVAL);
	assert_int_equal(runs_count(&runs), 0);
	runs_done(&runs);
}

static void test_whole_range(void **state)
{
	(void)state;
	struct runs runs;
	struct run run;
	uint32_t n = 0;
	runs_init(&runs);
	assert_int_equal(runs_set(&runs, 1, UINT32_MAX, 7), 0);
	assert_int_equal(runs_count(&runs), UINT32_MAX);
	assert_int_equal(runs_length(&runs), 1);
	assert_int_equal(runs_highest(&runs), UINT32_MAX);
	assert_true(runs_select(&runs, UINT32_MAX - 1, &n));
	assert_int_equal(n, UINT32_MAX);
	assert_int_equal(runs_rank(&runs, UINT32_MAX), UINT32_MAX - 1);
	assert_false(runs_get(&runs, 0, NULL));

	assert_int_equal(runs_unset(&runs, 1, 1), 0);
	assert_int_equal(runs_unset(&runs, UINT32_MAX, UINT32_MAX), 0);
	assert_true(runs_next(&runs, 1, &run));
	assert_int_equal(run.first, 2);
	assert_int_equal(run.last, UINT32_MAX - 1);
	assert_false(runs_next(&runs, UINT32_MAX, &run));
	assert_false(runs_previous(&runs, 1, &run));

	assert_int_equal(runs_set(&runs, UINT32_MAX, UINT32_MAX, 7), 0);
	assert_int_equal(runs_set(&runs, 1, 1, 7), 0);
	assert_int_equal(runs_length(&runs), 1);
	assert_int_equal(runs_unset(&runs, 0, UINT32_MAX), 0);
	assert_int_equal(runs_count(&runs), 0);
	assert_int_equal(runs.n_blocks, 0);
	runs_done(&runs);
}

static void test_append(void **state)
{
	(void)state;
	struct runs runs;
	runs_init(&runs);
	for (uint32_t n = 1; n <= 100000; n++) {
		assert_int_equal(runs_set(&runs, n, n, 1), 0);
	}
	assert_int_equal(runs_length(&runs), 1);
	for (uint32_t n = 100001; n <= 200000; n++) {
		assert_int_equal(runs_set(&runs, n, n, n % 2), 0);
	}
	/* The first of them has the value of the run before. */
	assert_int_equal(runs_length(&runs), 100000);
	assert_true(runs.n_blocks < 400);
	uint32_t n = 0;
	assert_true(runs_select(&runs, 150000, &n));
	assert_int_equal(n, 150001);

	/* A mailbox of which every message is read at last is one run and one block again. */
	for (uint32_t i = 200000; i > 100000; i -= 2) {
		assert_int_equal(runs_set(&runs, i, i, 1), 0);
	}
	assert_int_equal(runs_length(&runs), 1);
	assert_int_equal(runs.n_blocks, 1);
	runs_done(&runs);
}

static void test_take_and_copy(void **state)
{
	(void)state;
	struct runs source;
	struct runs target;
	struct runs copy;
	runs_init(&source);
	runs_init(&target);
	runs_init(&copy);
	for (uint32_t n = 1; n <= 4000; n += 2) {
		assert_int_equal(runs_set(&source, n, n, (uint16_t)n), 0);
	}
	runs_take(&target, &source);
	assert_int_equal(runs_count(&source), 0);
	assert_int_equal(runs_length(&source), 0);
	assert_int_equal(runs_count(&target), 2000);

	assert_int_equal(runs_copy(&copy, &target), 0);
	assert_int_equal(runs_unset(&target, 1, 3000), 0);
	assert_int_equal(runs_count(&target), 500);
	assert_int_equal(runs_count(&copy), 2000);
	uint16_t value = 0;
	assert_true(runs_get(&copy, 2999, &value));
	assert_int_equal(value, 2999);

	n_allocations_per_failure = 1;
	assert_int_equal(runs_copy(&source, &copy), -ENOMEM);
	n_allocations_per_failure = 0;
	assert_int_equal(runs_count(&source), 0);
	runs_done(&source);
	runs_done(&target);
	runs_done(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_whole_range),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_take_and_copy),
		cmocka_unit_test(test_random_low),
		cmocka_unit_test(test_random_set),
		cmocka_unit_test(test_random_high),
		cmocka_unit_test(test_random_short_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
