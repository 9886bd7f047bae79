#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mime/header.h"
#include "mime/text.h"
#include "util/text.h"

/* Wants the C library's headers before it. */
#include <cmocka.h>

#define MEGABYTE (1024 * 1024)

struct row {
	const char *raw;
	const char *expected; /* NULL: nothing comes out */
};

#define N_ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

static void assert_text(const char *raw, char *text, const char *expected)
{
	if (expected == NULL) {
		assert_null(text);
		return;
	}
	assert_non_null(text);
	if (strcmp(text, expected) != 0) {
		fail_msg("%s: \"%s\", not \"%s\"", raw, text, expected);
	}
	free(text);
}

static const struct row texts[] = {
	{"", ""},
	{"Hello", "Hello"},
	{" \t Hello \r\n  world \r\n", "Hello world"},
	/* RFC 2047 section 8 */
	{"=?US-ASCII?Q?Keith_Moore?=", "Keith Moore"},
	{"=?ISO-8859-1?Q?Patrik_F=E4ltstr=F6m?=", "Patrik F\u00e4ltstr\u00f6m"},
	{"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n "
	 "=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
		"If you can read this you understand the example."},
	{"(=?ISO-8859-1?Q?a?=)", "(a)"},
	{"(=?ISO-8859-1?Q?a?= b)", "(a b)"},
	{"(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"},
	{"(=?ISO-8859-1?Q?a?=  \r\n\t =?ISO-8859-1?Q?b?=)", "(ab)"},
	{"(=?ISO-8859-1?Q?a_b?=)", "(a b)"},
	{"(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"},
	/* words side by side, within words, in quotes */
	{"=?utf-8?q?a?==?utf-8?q?b?=", "ab"},
	{"a=?utf-8?q?b?=c", "abc"},
	{"\"=?utf-8?q?a?=\" x", "\"a\" x"},
	{"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"},
	/* characters divided between words */
	{"=?utf-8?Q?caf=C3?= =?UTF-8?Q?=A9?=", "caf\u00e9"},
	{"=?utf-8?B?Y2Fmww==?= =?utf-8?B?qQ==?=", "caf\u00e9"},
	{"=?utf-8?B?Y2Fmww==?= =?utf-8?Q?=A9?=", "caf\u00e9"},
	{"=?utf-8?B?Y2Fmw?=\r\n =?utf-8?B?6k=?=", "caf\u00e9"},
	{"=?big5?B?pKSk?= =?big5?B?5SE=?=", "\u4e2d\u6587!"},
	{"=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=", "\u65e5\u672c"},
	/* languages, odd spelling */
	{"=?UTF-8*en?Q?abc?=", "abc"},
	{"=?UtF-8?b?w6k?=", "\u00e9"},
	{"=?utf-8?q?a b?=", "a b"},
	{"=?utf-8?q?"
	 "?= x",
		"x"},
	{"=?utf-8?q?=41?=", "A"},
	{"=?utf-8?q?=4?=", "=4"},
	{"=?utf-8?q?=4g=?=", "=4g="},
	/* what is no word stays */
	{"=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
	{"=?utf-8?q?abc", "=?utf-8?q?abc"},
	{"=?utf-8?q?abc?", "=?utf-8?q?abc?"},
	{"=?=?=?=?", "=?=?=?=?"},
	{"=?"
	 "?q?a?=",
		"=?"
		"?q?a?="},
	{"=?", "=?"},
	{"=?a b?q?c?=", "=?a b?q?c?="},
	/* bad base64 */
	{"=?utf-8?B?!!!!?=", ""},
	{"=?utf-8?B?YW!Jj?=", "abc"},
	{"=?utf-8?B?="
	 "?= x",
		"x"},
	{"=?utf-8?B?YWJj?=", "abc"},
	/* nothing gets out of its line, nothing turns it around */
	{"=?utf-8?Q?=0D=0AX?=", "X"},
	{"=?utf-8?Q?a=0D=0AX:_y?=", "a X: y"},
	{"=?utf-8?Q?a=00=1B[31mb=7F=C2=85c?=", "a[31mb c"},
	{"=?utf-8?Q?a=E2=80=AEb=E2=81=A6c=D8=9C?=", "abc"},
	{"a\u202ecod.exe", "acod.exe"},
	{"=?utf-8?Q?=C3=A9=C0=AFx?=", "\u00e9\ufffd\ufffdx"},
	/* charsets */
	{"=?iso-8859-15?Q?=A4?=", "\u20ac"},
	{"=?windows-1252?Q?=80=93x=94?=", "\u20ac\u201cx\u201d"},
	{"=?iso-8859-1?Q?=93x=94?=", "\u201cx\u201d"},
	{"=?iso-8859-2?Q?=B1?=", "\u0105"},
	{"=?koi8-r?B?8NLJ18XU?=", "\u041f\u0440\u0438\u0432\u0435\u0442"},
	{"=?windows-1251?Q?=CF=F0=E8=E2=E5=F2?=", "\u041f\u0440\u0438\u0432\u0435\u0442"},
	{"=?gb2312?B?1tDOxA==?=", "\u4e2d\u6587"},
	{"=?gbk?B?1tDOxA==?=", "\u4e2d\u6587"},
	{"=?x-gbk?B?1tDOxA==?=", "\u4e2d\u6587"},
	{"=?gb18030?B?1tDOxA==?=", "\u4e2d\u6587"},
	{"=?big5?B?pKSk5Q==?=", "\u4e2d\u6587"},
	{"=?shift_jis?B?k/qWew==?=", "\u65e5\u672c"},
	{"=?x-sjis?B?k/qWew==?=", "\u65e5\u672c"},
	{"=?euc-jp?B?xvzL3A==?=", "\u65e5\u672c"},
	{"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\u65e5\u672c"},
	{"=?euc-kr?B?x9Gx2w==?=", "\ud55c\uae00"},
	{"=?ks_c_5601-1987?B?x9Gx2w==?=", "\ud55c\uae00"},
	{"=?iso-8859-8-i?B?+ezl7Q==?=", "\u05e9\u05dc\u05d5\u05dd"},
	{"=?windows-1255?B?+ezl7Q==?=", "\u05e9\u05dc\u05d5\u05dd"},
	{"=?x-mac-roman?Q?caf=8E?=", "caf\u00e9"},
	{"=?cp-850?Q?caf=82?=", "caf\u00e9"},
	{"=?utf-7?Q?caf+AOk-?=", "caf\u00e9"},
	{"=?unicode-1-1-utf-7?Q?caf+AOk-?=", "caf\u00e9"},
	{"=?utf-16?B?/v8AYQDp?=", "a\u00e9"},
	{"=?utf-16?B?//5hAOkA?=", "a\u00e9"},
	{"=?utf-16?B?AGEAYg==?=", "ab"},
	{"=?utf-16?B?YQBiAA==?=", "ab"},
	{"=?utf-16le?B?YQDpAA==?=", "a\u00e9"},
	/* unknown or wrong charsets */
	{"=?x-unknown?Q?caf=E9?=", "caf\u00e9"},
	{"=?x-unknown?Q?caf=C3=A9?=", "caf\u00e9"},
	{"=?unknown-8bit?Q?caf=E9?=", "caf\u00e9"},
	{"=?us-ascii?Q?caf=C3=A9?=", "caf\u00e9"},
	{"=?utf-8?Q?caf=E9?=", "caf\u00e9"},
	{"=?utf-8?Q?=E9=C3=A9?=", "\ufffd\u00e9"},
	{"=?utf-8//TRANSLIT?q?=C3=A9?=", "\u00e9"},
	{"=?../../../evil?q?=C3=A9?=", "\u00e9"},
	{"=?ansi_x3.110-1983//?q?=C3=A9?=", "\u00e9"},
	/* raw octets */
	{"caf\u00e9", "caf\u00e9"},
	{"caf\xe9 \x93x\x94", "caf\u00e9 \u201cx\u201d"},
	{"\xff\xfe", "\u00ff\u00fe"},
	{"caf\xe9 =?utf-8?q?=C3=A9?=", "caf\u00e9 \u00e9"},
	{"\x81", "\ufffd"},
};

static void test_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS(texts); i++) {
		char *text = mime_header_decode(span_of(texts[i].raw), 0);

		assert_non_null(text);
		assert_true(text_is_utf8(span_of(text)));
		assert_text(texts[i].raw, text, texts[i].expected);
	}
}

