/* A message as the bus shows it, made of what a server said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "imap/client.h"
#include "message.h"
#include "mime/header.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

#define ALL_ITEMS 0xff

static void *allocate(struct imap_message *raw, size_t size)
{
	void *memory = arena_alloc(&raw->arena, size);
	assert_non_null(memory);
	return memory;
}

static struct imap_address *add_address(struct imap_message *raw, struct imap_address **list,
	const char *name, const char *mailbox, const char *host)
{
	while (*list) {
		list = &(*list)->next;
	}
	*list = allocate(raw, sizeof(**list));
	(*list)->name = name ? span_of(name) : (struct span){0};
	(*list)->mailbox = mailbox ? span_of(mailbox) : (struct span){0};
	(*list)->host = host ? span_of(host) : (struct span){0};
	return *list;
}

static struct imap_part *add_part(
	struct imap_message *raw, const char *section, const char *type, const char *subtype)
{
	struct imap_part **part = &raw->parts;
	while (*part) {
		part = &(*part)->next;
	}
	*part = allocate(raw, sizeof(**part));
	(*part)->section = span_of(section);
	(*part)->type = span_of(type);
	(*part)->subtype = span_of(subtype);
	(*part)->encoding = span_of("7BIT");
	(*part)->size = 4711;
	raw->items |= IMAP_ITEM_BODYSTRUCTURE;
	return *part;
}

static void add_parameter(
	struct imap_message *raw, struct imap_parameter **list, const char *name, const char *value)
{
	struct imap_parameter *parameter = allocate(raw, sizeof(*parameter));
	parameter->name = span_of(name);
	parameter->value = span_of(value);
	parameter->next = *list;
	*list = parameter;
}

static void add_section(struct imap_message *raw, const char *section, const char *data)
{
	struct imap_section *added = allocate(raw, sizeof(*added));
	added->section = span_of(section);
	added->data = span_of(data);
	added->size = strlen(data);
	added->next = raw->sections;
	raw->sections = added;
}

static struct imap_message *new_raw(void)
{
	struct imap_message *raw = imap_message_new();
	assert_non_null(raw);
	raw->items = IMAP_ITEM_UID;
	raw->uid = 7;
	return raw;
}

static struct message *decode(struct imap_message *raw, unsigned int items)
{
	struct message *message = message_new(raw, 42, items);
	assert_non_null(message);
	imap_message_free(raw);
	return message;
}

static void test_names_of_items(void **fixture)
{
	(void)fixture;
	assert_int_equal(message_item_from_name("envelope"), MESSAGE_ENVELOPE);
	assert_int_equal(message_item_from_name("identity"), MESSAGE_IDENTITY);
	assert_int_equal(message_item_from_name("Envelope"), 0);
	assert_int_equal(message_item_from_name(""), 0);
}

static void test_what_the_engine_is_asked(void **fixture)
{
	(void)fixture;
	assert_int_equal(message_imap_items(0), IMAP_ITEM_UID);
	assert_int_equal(message_imap_items(MESSAGE_DEFAULT),
		IMAP_ITEM_UID | IMAP_ITEM_ENVELOPE | IMAP_ITEM_FLAGS | IMAP_ITEM_INTERNALDATE |
			IMAP_ITEM_SIZE);
	assert_int_equal(message_imap_items(MESSAGE_TEXT), IMAP_ITEM_UID | IMAP_FETCH_TEXT);
	assert_int_equal(message_imap_items(MESSAGE_PREVIEW), IMAP_ITEM_UID | IMAP_FETCH_PREVIEW);
	assert_int_equal(message_imap_items(MESSAGE_IDENTITY), IMAP_ITEM_UID | IMAP_FETCH_IDENTITY);
	assert_int_equal(
		message_imap_items(MESSAGE_ATTACHMENTS), IMAP_ITEM_UID | IMAP_ITEM_BODYSTRUCTURE);
}

/* What the server refused three times. */
static void test_identity_alone(void **fixture)
{
	(void)fixture;
	struct message *message = decode(new_raw(), ALL_ITEMS);
	assert_int_equal(message->uid, 7);
	assert_int_equal(message->uidvalidity, 42);
	assert_null(message->flags);
	assert_null(message->subject);
	assert_false(message->from.is_present);
	assert_false(message->has_date || message->has_received || message->has_size);
	assert_false(message->has_attachments);
	assert_null(message->preview);
	assert_null(message->text);
	assert_null(message->email_id);
	assert_null(message->labels);
	message_free(message);
}

