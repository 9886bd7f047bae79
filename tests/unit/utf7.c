#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#include "imap/utf7.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* The same name in both forms. */
static void test_both_ways(void **state)
{
	static const struct {
		const char *name;
		const char *encoded;
	} pairs[] = {
		{"", ""},
		{"INBOX", "INBOX"},
		{"a & b", "a &- b"},
		{"&", "&-"},
		{"&&", "&-&-"},
		{"a-b,c/d\\~\"", "a-b,c/d\\~\""},
		{"Entw\xc3\xbcrfe", "Entw&APw-rfe"},
		{"\xc3\xbc", "&APw-"},
		{"\xc3\xbc\xc3\xb6", "&APwA9g-"},
		{"\xc3\xbc\xc3\xb6\xc3\xa4", "&APwA9gDk-"},
		{"\xc3\xbc-", "&APw--"},
		{"\xc3\xbc&\xc3\xbc", "&APw-&-&APw-"},
		/* the example of RFC 3501 section 5.1.3 */
		{"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
			"~peter/mail/&U,BTFw-/&ZeVnLIqe-"},
		{"\xf0\x9f\x93\xac", "&2D3c7A-"},
		{"a\xf0\x9f\x93\xac\xf4\x8f\xbf\xbfz", "a&2D3c7Nv,3,8-z"},
		{"\xef\xbf\xbd", "&,,0-"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		char *text = NULL;

		assert_int_equal(imap_utf7_encode(pairs[i].name, &text), 0);
		assert_string_equal(text, pairs[i].encoded);
		free(text);
		assert_int_equal(imap_utf7_decode(span_of(pairs[i].encoded), &text), 0);
		assert_string_equal(text, pairs[i].name);
		free(text);
	}
}

static void test_encode_refuses(void **state)
{
	static const char *const names[] = {"\xff", "\xc3", "a\x80", "\xc0\x80", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x8f\xbf\xbf", "\xe5\x8f",
		"\xf5\x80\x80\x80"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char *text = NULL;

		assert_int_equal(imap_utf7_encode(names[i], &text), -EILSEQ);
		assert_null(text);
	}
}

/* A name that would not come back the same stays as it is, but clean. */
static void test_not_canonical(void **state)
{
	static const struct {
		const char *encoded;
		const char *name;
	} pairs[] = {
		{"&", "&"},
		{"a&b", "a&b"},
		{"&APw", "&APw"},
		{"&APw rfe-", "&APw rfe-"},
		{"&A-", "&A-"},
		{"&AP-", "&AP-"},
		{"&APx-", "&APx-"},           /* bits that are left over are not 0 */
		{"&APwA-", "&APwA-"},         /* too many of them */
		{"&AGE-", "&AGE-"},           /* an "a" needs no encoding */
		{"&ACY-", "&ACY-"},           /* nor does "&" */
		{"&APw-&APw-", "&APw-&APw-"}, /* two runs that should be one */
		{"&AP/-", "&AP/-"},
		{"&2D0-", "&2D0-"},                     /* half a pair of surrogates */
		{"&3Kw-", "&3Kw-"},                     /* the wrong half */
		{"&2D3YPQ-", "&2D3YPQ-"},               /* twice the same half */
		{"&AAA-", "&AAA-"},                     /* NUL */
		{"&AAo-", "&AAo-"},                     /* LF */
		{"&AIU-", "&AIU-"},                     /* NEL */
		{"Entw\xc3\xbcrfe", "Entw\xc3\xbcrfe"}, /* UTF-8 under UTF8=ACCEPT */
		{"a\nb\x7f", "a" REPLACEMENT "b" REPLACEMENT},
		{"\xff&-\xc3", REPLACEMENT "&-" REPLACEMENT},
		{"\xc2\x85", REPLACEMENT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		char *text = NULL;

		assert_int_equal(imap_utf7_decode(span_of(pairs[i].encoded), &text), 0);
		assert_string_equal(text, pairs[i].name);
		free(text);
	}
}

static void test_nul(void **state)
{
	struct span span = {.data = (const uint8_t *)"a\0b", .len = 3};
	char *text = NULL;

	(void)state;
	assert_int_equal(imap_utf7_decode(span, &text), 0);
	assert_string_equal(text, "a" REPLACEMENT "b");
	free(text);
	assert_int_equal(imap_utf7_decode((struct span){0}, &text), 0);
	assert_string_equal(text, "");
	free(text);
}

/* Every character there is, and each next to another. */
static void test_all_characters(void **state)
{
	(void)state;
	for (uint32_t c = 0xa0; c <= 0x10ffff; c += c < 0x3000 ? 1 : 251) {
		char name[16], *encoded = NULL, *decoded = NULL;
		size_t n = 0;

		if (c >= 0xd800 && c <= 0xdfff) {
			continue;
		}
		name[n++] = 'a';
		if (c < 0x800) {
			name[n++] = (char)(0xc0 | c >> 6);
		} else if (c < 0x10000) {
			name[n++] = (char)(0xe0 | c >> 12);
			name[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		} else {
			name[n++] = (char)(0xf0 | c >> 18);
			name[n++] = (char)(0x80 | (c >> 12 & 0x3f));
			name[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		}
		name[n++] = (char)(0x80 | (c & 0x3f));
		strcpy(name + n, "\xc3\xbc&");
		assert_int_equal(imap_utf7_encode(name, &encoded), 0);
		assert_int_equal(imap_utf7_decode(span_of(encoded), &decoded), 0);
		assert_string_equal(decoded, name);
		free(encoded);
		free(decoded);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_not_canonical),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_all_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