/* What is plain is taken as it is; an empty encoded word behind it has it decoded as all others. */
static void test_plain_as_others(void **state)
{
	static const char *const plain[] = {"", "a", "Re: [list] What? = $12.00 (50%) ?=", "=", "?",
		"a = ?", "jo@example.org", "~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./"};

	(void)state;
	for (size_t i = 0; i < N_ROWS(plain); i++) {
		char decorated[128];

		snprintf(decorated, sizeof(decorated), "%s =?utf-8?q?\?=", plain[i]);
		for (size_t max_chars = 0; max_chars <= strlen(plain[i]) + 1; max_chars++) {
			char *expected = mime_header_decode(span_of(decorated), max_chars);

			assert_non_null(expected);
			assert_text(plain[i], mime_header_decode(span_of(plain[i]), max_chars),
				expected);
			free(expected);
		}
	}
}

static void test_nul(void **state)
{
	static const char raw[] = "a\0b =?utf-8?q?c?=\0=?utf-8?\0?d?=";

	(void)state;
	assert_text(raw,
		mime_header_decode((struct span){(const uint8_t *)raw, sizeof(raw) - 1}, 0),
		"ab c=?utf-8?"
		"?d?=");
}

static void test_cut(void **state)
{
	static const char raw[] = "=?iso-8859-1?Q?=E4=F6=FC?= abc";

	(void)state;
	assert_text(raw, mime_header_decode(span_of(raw), 7), "\u00e4\u00f6\u00fc abc");
	assert_text(raw, mime_header_decode(span_of(raw), 6), "\u00e4\u00f6\u00fc ab");
	assert_text(raw, mime_header_decode(span_of(raw), 3), "\u00e4\u00f6\u00fc");
	assert_text(raw, mime_header_decode(span_of(raw), 1), "\u00e4");
}

