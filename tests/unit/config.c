/* The configuration file: what is taken, and every mistake with its line. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "util/clock.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static char folder[PATH_MAX];
static char file[PATH_MAX + 32];

static int set_up(void **state)
{
	(void)state;
	const char *base = getenv("TMPDIR");
	char name[PATH_MAX];
	snprintf(name, sizeof(name), "%s/mailidle-config-XXXXXX", base ? base : P_tmpdir);
	if (!mkdtemp(name) || !realpath(name, folder)) {
		return -1;
	}
	snprintf(file, sizeof(file), "%s/mailidle.conf", folder);
	unsetenv("CREDENTIALS_DIRECTORY");
	return setenv("HOME", "/home/jo", 1);
}

static int tear_down(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(folder);
}

static void write_file(const void *data, size_t len)
{
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(file, 0600), 0);
}

/* What was told, with the file's own path cut to "F"; NULL for a good file. */
static char *load_octets(const void *data, size_t len, struct config **ret_config)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	write_file(data, len);
	int r = config_load(file, false, &config, &problems);
	char *text = bytes_steal(&problems);
	bytes_done(&problems);
	assert_non_null(text);
	if (r == 0) {
		assert_string_equal(text, "");
		free(text);
		assert_non_null(config);
		*ret_config = config;
		return NULL;
	}
	assert_int_equal(r, -EINVAL);
	assert_null(config);
	char *short_text = calloc(1, strlen(text) + 1);
	assert_non_null(short_text);
	size_t n = 0;
	for (const char *c = text; *c; c++) {
		if (strncmp(c, file, strlen(file)) == 0) {
			short_text[n++] = 'F';
			c += strlen(file) - 1;
		} else {
			short_text[n++] = *c;
		}
	}
	free(text);
	return short_text;
}

static struct config *load_good(const char *text)
{
	struct config *config = NULL;
	char *problems = load_octets(text, strlen(text), &config);
	if (problems) {
		fail_msg("not taken: %s", problems);
	}
	return config;
}

static char *load_bad(const char *text)
{
	struct config *config = NULL;
	char *problems = load_octets(text, strlen(text), &config);
	if (!problems) {
		config_free(config);
		fail_msg("taken: %s", text);
	}
	return problems;
}

static void expect_bad(const char *text, const char *expected)
{
	char *problems = load_bad(text);
	assert_string_equal(problems, expected);
	free(problems);
}

/* Wraps lines of options in an otherwise good account: they begin in line 2. */
static char *in_account(const char *options)
{
	static char text[4096];
	snprintf(text, sizeof(text),
		"account work { host = \"h\" user = \"u\" password-command = \"p\"\n%s\n}\n",
		options);
	return text;
}

/* A single option that is wrong: "F:2: account "work": " comes before what is expected, "\n" after.
 */
static void expect_bad_option(const char *options, const char *expected)
{
	char text[1024];
	snprintf(text, sizeof(text), "F:2: account \"work\": %s\n", expected);
	expect_bad(in_account(options), text);
}

static struct config *expect_good_option(const char *options)
{
	return load_good(in_account(options));
}

static void test_defaults(void **state)
{
	(void)state;
	struct config *config = load_good("account work {\n"
					  "	host = \"imap.example.org\"\n"
					  "	user = \"jo@example.org\"\n"
					  "	password-command = \"pass show mail/work\"\n"
					  "}\n");
	assert_int_equal(config->n_accounts, 1);
	assert_false(config->mailnag_compatibility);
	const struct config_account *account = config_account(config, "work");
	assert_ptr_equal(account, config->accounts[0]);
	assert_null(config_account(config, "home"));
	assert_string_equal(account->name, "work");
	assert_string_equal(account->host, "imap.example.org");
	assert_int_equal(account->port, 993);
	assert_int_equal(account->security, CONFIG_SECURITY_TLS);
	assert_null(account->ca_file);
	assert_null(account->certificate_fingerprint);
	assert_null(account->proxy_command);
	assert_null(account->client_certificate);
	assert_null(account->client_key);
	assert_string_equal(account->user, "jo@example.org");
	assert_string_equal(account->auth, "auto");
	assert_string_equal(account->password_command, "pass show mail/work");
	assert_null(account->password_file);
	assert_null(account->token_command);
	assert_int_equal(account->n_mailboxes, 1);
	assert_string_equal(account->mailboxes[0], "INBOX");
	assert_int_equal(account->max_connections, 4);
	assert_int_equal(account->idle_timeout_usec, 9 * USEC_PER_MINUTE);
	assert_int_equal(account->poll_interval_usec, 5 * USEC_PER_MINUTE);
	assert_false(account->preview);
	assert_false(account->compress);
	config_free(config);
}

