#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#include "imap/response.h"
#include "tests/unit/canonical.h"
#include "tests/unit/fetch_samples.h"
#include "tests/unit/response_samples.h"
#include "util/bytes.h"

static void check(const struct imap_limits *limits, bool streaming, const void *data, size_t len,
	size_t split, size_t step, const char *expected)
{
	char *text = canonical_run(limits, streaming, data, len, split, step);

	assert_string_equal(text, expected);
	free(text);
}

/* Whole, byte by byte, and cut in two at every position. */
static void check_samples(const struct sample *samples, size_t n_samples)
{
	for (size_t i = 0; i < n_samples; i++) {
		const struct sample *s = &samples[i];

		for (size_t step = 1; step < 8; step++) {
			check(&imap_limits_default, s->streaming, s->input, s->len, 0, step,
				s->expected);
		}
		for (size_t split = 0; split <= s->len; split++) {
			check(&imap_limits_default, s->streaming, s->input, s->len, split, s->len,
				s->expected);
		}
	}
}

static void test_samples(void **state)
{
	(void)state;
	check_samples(response_samples, sizeof(response_samples) / sizeof(*response_samples));
}

static void test_fetch_samples(void **state)
{
	(void)state;
	check_samples(fetch_samples, sizeof(fetch_samples) / sizeof(*fetch_samples));
}

/* A response of the head, n times the filling, and the tail. */
static struct bytes build(const char *head, const char *filling, size_t n, const char *tail)
{
	struct bytes bytes;

	bytes_init(&bytes);
	bytes_put_str(&bytes, head);
	for (size_t i = 0; i < n; i++) {
		bytes_put_str(&bytes, filling);
	}
	bytes_put_str(&bytes, tail);
	assert_int_equal(bytes.error, 0);
	return bytes;
}

static void check_built(
	const struct imap_limits *limits, bool streaming, struct bytes bytes, const char *expected)
{
	static const size_t steps[] = {1, 7, 4096, 16384, 65537, SIZE_MAX / 2};
	struct span span = bytes_span(&bytes);

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		check(limits, streaming, span.data, span.len, 0, steps[i], expected);
	}
	bytes_done(&bytes);
}

/* A number below 1,000,000 as it is told. */
static const char *with_comma(size_t number)
{
	static char text[32];

	if (number < 1000) {
		snprintf(text, sizeof(text), "%zu", number);
	} else {
		snprintf(text, sizeof(text), "%zu,%03zu", number / 1000, number % 1000);
	}
	return text;
}

/* "* OK " and n octets more, of which `line` may be in all. */
static void check_line(size_t line, size_t n, const char *end, bool fits)
{
	struct imap_limits limits = imap_limits_default;
	char expected[200];

	limits.line = line;
	if (!fits) {
		snprintf(expected, sizeof(expected),
			"error EMSGSIZE: a line of more than %s octets\n", with_comma(line));
	} else if (n <= 80) {
		snprintf(expected, sizeof(expected), "OK \"%.*s\"\n", (int)n,
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"x"
			"xxxxx");
	} else {
		snprintf(expected, sizeof(expected), "OK \"%.80s\"...%zu\n",
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"x"
			"xxxxx",
			n);
	}
	check_built(&limits, false, build("* OK ", "x", n, end), expected);
}

static void test_line_limit(void **state)
{
	static const size_t lines[] = {20, 100, 16381, 16382, 16383, 16384, 16385, 65536};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		check_line(lines[i], lines[i] - 5, "\n", true);
		check_line(lines[i], lines[i] - 5, "\r\n", true);
		check_line(lines[i], lines[i] - 4, "\n", false);
		check_line(lines[i], lines[i] - 4, "\r\n", false);
		check_line(lines[i], lines[i] - 3, "", false);
		check_line(lines[i], lines[i] * 3, "\r\n", false);
	}
}