/* Every beginning of every text: nothing is read beyond the end (the copy has no more), and what
 * comes out is good. */
static void test_beginnings(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS(texts); i++) {
		const size_t len = strlen(texts[i].raw);

		for (size_t n = 0; n <= len; n++) {
			uint8_t *copy = malloc(n > 0 ? n : 1);
			char *text;

			assert_non_null(copy);
			memcpy(copy, texts[i].raw, n);
			text = mime_header_decode((struct span){copy, n}, 256);
			assert_non_null(text);
			assert_true(text_is_utf8(span_of(text)));
			free(text);
			free(copy);
		}
	}
}

/* A megabyte of each must be work of less than a second or two, not of hours. */
static void test_linear(void **state)
{
	static const char *const units[] = {
		"=?",
		"=?=?",
		"=?a?q?",
		"=?utf-8?q?a?= ",
		"=?utf-8?q?=E9?=",
		"=?iso-8859-1?b?6Q?= =?utf-8?q?=C3?= ",
		"\xe9 ",
		"\xc3",
		"=?utf-8?b?",
		" ",
		"?=",
	};

	(void)state;
	for (size_t i = 0; i < N_ROWS(units); i++) {
		const size_t len = strlen(units[i]);
		struct bytes raw;
		clock_t start;
		char *text;

		bytes_init(&raw);
		for (size_t n = 0; n < MEGABYTE / len; n++) {
			bytes_put(&raw, units[i], len);
		}
		start = clock();
		text = mime_header_decode(bytes_span(&raw), 256);
		assert_non_null(text);
		if (clock() - start > 10 * CLOCKS_PER_SEC) {
			fail_msg("\"%s\" takes too long", units[i]);
		}
		free(text);
		bytes_done(&raw);
	}
}

