#define SD_JOURNAL_SUPPRESS_LOCATION

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "util/log.h"
#include "util/text.h"

/* A line on the stack, so that running out of memory can be logged; of a length that write(2) to a
 * pipe keeps in one piece. What does not fit is cut between characters. */
struct line {
	size_t len;
	char text[PIPE_BUF];
};

static enum log_level highest_level = LOG_LEVEL_INFO;
static bool is_journal;

void log_set_level(enum log_level level)
{
	highest_level = level;
}

bool log_wants(enum log_level level)
{
	return level <= highest_level;
}

/* JOURNAL_STREAM is inherited by processes whose stderr was redirected since: what it names has to
 * be what stderr is. */
void log_open(void)
{
	is_journal = false;
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat stat;
	if (!stream || fstat(STDERR_FILENO, &stat) < 0) {
		return;
	}
	char expected[2 * sizeof("18446744073709551615")];
	snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t)stat.st_dev,
		(uintmax_t)stat.st_ino);
	is_journal = strcmp(stream, expected) == 0;
}

/* One octet stays free for the end of the line. */
static bool put(struct line *line, const char *text, size_t len)
{
	if (len >= sizeof(line->text) - line->len) {
		return false;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
	return true;
}

static bool put_str(struct line *line, const char *str)
{
	return put(line, str, strlen(str));
}

static bool put_clean_char(struct line *line, uint32_t c)
{
	if (c == TEXT_INVALID || text_is_control(c) || text_is_deceptive(c)) {
		return put(line, "?", 1);
	}
	char encoded[4];
	return put(line, encoded, text_encode(c, encoded));
}

static void put_clean(struct line *line, const char *str)
{
	struct span rest = span_of(str);
	while (rest.len > 0 && put_clean_char(line, text_next(&rest))) {
	}
}

static void put_quoted(struct line *line, const char *str)
{
	put_str(line, "\"");
	struct span rest = span_of(str);
	while (rest.len > 0) {
		uint32_t c = text_next(&rest);
		if ((c == '"' || c == '\\') && !put_str(line, "\\")) {
			break;
		}
		if (!put_clean_char(line, c)) {
			break;
		}
	}
	put_str(line, "\"");
}

static void put_value(struct line *line, const char *name, const char *value)
{
	if (!value) {
		return;
	}
	put_str(line, name);
	if (value[0] == '\0' || strpbrk(value, " \"\\=")) {
		put_quoted(line, value);
	} else {
		put_clean(line, value);
	}
	put_str(line, " ");
}

static const char *level_prefix(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error: ";
	case LOG_LEVEL_WARNING:
		return "warning: ";
	case LOG_LEVEL_INFO:
	case LOG_LEVEL_DEBUG:
		break;
	}
	return "";
}

/* syslog(3): LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG. */
static const char *level_priority(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "PRIORITY=3";
	case LOG_LEVEL_WARNING:
		return "PRIORITY=4";
	case LOG_LEVEL_INFO:
		return "PRIORITY=6";
	case LOG_LEVEL_DEBUG:
		break;
	}
	return "PRIORITY=7";
}

static void put_field(struct line *line, const char *name, const char *value)
{
	line->len = 0;
	put_str(line, name);
	put_clean(line, value);
}

/* The message keeps the account, too: journalctl(1) shows only the message. */
static bool send_to_journal(
	enum log_level level, const char *account, const char *mailbox, const char *message)
{
	struct line lines[3];
	struct iovec fields[4];
	int n_fields = 0;
	const char *priority = level_priority(level);
	fields[n_fields++] = (struct iovec){(void *)(uintptr_t)priority, strlen(priority)};

	struct line *line = &lines[0];
	line->len = 0;
	put_str(line, "MESSAGE=");
	put_value(line, "account=", account);
	put_value(line, "mailbox=", mailbox);
	put_clean(line, message);
	fields[n_fields++] = (struct iovec){line->text, line->len};
	if (account) {
		line = &lines[1];
		put_field(line, "MAILIDLE_ACCOUNT=", account);
		fields[n_fields++] = (struct iovec){line->text, line->len};
	}
	if (mailbox) {
		line = &lines[2];
		put_field(line, "MAILIDLE_MAILBOX=", mailbox);
		fields[n_fields++] = (struct iovec){line->text, line->len};
	}
	return sd_journal_sendv(fields, n_fields) >= 0;
}

static void write_line(
	enum log_level level, const char *account, const char *mailbox, const char *message)
{
	struct line line = {.len = 0};
	put_str(&line, level_prefix(level));
	put_value(&line, "account=", account);
	put_value(&line, "mailbox=", mailbox);
	put_clean(&line, message);
	line.text[line.len++] = '\n';
	while (write(STDERR_FILENO, line.text, line.len) < 0 && errno == EINTR) {
	}
}

void log_line(
	enum log_level level, const char *account, const char *mailbox, const char *format, ...)
{
	if (!log_wants(level)) {
		return;
	}
	int saved_errno = errno;
	/* Longer than a line, so that the cut in the middle of a character is not seen. */
	char message[PIPE_BUF + 4] = "";
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	/* Standard error leads to the journal as well, only without fields. */
	if (!is_journal || !send_to_journal(level, account, mailbox, message)) {
		write_line(level, account, mailbox, message);
	}
	errno = saved_errno;
}