/* Only octets outside of literals count for the line, and all of them do. */
static void test_line_with_literals(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.line = 40;
	check_built(
		&limits, false, build("* FOO (", "X {9}\r\n123456789 ", 5, "12)\r\n"), "UNKNOWN\n");
	check_built(&limits, false, build("* FOO (", "X {9}\r\n123456789 ", 5, "123)\r\n"),
		"error EMSGSIZE: a line of more than 40 octets\n");
	check_built(&limits, false, build("* FOO (", "X {9}\r\n123456789 ", 6, ")\r\n"),
		"error EMSGSIZE: a line of more than 40 octets\n");
	check_built(&limits, false, build("* FOO (", "X {9}\r\n123456789 ", 100, ")\r\n"),
		"error EMSGSIZE: a line of more than 40 octets\n");
}

/* What a sender may write, a long list of addressees for one, may take the whole response. */
static void test_line_of_a_fetch(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	check_built(&limits, false,
		build("* 1 FETCH (X (", "(\"A Name\" NIL \"mailbox\" \"example.org\")", 20000,
			") UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	limits.line = 30;
	limits.response = 100;
	check_built(&limits, false, build("* 1 FETCH (X \"", "x", 79, "\" UID 5)\r\n"),
		"error EMSGSIZE: a line of more than 100 octets\n");
	check_built(&limits, false, build("* 1 FETCH (X \"", "x", 78, "\" UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false, build("* 1 FETCH (X \"", "x", 77000, "\" UID 5)\r\n"),
		"error EMSGSIZE: a line of more than 100 octets\n");
	/* octets of literals that are kept are taken off */
	check_built(&limits, false,
		build("* 1 FETCH (X {50}\r\n01234567890123456789012345678901234567890123456789 Y ",
			"x", 23, " UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false,
		build("* 1 FETCH (X {50}\r\n01234567890123456789012345678901234567890123456789 Y ",
			"x", 24, " UID 5)\r\n"),
		"error EMSGSIZE: a line of more than 50 octets\n");
}

/* A NUL counts only where the line has not been given up before. */
static void test_nul_and_limit(void **state)
{
	struct imap_limits limits = imap_limits_default;
	static const char early[] = "* OK xxxxxxxxxxxxxx\0xxxxxxxxxxxxxxxxxxxxxxxx\r\n";
	static const char late[] = "* OK xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\0xx\r\n";

	(void)state;
	limits.line = 20;
	for (size_t step = 1; step < sizeof(late); step++) {
		check(&limits, false, early, sizeof(early) - 1, 0, step,
			"error EPROTO: a line holds a NUL\n");
		check(&limits, false, late, sizeof(late) - 1, 0, step,
			"error EMSGSIZE: a line of more than 20 octets\n");
	}
}

static void check_literal(
	const struct imap_limits *limits, bool streaming, size_t n, const char *expected)
{
	char head[80];

	snprintf(head, sizeof(head), "* 5 FETCH (BODY[%s] {%zu}\r\n", streaming ? "" : "1", n);
	check_built(limits, streaming, build(head, "x", n, " UID 7)\r\n* 1 EXISTS\r\n"), expected);
}

static void test_literal_limits(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.literal = 10;
	limits.skipped = 1000;
	check_literal(
		&limits, false, 10, "FETCH 5 uid=7 section\"1\" =\"xxxxxxxxxx\" 10\nEXISTS 1\n");
	check_literal(&limits, false, 11, "FETCH 5 uid=7 section\"1\" =NIL 11\nEXISTS 1\n");
	check_literal(&limits, false, 1000, "FETCH 5 uid=7 section\"1\" =NIL 1000\nEXISTS 1\n");
	check_literal(
		&limits, false, 1001, "error EMSGSIZE: a literal of more than 1,000 octets\n");
	check_literal(
		&limits, false, 100000, "error EMSGSIZE: a literal of more than 1,000 octets\n");
	check_literal(&limits, true, 11,
		"CHUNKS 11 \"xxxxxxxxxxx\"\nFETCH 5 uid=7 section\"\" streamed=NIL 11\nEXISTS 1\n");
	check_literal(&limits, true, 1001, "error EMSGSIZE: a literal of more than 1,000 octets\n");
}

/* What is announced as more than there are numbers, or as almost as much. */
static void test_literal_numbers(void **state)
{
	static const char *const sizes[] = {"2147483649", "4294967295", "4294967296",
		"9223372036854775807", "9223372036854775808", "18446744073709551615",
		"18446744073709551616", "99999999999999999999999999999999999999999"};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		check_built(&imap_limits_default, false,
			build("* LIST () \"/\" {", sizes[i], 1, "}\r\nabc\r\n"),
			"error EMSGSIZE: a literal of more than 2,147,483,648 octets\n");
	}
	check_built(&imap_limits_default, false,
		build("* LIST () \"/\" {", "2147483648", 1, "}\r\nabc\r\n"), "midway\n");
}

static void test_response_limit(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	/* 24 octets up to the literal, and 100 kept free for the line */
	limits.line = 100;
	limits.response = 224;
	check_literal(&limits, false, 100,
		"FETCH 5 uid=7 section\"1\" "
		"=\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxx\"...100 100\nEXISTS 1\n");
	check_literal(&limits, false, 101, "FETCH 5 uid=7 section\"1\" =NIL 101\nEXISTS 1\n");
	check_literal(&limits, false, 10000, "FETCH 5 uid=7 section\"1\" =NIL 10000\nEXISTS 1\n");
	check_built(&limits, false,
		build("* 5 FETCH (", "BODY[1] {30}\r\n012345678901234567890123456789", 4,
			" UID 7)\r\n"),
		"FETCH 5 uid=7 section\"1\" =\"012345678901234567890123456789\" 30"
		" section\"1\" =\"012345678901234567890123456789\" 30"
		" section\"1\" =NIL 30 section\"1\" =NIL 30\n");
	/* a limit below that of the line keeps nothing, and breaks nothing */
	limits.response = 0;
	check_literal(&limits, false, 1, "FETCH 5 uid=7 section\"1\" =NIL 1\nEXISTS 1\n");
}

/* One text in n multiparts. */
static struct bytes nest(size_t n)
{
	struct bytes bytes = build("* 1 FETCH (BODYSTRUCTURE ", "(", n,
		"(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 5 1)");

	for (size_t i = 0; i < n; i++) {
		bytes_put_str(&bytes, " \"MIXED\")");
	}
	bytes_put_str(&bytes, " UID 5)\r\n");
	return bytes;
}

static void test_depth(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.depth = 4;
	check_built(&limits, false, nest(2),
		"FETCH 1 uid=5 structure part(\"1.1\" \"TEXT\" /\"PLAIN\" \"7BIT\" 5)\n");
	check_built(&limits, false, nest(3), "FETCH 1 uid=5 structure\n");
	check_built(&limits, false, nest(500), "FETCH 1 uid=5 structure\n");
	limits.depth = UINT32_MAX;
	check_built(&limits, false, nest(500), "FETCH 1 uid=5 structure\n");
	check_built(&limits, false, build("* 1 FETCH (BODYSTRUCTURE ", "(", 50000, "\r\n"),
		"INVALID \"a value is missing or a list has no end\"\n");
	check_built(&limits, false, build("* 1 FETCH (X ", "(", 30000, ")\r\n"),
		"INVALID \"a value is missing or a list has no end\"\n");
	check_built(&limits, false, build("* 1 FETCH (X ", "()", 1, " Y ((((((((1)))))))))\r\n"),
		"FETCH 1\n");
}

static void test_list_limit(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.list = 3;
	check_built(&limits, false, build("* FLAGS (", " a", 3, ")\r\n"),
		" FLAGS[3 \"a\" \"a\" \"a\"]\n");
	check_built(&limits, false, build("* FLAGS (", " a", 4, ")\r\n"),
		"INVALID \"a list is too long\"\n");
	check_built(&limits, false, build("* FLAGS (", " a", 9999, ")\r\n"),
		"INVALID \"a list is too long\"\n");
	check_built(&limits, false, build("* CAPABILITY", " a", 4, "\r\n"),
		"INVALID \"a list is too long\"\n");
	check_built(&limits, false,
		build("* 1 FETCH (ENVELOPE (NIL NIL (", "(NIL NIL NIL NIL)", 4, ")) UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false,
		build("* 1 FETCH (BODYSTRUCTURE (", "(\"A\" \"B\")", 4, " \"MIXED\") UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false,
		build("* 1 FETCH (BODYSTRUCTURE (\"A\" \"B\" (", " \"C\" \"D\"", 4,
			")) UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false, build("* ID (", " a", 4, ")\r\n"),
		"INVALID \"a list is too long\"\n");
}

static void test_flag_limits(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.flags = 3;
	limits.flag_len = 4;
	check_built(&limits, false, build("* 1 FETCH (FLAGS (", " abcd", 3, "))\r\n"),
		"FETCH 1 flags[3 \"abcd\" \"abcd\" \"abcd\"]\n");
	check_built(&limits, false, build("* 1 FETCH (FLAGS (abcde \\Recent", " ab", 4, "))\r\n"),
		"FETCH 1 flags[3 \"ab\" \"ab\" \"ab\"]\n");
	check_built(&limits, false, build("* 1 FETCH (FLAGS (", " abcdefgh", 5000, "))\r\n"),
		"FETCH 1 flags[0]\n");
}

/* What a few octets become when they are read: an address for each "()", whose 80 octets count. */
static void test_memory_limit(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.memory = 80 * 3;
	check_built(&limits, false,
		build("* 1 FETCH (UID 5 ENVELOPE (NIL NIL (", "()", 3, ")) UID 6)\r\n"),
		"FETCH 1 uid=6 envelope date=NIL subject=NIL from( NIL NIL @NIL NIL NIL @NIL NIL "
		"NIL @NIL) in-reply-to=NIL id=NIL\n");
	check_built(&limits, false,
		build("* 1 FETCH (UID 5 ENVELOPE (NIL NIL (", "()", 4, ")) UID 6)\r\n"),
		"FETCH 1 uid=6\n");
	check_built(&limits, false,
		build("* 1 FETCH (UID 5 ENVELOPE (NIL NIL (", "()", 60000, ")) UID 6)\r\n"),
		"FETCH 1 uid=6\n");
	limits.memory = 9;
	check_built(&limits, false, build("* 1 FETCH (PREVIEW \"", "x", 9, "\" UID 6)\r\n"),
		"FETCH 1 uid=6 preview=\"xxxxxxxxx\"\n");
	check_built(&limits, false, build("* 1 FETCH (PREVIEW \"", "x", 10, "\" UID 6)\r\n"),
		"INVALID \"a response takes too much memory\"\n");
	check_built(&limits, false, build("* 1 FETCH (PREVIEW \"", "x", 9999, "\" UID 6)\r\n"),
		"INVALID \"a response takes too much memory\"\n");
}

/* The parts of a message, sections included, have a bound of their own. */
static void test_section_limit(void **state)
{
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	struct bytes bytes = build("* 1 FETCH (", " BODY[1] NIL", 500, ")\r\n");
	const struct imap_response *response;
	const struct imap_section *section;
	size_t consumed, n = 0;

	(void)state;
	assert_int_equal(imap_parser_receive(parser, bytes_span(&bytes).data, bytes_len(&bytes),
				 &consumed, &response),
		1);
	for (section = response->message->sections; section; section = section->next) {
		n++;
	}
	assert_int_equal(n, IMAP_MESSAGE_SECTIONS_MAX);
	bytes_done(&bytes);
	imap_parser_free(parser);
}

/* Every third number up to 3 * n, in the form that the response has. */
static struct bytes build_set(const char *head, char separator, size_t n, const char *tail)
{
	struct bytes bytes;

	bytes_init(&bytes);
	bytes_put_str(&bytes, head);
	for (size_t i = 1; i <= n; i++) {
		bytes_printf(&bytes, "%zu", i * 3);
		if (i < n) {
			bytes_put_char(&bytes, separator);
		}
	}
	bytes_put_str(&bytes, tail);
	assert_int_equal(bytes.error, 0);
	return bytes;
}

#define FIRST_TWENTY "3,6,9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60"

static void test_endless(void **state)
{
	static const size_t counts[] = {3000, 4000, 5000, 100000};
	char expected[300];

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		size_t n = counts[i];

		snprintf(expected, sizeof(expected), "SEARCH %zu{" FIRST_TWENTY "}\nEXISTS 1\n", n);
		check_built(&imap_limits_default, false,
			build_set("* SEARCH ", ' ', n, "\r\n* 1 EXISTS\r\n"), expected);
		snprintf(expected, sizeof(expected), "SEARCH modseq=77 %zu{" FIRST_TWENTY "}\n", n);
		check_built(&imap_limits_default, false,
			build_set("* SEARCH ", ' ', n, " (MODSEQ 77)\r\n"), expected);
		snprintf(expected, sizeof(expected),
			"ESEARCH tag=\"A1\" uid all count=5 1-9 modseq=8 %zu{" FIRST_TWENTY "}\n",
			n);
		check_built(&imap_limits_default, false,
			build_set("* ESEARCH (TAG \"A1\") UID MIN 1 ALL ", ',', n,
				" MAX 9 COUNT 5 MODSEQ 8\r\n"),
			expected);
		snprintf(expected, sizeof(expected), "VANISHED earlier %zu{" FIRST_TWENTY "}\n", n);
		check_built(&imap_limits_default, false,
			build_set("* VANISHED (EARLIER) ", ',', n, "\r\n"), expected);
	}
}

/* The line limit does not hold for them, even where it is very low. */
static void test_endless_with_low_limit(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.line = 30;
	check_built(&limits, false, build_set("* SEARCH ", ' ', 1000, "\r\n"),
		"SEARCH 1000{" FIRST_TWENTY "}\n");
	check_built(&limits, false, build("* FLAGS (", " a", 100, ")\r\n"),
		"error EMSGSIZE: a line of more than 30 octets\n");
}

/* What breaks the grammar late costs the response, once, and nothing after it. */
static void test_endless_and_broken(void **state)
{
	(void)state;
	check_built(&imap_limits_default, false,
		build_set("* SEARCH ", ' ', 3000, " x\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number was expected\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* SEARCH x", " 1", 100000, "\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number was expected\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* SEARCH ", "1", 100000, "\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number is out of range\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* SEARCH ", "0", 100000, "1\r\n* 1 EXISTS\r\n"),
		"INVALID \"0 stands in a set\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* SEARCH", " ", 100000, "1\r\n* 1 EXISTS\r\n"), "SEARCH 1{1}\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* VANISHED ", ",", 100000, "1\r\n* 1 EXISTS\r\n"),
		"VANISHED 1{1}\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* ESEARCH X (", "a ", 100000, ") COUNT 1\r\n* 1 EXISTS\r\n"),
		"INVALID \"a value is missing or a list has no end\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* ESEARCH", " X (a b)", 10000, " COUNT 1\r\n* 1 EXISTS\r\n"),
		"ESEARCH count=1 0{}\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* SEARCH", " 1", 20000, " {5}\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number was expected\" after 1{1}\nEXISTS 1\n");
}

/* They hold no literals, short or long; the tag of ESEARCH may be one. */
static void test_endless_and_literals(void **state)
{
	(void)state;
	check_built(&imap_limits_default, false,
		build("* SEARCH", " 1", 2, " {1}\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number was expected\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* VANISHED ", "1,", 2, "{1}\r\n* 1 EXISTS\r\n"),
		"INVALID \"a number was expected\"\nEXISTS 1\n");
	check_built(&imap_limits_default, false,
		build("* ESEARCH (TAG {1}\r\n", "A", 1, ") UID ALL 1\r\n"),
		"ESEARCH tag=\"A\" uid all 1{1}\n");
}

/* Pieces before the last one say so, and all of them say what is known of the response. */
static void test_pieces(void **state)
{
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	struct bytes bytes = build_set("* ESEARCH (TAG \"A1\") UID ALL ", ',', 20000, "\r\n");
	const struct imap_response *response = NULL;
	size_t n_pieces = 0, consumed;
	uint64_t count = 0;

	(void)state;
	do {
		struct span span = bytes_span(&bytes);

		assert_int_equal(
			imap_parser_receive(parser, span.data, span.len, &consumed, &response), 1);
		bytes_consume(&bytes, consumed);
		assert_int_equal(response->kind, IMAP_RESPONSE_ESEARCH);
		assert_true(response->search.is_uid && response->search.has_all);
		assert_true(span_equal(response->search.correlator, "A1"));
		assert_int_equal(imap_parser_is_midway(parser), response->partial);
		assert_true(runs_length(&response->set) <= 16384 / 2);
		count += runs_count(&response->set);
		n_pieces++;
	} while (response->partial);
	assert_int_equal(count, 20000);
	assert_in_range(n_pieces, 5, 20);
	assert_int_equal(bytes_len(&bytes), 0);
	bytes_done(&bytes);
	imap_parser_free(parser);
}

static void test_chunks_point_into_the_input(void **state)
{
	static const char input[] = "* 5 FETCH (BODY[] {10}\r\n0123456789)\r\n";
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	const struct imap_response *response = NULL;
	size_t consumed, literal = (size_t)(strstr(input, "0123") - input);

	(void)state;
	imap_parser_set_streaming(parser, true);
	assert_int_equal(imap_parser_receive(parser, input, literal + 4, &consumed, &response), 1);
	assert_int_equal(consumed, literal + 4);
	assert_int_equal(response->kind, IMAP_RESPONSE_CHUNK);
	assert_ptr_equal(response->chunk.data, input + literal);
	assert_int_equal(response->chunk.len, 4);
	assert_int_equal(response->chunk_total, 10);
	assert_true(imap_parser_is_midway(parser));
	assert_int_equal(
		imap_parser_receive(parser, input + consumed, 100, &consumed, &response), 1);
	assert_int_equal(consumed, 6);
	assert_int_equal(
		imap_parser_receive(parser, input + literal + 10, 3, &consumed, &response), 1);
	assert_int_equal(response->kind, IMAP_RESPONSE_FETCH);
	assert_null(response->chunk.data);
	assert_false(imap_parser_is_midway(parser));
	imap_parser_free(parser);
}

static void test_lifecycle(void **state)
{
	static const char input[] = "* 5 FETCH (UID 7 FLAGS (\\Seen))\r\n* 6 EXISTS\r\n* 7";
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	const struct imap_response *response = NULL;
	struct imap_message *message;
	size_t consumed, at = 0;

	(void)state;
	imap_parser_trim(parser);
	assert_false(imap_parser_is_midway(parser));
	assert_int_equal(imap_parser_receive(parser, NULL, 0, &consumed, &response), 0);
	assert_int_equal(consumed, 0);
	assert_int_equal(
		imap_parser_receive(parser, input, sizeof(input) - 1, &consumed, &response), 1);
	at = consumed;
	message = imap_response_take_message(response);
	assert_non_null(message);
	assert_null(imap_response_take_message(response));
	assert_int_equal(imap_parser_receive(
				 parser, input + at, sizeof(input) - 1 - at, &consumed, &response),
		1);
	at += consumed;
	assert_int_equal(response->number, 6);
	assert_null(response->message);
	assert_int_equal(imap_parser_receive(
				 parser, input + at, sizeof(input) - 1 - at, &consumed, &response),
		0);
	assert_int_equal(at + consumed, sizeof(input) - 1);
	assert_true(imap_parser_is_midway(parser));
	imap_parser_trim(parser);
	assert_int_equal(imap_parser_receive(parser, " EXISTS\n", 8, &consumed, &response), 1);
	assert_int_equal(response->number, 7);
	imap_parser_trim(parser);
	assert_int_equal(imap_parser_receive(parser, "* 8 EXISTS\n", 11, &consumed, &response), 1);
	assert_int_equal(response->number, 8);
	/* what was taken outlives the parser */
	imap_parser_free(parser);
	assert_true(imap_message_has_flag(message, "\\seen"));
	imap_message_free(message);
	imap_parser_free(NULL);
}

/* After an error nothing is read any more. */
static void test_error_stays(void **state)
{
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	const struct imap_response *response = NULL;
	size_t consumed = 0;

	(void)state;
	assert_string_equal(imap_parser_problem(parser), "");
	assert_int_equal(imap_parser_receive(parser, "* OK \0", 6, &consumed, &response), -EPROTO);
	assert_int_equal(
		imap_parser_receive(parser, "* 1 EXISTS\n", 11, &consumed, &response), -EPROTO);
	assert_string_equal(imap_parser_problem(parser), "a line holds a NUL");
	imap_parser_free(parser);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(imap_code_name(IMAP_CODE_READ_ONLY), "READ-ONLY");
	assert_string_equal(imap_code_name(IMAP_CODE_UNSEEN), "UNSEEN");
	assert_string_equal(imap_status_name(IMAP_STATUS_PREAUTH), "PREAUTH");
	for (int code = IMAP_CODE_ALERT; code <= IMAP_CODE_UNSEEN; code++) {
		char expected[100];
		const char *name = imap_code_name((enum imap_code)code);
		struct bytes bytes = build("* NO [", name, 1, "]\r\n");

		assert_true(strlen(name) > 0);
		snprintf(expected, sizeof(expected), "NO [%s 0%s] \"\"\n", name,
			code == IMAP_CODE_COPYUID ? " 0{} 0{}" : "");
		if (code == IMAP_CODE_COPYUID || code == IMAP_CODE_PERMANENTFLAGS) {
			strcpy(expected, "NO [UNKNOWN 0] \"\"\n");
		}
		check_built(&imap_limits_default, false, bytes, expected);
	}
}

/* Many literals, and many things that look like one, cost no more than their octets. */
static void test_linear(void **state)
{
	struct imap_limits limits = imap_limits_default;

	(void)state;
	limits.line = 4 << 20;
	limits.response = 64 << 20;
	check_built(&limits, false, build("* 1 FETCH (X (", "{0}\r\n", 20000, ") UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false,
		build("* 1 FETCH (X (", "{1}\r\n}{1}\r\n{", 20000, ") UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false, build("* 1 FETCH (X (", "{1} ", 100000, ") UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false, build("* 1 FETCH (X \"", "\\\\\\\"", 100000, "\" UID 5)\r\n"),
		"FETCH 1 uid=5\n");
	check_built(&limits, false, build("* LIST () \"/\" ", "\"x", 100000, "\r\n"),
		"INVALID \"a quoted string has no end\"\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_fetch_samples),
		cmocka_unit_test(test_line_limit),
		cmocka_unit_test(test_line_with_literals),
		cmocka_unit_test(test_line_of_a_fetch),
		cmocka_unit_test(test_nul_and_limit),
		cmocka_unit_test(test_literal_limits),
		cmocka_unit_test(test_literal_numbers),
		cmocka_unit_test(test_response_limit),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_list_limit),
		cmocka_unit_test(test_flag_limits),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_section_limit),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_endless_with_low_limit),
		cmocka_unit_test(test_endless_and_broken),
		cmocka_unit_test(test_endless_and_literals),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_chunks_point_into_the_input),
		cmocka_unit_test(test_lifecycle),
		cmocka_unit_test(test_error_stays),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
