#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config_options.h"
#include "imap/sasl.h"
#include "util/clock.h"
#include "util/text.h"

/* In octets: of mailboxes and users. */
#define MAX_NAME 1000

/* In octets (RFC 1035 section 2.3.4). */
#define MAX_HOST 255

typedef void take_function(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry);

static take_function take_host, take_name, take_number, take_security, take_path, take_certificate,
	take_fingerprint, take_command, take_auth, take_mailboxes, take_duration, take_boolean,
	refuse, refuse_true;

#define FIELD(name) offsetof(struct config_account, name)

#define BOOLEAN     "true or false"
#define COMMAND     "a command without control characters"
#define NAME        "1 to 1000 octets of UTF-8 without control characters"
#define PATH        "a path, which may begin with \"~/\""
#define PATH_URL    PATH ", or a \"pkcs11:\" URL"
#define HOST        "a host name (an internationalised one in its \"xn--\" form) or an address"
#define AUTH        "\"auto\", \"login\", or the name of a SASL mechanism that is supported"

static const struct config_option account_options[] = {
	{"host", HOST, take_host, FIELD(host)},
	{"port", "a number from 1 to 65535", take_number, FIELD(port), 1, 65535},
	{"security", "\"tls\", \"starttls\" or \"plain\"", take_security, FIELD(security)},
	{"ca-file", PATH, take_path, FIELD(ca_file)},
	{"certificate-fingerprint", "\"sha256:\" and 64 hexadecimal digits", take_fingerprint,
		FIELD(certificate_fingerprint)},
	{"proxy-command", COMMAND, take_command, FIELD(proxy_command)},
	{"client-certificate", PATH_URL, take_certificate, FIELD(client_certificate)},
	{"client-key", PATH_URL, take_certificate, FIELD(client_key)},
	{"user", NAME, take_name, FIELD(user)},
	{"auth", AUTH, take_auth, FIELD(auth)},
	{"password-command", COMMAND, take_command, FIELD(password_command)},
	{"password-file", PATH, take_path, FIELD(password_file)},
	{"token-command", COMMAND, take_command, FIELD(token_command)},
	{"goa", NULL, refuse},
	{"mailboxes", NAME " each", take_mailboxes, .initial = "{\"INBOX\"}"},
	{"max-connections", "a number from 1 to 64", take_number, FIELD(max_connections), 1, 64},
	{"idle-timeout", "a duration from \"1m\" to \"29m\"", take_duration,
		FIELD(idle_timeout_usec), USEC_PER_MINUTE, 29 * USEC_PER_MINUTE},
	{"poll-interval", "a duration from \"10s\" to \"24h\"", take_duration,
		FIELD(poll_interval_usec), 10 * USEC_PER_SEC, 24 * 60 * USEC_PER_MINUTE},
	{"preview", BOOLEAN, take_boolean, FIELD(preview)},
	{"compress", BOOLEAN, take_boolean, FIELD(compress)},
	{0},
};

static const struct config_option notifications_options[] = {
	{"enabled", BOOLEAN, refuse_true, .initial = "{\"false\"}"},
	{"open-command", NULL, refuse},
	{0},
};

static const struct config_option root_options[] = {
	{"mailnag-compatibility", BOOLEAN, refuse_true},
	{0},
};

const struct config_kind config_grammar[] = {
	{"", false, root_options},
	{"account", true, account_options},
	{"notifications", false, notifications_options},
	{0},
};

static struct config_label label(const struct config_draft *draft)
{
	return config_label(draft->section->kind->name, draft->section->title);
}

static void tell_value(const struct config_draft *draft, const struct config_option *option,
	const struct config_value *value)
{
	config_problems_add(draft->problems, value->line, "%s%s: found \"%.80s\", expected %s",
		label(draft).text, option->name, value->text, option->expected);
}

static void tell_memory(const struct config_draft *draft)
{
	draft->problems->error = -ENOMEM;
}

static void *field(const struct config_draft *draft, const struct config_option *option)
{
	return (char *)draft->account + option->offset;
}

