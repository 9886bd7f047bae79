#include <malloc.h>
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

#define MEGABYTE     (1024 * 1024)
#define ENOUGH       65536

#define N_ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

struct row {
	const char *subtype;
	const char *encoding;
	const char *charset; /* NULL: not given */
	const char *octets;
	size_t len; /* 0: as a string */
	const char *expected;
};

static char *part_text(const struct row *row, struct span octets, size_t max_len)
{
	const struct mime_parameter charset = {
		.name = span_of("Charset"),
		.value = span_of(row->charset != NULL ? row->charset : ""),
	};
	const struct mime_part part = {
		.type = span_of("text"),
		.subtype = span_of(row->subtype),
		.encoding = span_of(row->encoding),
		.parameters = &charset,
		.n_parameters = row->charset != NULL ? 1 : 0,
	};

	return mime_part_text(&part, octets, max_len);
}

static void assert_text(const char *what, char *text, const char *expected)
{
	assert_non_null(text);
	if (strcmp(text, expected) != 0) {
		fail_msg("%s: \"%s\", not \"%s\"", what, text, expected);
	}
	free(text);
}

static void assert_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct span octets = span_of(rows[i].octets);

		if (rows[i].len > 0) {
			octets.len = rows[i].len;
		}
		assert_text(rows[i].octets, part_text(&rows[i], octets, ENOUGH), rows[i].expected);
	}
}

static const struct row encodings[] = {
	{"plain", "7bit", NULL, "Hello\r\nworld\r\n", 0, "Hello\nworld\n"},
	{"plain", "", NULL, "Hello", 0, "Hello"},
	{"plain", "x-unknown", NULL, "a=41", 0, "a=41"},
	{"plain", "quoted-printable", "utf-8", "caf=C3=A9 =\r\nx=20\r\n", 0, "caf\u00e9 x \n"},
	{"plain", " Quoted-Printable ", "utf-8", "=41", 0, "A"},
	{"plain", "quoted-printable", "utf-8", "a=zzb=4", 0, "a=zzb"},
	{"plain", "BASE64", "utf-8", "SGVs\r\nbG8gd29y\r\nbGQ=\r\n", 0, "Hello world"},
	{"plain", "base64", "utf-8", "SGVsbG8gd29ybGQ", 0, "Hello world"}, /* no padding */
	{"plain", "base64", "utf-8", "SGVsbG8g!*d29y", 0, "Hello wor"},
	{"plain", "base64", "utf-8", "", 0, ""},
	{"plain", "x-uuencode", "utf-8", "begin 644 a\n%2&5L;&\\`\n`\nend\n", 0, "Hello"},
	/* cut off in the middle of a character */
	{"plain", "base64", "utf-8", "Y2Fmw6nD", 0, "caf\u00e9"},
	{"plain", "8bit", "utf-8", "caf\u00e9 \xe2\x82", 0, "caf\u00e9 "},
	{"plain", "8bit", NULL, "caf\u00e9 \xf0\x9f\x94", 0, "caf\u00e9 "},
	{"plain", "8bit", "gb2312", "\xd6\xd0\xce", 0, "\u4e2d"},
	{"plain", "8bit", "utf-16le", "a\0\xe9", 3, "a"},
};

static void test_encodings(void **state)
{
	(void)state;
	assert_rows(encodings, N_ROWS(encodings));
}

