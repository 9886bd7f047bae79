#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/engine.h"
#include "imap/trace.h"
#include "imap/writer.h"
#include "util/log.h"

/* -- capabilities -- */

void take_capabilities(struct imap_client *client, const struct span *words, size_t n_words)
{
	struct bytes copy;
	bytes_init(&copy);
	for (size_t i = 0; i < n_words; i++) {
		for (size_t k = 0; k < words[i].len; k++) {
			uint8_t c = words[i].data[k];
			bytes_put_char(&copy, c >= 'a' && c <= 'z' ? (char)(c - 32) : (char)c);
		}
		bytes_put_char(&copy, '\0');
	}
	struct span *spans = calloc(n_words + 1, sizeof(*spans));
	if (!spans || copy.error < 0) {
		free(spans);
		bytes_done(&copy);
		client_fail_memory(client);
		return;
	}
	bytes_done(&client->capability_words);
	free(client->capabilities);
	client->capability_words = copy;
	client->capabilities = spans;
	client->n_capabilities = n_words;
	const uint8_t *p = bytes_span(&client->capability_words).data;
	for (size_t i = 0; i < n_words; i++) {
		spans[i] = (struct span){.data = p, .len = words[i].len};
		p += words[i].len + 1;
	}
	client->has_capabilities = true;
	client->has_condstore = imap_client_has_capability(client, "CONDSTORE") ||
		imap_client_has_capability(client, "QRESYNC");
	if (imap_client_has_capability(client, "IMAP4REV2") &&
		!imap_client_has_capability(client, "IMAP4REV1")) {
		client->has_rev2 = true;
		client->has_utf8 = true;
	}
}

void take_words(struct imap_client *client, const char *words)
{
	size_t n = 0;
	struct span *spans = calloc(strlen(words) / 2 + 1, sizeof(*spans));
	if (!spans) {
		client_fail_memory(client);
		return;
	}
	/* A server may name empty words, in quotes. */
	for (const char *p = words + strspn(words, " "); *p != '\0'; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");
		spans[n++] = (struct span){.data = (const uint8_t *)p, .len = len};
		p += len;
	}
	take_capabilities(client, spans, n);
	free(spans);
}

