#include <errno.h>
#include <gsasl.h>
#include <stdlib.h>
#include <string.h>

#include "imap/oauth.h"
#include "imap/sasl.h"
#include "util/text.h"

/* RFC 4954 section 4 gives this size to a line of an exchange; IMAP has no number of its own. */
#define CHALLENGE_MAX 12288

/* PBKDF2 runs in our only thread. Servers ask for 4,096 to some 100,000 rounds; what is beyond this
 * is there to keep us busy (RFC 5802 section 9 knows of no upper bound). */
#define ITERATIONS_MAX 1000000

enum family {
	FAMILY_SCRAM,
	FAMILY_CRAM,
	FAMILY_PLAIN,
	FAMILY_LOGIN,
	FAMILY_OAUTHBEARER,
	FAMILY_XOAUTH2,
	FAMILY_EXTERNAL,
};

struct mechanism {
	const char *name;
	enum imap_secret_kind kind;
	enum family family;
	bool is_client_first;
	bool is_plus; /* binds the TLS channel */
};

/* The strongest first. */
static const struct mechanism mechanisms[] = {
	{"SCRAM-SHA-256-PLUS", IMAP_SECRET_PASSWORD, FAMILY_SCRAM, true, true},
	{"SCRAM-SHA-1-PLUS", IMAP_SECRET_PASSWORD, FAMILY_SCRAM, true, true},
	{"SCRAM-SHA-256", IMAP_SECRET_PASSWORD, FAMILY_SCRAM, true, false},
	{"SCRAM-SHA-1", IMAP_SECRET_PASSWORD, FAMILY_SCRAM, true, false},
	{"CRAM-MD5", IMAP_SECRET_PASSWORD, FAMILY_CRAM, false, false},
	{"PLAIN", IMAP_SECRET_PASSWORD, FAMILY_PLAIN, true, false},
	{"LOGIN", IMAP_SECRET_PASSWORD, FAMILY_LOGIN, false, false},
	{"OAUTHBEARER", IMAP_SECRET_TOKEN, FAMILY_OAUTHBEARER, true, false},
	{"XOAUTH2", IMAP_SECRET_TOKEN, FAMILY_XOAUTH2, true, false},
	{"EXTERNAL", IMAP_SECRET_NONE, FAMILY_EXTERNAL, true, false},
};

#define N_MECHANISMS (sizeof(mechanisms) / sizeof(mechanisms[0]))

enum state {
	STATE_START,    /* nothing was said yet */
	STATE_EXCHANGE, /* at least one step, and more are to come */
	STATE_COMPLETE, /* the mechanism is content: the tagged OK is next */
	STATE_REFUSED,  /* OAuth: the error object was answered, the tagged NO is next */
	STATE_FAILED,
};

struct imap_sasl {
	const struct mechanism *mechanism;
	enum state state;
	unsigned int n_steps;
	char *user;
	char *secret;
	char *host;
	uint16_t port;
	char *tls_unique; /* in base64, as libgsasl wants it; NULL where there is none */
	char *tls_exporter;
	Gsasl *library; /* NULL for OAuth */
	Gsasl_session *session;
	char *problem;
};

static void wipe_free(char *secret, size_t len)
{
	if (secret != NULL) {
		explicit_bzero(secret, len);
		free(secret);
	}
}

static void wipe_freep(char **secret)
{
	if (*secret != NULL) {
		wipe_free(*secret, strlen(*secret));
	}
}

static const struct mechanism *find_mechanism(struct span name)
{
	for (size_t i = 0; i < N_MECHANISMS; i++) {
		if (span_equal_nocase(name, mechanisms[i].name)) {
			return &mechanisms[i];
		}
	}
	return NULL;
}

static bool is_offered(
	const char *mechanism, const struct span *capabilities, size_t n_capabilities)
{
	for (size_t i = 0; i < n_capabilities; i++) {
		const struct span word = capabilities[i];

		if (word.len <= 5 || !span_equal_nocase((struct span){word.data, 5}, "AUTH=")) {
			continue;
		}
		if (span_equal_nocase((struct span){word.data + 5, word.len - 5}, mechanism)) {
			return true;
		}
	}
	return false;
}

static bool has_channel_binding(const struct imap_credentials *credentials)
{
	return credentials->tls_unique.len > 0 || credentials->tls_exporter.len > 0;
}