struct date_row {
	const char *raw;
	bool is_date;
	int64_t expected;
};

static const struct date_row dates[] = {
	/* RFC 5322 appendix A */
	{"Fri, 21 Nov 1997 09:55:06 -0600", true, 880127706},
	{"Tue, 1 Jul 2003 10:52:37 +0200", true, 1057049557},
	{"Thu, 13 Feb 1969 23:32:54 -0330", true, -27723426},
	{"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n"
	 "               -0330 (Newfoundland Time)",
		true, -27723480},
	{"21 Nov 97 09:55:06 GMT", true, 880106106},
	{"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", true, 880127706},
	{"(a (b \\) (c)) d) Fri (x), 21 Nov 1997 09:55:06 -0600", true, 880127706},
	/* zones */
	{"Fri, 21 Nov 1997 09:55:06 EST", true, 880124106},
	{"Fri, 21 Nov 1997 09:55:06 pdt", true, 880131306},
	{"Fri, 21 Nov 1997 09:55:06 UT", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 Z", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 XYZ", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 -0000", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 +9999", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 +02", true, 880106106},
	{"Fri, 21 Nov 1997 09:55:06 +2359", true, 880019766},
	/* years */
	{"01 Jan 70 00:00:00 +0000", true, 0},
	{"01 Jan 69 00:00:00 +0000", true, -31536000},
	{"01 Jan 49 00:00:00 +0000", true, 2493072000},
	{"01 Jan 50 00:00:00 +0000", true, -631152000},
	{"01 Jan 100 00:00:00 +0000", true, 946684800},
	{"01 Jan 1900 00:00:00 +0000", true, -2208988800},
	{"Wed, 31 Dec 1969 23:59:59 +0000", true, -1},
	{"Tue, 19 Jan 2038 03:14:08 +0000", true, 2147483648},
	{"Fri, 31 Dec 9999 23:59:59 +0000", true, 253402300799},
	{"Tue, 29 Feb 2000 12:00:00 +0000", true, 951825600},
	{"Sat, 31 Dec 2016 23:59:60 +0000", true, 1483228800},
	/* odd, but clear */
	{"Fri 21 Nov 1997 09:55 +0000", true, 880106100},
	{"Friday, 21 November 1997 09:55:06 +0000", true, 880106106},
	{"Mon, 21 Nov 1997 09:55:06 +0000", true, 880106106},
	{"fri,21 nov 1997 09:55:06 +0000", true, 880106106},
	{"Sun Jan 14 10:11:12 2001", true, 979467072},
	/* no dates */
	{"", false, 0},
	{"   ", false, 0},
	{"garbage", false, 0},
	{"1", false, 0},
	{"Thu, 32 Jan 2020 10:00:00 +0000", false, 0},
	{"Thu, 00 Jan 2020 10:00:00 +0000", false, 0},
	{"31 Feb 2020 10:00:00 +0000", false, 0},
	{"29 Feb 1999 10:00:00 +0000", false, 0},
	{"21 Foo 1997 09:55:06 +0000", false, 0},
	{"Sat, 01 Jan 2000 25:00:00 +0000", false, 0},
	{"Sat, 01 Jan 2000 10:60:00 +0000", false, 0},
	{"01 Jan 99999999999999999999 00:00:00 +0000", false, 0},
	{"99999999999999999999 Jan 2000 00:00:00 +0000", false, 0},
	{"((((((((((((((((((", false, 0},
};

static void test_dates(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS(dates); i++) {
		int64_t seconds = 4711;

		if (mime_date_parse(span_of(dates[i].raw), &seconds) != dates[i].is_date) {
			fail_msg("%s", dates[i].raw);
		}
		if (seconds != (dates[i].is_date ? dates[i].expected : 4711)) {
			fail_msg("%s: %lld", dates[i].raw, (long long)seconds);
		}
	}
}