/* The capabilities as a memory has them. It is no harm if it cannot be kept. */
static void keep_words(const struct imap_client *client, char **words)
{
	struct bytes bytes;
	bytes_init(&bytes);
	for (size_t i = 0; i < client->n_capabilities; i++) {
		struct span word = client->capabilities[i];
		bytes_put_str(&bytes, i > 0 ? " " : "");
		bytes_put(&bytes, word.data, word.len);
	}
	free(*words);
	*words = bytes_len(&bytes) <= IMAP_MEMORY_MAX ? bytes_steal(&bytes) : NULL;
	bytes_done(&bytes);
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

void login_recall(struct imap_client *client)
{
	struct imap_memory *past = &client->past;
	if (client->is_preauth || client->options.is_stepwise ||
		!is_same(past->greeting, client->memory.greeting)) {
		imap_memory_done(past);
	} else if (!client->has_capabilities && past->before && past->login_is_whole) {
		take_words(client, past->before);
	}
}

void imap_client_take_memory(struct imap_client *client, struct imap_memory *memory)
{
	*memory = client->memory;
	memory->mechanism = client->mechanism;
	memory->login_is_whole = client->login_is_whole;
	memory->has_qresync = client->has_qresync;
	memory->has_utf8 = client->has_utf8;
	client->memory = (struct imap_memory){0};
}

bool has_extension(const struct imap_client *client, const char *word)
{
	/* RFC 9051 appendix E: extensions that became part of the protocol. */
	static const char *const implied[] = {"NAMESPACE", "UNSELECT", "UIDPLUS", "ESEARCH",
		"SEARCHRES", "ENABLE", "IDLE", "SASL-IR", "LIST-EXTENDED", "LIST-STATUS", "MOVE",
		"LITERAL-", "SPECIAL-USE"};
	if (imap_client_has_capability(client, word)) {
		return true;
	}
	for (size_t i = 0; client->has_rev2 && i < sizeof(implied) / sizeof(implied[0]); i++) {
		if (strcmp(implied[i], word) == 0) {
			return true;
		}
	}
	return false;
}

void take_enabled(struct imap_client *client, const struct imap_response *response)
{
	for (size_t i = 0; i < response->n_words; i++) {
		if (span_equal_nocase(response->words[i], "QRESYNC")) {
			client->has_qresync = true;
			client->has_condstore = true;
		} else if (span_equal_nocase(response->words[i], "UTF8=ACCEPT")) {
			client->has_utf8 = true;
		} else if (span_equal_nocase(response->words[i], "IMAP4REV2")) {
			client->has_utf8 = true;
			client->has_rev2 = true;
		}
	}
}

/* -- refusals -- */

static const uint8_t *text_find(struct span text, const char *words)
{
	return text.data ? memmem(text.data, text.len, words, strlen(words)) : NULL;
}

static bool text_has(struct span text, const char *words)
{
	return text_find(text, words) != NULL;
}

/* "Suggested Backoff Time: 92415 milliseconds" */
static uint64_t backoff_in(struct span text)
{
	static const char words[] = "Suggested Backoff Time: ";
	const uint8_t *p = text_find(text, words);
	uint64_t msec = 0;
	if (p) {
		for (p += sizeof(words) - 1;
			p < text.data + text.len && *p >= '0' && *p <= '9' && msec < 300000; p++) {
			msec = msec * 10 + (*p - '0');
		}
	}
	return (msec < 300000 ? msec : 300000) * USEC_PER_MSEC;
}

static bool is_throttling(struct span text)
{
	return text_has(text, "throttled") || text_has(text, "hrottling") ||
		text_has(text, "not connected");
}

bool refusal_is_of_data(const struct imap_response *response)
{
	/* Yahoo: "NO [UNAVAILABLE] FETCH Server error while fetching messages". */
	return response->code == IMAP_CODE_UNAVAILABLE && !is_throttling(response->text);
}

enum imap_end classify_refusal(const struct imap_response *response, uint64_t *ret_retry_after_usec)
{
	struct span text = response->text;
	*ret_retry_after_usec = 0;
	if (response->code == IMAP_CODE_LIMIT || text_has(text, "Too many simultaneous") ||
		text_has(text, "oo many connections") ||
		text_has(text, "Maximum number of connections")) {
		return IMAP_END_LIMIT;
	}
	if (text_has(text, "AccessTokenExpired")) {
		return IMAP_END_TOKEN;
	}
	if (response->code == IMAP_CODE_UNAVAILABLE || response->code == IMAP_CODE_INUSE ||
		is_throttling(text)) {
		*ret_retry_after_usec = backoff_in(text);
		return IMAP_END_THROTTLED;
	}
	return IMAP_END_ORDINARY;
}

/* Whether a NO means that there is no such mailbox. */
static bool refusal_is_of_missing(const struct imap_response *response)
{
	/* RFC 5530 has a code for it, which Dovecot 2.3 does not give. */
	return response->code == IMAP_CODE_NONEXISTENT || response->code == IMAP_CODE_TRYCREATE ||
		text_has(response->text, "doesn't exist") ||
		text_has(response->text, "does not exist") ||
		text_has(response->text, "o such mailbox") ||
		text_has(response->text, "nknown mailbox");
}

void refusal_set(struct failure *failure, const struct imap_response *response)
{
	uint64_t retry_after;
	enum failure_kind kind = FAILURE_SERVER_REFUSED;
	if (refusal_is_of_missing(response)) {
		kind = FAILURE_NO_SUCH_MAILBOX;
	} else if (classify_refusal(response, &retry_after) == IMAP_END_LIMIT) {
		kind = FAILURE_LIMIT_EXCEEDED;
	}
	failure_set(failure, kind, "the server said: %s %.*s", imap_status_name(response->status),
		(int)response->text.len, (const char *)response->text.data);
}

/* -- the way up -- */

void handle_greeting(struct imap_client *client, const struct imap_response *response)
{
	if (response->kind != IMAP_RESPONSE_STATUS_LINE) {
		client_fail(client, FAILURE_PROTOCOL_ERROR,
			"what answers there is no IMAP server: it did not begin with a greeting");
		return;
	}
	if (response->status == IMAP_STATUS_PREAUTH) {
		if (client->options.transport != IMAP_TRANSPORT_TUNNEL) {
			client_fail(client, FAILURE_INSECURE,
				"the server says that we are logged in already (PREAUTH), which "
				"nothing proves");
			return;
		}
		client->is_preauth = true;
	} else if (response->status == IMAP_STATUS_BYE) {
		uint64_t retry_after = 0;
		struct failure failure;
		enum imap_end end = classify_refusal(response, &retry_after);
		if (client->options.transport == IMAP_TRANSPORT_STARTTLS) {
			failure_set(
				&failure, FAILURE_SERVER_REFUSED, "the server said BYE before TLS");
		} else {
			refusal_set(&failure, response);
		}
		client_close(client, &failure, end, retry_after);
		return;
	} else if (response->status != IMAP_STATUS_OK) {
		client_fail(client, FAILURE_PROTOCOL_ERROR,
			"what answers there is no IMAP server: its greeting is %s",
			imap_status_name(response->status));
		return;
	}
	client->has_greeting = true;
	client->phase_deadline = USEC_NEVER;
	if (client->options.transport == IMAP_TRANSPORT_STARTTLS) {
		/* Whatever the server says it has: nothing but TLS will do. */
		enter(client, IMAP_STATE_STARTTLS);
		command_put(client, COMMAND_STARTTLS, NULL, "STARTTLS");
		return;
	}
	if (response->code == IMAP_CODE_CAPABILITY) {
		take_capabilities(client, response->words, response->n_words);
		keep_words(client, &client->memory.greeting);
	}
	login_recall(client);
	login_begin(client);
}

static void put_enable(struct imap_client *client)
{
	static const char *const words[] = {"QRESYNC", "UTF8=ACCEPT", "IMAP4REV2"};
	struct command *command = NULL;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		bool is_offered = imap_client_has_capability(client, words[i]) ||
			(i == 1 && imap_client_has_capability(client, "UTF8=ONLY"));
		if (!is_offered) {
			continue;
		}
		if (!command) {
			command = command_new(client, COMMAND_ENABLE, NULL);
			if (!command) {
				return;
			}
			bytes_put_str(&command->text, "ENABLE");
		}
		bytes_put_char(&command->text, ' ');
		bytes_put_str(&command->text, i == 2 ? "IMAP4rev2" : words[i]);
	}
	if (command) {
		command_end(client, command);
	}
}

