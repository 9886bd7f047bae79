#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "config_options.h"
#include "config_problems.h"
#include "config_source.h"
#include "config_tree.h"
#include "util/clock.h"

static void *account_free(struct config_account *account)
{
	if (!account) {
		return NULL;
	}
	free(account->name);
	free(account->host);
	free(account->ca_file);
	free(account->certificate_fingerprint);
	free(account->proxy_command);
	free(account->client_certificate);
	free(account->client_key);
	free(account->user);
	free(account->auth);
	free(account->password_command);
	free(account->password_file);
	free(account->token_command);
	for (size_t i = 0; i < account->n_mailboxes; i++) {
		free(account->mailboxes[i]);
	}
	free(account->mailboxes);
	free(account);
	return NULL;
}

struct config *config_free(struct config *config)
{
	if (config) {
		for (size_t i = 0; i < config->n_accounts; i++) {
			account_free(config->accounts[i]);
		}
		free(config->accounts);
		free(config);
	}
	return NULL;
}

static struct config_account *account_new(const char *name)
{
	struct config_account *account = calloc(1, sizeof(*account));
	if (!account) {
		return NULL;
	}
	*account = (struct config_account){
		.name = strdup(name),
		.auth = strdup("auto"),
		.max_connections = 4,
		.idle_timeout_usec = 9 * USEC_PER_MINUTE,
		.poll_interval_usec = 5 * USEC_PER_MINUTE,
	};
	return account->name && account->auth ? account : account_free(account);
}

/* A name that both watch, or NULL. Patterns count where they are spelled alike. */
static const char *common_mailbox(const struct config_account *a, const struct config_account *b)
{
	for (size_t i = 0; i < a->n_mailboxes; i++) {
		for (size_t k = 0; k < b->n_mailboxes; k++) {
			if (strcmp(a->mailboxes[i], b->mailboxes[k]) == 0) {
				return a->mailboxes[i];
			}
		}
	}
	return NULL;
}

/* What was announced is remembered for host, user and mailbox, so two accounts with all three in
 * common would each keep news from the other. */
static void check_shared(const struct config *config, const struct config_draft *draft)
{
	const struct config_account *account = draft->account;
	for (size_t i = 0; i + 1 < config->n_accounts; i++) {
		const struct config_account *other = config->accounts[i];
		if (!account->host || !other->host || strcasecmp(account->host, other->host) != 0 ||
			!account->user || !other->user || strcmp(account->user, other->user) != 0) {
			continue;
		}
		const char *mailbox = common_mailbox(account, other);
		if (mailbox) {
			config_problems_add(draft->problems, draft->section->line,
				"account \"%s\": found the host, the user and the mailbox "
				"\"%.80s\" of "
				"account \"%s\", expected each mailbox in one account",
				account->name, mailbox, other->name);
		}
	}
}

/* Takes the account's options, and complains about what is wrong with them. 0 or -ENOMEM. */
static int add_account(struct config *config, struct config_draft *draft)
{
	struct config_account **accounts =
		reallocarray(config->accounts, config->n_accounts + 1, sizeof(*accounts));
	if (!accounts) {
		return -ENOMEM;
	}
	config->accounts = accounts;
	draft->account = account_new(draft->section->title);
	if (!draft->account) {
		return -ENOMEM;
	}
	accounts[config->n_accounts++] = draft->account;
	config_options_take(draft);
	if (draft->problems->error) {
		return draft->problems->error;
	}
	if (draft->account->port == 0) {
		draft->account->port = draft->account->security == CONFIG_SECURITY_TLS ? 993 : 143;
	}
	config_options_check(draft);
	check_shared(config, draft);
	return 0;
}

static int interpret(const struct config_tree *tree, const char *folder,
	struct config_problems *problems, struct config *config)
{
	for (size_t i = 0; i < tree->n_sections; i++) {
		struct config_draft draft = {
			.section = tree->sections[i],
			.problems = problems,
			.folder = folder,
		};
		if (!draft.section->kind->has_title) {
			config_options_take(&draft);
			continue;
		}
		int r = add_account(config, &draft);
		if (r < 0) {
			return r;
		}
	}
	return problems->error;
}