static void test_everything(void **state)
{
	(void)state;
	char expected[PATH_MAX + 64];
	struct config *config = load_good(
		"# a comment with a ' and a {\n"
		"account b { host = 192.0.2.1 user = \"ü\" security = starttls port = 1143\n"
		"	client-certificate = \"~/c.pem\" client-key = 'pkcs11:object=k'\n"
		"	ca-file = certs/ca.pem auth = external\n"
		"	mailboxes = { inbox, \"Entwürfe\", 'Lists/*', \"%\" }\n"
		"	max-connections = 64 idle-timeout = 29m poll-interval = \"24h\"\n"
		"	preview = yes compress = on }\n"
		"account a.b@c-d_e { host = \"fe80::1%eth0\" user = u security = \"plain\"\n"
		"	password-file = '/p w' auth = \"login\" mailboxes += { \"x\" }\n"
		"	idle-timeout = 60s poll-interval = 10s port = 1 max-connections = 1\n"
		"	proxy-command = 'ssh \"$HOST\" imapd\n\t-x' }\n"
		"account c { host = h user = u token-command = \"t\" auth = xoauth2\n"
		"	certificate-fingerprint = \"SHA256:AB:cd:0000000000000000000000000000000000"
		"00000000000000000000000009\"\n"
		"	goa = \"\" }\n"
		"notifications { enabled = false open-command = \"\" }\n"
		"mailnag-compatibility = false\n");
	assert_int_equal(config->n_accounts, 3);
	const struct config_account *account = config->accounts[0];
	assert_string_equal(account->name, "b");
	assert_string_equal(account->host, "192.0.2.1");
	assert_string_equal(account->user, "ü");
	assert_int_equal(account->security, CONFIG_SECURITY_STARTTLS);
	assert_int_equal(account->port, 1143);
	assert_string_equal(account->client_certificate, "/home/jo/c.pem");
	assert_string_equal(account->client_key, "pkcs11:object=k");
	snprintf(expected, sizeof(expected), "%s/certs/ca.pem", folder);
	assert_string_equal(account->ca_file, expected);
	assert_string_equal(account->auth, "EXTERNAL");
	assert_int_equal(account->n_mailboxes, 4);
	assert_string_equal(account->mailboxes[0], "INBOX");
	assert_string_equal(account->mailboxes[1], "Entwürfe");
	assert_string_equal(account->mailboxes[2], "Lists/*");
	assert_string_equal(account->mailboxes[3], "%");
	assert_int_equal(account->max_connections, 64);
	assert_int_equal(account->idle_timeout_usec, 29 * USEC_PER_MINUTE);
	assert_int_equal(account->poll_interval_usec, 24 * 60 * USEC_PER_MINUTE);
	assert_true(account->preview);
	assert_true(account->compress);
	account = config->accounts[1];
	assert_string_equal(account->name, "a.b@c-d_e");
	assert_string_equal(account->host, "fe80::1%eth0");
	assert_int_equal(account->security, CONFIG_SECURITY_PLAIN);
	assert_int_equal(account->port, 1);
	assert_string_equal(account->password_file, "/p w");
	assert_string_equal(account->auth, "login");
	assert_int_equal(account->n_mailboxes, 2);
	assert_string_equal(account->mailboxes[0], "INBOX");
	assert_string_equal(account->mailboxes[1], "x");
	assert_int_equal(account->idle_timeout_usec, 60 * USEC_PER_SEC);
	assert_int_equal(account->poll_interval_usec, 10 * USEC_PER_SEC);
	assert_string_equal(account->proxy_command, "ssh \"$HOST\" imapd\n\t-x");
	account = config->accounts[2];
	assert_string_equal(account->auth, "XOAUTH2");
	assert_string_equal(account->certificate_fingerprint,
		"sha256:abcd000000000000000000000000000000000000000000000000000000000009");
	config_free(config);
}