/* Say who we are (163.com refuses SELECT before), learn the names' prefix, enable. */
void login_greet_back(struct imap_client *client)
{
	if (imap_client_has_capability(client, "ID")) {
		command_put(client, COMMAND_ID, NULL,
			"ID (\"name\" \"mailidle\" \"version\" \"%s\")", MAILIDLE_VERSION);
	}
	if (has_extension(client, "NAMESPACE")) {
		command_put(client, COMMAND_NAMESPACE, NULL, "NAMESPACE");
	}
	if (has_extension(client, "ENABLE")) {
		put_enable(client);
	}
}

static void greet_back(struct imap_client *client)
{
	enter(client, IMAP_STATE_ENABLE);
	client->no_idle = !has_extension(client, "IDLE");
	keep_words(client, &client->memory.after);
	login_greet_back(client);
	imap_memory_done(&client->past);
	if (!list_is_empty(&client->commands)) {
		guess_at_greeting_back(client);
	} else {
		enter(client, IMAP_STATE_READY);
		client_event(client, IMAP_EVENT_READY);
	}
}

/* The next step from what has been reached. */
void login_begin(struct imap_client *client)
{
	if (!client->has_capabilities) {
		if (!client->is_authenticated) {
			enter(client, IMAP_STATE_CAPABILITY);
		}
		command_put(client, COMMAND_CAPABILITY, NULL, "CAPABILITY");
		return;
	}
	if (client->is_preauth) {
		client->is_authenticated = true;
	}
	if (!client->is_authenticated) {
		enter(client, IMAP_STATE_AUTHENTICATE);
		client->phase_deadline = client->now + COMMAND_USEC;
		client_event(client, IMAP_EVENT_CREDENTIALS);
		return;
	}
	if (client->options.compress && !client->is_compressed && !client->no_compress &&
		imap_client_has_capability(client, "COMPRESS=DEFLATE")) {
		enter(client, IMAP_STATE_COMPRESS);
		command_put(client, COMMAND_COMPRESS, NULL, "COMPRESS DEFLATE");
		return;
	}
	greet_back(client);
}

