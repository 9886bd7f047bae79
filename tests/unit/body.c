/* What is put on the bus: strings that the bus would refuse, sizes as they are marshalled, limits;
 * and a message as its dictionary, read back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dbus/body.h"
#include "dbus/dictionary.h"
#include "dbus/error.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

/* A connection that nobody answers: messages can be made and sealed for it. */
struct fixture {
	sd_bus *bus;
	int peer;
	sd_bus_message *message;
	struct body body;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	assert_non_null(fixture);
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fixture->peer = fds[1];
	assert_return_code(sd_bus_new(&fixture->bus), 0);
	assert_return_code(sd_bus_set_fd(fixture->bus, fds[0], fds[0]), 0);
	assert_return_code(sd_bus_start(fixture->bus), 0);
	assert_return_code(sd_bus_message_new_signal(fixture->bus, &fixture->message,
				   "/org/example/MailIdle", "org.example.MailIdle", "NewMail"),
		0);
	body_init(&fixture->body, fixture->message, BODY_SIZE_HIGHEST);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	sd_bus_message_unref(fixture->message);
	sd_bus_close_unref(fixture->bus);
	close(fixture->peer);
	free(fixture);
	return 0;
}

static void seal(struct fixture *fixture)
{
	assert_int_equal(fixture->body.error, 0);
	assert_return_code(sd_bus_message_seal(fixture->message, 1, 0), 0);
}

static void test_strings(void **state)
{
	static const struct {
		const char *put;
		const char *read;
	} cases[] = {
		{"", ""},
		{NULL, ""},
		{"Entw\u00fcrfe", "Entw\u00fcrfe"},
		/* Invalid: a lone octet, an overlong form, a surrogate, beyond U+10FFFF. */
		{"a\377b", "a\ufffdb"},
		{"\xc0\xaf", "\ufffd\ufffd"},
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		/* Noncharacters, which are valid UTF-8 and refused by sd-bus. */
		{"a\ufffeb", "ab"},
		{"a\ufdd0b", "ab"},
		{"a\U0010ffffb", "ab"},
		/* A name keeps what cleaning would take away, as long as the bus takes it. */
		{"a\u200fb", "a\u200fb"},
	};
	struct fixture *fixture = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		body_put_string(&fixture->body, cases[i].put);
	}
	seal(fixture);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *read;
		assert_int_equal(sd_bus_message_read_basic(fixture->message, 's', &read), 1);
		assert_string_equal(read, cases[i].read);
	}
}

/* Counted by hand from the specification's section on marshalling. */
static void test_sizes(void **state)
{
	struct fixture *fixture = *state;
	struct body *body = &fixture->body;
	body_put_u16(body, 1);
	assert_int_equal(body->size, 2);
	body_put_bool(body, true);
	assert_int_equal(body->size, 8);
	body_put_string(body, "abc"); /* length, text, NUL */
	assert_int_equal(body->size, 16);
	body_put_u32(body, 1);
	assert_int_equal(body->size, 20);
	body_put_u64(body, 1); /* behind 4 of padding */
	assert_int_equal(body->size, 32);
	/* The length, and padding to the first struct though there is none. */
	body_open_array(body, "(ss)");
	body_close(body);
	assert_int_equal(body->size, 40);
	body_put_strings(body, (const char *const[]){"a", NULL});
	assert_int_equal(body->size, 50);
	body_open_array(body, "{sv}");
	body_open_entry(body, "Uid", "u"); /* 56: key 8, signature 3, padding 1, value 4 */
	body_put_u32(body, 7);
	body_close_entry(body);
	body_close(body);
	assert_int_equal(body->size, 72);
	seal(fixture);
	assert_string_equal(
		sd_bus_message_get_signature(fixture->message, true), "qbsuta(ss)asa{sv}");
}

static void test_limit(void **state)
{
	static const struct {
		size_t size_highest;
		int error;
	} cases[] = {{9, 0}, {8, -EMSGSIZE}, {4, -EMSGSIZE}, {0, -EMSGSIZE}};
	struct fixture *fixture = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct body body;
		body_init(&body, fixture->message, cases[i].size_highest);
		body_put_string(&body, "abcd");
		assert_int_equal(body.error, cases[i].error);
		assert_true(body.size <= cases[i].size_highest);
		/* It stays. */
		body_put_u16(&body, 1);
		body_close(&body);
		assert_int_equal(body.error, cases[i].error == 0 ? -EMSGSIZE : cases[i].error);
	}
}

