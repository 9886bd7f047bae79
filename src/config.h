/* The configuration file: what the contract's table says, parsed by libconfuse (the only place that
 * knows it) and checked as a whole. Because it names commands to run, the file must belong to us or
 * to root, and nobody else may be able to write it; it has at most 1 MiB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"

enum config_security {
	CONFIG_SECURITY_TLS,
	CONFIG_SECURITY_STARTTLS,
	CONFIG_SECURITY_PLAIN,
};

/* Strings are never empty: an option that was not given, or is "", is NULL. Paths are absolute:
 * "~/" is $HOME, and what is relative begins in the folder of the configuration file. */
struct config_account {
	char *name;
	char *host;
	uint16_t port;
	enum config_security security;
	char *ca_file;
	char *certificate_fingerprint; /* normalised: "sha256:" and 64 lower-case hexadecimal digits
					*/
	char *proxy_command;
	char *client_certificate;
	char *client_key;
	char *user;
	char *auth; /* "auto", "login" (the LOGIN command) or a SASL mechanism's canonical name */
	char *password_command;
	char *password_file;
	char *token_command;
	char **mailboxes; /* at least one; "INBOX" in canonical case; patterns as they stand */
	size_t n_mailboxes;
	unsigned int max_connections; /* 1 to 64 */
	uint64_t idle_timeout_usec;   /* 1 to 29 minutes */
	uint64_t poll_interval_usec;  /* 10 s to 24 h */
	bool preview;
	bool compress;
};

struct config {
	struct config_account **accounts; /* in the file's order */
	size_t n_accounts;
	bool mailnag_compatibility;
};

/* Reads the file. A file that does not exist is an empty configuration when is_optional, else an
 * error. On a bad file nothing is returned and problems holds lines "FILE:LINE: what, where,
 * expected what" (the first syntax error, or all other mistakes in the file's order), each ended by
 * "\n". 0; -EINVAL: bad, see problems; -ENOENT, -EACCES, ... : could not be read, see problems;
 * -ENOMEM. */
int config_load(
	const char *path, bool is_optional, struct config **ret_config, struct bytes *problems);

/* NULL is allowed. Returns NULL. */
struct config *config_free(struct config *config);

const struct config_account *config_account(const struct config *config, const char *name);

/* Whether nothing that concerns connections and mailboxes differs: such an account is left alone by
 * a reload. */
bool config_account_equal(const struct config_account *a, const struct config_account *b);

/* Whether it cannot do without a password or a token: not so where its client certificate
 * (EXTERNAL) or its proxy (PREAUTH, only with plain security) can say who it is. */
bool config_account_needs_secret(const struct config_account *account);

/* $CREDENTIALS_DIRECTORY/mailidle.NAME, owned by the caller; NULL: there is no such file for us. */
char *config_credential_path(const struct config_account *account);

/* $XDG_CONFIG_HOME/mailidle/mailidle.conf; owned by the caller. NULL: neither it nor HOME is set.
 */
char *config_default_path(void);

/* Whether a name of `mailboxes` is a pattern ("*" or "%" in it). */
bool config_is_pattern(const char *mailbox);
