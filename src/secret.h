/* Getting a password or a token without blocking the loop: from a command, a file, or a systemd
 * credential ($CREDENTIALS_DIRECTORY/mailidle.NAME). The secret lives in memory that is locked
 * against core dumps as far as the kernel allows (MADV_DONTDUMP) and is wiped by secret_free().
 *
 * Commands: /bin/sh -c in a process group of its own, with standard input from /dev/null, the
 * environment less NOTIFY_SOCKET, WATCHDOG_*, LISTEN_*, CREDENTIALS_DIRECTORY and MAILIDLE_*, all
 * other descriptors closed, signals at their defaults; 64 KiB of output and 60 s at most (pinentry
 * waits for a person), then the group is killed. Exit code 0 and a first line that is not empty are
 * asked for. Its standard error is passed to ours.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "util/failure.h"
#include "util/turn.h"

struct secret;

enum secret_state {
	SECRET_PENDING,
	SECRET_READY,
	SECRET_FAILED,
};

/* Whether the account has a secret to fetch at all (not so for EXTERNAL with a client certificate
 * and no password, or a proxy command with plain security that may greet with PREAUTH and no
 * password option). */
bool secret_is_wanted(const struct config_account *account);

/* Whether what is fetched is an OAuth 2.0 token. */
bool secret_is_token(const struct config_account *account);

/* Starts fetching; owner is woken when the state is no longer pending (for a file at once, but
 * never inside this call). account is borrowed for the call. -ENOMEM, or a negative errno when not
 * even a process could be started. */
int secret_new(struct turn *turn, struct task *owner, const struct config_account *account,
	struct secret **ret_secret);

/* Wipes; kills a command that still runs, and reaps it. NULL is allowed. Returns NULL. */
struct secret *secret_free(struct secret *secret);

enum secret_state secret_state(const struct secret *secret);

/* The secret, with a final NUL, valid until secret_free(); NULL unless ready. */
const char *secret_value(const struct secret *secret);

/* FAILURE_AUTHENTICATION_FAILED with the reason ("password-command exited with 1"), never the
 * secret nor the command's output. Only when failed. */
const struct failure *secret_failure(const struct secret *secret);

/* A password file that changed is a reason to try again: whether the account has one, and its
 * modification time in ns since 1970 (0: none or unreadable). */
int64_t secret_file_changed_nsec(const struct config_account *account);