/* -- credentials -- */

void login_wipe(struct imap_client *client)
{
	client->sasl = imap_sasl_free(client->sasl);
	bytes_wipe(&client->secret);
	bytes_wipe(&client->sasl_said);
	bytes_done(&client->tls_unique);
	bytes_done(&client->tls_exporter);
	free(client->credentials_user);
	free(client->credentials_host);
	client->credentials_user = client->credentials_host = NULL;
	client->credentials = (struct imap_credentials){0};
}

static int copy_credentials(struct imap_client *client, const struct imap_credentials *credentials)
{
	login_wipe(client);
	client->credentials = *credentials;
	client->credentials_user = strdup(credentials->user);
	client->credentials_host = strdup(credentials->host ? credentials->host : "");
	bytes_put(&client->tls_unique, credentials->tls_unique.data, credentials->tls_unique.len);
	bytes_put(&client->tls_exporter, credentials->tls_exporter.data,
		credentials->tls_exporter.len);
	if (credentials->secret) {
		size_t len = strlen(credentials->secret) + 1;
		bytes_reserve(&client->secret, len);
		bytes_put(&client->secret, credentials->secret, len);
	}
	if (!client->credentials_user || !client->credentials_host || client->secret.error < 0 ||
		client->tls_unique.error < 0 || client->tls_exporter.error < 0) {
		return -ENOMEM;
	}
	client->credentials.user = client->credentials_user;
	client->credentials.host = client->credentials_host;
	client->credentials.secret =
		credentials->secret ? (const char *)bytes_span(&client->secret).data : NULL;
	client->credentials.tls_unique = bytes_span(&client->tls_unique);
	client->credentials.tls_exporter = bytes_span(&client->tls_exporter);
	return 0;
}

/* The LOGIN command: where the server has no mechanism, or as configured; never after a mechanism
 * failed, never with a token. */
static void put_login(struct imap_client *client)
{
	client->has_capabilities = false;
	if (imap_client_has_capability(client, "LOGINDISABLED")) {
		client_fail(
			client, FAILURE_INSECURE, "the server has LOGIN disabled (LOGINDISABLED)");
		return;
	}
	struct command *command = command_new(client, COMMAND_LOGIN, NULL);
	if (!command) {
		return;
	}
	client->mechanism = "LOGIN";
	client->login_is_whole = false;
	/* One allocation, so that no copy of the password stays behind in freed memory. */
	bytes_reserve(&command->text, 6 * strlen(client->credentials.secret) + 4096);
	bytes_put_str(&command->text, "LOGIN ");
	command_put_string(client, command, client->credentials.user);
	bytes_put_char(command->rest.end > 0 ? &command->rest : &command->text, ' ');
	command_put_string(client, command, client->credentials.secret);
	client->login_is_whole = bytes_len(&command->rest) == 0;
	command_end(client, command);
}

/* What was said last, to keep it out of texts. */
static void remember_said(struct imap_client *client, struct span said)
{
	bytes_wipe(&client->sasl_said);
	bytes_reserve(&client->sasl_said, said.len + 1);
	bytes_put(&client->sasl_said, said.data, said.len);
	bytes_put_char(&client->sasl_said, '\0');
}

