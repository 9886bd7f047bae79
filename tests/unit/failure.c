#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/failure.h"
#include "util/text.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static bool has_memory = true;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
	return has_memory ? __real_malloc(size) : NULL;
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(failure_name(FAILURE_NONE), "");
	assert_string_equal(failure_name(FAILURE_NO_SUCH_ACCOUNT), "NoSuchAccount");
	assert_string_equal(failure_name(FAILURE_AUTHENTICATION_FAILED), "AuthenticationFailed");
	for (int i = FAILURE_NO_SUCH_ACCOUNT; i <= FAILURE_INVALID_ARGUMENT; i++) {
		const char *name = failure_name((enum failure_kind)i);
		assert_true(name[0] >= 'A' && name[0] <= 'Z');
		/* Each has a name of its own. */
		for (int k = FAILURE_NONE; k < i; k++) {
			assert_string_not_equal(name, failure_name((enum failure_kind)k));
		}
	}
}

static void test_set(void **state)
{
	(void)state;
	struct failure failure = {0};
	assert_false(failure_is_set(&failure));
	failure_set(&failure, FAILURE_TIMEOUT, "no answer to %s for %d s", "DONE", 30);
	assert_true(failure_is_set(&failure));
	assert_int_equal(failure.kind, FAILURE_TIMEOUT);
	assert_string_equal(failure.text, "no answer to DONE for 30 s");
	/* What is overwritten may be an argument. */
	failure_set(&failure, FAILURE_OFFLINE, "offline: %s", failure.text);
	assert_string_equal(failure.text, "offline: no answer to DONE for 30 s");
	failure_set(&failure, FAILURE_RESET, "%s", "");
	assert_string_equal(failure.text, "");
}

static void test_clean(void **state)
{
	(void)state;
	struct failure failure = {0};
	failure_set(&failure, FAILURE_SERVER_REFUSED, "%s",
		"a\r\nb\x1b[1m\x7f\xc2\x85\xff\xc3 \u202e\u2028"
		"caf\u00e9");
	assert_string_equal(failure.text, "a  b [1m  \ufffd\ufffd caf\u00e9");
	/* A precision that cuts a character. */
	failure_set(&failure, FAILURE_SERVER_REFUSED, "%.*s", 4, "caf\u00e9");
	assert_string_equal(failure.text, "caf\ufffd");
}

static void test_cut(void **state)
{
	(void)state;
	/* Characters of one to four octets, at every alignment against the end. */
	static const char *const characters[] = {"x", "\u00e9", "\u20ac", "\U0001f600", "\xff"};
	for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++) {
		for (size_t n_before = 0; n_before < 4; n_before++) {
			char text[2001] = "";
			memset(text, '-', n_before);
			while (strlen(text) < 1900) {
				strcat(text, characters[i]);
			}
			struct failure failure = {0};
			failure_set(&failure, FAILURE_PROTOCOL_ERROR, "%s", text);
			size_t len = strlen(failure.text);
			assert_in_range(len, sizeof(failure.text) - 4, sizeof(failure.text) - 1);
			assert_true(text_is_utf8(span_of(failure.text)));
			if (i < 4) {
				assert_memory_equal(failure.text, text, len);
			}
		}
	}
}

static void test_keep(void **state)
{
	(void)state;
	struct failure failure = {0};
	struct failure *kept = NULL;
	assert_int_equal(failure_kept(kept)->kind, FAILURE_NONE);
	assert_string_equal(failure_kept(kept)->text, "");
	failure_keep(&kept, &failure);
	assert_null(kept);
	failure_set(&failure, FAILURE_OFFLINE, "gone");
	failure_keep(&kept, &failure);
	failure_set(&failure, FAILURE_TIMEOUT, "late");
	assert_int_equal(failure_kept(kept)->kind, FAILURE_OFFLINE);
	assert_string_equal(failure_kept(kept)->text, "gone");
	failure_keep(&kept, &failure);
	assert_int_equal(failure_kept(kept)->kind, FAILURE_TIMEOUT);
	assert_string_equal(failure_kept(kept)->text, "late");
	/* What is kept may be what is to be kept. */
	failure_keep(&kept, kept);
	assert_string_equal(failure_kept(kept)->text, "late");
	failure_keep(&kept, &(struct failure){0});
	assert_null(kept);
	failure_forget(&kept);
	assert_null(kept);
}

static void test_keep_without_memory(void **state)
{
	(void)state;
	for (int i = FAILURE_NO_SUCH_ACCOUNT; i <= FAILURE_INVALID_ARGUMENT; i++) {
		struct failure failure;
		struct failure *kept = NULL;
		struct failure *other = NULL;
		failure_set(&failure, (enum failure_kind)i, "reason");
		has_memory = false;
		failure_keep(&kept, &failure);
		failure_keep(&other, kept);
		has_memory = true;
		assert_int_equal(failure_kept(kept)->kind, i);
		assert_int_equal(failure_kept(other)->kind, i);
		assert_string_not_equal(failure_kept(kept)->text, "");
		failure_keep(&kept, &failure);
		assert_string_equal(failure_kept(kept)->text, "reason");
		assert_string_not_equal(failure_kept(other)->text, "reason");
		failure_forget(&kept);
		failure_forget(&other);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_keep),
		cmocka_unit_test(test_keep_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
