/* What each kind of end costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "retry.h"
#include "util/clock.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

#define N_SEEDS 500

static uint64_t next(struct retry *retry, enum imap_end end)
{
	return retry_wait_usec(retry, end, 0, KEY_LATER);
}

static void test_ordinary(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
		struct retry retry;
		retry_init(&retry, seed);
		assert_in_range(next(&retry, IMAP_END_ORDINARY), 1, USEC_PER_SEC);
		assert_in_range(next(&retry, IMAP_END_ORDINARY), 1, 2 * USEC_PER_SEC);
		assert_in_range(next(&retry, IMAP_END_ORDINARY), 1, 4 * USEC_PER_SEC);
		retry_forgive(&retry);
		assert_in_range(next(&retry, IMAP_END_ORDINARY), 1, USEC_PER_SEC);
	}
}

static void test_long(void **state)
{
	(void)state;
	static const enum imap_end ends[] = {IMAP_END_THROTTLED, IMAP_END_LIMIT};
	for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
		struct retry retry;
		retry_init(&retry, seed);
		assert_int_equal(next(&retry, ends[seed % 2]), USEC_PER_MINUTE);
		/* The ordinary end of an attempt in between changes nothing of it. */
		assert_in_range(next(&retry, IMAP_END_ORDINARY), 1, 2 * USEC_PER_SEC);
		assert_int_equal(next(&retry, ends[seed / 2 % 2]), 2 * USEC_PER_MINUTE);
		for (int i = 0; i < 20; i++) {
			assert_int_equal(next(&retry, ends[i % 2]), 5 * USEC_PER_MINUTE);
		}
		retry_forgive(&retry);
		assert_int_equal(next(&retry, IMAP_END_LIMIT), USEC_PER_MINUTE);
	}
}

/* What the server asks for is done, up to five minutes. */
static void test_as_asked(void **state)
{
	(void)state;
	struct retry retry;
	retry_init(&retry, 1);
	uint64_t asked = UINT64_C(92415) * USEC_PER_MSEC;
	assert_int_equal(retry_wait_usec(&retry, IMAP_END_THROTTLED, asked, KEY_LATER), asked);
	retry_init(&retry, 1);
	asked = UINT64_C(5) * USEC_PER_MSEC;
	assert_int_equal(
		retry_wait_usec(&retry, IMAP_END_THROTTLED, asked, KEY_LATER), USEC_PER_MINUTE);
	retry_init(&retry, 1);
	asked = 60 * USEC_PER_MINUTE;
	assert_int_equal(
		retry_wait_usec(&retry, IMAP_END_THROTTLED, asked, KEY_LATER), 5 * USEC_PER_MINUTE);
}

static void test_token(void **state)
{
	(void)state;
	struct retry retry;
	retry_init(&retry, 1);
	assert_int_equal(next(&retry, IMAP_END_TOKEN), 0);
	assert_in_range(next(&retry, IMAP_END_TOKEN), 1, USEC_PER_SEC);
	assert_in_range(next(&retry, IMAP_END_TOKEN), 1, 2 * USEC_PER_SEC);
	retry_forgive(&retry);
	assert_int_equal(next(&retry, IMAP_END_TOKEN), 0);
}

static void test_credentials(void **state)
{
	(void)state;
	struct retry retry;
	retry_init(&retry, 1);
	assert_int_equal(retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_AGAIN), 0);
	assert_int_equal(
		retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_LATER), KEY_REST_USEC);
	assert_int_equal(retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_NEVER), USEC_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_as_asked),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_credentials),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