static void put_authenticate(struct imap_client *client, const char *mechanism)
{
	client->mechanism = mechanism;
	client->login_is_whole = false;
	client->has_capabilities = false; /* after login there are others */
	client->sasl = imap_sasl_free(client->sasl);
	int r = imap_sasl_new(mechanism, &client->credentials, &client->sasl);
	if (r == -ENOMEM) {
		client_fail_memory(client);
		return;
	}
	if (r < 0) {
		client_fail(client, FAILURE_NOT_SUPPORTED,
			"the mechanism %s does not go with the secret that is configured",
			mechanism);
		return;
	}
	struct command *command = command_new(client, COMMAND_AUTHENTICATE, NULL);
	if (!command) {
		return;
	}
	bytes_reserve(&command->text, 16384);
	bytes_printf(&command->text, "AUTHENTICATE %s", mechanism);
	if (imap_sasl_is_client_first(client->sasl) && has_extension(client, "SASL-IR")) {
		/* RFC 4959 section 3: an empty initial response is "=". */
		bytes_put_char(&command->text, ' ');
		size_t before = bytes_len(&command->text);
		r = imap_sasl_step(client->sasl, (struct span){0}, &command->text);
		if (r < 0) {
			client_fail(client, FAILURE_AUTHENTICATION_FAILED,
				"user or secret cannot be said in %s", mechanism);
			return;
		}
		struct span said = bytes_span(&command->text);
		if (said.len == before) {
			bytes_put_char(&command->text, '=');
		}
		remember_said(client,
			(struct span){.data = said.data + before, .len = said.len - before});
		client->login_is_whole = strcmp(mechanism, "PLAIN") == 0;
	}
	command_end(client, command);
}

static void authenticate(struct imap_client *client)
{
	const char *mechanism;
	client->phase_deadline = USEC_NEVER;
	keep_words(client, &client->memory.before);
	if (strcmp(client->auth, "login") == 0) { /* the command; "LOGIN" is the mechanism */
		if (!client->credentials.secret ||
			client->credentials.kind != IMAP_SECRET_PASSWORD) {
			client_fail(client, FAILURE_NOT_SUPPORTED,
				"the LOGIN command needs a password");
			return;
		}
		put_login(client);
		return;
	}
	mechanism = imap_sasl_choose(&client->credentials, client->capabilities,
		client->n_capabilities, client->without_plus);
	if (strcasecmp(client->auth, "auto") != 0) {
		char word[64];
		snprintf(word, sizeof(word), "AUTH=%s", client->auth);
		mechanism = imap_client_has_capability(client, word)
			? imap_sasl_canonical(client->auth)
			: NULL;
		if (!mechanism) {
			client_fail(client, FAILURE_NOT_SUPPORTED, "the server does not offer %s",
				client->auth);
			return;
		}
	}
	if (mechanism) {
		put_authenticate(client, mechanism);
	} else if (client->credentials.kind == IMAP_SECRET_PASSWORD && client->credentials.secret &&
		!client->without_plus) {
		put_login(client);
	} else {
		client_fail(client, FAILURE_NOT_SUPPORTED, "the server offers no mechanism for %s",
			client->credentials.kind == IMAP_SECRET_TOKEN ? "a token"
								      : "a client certificate");
	}
}

void imap_client_credentials(
	struct imap_client *client, const struct imap_credentials *credentials, uint64_t now)
{
	client->now = now;
	if (client->state != IMAP_STATE_AUTHENTICATE || client->sasl ||
		!list_is_empty(&client->commands)) {
		return;
	}
	/* The last look before a secret leaves: not that STARTTLS was answered, but that this is
	 * TLS. */
	if (!client->is_secure && client->options.transport != IMAP_TRANSPORT_PLAIN &&
		client->options.transport != IMAP_TRANSPORT_TUNNEL) {
		client_fail(client, FAILURE_INSECURE, "credentials would have gone in the clear");
		return;
	}
	if (copy_credentials(client, credentials) < 0) {
		client_fail_memory(client);
		return;
	}
	authenticate(client);
	guess_at_login(client);
	commands_flush(client);
}