static void test_ports(void **state)
{
	(void)state;
	struct config *config = expect_good_option("security = starttls");
	assert_int_equal(config->accounts[0]->port, 143);
	config_free(config);
	config = expect_good_option("security = plain");
	assert_int_equal(config->accounts[0]->port, 143);
	config_free(config);
	config = expect_good_option("port = 65535");
	assert_int_equal(config->accounts[0]->port, 65535);
	config_free(config);
}

static void test_variables(void **state)
{
	(void)state;
	assert_int_equal(setenv("MAILIDLE_TEST", "val\"ue", 1), 0);
	struct config *config = expect_good_option("password-command = '${MAILIDLE_TEST} \\'x' "
						   "user = \"<${MAILIDLE_TEST}>\" # }\n"
						   "token-command = ${NO_SUCH_VARIABLE}\n"
						   "ca-file = \"${NO_SUCH_VARIABLE:-/d \"}\"\n");
	const struct config_account *account = config->accounts[0];
	assert_string_equal(account->password_command, "${MAILIDLE_TEST} 'x");
	assert_string_equal(account->user, "<val\"ue>");
	assert_null(account->token_command);
	assert_string_equal(account->ca_file, "/d \"");
	config_free(config);
	assert_int_equal(unsetenv("MAILIDLE_TEST"), 0);
}

