#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imap/sasl.h"
#include "secret.h"
#include "secret_command.h"
#include "secret_memory.h"
#include "util/clock.h"

/* pinentry waits for a person. */
#define TIMEOUT_USEC (60 * USEC_PER_SEC)

struct secret {
	struct secret_memory memory;
	struct secret_command *command; /* NULL: it comes from a file */
	enum secret_state state;        /* without a command */
	struct failure failure;
};

static bool has_option(const struct config_account *account)
{
	return account->password_command || account->password_file || account->token_command;
}

bool secret_is_wanted(const struct config_account *account)
{
	if (has_option(account) || config_account_needs_secret(account)) {
		return true;
	}
	/* One that is there all the same was put there to be used. */
	char *credential = config_credential_path(account);
	bool has_credential = credential != NULL;
	free(credential);
	return has_credential && strcmp(account->auth, "EXTERNAL") != 0;
}

bool secret_is_token(const struct config_account *account)
{
	return account->token_command ||
		(imap_sasl_canonical(account->auth) &&
			imap_sasl_is_usable(account->auth, IMAP_SECRET_TOKEN));
}

static void refuse(struct secret *secret, const char *option, const char *reason)
{
	secret->state = SECRET_FAILED;
	failure_set(&secret->failure, FAILURE_AUTHENTICATION_FAILED, "%s: %s", option, reason);
}

/* NULL: the file is as it should be. Credentials lie in a folder that systemd guards, where group
 * bits are those of an ACL. */
static const char *complaint(int fd, bool is_guarded)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return "cannot be read";
	}
	if (!S_ISREG(st.st_mode)) {
		return "not a regular file";
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		return "belongs to another user";
	}
	if (!is_guarded && (st.st_mode & 077)) {
		return "group or others have rights to it (chmod 0600 takes them away)";
	}
	return NULL;
}

/* Links are followed: what they lead to is looked at. */
static void read_file(struct secret *secret, const char *option, const char *path, bool is_guarded)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		refuse(secret, option, strerror(errno));
		return;
	}
	const char *reason = complaint(fd, is_guarded);
	int r = 0;
	while (!reason) {
		r = secret_memory_read(&secret->memory, fd);
		if (r <= 0) {
			break;
		}
	}
	close(fd);
	if (reason) {
		refuse(secret, option, reason);
	} else if (r < 0) {
		refuse(secret, option, r == -EFBIG ? "larger than 64 KiB" : strerror(-r));
	} else {
		secret->state = secret_finish(&secret->memory, option, &secret->failure);
	}
}

static void read_credential(struct secret *secret, const struct config_account *account)
{
	char *path = config_credential_path(account);
	if (path) {
		read_file(secret, "systemd credential", path, true);
	} else {
		refuse(secret, "no password",
			"there is no password-command, password-file, token-command or systemd "
			"credential");
	}
	free(path);
}

static int start(struct secret *secret, struct turn *turn, struct task *owner,
	const struct config_account *account)
{
	int r = secret_memory_init(&secret->memory);
	if (r < 0) {
		return r;
	}
	if (account->password_command) {
		return secret_command_new(turn, owner, "password-command",
			account->password_command, TIMEOUT_USEC, &secret->memory, &secret->command);
	}
	if (account->token_command) {
		return secret_command_new(turn, owner, "token-command", account->token_command,
			TIMEOUT_USEC, &secret->memory, &secret->command);
	}
	if (account->password_file) {
		read_file(secret, "password-file", account->password_file, false);
	} else {
		read_credential(secret, account);
	}
	task_wake(owner);
	return 0;
}

int secret_new(struct turn *turn, struct task *owner, const struct config_account *account,
	struct secret **ret_secret)
{
	struct secret *secret = calloc(1, sizeof(*secret));
	if (!secret) {
		return -ENOMEM;
	}
	int r = start(secret, turn, owner, account);
	if (r < 0) {
		secret_free(secret);
		return r;
	}
	*ret_secret = secret;
	return 0;
}

struct secret *secret_free(struct secret *secret)
{
	if (secret) {
		secret_command_free(secret->command);
		secret_memory_done(&secret->memory);
		free(secret);
	}
	return NULL;
}

enum secret_state secret_state(const struct secret *secret)
{
	return secret->command ? secret_command_state(secret->command) : secret->state;
}

const char *secret_value(const struct secret *secret)
{
	return secret_state(secret) == SECRET_READY ? secret->memory.data : NULL;
}

const struct failure *secret_failure(const struct secret *secret)
{
	return secret->command ? secret_command_failure(secret->command) : &secret->failure;
}

int64_t secret_file_changed_nsec(const struct config_account *account)
{
	struct stat st;
	if (!account->password_file || stat(account->password_file, &st) < 0) {
		return 0;
	}
	return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}