/* The flag that the mechanisms of libgsasl use; in 2.2 it does the opposite of what it says. */
static int prepare(const char *text)
{
	char *prepared = NULL;
	const int rc = gsasl_saslprep(text, GSASL_ALLOW_UNASSIGNED, &prepared, NULL);

	if (prepared != NULL) {
		explicit_bzero(prepared, strlen(prepared));
		gsasl_free(prepared);
	}
	if (rc == GSASL_MALLOC_ERROR) {
		return -ENOMEM;
	}
	return rc == GSASL_OK ? 0 : -EINVAL;
}

/* libgsasl has SASLprep with the tables of Unicode 3.2 and refuses a user or a password with
 * characters that came later, emoji among them, where it hashes them; PLAIN and LOGIN carry any. */
static int prepare_credentials(
	const struct mechanism *mechanism, const struct imap_credentials *credentials)
{
	int r = 0;

	if (mechanism->family != FAMILY_SCRAM && mechanism->family != FAMILY_CRAM) {
		return 0;
	}
	if (credentials->user != NULL) {
		r = prepare(credentials->user);
	}
	if (r == 0 && credentials->secret != NULL) {
		r = prepare(credentials->secret);
	}
	return r;
}

const char *imap_sasl_choose(const struct imap_credentials *credentials,
	const struct span *capabilities, size_t n_capabilities, bool without_plus)
{
	for (size_t i = 0; i < N_MECHANISMS; i++) {
		const struct mechanism *mechanism = &mechanisms[i];

		if (mechanism->kind != credentials->kind) {
			continue;
		}
		if (mechanism->is_plus && (without_plus || !has_channel_binding(credentials))) {
			continue;
		}
		if (is_offered(mechanism->name, capabilities, n_capabilities) &&
			prepare_credentials(mechanism, credentials) != -EINVAL) {
			return mechanism->name;
		}
	}
	return NULL;
}

const char *imap_sasl_canonical(const char *name)
{
	const struct mechanism *mechanism = find_mechanism(span_of(name));

	return mechanism != NULL ? mechanism->name : NULL;
}

bool imap_sasl_is_usable(const char *name, enum imap_secret_kind kind)
{
	const struct mechanism *mechanism = find_mechanism(span_of(name));

	return mechanism != NULL && mechanism->kind == kind;
}

static bool is_oauth(const struct mechanism *mechanism)
{
	return mechanism->family == FAMILY_OAUTHBEARER || mechanism->family == FAMILY_XOAUTH2;
}

/* The errors of libgsasl that are not its own lack of memory come from what the server said: what
 * the person gave was looked at in imap_sasl_new(). */
static int library_error(int rc)
{
	return rc == GSASL_MALLOC_ERROR ? -ENOMEM : -EBADMSG;
}

/* libgsasl fails SCRAM without PLUS as soon as a channel binding can be had, since it then says "y"
 * and means that the server has been tampered with (RFC 5802 section 6); a server that has PLUS but
 * only for another type of binding is no such case. So bindings are offered to PLUS alone. */
static int give_property(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
	const struct imap_sasl *sasl = gsasl_callback_hook_get(library);
	const char *value = NULL;

	switch ((int)property) {
	case GSASL_AUTHID:
		value = sasl->user;
		break;
	case GSASL_AUTHZID:
		value = sasl->mechanism->family == FAMILY_EXTERNAL ? sasl->user : NULL;
		break;
	case GSASL_PASSWORD:
		value = sasl->secret;
		break;
	case GSASL_CB_TLS_EXPORTER:
		/* libgsasl would take the exporter where there are both; but until TLS 1.3, which
		 * has no tls-unique, that one is the default (RFC 5802 section 6.1, RFC 9266
		 * section 3). */
		value = sasl->mechanism->is_plus && !sasl->tls_unique ? sasl->tls_exporter : NULL;
		break;
	case GSASL_CB_TLS_UNIQUE:
		value = sasl->mechanism->is_plus ? sasl->tls_unique : NULL;
		break;
	}
	if (value == NULL) {
		return GSASL_NO_CALLBACK;
	}
	return gsasl_property_set(session, property, value);
}

/* The library has no call that wipes; what it hands out is the live copy, which nobody reads
 * between this and its release. Out of reach are the copies that it makes and frees within one
 * step. */
