/* The accounts without any server: what callers may ask, how much of it, and what they are told. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "tests/unit/turning.h"
#include "util/log.h"

#define LEN_OF_NAME 1000

static struct turning turning;
static struct state *state;
static struct accounts *accounts;
static char folder[PATH_MAX];
static char file[PATH_MAX + 16];
static int silent = -1; /* listens, and never says a word */
static uint16_t port;

static void listen_silently(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(silent >= 0);
	for (port = 22000; port < 25000; port++) {
		address.sin_port = htons(port);
		if (bind(silent, (struct sockaddr *)&address, sizeof(address)) == 0) {
			break;
		}
	}
	assert_true(port < 25000);
	assert_int_equal(listen(silent, 64), 0);
}

static struct config *read_config(const char *sections)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	FILE *stream = fopen(file, "w");
	assert_non_null(stream);
	assert_true(fputs(sections, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
	int error = config_load(file, false, &config, &problems);
	if (error < 0) {
		print_error("%.*s", (int)bytes_len(&problems), bytes_span(&problems).data);
	}
	assert_int_equal(error, 0);
	bytes_done(&problems);
	return config;
}

static void configure_with(const char *mailboxes, const char *option)
{
	char section[2048];
	snprintf(section, sizeof(section),
		"account work {\n\thost = \"127.0.0.1\"\n\tport = %u\n\tsecurity = \"plain\"\n"
		"\tuser = \"jo\"\n\tpassword-command = 'echo secret'\n\tmailboxes = { %s }\n"
		"\t%s\n}\n",
		port, mailboxes, option);
	assert_int_equal(accounts_configure(accounts, read_config(section)), 0);
}

static void configure(const char *mailboxes)
{
	configure_with(mailboxes, "");
}

static int set_up(void **fixture)
{
	(void)fixture;
	const char *parent = getenv("TMPDIR");
	snprintf(folder, sizeof(folder), "%s/mailidle-account-XXXXXX", parent ? parent : P_tmpdir);
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof(file), "%s/conf", folder);
	log_set_level(LOG_LEVEL_ERROR);
	turning_init(&turning);
	listen_silently();
	assert_int_equal(state_open(folder, &state), 0);
	assert_int_equal(accounts_new(turning.turn, &turning.owner, state, -1, &accounts), 0);
	return 0;
}

