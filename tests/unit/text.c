#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/text.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static void check_len(const char *octets, size_t len, enum text_lines lines, size_t max_chars,
	const char *expected)
{
	struct span span = {.data = (const uint8_t *)octets, .len = len};
	char *text = text_clean(span, lines, max_chars);
	assert_non_null(text);
	assert_string_equal(text, expected);
	assert_true(text_is_utf8(span_of(text)));
	free(text);
}

static void check(const char *octets, enum text_lines lines, size_t max_chars, const char *expected)
{
	check_len(octets, strlen(octets), lines, max_chars, expected);
}

static void test_one_line(void **state)
{
	(void)state;
	check("", TEXT_ONE_LINE, 0, "");
	check(" \r\n\t ", TEXT_ONE_LINE, 0, "");
	check("  a \r\n\tb\vc  ", TEXT_ONE_LINE, 0, "a b c");
	check("a\u00a0b\u2003\u3000c", TEXT_ONE_LINE, 0, "a b c");
	/* What is left out between blanks leaves one blank. */
	check("a \u200e b\u200f", TEXT_ONE_LINE, 0, "a b");
	check("a\u200e\x01", TEXT_ONE_LINE, 0, "a");
	check_len("a\0b", 3, TEXT_ONE_LINE, 0, "ab");
	check_len(NULL, 0, TEXT_ONE_LINE, 0, "");
}

static void test_lines(void **state)
{
	(void)state;
	check("a\r\nb\tc\n\n d ", TEXT_LINES, 0, "a\nb\tc\n\n d ");
	check("a\rb\x1b[1m\x7f\xc2\x85", TEXT_LINES, 0, "ab[1m");
	check("\r\n", TEXT_LINES, 1, "\n");
}

static void test_left_out(void **state)
{
	(void)state;
	static const char *const left_out[] = {
		"\u202a",
		"\u202b",
		"\u202c",
		"\u202d",
		"\u202e",
		"\u2066",
		"\u2067",
		"\u2068",
		"\u2069",
		"\u200e",
		"\u200f",
		"\u061c",
		"\u2028",
		"\u2029",
		"\ufdd0",
		"\ufdef",
		"\ufffe",
		"\uffff",
		"\U0001fffe",
		"\U0010ffff",
		"\x01",
		"\x1b",
		"\x7f",
		"\xc2\x80",
		"\xc2\x9f",
	};
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++) {
		char text[16] = "a";
		strcat(text, left_out[i]);
		strcat(text, "b");
		check(text, TEXT_ONE_LINE, 0, "ab");
		check(text, TEXT_LINES, 0, "ab");
	}
	/* Their neighbours stay. */
	check("\u200d\u2010\u2030\u2065\u206a\u061b\u061d\ufdcf\ufdf0\ufffd\U0001fffd\U00020000",
		TEXT_ONE_LINE, 0,
		"\u200d\u2010\u2030\u2065\u206a\u061b\u061d\ufdcf\ufdf0\ufffd\U0001fffd\U00020000");
	check("\u00a1\u00ff~", TEXT_ONE_LINE, 0, "\u00a1\u00ff~");
}

static void test_invalid(void **state)
{
	(void)state;
	static const struct {
		const char *octets;
		const char *expected;
	} cases[] = {
		{"\xff\xfe", "\ufffd\ufffd"},
		{"a\x80z", "a\ufffdz"},
		/* overlong */
		{"\xc0\xaf", "\ufffd\ufffd"},
		{"\xe0\x80\xaf", "\ufffd\ufffd\ufffd"},
		{"\xf0\x80\x80\xaf", "\ufffd\ufffd\ufffd\ufffd"},
		/* surrogates */
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"\xed\xbf\xbf", "\ufffd\ufffd\ufffd"},
		/* beyond U+10FFFF */
		{"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"\xf5\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		/* cut off: one for all that began well */
		{"\xe2\x82", "\ufffd"},
		{"\xf0\x9f\x98", "\ufffd"},
		{"\xe2\x82z", "\ufffdz"},
		{"\xe2\xe2\x82\xac", "\ufffd\u20ac"},
		{"\xc3", "\ufffd"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check(cases[i].octets, TEXT_ONE_LINE, 0, cases[i].expected);
		check(cases[i].octets, TEXT_LINES, 0, cases[i].expected);
		assert_false(text_is_utf8(span_of(cases[i].octets)));
	}
}

static void test_max_chars(void **state)
{
	(void)state;
	check("\u20ac\U0001f600\u00e9x", TEXT_ONE_LINE, 2, "\u20ac\U0001f600");
	check("\u20ac\U0001f600\u00e9x", TEXT_LINES, 3, "\u20ac\U0001f600\u00e9");
	/* No blank is left at the end. */
	check("a b", TEXT_ONE_LINE, 2, "a");
	check("a b", TEXT_ONE_LINE, 3, "a b");
	check("a b ", TEXT_ONE_LINE, 3, "a b");
	check("\xff\xff\xff", TEXT_ONE_LINE, 2, "\ufffd\ufffd");
}

/* Every character there is comes through whole, and nothing else is valid. */
static void test_all_characters(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x110000; c++) {
		char buffer[4] = {0};
		size_t len = text_encode(c, buffer);
		struct span span = {.data = (const uint8_t *)buffer, .len = len};
		bool is_surrogate = c >= 0xd800 && c <= 0xdfff;
		if (c == 0x110000) {
			assert_memory_equal(buffer, "\ufffd", 3);
		} else if (is_surrogate) {
			assert_false(text_is_utf8(span));
		} else {
			assert_true(text_is_utf8(span));
			assert_int_equal(text_next(&span), c);
			assert_int_equal(span.len, 0);
			/* Each one octet short is invalid. */
			span.data -= len;
			span.len = len - 1;
			assert_int_equal(text_is_utf8(span), len == 1);
		}
	}
}

/* Whatever two octets come before and behind a character, the result is valid UTF-8. */
static void test_any_octets(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 0x10000; i++) {
		uint8_t octets[] = {(uint8_t)i, (uint8_t)(i >> 8), 0xe2, 0x82, 0xac, (uint8_t)i};
		struct span span = {.data = octets, .len = sizeof(octets)};
		char *text = text_clean(span, TEXT_ONE_LINE, 0);
		assert_non_null(text);
		assert_true(text_is_utf8(span_of(text)));
		assert_non_null(strstr(text, "\u20ac"));
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_max_chars),
		cmocka_unit_test(test_all_characters),
		cmocka_unit_test(test_any_octets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