static void test_bad_values(void **state)
{
	(void)state;
	static const struct {
		const char *option;
		const char *found;
		const char *expected;
	} rows[] = {
		{"port", "0", "a number from 1 to 65535"},
		{"port", "65536", "a number from 1 to 65535"},
		{"port", "99999999999999999999999", "a number from 1 to 65535"},
		{"port", "imap", "a number from 1 to 65535"},
		{"port", "-1", "a number from 1 to 65535"},
		{"port", "0x10", "a number from 1 to 65535"},
		{"port", "9 ", "a number from 1 to 65535"},
		{"port", "", "a number from 1 to 65535"},
		{"security", "ssl", "\"tls\", \"starttls\" or \"plain\""},
		{"security", "TLS", "\"tls\", \"starttls\" or \"plain\""},
		{"max-connections", "0", "a number from 1 to 64"},
		{"max-connections", "65", "a number from 1 to 64"},
		{"idle-timeout", "59s", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "30m", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "1741s", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "9", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "9M", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "9 m", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "m", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "1.5m", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "18446744073709551617s", "a duration from \"1m\" to \"29m\""},
		{"idle-timeout", "5124095576030432h", "a duration from \"1m\" to \"29m\""},
		{"poll-interval", "9s", "a duration from \"10s\" to \"24h\""},
		{"poll-interval", "25h", "a duration from \"10s\" to \"24h\""},
		{"preview", "maybe", "true or false"},
		{"compress", "1", "true or false"},
		{"certificate-fingerprint", "sha256:", "\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint", "sha1:00", "\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint",
			"sha256:000000000000000000000000000000000000000000000000000000000000000",
			"\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint",
			"sha256:00000000000000000000000000000000000000000000000000000000000000000",
			"\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint",
			"sha256:000000000000000000000000000000000000000000000000000000000000000g",
			"\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint",
			"sha256:0000000000000000000000000000000000000000000000000000000000000000:",
			"\"sha256:\" and 64 hexadecimal digits"},
		{"certificate-fingerprint",
			"sha256:00::00000000000000000000000000000000000000000000000000000000000000",
			"\"sha256:\" and 64 hexadecimal digits"},
		{"auth", "NTLM",
			"\"auto\", \"login\", or the name of a SASL mechanism that is supported"},
		{"host", "a b",
			"a host name (an internationalised one in its \"xn--\" form) or an "
			"address"},
		{"host", "a;b",
			"a host name (an internationalised one in its \"xn--\" form) or an "
			"address"},
		{"host", "-oProxyCommand",
			"a host name (an internationalised one in its \"xn--\" form) or an "
			"address"},
		{"mailboxes", "", "1 to 1000 octets of UTF-8 without control characters each"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char option[256];
		char expected[512];
		snprintf(option, sizeof(option), "%s = \"%s\"", rows[i].option, rows[i].found);
		snprintf(expected, sizeof(expected), "%s: found \"%.80s\", expected %s",
			rows[i].option, rows[i].found, rows[i].expected);
		expect_bad_option(option, expected);
	}
}

/* State belongs to host, user and mailbox: two accounts cannot have all three in common. */
static void test_shared_mailbox(void **state)
{
	(void)state;
	expect_bad("account a { host = \"h\" user = \"u\" password-command = \"p\" }\n"
		   "account b { host = \"H\" user = \"u\" password-command = \"p\"\n"
		   "mailboxes = { \"x\", \"inbox\" } }\n"
		   "account c { host = \"h\" user = \"other\" password-command = \"p\" }\n"
		   "account d { host = \"h\" user = \"u\" password-command = \"p\"\n"
		   "mailboxes = { \"y\" } }\n",
		"F:2: account \"b\": found the host, the user and the mailbox \"INBOX\" of account "
		"\"a\", expected each mailbox in one account\n");
}

static void test_names(void **state)
{
	(void)state;
	expect_bad_option("mailboxes = { \"INBOX\", \"a\\tb\" }",
		"mailboxes: found \"a b\", expected 1 to 1000 octets of UTF-8 without control "
		"characters each");
	expect_bad_option("mailboxes = { \"\\xff\" }",
		"mailboxes: found \"\xef\xbf\xbd\", expected 1 to 1000 octets of UTF-8 without "
		"control characters each");
	expect_bad_option("mailboxes = { \"a\\xc2\\x85\" }",
		"mailboxes: found \"a \", expected 1 to 1000 octets of UTF-8 without control "
		"characters each");
	expect_bad_option("user = \"a\\nb\"",
		"user: found \"a b\", expected 1 to 1000 octets of UTF-8 without control "
		"characters");
	expect_bad_option("mailboxes = { \"INBOX\", a, b, \"inbox\" }",
		"mailboxes: found \"INBOX\" twice, expected each once");
	expect_bad_option(
		"mailboxes += { a, a }", "mailboxes: found \"a\" twice, expected each once");
	/* Where it stood empty nothing is left of its line. */
	expect_bad("account work { host = \"h\" user = \"u\" password-command = \"p\"\n"
		   "mailboxes = {} }",
		"F:1: account \"work\": mailboxes: found none, expected at least one\n");
	char name[1002];
	char option[1100];
	memset(name, 'x', sizeof(name));
	name[1000] = '\0';
	snprintf(option, sizeof(option), "mailboxes = \"%s\"", name);
	struct config *config = expect_good_option(option);
	assert_string_equal(config->accounts[0]->mailboxes[0], name);
	config_free(config);
	name[1000] = 'x';
	name[1001] = '\0';
	snprintf(option, sizeof(option), "mailboxes = \"%s\"", name);
	char *problems = load_bad(in_account(option));
	assert_non_null(strstr(problems, "expected 1 to 1000 octets"));
	free(problems);
}

static void test_account_names(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"-a",
		".a",
		"_a",
		"@a",
		"a b",
		"a/b",
		"ä",
		"a\\tb",
		"a2345678901234567890123456789012345678901234567890123456789012345",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[512];
		snprintf(text, sizeof(text),
			"\naccount \"%s\" { host = h user = u password-file = \"/p\" }", bad[i]);
		char *problems = load_bad(text);
		assert_memory_equal(problems, "F:2: account \"", strlen("F:2: account \""));
		assert_non_null(strstr(problems, "that is no account name, expected a letter"));
		assert_ptr_equal(strchr(problems, '\n'), problems + strlen(problems) - 1);
		free(problems);
	}
	config_free(
		load_good("account a234567890123456789012345678901234567890123456789012345678901234"
			  " { host = h user = u password-file = \"/p\" }"));
}