static void test_flags(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_FLAGS;
	raw->flags = allocate(raw, 2 * sizeof(*raw->flags));
	raw->flags[0] = span_of("\\Seen");
	raw->flags[1] = span_of("odd\xff");
	raw->n_flags = 2;
	struct message *message = decode(raw, MESSAGE_FLAGS);
	assert_string_equal(message->flags[0], "\\Seen");
	assert_string_equal(message->flags[1], "odd\xef\xbf\xbd");
	assert_null(message->flags[2]);
	message_free(message);
}

static void test_no_flags_is_not_unknown_flags(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_FLAGS;
	struct message *message = decode(raw, MESSAGE_FLAGS);
	assert_non_null(message->flags);
	assert_null(message->flags[0]);
	message_free(message);
}

static void test_only_what_was_asked(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_SIZE | IMAP_ITEM_INTERNALDATE | IMAP_ITEM_ENVELOPE;
	raw->size = 100;
	raw->internaldate = -5;
	raw->envelope.subject = span_of("hello");
	struct message *message = decode(raw, MESSAGE_RECEIVED);
	assert_true(message->has_received);
	assert_int_equal(message->received, -5);
	assert_false(message->has_size);
	assert_null(message->subject);
	message_free(message);
}

static void test_envelope(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	struct imap_envelope *envelope = &raw->envelope;
	raw->items |= IMAP_ITEM_ENVELOPE;
	envelope->date = span_of("Tue, 02 Jan 2024 10:00:00 +0200");
	envelope->subject = span_of("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n and\x07 more");
	envelope->message_id = span_of("<a@example.org>");
	envelope->in_reply_to = span_of("(yours) <b@example.org> <c@example.org>");
	add_address(raw, &envelope->from, "=?iso-8859-1?Q?J=F6rg?=", "j", "example.org");
	add_address(raw, &envelope->to, NULL, "alone", "");
	add_address(raw, &envelope->to, NULL, "a\xff", "b\r\nc");
	add_address(raw, &envelope->to, NULL, "", "example.org");
	add_address(raw, &envelope->to, NULL, "a", " example.org");
	add_address(raw, &envelope->to, NULL, "\x01 a", "example.org");
	struct message *message = decode(raw, MESSAGE_ENVELOPE);
	assert_string_equal(message->subject, "Grüße and more");
	assert_true(message->has_date);
	assert_int_equal(message->date, 1704182400);
	assert_string_equal(message->message_id, "<a@example.org>");
	assert_string_equal(message->in_reply_to, "<b@example.org>");
	assert_int_equal(message->from.n, 1);
	assert_string_equal(message->from.list[0].name, "Jörg");
	assert_string_equal(message->from.list[0].address, "j@example.org");
	assert_int_equal(message->to.n, 5);
	assert_string_equal(message->to.list[0].name, "");
	assert_string_equal(message->to.list[0].address, "alone");
	assert_string_equal(message->to.list[1].address, "a\xef\xbf\xbd@b c");
	assert_string_equal(message->to.list[2].address, "@example.org");
	assert_string_equal(message->to.list[3].address, "a@ example.org");
	assert_string_equal(message->to.list[4].address, "a@example.org");
	assert_false(message->cc.is_present);
	message_free(message);
}

/* RFC 9051 section 7.5.2: the marks of a group are no addresses. */
static void test_groups(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_ENVELOPE;
	add_address(raw, &raw->envelope.to, NULL, "undisclosed-recipients", NULL);
	add_address(raw, &raw->envelope.to, NULL, NULL, NULL);
	add_address(raw, &raw->envelope.cc, NULL, "friends", NULL);
	add_address(raw, &raw->envelope.cc, "A", "a", "example.org");
	add_address(raw, &raw->envelope.cc, NULL, NULL, NULL);
	struct message *message = decode(raw, MESSAGE_ENVELOPE);
	assert_true(message->to.is_present);
	assert_int_equal(message->to.n, 0);
	assert_int_equal(message->cc.n, 1);
	assert_string_equal(message->cc.list[0].address, "a@example.org");
	message_free(message);
}

static void test_long_texts_are_cut(void **fixture)
{
	(void)fixture;
	char text[5001];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_ENVELOPE;
	raw->envelope.subject = span_of(text);
	add_address(raw, &raw->envelope.from, text, "a", "example.org");
	struct message *message = decode(raw, MESSAGE_ENVELOPE);
	assert_int_equal(strlen(message->subject), 256);
	assert_int_equal(strlen(message->from.list[0].name), 256);
	message_free(message);
}

