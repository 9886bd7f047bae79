#include <errno.h>
#include <gsasl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "imap/oauth.h"
#include "imap/sasl.h"

/* Wants the C library's headers before it. */
#include <cmocka.h>

#define ITERATIONS "4096"
#define SALT       "QSXCR+Q6sek8bf92" /* of RFC 5802 section 5 */

static const struct imap_credentials password = {
	.user = "tim",
	.kind = IMAP_SECRET_PASSWORD,
	.secret = "tanstaaftanstaaf",
	.host = "imap.example.org",
	.port = 993,
};

static const struct imap_credentials token = {
	.user = "user@example.com",
	.kind = IMAP_SECRET_TOKEN,
	.secret = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
	.host = "server.example.com",
	.port = 143,
};

static const struct span exporter = {(const uint8_t *)"exporter binding of 32 octets ...", 32};
static const struct span unique = {(const uint8_t *)"tls-unique\0\1", 12};

static struct imap_sasl *new_sasl(const char *mechanism, const struct imap_credentials *credentials)
{
	struct imap_sasl *sasl = NULL;

	assert_int_equal(imap_sasl_new(mechanism, credentials, &sasl), 0);
	assert_non_null(sasl);
	assert_false(imap_sasl_is_complete(sasl));
	assert_string_equal(imap_sasl_token_problem(sasl), "");
	return sasl;
}

static int step_error(struct imap_sasl *sasl, const char *challenge)
{
	struct bytes response;
	int r;

	bytes_init(&response);
	r = imap_sasl_step(sasl, span_of(challenge), &response);
	bytes_wipe(&response);
	return r;
}

static void assert_step(struct imap_sasl *sasl, const char *challenge, const char *expected)
{
	struct bytes response;
	char *text;

	bytes_init(&response);
	assert_int_equal(imap_sasl_step(sasl, span_of(challenge), &response), 0);
	text = bytes_steal(&response);
	assert_non_null(text);
	assert_string_equal(text, expected);
	free(text);
	bytes_done(&response);
}

static char *base64(const char *data, size_t len)
{
	char *text = NULL;

	assert_int_equal(gsasl_base64_to(data, len, &text, NULL), GSASL_OK);
	return text;
}

/* Choosing */

struct choice {
	enum imap_secret_kind kind;
	bool has_binding;
	bool without_plus;
	const char *capabilities; /* parted by blanks */
	const char *expected;
};

static const struct choice choices[] = {
	{IMAP_SECRET_PASSWORD, false, false, "", NULL},
	{IMAP_SECRET_PASSWORD, false, false, "IMAP4rev1 IDLE PLAIN AUTH= AUTH AUTH=PLAINS", NULL},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=PLAIN", "PLAIN"},
	{IMAP_SECRET_PASSWORD, false, false, "auth=plain", "PLAIN"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=LOGIN IDLE AUTH=PLAIN", "PLAIN"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=LOGIN", "LOGIN"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=PLAIN AUTH=CRAM-MD5", "CRAM-MD5"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=CRAM-MD5 AUTH=SCRAM-SHA-1", "SCRAM-SHA-1"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=SCRAM-SHA-1 AUTH=SCRAM-SHA-256",
		"SCRAM-SHA-256"},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=SCRAM-SHA-256-PLUS AUTH=PLAIN", "PLAIN"},
	{IMAP_SECRET_PASSWORD, true, false, "AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1-PLUS",
		"SCRAM-SHA-1-PLUS"},
	{IMAP_SECRET_PASSWORD, true, false, "AUTH=SCRAM-SHA-1-PLUS AUTH=SCRAM-SHA-256-PLUS",
		"SCRAM-SHA-256-PLUS"},
	{IMAP_SECRET_PASSWORD, true, true, "AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256",
		"SCRAM-SHA-256"},
	{IMAP_SECRET_PASSWORD, true, false, "AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=EXTERNAL", NULL},
	{IMAP_SECRET_PASSWORD, false, false, "AUTH=GSSAPI AUTH=DIGEST-MD5 AUTH=NTLM", NULL},
	{IMAP_SECRET_TOKEN, true, false, "AUTH=PLAIN AUTH=LOGIN AUTH=SCRAM-SHA-256", NULL},
	{IMAP_SECRET_TOKEN, false, false, "AUTH=PLAIN AUTH=XOAUTH2", "XOAUTH2"},
	{IMAP_SECRET_TOKEN, false, false, "AUTH=XOAUTH2 AUTH=OAUTHBEARER", "OAUTHBEARER"},
	{IMAP_SECRET_NONE, false, false, "AUTH=PLAIN AUTH=EXTERNAL", "EXTERNAL"},
	{IMAP_SECRET_NONE, true, false, "AUTH=PLAIN AUTH=SCRAM-SHA-256-PLUS", NULL},
};