static int tear_down(void **fixture)
{
	(void)fixture;
	accounts = accounts_free(accounts);
	state = state_close(state);
	turning_done(&turning);
	close(silent);
	static const char *const names[] = {
		"conf", "mailidle.db", "mailidle.db-wal", "mailidle.db-shm", "mailidle.lock"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[PATH_MAX + 32];
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

/* The reply to this call, which must be the next reply that there is; waits for it. */
static enum failure_kind reply_to(uint64_t id)
{
	assert_int_not_equal(id, 0);
	for (;;) {
		struct account_event *event = accounts_next_event(accounts);
		if (event && event->kind == ACCOUNT_EVENT_REPLY) {
			assert_int_equal(event->id, id);
			return event->failure.kind;
		}
		if (!event) {
			accounts_announced(accounts);
			ev_run(turning.loop, EVRUN_ONCE);
		}
	}
}

static bool has_reply(void)
{
	struct account_event *event;
	while ((event = accounts_next_event(accounts))) {
		if (event->kind == ACCOUNT_EVENT_REPLY) {
			return true;
		}
	}
	return false;
}

static uint64_t fetch(const char *caller, size_t n_uids)
{
	static uint32_t uids[1100];
	for (size_t i = 0; i < n_uids; i++) {
		uids[i] = (uint32_t)i + 1;
	}
	return accounts_fetch(accounts, caller, "work", "INBOX", uids, n_uids, NULL, 0);
}

static void test_what_is_configured_is_told(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\", \"Lists/dev\"");
	struct account_event *event = accounts_next_event(accounts);
	assert_int_equal(event->kind, ACCOUNT_EVENT_ADDED);
	assert_string_equal(account_name(event->account), "work");
	event = accounts_next_event(accounts);
	assert_int_equal(event->kind, ACCOUNT_EVENT_MAILBOX_ADDED);
	assert_string_equal(mailbox_name(event->mailbox), "INBOX");
	event = accounts_next_event(accounts);
	assert_int_equal(event->kind, ACCOUNT_EVENT_MAILBOX_ADDED);
	assert_string_equal(mailbox_name(event->mailbox), "Lists/dev");
	assert_int_equal(account_n_mailboxes(accounts_get(accounts, 0)), 2);

	configure("\"INBOX\"");
	bool is_removed = false;
	while ((event = accounts_next_event(accounts))) {
		is_removed = is_removed || event->kind == ACCOUNT_EVENT_MAILBOX_REMOVED;
		assert_int_not_equal(event->kind, ACCOUNT_EVENT_REMOVED);
	}
	assert_true(is_removed);
	assert_int_equal(account_n_mailboxes(accounts_get(accounts, 0)), 1);

	assert_int_equal(accounts_configure(accounts, read_config("")), 0);
	is_removed = false;
	while ((event = accounts_next_event(accounts))) {
		if (event->kind == ACCOUNT_EVENT_REMOVED) {
			is_removed = true;
			assert_string_equal(account_name(event->account), "work");
		}
	}
	assert_true(is_removed);
	assert_int_equal(accounts_count(accounts), 0);
}

static void test_names(void **fixture)
{
	(void)fixture;
	char long_name[LEN_OF_NAME + 2];
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	configure("\"INBOX\"");
	const struct {
		const char *account, *mailbox;
		enum failure_kind kind;
	} cases[] = {
		{"nobody", "INBOX", FAILURE_NO_SUCH_ACCOUNT},
		{"nobody", "", FAILURE_NO_SUCH_ACCOUNT},
		{"work", "Sent", FAILURE_NO_SUCH_MAILBOX},
		{"work", "inbox", FAILURE_NO_SUCH_MAILBOX},
		{"work", "IN\nBOX", FAILURE_INVALID_ARGUMENT},
		{"work", "IN\x7f", FAILURE_INVALID_ARGUMENT},
		{"work", "\xff", FAILURE_INVALID_ARGUMENT},
		{"work", long_name, FAILURE_INVALID_ARGUMENT},
		{"work", long_name + 1, FAILURE_NO_SUCH_MAILBOX},
		{"", "INBOX", FAILURE_INVALID_ARGUMENT},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *account = cases[i].account;
		const char *mailbox = cases[i].mailbox;
		assert_int_equal(reply_to(accounts_refresh(accounts, ":1", account, mailbox)),
			cases[i].kind);
		assert_int_equal(
			reply_to(accounts_stop(accounts, ":1", account, mailbox)), cases[i].kind);
		assert_int_equal(
			reply_to(accounts_start(accounts, ":1", account, mailbox)), cases[i].kind);
	}
	/* Where one mailbox is asked for an empty name is just another unknown one. */
	assert_int_equal(reply_to(accounts_fetch_raw(accounts, ":1", "work", "", 1)),
		FAILURE_NO_SUCH_MAILBOX);
	assert_int_equal(
		reply_to(accounts_list_mailboxes(accounts, ":1", "")), FAILURE_NO_SUCH_ACCOUNT);
}

static void test_arguments(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\"");
	static const uint32_t zero[] = {1, 0};
	static const uint32_t one[] = {1};
	static const char *const unknown[] = {"flags", "Envelope"};
	static const char *const seen[] = {"\\Seen"};
	static const char *const recent[] = {"\\Recent"};
	static const char *const injected[] = {"a) b"};
	assert_int_equal(reply_to(fetch(":1", 1001)), FAILURE_LIMIT_EXCEEDED);
	assert_int_equal(reply_to(fetch(":1", 0)), FAILURE_NONE);
	assert_int_equal(
		reply_to(accounts_fetch(accounts, ":1", "work", "INBOX", zero, 2, NULL, 0)),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(
		reply_to(accounts_fetch(accounts, ":1", "work", "INBOX", one, 1, unknown, 2)),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(reply_to(accounts_fetch_raw(accounts, ":1", "work", "INBOX", 0)),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(reply_to(accounts_list_since(accounts, ":1", "work", "INBOX", 1, 0, 1001)),
		FAILURE_LIMIT_EXCEEDED);
	assert_int_equal(reply_to(accounts_list_unread(accounts, ":1", "work", "INBOX", 1001)),
		FAILURE_LIMIT_EXCEEDED);
	assert_int_equal(reply_to(accounts_set_flags(
				 accounts, ":1", "work", "INBOX", one, 1, recent, 1, NULL, 0)),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(reply_to(accounts_set_flags(
				 accounts, ":1", "work", "INBOX", one, 1, seen, 1, injected, 1)),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(reply_to(accounts_move(accounts, ":1", "work", "INBOX", one, 1, "a\r\nb")),
		FAILURE_INVALID_ARGUMENT);
	assert_int_equal(reply_to(accounts_move(accounts, ":1", "work", "INBOX", one, 1, "")),
		FAILURE_INVALID_ARGUMENT);
}

static void test_a_caller_has_eight(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\"");
	for (int i = 0; i < 8; i++) {
		assert_int_not_equal(fetch(":1", 1), 0);
	}
	assert_false(has_reply());
	assert_int_equal(reply_to(fetch(":1", 1)), FAILURE_LIMIT_EXCEEDED);
	assert_int_equal(
		reply_to(accounts_refresh(accounts, ":1", "", "")), FAILURE_LIMIT_EXCEEDED);
	assert_int_not_equal(fetch(":2", 1), 0);
	assert_false(has_reply());

	/* Who leaves takes them along, and gets no replies. */
	accounts_caller_gone(accounts, ":1");
	assert_false(has_reply());
	assert_int_not_equal(fetch(":1", 1), 0);
	assert_false(has_reply());
}

static void test_an_account_has_64(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\", \"Sent\"");
	char caller[16];
	for (int i = 0; i < 62; i++) {
		snprintf(caller, sizeof(caller), ":%d", i);
		assert_int_not_equal(fetch(caller, 1), 0);
	}
	/* Refreshes of one mailbox are one, however many there are. */
	for (int i = 0; i < 40; i++) {
		snprintf(caller, sizeof(caller), ":%d", i);
		accounts_refresh(accounts, caller, "work", "INBOX");
	}
	assert_false(has_reply());
	assert_int_not_equal(fetch(":a", 1), 0);
	assert_false(has_reply());
	assert_int_equal(reply_to(fetch(":b", 1)), FAILURE_LIMIT_EXCEEDED);
	assert_int_equal(
		reply_to(accounts_refresh(accounts, ":b", "work", "Sent")), FAILURE_LIMIT_EXCEEDED);
	accounts_refresh(accounts, ":b", "work", "INBOX");
	assert_false(has_reply());
}

/* However many mailboxes there are: all of them are one request. */
static void test_a_refresh_of_many(void **fixture)
{
	(void)fixture;
	char mailboxes[1024] = "\"INBOX\"";
	for (int i = 0; i < 80; i++) {
		char name[16];
		snprintf(name, sizeof(name), ", \"L%d\"", i);
		strcat(mailboxes, name);
	}
	configure(mailboxes);
	uint64_t all = accounts_refresh(accounts, ":1", "work", "");
	assert_false(has_reply());
	assert_int_not_equal(accounts_refresh(accounts, ":2", "", ""), 0);
	assert_false(has_reply());
	for (int i = 0; i < 62; i++) {
		char caller[16];
		snprintf(caller, sizeof(caller), ":f%d", i);
		assert_int_not_equal(fetch(caller, 1), 0);
	}
	assert_false(has_reply());
	assert_int_equal(
		reply_to(accounts_refresh(accounts, ":3", "", "")), FAILURE_LIMIT_EXCEEDED);
	accounts_caller_gone(accounts, ":1");
	accounts_caller_gone(accounts, ":2");
	assert_int_not_equal(all, 0);
	accounts_refresh(accounts, ":3", "", "");
	assert_false(has_reply());
}

static void test_stop_and_start(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\", \"Sent\"");
	uint64_t waiting = fetch(":1", 1);
	uint64_t stopping = accounts_stop(accounts, ":2", "work", "INBOX");
	assert_int_equal(reply_to(waiting), FAILURE_CANCELLED);
	assert_int_equal(reply_to(stopping), FAILURE_NONE);
	struct account *account = accounts_get(accounts, 0);
	assert_int_equal(mailbox_state(account_mailbox(account, 0)), ACCOUNT_STATE_STOPPED);
	assert_int_equal(reply_to(fetch(":1", 1)), FAILURE_STOPPED);
	assert_int_equal(
		reply_to(accounts_refresh(accounts, ":1", "work", "INBOX")), FAILURE_STOPPED);

	/* Of several the stopped ones are left out; here nothing else is. */
	assert_int_equal(reply_to(accounts_stop(accounts, ":1", "", "")), FAILURE_NONE);
	assert_int_equal(reply_to(accounts_refresh(accounts, ":1", "", "")), FAILURE_NONE);
	assert_int_equal(account_state(account), ACCOUNT_STATE_STOPPED);

	/* It stays so for another process. */
	accounts_free(accounts);
	assert_int_equal(accounts_new(turning.turn, &turning.owner, state, -1, &accounts), 0);
	configure("\"INBOX\", \"Sent\"");
	account = accounts_get(accounts, 0);
	assert_int_equal(mailbox_state(account_mailbox(account, 0)), ACCOUNT_STATE_STOPPED);
	assert_int_equal(reply_to(accounts_start(accounts, ":1", "work", "")), FAILURE_NONE);
	ev_run(turning.loop, EVRUN_NOWAIT);
	assert_int_equal(mailbox_state(account_mailbox(account, 0)), ACCOUNT_STATE_CONNECTING);
}

/* Who waits for an attempt learns why it failed, and does not wait for the time to be over. */
static void test_an_attempt_that_fails_answers(void **fixture)
{
	(void)fixture;
	close(silent);
	silent = -1;
	configure("\"INBOX\", \"Sent\"");
	uint64_t one = accounts_refresh(accounts, ":1", "work", "Sent");
	assert_int_equal(reply_to(one), FAILURE_OFFLINE);
	const struct account *account = accounts_get(accounts, 0);
	assert_int_equal(account_state(account), ACCOUNT_STATE_WAITING);
	assert_true(account_next_try_usec(account) > 0);
	/* The second connection has not even tried: it waits as the first one does. */
	const struct mailbox *sent = account_mailbox(account, 1);
	assert_int_equal(mailbox_state(sent), ACCOUNT_STATE_WAITING);
	assert_int_equal(mailbox_failure(sent)->kind, FAILURE_OFFLINE);
	assert_true(mailbox_next_try_usec(sent) == account_next_try_usec(account));
	assert_false(accounts_is_online(accounts));
}

/* An account with other options is another one, of which the same is wanted. */
static void test_a_new_configuration_keeps_what_waits(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\", \"Sent\"");
	uint64_t waiting = fetch(":1", 1);
	uint64_t lost = accounts_refresh(accounts, ":1", "work", "Sent");
	uint64_t listing = accounts_list_mailboxes(accounts, ":1", "work");
	configure_with("\"INBOX\"", "preview = true");
	assert_int_equal(reply_to(lost), FAILURE_CANCELLED);
	for (int i = 0; i < 20; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
		assert_false(has_reply());
	}
	close(silent);
	silent = -1;
	assert_int_equal(reply_to(waiting), FAILURE_OFFLINE);
	assert_int_equal(reply_to(listing), FAILURE_OFFLINE);

	waiting = fetch(":1", 1);
	assert_int_equal(accounts_configure(accounts, read_config("")), 0);
	assert_int_equal(reply_to(waiting), FAILURE_NO_SUCH_ACCOUNT);
}

static void turn_for_a_while(void)
{
	for (int i = 0; i < 20; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
		assert_false(has_reply());
	}
}

/* The server says nothing, not even good-bye. */
static void test_the_machine_sleeps(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\", \"Sent\"");
	const struct account *account = accounts_get(accounts, 0);
	uint64_t waiting = fetch(":1", 1);
	for (uint64_t until = clock_now_usec() + 200 * USEC_PER_MSEC; clock_now_usec() < until;) {
		ev_run(turning.loop, EVRUN_NOWAIT);
	}
	uint64_t began = clock_now_usec();
	accounts_sleep(accounts);
	assert_int_equal(reply_to(waiting), FAILURE_OFFLINE);
	while (!accounts_is_quiet(accounts)) {
		ev_run(turning.loop, EVRUN_ONCE);
	}
	assert_true(clock_now_usec() - began < USEC_PER_SEC);
	turn_for_a_while();
	for (size_t i = 0; i < account_n_mailboxes(account); i++) {
		const struct mailbox *mailbox = account_mailbox(account, i);
		assert_int_equal(mailbox_state(mailbox), ACCOUNT_STATE_OFFLINE);
		assert_int_equal(mailbox_failure(mailbox)->kind, FAILURE_OFFLINE);
		assert_true(mailbox_next_try_usec(mailbox) == 0);
	}
	assert_int_equal(account_state(account), ACCOUNT_STATE_OFFLINE);

	/* Nothing that is wanted, or told of the network, makes it dial. */
	assert_int_equal(reply_to(fetch(":1", 1)), FAILURE_OFFLINE);
	assert_int_equal(reply_to(accounts_refresh(accounts, ":1", "", "")), FAILURE_OFFLINE);
	assert_int_equal(reply_to(accounts_stop(accounts, ":1", "work", "Sent")), FAILURE_NONE);
	assert_int_equal(mailbox_state(account_mailbox(account, 1)), ACCOUNT_STATE_STOPPED);
	assert_int_equal(reply_to(accounts_start(accounts, ":1", "work", "")), FAILURE_NONE);
	accounts_network_changed(accounts, NETWORK_NEWS_MORE, true);
	accounts_sleep(accounts);
	configure("\"INBOX\", \"Sent\", \"Drafts\"");
	turn_for_a_while();
	assert_true(accounts_is_quiet(accounts));
	assert_int_equal(account_n_mailboxes(account), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(mailbox_state(account_mailbox(account, i)), ACCOUNT_STATE_OFFLINE);
	}

	accounts_wake(accounts);
	turn_for_a_while();
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(
			mailbox_state(account_mailbox(account, i)), ACCOUNT_STATE_CONNECTING);
	}
	assert_false(accounts_is_quiet(accounts));
	/* One that nobody announced. */
	accounts_wake(accounts);
	turn_for_a_while();
	assert_int_equal(account_state(account), ACCOUNT_STATE_CONNECTING);
}