/* Every day of two centuries against the C library. */
static void test_all_days(void **state)
{
	(void)state;
	for (time_t t = -631152000; t < 4102444800; t += 86400 - 1) {
		char raw[64];
		struct tm tm;
		int64_t seconds = 0;

		assert_non_null(gmtime_r(&t, &tm));
		assert_true(strftime(raw, sizeof(raw), "%a, %d %b %Y %H:%M:%S +0000", &tm) > 0);
		assert_true(mime_date_parse(span_of(raw), &seconds));
		assert_int_equal(seconds, t);
	}
}

static const struct row message_ids[] = {
	{"<a@b>", "<a@b>"},
	{"  <a@b>\r\n", "<a@b>"},
	{"<a@b> <c@d>", "<a@b>"},
	{"<a\r\n @b>", "<a@b>"},
	{"a@b", "a@b"},
	{" a@b ", "a@b"},
	{"Your message of \"Mon\" <a@b>", "<a@b>"},
	{"Message from \"Joe <x y>\" <a@b>", "<a@b>"},
	{"<>", "<>"},
	{"<a@b", "<a@b"},
	{"<<a@b>", "<a@b>"},
	{"<a\x01\u202e\xff@b>", "<a\ufffd@b>"},
	{"", NULL},
	{" \r\n ", NULL},
	{"\x01", NULL},
};

static void test_message_ids(void **state)
{
	struct bytes huge;
	char long_id[1001];
	char *id;

	(void)state;
	for (size_t i = 0; i < N_ROWS(message_ids); i++) {
		assert_text(message_ids[i].raw, mime_message_id(span_of(message_ids[i].raw)),
			message_ids[i].expected);
	}
	memset(long_id, 'a', sizeof(long_id));
	for (size_t len = 997; len <= sizeof(long_id); len++) {
		id = mime_message_id((struct span){(const uint8_t *)long_id, len});
		assert_non_null(id);
		assert_int_equal(strlen(id), len < 998 ? len : 998);
		free(id);
	}
	bytes_init(&huge);
	for (size_t i = 0; i < MEGABYTE; i++) {
		bytes_put_char(&huge, '<');
	}
	id = mime_message_id(bytes_span(&huge));
	assert_non_null(id);
	assert_int_equal(strlen(id), 998);
	free(id);
	bytes_done(&huge);
}

static struct mime_parameter parameter(const char *name, const char *value)
{
	return (struct mime_parameter){.name = span_of(name), .value = span_of(value)};
}

struct name_row {
	const char *disposition[10]; /* name, value, ..., NULL */
	const char *type[3];
	const char *expected;
};