static const struct row charsets[] = {
	{"plain", "8bit", "iso-8859-1", "caf\xe9", 0, "caf\u00e9"},
	{"plain", "8bit", "ISO_8859-1", "\x80 caf\xe9", 0, "\u20ac caf\u00e9"},
	{"plain", "8bit", "iso-8859-15", "\xa4\xbd", 0, "\u20ac\u0153"},
	{"plain", "8bit", "windows-1252", "\x80\x93", 0, "\u20ac\u201c"},
	{"plain", "8bit", "\"windows-1251\"", "\xcf\xf0", 0, "\u041f\u0440"},
	{"plain", "8bit", "koi8-r", "\xf0\xd2", 0, "\u041f\u0440"},
	{"plain", "8bit", "koi8-u", "\xf0\xa4", 0, "\u041f\u0454"},
	{"plain", "8bit", "gb2312", "\xd6\xd0\xce\xc4", 0, "\u4e2d\u6587"},
	{"plain", "8bit", "gbk", "\xd6\xd0\x81\x40", 0, "\u4e2d\u4e02"},
	{"plain", "8bit", "gb18030", "\xd6\xd0\x81\x30\x81\x30", 0, "\u4e2d"},
	{"plain", "8bit", "big5", "\xa4\xa4\xa4\xe5", 0, "\u4e2d\u6587"},
	{"plain", "7bit", "iso-2022-jp", "\x1b$BF|K\\\x1b(B", 0, "\u65e5\u672c"},
	{"plain", "8bit", "shift_jis", "\x93\xfa\x96{\x87\x40", 0, "\u65e5\u672c\u2460"},
	{"plain", "8bit", "euc-jp", "\xc6\xfc\xcb\xdc", 0, "\u65e5\u672c"},
	{"plain", "8bit", "euc-kr", "\xc7\xd1\xb1\xdb", 0, "\ud55c\uae00"},
	{"plain", "8bit", "ks_c_5601-1987", "\xc7\xd1\x81\x41", 0, "\ud55c\uac02"},
	{"plain", "7bit", "utf-7", "caf+AOk- +JjoA", 0, "caf\u00e9 \u263a"},
	{"plain", "7bit", "unicode-1-1-utf-7", "caf+AOk-", 0, "caf\u00e9"},
	{"plain", "8bit", "utf-16",
		"\xff\xfe"
		"a\0\xe9\0",
		6, "a\u00e9"},
	{"plain", "8bit", "utf-16", "\xfe\xff\0a\0\xe9", 6, "a\u00e9"},
	{"plain", "8bit", "utf-16", "\0a\0\xe9", 4, "a\u00e9"},
	{"plain", "8bit", "utf-16", "a\0\xe9\0", 4, "a\u00e9"},
	{"plain", "8bit", "utf-16le",
		"=\xd8\x11\xdd\x00\xd8"
		"a\0",
		8,
		"\U0001f511\ufffd"
		"a"},
	{"plain", "8bit", NULL,
		"\xff\xfe"
		"a\0\xe9\0",
		6, "a\u00e9"},
	{"plain", "8bit", "iso-8859-8-i", "\xf9\xec", 0, "\u05e9\u05dc"},
	{"plain", "8bit", "windows-1255", "\xe0\xc8", 0, "\ufb2f"},
	{"plain", "8bit", "windows-1258", "a\xcc", 0, "\u00e0"},
	{"plain", "8bit", "tis-620", "\xa1", 0, "\u0e01"},
	{"plain", "8bit", "x-mac-roman", "caf\x8e", 0, "caf\u00e9"},
	{"plain", "8bit", "cp-850", "caf\x82", 0, "caf\u00e9"},
	{"plain", "8bit", "utf-8",
		"\xef\xbb\xbf"
		"caf\u00e9",
		0, "caf\u00e9"},
	/* unknown, missing, wrong */
	{"plain", "8bit", "x-nonsense", "caf\xe9", 0, "caf\u00e9"},
	{"plain", "8bit", "unknown-8bit", "caf\u00e9", 0, "caf\u00e9"},
	{"plain", "8bit", NULL, "caf\xe9", 0, "caf\u00e9"},
	{"plain", "8bit", "us-ascii", "caf\u00e9", 0, "caf\u00e9"},
	{"plain", "8bit", "us-ascii", "caf\xe9", 0, "caf\u00e9"},
	{"plain", "8bit", "utf-8", "caf\xe9", 0, "caf\u00e9"},
	{"plain", "8bit", "utf-8", "\u00e9 \xe9 \u00e9", 0, "\u00e9 \ufffd \u00e9"},
	{"plain", "8bit", "iso-2022-jp",
		"a\xff"
		"b\x1b$B\xff\xff\x1b(Bc",
		0,
		"a\ufffd"
		"b\ufffd\ufffd"
		"c"},
	{"plain", "8bit", "big5", "\xa4", 0, ""},
	{"plain", "8bit", "big5",
		"\xff"
		"a",
		0,
		"\ufffd"
		"a"},
	{"plain", "8bit", "gb2312//IGNORE", "\xff\xd6\xd0", 0, "\ufffd\u4e2d"},
};