static void wipe_properties(Gsasl_session *session)
{
	static const Gsasl_property secrets[] = {
		GSASL_PASSWORD,
		GSASL_SCRAM_SALTED_PASSWORD,
		GSASL_SCRAM_SERVERKEY,
		GSASL_SCRAM_STOREDKEY,
	};

	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
		const char *value = gsasl_property_fast(session, secrets[i]);

		if (value != NULL) {
			explicit_bzero((void *)(uintptr_t)value, strlen(value));
			gsasl_property_free(session, secrets[i]);
		}
	}
}

static int check_credentials(
	const struct mechanism *mechanism, const struct imap_credentials *credentials)
{
	const char *user = credentials->user != NULL ? credentials->user : "";
	const char *secret = credentials->secret != NULL ? credentials->secret : "";
	const char *host = credentials->host != NULL ? credentials->host : "";

	if (user[0] == '\0' && mechanism->family != FAMILY_EXTERNAL) {
		return -EINVAL;
	}
	if (credentials->secret == NULL && mechanism->kind != IMAP_SECRET_NONE) {
		return -EINVAL;
	}
	if (!text_is_utf8(span_of(user)) || !text_is_utf8(span_of(secret))) {
		return -EINVAL;
	}
	if (is_oauth(mechanism) &&
		(strchr(user, '\1') != NULL || strchr(secret, '\1') != NULL ||
			strchr(host, '\1') != NULL)) {
		return -EINVAL;
	}
	return prepare_credentials(mechanism, credentials);
}