static void test_contradictions(void **state)
{
	(void)state;
	expect_bad_option("password-file = \"/p\"",
		"found both password-command and password-file, expected one source of the secret");
	expect_bad_option("token-command = \"t\"",
		"found both password-command and token-command, expected one source of the secret");
	expect_bad_option("client-key = \"/k\"",
		"found client-key without client-certificate, expected both");
	expect_bad_option(
		"ca-file = \"/c\" certificate-fingerprint = "
		"\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
		"found both ca-file and certificate-fingerprint, expected one of them: the "
		"fingerprint alone would decide");
	expect_bad_option("security = plain ca-file = \"/c\"",
		"ca-file: found it with security = \"plain\", which has no certificates; expected "
		"\"tls\" or \"starttls\"");
	expect_bad_option("auth = XOAUTH2",
		"auth: found \"XOAUTH2\" with password-command, expected a token-command, or a "
		"mechanism for passwords");
	expect_bad_option("auth = EXTERNAL client-certificate = \"/c\"",
		"auth: found \"EXTERNAL\" with password-command, expected a mechanism for "
		"passwords, or no password");
	expect_bad("account a { host = h user = u token-command = t\nauth = plain }",
		"F:2: account \"a\": auth: found \"PLAIN\" with token-command, expected a "
		"mechanism "
		"for tokens (\"XOAUTH2\", \"OAUTHBEARER\") or \"auto\"\n");
	expect_bad("account a { host = h user = u token-command = t\nauth = login }",
		"F:2: account \"a\": auth: found \"login\" with token-command, expected a "
		"mechanism "
		"for tokens (\"XOAUTH2\", \"OAUTHBEARER\") or \"auto\"\n");
	config_free(expect_good_option("auth = scram-sha-256"));
	config_free(expect_good_option("auth = \"login\""));
	config_free(expect_good_option("auth = \"AUTO\""));
}

static void test_lists_for_single_values(void **state)
{
	(void)state;
	expect_bad_option(
		"port = { 1, 2 }", "port: found a list of 2 values, expected a single one");
	expect_bad_option("host += x", "host: found a list of 2 values, expected a single one");
	config_free(expect_good_option("host = a host = b port = { 1 }"));
}

static void test_missing(void **state)
{
	(void)state;
	expect_bad("\n\n\naccount a {\n\n}",
		"F:4: account \"a\": host is missing, expected a host name (an internationalised "
		"one in its \"xn--\" form) or an address\n"
		"F:4: account \"a\": user is missing, expected 1 to 1000 octets of UTF-8 without "
		"control characters\n"
		"F:4: account \"a\": found no password-command, password-file or token-command, "
		"and "
		"no systemd credential \"mailidle.a\"; the Secret Service is not available in this "
		"version, expected one of them\n");
}

static void test_secret_sources(void **state)
{
	(void)state;
	static const char no_secret[] = "the Secret Service is not available in this version";
	static const char *const bad[] = {
		"account a { host = h user = u }",
		"account a { host = h user = u password-command = \"\" }",
		"account a { host = h user = u proxy-command = \"p\" }",
		"account a { host = h user = u auth = PLAIN client-certificate = \"/c\" }",
	};
	static const char *const good[] = {
		"account a { host = h user = u password-file = \"/p\" }",
		"account a { host = h user = u token-command = \"t\" }",
		"account a { host = h user = u client-certificate = \"/c\" }",
		"account a { host = h user = u client-certificate = \"/c\" auth = EXTERNAL }",
		"account a { host = h user = u proxy-command = \"p\" security = plain }",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *problems = load_bad(bad[i]);
		assert_non_null(strstr(problems, no_secret));
		free(problems);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		config_free(load_good(good[i]));
	}
	/* A systemd credential counts, by the account's name. */
	char credential[PATH_MAX + 32];
	snprintf(credential, sizeof(credential), "%s/mailidle.a", folder);
	FILE *f = fopen(credential, "w");
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
	config_free(load_good("account a { host = h user = u }"));
	char *problems = load_bad("account b { host = h user = u }");
	assert_non_null(strstr(problems, no_secret));
	free(problems);
	assert_int_equal(unlink(credential), 0);
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}

static void test_not_available(void **state)
{
	(void)state;
	expect_bad("account a { host = h user = u\ngoa = \"x\" }",
		"F:2: account \"a\": goa: not available in this version, expected it left out\n");
	expect_bad("notifications {\nenabled = true\nopen-command = 'x' }\n"
		   "mailnag-compatibility = true",
		"F:2: notifications: enabled: found true, not available in this version, expected "
		"false\n"
		"F:3: notifications: open-command: not available in this version, expected it left "
		"out\n"
		"F:4: mailnag-compatibility: found true, not available in this version, expected "
		"false\n");
	expect_bad("notifications { enabled = perhaps }",
		"F:1: notifications: enabled: found \"perhaps\", expected true or false\n");
	config_free(load_good("notifications {}"));
}

