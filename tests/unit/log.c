#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/log.h"
#include "util/text.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static int journal_result;
static char journal_entry[8192]; /* the fields of the last entry, each ended by a line feed */

int __wrap_sd_journal_sendv(const struct iovec *fields, int n_fields);

int __wrap_sd_journal_sendv(const struct iovec *fields, int n_fields)
{
	size_t len = 0;
	for (int i = 0; i < n_fields; i++) {
		assert_true(fields[i].iov_len + 2 <= sizeof(journal_entry) - len);
		memcpy(journal_entry + len, fields[i].iov_base, fields[i].iov_len);
		len += fields[i].iov_len;
		journal_entry[len++] = '\n';
	}
	journal_entry[len] = '\0';
	return journal_result;
}

/* Standard error, while it is caught in a pipe. */
static int saved_stderr;
static int reader;

static int catch_stderr(void **state)
{
	(void)state;
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -1;
	}
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	reader = fds[0];
	journal_entry[0] = '\0';
	journal_result = 0;
	unsetenv("JOURNAL_STREAM");
	log_open();
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static int release_stderr(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(reader);
	return 0;
}

static const char *caught(void)
{
	static char text[3 * PIPE_BUF];
	ssize_t len = read(reader, text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	return text;
}

static void test_lines(void **state)
{
	(void)state;
	log_info("work", "INBOX", "state=%s", "idle");
	assert_string_equal(caught(), "account=work mailbox=INBOX state=idle\n");
	log_warning("work", NULL, "state=%s", "waiting");
	assert_string_equal(caught(), "warning: account=work state=waiting\n");
	log_error(NULL, NULL, "no bus");
	assert_string_equal(caught(), "error: no bus\n");
}

static void test_quotes(void **state)
{
	(void)state;
	log_info("work", "Sent Items", "x");
	assert_string_equal(caught(), "account=work mailbox=\"Sent Items\" x\n");
	log_info("", "a\"b\\c", "x");
	assert_string_equal(caught(), "account=\"\" mailbox=\"a\\\"b\\\\c\" x\n");
	/* A mailbox cannot pass for a field. */
	log_info("work", "a=b", "x");
	assert_string_equal(caught(), "account=work mailbox=\"a=b\" x\n");
}

static void test_clean(void **state)
{
	(void)state;
	log_info("w\nrk", "Entw\u00fcrfe\xff", "a\nb\x1b[1m\xc2\x85\u202e\xc3%s", "\r\n");
	assert_string_equal(caught(), "account=w?rk mailbox=Entw\u00fcrfe? a?b?[1m?????\n");
}

static void test_long(void **state)
{
	(void)state;
	char message[3 * PIPE_BUF] = "";
	for (size_t n_before = 0; n_before < 3; n_before++) {
		memset(message, '-', n_before);
		for (size_t i = n_before; i + 3 < sizeof(message); i += 3) {
			memcpy(message + i, "\u20ac", 4);
		}
		log_info(NULL, NULL, "%s", message);
		const char *line = caught();
		size_t len = strlen(line);
		assert_in_range(len, PIPE_BUF - 3, PIPE_BUF);
		assert_memory_equal(line, message, len - 1);
		assert_int_equal(line[len - 1], '\n');
		assert_true(text_is_utf8(span_of(line)));
	}
	log_info(message, message, "x");
	const char *line = caught();
	assert_in_range(strlen(line), PIPE_BUF - 3, PIPE_BUF);
	assert_true(text_is_utf8(span_of(line)));
}

static void test_levels(void **state)
{
	(void)state;
	int n_evaluated = 0;
	log_debug(NULL, NULL, "%d", ++n_evaluated);
	assert_int_equal(n_evaluated, 0);
	assert_string_equal(caught(), "");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug(NULL, NULL, "%d", ++n_evaluated);
	assert_string_equal(caught(), "1\n");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning(NULL, NULL, "warned");
	assert_string_equal(caught(), "");
	assert_true(log_wants(LOG_LEVEL_ERROR));
	assert_false(log_wants(LOG_LEVEL_WARNING));
}

static void test_errno(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	errno = ENOENT;
	log_info(NULL, NULL, "lost");
	assert_int_equal(errno, ENOENT);
	/* release_stderr() opens it again. */
}

static void name_journal(bool is_ours)
{
	struct stat stat;
	assert_int_equal(fstat(STDERR_FILENO, &stat), 0);
	char stream[64];
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)stat.st_dev,
		(uintmax_t)stat.st_ino + (is_ours ? 0 : 1));
	setenv("JOURNAL_STREAM", stream, 1);
	log_open();
}

static void test_journal(void **state)
{
	(void)state;
	name_journal(true);
	log_warning("work", "Sent Items", "state=%s", "idle\n");
	assert_string_equal(caught(), "");
	assert_string_equal(journal_entry,
		"PRIORITY=4\n"
		"MESSAGE=account=work mailbox=\"Sent Items\" state=idle?\n"
		"MAILIDLE_ACCOUNT=work\n"
		"MAILIDLE_MAILBOX=Sent Items\n");
	log_info(NULL, NULL, "ready");
	assert_string_equal(journal_entry, "PRIORITY=6\nMESSAGE=ready\n");
	log_error("work", NULL, "failed");
	assert_string_equal(
		journal_entry, "PRIORITY=3\nMESSAGE=account=work failed\nMAILIDLE_ACCOUNT=work\n");
}

static void test_journal_fails(void **state)
{
	(void)state;
	name_journal(true);
	journal_result = -EAGAIN;
	log_info("work", NULL, "ready");
	assert_string_equal(caught(), "account=work ready\n");
}

static void test_journal_of_another(void **state)
{
	(void)state;
	name_journal(false);
	log_info(NULL, NULL, "ready");
	assert_string_equal(caught(), "ready\n");
	assert_string_equal(journal_entry, "");
	setenv("JOURNAL_STREAM", "", 1);
	log_open();
	log_info(NULL, NULL, "ready");
	assert_string_equal(caught(), "ready\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, catch_stderr, release_stderr)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_quotes),
		TEST(test_clean),
		TEST(test_long),
		TEST(test_levels),
		TEST(test_errno),
		TEST(test_journal),
		TEST(test_journal_fails),
		TEST(test_journal_of_another),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
