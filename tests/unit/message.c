#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#include "imap/message.h"
#include "tests/unit/canonical.h"

/* The message of one FETCH response. */
static struct imap_message *read_message(const char *items)
{
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	struct imap_message *message;
	const struct imap_response *response = NULL;
	struct bytes bytes;
	size_t consumed;

	bytes_init(&bytes);
	bytes_printf(&bytes, "* 5 FETCH (%s)\r\n", items);
	assert_int_equal(imap_parser_receive(parser, bytes_span(&bytes).data, bytes_len(&bytes),
				 &consumed, &response),
		1);
	assert_int_equal(response->kind, IMAP_RESPONSE_FETCH);
	message = imap_response_take_message(response);
	bytes_done(&bytes);
	imap_parser_free(parser);
	return message;
}

static void check(const struct imap_message *message, const char *expected)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	canonical_message(out, message);
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

static void check_merge(const char *first, const char *second, const char *expected)
{
	struct imap_message *message = read_message(first);

	imap_message_merge(message, read_message(second));
	assert_int_equal(message->arena.error, 0);
	check(message, expected);
	imap_message_free(message);
}

static void test_nothing(void **state)
{
	struct imap_message *message = imap_message_new();

	(void)state;
	assert_non_null(message);
	assert_int_equal(message->items, 0);
	assert_null(imap_message_free(message));
	assert_null(imap_message_free(NULL));
}

#define EVERYTHING \
	"UID 7 FLAGS (\\Seen a) MODSEQ (9) RFC822.SIZE 100 " \
	"INTERNALDATE \" 1-Jan-1970 00:00:10 +0000\" " \
	"ENVELOPE (\"d\" \"s\" ((\"n\" NIL \"m\" \"h\")(NIL NIL \"o\" \"h\")) NIL NIL NIL NIL " \
	"NIL " \
	"\"<r>\" \"<i>\") " \
	"BODYSTRUCTURE ((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"x\") NIL NIL \"7BIT\" 5 1 NIL " \
	"(\"inline\" (\"filename\" \"f\")))(\"A\" \"B\") \"ALTERNATIVE\") " \
	"PREVIEW \"p\" EMAILID (M1) THREADID (T1) X-GM-MSGID 1 X-GM-THRID 2 X-GM-LABELS (l) " \
	"BODY[1] \"one\" BODY[2] NIL"

#define EVERYTHING_SAID \
	"FETCH 5 uid=7 modseq=9 size=100 received=10 flags[2 \"\\Seen\" \"a\"] envelope " \
	"date=\"d\"" \
	" subject=\"s\" from( \"n\" \"m\" @\"h\" NIL \"o\" @\"h\") in-reply-to=\"<r>\"" \
	" id=\"<i>\" structure part(\"1\" \"TEXT\" /\"PLAIN\" \"CHARSET\" =\"x\" \"7BIT\" 5" \
	" disposition=\"inline\" \"filename\" =\"f\" alternative) part(\"2\" \"A\" /\"B\" NIL 0" \
	" alternative) preview=\"p\" email-id=\"M1\" thread-id=\"T1\" gm-msgid=1 gm-thrid=2" \
	" gm-labels[1 \"l\"] section\"1\" =\"one\" 3 section\"2\" =NIL 0"

static void test_merge(void **state)
{
	(void)state;
	check_merge("", EVERYTHING, EVERYTHING_SAID);
	check_merge(EVERYTHING, "", EVERYTHING_SAID);
	check_merge(EVERYTHING, EVERYTHING, EVERYTHING_SAID);
	check_merge("UID 7 FLAGS (a b) MODSEQ (5) RFC822.SIZE 1 PREVIEW \"x\"",
		"FLAGS (c) MODSEQ (6) RFC822.SIZE 2 PREVIEW \"y\"",
		"FETCH 5 uid=7 modseq=6 size=1 flags[1 \"c\"] preview=\"x\"");
	check_merge("FLAGS (a)", "FLAGS ()", "FETCH 5 flags[0]");
	check_merge("BODY[1] \"a\" BODY[TEXT] \"b\"", "body[text] \"c\" BODY[2] \"d\"",
		"FETCH 5 section\"1\" =\"a\" 1 section\"TEXT\" =\"c\" 1 section\"2\" =\"d\" 1");
}

/* A server that says the same for ever does not fill the memory. */
static void test_merge_is_bounded(void **state)
{
	struct imap_message *message = read_message(EVERYTHING);
	char items[64];

	(void)state;
	for (unsigned int i = 0; i < 20000; i++) {
		snprintf(items, sizeof(items), "FLAGS (flag-%u) BODY[%u] \"x\"", i, i);
		imap_message_merge(message, read_message(items));
		assert_true(message->arena.used < 1048576);
	}
	assert_int_equal(message->n_flags, 1);
	assert_true(imap_message_has_flag(message, "flag-19999"));
	assert_int_equal(message->uid, 7);
	assert_true(span_equal(message->envelope.from->mailbox, "m"));
	assert_non_null(imap_message_section(message, "0"));
	assert_null(imap_message_section(message, "19999"));
	imap_message_free(message);
}

static void test_flags(void **state)
{
	struct imap_message *message = read_message("FLAGS (\\Seen \\Recent $Junk)");

	(void)state;
	assert_true(imap_message_has_flag(message, "\\SEEN"));
	assert_true(imap_message_has_flag(message, "$junk"));
	assert_false(imap_message_has_flag(message, "\\Recent"));
	assert_false(imap_message_has_flag(message, "\\See"));
	assert_false(imap_message_has_flag(message, "\\Seen2"));
	imap_message_free(message);
}

static void check_section(
	const struct imap_message *message, const char *section, const char *expected)
{
	const struct imap_section *found = imap_message_section(message, section);

	if (!expected) {
		assert_null(found);
		return;
	}
	assert_non_null(found);
	assert_true(span_equal(found->data, expected));
}

static void test_sections(void **state)
{
	struct imap_message *message = read_message(
		"BODY[] \"all\" BODY[1]<0> \"one\" BODY[1.2.MIME] \"mime\" BODY[HEADER] \"header\" "
		"BODY[HEADER.FIELDS.NOT (X)] \"not\" "
		"BODY[HEADER.FIELDS (\"A\" B)] \"ab\" BODY[HEADER.FIELDS (C)] \"c\"");

	(void)state;
	check_section(message, "", "all");
	check_section(message, "1", "one");
	check_section(message, "1.2.mime", "mime");
	check_section(message, "2", NULL);
	check_section(message, "HEADER", "header");
	check_section(message, "HEADER.FIELDS (a b)", "ab");
	check_section(message, "HEADER.FIELDS (C)", "c");
	check_section(message, "HEADER.FIELDS (B A)", "ab");
	check_section(message, "HEADER.FIELDS.NOT (Y)", "not");
	check_section(message, "1.HEADER.FIELDS (A)", NULL);
	check_section(message, "HEADER.FIELDS", NULL);
	imap_message_free(message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_merge_is_bounded),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_sections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
