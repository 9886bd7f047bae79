#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#include "imap/response.h"
#include "tests/unit/canonical.h"
#include "tests/unit/fetch_samples.h"
#include "tests/unit/response_samples.h"

/* How many allocations inside of the parser may still succeed. */
static size_t n_left;
static bool is_inside;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
int __real_imap_parser_receive(struct imap_parser *parser, const void *data, size_t len,
	size_t *ret_consumed, const struct imap_response **ret_response);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);
int __wrap_imap_parser_receive(struct imap_parser *parser, const void *data, size_t len,
	size_t *ret_consumed, const struct imap_response **ret_response);

static bool is_memory_left(void)
{
	return !is_inside || (n_left > 0 && n_left-- > 0);
}

void *__wrap_malloc(size_t size)
{
	return is_memory_left() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_memory_left() ? __real_calloc(n, size) : NULL;
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size)
{
	return is_memory_left() ? __real_reallocarray(memory, n, size) : NULL;
}

int __wrap_imap_parser_receive(struct imap_parser *parser, const void *data, size_t len,
	size_t *ret_consumed, const struct imap_response **ret_response)
{
	int r;

	is_inside = true;
	r = __real_imap_parser_receive(parser, data, len, ret_consumed, ret_response);
	is_inside = false;
	return r;
}

/* Each allocation fails in turn: all that was said before comes as ever, then the error. How often
 * it came. */
static size_t check_sample(const struct sample *s)
{
	static const char error[] = "error other: out of memory\n";

	for (size_t n = 0;; n++) {
		size_t len;
		char *text;
		bool failed;

		n_left = n;
		text = canonical_run(
			&imap_limits_default, s->streaming, s->input, s->len, s->len, 1);
		len = strlen(text);
		failed = strcmp(text, s->expected) != 0;
		if (failed) {
			assert_true(len >= strlen(error));
			len -= strlen(error);
			assert_string_equal(text + len, error);
			assert_memory_equal(text, s->expected, len);
		}
		free(text);
		if (!failed) {
			return n;
		}
	}
}

static void test_every_allocation(void **state)
{
	size_t n_failures = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(response_samples) / sizeof(*response_samples); i++) {
		n_failures += check_sample(&response_samples[i]);
	}
	for (size_t i = 0; i < sizeof(fetch_samples) / sizeof(*fetch_samples); i++) {
		n_failures += check_sample(&fetch_samples[i]);
	}
	assert_in_range(n_failures, 200, 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