static void test_charsets(void **state)
{
	(void)state;
	assert_rows(charsets, N_ROWS(charsets));
}

static const struct row unclean[] = {
	{"plain", "8bit", "utf-8",
		"a\x01\x1b[31m\x7f\xc2\x85"
		"b\tc\n",
		0, "a[31mb\tc\n"},
	{"plain", "8bit", "utf-8",
		"a\u202e\u2066\u200f"
		"b",
		0, "ab"},
	{"plain", "8bit", "utf-8", "a\0b", 3, "ab"},
	{"html", "8bit", "utf-8", "a&#x202e;b&#0;c&#27;d", 0,
		"ab\ufffd"
		"cd\n"},
};

static void test_unclean(void **state)
{
	(void)state;
	assert_rows(unclean, N_ROWS(unclean));
}

static const struct row pages[] = {
	{"html", "", NULL, "", 0, ""},
	{"html", "", NULL, "<html><body></body></html>", 0, ""},
	{"html", "", NULL, "Hello", 0, "Hello\n"},
	{"HTML", "", NULL, "<b>Hello</b> <i>wor</i>ld", 0, "Hello world\n"},
	{"html", "quoted-printable", "utf-8", "<p class=3D\"x\">caf=C3=A9</p>", 0, "caf\u00e9\n"},
	/* white space */
	{"html", "", NULL, "  a \r\n\t b  ", 0, "a b\n"},
	{"html", "", NULL, "a&nbsp; &nbsp;b", 0, "a b\n"},
	{"html", "", NULL, "<b>a </b> <b> b</b>", 0, "a b\n"},
	{"html", "", NULL, "<pre>\n  a\n\tb\n</pre>c", 0, "  a\n\tb\n\nc\n"},
	{"html", "", NULL, "<pre>a</pre></pre>  b   c", 0, "a\n\nb c\n"},
	/* blocks */
	{"html", "", NULL, "<p>a</p><p>b</p>", 0, "a\n\nb\n"},
	{"html", "", NULL, "<div>a</div><div><div>b</div></div>c", 0, "a\nb\nc\n"},
	{"html", "", NULL, "a<br>b<BR/>c<br />d", 0, "a\nb\nc\nd\n"},
	{"html", "", NULL, "a<br><br><br><br>b", 0, "a\n\nb\n"},
	{"html", "", NULL, "<h1>t</h1>x<hr>y", 0, "t\n\nx\ny\n"},
	{"html", "", NULL, "<ul><li>a</li><li>b<li><p>c</ul>d", 0, "- a\n- b\n\n- c\nd\n"},
	{"html", "", NULL, "<ul><li></li></ul>x", 0, "x\n"},
	{"html", "", NULL, "<table><tr><td>a</td><td>b</td></tr><tr><th>c<td>d</table>", 0,
		"a b\nc d\n"},
	{"html", "", NULL, "<blockquote>a</blockquote>b", 0, "a\n\nb\n"},
	/* what is no text */
	{"html", "", NULL, "a<!-- b > <p> -->c", 0, "ac\n"},
	{"html", "", NULL, "a<!-->b<!--->c", 0, "abc\n"},
	{"html", "", NULL, "a<!-- b>c", 0, "ac\n"},
	{"html", "", NULL, "a<![CDATA[ b > c ]]>d", 0, "ad\n"},
	{"html", "", NULL, "a<![CDATA[ b >c", 0, "ac\n"},
	{"html", "", NULL, "<!DOCTYPE html><?xml version=\"1.0\"?>a", 0, "a\n"},
	{"html", "", NULL, "<!--[if mso]><p>b</p><![endif]-->a<![if !mso]>c<![endif]>", 0, "ac\n"},
	{"html", "", NULL, "a<script>if (1 < 2) { x(\"</p>\"); }</script>b", 0, "ab\n"},
	{"html", "", NULL, "a<SCRIPT src=\"x>y\">b</scripts>c</ScRiPt >d", 0, "ad\n"},
	{"html", "", NULL, "a<style>p { color: red }</style>b", 0, "ab\n"},
	{"html", "", NULL, "<head><title>t</title><meta name=x></head><body>a", 0, "a\n"},
	{"html", "", NULL, "a<script>b", 0, "a\n"},
	{"html", "", NULL, "a<img src=\"http://x/pixel.gif\" alt=\"b\">c", 0, "ac\n"},
	{"html", "", NULL, "<a href=\"http://x/\">link</a>", 0, "link\n"},
	{"html", "", NULL, "teaser&zwnj;&nbsp;&zwnj;&nbsp;&#847;&#8203;<br>a&zwnj;b", 0,
		"teaser\u200c\na\u200cb\n"},
	/* tags that are not well */
	{"html", "", NULL, "a < b > c <3 </ d", 0, "a < b > c <3 </ d\n"},
	{"html", "", NULL, "a<b title='>' x=\">\" y=z'>c", 0, "ac\n"},
	{"html", "", NULL, "<p don't>a</p>", 0, "a\n"},
	{"html", "", NULL, "a<p", 0, "a\n"},
	{"html", "", NULL, "a<p x=\"", 0, "a\n"},
	{"html", "", NULL, "a<", 0, "a<\n"},
	{"html", "", NULL, "a</", 0, "a</\n"},
	{"html", "", NULL, "a<!", 0, "a\n"},
	{"html", "", NULL, "a<averyveryverylongnameindeed>b</p/>c", 0, "ab\n\nc\n"},
	/* entities */
	{"html", "", NULL, "&amp;&lt;&gt;&quot;&apos;", 0, "&<>\"'\n"},
	{"html", "", NULL, "&lt;script&gt;x&lt;/script&gt;", 0, "<script>x</script>\n"},
	{"html", "", NULL, "&eacute;&Eacute;&euro;&hellip;&alpha;&rarr;&Scaron;", 0,
		"\u00e9\u00c9\u20ac\u2026\u03b1\u2192\u0160\n"},
	{"html", "", NULL, "&copy 2024 &amp b &euro b", 0, "\u00a9 2024 & b &euro b\n"},
	{"html", "", NULL, "&#65;&#x42;&#X43;&#68 &#128;&#x99;", 0, "ABCD \u20ac\u2122\n"},
	{"html", "", NULL, "&#x1F511;", 0, "\U0001f511\n"},
	{"html", "", NULL, "&#xd800;&#x110000;&#99999999999999999999;", 0, "\ufffd\ufffd\ufffd\n"},
	{"html", "", NULL, "a & b && &; &# &#; &#x; &#xg; &nonsense; &aaaaaaaaaaaaaaaaaaaaaaaaaaa;",
		0, "a & b && &; &# &#; &#x; &#xg; &nonsense; &aaaaaaaaaaaaaaaaaaaaaaaaaaa;\n"},
	{"html", "", NULL, "&amp", 0, "&\n"},
	{"html", "", NULL, "&am", 0, "&am\n"},
	{"html", "", NULL, "&amp;amp;", 0, "&amp;\n"},
	/* charsets of its own */
	{"html", "", NULL, "<meta charset=koi8-r>\xf0\xd2", 0, "\u041f\u0440\n"},
	{"html", "", NULL,
		"<meta http-equiv=\"Content-Type\" content=\"text/html; "
		"charset=windows-1251\">\xcf\xf0",
		0, "\u041f\u0440\n"},
	{"html", "", "iso-8859-1", "<meta charset=koi8-r>\xe9", 0, "\u00e9\n"},
	{"html", "", NULL, "charset", 0, "charset\n"},
	{"html", "", NULL, "charset=", 0, "charset=\n"},
};