static void test_all_at_once(void **state)
{
	(void)state;
	char *problems =
		load_bad("/* one\n"
			 "   comment */ // two\n"
			 "# three\n"
			 "acount home {\n"
			 "	host = x\n"
			 "	nonsense = { 1, 2 }\n"
			 "}\n"
			 "colour = red\n"
			 "account work { // a brace: {\n"
			 "	hots = \"x\" # comment\n"
			 "	usr = { \"a\", /* , */ \"b\" }\n"
			 "	port = 0\n"
			 "	user = \"a \\\n"
			 "b\"\n"
			 "	hots = again\n"
			 "}\n"
			 "notifications { sound = 1 }\n"
			 "notifications {\n"
			 "}\n"
			 "account work { host = h user = u password-file = '/p' port = x }\n"
			 "look { at = this }\n"
			 "other { }\n"
			 "colour += { blue }\n"
			 "account last {\n"
			 "	host = h user = v password-file = '/p' hots = y }\n");
	static const char *const expected[] = {
		"F:4: unknown section \"acount\"; expected \"account NAME\" or \"notifications\"\n",
		"F:8: unknown option \"colour\"; expected one of: mailnag-compatibility\n",
		"F:9: account \"work\": host is missing, ",
		"F:9: account \"work\": found no password-command",
		"F:10: account \"work\": unknown option \"hots\"; expected one of: host, port, ",
		"F:11: account \"work\": unknown option \"usr\"; expected one of: host, port, ",
		"F:12: account \"work\": port: found \"0\"",
		"F:15: account \"work\": unknown option \"hots\"",
		"F:17: notifications: unknown option \"sound\"; expected one of: enabled, "
		"open-command\n",
		"F:18: notifications: named a second time, expected it once; the first begins in "
		"line "
		"17\n",
		"F:20: account \"work\": named a second time, expected it once; the first begins "
		"in "
		"line 9\n",
		"F:20: account \"work\": port: found \"x\"",
		"F:21: unknown section \"look\"",
		"F:22: unknown section \"other\"",
		"F:23: unknown option \"colour\"",
		"F:25: account \"last\": unknown option \"hots\"",
	};
	const char *line = problems;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		if (strncmp(line, expected[i], strlen(expected[i])) != 0) {
			fail_msg("expected %s, found %s", expected[i], line);
		}
		line = strchr(line, '\n') + 1;
	}
	assert_string_equal(line, "");
	free(problems);
}

/* What cannot be passed over is the last that is told. */
static void test_unreadable_unknown(void **state)
{
	(void)state;
	expect_bad("x = 1\ninclude(\"other.conf\")\nport = 3",
		"F:1: unknown option \"x\"; expected one of: mailnag-compatibility\n"
		"F:2: unknown option \"include\"; expected one of: mailnag-compatibility\n");
	char *problems = load_bad("account a {\nport = 0\ndeep { deep { deep {} } } }");
	assert_non_null(strstr(problems, "F:2: account \"a\": port: found \"0\""));
	assert_non_null(strstr(problems, "F:3: account \"a\": unknown option \"deep\""));
	assert_null(strstr(problems, "missing"));
	free(problems);
	expect_bad("account a { host = h user = u password-file = '/p' }\n"
		   "\"account=a|host\" = x\n",
		"F:2: unknown option \"host\"; expected one of: mailnag-compatibility\n");
	expect_bad("\nx|y = 1", "F:2: no sub-section title/index for 'x'\n");
	/* A file of nothing but mistakes comes to an end. */
	char text[40 * 16] = "";
	for (int i = 0; i < 40; i++) {
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "x%d = 1\n", i);
	}
	problems = load_bad(text);
	assert_non_null(strstr(problems, "F:32: unknown option \"x31\""));
	assert_non_null(strstr(
		problems, "F:33: too many unknown options; what follows has not been looked at\n"));
	assert_null(strstr(problems, "x33"));
	free(problems);
}