void login_continue(struct imap_client *client, struct span challenge)
{
	struct bytes response;
	bytes_init(&response);
	bytes_reserve(&response, 16384);
	int r = client->sasl ? imap_sasl_step(client->sasl, challenge, &response) : -EBADMSG;
	if (r == -ENOMEM) {
		client_fail_memory(client);
	} else if (r < 0) {
		/* RFC 9051 section 6.2.2: the client cancels by "*". */
		bytes_put_str(&client->output, "*\r\n");
		trace_sent_line(client, "*");
	} else {
		struct span span = bytes_span(&response);
		remember_said(client, span);
		bytes_reserve(&client->output, span.len + 2);
		bytes_put(&client->output, span.data, span.len);
		bytes_put_str(&client->output, "\r\n");
		trace_sent_line(client, "...");
	}
	if (client->output_since == 0) {
		client->output_since = client->now;
	}
	bytes_wipe(&response);
}

/* -- answers -- */

/* What a part of a secret must have at least to be one. */
enum {
	QUOTED_MIN = 8
};

/* Whether the text has so many octets of it in a row, or all where it is shorter; in small letters
 * or capital ones, for servers change those. */
static bool is_quoting(struct span text, const char *secret)
{
	size_t len = secret ? strlen(secret) : 0;
	size_t part = len < QUOTED_MIN ? len : QUOTED_MIN;
	for (size_t i = 0; len > 0 && i + part <= text.len; i++) {
		for (size_t k = 0; k + part <= len; k++) {
			if (strncasecmp((const char *)text.data + i, secret + k, part) == 0) {
				return true;
			}
		}
	}
	return false;
}

/* Unless it quotes the secret, as servers do that echo a command. */
struct span login_text(const struct imap_client *client, struct span text)
{
	const char *said = (const char *)bytes_span(&client->sasl_said).data;
	bool is_echo = is_quoting(text, client->credentials.secret) || is_quoting(text, said);
	return is_echo ? span_of("(its words are left out, for they quote ours)") : text;
}

static void login_refused(struct imap_client *client, const struct imap_response *response)
{
	uint64_t retry_after = 0;
	struct failure failure;
	enum imap_end end = classify_refusal(response, &retry_after);
	struct span text = login_text(client, response->text);
	const char *problem = client->sasl ? imap_sasl_token_problem(client->sasl) : "";
	if (end == IMAP_END_ORDINARY || end == IMAP_END_TOKEN) {
		/* RFC 5530: a fault of the server says nothing about the password. */
		end = response->code == IMAP_CODE_SERVERBUG ? IMAP_END_THROTTLED
							    : IMAP_END_CREDENTIALS;
	}
	failure_set(&failure,
		end == IMAP_END_LIMIT                 ? FAILURE_LIMIT_EXCEEDED
			: end == IMAP_END_CREDENTIALS ? FAILURE_AUTHENTICATION_FAILED
						      : FAILURE_SERVER_REFUSED,
		"the server refused the login by %s%s%s: %.*s", client->mechanism,
		*problem ? ", " : "", problem, (int)text.len, (const char *)text.data);
	client_close(client, &failure, end, retry_after);
}

static bool ends_with_plus(const char *mechanism)
{
	size_t len = mechanism ? strlen(mechanism) : 0;
	return len > 5 && strcmp(mechanism + len - 5, "-PLUS") == 0;
}

/* A mechanism that shows the password is none to fall back to where PLUS failed: whoever is in the
 * middle makes it fail. */
static bool has_scram_without_plus(const struct imap_client *client)
{
	const char *mechanism = imap_sasl_choose(
		&client->credentials, client->capabilities, client->n_capabilities, true);

	return mechanism && strncmp(mechanism, "SCRAM-", 6) == 0;
}

