#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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

/* The rules of text_clean() once more, one character after the other. */

static bool is_blank_for_a_line(uint32_t c)
{
	static const uint32_t others[] = {0x20, 0x85, 0xa0, 0x1680, 0x202f, 0x205f, 0x3000};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (c == others[i]) {
			return true;
		}
	}
	return (c >= 9 && c <= 13) || (c >= 0x2000 && c <= 0x200a);
}

static void put_slowly(char *text, size_t *len, uint32_t c)
{
	*len += text_encode(c, text + *len);
}

static void clean_slowly(struct span span, enum text_lines lines, size_t max_chars, char *text)
{
	size_t len = 0;
	size_t n_chars = 0;
	bool is_blank_due = false;
	while (span.len > 0) {
		uint32_t c = text_next(&span);
		bool is_kept = lines == TEXT_LINES && (c == '\n' || c == '\t');
		if (lines == TEXT_ONE_LINE && is_blank_for_a_line(c)) {
			is_blank_due = n_chars > 0;
			continue;
		}
		if (!is_kept && (text_is_control(c) || text_is_deceptive(c))) {
			continue;
		}
		if (max_chars > 0 && n_chars + is_blank_due >= max_chars) {
			break;
		}
		if (is_blank_due) {
			put_slowly(text, &len, ' ');
		}
		put_slowly(text, &len, c);
		n_chars += 1 + is_blank_due;
		is_blank_due = false;
	}
	text[len] = '\0';
}

static bool is_plain_slowly(struct span span)
{
	for (size_t i = 0; i < span.len; i++) {
		bool is_edge = i == 0 || i + 1 == span.len;
		bool is_double = i > 0 && span.data[i - 1] == ' ';
		if (span.data[i] < ' ' || span.data[i] > '~' ||
			(span.data[i] == ' ' && (is_edge || is_double))) {
			return false;
		}
	}
	return true;
}

/* Chance, the same in every run. */
static uint32_t draw(uint32_t n)
{
	static uint64_t seed = 20261124;
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(seed >> 33) % n;
}

static size_t draw_piece(uint8_t *octets, unsigned int kind)
{
	static const char *const pieces[] = {"  ", "\r\n ", "\t", "\x7f", "\x1b[0m", "\u202e",
		"\u2066", "\u2028", "\u00a0", "\u00e9", "\u20ac", "\U0001f600", "\ufffe", "\ufffd",
		"\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\xe2\x82", "\xff", "~", "!",
		"\x1f", "\x80"};
	if (kind == 0) {
		octets[0] = (uint8_t)draw(256);
		return 1;
	}
	if (kind < 4) {
		size_t n = draw(12);
		for (size_t i = 0; i < n; i++) {
			octets[i] = (uint8_t)('!' + draw('~' - '!' + 1));
		}
		octets[n] = ' ';
		return n + 1;
	}
	const char *piece = pieces[draw(sizeof(pieces) / sizeof(pieces[0]))];
	return (size_t)(stpcpy((char *)octets, piece) - (char *)octets);
}

/* In memory of its own length, so that the sanitizer sees what is read beyond. */
static void check_as_slowly(const uint8_t *octets, size_t len)
{
	char expected[3 * 512 + 1];
	uint8_t *copy = malloc(len > 0 ? len : 1);
	assert_non_null(copy);
	memcpy(copy, octets, len);
	struct span span = {.data = copy, .len = len};
	assert_int_equal(text_is_plain(span), is_plain_slowly(span));
	const size_t limits[] = {0, 1, 2, draw(16) + 1, len > 1 ? len - 1 : 1, len + 1};
	for (size_t i = 0; i < 2 * sizeof(limits) / sizeof(limits[0]); i++) {
		enum text_lines lines = i % 2 == 0 ? TEXT_ONE_LINE : TEXT_LINES;
		clean_slowly(span, lines, limits[i / 2], expected);
		check_len((const char *)copy, len, lines, limits[i / 2], expected);
	}
	free(copy);
}

static void test_runs_are_as_characters(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 20000; i++) {
		uint8_t octets[512];
		size_t len = 0;
		unsigned int lowest = draw(2);
		unsigned int n_kinds = 1 + draw(7);
		for (uint32_t n = draw(20); n > 0; n--) {
			len += draw_piece(octets + len, lowest + draw(n_kinds));
		}
		len -= len > 0 && draw(2) == 0;
		check_as_slowly(octets, len);
	}
}

/* Every octet at every place of a block, and every pair. */
static void test_blocks(void **state)
{
	(void)state;
	for (unsigned int octet = 0; octet < 256; octet++) {
		for (size_t len = 1; len <= 18; len++) {
			for (size_t at = 0; at < len; at++) {
				uint8_t octets[18];
				memset(octets, draw(2) ? 'a' : '!', sizeof(octets));
				octets[at] = (uint8_t)octet;
				struct span span = {.data = octets, .len = len};
				bool is_printable = octet >= ' ' && octet <= '~';
				assert_int_equal(text_plain_len(span), is_printable ? len : at);
				assert_int_equal(text_is_plain(span), is_plain_slowly(span));
				octets[at > 0 ? at - 1 : at] = ' ';
				assert_int_equal(text_is_plain(span), is_plain_slowly(span));
			}
		}
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
		cmocka_unit_test(test_runs_are_as_characters),
		cmocka_unit_test(test_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