static void test_syntax_errors(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *expected;
	} rows[] = {
		{"x = 1\naccount a { host\n}\n/* ",
			"F:3: account \"a\": missing equal sign after "
			"option 'host'\n"},
		{"account {\n}", "F:1: missing title for section 'account'\n"},
		{"account a = 3", "F:1: missing opening brace for section 'account'\n"},
		{"\n}\n", "F:2: unexpected closing brace\n"},
		{"# c\naccount a {\n# c\nhost = }", "F:4: account \"a\": unexpected token '}'\n"},
		{"port = 0\n\naccount a {\nhost = h",
			"F:3: what begins here is not closed; expected "
			"\"}\" before the end of the file\n"},
		{"account a {\nhost = \"h\n}\n",
			"F:2: the string that begins here does not end; "
			"expected \"\n"},
		{"account a {\nhost = 'h\n}\n",
			"F:2: the string that begins here does not end; "
			"expected '\n"},
		{"\n\n/* no end\n\n",
			"F:3: the comment that begins here does not end; expected "
			"\"*/\"\n"},
		{"/*", "F:1: the comment that begins here does not end; expected \"*/\"\n"},
		{"account a { host = \"\\0\" }", "F:1: found a NUL in a string, expected text\n"},
		{"account a { host = \"a\\x00b\" }",
			"F:1: found a NUL in a string, expected text\n"},
		{"account a { host = \"\\777\" }",
			"F:1: account \"a\": invalid octal number '\\777'\n"},
		{"account a {\nhost = \"${x\ny}\"\n}",
			"F:2: a variable's name goes on in the next "
			"line; expected \"${NAME}\" (a dollar that is "
			"meant as such stands in single quotes)\n"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		expect_bad(rows[i].text, rows[i].expected);
	}
	static const char with_nul[] = "\naccount a { host = h\0 }";
	struct config *config = NULL;
	char *problems = load_octets(with_nul, sizeof(with_nul) - 1, &config);
	assert_string_equal(problems, "F:2: found a NUL octet, expected text\n");
	free(problems);
	/* An error leaves nothing behind in libconfuse's scanner. */
	config_free(expect_good_option("port = 1"));
}

/* Comments must not shift lines, nor eat what only looks like one. */
static void test_comments(void **state)
{
	(void)state;
	struct config *config = load_good("account a { host = h user = a//b\n"
					  "password-command = \"p # /* // '\" # \" }\n"
					  "mailboxes = { x/y, '//', \"/*\", '#', a\\#b\n} }\n");
	const struct config_account *account = config->accounts[0];
	assert_string_equal(account->user, "a//b");
	assert_string_equal(account->password_command, "p # /* // '");
	assert_int_equal(account->n_mailboxes, 5);
	assert_string_equal(account->mailboxes[1], "//");
	assert_string_equal(account->mailboxes[2], "/*");
	assert_string_equal(account->mailboxes[3], "#");
	assert_string_equal(account->mailboxes[4], "a\\");
	config_free(config);
}

static int load_path(const char *path, bool is_optional, char **ret_problems)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	int r = config_load(path, is_optional, &config, &problems);
	assert_true((r == 0) == (config != NULL));
	if (config) {
		assert_int_equal(config->n_accounts, 0);
	}
	config_free(config);
	*ret_problems = bytes_steal(&problems);
	bytes_done(&problems);
	assert_non_null(*ret_problems);
	return r;
}

static void test_files(void **state)
{
	(void)state;
	char path[PATH_MAX + 64];
	char expected[PATH_MAX + 256];
	char *problems;
	snprintf(path, sizeof(path), "%s/none", folder);
	assert_int_equal(load_path(path, true, &problems), 0);
	assert_string_equal(problems, "");
	free(problems);
	assert_int_equal(load_path(path, false, &problems), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: cannot be read: No such file or directory\n",
		path);
	assert_string_equal(problems, expected);
	free(problems);
	assert_int_equal(load_path(folder, true, &problems), -EINVAL);
	assert_non_null(strstr(problems, ": not a regular file\n"));
	free(problems);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load_path(path, true, &problems), -EINVAL);
	assert_non_null(strstr(problems, ": not a regular file\n"));
	free(problems);
	assert_int_equal(unlink(path), 0);

	write_file("", 0);
	static const mode_t refused[] = {0620, 0602, 0666};
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(chmod(file, refused[i]), 0);
		assert_int_equal(load_path(file, true, &problems), -EINVAL);
		assert_non_null(strstr(problems, "expected a file that only its owner can write"));
		free(problems);
	}
	assert_int_equal(chmod(file, 0644), 0);
	assert_int_equal(load_path(file, false, &problems), 0);
	free(problems);
	assert_int_equal(symlink(file, path), 0);
	assert_int_equal(load_path(path, false, &problems), 0);
	free(problems);
	assert_int_equal(unlink(path), 0);
	if (geteuid() == 0) { /* only root can make it somebody else's */
		assert_int_equal(chown(file, 12345, 0), 0);
		assert_int_equal(load_path(file, true, &problems), -EINVAL);
		assert_non_null(strstr(problems, "belongs to user 12345"));
		free(problems);
		assert_int_equal(unlink(file), 0);
	}
}