static void test_first_error_stays(void **state)
{
	struct fixture *fixture = *state;
	body_put_fd(&fixture->body, -1);
	int error = fixture->body.error;
	assert_true(error < 0);
	size_t size = fixture->body.size;
	body_put_string(&fixture->body, "more");
	body_open_array(&fixture->body, "s");
	body_close(&fixture->body);
	assert_int_equal(fixture->body.error, error);
	assert_int_equal(fixture->body.size, size);
}

static void expect_entry(sd_bus_message *message, const char *key, const char *contents)
{
	const char *read;
	assert_int_equal(sd_bus_message_enter_container(message, 'e', "sv"), 1);
	assert_int_equal(sd_bus_message_read_basic(message, 's', &read), 1);
	assert_string_equal(read, key);
	assert_int_equal(sd_bus_message_enter_container(message, 'v', contents), 1);
}

static void leave_entry(sd_bus_message *message)
{
	assert_int_equal(sd_bus_message_exit_container(message), 1);
	assert_int_equal(sd_bus_message_exit_container(message), 1);
}

/* What the message lacks is left out, and what a sender wrote into it costs nothing. */
static void test_dictionary(void **state)
{
	struct fixture *fixture = *state;
	char seen[] = "\\Seen";
	char hostile[] = "\xff\xfe";
	char name[] = "N";
	char address[] = "n@example.org";
	struct message_address from = {name, address};
	struct message message = {
		.uid = 4294967295,
		.uidvalidity = 1,
		.flags = (char *[]){seen, NULL},
		.subject = hostile,
		.from = {.list = &from, .n = 1, .is_present = true},
		.has_date = true,
		.date = -1,
		.has_size = true,
		.size = UINT64_MAX,
	};
	dictionary_put(&fixture->body, &message);
	seal(fixture);
	sd_bus_message *m = fixture->message;
	uint32_t u;
	int64_t x;
	uint64_t t;
	const char *s;
	const char *other;
	assert_int_equal(sd_bus_message_enter_container(m, 'a', "{sv}"), 1);
	expect_entry(m, "Uid", "u");
	assert_int_equal(sd_bus_message_read(m, "u", &u), 1);
	assert_int_equal(u, 4294967295);
	leave_entry(m);
	expect_entry(m, "UidValidity", "u");
	assert_int_equal(sd_bus_message_read(m, "u", &u), 1);
	assert_int_equal(u, 1);
	leave_entry(m);
	expect_entry(m, "Flags", "as");
	assert_int_equal(sd_bus_message_read(m, "as", 1, &s), 1);
	assert_string_equal(s, "\\Seen");
	leave_entry(m);
	expect_entry(m, "Subject", "s");
	assert_int_equal(sd_bus_message_read(m, "s", &s), 1);
	assert_string_equal(s, "\ufffd\ufffd");
	leave_entry(m);
	expect_entry(m, "From", "a(ss)");
	assert_int_equal(sd_bus_message_read(m, "a(ss)", 1, &s, &other), 1);
	assert_string_equal(s, "N");
	assert_string_equal(other, "n@example.org");
	leave_entry(m);
	expect_entry(m, "Date", "x");
	assert_int_equal(sd_bus_message_read(m, "x", &x), 1);
	assert_true(x == -1);
	leave_entry(m);
	expect_entry(m, "Size", "t");
	assert_int_equal(sd_bus_message_read(m, "t", &t), 1);
	assert_true(t == UINT64_MAX);
	leave_entry(m);
	assert_int_equal(sd_bus_message_at_end(m, false), 1);
}

static void test_error_names(void **state)
{
	(void)state;
	char name[ERROR_NAME_SIZE];
	error_name(FAILURE_NONE, name);
	assert_string_equal(name, "");
	error_name(FAILURE_INVALID_ARGUMENT, name);
	assert_string_equal(name, "org.freedesktop.DBus.Error.InvalidArgs");
	for (enum failure_kind kind = FAILURE_NO_SUCH_ACCOUNT; kind < FAILURE_INVALID_ARGUMENT;
		kind++) {
		error_name(kind, name);
		assert_memory_equal(name, "org.example.MailIdle.Error.", 27);
		assert_string_equal(name + 27, failure_name(kind));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_strings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sizes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_first_error_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dictionary, set_up, tear_down),
		cmocka_unit_test(test_error_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