static size_t split(const char *text, struct span *words)
{
	size_t n = 0;

	while (*text != '\0') {
		const size_t len = strcspn(text, " ");

		words[n++] = (struct span){.data = (const uint8_t *)text, .len = len};
		text += len;
		text += *text == ' ';
	}
	return n;
}

static void test_choose(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const struct choice *choice = &choices[i];
		const struct imap_credentials credentials = {
			.kind = choice->kind,
			.tls_exporter = choice->has_binding ? exporter : (struct span){0},
		};
		struct span words[16];
		const size_t n = split(choice->capabilities, words);
		const char *chosen = imap_sasl_choose(&credentials, words, n, choice->without_plus);

		if (choice->expected == NULL) {
			assert_null(chosen);
		} else {
			assert_non_null(chosen);
			assert_string_equal(chosen, choice->expected);
		}
	}
}

/* A key of Unicode 6.0 in the password: mechanisms that hash it cannot be had. */
static void test_choose_unprepared(void **state)
{
	static const struct span words[] = {
		{(const uint8_t *)"AUTH=SCRAM-SHA-256", 18},
		{(const uint8_t *)"AUTH=CRAM-MD5", 13},
		{(const uint8_t *)"AUTH=PLAIN", 10},
	};
	struct imap_credentials credentials = password;
	struct imap_sasl *sasl = NULL;

	(void)state;
	assert_string_equal(imap_sasl_choose(&credentials, words, 3, false), "SCRAM-SHA-256");
	credentials.secret = "p\xf0\x9f\x94\x91";
	assert_string_equal(imap_sasl_choose(&credentials, words, 3, false), "PLAIN");
	assert_null(imap_sasl_choose(&credentials, words, 2, false));
	assert_int_equal(imap_sasl_new("CRAM-MD5", &credentials, &sasl), -EINVAL);
}

static void test_canonical(void **state)
{
	(void)state;
	assert_string_equal(imap_sasl_canonical("scram-sha-256-plus"), "SCRAM-SHA-256-PLUS");
	assert_string_equal(imap_sasl_canonical("XOauth2"), "XOAUTH2");
	assert_string_equal(imap_sasl_canonical("PLAIN"), "PLAIN");
	assert_null(imap_sasl_canonical(""));
	assert_null(imap_sasl_canonical("PLAIN "));
	assert_null(imap_sasl_canonical("PLAI"));
	assert_null(imap_sasl_canonical("ANONYMOUS"));
	assert_null(imap_sasl_canonical("GSSAPI"));
}

static void test_usable(void **state)
{
	static const struct {
		const char *name;
		enum imap_secret_kind kind;
	} rows[] = {
		{"SCRAM-SHA-256-PLUS", IMAP_SECRET_PASSWORD},
		{"SCRAM-SHA-1-PLUS", IMAP_SECRET_PASSWORD},
		{"SCRAM-SHA-256", IMAP_SECRET_PASSWORD},
		{"SCRAM-SHA-1", IMAP_SECRET_PASSWORD},
		{"CRAM-MD5", IMAP_SECRET_PASSWORD},
		{"PLAIN", IMAP_SECRET_PASSWORD},
		{"login", IMAP_SECRET_PASSWORD},
		{"OAUTHBEARER", IMAP_SECRET_TOKEN},
		{"xoauth2", IMAP_SECRET_TOKEN},
		{"EXTERNAL", IMAP_SECRET_NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int kind = IMAP_SECRET_NONE; kind <= IMAP_SECRET_TOKEN; kind++) {
			struct imap_credentials credentials = password;
			struct imap_sasl *sasl = NULL;
			const bool fits = kind == (int)rows[i].kind;

			credentials.kind = (enum imap_secret_kind)kind;
			credentials.tls_unique = unique;
			assert_int_equal(imap_sasl_is_usable(rows[i].name, credentials.kind), fits);
			assert_int_equal(imap_sasl_new(rows[i].name, &credentials, &sasl),
				fits ? 0 : -EOPNOTSUPP);
			sasl = imap_sasl_free(sasl);
			assert_null(sasl);
		}
	}
	assert_false(imap_sasl_is_usable("NTLM", IMAP_SECRET_PASSWORD));
}

