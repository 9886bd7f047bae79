/* The log: one fact a line. To stderr as plain lines, or with fields where stderr is the journal
 * (sd_journal_send(3); JOURNAL_STREAM in systemd.exec(5)). Control characters and invalid UTF-8 in
 * what is logged become '?'. Secrets never come here: nothing that held one is an argument.
 */
#pragma once

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

void log_set_level(enum log_level level);

/* Opens the journal if stderr is connected to it. To be called once, before the first line. */
void log_open(void);

bool log_wants(enum log_level level);

/* account and mailbox may be NULL; as plain text the line reads
 * "account=work mailbox=INBOX state=idle", in the journal they are MAILIDLE_ACCOUNT and _MAILBOX.
 */
void log_line(enum log_level level, const char *account, const char *mailbox, const char *format,
	...) __attribute__((format(printf, 4, 5)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) \
	do { \
		if (log_wants(LOG_LEVEL_DEBUG)) { \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
		} \
	} while (0)