static void test_html(void **state)
{
	(void)state;
	assert_rows(pages, N_ROWS(pages));
}

/* Every beginning of every part: nothing is read beyond the end, and what comes out is good. */
static void assert_beginnings(const struct row *rows, size_t n_rows)
{
	for (size_t i = 0; i < n_rows; i++) {
		const size_t len = rows[i].len > 0 ? rows[i].len : strlen(rows[i].octets);

		for (size_t n = 0; n <= len; n++) {
			uint8_t *copy = malloc(n > 0 ? n : 1);
			char *text;

			assert_non_null(copy);
			memcpy(copy, rows[i].octets, n);
			text = part_text(&rows[i], (struct span){copy, n}, n % 50);
			assert_non_null(text);
			assert_true(strlen(text) <= n % 50);
			assert_true(text_is_utf8(span_of(text)));
			free(text);
			free(copy);
		}
	}
}

static void test_beginnings(void **state)
{
	(void)state;
	assert_beginnings(encodings, N_ROWS(encodings));
	assert_beginnings(charsets, N_ROWS(charsets));
	assert_beginnings(pages, N_ROWS(pages));
}

static void test_max_len(void **state)
{
	static const struct row plain = {
		.subtype = "plain", .encoding = "8bit", .charset = "utf-8"};
	static const struct row html = {.subtype = "html", .encoding = "8bit", .charset = "utf-8"};

	(void)state;
	assert_text("plain 6", part_text(&plain, span_of("\u00e9\u20acx"), 6), "\u00e9\u20acx");
	assert_text("plain 5", part_text(&plain, span_of("\u00e9\u20acx"), 5), "\u00e9\u20ac");
	assert_text("plain 4", part_text(&plain, span_of("\u00e9\u20acx"), 4), "\u00e9");
	assert_text("plain 1", part_text(&plain, span_of("\u00e9\u20acx"), 1), "");
	assert_text("plain 0", part_text(&plain, span_of("\u00e9\u20acx"), 0), "");
	assert_text("html 5", part_text(&html, span_of("<p>\u00e9\u20acx</p>"), 5), "\u00e9\u20ac");
	assert_text("html 4", part_text(&html, span_of("<p>\u00e9\u20acx</p>"), 4), "\u00e9");
	assert_text("html 0", part_text(&html, span_of("<p>\u00e9\u20acx</p>"), 0), "");
}

