#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "util/backoff.h"
#include "util/clock.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static const uint64_t bounds_sec[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};

static void test_bounds(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 2000; seed++) {
		struct backoff backoff;
		backoff_init(&backoff, seed);
		for (size_t i = 0; i < sizeof(bounds_sec) / sizeof(bounds_sec[0]); i++) {
			uint64_t wait = backoff_next_usec(&backoff);
			assert_true(wait >= 100 * USEC_PER_MSEC);
			assert_true(wait <= bounds_sec[i] * USEC_PER_SEC);
		}
	}
}

/* Full jitter: each quarter of the range gets about a quarter of the draws. */
static void test_jitter(void **state)
{
	(void)state;
	unsigned int quarters[4] = {0};
	for (uint64_t seed = 0; seed < 4000; seed++) {
		struct backoff backoff;
		backoff_init(&backoff, seed);
		backoff.n_failures = 20;
		quarters[backoff_next_usec(&backoff) / (75 * USEC_PER_SEC + 1)]++;
	}
	for (int i = 0; i < 4; i++) {
		assert_in_range(quarters[i], 850, 1150);
	}
}

static void test_reset(void **state)
{
	(void)state;
	struct backoff backoff;
	backoff_init(&backoff, 1);
	for (int i = 0; i < 50; i++) {
		backoff_next_usec(&backoff);
	}
	assert_int_equal(backoff.n_failures, 50);
	backoff_reset(&backoff);
	assert_true(backoff_next_usec(&backoff) <= USEC_PER_SEC);
	assert_int_equal(backoff.n_failures, 1);

	backoff.n_failures = UINT_MAX;
	assert_true(backoff_next_usec(&backoff) <= 5 * USEC_PER_MINUTE);
	assert_int_equal(backoff.n_failures, UINT_MAX);
}

static void test_long(void **state)
{
	(void)state;
	struct backoff backoff;
	struct backoff same;
	backoff_init(&backoff, 5);
	backoff_init(&same, 5);
	assert_int_equal(
		backoff_next_long_usec(&backoff, 2 * USEC_PER_MINUTE), 2 * USEC_PER_MINUTE);
	uint64_t short_wait = backoff_next_usec(&same);
	assert_true(short_wait <= USEC_PER_SEC);
	assert_int_equal(backoff.n_failures, same.n_failures);
	assert_int_equal(backoff_next_long_usec(&backoff, 0), backoff_next_usec(&same));
}

static void test_clock(void **state)
{
	(void)state;
	uint64_t now = clock_now_usec();
	assert_true(now > 0);
	assert_true(clock_now_usec() >= now);
	/* 2020 */
	assert_true(clock_realtime_usec() > 1577836800 * USEC_PER_SEC);
	/* Twice the same would be a wonder. */
	assert_true(clock_random() != clock_random());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_jitter),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_clock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