static void test_text_and_preview(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	add_part(raw, "1", "TEXT", "HTML");
	struct imap_part *plain = add_part(raw, "2", "TEXT", "PLAIN");
	plain->encoding = span_of("QUOTED-PRINTABLE");
	add_parameter(raw, &plain->parameters, "CHARSET", "iso-8859-1");
	add_section(raw, "2", "Gr=FC=DFe,\r\nzweite Zeile\r\n");
	struct message *message = decode(raw, MESSAGE_TEXT | MESSAGE_PREVIEW);
	assert_string_equal(message->text, "Grüße,\nzweite Zeile\n");
	assert_string_equal(message->preview, "Grüße, zweite Zeile");
	message_free(message);
}

static void test_preview_of_the_server(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_PREVIEW;
	raw->preview = span_of("  what the \xe2\x80\xae server\r\n thinks ");
	struct message *message = decode(raw, MESSAGE_PREVIEW | MESSAGE_TEXT);
	assert_string_equal(message->preview, "what the server thinks");
	assert_null(message->text);
	message_free(message);
}

/* NIL: it could not make one, and nothing else was fetched. */
static void test_no_preview(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_PREVIEW;
	struct message *message = decode(raw, MESSAGE_PREVIEW);
	assert_null(message->preview);
	message_free(message);
}

static void test_attachments(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	add_part(raw, "1.1", "text", "plain")->in_alternative = true;
	add_part(raw, "1.2", "text", "html")->in_alternative = true;
	add_part(raw, "1.3", "application", "ics")->in_alternative = true;
	struct imap_part *named = add_part(raw, "2", "TEXT", "Plain");
	add_parameter(raw, &named->disposition_parameters, "filename", "../etc/notes.txt");
	add_part(raw, "3", "IMAGE", "PNG")->disposition = span_of("INLINE");
	add_part(raw, "4", "APPLICATION", "PDF");
	add_part(raw, "5", "TEXT", "CSV")->disposition = span_of("Attachment");
	struct message *message = decode(raw, MESSAGE_ATTACHMENTS);
	assert_true(message->has_attachments);
	assert_int_equal(message->n_attachments, 3);
	assert_string_equal(message->attachments[0].file_name, "notes.txt");
	assert_string_equal(message->attachments[0].media_type, "text/plain");
	assert_int_equal(message->attachments[0].size, 4711);
	assert_string_equal(message->attachments[1].media_type, "application/pdf");
	assert_string_equal(message->attachments[1].file_name, "");
	assert_string_equal(message->attachments[2].media_type, "text/csv");
	message_free(message);
}

static void test_identity(void **fixture)
{
	(void)fixture;
	struct imap_message *raw = new_raw();
	raw->items |=
		IMAP_ITEM_EMAIL_ID | IMAP_ITEM_GM_MSGID | IMAP_ITEM_GM_THRID | IMAP_ITEM_GM_LABELS;
	raw->email_id = span_of("M123");
	raw->gm_msgid = 1;
	raw->gm_thrid = UINT64_MAX;
	raw->gm_labels = allocate(raw, sizeof(*raw->gm_labels));
	raw->gm_labels[0] = span_of("Entw&APw-rfe");
	raw->n_gm_labels = 1;
	struct message *message = decode(raw, MESSAGE_IDENTITY);
	assert_string_equal(message->email_id, "M123");
	assert_string_equal(message->thread_id, "18446744073709551615");
	assert_string_equal(message->labels[0], "Entwürfe");
	assert_null(message->labels[1]);
	message_free(message);
}

static void test_size_counts_what_is_long(void **fixture)
{
	(void)fixture;
	struct message *small = decode(new_raw(), ALL_ITEMS);
	struct imap_message *raw = new_raw();
	raw->items |= IMAP_ITEM_ENVELOPE;
	char host[2001];
	memset(host, 'h', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	for (int i = 0; i < 50; i++) {
		add_address(raw, &raw->envelope.to, NULL, "a", host);
	}
	struct message *large = decode(raw, ALL_ITEMS);
	assert_true(message_size(large) >= message_size(small) + 50 * 2000);
	message_free(small);
	message_free(large);
	assert_null(message_free(NULL));
}

static int set_up(void **fixture)
{
	(void)fixture;
	mime_init();
	return 0;
}

static int tear_down(void **fixture)
{
	(void)fixture;
	mime_done();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_items),
		cmocka_unit_test(test_what_the_engine_is_asked),
		cmocka_unit_test(test_identity_alone),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_no_flags_is_not_unknown_flags),
		cmocka_unit_test(test_only_what_was_asked),
		cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_text_and_preview),
		cmocka_unit_test(test_preview_of_the_server),
		cmocka_unit_test(test_no_preview),
		cmocka_unit_test(test_attachments),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_size_counts_what_is_long),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