/* A megabyte of each is work of less than a second or two, not of hours. */
/* What was cut off is not kept: many texts may wait for a reader who is slow. */
static void test_no_more_than_the_text_is_kept(void **state)
{
	(void)state;
	const struct row rows[] = {
		{.subtype = "plain", .encoding = "7bit"},
		{.subtype = "plain", .encoding = "8bit", .charset = "utf-8"},
		{.subtype = "html", .encoding = "7bit"},
	};
	char *octets = malloc(MEGABYTE);
	assert_non_null(octets);
	memset(octets, 'x', MEGABYTE);
	for (size_t i = 0; i < N_ROWS(rows); i++) {
		char *text = part_text(
			&rows[i], (struct span){(const uint8_t *)octets, MEGABYTE}, ENOUGH);
		assert_non_null(text);
		assert_int_equal(strlen(text), ENOUGH);
		assert_in_range(malloc_usable_size(text), ENOUGH + 1, ENOUGH + 8192);
		free(text);
	}
	free(octets);
}

static void test_linear(void **state)
{
	static const char *const units[] = {
		"<",
		"</",
		"<!",
		"<!--",
		"<!-->",
		"<![CDATA[",
		"<![CDATA[>",
		"<a ",
		"<a '",
		"<a x='\"",
		"<a x=\"'>",
		"<script>",
		"<script></",
		"<style></style",
		"<title>x</title>",
		"&",
		"&#",
		"&#x",
		"&#9",
		"&a",
		"&amp",
		"<pre>",
		"<p>",
		"<br>",
		"<ul>",
		"<li>",
		"<blockquote>",
		"<table><tr><td>",
		"<div>x",
		"\n",
		"> ",
		">",
		"-- \n",
		"\x1b$B",
		"+AAA",
		"=",
		"\xff",
	};
	static const char *const charset_names[] = {
		NULL, "iso-2022-jp", "utf-7", "gb18030", "utf-16"};

	(void)state;
	for (size_t i = 0; i < N_ROWS(units); i++) {
		const size_t len = strlen(units[i]);
		struct bytes octets;

		bytes_init(&octets);
		for (size_t n = 0; n < MEGABYTE / len; n++) {
			bytes_put(&octets, units[i], len);
		}
		for (size_t c = 0; c < N_ROWS(charset_names); c++) {
			const struct row row = {
				.subtype = c == 0 ? "html" : "plain",
				.encoding = c == 0 ? "" : "quoted-printable",
				.charset = charset_names[c],
			};
			const clock_t start = clock();
			char *text = part_text(&row, bytes_span(&octets), ENOUGH);
			char *preview;

			assert_non_null(text);
			preview = mime_preview(text, 200);
			assert_non_null(preview);
			free(preview);
			free(text);
			if (clock() - start > 10 * CLOCKS_PER_SEC) {
				fail_msg("\"%s\" takes too long", units[i]);
			}
		}
		bytes_done(&octets);
	}
}