static void put_string(
	const struct config_draft *draft, const struct config_option *option, const char *text)
{
	char **string = field(draft, option);
	free(*string);
	*string = text[0] != '\0' ? strdup(text) : NULL;
	if (text[0] != '\0' && !*string) {
		tell_memory(draft);
	}
}

static bool has_control(const char *text, const char *but)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if ((*c < 0x20 || *c == 0x7f) && !strchr(but, *c)) {
			return true;
		}
		/* C1 in UTF-8 */
		if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) {
			return true;
		}
	}
	return false;
}

static bool is_name(const char *text)
{
	return strlen(text) <= MAX_NAME && text_is_utf8(span_of(text)) && !has_control(text, "");
}

static void take_name(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	if (!is_name(entry->values[0].text)) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	put_string(draft, option, entry->values[0].text);
}

/* What is not in here could mean something to the shell that proxy-command hands it to as %h. */
static void take_host(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789-._:%";
	const char *text = entry->values[0].text;
	if (text[0] == '-' || text[strspn(text, allowed)] != '\0' || strlen(text) > MAX_HOST) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	put_string(draft, option, text);
}

/* Decimal digits and nothing before; what follows is left to the caller. */
static bool parse_digits(const char *text, uint64_t max, uint64_t *ret_number, const char **ret_end)
{
	uint64_t number = 0;
	const char *c = text;
	for (; *c >= '0' && *c <= '9'; c++) {
		number = 10 * number + (uint64_t)(*c - '0');
		if (number > max) {
			return false;
		}
	}
	*ret_number = number;
	*ret_end = c;
	return c > text;
}

static void take_number(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	uint64_t number;
	const char *end;
	if (!parse_digits(entry->values[0].text, option->max, &number, &end) || *end != '\0' ||
		number < option->min) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	if (option->offset == FIELD(port)) {
		draft->account->port = (uint16_t)number;
	} else {
		*(unsigned int *)field(draft, option) = (unsigned int)number;
	}
}

static void take_duration(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	static const struct {
		const char *unit;
		uint64_t usec;
	} units[] = {
		{"s", USEC_PER_SEC},
		{"m", USEC_PER_MINUTE},
		{"h", 60 * USEC_PER_MINUTE},
	};
	uint64_t number;
	const char *end;
	if (!parse_digits(entry->values[0].text, option->max, &number, &end)) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) == 0 && number <= option->max / units[i].usec &&
			number * units[i].usec >= option->min) {
			*(uint64_t *)field(draft, option) = number * units[i].usec;
			return;
		}
	}
	tell_value(draft, option, &entry->values[0]);
}

static void take_boolean(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	int r = config_tree_boolean(entry->values[0].text);
	if (r < 0) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	*(bool *)field(draft, option) = r > 0;
}

static void refuse(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	if (entry->values[0].text[0] != '\0') {
		config_problems_add(draft->problems, entry->values[0].line,
			"%s%s: not available in this version, expected it left out",
			label(draft).text, option->name);
	}
}

static void refuse_true(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	int r = config_tree_boolean(entry->values[0].text);
	if (r < 0) {
		tell_value(draft, option, &entry->values[0]);
	} else if (r > 0) {
		config_problems_add(draft->problems, entry->values[0].line,
			"%s%s: found true, not available in this version, expected false",
			label(draft).text, option->name);
	}
}

static void take_security(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	static const char *const names[] = {
		[CONFIG_SECURITY_TLS] = "tls",
		[CONFIG_SECURITY_STARTTLS] = "starttls",
		[CONFIG_SECURITY_PLAIN] = "plain",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(entry->values[0].text, names[i]) == 0) {
			draft->account->security = (enum config_security)i;
			return;
		}
	}
	tell_value(draft, option, &entry->values[0]);
}