static void handle_authenticated(struct imap_client *client, const struct imap_response *response)
{
	if (response->status != IMAP_STATUS_OK) {
		if (ends_with_plus(client->mechanism) && !client->without_plus &&
			strcasecmp(client->auth, "auto") == 0 && has_scram_without_plus(client) &&
			classify_refusal(response, &(uint64_t){0}) == IMAP_END_ORDINARY) {
			/* Cyrus offers PLUS under TLS 1.3 but takes only tls-unique, which TLS 1.3
			 * has not. */
			client->without_plus = client->plus_failed = true;
			authenticate(client);
			return;
		}
		login_refused(client, response);
		return;
	}
	if (client->sasl && !imap_sasl_is_complete(client->sasl)) {
		client_fail(client, FAILURE_AUTHENTICATION_FAILED,
			"the server did not prove that it knows the password (%s)",
			client->mechanism);
		return;
	}
	login_wipe(client);
	client->is_authenticated = true;
	/* Capabilities are others now: those of the OK, those said untagged meanwhile, or asked
	 * for. */
	if (response->code == IMAP_CODE_CAPABILITY) {
		take_capabilities(client, response->words, response->n_words);
	}
	client->memory.login_tells = client->has_capabilities;
	login_begin(client);
}

/* Each step goes on to the next one by itself; these three are sent at once, and the last answer
 * counts. */
static void handle_greeted_back(struct imap_client *client, const struct imap_response *response)
{
	uint64_t retry_after = 0;
	enum imap_end end = response->status == IMAP_STATUS_OK
		? IMAP_END_ORDINARY
		: classify_refusal(response, &retry_after);
	if (end != IMAP_END_ORDINARY) {
		/* Exchange: authenticated but not connected, throttled. */
		struct failure failure;
		refusal_set(&failure, response);
		client_close(client, &failure, end, retry_after);
		return;
	}
	if (list_is_empty(&client->commands)) {
		enter(client, IMAP_STATE_READY);
		client_event(client, IMAP_EVENT_READY);
	}
}

static void handle_capability(struct imap_client *client, const struct imap_response *response)
{
	if (!client->has_capabilities && response->code == IMAP_CODE_CAPABILITY) {
		take_capabilities(client, response->words, response->n_words);
	}
	if (!client->has_capabilities) {
		uint64_t retry_after = 0;
		enum imap_end end = classify_refusal(response, &retry_after);
		struct failure failure;
		if (response->status == IMAP_STATUS_OK || end == IMAP_END_ORDINARY) {
			failure_set(&failure, FAILURE_PROTOCOL_ERROR,
				"the server does not tell its capabilities");
		} else {
			refusal_set(&failure, response);
		}
		client_close(client, &failure, end, retry_after);
		return;
	}
	login_begin(client);
}

/* The OK after which the octets are others. */
static void change_transport(struct imap_client *client, enum imap_event_kind kind)
{
	client->transport_changes = true;
	client->phase_deadline = client->now + GREETING_USEC;
	client_event(client, kind);
}

void handle_login(
	struct imap_client *client, struct command *command, const struct imap_response *response)
{
	bool is_ok = response->status == IMAP_STATUS_OK;
	if (command->kind == COMMAND_STARTTLS && is_ok) {
		change_transport(client, IMAP_EVENT_START_TLS);
	} else if (command->kind == COMMAND_STARTTLS) {
		client_fail(client, FAILURE_INSECURE, "the server refused STARTTLS");
	} else if (command->kind == COMMAND_COMPRESS && is_ok) {
		change_transport(client, IMAP_EVENT_START_DEFLATE);
	} else if (command->kind == COMMAND_COMPRESS) {
		client->no_compress = true;
		login_begin(client);
	} else if (command->kind == COMMAND_CAPABILITY) {
		handle_capability(client, response);
	} else if (command->kind == COMMAND_AUTHENTICATE || command->kind == COMMAND_LOGIN) {
		handle_authenticated(client, response);
	} else {
		handle_greeted_back(client, response);
	}
}