static void test_flowed(void **state)
{
	static const struct {
		const char *delsp;
		const char *octets;
		const char *expected;
	} rows[] = {
		{"no", "a \r\nb\r\n", "a b\n"},
		{"", "a \r\nb \r\nc", "a b c\n"},
		{"yes", "a \r\nb\r\n", "ab\n"},
		{"YES", "a  \r\nb\r\n", "a b\n"},
		{"no", "a\r\nb\r\n", "a\nb\n"},
		{"no", " stuffed\r\n >x\r\n  y\r\n", "stuffed\n>x\n y\n"},
		{"no", "> a \r\n> b\r\n", "> a b\n"},
		{"no", ">> a \r\n> b\r\nc\r\n", ">> a \n> b\nc\n"},
		{"no", "> a \r\nb\r\n", "> a \nb\n"},
		{"no", "a\r\n-- \r\nsig\r\n", "a\n-- \nsig\n"},
		{"no", "a \r\n-- \r\nsig\r\n", "a \n-- \nsig\n"},
		{"no", "a \r\n \r\nb\r\n", "a \nb\n"},
		{"no", "a \r\n", "a \n"},
		{"no", "", ""},
		{"no", ">", "> \n"},
	};

	(void)state;
	for (size_t i = 0; i < N_ROWS(rows); i++) {
		const struct mime_parameter parameters[] = {
			{.name = span_of("charset"), .value = span_of("utf-8")},
			{.name = span_of("FORMAT"), .value = span_of("Flowed")},
			{.name = span_of("DelSp"), .value = span_of(rows[i].delsp)},
		};
		const struct mime_part part = {
			.type = span_of("text"),
			.subtype = span_of("plain"),
			.parameters = parameters,
			.n_parameters = 3,
		};

		assert_text(rows[i].octets, mime_part_text(&part, span_of(rows[i].octets), ENOUGH),
			rows[i].expected);
	}
}

static void test_preview(void **state)
{
	static const struct {
		const char *text;
		size_t max_chars;
		const char *expected;
	} rows[] = {
		{"", 200, ""},
		{"Hello\n\n  world\t!\n", 200, "Hello world !"},
		{"> quoted\n>> more\nanswer\n", 200, "answer"},
		{"> quoted\n> only\n", 200, "> quoted > only"},
		{"text\n-- \nJoe\n", 200, "text"},
		{"text\r\n-- \r\nJoe\r\n", 200, "text"},
		{"text\n--\nJoe\n", 200, "text"},
		{"-- \nJoe\n", 200, "-- Joe"},
		{"a -- b\n--- \nc", 200, "a -- b --- c"},
		{" > not quoted", 200, "> not quoted"},
		{"a\x01\x1b[1m\u202e"
		 "b\xff",
			200, "a[1mb\ufffd"},
		{"abc def", 7, "abc def"},
		{"abc def ghi", 7, "abc def"},
		{"abcdefghijkl mno", 14, "abcdefghijkl"},
		{"abc defghijklmnopq", 14, "abc defghijklm"},
		{"\u00e9\u00e9\u00e9\u00e9", 3, "\u00e9\u00e9\u00e9"},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"abc", 0, ""},
		{"abc", SIZE_MAX, "abc"},
	};

	(void)state;
	for (size_t i = 0; i < N_ROWS(rows); i++) {
		assert_text(rows[i].text, mime_preview(rows[i].text, rows[i].max_chars),
			rows[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encodings),
		cmocka_unit_test(test_charsets),
		cmocka_unit_test(test_unclean),
		cmocka_unit_test(test_html),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_max_len),
		cmocka_unit_test(test_no_more_than_the_text_is_kept),
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_flowed),
		cmocka_unit_test(test_preview),
	};
	int r;

	mime_init();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	mime_done();
	return r;
}