static void take_path(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	const char *text = entry->values[0].text;
	const char *home = getenv("HOME");
	if (has_control(text, "") || (strncmp(text, "~/", 2) == 0 && (!home || home[0] != '/'))) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	struct bytes path;
	bytes_init(&path);
	if (strncmp(text, "~/", 2) == 0) {
		bytes_printf(&path, "%s/%s", home, text + 2);
	} else if (text[0] != '/' && text[0] != '\0') {
		bytes_printf(&path, "%s/%s", draft->folder, text);
	} else {
		bytes_put_str(&path, text);
	}
	char *string = bytes_steal(&path);
	if (string) {
		put_string(draft, option, string);
	} else {
		tell_memory(draft);
	}
	free(string);
	bytes_done(&path);
}

static void take_certificate(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	if (strncasecmp(entry->values[0].text, "pkcs11:", 7) == 0) {
		take_name(draft, option, entry);
	} else {
		take_path(draft, option, entry);
	}
}

/* Colons between the octets, as openssl prints them, are welcome. */
static void take_fingerprint(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	static const char prefix[] = "sha256:";
	const char *c = entry->values[0].text;
	char normal[sizeof(prefix) + 64];
	size_t n = strlen(prefix);
	if (c[0] == '\0') {
		return;
	}
	bool is_good = strncasecmp(c, prefix, n) == 0;
	memcpy(normal, prefix, n);
	for (c += is_good ? n : 0; is_good && *c; c++) {
		if (*c == ':' && n > strlen(prefix) && (n - strlen(prefix)) % 2 == 0 &&
			c[-1] != ':') {
			continue;
		}
		const char *digits = "0123456789abcdef0123456789ABCDEF";
		const char *digit = strchr(digits, *c);
		is_good = digit && n < sizeof(normal) - 1;
		if (is_good) {
			normal[n++] = digits[(digit - digits) % 16];
		}
	}
	if (!is_good || n != sizeof(normal) - 1 || c[-1] == ':') {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	normal[n] = '\0';
	put_string(draft, option, normal);
}

/* A command of several lines is a small script. What is wrong with it is not quoted, because it may
 * hold what should not stand in a log. */
static void take_command(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	if (has_control(entry->values[0].text, "\n\t")) {
		config_problems_add(draft->problems, entry->values[0].line,
			"%s%s: found a control character, expected %s", label(draft).text,
			option->name, option->expected);
		return;
	}
	put_string(draft, option, entry->values[0].text);
}

static void take_auth(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	const char *text = entry->values[0].text;
	const char *name = strcasecmp(text, "auto") == 0 || text[0] == '\0' ? "auto"
		: strcmp(text, "login") == 0                                ? text
					     : imap_sasl_canonical(text);
	if (!name) {
		tell_value(draft, option, &entry->values[0]);
		return;
	}
	put_string(draft, option, name);
}

static int compare_names(const void *a, const void *b)
{
	const struct config_value *const *x = a;
	const struct config_value *const *y = b;
	int r = strcmp((*x)->text, (*y)->text);
	if (r != 0) {
		return r;
	}
	return *x < *y ? -1 : *x > *y;
}

/* Sorted, because a long list must not cost its square. */
static void tell_duplicates(const struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	const struct config_value **sorted = calloc(entry->n_values, sizeof(struct config_value *));
	if (!sorted) {
		tell_memory(draft);
		return;
	}
	for (size_t i = 0; i < entry->n_values; i++) {
		sorted[i] = &entry->values[i];
	}
	qsort(sorted, entry->n_values, sizeof(sorted[0]), compare_names);
	for (size_t i = 1; i < entry->n_values; i++) {
		if (strcmp(sorted[i - 1]->text, sorted[i]->text) == 0) {
			config_problems_add(draft->problems, sorted[i]->line,
				"%s%s: found \"%.80s\" twice, expected each once",
				label(draft).text, option->name, sorted[i]->text);
		}
	}
	free(sorted);
}

static void take_mailboxes(struct config_draft *draft, const struct config_option *option,
	const struct config_entry *entry)
{
	struct config_account *account = draft->account;
	account->mailboxes = calloc(entry->n_values, sizeof(char *));
	if (!account->mailboxes) {
		tell_memory(draft);
		return;
	}
	for (size_t i = 0; i < entry->n_values; i++) {
		const struct config_value *value = &entry->values[i];
		if (strcasecmp(value->text, "INBOX") == 0) {
			memcpy(value->text, "INBOX", strlen("INBOX"));
		}
		if (value->text[0] == '\0' || !is_name(value->text)) {
			tell_value(draft, option, value);
			continue;
		}
		char *mailbox = strdup(value->text);
		if (!mailbox) {
			tell_memory(draft);
			return;
		}
		account->mailboxes[account->n_mailboxes++] = mailbox;
	}
	tell_duplicates(draft, option, entry);
}

void config_options_take(struct config_draft *draft)
{
	const struct config_section *section = draft->section;
	for (size_t i = 0; section->kind->options[i].name; i++) {
		const struct config_option *option = &section->kind->options[i];
		const struct config_entry *entry = &section->entries[i];
		if (entry->n_values == 0) {
			continue;
		}
		if (entry->n_values > 1 && option->take != take_mailboxes) {
			config_problems_add(draft->problems,
				entry->values[entry->n_values - 1].line,
				"%s%s: found a list of %zu values, expected a single one",
				label(draft).text, option->name, entry->n_values);
			continue;
		}
		option->take(draft, option, entry);
	}
}

static const struct config_entry *find_entry(const struct config_draft *draft, const char *name)
{
	const struct config_section *section = draft->section;
	for (size_t i = 0; section->kind->options[i].name; i++) {
		if (strcmp(section->kind->options[i].name, name) == 0) {
			return &section->entries[i];
		}
	}
	return NULL;
}

/* The line of an option, or of the section where it was not given. */
static int line_of(const struct config_draft *draft, const char *name)
{
	const struct config_entry *entry = find_entry(draft, name);
	return entry && entry->n_values > 0 ? entry->values[0].line : draft->section->line;
}

/* Whether something stands there, be it right or wrong. */
static bool is_given(const struct config_draft *draft, const char *name)
{
	const struct config_entry *entry = find_entry(draft, name);
	return entry && entry->n_values > 0 && entry->values[0].text[0] != '\0';
}

static void tell_pair(const struct config_draft *draft, const char *first, const char *second,
	const char *expected)
{
	config_problems_add(draft->problems, line_of(draft, second),
		"%sfound both %s and %s, expected %s", label(draft).text, first, second, expected);
}

static bool is_token_mechanism(const char *auth)
{
	return imap_sasl_canonical(auth) && imap_sasl_is_usable(auth, IMAP_SECRET_TOKEN);
}

static bool is_password_mechanism(const char *auth)
{
	return strcmp(auth, "login") == 0 ||
		(imap_sasl_canonical(auth) && imap_sasl_is_usable(auth, IMAP_SECRET_PASSWORD));
}

static void check_auth(const struct config_draft *draft)
{
	const struct config_account *account = draft->account;
	const char *found = NULL;
	const char *expected = NULL;
	if (strcmp(account->auth, "auto") == 0) {
		return;
	}
	if (account->token_command && !is_token_mechanism(account->auth)) {
		found = "token-command";
		expected = "a mechanism for tokens (\"XOAUTH2\", \"OAUTHBEARER\") or \"auto\"";
	} else if ((account->password_command || account->password_file) &&
		!is_password_mechanism(account->auth)) {
		found = account->password_command ? "password-command" : "password-file";
		expected = is_token_mechanism(account->auth)
			? "a token-command, or a mechanism for passwords"
			: "a mechanism for passwords, or no password";
	} else if (strcmp(account->auth, "EXTERNAL") == 0 && !account->client_certificate &&
		!account->proxy_command) {
		found = "no client-certificate";
		expected = "one";
	}
	if (found) {
		config_problems_add(draft->problems, line_of(draft, "auth"),
			"%sauth: found \"%s\" with %s, expected %s", label(draft).text,
			account->auth, found, expected);
	}
}

static void check_trust(const struct config_draft *draft)
{
	static const char *const tls_options[] = {
		"ca-file",
		"certificate-fingerprint",
		"client-certificate",
	};
	if (is_given(draft, "client-key") && !is_given(draft, "client-certificate")) {
		config_problems_add(draft->problems, line_of(draft, "client-key"),
			"%sfound client-key without client-certificate, expected both",
			label(draft).text);
	}
	if (is_given(draft, "ca-file") && is_given(draft, "certificate-fingerprint")) {
		tell_pair(draft, "ca-file", "certificate-fingerprint",
			"one of them: the fingerprint alone would decide");
	}
	for (size_t i = 0; i < sizeof(tls_options) / sizeof(tls_options[0]); i++) {
		if (draft->account->security == CONFIG_SECURITY_PLAIN &&
			is_given(draft, tls_options[i])) {
			config_problems_add(draft->problems, line_of(draft, tls_options[i]),
				"%s%s: found it with security = \"plain\", which has no "
				"certificates; expected \"tls\" or \"starttls\"",
				label(draft).text, tls_options[i]);
		}
	}
}

/* A systemd credential is a secret's source without being named in the file. */
char *config_credential_path(const struct config_account *account)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	if (!folder || folder[0] != '/') {
		return NULL;
	}
	struct bytes path;
	bytes_init(&path);
	bytes_printf(&path, "%s/mailidle.%s", folder, account->name);
	char *string = bytes_steal(&path);
	bytes_done(&path);
	if (string && access(string, R_OK) < 0) {
		free(string);
		string = NULL;
	}
	return string;
}

