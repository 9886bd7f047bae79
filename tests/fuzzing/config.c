/* Whatever a configuration file holds: it is read, or refused with words that name a line of it,
 * the same each time. An input is the file.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "tests/fuzzing/check.h"
#include "util/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A file without a place in any folder. */
static int make_file(const uint8_t *data, size_t len)
{
	const int fd = memfd_create("mailidle.conf", MFD_CLOEXEC);

	require(fd >= 0 && fchmod(fd, 0600) == 0, "no file");
	require(write(fd, data, len) == (ssize_t)len, "no room");
	return fd;
}

static size_t count_lines(const uint8_t *data, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++) {
		n += data[i] == '\n';
	}
	return n;
}

/* Each is "PATH:LINE: what", or "PATH: what". */
static void check_problems(char *text, const char *path, size_t n_lines)
{
	char *rest = text, *line;

	require(text[0] != '\0' && text[strlen(text) - 1] == '\n', "refused without words");
	while ((line = strsep(&rest, "\n")) && line[0] != '\0') {
		require_clean(line, false);
		require(strncmp(line, path, strlen(path)) == 0, "of another file: %s", line);
		line += strlen(path);
		require(line[0] == ':', "without a place: %s", line);
		require(line[1] == ' ' ||
				(strtoul(line + 1, NULL, 10) > 0 &&
					strtoul(line + 1, NULL, 10) <= n_lines),
			"no such line: %s", line);
	}
}

static void check_text(const char *text)
{
	require(!text || text[0] != '\0', "an empty option");
	require(!text || text_is_utf8(span_of(text)), "an option that is no text");
}

static void check_account(const struct config_account *account)
{
	const char *const paths[] = {account->ca_file, account->client_certificate,
		account->client_key, account->password_file};

	require(account->name && account->name[0] != '\0', "an account without a name");
	require(account->host && account->port > 0, "an account without a server");
	require(account->n_mailboxes > 0, "an account without mailboxes");
	require(account->max_connections >= 1 && account->max_connections <= 64, "connections");
	require(account->idle_timeout_usec >= USEC_PER_MINUTE &&
			account->idle_timeout_usec <= 29 * USEC_PER_MINUTE,
		"the time of IDLE");
	require(account->poll_interval_usec >= 10 * USEC_PER_SEC &&
			account->poll_interval_usec <= 24 * 60 * USEC_PER_MINUTE,
		"the time of polls");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		require(!paths[i] || paths[i][0] == '/', "a path from nowhere: %s", paths[i]);
	}
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		check_text(account->mailboxes[i]);
	}
	check_text(account->host);
	check_text(account->user);
	require(config_account_equal(account, account), "not like itself");
	config_account_needs_secret(account);
	free(config_credential_path(account));
}

/* What was said against it; NULL: it was taken. */
static char *read_once(const char *path)
{
	struct config *config = NULL;
	struct bytes problems;
	char *text;
	int error;

	bytes_init(&problems);
	error = config_load(path, false, &config, &problems);
	text = bytes_steal(&problems);
	bytes_done(&problems);
	if (error < 0) {
		require(error == -EINVAL && !config && text, "refused otherwise: %d", error);
		return text;
	}
	require(config && (!text || text[0] == '\0'), "taken and refused");
	free(text);
	for (size_t i = 0; i < config->n_accounts; i++) {
		check_account(config->accounts[i]);
		require(config_account(config, config->accounts[i]->name) == config->accounts[i],
			"two accounts of one name");
	}
	config_free(config);
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const int fd = make_file(data, len);
	char path[32];
	char *problems, *again;

	setenv("HOME", "/home/jo", 1);
	unsetenv("CREDENTIALS_DIRECTORY");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	problems = read_once(path);
	again = read_once(path);
	require(!problems == !again && (!problems || strcmp(problems, again) == 0),
		"told otherwise the second time");
	if (problems) {
		check_problems(problems, path, count_lines(data, len));
	}
	free(problems);
	free(again);
	close(fd);
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