static void test_bad_credentials(void **state)
{
	static const struct {
		const char *mechanism;
		const char *user;
		const char *secret;
		int expected;
	} rows[] = {
		{"NTLM", "tim", "x", -EOPNOTSUPP},
		{"SCRAM-SHA-256-PLUS", "tim", "x", -EOPNOTSUPP}, /* no binding */
		{"PLAIN", "", "x", -EINVAL},
		{"PLAIN", NULL, "x", -EINVAL},
		{"PLAIN", "tim", NULL, -EINVAL},
		{"PLAIN", "t\xffim", "x", -EINVAL},
		{"PLAIN", "tim", "\xc0\x80", -EINVAL},
		{"SCRAM-SHA-1", "tim\x07", "x", -EINVAL}, /* RFC 4013 section 2.3 */
		{"SCRAM-SHA-1", "tim", "a\x7f", -EINVAL},
		{"CRAM-MD5", "tim", "a\x01", -EINVAL},
		{"OAUTHBEARER", "tim\1auth=Bearer x", "y", -EINVAL},
		{"OAUTHBEARER", "tim", "x\1host=evil", -EINVAL},
		{"XOAUTH2", "tim\1", "y", -EINVAL},
		{"XOAUTH2", "tim", "y\1\1", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct imap_credentials credentials = {
			.user = rows[i].user,
			.secret = rows[i].secret,
			.kind = strstr(rows[i].mechanism, "OAUTH") ? IMAP_SECRET_TOKEN
								   : IMAP_SECRET_PASSWORD,
		};
		struct imap_sasl *sasl = NULL;

		assert_int_equal(
			imap_sasl_new(rows[i].mechanism, &credentials, &sasl), rows[i].expected);
		assert_null(sasl);
	}
	assert_null(imap_sasl_free(NULL));
}

/* Mechanisms without a nonce of ours, octet for octet */

static void test_plain(void **state)
{
	static const struct {
		const char *prompt;
	} rows[] = {{""}, {"not base64 at all!"}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct imap_sasl *sasl = new_sasl("plain", &password);

		assert_true(imap_sasl_is_client_first(sasl));
		/* RFC 4616 section 4 */
		assert_step(sasl, rows[i].prompt, "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
		assert_true(imap_sasl_is_complete(sasl));
		assert_int_equal(step_error(sasl, ""), -EBADMSG);
		assert_false(imap_sasl_is_complete(sasl));
		imap_sasl_free(sasl);
	}
}

static void test_plain_utf8(void **state)
{
	struct imap_credentials credentials = password;
	struct imap_sasl *sasl;

	(void)state;
	credentials.user = "m\xc3\xbcller";
	credentials.secret = "p\xc3\xa4ss \xf0\x9f\x94\x91";
	sasl = new_sasl("PLAIN", &credentials);
	assert_step(sasl, "", "AG3DvGxsZXIAcMOkc3Mg8J+UkQ==");
	assert_true(imap_sasl_is_complete(sasl));
	imap_sasl_free(sasl);
}

static void test_login(void **state)
{
	static const char *const prompts[][2] = {
		{"VXNlcm5hbWU6", "UGFzc3dvcmQ6"}, {"VXNlciBOYW1lAA", NULL}, /* bad base64 */
		{"", ""}, {"UGFzc3dvcmQ6", "VXNlcm5hbWU6"}, /* the order counts, not the text */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(prompts) / sizeof(prompts[0]); i++) {
		struct imap_sasl *sasl = new_sasl("LOGIN", &password);

		assert_false(imap_sasl_is_client_first(sasl));
		if (prompts[i][1] == NULL) {
			assert_int_equal(step_error(sasl, prompts[i][0]), -EBADMSG);
			assert_int_equal(step_error(sasl, ""), -EBADMSG);
		} else {
			assert_step(sasl, prompts[i][0], "dGlt");
			assert_false(imap_sasl_is_complete(sasl));
			assert_step(sasl, prompts[i][1], "dGFuc3RhYWZ0YW5zdGFhZg==");
			assert_true(imap_sasl_is_complete(sasl));
			assert_int_equal(step_error(sasl, "VXNlcm5hbWU6"), -EBADMSG);
		}
		assert_false(imap_sasl_is_complete(sasl));
		imap_sasl_free(sasl);
	}
}

/* RFC 2195 section 2 */
static void test_cram_md5(void **state)
{
	static const char challenge[] = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
	static const char *const bad[] = {"", "PDE4OTY", "*", "AAAA", "PDE4 OTY+"};
	struct imap_sasl *sasl = new_sasl("CRAM-MD5", &password);

	(void)state;
	assert_false(imap_sasl_is_client_first(sasl));
	assert_step(sasl, challenge, "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
	assert_true(imap_sasl_is_complete(sasl));
	assert_int_equal(step_error(sasl, challenge), -EBADMSG);
	imap_sasl_free(sasl);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sasl = new_sasl("CRAM-MD5", &password);
		assert_int_equal(step_error(sasl, bad[i]), -EBADMSG);
		assert_false(imap_sasl_is_complete(sasl));
		imap_sasl_free(sasl);
	}
}

static void test_external(void **state)
{
	struct imap_credentials credentials = {
		.user = "fred@example.com", .kind = IMAP_SECRET_NONE};
	struct imap_sasl *sasl = new_sasl("EXTERNAL", &credentials);

	(void)state;
	assert_true(imap_sasl_is_client_first(sasl));
	assert_step(sasl, "", "ZnJlZEBleGFtcGxlLmNvbQ==");
	assert_true(imap_sasl_is_complete(sasl));
	imap_sasl_free(sasl);

	credentials.user = "";
	sasl = new_sasl("EXTERNAL", &credentials);
	assert_step(sasl, "", "");
	assert_true(imap_sasl_is_complete(sasl));
	imap_sasl_free(sasl);
}

static void test_response_is_appended(void **state)
{
	struct imap_sasl *sasl = new_sasl("PLAIN", &password);
	struct bytes response;

	(void)state;
	bytes_init(&response);
	bytes_put_str(&response, "a1 AUTHENTICATE PLAIN ");
	assert_int_equal(imap_sasl_step(sasl, span_of(""), &response), 0);
	assert_true(span_equal(
		bytes_span(&response), "a1 AUTHENTICATE PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"));
	bytes_wipe(&response);
	imap_sasl_free(sasl);
}

static void test_failed_buffer(void **state)
{
	struct imap_sasl *sasl = new_sasl("PLAIN", &password);
	struct bytes response;

	(void)state;
	bytes_init(&response);
	response.error = -ENOMEM;
	assert_int_equal(imap_sasl_step(sasl, span_of(""), &response), -ENOMEM);
	assert_false(imap_sasl_is_complete(sasl));
	bytes_done(&response);
	imap_sasl_free(sasl);
}

/* OAuth */

/* RFC 7628 section 4.1 */
static void test_oauthbearer(void **state)
{
	struct imap_sasl *sasl = new_sasl("OAUTHBEARER", &token);

	(void)state;
	assert_true(imap_sasl_is_client_first(sasl));
	assert_step(sasl, "",
		"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9Qm"
		"VhcmVy"
		"IHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB");
	assert_true(imap_sasl_is_complete(sasl));
	/* Section 4.3:
	 * {"status":"invalid_token","scope":"example_scope","openid-configuration":...} */
	assert_step(sasl,
		"eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbm"
		"ZpZ3Vy"
		"YXRpb24iOiJodHRwczovL2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn"
		"0=",
		"AQ==");
	assert_false(imap_sasl_is_complete(sasl));
	assert_string_equal(imap_sasl_token_problem(sasl), "invalid_token");
	assert_int_equal(step_error(sasl, ""), -EBADMSG);
	assert_string_equal(imap_sasl_token_problem(sasl), "invalid_token");
	imap_sasl_free(sasl);
}

static void test_oauthbearer_escapes(void **state)
{
	struct imap_credentials credentials = token;
	struct imap_sasl *sasl;
	static const char expected[] = "n,a=a=3Db=2Cc,\1auth=Bearer t=,\1\1";
	char *text = base64(expected, sizeof(expected) - 1);

	(void)state;
	credentials.user = "a=b,c";
	credentials.secret = "t=,";
	credentials.host = NULL;
	sasl = new_sasl("OAUTHBEARER", &credentials);
	assert_step(sasl, "", text);
	imap_sasl_free(sasl);
	free(text);
}

static void test_xoauth2(void **state)
{
	struct imap_credentials credentials = token;
	struct imap_sasl *sasl;

	(void)state;
	credentials.user = "someuser@example.com";
	credentials.secret = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg";
	sasl = new_sasl("XOAUTH2", &credentials);
	assert_true(imap_sasl_is_client_first(sasl));
	/* The example of Google's "OAuth 2.0 Mechanism" page. */
	assert_step(sasl, "",
		"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbG"
		"NrQmhk"
		"SFJoZG1semRHRXVZMjl0Q2cBAQ==");
	assert_true(imap_sasl_is_complete(sasl));
	/* {"status":"401","schemes":"bearer","scope":"https://mail.google.com/"} */
	assert_step(sasl,
		"eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2"
		"xlLmNv"
		"bS8ifQ==",
		"");
	assert_false(imap_sasl_is_complete(sasl));
	assert_string_equal(imap_sasl_token_problem(sasl), "401");
	imap_sasl_free(sasl);

	sasl = new_sasl("XOAUTH2", &credentials);
	assert_int_equal(step_error(sasl, ""), 0);
	assert_int_equal(step_error(sasl, "{\"status\":\"401\"}"), -EBADMSG);
	assert_string_equal(imap_sasl_token_problem(sasl), "");
	imap_sasl_free(sasl);
}

static void test_token_problem(void **state)
{
	static const struct {
		const char *json;
		const char *expected;
	} rows[] = {
		{"", ""},
		{"status", ""},
		{"\"status\":\"a\"", ""},
		{"{\"status\":\"a\"}", "a"},
		{"{\"status\" \r\n\t:  \"a\"}", "a"},
		{"{\"status\":\"a", "a"},
		{"{\"status\":\"a\\", "a\\"},
		{"{\"status\":", ""},
		{"{\"status", ""},
		{"{\"status\":401,\"x\":\"status\"}", ""},
		{"{\"x\":{\"status\":\"no\"},\"status\":\"yes\"}", "yes"},
		{"{\"x\":[[\"status\"]],\"status\":\"yes\"}", "yes"},
		{"{\"x\":\"\\\"status\\\":\\\"no\\\"\",\"status\":\"yes\"}", "yes"},
		{"{\"x\":\"status\",\"y\":\"no\"}", ""},
		{"{\"status\":\"a\\u0041\\n\\u00e9\\u20AC\\ud83d\\\"\\/\"}",
			"aA \u00e9\u20ac\ufffd\"/"},
		{"{\"status\":\"\\u12\"}", ""},
		{"{\"status\":\"\\u0000\\u202ex\x1b[31m\"}", "x[31m"},
		{"}}}}{\"status\":\"a\"}", "a"},
		{"{\"status\":"
		 "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
			"0123456789012345678901234567890123456789012345678901234567890123"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *problem = imap_oauth_problem(span_of(rows[i].json));

		assert_non_null(problem);
		assert_string_equal(problem, rows[i].expected);
		free(problem);
	}
}

/* SCRAM against a server that knows stored keys only */

struct server {
	const char *mechanism;
	const char *password;
	const char *iterations;
	struct span tls_unique;
	struct span tls_exporter;
	bool has_wrong_server_key;
	Gsasl *library;
	Gsasl_session *session;
};

static int set_base64(Gsasl_session *session, Gsasl_property property, const void *data, size_t len)
{
	char *text = base64(data, len);
	const int rc = gsasl_property_set(session, property, text);

	free(text);
	return rc;
}

static int serve_key(const struct server *server, Gsasl_session *session, Gsasl_property property)
{
	const Gsasl_hash hash =
		strstr(server->mechanism, "256") ? GSASL_HASH_SHA256 : GSASL_HASH_SHA1;
	char salted[GSASL_HASH_MAX_SIZE];
	char client_key[GSASL_HASH_MAX_SIZE];
	char server_key[GSASL_HASH_MAX_SIZE];
	char stored_key[GSASL_HASH_MAX_SIZE];
	char *salt = NULL;
	size_t salt_len = 0;

	assert_int_equal(gsasl_base64_from(SALT, strlen(SALT), &salt, &salt_len), GSASL_OK);
	assert_int_equal(gsasl_scram_secrets_from_password(hash, server->password,
				 (unsigned int)atoi(server->iterations), salt, salt_len, salted,
				 client_key, server_key, stored_key),
		GSASL_OK);
	free(salt);
	if (server->has_wrong_server_key) {
		server_key[0] ^= 1;
	}
	return set_base64(session, property,
		property == GSASL_SCRAM_SERVERKEY ? server_key : stored_key,
		gsasl_hash_length(hash));
}

static int serve(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
	const struct server *server = gsasl_callback_hook_get(library);

	switch ((int)property) {
	case GSASL_SCRAM_ITER:
		return gsasl_property_set(session, property, server->iterations);
	case GSASL_SCRAM_SALT:
		return gsasl_property_set(session, property, SALT);
	case GSASL_SCRAM_SERVERKEY:
	case GSASL_SCRAM_STOREDKEY:
		return serve_key(server, session, property);
	case GSASL_CB_TLS_UNIQUE:
		if (server->tls_unique.len > 0) {
			return set_base64(
				session, property, server->tls_unique.data, server->tls_unique.len);
		}
		break;
	case GSASL_CB_TLS_EXPORTER:
		if (server->tls_exporter.len > 0) {
			return set_base64(session, property, server->tls_exporter.data,
				server->tls_exporter.len);
		}
		break;
	}
	return GSASL_NO_CALLBACK;
}

static void server_init(struct server *server)
{
	assert_int_equal(gsasl_init(&server->library), GSASL_OK);
	gsasl_callback_hook_set(server->library, server);
	gsasl_callback_set(server->library, serve);
	assert_int_equal(
		gsasl_server_start(server->library, server->mechanism, &server->session), GSASL_OK);
}

static void server_done(struct server *server)
{
	gsasl_finish(server->session);
	gsasl_done(server->library);
}

/* One response to the server and its answer to the client. Returns what libgsasl's server says. */
static int exchange(
	struct server *server, struct imap_sasl *sasl, char **challenge, int *client_error)
{
	struct bytes response;
	char *text;
	int rc;

	bytes_init(&response);
	*client_error = imap_sasl_step(sasl, span_of(*challenge), &response);
	gsasl_free(*challenge);
	*challenge = NULL;
	text = bytes_steal(&response);
	assert_non_null(text);
	rc = *client_error == 0 ? gsasl_step64(server->session, text, challenge) : GSASL_OK;
	free(text);
	if (*challenge == NULL) {
		*challenge = strdup("");
	}
	return rc;
}

static void assert_scram(struct server server, const struct imap_credentials *credentials,
	int expected_server, int expected_client)
{
	struct imap_sasl *sasl = new_sasl(server.mechanism, credentials);
	char *challenge = strdup("");
	int r = 0;
	int rc;

	server_init(&server);
	assert_true(imap_sasl_is_client_first(sasl));
	rc = exchange(&server, sasl, &challenge, &r);
	if (rc == GSASL_NEEDS_MORE) {
		assert_int_equal(r, 0);
		assert_false(imap_sasl_is_complete(sasl));
		rc = exchange(&server, sasl, &challenge, &r);
	}
	assert_int_equal(rc, expected_server);
	if (rc == GSASL_OK) {
		/* The server is content and its proof is on the way: not complete without it. */
		assert_false(imap_sasl_is_complete(sasl));
		r = step_error(sasl, challenge);
		assert_int_equal(r, expected_client);
		assert_int_equal(imap_sasl_is_complete(sasl), r == 0);
		assert_int_equal(step_error(sasl, challenge), -EBADMSG);
	}
	assert_false(imap_sasl_is_complete(sasl));
	gsasl_free(challenge);
	imap_sasl_free(sasl);
	server_done(&server);
}

static const char *const scram_names[] = {
	"SCRAM-SHA-1",
	"SCRAM-SHA-256",
	"SCRAM-SHA-1-PLUS",
	"SCRAM-SHA-256-PLUS",
};

#define N_SCRAM (sizeof(scram_names) / sizeof(scram_names[0]))

static void test_scram(void **state)
{
	static const struct {
		const char *user;
		const char *given;
		const char *stored; /* as SASLprep makes it */
	} people[] = {
		{"user", "pencil", "pencil"}, {"a=b,c", "pen,cil=", "pen,cil="},
		{"m\u00fcller", "p\u00e4ss\u00a0wort", "p\u00e4ss wort"},
		{"user", "I\u00adX \u2168", "IX IX"}, /* RFC 4013 section 3 */
	};

	(void)state;
	for (size_t i = 0; i < N_SCRAM; i++) {
		for (size_t p = 0; p < sizeof(people) / sizeof(people[0]); p++) {
			const struct imap_credentials credentials = {
				.user = people[p].user,
				.kind = IMAP_SECRET_PASSWORD,
				.secret = people[p].given,
				.tls_exporter = exporter,
			};
			const struct server server = {
				.mechanism = scram_names[i],
				.password = people[p].stored,
				.iterations = ITERATIONS,
				.tls_exporter = strstr(scram_names[i], "PLUS") ? exporter
									       : (struct span){0},
			};

			assert_scram(server, &credentials, GSASL_OK, 0);
		}
	}
}

static void test_scram_wrong_password(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_SCRAM; i++) {
		const struct imap_credentials credentials = {
			.user = "user",
			.kind = IMAP_SECRET_PASSWORD,
			.secret = "pencils",
			.tls_exporter = exporter,
		};
		const struct server server = {
			.mechanism = scram_names[i],
			.password = "pencil",
			.iterations = ITERATIONS,
			.tls_exporter =
				strstr(scram_names[i], "PLUS") ? exporter : (struct span){0},
		};

		assert_scram(server, &credentials, GSASL_AUTHENTICATION_ERROR, 0);
	}
}

/* A server that has the stored key (from a leak), but cannot prove that it knows the password. */
static void test_scram_wrong_server_signature(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_SCRAM; i++) {
		const struct imap_credentials credentials = {
			.user = "user",
			.kind = IMAP_SECRET_PASSWORD,
			.secret = "pencil",
			.tls_exporter = exporter,
		};
		const struct server server = {
			.mechanism = scram_names[i],
			.password = "pencil",
			.iterations = ITERATIONS,
			.tls_exporter =
				strstr(scram_names[i], "PLUS") ? exporter : (struct span){0},
			.has_wrong_server_key = true,
		};

		assert_scram(server, &credentials, GSASL_OK, -EBADMSG);
	}
}

/* tls-unique where there is one (until TLS 1.2), else tls-exporter; somebody in between has
 * another. */
static void test_scram_bindings(void **state)
{
	static const struct span other = {(const uint8_t *)"another!", 8};
	const struct {
		struct span client_unique, client_exporter, server_unique, server_exporter;
		int expected;
	} rows[] = {
		{unique, {0}, unique, {0}, GSASL_OK},
		{unique, exporter, unique, exporter, GSASL_OK},
		{{0}, exporter, unique, exporter, GSASL_OK},
		{unique, {0}, unique, exporter, GSASL_OK},
		{unique, {0}, other, {0}, GSASL_AUTHENTICATION_ERROR},
		{{0}, exporter, {0}, other, GSASL_AUTHENTICATION_ERROR},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct imap_credentials credentials = {
			.user = "user",
			.kind = IMAP_SECRET_PASSWORD,
			.secret = "pencil",
			.tls_unique = rows[i].client_unique,
			.tls_exporter = rows[i].client_exporter,
		};
		const struct server server = {
			.mechanism = "SCRAM-SHA-256-PLUS",
			.password = "pencil",
			.iterations = ITERATIONS,
			.tls_unique = rows[i].server_unique,
			.tls_exporter = rows[i].server_exporter,
		};

		assert_scram(server, &credentials, rows[i].expected, 0);
	}
}

static void test_scram_first_message(void **state)
{
	static const struct {
		const char *mechanism;
		struct span unique, exporter;
		const char *expected;
	} rows[] = {
		{"SCRAM-SHA-1", {0}, {0}, "n,,n=us=2Cer,r="},
		{"SCRAM-SHA-1", {(const uint8_t *)"u", 1}, {(const uint8_t *)"e", 1},
			"n,,n=us=2Cer,r="},
		{"SCRAM-SHA-1-PLUS", {(const uint8_t *)"u", 1}, {0}, "p=tls-unique,,n=us=2Cer,r="},
		{"SCRAM-SHA-256-PLUS", {(const uint8_t *)"u", 1}, {(const uint8_t *)"e", 1},
			"p=tls-unique,,n=us=2Cer,r="},
		{"SCRAM-SHA-256-PLUS", {0}, {(const uint8_t *)"e", 1},
			"p=tls-exporter,,n=us=2Cer,r="},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct imap_credentials credentials = {
			.user = "us,er",
			.kind = IMAP_SECRET_PASSWORD,
			.secret = "pencil",
			.tls_unique = rows[i].unique,
			.tls_exporter = rows[i].exporter,
		};
		struct imap_sasl *sasl = new_sasl(rows[i].mechanism, &credentials);
		struct bytes response;
		char *text = NULL;
		size_t len = 0;

		bytes_init(&response);
		assert_int_equal(imap_sasl_step(sasl, span_of(""), &response), 0);
		assert_int_equal(gsasl_base64_from((const char *)bytes_span(&response).data,
					 bytes_len(&response), &text, &len),
			GSASL_OK);
		assert_true(len >= strlen(rows[i].expected) + 16);
		assert_memory_equal(text, rows[i].expected, strlen(rows[i].expected));
		free(text);
		bytes_done(&response);
		imap_sasl_free(sasl);
	}
}

/* The first message of the server, with the client's nonce in place of "%s", and what the client
 * makes of it. */
static int answer_server_first(const char *before, const char *after)
{
	struct imap_sasl *sasl = new_sasl("SCRAM-SHA-1", &password);
	struct bytes response;
	struct bytes message;
	char *client_first = NULL;
	char *challenge;
	size_t len = 0;
	int r;

	bytes_init(&response);
	bytes_init(&message);
	assert_int_equal(imap_sasl_step(sasl, span_of(""), &response), 0);
	assert_int_equal(gsasl_base64_from((const char *)bytes_span(&response).data,
				 bytes_len(&response), &client_first, &len),
		GSASL_OK);
	bytes_put_str(&message, before);
	bytes_put(&message, client_first + strlen("n,,n=tim,r="), len - strlen("n,,n=tim,r="));
	bytes_put_str(&message, after);
	challenge = base64((const char *)bytes_span(&message).data, bytes_len(&message));
	r = imap_sasl_step(sasl, span_of(challenge), &response);
	assert_false(imap_sasl_is_complete(sasl));
	free(challenge);
	free(client_first);
	bytes_done(&message);
	bytes_done(&response);
	imap_sasl_free(sasl);
	return r;
}

static void test_scram_server_first(void **state)
{
	static const struct {
		const char *before;
		const char *after;
		int expected;
	} rows[] = {
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=4096", 0},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=1", 0},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=4096,x=extension", 0},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=1000001", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=2147483648", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=4294967297", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=18446744073709551617", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=99999999999999999999999999999999", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=0", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=-1", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i= 4096", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92,i=4096x", -EBADMSG},
		{"r=", "3rfc,s=QSXCR+Q6sek8bf92", -EBADMSG},
		{"r=", "3rfc,i=4096,s=QSXCR+Q6sek8bf92", -EBADMSG},
		{"r=", "3rfc,s=***,i=4096", -EBADMSG},
		{"r=", "3rfc,s=,i=4096", -EBADMSG},
		{"r=x", ",s=QSXCR+Q6sek8bf92,i=4096", -EBADMSG}, /* not our nonce */
		{"m=ext,r=", "3rfc,s=QSXCR+Q6sek8bf92,i=4096", -EBADMSG},
		{"e=unknown-user,", "", -EBADMSG},
		{"", "", -EBADMSG},
	};
	const clock_t start = clock();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (answer_server_first(rows[i].before, rows[i].after) != rows[i].expected) {
			fail_msg("%s...%s", rows[i].before, rows[i].after);
		}
	}
	/* No row may buy minutes of processor time. */
	assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
}