static bool has_credential(const struct config_account *account)
{
	char *path = config_credential_path(account);
	bool has_it = path != NULL;
	free(path);
	return has_it;
}

bool config_account_needs_secret(const struct config_account *account)
{
	bool is_open = strcmp(account->auth, "auto") == 0 || strcmp(account->auth, "EXTERNAL") == 0;
	bool may_preauth = account->proxy_command && account->security == CONFIG_SECURITY_PLAIN;
	return !(is_open && (account->client_certificate || may_preauth));
}

static void check_secret(const struct config_draft *draft)
{
	static const char *const sources[] = {
		"password-command",
		"password-file",
		"token-command",
		"goa",
	};
	const char *first = NULL;
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		if (!is_given(draft, sources[i])) {
			continue;
		}
		if (first) {
			tell_pair(draft, first, sources[i], "one source of the secret");
		}
		first = first ? first : sources[i];
	}
	if (!first && config_account_needs_secret(draft->account) &&
		!has_credential(draft->account)) {
		config_problems_add(draft->problems, draft->section->line,
			"%sfound no password-command, password-file or token-command, and no "
			"systemd "
			"credential \"mailidle.%s\"; the Secret Service is not available in this "
			"version, expected one of them",
			label(draft).text, draft->account->name);
	}
}

static void check_required(const struct config_draft *draft, const char *name, const char *field)
{
	if (!is_given(draft, name)) {
		config_problems_add(draft->problems, line_of(draft, name),
			"%s%s is missing, expected %s", label(draft).text, name, field);
	}
}

static bool is_account_name(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._@-";
	return name[0] != '\0' && !strchr("._@-", name[0]) && strlen(name) <= 64 &&
		name[strspn(name, allowed)] == '\0';
}

void config_options_check(const struct config_draft *draft)
{
	struct config_account *account = draft->account;
	if (!is_account_name(account->name)) {
		config_problems_add(draft->problems, draft->section->line,
			"%sthat is no account name, expected a letter or digit and up to 63 of "
			"letters, digits and \".\", \"_\", \"@\", \"-\"",
			label(draft).text);
	}
	if (find_entry(draft, "mailboxes")->n_values == 0) {
		config_problems_add(draft->problems, draft->section->line,
			"%smailboxes: found none, expected at least one", label(draft).text);
	}
	if (!draft->section->is_complete) {
		return;
	}
	check_required(draft, "host", HOST);
	check_required(draft, "user", NAME);
	check_trust(draft);
	check_auth(draft);
	check_secret(draft);
}