/* What waits for its turn is not forgotten over it, and does not begin meanwhile. */
static void test_what_waits_sleeps_too(void **fixture)
{
	(void)fixture;
	close(silent);
	silent = -1;
	configure("\"INBOX\"");
	const struct account *account = accounts_get(accounts, 0);
	assert_int_equal(
		reply_to(accounts_refresh(accounts, ":1", "work", "INBOX")), FAILURE_OFFLINE);
	assert_int_equal(account_state(account), ACCOUNT_STATE_WAITING);
	accounts_sleep(accounts);
	assert_true(accounts_is_quiet(accounts));
	/* Longer than the first wait can be. */
	for (uint64_t until = clock_now_usec() + 1200 * USEC_PER_MSEC; clock_now_usec() < until;) {
		ev_run(turning.loop, EVRUN_ONCE);
		assert_int_equal(account_state(account), ACCOUNT_STATE_OFFLINE);
		usleep(20000);
		task_wake(&turning.owner);
	}
	accounts_wake(accounts);
	bool has_tried = false;
	while (!has_tried) {
		ev_run(turning.loop, EVRUN_ONCE);
		has_tried = account_state(account) == ACCOUNT_STATE_CONNECTING;
	}
}

static void test_the_end(void **fixture)
{
	(void)fixture;
	configure("\"INBOX\"");
	uint64_t waiting = fetch(":1", 1);
	for (int i = 0; i < 20; i++) {
		ev_run(turning.loop, EVRUN_NOWAIT);
	}
	accounts_shutdown(accounts);
	assert_int_equal(reply_to(waiting), FAILURE_CANCELLED);
	/* Nobody will be there to serve it. */
	assert_int_equal(reply_to(fetch(":1", 1)), FAILURE_CANCELLED);
	assert_int_equal(
		reply_to(accounts_stop(accounts, ":1", "work", "INBOX")), FAILURE_CANCELLED);
	assert_int_equal(
		reply_to(accounts_list_mailboxes(accounts, ":1", "work")), FAILURE_CANCELLED);
	uint64_t began = clock_now_usec();
	while (!accounts_is_quiet(accounts)) {
		ev_run(turning.loop, EVRUN_ONCE);
	}
	assert_true(clock_now_usec() - began < 1900 * USEC_PER_MSEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_configured_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_arguments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_caller_has_eight, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_account_has_64, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_refresh_of_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop_and_start, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_an_attempt_that_fails_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_new_configuration_keeps_what_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_machine_sleeps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_waits_sleeps_too, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_end, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