static void test_size(void **state)
{
	(void)state;
	enum {
		SIZE = 1024 * 1024,
	};
	char *text = malloc(SIZE + 1);
	assert_non_null(text);
	memset(text, '\n', SIZE + 1);
	struct config *config = NULL;
	assert_null(load_octets(text, SIZE, &config));
	config_free(config);
	char *problems = load_octets(text, SIZE + 1, &config);
	assert_string_equal(problems, "F: expected a file of at most 1 MiB\n");
	free(problems);
	/* Depth and length cost neither stack nor hours. */
	memset(text, '{', SIZE);
	problems = load_octets(text, SIZE, &config);
	assert_non_null(problems);
	free(problems);
	for (size_t i = 0; i + 2 <= SIZE; i += 2) {
		memcpy(text + i, "a{", 2);
	}
	problems = load_octets(text, SIZE, &config);
	assert_non_null(problems);
	free(problems);
	free(text);
}

static void test_home(void **state)
{
	(void)state;
	assert_int_equal(unsetenv("HOME"), 0);
	expect_bad_option("ca-file = \"~/x\"",
		"ca-file: found \"~/x\", expected a path, which may begin with \"~/\"");
	unsetenv("XDG_CONFIG_HOME");
	assert_null(config_default_path());
	assert_int_equal(setenv("HOME", "/home/jo", 1), 0);
	char *path = config_default_path();
	assert_string_equal(path, "/home/jo/.config/mailidle/mailidle.conf");
	free(path);
	assert_int_equal(setenv("XDG_CONFIG_HOME", "/etc/x", 1), 0);
	path = config_default_path();
	assert_string_equal(path, "/etc/x/mailidle/mailidle.conf");
	free(path);
	assert_int_equal(setenv("XDG_CONFIG_HOME", "relative", 1), 0);
	path = config_default_path();
	assert_string_equal(path, "/home/jo/.config/mailidle/mailidle.conf");
	free(path);
	assert_int_equal(unsetenv("XDG_CONFIG_HOME"), 0);
}

static void test_equal(void **state)
{
	(void)state;
	static const char *const changes[] = {
		"host = x",
		"port = 1",
		"security = starttls port = 993",
		"ca-file = \"/c\"",
		("certificate-fingerprint = "
		 "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\""),
		"proxy-command = x",
		"client-certificate = \"/c\"",
		"client-certificate = \"/c\" client-key = \"/k\"",
		"user = x",
		"auth = PLAIN",
		"password-command = x",
		"password-command = \"\" password-file = \"/p\"",
		"password-command = \"\" token-command = x",
		"mailboxes = { a }",
		"mailboxes += { a }",
		"max-connections = 5",
		"idle-timeout = 8m",
		"poll-interval = 4m",
		"preview = true",
		"compress = true",
	};
	struct config *config = expect_good_option("");
	struct config *same = expect_good_option("mailboxes = { inbox } preview = false");
	assert_true(config_account_equal(config->accounts[0], same->accounts[0]));
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct config *other = expect_good_option(changes[i]);
		assert_false(config_account_equal(config->accounts[0], other->accounts[0]));
		assert_false(config_account_equal(other->accounts[0], config->accounts[0]));
		config_free(other);
	}
	config_free(same);
	config_free(config);
	assert_true(config_is_pattern("a*"));
	assert_true(config_is_pattern("%"));
	assert_false(config_is_pattern("INBOX"));
	assert_null(config_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_shared_mailbox),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_account_names),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_lists_for_single_values),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_secret_sources),
		cmocka_unit_test(test_not_available),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_unreadable_unknown),
		cmocka_unit_test(test_syntax_errors),
		cmocka_unit_test(test_comments),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_home),
		cmocka_unit_test(test_equal),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