/* Absolute, so that it means the same wherever the process goes. */
static int folder_of(const char *path, char **ret_folder)
{
	const char *slash = strrchr(path, '/');
	char *name =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	if (!name) {
		return -ENOMEM;
	}
	char *folder = realpath(name, NULL);
	int r = folder ? 0 : -errno;
	free(name);
	if (r == 0) {
		*ret_folder = folder;
	}
	return r;
}

static int load(const char *path, struct config_problems *problems, struct config *config)
{
	char *folder = NULL;
	char *text = NULL;
	size_t len = 0;
	struct config_tree tree = {0};
	int r = config_source_read(path, &text, &len, problems);
	if (r == 0) {
		r = folder_of(path, &folder);
	}
	if (r == 0) {
		config_source_prepare(text, len, problems);
		r = config_tree_parse(config_grammar, text, problems, &tree);
	}
	if (r == 0) {
		r = interpret(&tree, folder, problems, config);
	}
	config_tree_done(&tree);
	free(text);
	free(folder);
	return r;
}

int config_load(
	const char *path, bool is_optional, struct config **ret_config, struct bytes *problems)
{
	struct config_problems found;
	config_problems_init(&found);
	struct config *config = calloc(1, sizeof(*config));
	int r = config ? load(path, &found, config) : -ENOMEM;
	if (r == -ENOENT && is_optional) {
		config_problems_rewind(&found, 0);
		r = 0;
	}
	if (r != -ENOMEM) {
		int told = config_problems_print(&found, path, problems);
		r = r == 0 || told == -ENOMEM ? told : r;
	}
	config_problems_done(&found);
	if (r < 0) {
		config_free(config);
		return r;
	}
	*ret_config = config;
	return 0;
}

const struct config_account *config_account(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_accounts; i++) {
		if (strcmp(config->accounts[i]->name, name) == 0) {
			return config->accounts[i];
		}
	}
	return NULL;
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool has_same_mailboxes(const struct config_account *a, const struct config_account *b)
{
	if (a->n_mailboxes != b->n_mailboxes) {
		return false;
	}
	for (size_t i = 0; i < a->n_mailboxes; i++) {
		if (!is_same(a->mailboxes[i], b->mailboxes[i])) {
			return false;
		}
	}
	return true;
}

bool config_account_equal(const struct config_account *a, const struct config_account *b)
{
	return is_same(a->name, b->name) && is_same(a->host, b->host) && a->port == b->port &&
		a->security == b->security && is_same(a->ca_file, b->ca_file) &&
		is_same(a->certificate_fingerprint, b->certificate_fingerprint) &&
		is_same(a->proxy_command, b->proxy_command) &&
		is_same(a->client_certificate, b->client_certificate) &&
		is_same(a->client_key, b->client_key) && is_same(a->user, b->user) &&
		is_same(a->auth, b->auth) && is_same(a->password_command, b->password_command) &&
		is_same(a->password_file, b->password_file) &&
		is_same(a->token_command, b->token_command) && has_same_mailboxes(a, b) &&
		a->max_connections == b->max_connections &&
		a->idle_timeout_usec == b->idle_timeout_usec &&
		a->poll_interval_usec == b->poll_interval_usec && a->preview == b->preview &&
		a->compress == b->compress;
}

char *config_default_path(void)
{
	const char *base = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	struct bytes path;
	bytes_init(&path);
	if (base && base[0] == '/') { /* the XDG specification has relative ones ignored */
		bytes_printf(&path, "%s/mailidle/mailidle.conf", base);
	} else if (home && home[0] != '\0') {
		bytes_printf(&path, "%s/.config/mailidle/mailidle.conf", home);
	} else {
		return NULL;
	}
	char *string = bytes_steal(&path);
	bytes_done(&path);
	return string;
}

bool config_is_pattern(const char *mailbox)
{
	return strpbrk(mailbox, "*%") != NULL;
}