static const struct name_row names[] = {
	{{NULL}, {NULL}, ""},
	{{"filename", "a.pdf"}, {"name", "b.pdf"}, "a.pdf"},
	{{"size", "12"}, {"name", "b.pdf"}, "b.pdf"},
	{{"FileName", "a.pdf"}, {NULL}, "a.pdf"},
	{{"filename", ""}, {"NAME", "b.pdf"}, "b.pdf"},
	/* RFC 2231 */
	{{"filename*", "utf-8''%e2%82%ac%20rates.pdf"}, {NULL}, "\u20ac rates.pdf"},
	{{"filename*", "iso-8859-1'en'%A3%20rates"}, {NULL}, "\u00a3 rates"},
	{{"filename*0*", "utf-8''%e2%82", "filename*1*", "%ac%20", "filename*2", "x%20.pdf"},
		{NULL}, "\u20ac x%20.pdf"},
	{{"filename*2", "c", "filename*0", "a", "filename*1", "b"}, {NULL}, "abc"},
	{{"filename*0", "a", "filename*2", "c"}, {NULL}, "a"},
	{{"filename*1", "b", "filename", "x"}, {NULL}, "x"},
	{{"filename", "x", "filename*", "utf-8''y"}, {NULL}, "y"},
	{{"filename*", "utf-8''y", "filename", "x"}, {NULL}, "y"},
	{{"filename*", "utf-8''", "filename", "x"}, {NULL}, "x"},
	{{"filename*", "''%e9"}, {NULL}, "\u00e9"},
	{{"filename*", "x-unknown''%e9"}, {NULL}, "\u00e9"},
	{{"filename*", "ks_c_5601-1987'ko'%c7%d1"}, {NULL}, "\ud55c"},
	{{"filename*", "utf-8''%zz%"}, {NULL}, "%zz%"},
	{{"filename*", "abc"}, {NULL}, "abc"},
	{{"filename*", "it's"}, {NULL}, "it's"},
	{{"filename*99999999999999999999", "x", "filename*-1", "y", "filename*x", "z"}, {NULL}, ""},
	{{"filename*0*", "utf-8''a", "filename*0*", "utf-8''b"}, {NULL}, "a"},
	{{"filenames", "x", "filenam", "y"}, {NULL}, ""},
	/* RFC 2047, and raw octets */
	{{"filename", "=?utf-8?Q?caf=C3=A9.pdf?="}, {NULL}, "caf\u00e9.pdf"},
	{{"filename*0", "=?utf-8?Q?caf=C3", "filename*1", "=A9.pdf?="}, {NULL}, "caf\u00e9.pdf"},
	{{NULL}, {"name", "=?gb2312?B?1tDOxA==?=.doc"}, "\u4e2d\u6587.doc"},
	{{"filename", "caf\xe9"}, {NULL}, "caf\u00e9"},
	/* folders, controls */
	{{"filename", "/etc/passwd"}, {NULL}, "passwd"},
	{{"filename", "C:\\temp\\a.doc"}, {NULL}, "a.doc"},
	{{"filename", "..\\../x"}, {NULL}, "x"},
	{{"filename", "a/.."}, {"name", "b"}, "b"},
	{{"filename", "a/"}, {NULL}, ""},
	{{"filename", "."}, {NULL}, ""},
	{{"filename", "a/ .hidden "}, {NULL}, ".hidden"},
	{{"filename*", "utf-8''..%2F..%5Cx%00%0Ay"}, {NULL}, "x y"},
	{{"filename", "=?utf-8?Q?=2E=2E=2Fevil?="}, {NULL}, "evil"},
	{{"filename", "ann\u202etxt.exe"}, {NULL}, "anntxt.exe"},
};

static size_t read_parameters(const char *const *list, size_t size, struct mime_parameter *out)
{
	size_t n = 0;

	for (size_t i = 0; i + 1 < size && list[i] != NULL; i += 2) {
		out[n++] = parameter(list[i], list[i + 1]);
	}
	return n;
}

static void test_file_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS(names); i++) {
		struct mime_parameter disposition[5];
		struct mime_parameter type[1];
		const size_t n_disposition = read_parameters(names[i].disposition, 10, disposition);
		const size_t n_type = read_parameters(names[i].type, 3, type);

		assert_text(names[i].expected,
			mime_file_name(disposition, n_disposition, type, n_type),
			names[i].expected);
	}
}

static void test_long_file_name(void **state)
{
	struct bytes name;
	struct mime_parameter long_one;
	char *text;

	(void)state;
	bytes_init(&name);
	bytes_put_char(&name, 'x');
	for (size_t i = 0; i < 200; i++) {
		bytes_put_str(&name, "\u00e9");
	}
	long_one = (struct mime_parameter){.name = span_of("name"), .value = bytes_span(&name)};
	text = mime_file_name(NULL, 0, &long_one, 1);
	assert_non_null(text);
	assert_int_equal(strlen(text), 255);
	assert_true(text_is_utf8(span_of(text)));
	free(text);
	bytes_done(&name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_plain_as_others),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_all_days),
		cmocka_unit_test(test_message_ids),
		cmocka_unit_test(test_file_names),
		cmocka_unit_test(test_long_file_name),
	};
	int r;

	mime_init();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	mime_done();
	return r;
}