/* NULL for an empty binding, too. */
static int encode_binding(struct span binding, char **ret_text)
{
	char *text = NULL;
	int rc;

	if (binding.len == 0) {
		*ret_text = NULL;
		return 0;
	}
	rc = gsasl_base64_to((const char *)binding.data, binding.len, &text, NULL);
	if (rc != GSASL_OK) {
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}

static int copy_credentials(struct imap_sasl *sasl, const struct imap_credentials *credentials)
{
	int r;

	sasl->user = strdup(credentials->user != NULL ? credentials->user : "");
	sasl->secret = strdup(credentials->secret != NULL ? credentials->secret : "");
	sasl->host = strdup(credentials->host != NULL ? credentials->host : "");
	sasl->port = credentials->port;
	sasl->problem = strdup("");
	if (sasl->user == NULL || sasl->secret == NULL || sasl->host == NULL ||
		sasl->problem == NULL) {
		return -ENOMEM;
	}
	r = encode_binding(credentials->tls_unique, &sasl->tls_unique);
	if (r < 0) {
		return r;
	}
	return encode_binding(credentials->tls_exporter, &sasl->tls_exporter);
}

static int start_library(struct imap_sasl *sasl)
{
	int rc;

	rc = gsasl_init(&sasl->library);
	if (rc != GSASL_OK) {
		sasl->library = NULL;
		return -ENOMEM;
	}
	gsasl_callback_hook_set(sasl->library, sasl);
	gsasl_callback_set(sasl->library, give_property);

	rc = gsasl_client_start(sasl->library, sasl->mechanism->name, &sasl->session);
	if (rc != GSASL_OK) {
		sasl->session = NULL;
		return rc == GSASL_UNKNOWN_MECHANISM ? -EOPNOTSUPP : -ENOMEM;
	}
	return 0;
}

static void imap_sasl_freep(struct imap_sasl **sasl)
{
	imap_sasl_free(*sasl);
}

int imap_sasl_new(
	const char *name, const struct imap_credentials *credentials, struct imap_sasl **ret_sasl)
{
	const struct mechanism *mechanism = find_mechanism(span_of(name));
	__attribute__((cleanup(imap_sasl_freep))) struct imap_sasl *sasl = NULL;
	int r;

	if (mechanism == NULL || mechanism->kind != credentials->kind ||
		(mechanism->is_plus && !has_channel_binding(credentials))) {
		return -EOPNOTSUPP;
	}
	r = check_credentials(mechanism, credentials);
	if (r < 0) {
		return r;
	}

	sasl = calloc(1, sizeof(*sasl));
	if (sasl == NULL) {
		return -ENOMEM;
	}
	sasl->mechanism = mechanism;
	r = copy_credentials(sasl, credentials);
	if (r < 0) {
		return r;
	}
	if (!is_oauth(mechanism)) {
		r = start_library(sasl);
		if (r < 0) {
			return r;
		}
	}
	*ret_sasl = sasl;
	sasl = NULL;
	return 0;
}

struct imap_sasl *imap_sasl_free(struct imap_sasl *sasl)
{
	if (sasl == NULL) {
		return NULL;
	}
	if (sasl->session != NULL) {
		wipe_properties(sasl->session);
		gsasl_finish(sasl->session);
	}
	if (sasl->library != NULL) {
		gsasl_done(sasl->library);
	}
	wipe_freep(&sasl->user);
	wipe_freep(&sasl->secret);
	wipe_freep(&sasl->tls_unique);
	wipe_freep(&sasl->tls_exporter);
	free(sasl->host);
	free(sasl->problem);
	free(sasl);
	return NULL;
}

bool imap_sasl_is_client_first(const struct imap_sasl *sasl)
{
	return sasl->mechanism->is_client_first;
}

static int put_base64(struct bytes *response, const void *data, size_t len)
{
	char *text = NULL;
	size_t text_len = 0;
	int rc;

	if (len == 0) {
		return response->error;
	}
	rc = gsasl_base64_to(data, len, &text, &text_len);
	if (rc != GSASL_OK) {
		return -ENOMEM;
	}
	/* One reservation, so that a buffer that grows leaves no part of a secret behind. */
	if (bytes_reserve(response, text_len) != NULL) {
		bytes_put(response, text, text_len);
	}
	wipe_free(text, text_len);
	return response->error;
}

/* ret_data is NULL for an empty challenge, and has no final NUL. */
static int decode_challenge(struct span challenge, char **ret_data, size_t *ret_len)
{
	char *data = NULL;
	size_t len = 0;
	int rc;

	if (challenge.len > CHALLENGE_MAX) {
		return -EBADMSG;
	}
	if (challenge.len > 0) {
		rc = gsasl_base64_from((const char *)challenge.data, challenge.len, &data, &len);
		if (rc != GSASL_OK) {
			return library_error(rc);
		}
	}
	*ret_data = data;
	*ret_len = len;
	return 0;
}

/* Takes "X=value" and the comma behind it, if one is there, off the front. */
static bool take_attribute(struct span *message, char name, struct span *ret_value)
{
	const uint8_t *comma;
	size_t len;

	if (message->len < 2 || message->data[0] != name || message->data[1] != '=') {
		return false;
	}
	comma = memchr(message->data, ',', message->len);
	len = comma != NULL ? (size_t)(comma - message->data) : message->len;
	*ret_value = (struct span){.data = message->data + 2, .len = len - 2};
	if (comma != NULL) {
		len++;
	}
	*message = (struct span){.data = message->data + len, .len = message->len - len};
	return true;
}

/* RFC 5802 section 7: server-first-message = nonce "," salt "," iteration-count ["," extensions];
 * read here for the sake of the iteration count alone. */
static bool is_server_first_affordable(struct span message)
{
	struct span nonce;
	struct span salt;
	struct span iterations;
	uint32_t count = 0;

	if (!take_attribute(&message, 'r', &nonce) || !take_attribute(&message, 's', &salt) ||
		!take_attribute(&message, 'i', &iterations)) {
		return false;
	}
	for (size_t i = 0; i < iterations.len; i++) {
		if (iterations.data[i] < '0' || iterations.data[i] > '9') {
			return false;
		}
		count = count * 10 + (iterations.data[i] - '0');
		if (count > ITERATIONS_MAX) {
			return false;
		}
	}
	return count >= 1;
}

/* A CRAM-MD5 challenge without content would be a fixed text to sign; "LOGIN" prompts with whatever
 * it likes. No mechanism has a NUL in a challenge, and libgsasl takes some of them for strings. */
static bool is_challenge_acceptable(const struct imap_sasl *sasl, struct span challenge)
{
	if (challenge.len > 0 && memchr(challenge.data, '\0', challenge.len) != NULL) {
		return false;
	}
	switch (sasl->mechanism->family) {
	case FAMILY_SCRAM:
		return sasl->n_steps != 1 || is_server_first_affordable(challenge);
	case FAMILY_CRAM:
		return challenge.len > 0;
	case FAMILY_PLAIN:
	case FAMILY_LOGIN:
	case FAMILY_EXTERNAL:
	case FAMILY_OAUTHBEARER:
	case FAMILY_XOAUTH2:
		return true;
	}
	return false;
}

static int step_library(struct imap_sasl *sasl, struct span challenge, struct bytes *response)
{
	char *output = NULL;
	size_t len = 0;
	int rc;
	int r;

	if (!is_challenge_acceptable(sasl, challenge)) {
		return -EBADMSG;
	}
	rc = gsasl_step(sasl->session, challenge.len > 0 ? (const char *)challenge.data : "",
		challenge.len, &output, &len);
	wipe_properties(sasl->session);
	if (rc != GSASL_OK && rc != GSASL_NEEDS_MORE) {
		gsasl_free(output);
		return library_error(rc);
	}
	r = put_base64(response, output, len);
	wipe_free(output, len);
	if (r < 0) {
		return r;
	}
	sasl->state = rc == GSASL_OK ? STATE_COMPLETE : STATE_EXCHANGE;
	return 0;
}

/* RFC 7628 section 3.2.3: after the error object the client sends one octet, control-A, so that the
 * server can say NO; Google's XOAUTH2 takes an empty line for the same. */
static int answer_problem(struct imap_sasl *sasl, struct span challenge, struct bytes *response)
{
	char *problem = imap_oauth_problem(challenge);

	if (problem == NULL) {
		return -ENOMEM;
	}
	free(sasl->problem);
	sasl->problem = problem;
	sasl->state = STATE_REFUSED;
	if (sasl->mechanism->family == FAMILY_OAUTHBEARER) {
		return put_base64(response, "\1", 1);
	}
	return 0;
}

static int step_oauth(struct imap_sasl *sasl, struct span challenge, struct bytes *response)
{
	struct bytes message;
	int r;

	if (sasl->state == STATE_COMPLETE) {
		return answer_problem(sasl, challenge, response);
	}
	bytes_init(&message);
	r = imap_oauth_put(&message,
		sasl->mechanism->family == FAMILY_OAUTHBEARER ? IMAP_OAUTH_BEARER
							      : IMAP_OAUTH_GOOGLE,
		sasl->user, sasl->secret, sasl->host, sasl->port);
	if (r == 0) {
		r = put_base64(response, bytes_span(&message).data, bytes_len(&message));
	}
	bytes_wipe(&message);
	if (r == 0) {
		sasl->state = STATE_COMPLETE;
	}
	return r;
}

/* Whether the mechanism takes another challenge. libgsasl does not keep watch over this: after the
 * end of PLAIN it gives the password again to whoever asks. */
static bool wants_challenge(const struct imap_sasl *sasl)
{
	switch (sasl->state) {
	case STATE_START:
	case STATE_EXCHANGE:
		return true;
	case STATE_COMPLETE:
		return is_oauth(sasl->mechanism);
	case STATE_REFUSED:
	case STATE_FAILED:
		return false;
	}
	return false;
}

static int step(struct imap_sasl *sasl, struct span challenge, struct bytes *response)
{
	char *data = NULL;
	size_t len = 0;
	struct span decoded = {0};
	int r;

	if (!wants_challenge(sasl)) {
		return -EBADMSG;
	}
	/* What a server says before a client that speaks first is a prompt at best, no challenge.
	 */
	if (sasl->n_steps > 0 || !sasl->mechanism->is_client_first) {
		r = decode_challenge(challenge, &data, &len);
		if (r < 0) {
			return r;
		}
		decoded = (struct span){.data = (const uint8_t *)data, .len = len};
	}
	r = is_oauth(sasl->mechanism) ? step_oauth(sasl, decoded, response)
				      : step_library(sasl, decoded, response);
	free(data);
	return r;
}

int imap_sasl_step(struct imap_sasl *sasl, struct span challenge, struct bytes *response)
{
	const int r = step(sasl, challenge, response);

	if (r < 0) {
		sasl->state = STATE_FAILED;
	}
	sasl->n_steps++;
	return r;
}

bool imap_sasl_is_complete(const struct imap_sasl *sasl)
{
	return sasl->state == STATE_COMPLETE;
}

const char *imap_sasl_token_problem(const struct imap_sasl *sasl)
{
	return sasl->problem;
}
