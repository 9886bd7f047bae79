#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#include "imap/writer.h"

static void check(
	void (*put)(struct bytes *bytes, const char *str), const char *str, const char *expected)
{
	struct bytes bytes;

	bytes_init(&bytes);
	put(&bytes, str);
	if (expected) {
		assert_int_equal(bytes.error, 0);
		assert_true(span_equal(bytes_span(&bytes), expected));
	} else {
		assert_int_equal(bytes.error, -EINVAL);
		assert_int_equal(bytes_len(&bytes), 0);
		/* and it stays */
		put(&bytes, "fine");
		assert_int_equal(bytes.error, -EINVAL);
		assert_int_equal(bytes_len(&bytes), 0);
	}
	bytes_done(&bytes);
}

static void test_astring(void **state)
{
	(void)state;
	check(imap_put_astring, "INBOX", "INBOX");
	check(imap_put_astring, "a.b/c-d_e+f&g", "a.b/c-d_e+f&g");
	check(imap_put_astring, "", "\"\"");
	check(imap_put_astring, "Sent Items", "\"Sent Items\"");
	check(imap_put_astring, "NIL", "\"NIL\"");
	check(imap_put_astring, "nil", "\"nil\"");
	check(imap_put_astring, "NILS", "NILS");
	check(imap_put_astring, "a\"b", "\"a\\\"b\"");
	check(imap_put_astring, "a\\b", "\"a\\\\b\"");
	check(imap_put_astring, "a(b", "\"a(b\"");
	check(imap_put_astring, "a)b", "\"a)b\"");
	check(imap_put_astring, "a{5}", "\"a{5}\"");
	check(imap_put_astring, "*", "\"*\"");
	check(imap_put_astring, "%", "\"%\"");
	check(imap_put_astring, "[x]", "\"[x]\"");
	check(imap_put_astring, "\xc3\xbc", "\"\xc3\xbc\"");
	check(imap_put_astring, "\x01\x7f\t", "\"\x01\x7f\t\"");
	check(imap_put_quoted, "INBOX", "\"INBOX\"");
	check(imap_put_quoted, "\\\"", "\"\\\\\\\"\"");
}

/* Nothing that could begin another command leaves. */
static void test_injection(void **state)
{
	static const char *const strings[] = {
		"\r", "\n", "a\r\nA1 LOGOUT", "a\nb", "\"\r\nx", "x{5}\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++) {
		check(imap_put_astring, strings[i], NULL);
		check(imap_put_quoted, strings[i], NULL);
	}
}

static void test_length(void **state)
{
	static const struct {
		size_t len;
		bool fits;
	} cases[] = {{999, true}, {1000, true}, {1001, false}, {100000, false}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		static const char fillings[] = {'a', ' ', '"'};

		for (size_t j = 0; j < sizeof(fillings); j++) {
			char *str = calloc(1, cases[i].len + 1);
			struct bytes bytes;

			assert_non_null(str);
			memset(str, fillings[j], cases[i].len);
			bytes_init(&bytes);
			imap_put_astring(&bytes, str);
			imap_put_quoted(&bytes, str);
			assert_int_equal(bytes.error, cases[i].fits ? 0 : -EINVAL);
			bytes_done(&bytes);
			free(str);
		}
	}
}

static void check_set(const struct run *add, size_t n, const char *expected)
{
	struct runs set;
	struct bytes bytes;

	runs_init(&set);
	bytes_init(&bytes);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(runs_set(&set, add[i].first, add[i].last, add[i].value), 0);
	}
	imap_put_set(&bytes, &set);
	assert_int_equal(bytes.error, expected ? 0 : -EINVAL);
	if (expected) {
		assert_true(span_equal(bytes_span(&bytes), expected));
	}
	bytes_done(&bytes);
	runs_done(&set);
}

static void test_set(void **state)
{
	(void)state;
	check_set((struct run[]){{7, 7, 0}}, 1, "7");
	check_set((struct run[]){{1, 3, 0}, {7, 7, 0}}, 2, "1:3,7");
	check_set((struct run[]){{1, UINT32_MAX, 0}}, 1, "1:4294967295");
	check_set((struct run[]){{UINT32_MAX, UINT32_MAX, 0}}, 1, "4294967295");
	check_set((struct run[]){{9, 10, 0}, {1, 1, 0}, {4, 5, 0}}, 3, "1,4:5,9:10");
	/* what the numbers are worth does not part them */
	check_set((struct run[]){{1, 3, 1}, {4, 4, 2}, {5, 9, 1}, {11, 11, 1}}, 4, "1:9,11");
	check_set((struct run[]){{1, 3, 1}, {4, UINT32_MAX, 2}}, 2, "1:4294967295");
	check_set(NULL, 0, NULL);
}

static void test_is_flag(void **state)
{
	static const char *const good[] = {"\\Seen", "\\seen", "\\Answered", "\\Flagged",
		"\\Deleted", "\\Draft", "$Junk", "NonJunk", "$MDNSent", "a.b", "Seen"};
	static const char *const bad[] = {"", "\\Recent", "\\recent", "\\", "\\Foo", "\\*", "a b",
		"a)", "(a", "a\"", "a\\b", "a]", "a%", "a*", "a{1}", "\xc3\xbc", "a\r", "\n", "a\t",
		"\x7f", "\\Seen \\Deleted"};
	char keyword[130];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_true(imap_is_flag(good[i]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_false(imap_is_flag(bad[i]));
	}
	memset(keyword, 'k', sizeof(keyword));
	keyword[129] = 0;
	assert_false(imap_is_flag(keyword));
	keyword[128] = 0;
	assert_true(imap_is_flag(keyword));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_astring),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_is_flag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