static void test_scram_hostile(void **state)
{
	static const char *const rows[] = {
		"", "=", "====", "r=abc,s=QSXCR,i=1", "AAAAAAAAAAAAAAAAAAAAAAAA",
		"cj1hLHM9Yixp", /* cut off */
		"dj1hYmNkZWY=", /* the last message first */
	};
	struct imap_sasl *sasl;
	char *huge;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sasl = new_sasl("SCRAM-SHA-256", &password);
		assert_int_equal(step_error(sasl, ""), 0);
		assert_int_equal(step_error(sasl, rows[i]), -EBADMSG);
		assert_int_equal(step_error(sasl, rows[i]), -EBADMSG);
		imap_sasl_free(sasl);
	}

	huge = malloc(4 * 1024 * 1024 + 1);
	assert_non_null(huge);
	memset(huge, 'A', 4 * 1024 * 1024);
	huge[4 * 1024 * 1024] = '\0';
	for (size_t i = 0; i < N_SCRAM / 2; i++) {
		sasl = new_sasl(scram_names[i], &password);
		assert_int_equal(step_error(sasl, ""), 0);
		assert_int_equal(step_error(sasl, huge), -EBADMSG);
		imap_sasl_free(sasl);
	}
	free(huge);
}

/* The limit of a challenge, which is one of the encoded line. */
static void test_challenge_limit(void **state)
{
	static char challenge[12288 + 4 + 1];
	struct imap_sasl *sasl;

	(void)state;
	memset(challenge, 'Q', sizeof(challenge) - 1);
	sasl = new_sasl("CRAM-MD5", &password);
	assert_int_equal(step_error(sasl, challenge), -EBADMSG);
	imap_sasl_free(sasl);

	challenge[12288] = '\0';
	sasl = new_sasl("CRAM-MD5", &password);
	assert_int_equal(step_error(sasl, challenge), 0);
	assert_true(imap_sasl_is_complete(sasl));
	imap_sasl_free(sasl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_choose_unprepared),
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_usable),
		cmocka_unit_test(test_bad_credentials),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_plain_utf8),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_cram_md5),
		cmocka_unit_test(test_external),
		cmocka_unit_test(test_response_is_appended),
		cmocka_unit_test(test_failed_buffer),
		cmocka_unit_test(test_oauthbearer),
		cmocka_unit_test(test_oauthbearer_escapes),
		cmocka_unit_test(test_xoauth2),
		cmocka_unit_test(test_token_problem),
		cmocka_unit_test(test_scram),
		cmocka_unit_test(test_scram_wrong_password),
		cmocka_unit_test(test_scram_wrong_server_signature),
		cmocka_unit_test(test_scram_bindings),
		cmocka_unit_test(test_scram_first_message),
		cmocka_unit_test(test_scram_server_first),
		cmocka_unit_test(test_scram_hostile),
		cmocka_unit_test(test_challenge_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
