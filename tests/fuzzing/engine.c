/* Whatever the two sides of a conversation do: the engine survives, tells the truth as far as its
 * owner can know it, keeps the secret and stays small. An input is a conversation in the language
 * of tests/unit/conversations.c, so that each of tests/conversations is a seed and a finding can
 * become one of them; what is expected there ("C:", "E:", "F:", "?") is not looked at. An empty
 * line ends what the server says in one piece. One intent more: "> again" is the next connection,
 * with what was learnt on this one and with the same views.
 *
 * Of any input it must be true that
 * - a message is told as new once, and as gone only if it was told; a view of which the engine says
 *   that all was told holds what was told and nothing else, and so do all when it is over,
 * - CLOSED comes once and is the last event, a request has one DONE, and no event after it,
 * - where STARTTLS was asked for nothing that could be a login is said before TLS, and nowhere is
 *   the secret in the trace or in the words of a failure, unless the server said it,
 * - what is said and told is bounded by what was heard, and time passes without ticking for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/client.h"
#include "imap/writer.h"
#include "tests/fuzzing/check.h"
#include "tests/unit/script.h"
#include "tests/unit/views.h"
#include "util/clock.h"

/* Of every secret, so that none is a word that also stands elsewhere. */
#define SECRET_BEGINS "Xy7#"

enum {
	N_LINES_HIGHEST = 2000,
	N_REPEATED_HIGHEST = 200,
	N_WORDS_HIGHEST = 16,
	N_REQUESTS_HIGHEST = 32,
	N_TICKS_HIGHEST = 200,
	SECONDS_HIGHEST = 100000,
	/* For each octet heard, line of the input or tick: octets said; events told. */
	SAID_PER_CAUSE = 400,
	TOLD_PER_CAUSE = 4,
};

struct session {
	struct imap_client *client;
	struct imap_client_options options;
	struct imap_memory memory;
	struct views views;
	struct imap_mailbox *watch;
	uint64_t now;
	bool is_manual;   /* credentials come when the input says so */
	bool is_early;    /* it is watched from the beginning */
	bool is_secure;   /* nothing may be read by others */
	bool is_stalled;  /* nobody takes the output */
	bool is_closed;   /* CLOSED was told */
	bool is_changing; /* the last event was about the transport */
	char *user, *password;
	uint64_t requests[N_REQUESTS_HIGHEST];          /* that had no DONE; 0: free */
	struct imap_mailbox *boxes[N_REQUESTS_HIGHEST]; /* theirs, NULL: none */
	uint64_t n_causes, n_said, n_told;
	struct bytes heard, trace;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool has(struct span span, const char *text)
{
	return span.data && memmem(span.data, span.len, text, strlen(text)) != NULL;
}

/* -- what must hold -- */

/* Whether it can be known that it was ours to keep. */
static bool is_telltale(const struct session *session)
{
	return session->password[0] != '\0' && !has(bytes_span(&session->heard), session->password);
}

static void check_trace(struct session *session)
{
	if (is_telltale(session)) {
		require(!has(bytes_span(&session->trace), session->password),
			"the secret is in the trace");
	}
	bytes_clear(&session->trace);
}

static size_t find_request(const struct session *session, uint64_t id)
{
	size_t i = 0;

	while (i < N_REQUESTS_HIGHEST && session->requests[i] != id) {
		i++;
	}
	return i;
}

static void check_event(struct session *session, const struct imap_event *event)
{
	require(!session->is_closed, "an event after CLOSED");
	session->n_told++;
	if (event->kind >= IMAP_EVENT_LISTED && event->kind <= IMAP_EVENT_DONE) {
		const size_t i = find_request(session, event->id);

		require(i < N_REQUESTS_HIGHEST, "an event for no request");
		if (event->kind == IMAP_EVENT_DONE) {
			session->requests[i] = 0;
		}
	}
	if (event->failure.kind != FAILURE_NONE) {
		require(text_is_utf8(span_of(event->failure.text)), "a failure that is no text");
		require(!is_telltale(session) || !strstr(event->failure.text, session->password),
			"a failure quotes the secret");
	}
	for (size_t i = 0; i < event->n_list; i++) {
		require(text_is_utf8(span_of(event->list[i].name)), "a name that is no text");
	}
	views_take(&session->views, event);
	session->is_closed = event->kind == IMAP_EVENT_CLOSED;
	session->is_changing =
		event->kind == IMAP_EVENT_START_TLS || event->kind == IMAP_EVENT_START_DEFLATE;
}

static void check_output(struct session *session, struct span output)
{
	session->n_said += output.len;
	if (session->is_secure) {
		return;
	}
	require(!has(output, " LOGIN ") && !has(output, " AUTHENTICATE "), "a login in the clear");
	require(!is_telltale(session) || !has(output, session->password),
		"the secret in the clear");
}

/* What an owner may ask at any time. */
static void check_answers(const struct session *session)
{
	const struct imap_client *client = session->client;
	const char *state = imap_state_name(imap_client_state(client));
	const struct span *words;
	const size_t n_words = imap_client_capabilities(client, &words);

	require(state[0] != '\0', "a state without a name");
	require((strcmp(state, "closed") == 0) >= session->is_closed, "%s, and closed", state);
	for (size_t i = 0; i < n_words; i++) {
		require(words[i].len > 0, "an empty capability");
	}
	/* A server may withdraw NOTIFY while it is in force: then neither says anything of the
	 * other. */
	imap_client_has_notify(client);
	imap_client_may_notify(client);
	require(imap_client_idling_since(client) == 0 || session->is_closed ||
			imap_client_has_idle(client) || imap_client_mailbox(client),
		"idling nowhere");
	require(text_is_utf8(span_of(imap_client_namespace(client))), "a prefix that is no text");
	for (size_t i = 0; i < session->views.n; i++) {
		imap_client_asks_first(client, session->views.list[i]);
		imap_client_notifies(client, session->views.list[i]->name);
	}
}

static void check_state(struct session *session)
{
	check_answers(session);
	for (size_t i = 0; i < session->views.n; i++) {
		if (imap_client_has_told(session->client, session->views.list[i])) {
			views_check_one(&session->views, i);
		}
	}
	require(session->views.problem[0] == '\0', "%s", session->views.problem);
	require(session->n_said <= 4096 + SAID_PER_CAUSE * session->n_causes,
		"%llu octets said for %llu causes", (unsigned long long)session->n_said,
		(unsigned long long)session->n_causes);
	require(session->n_told <= 100 + TOLD_PER_CAUSE * session->n_causes,
		"%llu events told for %llu causes", (unsigned long long)session->n_told,
		(unsigned long long)session->n_causes);
}

/* -- the owner's part -- */

static void give_credentials(struct session *session)
{
	const struct imap_credentials credentials = {.user = session->user,
		.kind = session->options.secret_kind,
		.secret =
			session->options.secret_kind == IMAP_SECRET_NONE ? NULL : session->password,
		.host = "imap.example.org",
		.port = 993};

	imap_client_credentials(session->client, &credentials, session->now);
}

static void settle_session(struct session *session)
{
	bool again = true;

	while (again) {
		const struct imap_event *event;
		bool wants_credentials = false, is_ready = false;

		while ((event = imap_client_next_event(session->client))) {
			check_event(session, event);
			wants_credentials |= event->kind == IMAP_EVENT_CREDENTIALS;
			is_ready |= event->kind == IMAP_EVENT_READY;
		}
		again = (wants_credentials && !session->is_manual) || (is_ready && session->watch);
		if (wants_credentials && !session->is_manual) {
			give_credentials(session);
		}
		if (is_ready && session->watch) {
			imap_client_watch(session->client, session->watch, session->now);
		}
	}
	check_trace(session);
	if (!session->is_stalled) {
		const struct span output = imap_client_output(session->client);

		check_output(session, output);
		imap_client_sent(session->client, output.len, session->now);
	}
	check_state(session);
}

static void hear(struct session *session, struct span octets)
{
	size_t used;

	if (octets.len == 0 || session->is_closed) {
		return;
	}
	bytes_put(&session->heard, octets.data, octets.len);
	session->n_causes += octets.len;
	used = imap_client_receive(session->client, octets.data, octets.len, session->now);
	settle_session(session);
	/* What is left belongs to the next transport, and is thrown away here. */
	require(used == octets.len || session->is_changing || session->is_closed,
		"octets were left over");
}

static void disconnect(struct session *session)
{
	struct failure failure;

	failure_set(&failure, FAILURE_OFFLINE, "the end");
	imap_client_disconnected(session->client, &failure, session->now);
	settle_session(session);
	require(session->is_closed, "the end was not told");
}

static void pass_time(struct session *session, double seconds)
{
	const double n = seconds > SECONDS_HIGHEST ? SECONDS_HIGHEST : seconds > 0 ? seconds : 0;
	const uint64_t end = session->now + (uint64_t)(n * 1e6);
	unsigned int n_ticks = 0;
	uint64_t slack;

	for (;;) {
		const uint64_t deadline = imap_client_deadline(session->client, &slack);

		if (deadline > end) {
			session->now = end;
			return;
		}
		require(n_ticks++ < N_TICKS_HIGHEST, "it ticks without end");
		session->now = deadline > session->now ? deadline : session->now;
		session->n_causes++;
		imap_client_tick(session->client, session->now);
		settle_session(session);
	}
}

/* As the daemon checks it. NULL: no name for a mailbox. */
static struct imap_mailbox *mailbox_of(struct session *session, const char *name)
{
	struct span rest = name ? span_of(name) : (struct span){0};

	if (!name || name[0] == '\0' || rest.len > 1000 || !text_is_utf8(rest)) {
		return NULL;
	}
	while (rest.len > 0) {
		if (text_is_control(text_next(&rest))) {
			return NULL;
		}
	}
	for (size_t i = 0; i < session->views.n; i++) {
		if (strcmp(session->views.list[i]->name, name) == 0) {
			return session->views.list[i];
		}
	}
	return session->views.n < VIEWS_MAX ? views_find(&session->views, name) : NULL;
}

/* -- intents -- */

/* "3,5:7"; false when it is no set. */
static bool is_set(const char *text)
{
	while (text) {
		char *end;

		if (strtoull(text, &end, 10) == 0 || end == text) {
			return false;
		}
		if (*end == ':') {
			text = end + 1;
			if (strtoull(text, &end, 10) == 0 || end == text) {
				return false;
			}
		}
		if (*end != ',' && *end != '\0') {
			return false;
		}
		text = *end == ',' ? end + 1 : NULL;
	}
	return true;
}

static unsigned int items_of(const char *names)
{
	static const struct {
		const char *name;
		unsigned int items;
	} known[] = {{"flags", IMAP_ITEM_FLAGS}, {"envelope", IMAP_ITEM_ENVELOPE},
		{"date", IMAP_ITEM_INTERNALDATE}, {"size", IMAP_ITEM_SIZE},
		{"structure", IMAP_ITEM_BODYSTRUCTURE}, {"text", IMAP_FETCH_TEXT},
		{"preview", IMAP_FETCH_PREVIEW}, {"identity", IMAP_FETCH_IDENTITY}};
	unsigned int items = 0;

	for (size_t i = 0; names && i < sizeof(known) / sizeof(known[0]); i++) {
		if (strstr(names, known[i].name)) {
			items |= known[i].items;
		}
	}
	return items;
}

static void store(struct session *session, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, char **words)
{
	const char *add[N_WORDS_HIGHEST], *del[N_WORDS_HIGHEST];
	size_t n_add = 0, n_del = 0;

	for (; *words; words++) {
		if (!imap_is_flag(*words + 1)) {
			continue;
		}
		if (**words == '+') {
			add[n_add++] = *words + 1;
		} else {
			del[n_del++] = *words + 1;
		}
	}
	imap_client_store(session->client, id, mailbox, uids, add, n_add, del, n_del, session->now);
}

/* fetch, store and move. */
static bool call_with_uids(
	struct session *session, uint64_t id, struct imap_mailbox *mailbox, char **words)
{
	struct runs uids;
	bool is_fit = words[3] && is_set(words[3]);

	runs_init(&uids);
	if (is_fit) {
		script_parse_set(words[3], &uids);
	}
	is_fit = runs_count(&uids) > 0;
	if (!is_fit) {
		/* The daemon answers such a call itself. */
	} else if (words[0][0] == 'f') {
		imap_client_fetch(
			session->client, id, mailbox, &uids, items_of(words[4]), session->now);
	} else if (words[0][0] == 's') {
		store(session, id, mailbox, &uids, words + 4);
	} else if (mailbox_of(session, words[4])) {
		imap_client_move(session->client, id, mailbox, &uids, words[4], session->now);
	} else {
		is_fit = false;
	}
	runs_done(&uids);
	return is_fit;
}

static bool is_one_of(const char *word, const char *const *list)
{
	while (*list && strcmp(word, *list) != 0) {
		list++;
	}
	return *list != NULL;
}

/* Those with an id: each has its DONE, sooner or later. */
static bool call_request(struct session *session, char **words, size_t n)
{
	static const char *const with_uids[] = {"fetch", "store", "move", NULL};
	const uint64_t id = n > 1 ? strtoull(words[1], NULL, 10) : 0;
	const size_t slot = find_request(session, 0);
	const bool is_list = strcmp(words[0], "list") == 0;
	struct imap_mailbox *mailbox;

	if (n < 3 || id == 0 || slot == N_REQUESTS_HIGHEST ||
		find_request(session, id) < N_REQUESTS_HIGHEST) {
		return false;
	}
	mailbox = mailbox_of(session, words[2]);
	if (!mailbox) {
		return false;
	}
	if (is_list) {
		imap_client_list(session->client, id, words[2], session->now);
		mailbox = NULL;
	} else if (strcmp(words[0], "refresh") == 0) {
		imap_client_refresh(session->client, id, mailbox, session->now);
	} else if (strcmp(words[0], "visit") == 0) {
		imap_client_visit(session->client, id, mailbox, session->now);
	} else if (strcmp(words[0], "raw") == 0 && n > 3 && strtoul(words[3], NULL, 10) > 0) {
		imap_client_fetch_raw(session->client, id, mailbox,
			(uint32_t)strtoul(words[3], NULL, 10), session->now);
	} else if (!is_one_of(words[0], with_uids) ||
		!call_with_uids(session, id, mailbox, words)) {
		return false;
	}
	if (!session->is_closed) {
		session->requests[slot] = id;
		session->boxes[slot] = mailbox;
	}
	return true;
}

static void forget_requests(struct session *session, const struct imap_mailbox *mailbox)
{
	for (size_t i = 0; i < N_REQUESTS_HIGHEST; i++) {
		if (!mailbox || session->boxes[i] == mailbox) {
			session->requests[i] = 0;
		}
	}
}

/* The next connection. */
static void begin(struct session *session)
{
	session->options.memory = &session->memory;
	session->client = imap_client_new(&session->options, session->now);
	require(session->client != NULL, "no memory");
	imap_memory_done(&session->memory);
	imap_client_set_trace(session->client, &session->trace);
	if (session->is_early) {
		imap_client_watch(session->client, session->watch, session->now);
	}
	session->is_secure = session->options.transport != IMAP_TRANSPORT_STARTTLS;
	session->is_closed = session->is_changing = session->is_stalled = false;
}

static void end(struct session *session)
{
	uint64_t kind;

	if (!session->is_closed) {
		disconnect(session);
	}
	if (imap_client_mechanism(session->client)) {
		imap_client_take_memory(session->client, &session->memory);
	}
	if (imap_client_stumble(session->client, &kind) >= IMAP_STUMBLE_LIKELY) {
		session->options.is_stepwise = true;
	}
	session->options.bad_alone |= imap_client_bad_alone(session->client);
	session->client = imap_client_free(session->client);
	forget_requests(session, NULL);
}

static void call_others(struct session *session, char **names, size_t n)
{
	const char *fit[N_WORDS_HIGHEST];
	size_t n_fit = 0;

	for (size_t i = 0; i < n; i++) {
		if (mailbox_of(session, names[i])) {
			fit[n_fit++] = names[i];
		}
	}
	imap_client_watch_others(session->client, fit, n_fit, session->now);
}

/* Those that are about the connection; false: it is none of them. */
static bool call_plain(struct session *session, const char *word)
{
	struct imap_client *client = session->client;

	if (strcmp(word, "hold") == 0) {
		imap_client_hold(client);
	} else if (strcmp(word, "release") == 0) {
		imap_client_release(client, session->now);
	} else if (strcmp(word, "logout") == 0) {
		imap_client_logout(client, session->now);
	} else if (strcmp(word, "secured") == 0) {
		/* Only a handshake that was asked for can end. */
		if (session->is_changing) {
			session->is_secure = true;
			imap_client_secured(client, session->now);
		}
	} else if (strcmp(word, "compressed") == 0) {
		if (session->is_changing) {
			imap_client_compressed(client, session->now);
		}
	} else if (strcmp(word, "credentials") == 0) {
		give_credentials(session);
	} else if (strcmp(word, "probe") == 0) {
		imap_client_probe(client, session->now);
	} else if (strcmp(word, "stall") == 0) {
		session->is_stalled = true;
	} else if (strcmp(word, "flow") == 0) {
		session->is_stalled = false;
	} else if (strcmp(word, "again") == 0) {
		end(session);
		begin(session);
	} else {
		return false;
	}
	return true;
}

static void call_intent(struct session *session, char *text)
{
	char *words[N_WORDS_HIGHEST + 1] = {0}, *rest = NULL;
	struct imap_mailbox *mailbox;
	size_t n = 0;

	for (char *word = strtok_r(text, " ", &rest); word && n < N_WORDS_HIGHEST;
		word = strtok_r(NULL, " ", &rest)) {
		words[n++] = word;
	}
	if (n == 0) {
		return;
	}
	session->n_causes += strlen(words[0]);
	mailbox = n > 1 ? mailbox_of(session, words[1]) : NULL;
	if (call_plain(session, words[0]) || call_request(session, words, n)) {
		/* Done. */
	} else if (strcmp(words[0], "cancel") == 0 && n > 1) {
		const uint64_t id = strtoull(words[1], NULL, 10);
		const size_t i = id > 0 ? find_request(session, id) : N_REQUESTS_HIGHEST;

		imap_client_cancel(session->client, id, session->now);
		if (i < N_REQUESTS_HIGHEST) {
			session->requests[i] = 0;
		}
	} else if (strcmp(words[0], "watch") == 0 && n > 1) {
		imap_client_watch(session->client, strcmp(words[1], "none") == 0 ? NULL : mailbox,
			session->now);
	} else if (strcmp(words[0], "others") == 0) {
		call_others(session, words + 1, n - 1);
	} else if (strcmp(words[0], "drop") == 0 && mailbox) {
		imap_client_drop(session->client, mailbox, session->now);
		forget_requests(session, mailbox);
		session->watch = session->watch == mailbox ? NULL : session->watch;
	}
	settle_session(session);
}

/* -- the conversation -- */

static void set_option(struct session *session, const char *word)
{
	struct imap_client_options *options = &session->options;
	static const char *const transports[] = {
		"transport=tls", "transport=starttls", "transport=plain", "transport=tunnel"};
	static const char *const secrets[] = {"secret=none", "secret=password", "secret=token"};
	size_t len;

	for (int i = 0; i < 4; i++) {
		options->transport =
			strcmp(word, transports[i]) == 0 ? (unsigned int)i : options->transport;
	}
	for (int i = 0; i < 3; i++) {
		options->secret_kind =
			strcmp(word, secrets[i]) == 0 ? (unsigned int)i : options->secret_kind;
	}
	if (strncmp(word, "user=", 5) == 0) {
		free(session->user);
		session->user = script_expand(word + 5, 0, &len);
	} else if (strncmp(word, "password=", 9) == 0) {
		char *given = script_expand(word + 9, 0, &len);

		free(session->password);
		require(asprintf(&session->password, "%s%s", given[0] ? SECRET_BEGINS : "",
				given) >= 0,
			"no memory");
		free(given);
	} else if (strncmp(word, "auth=", 5) == 0) {
		options->auth =
			strcmp(word + 5, "login") == 0 ? "login" : imap_sasl_canonical(word + 5);
	} else if (strncmp(word, "poll=", 5) == 0) {
		options->poll_interval_usec =
			(10 + strtoull(word + 5, NULL, 10) % 86000) * USEC_PER_SEC;
	} else if (strncmp(word, "idle=", 5) == 0) {
		options->idle_timeout_usec =
			(60 + strtoull(word + 5, NULL, 10) % 1680) * USEC_PER_SEC;
	}
	options->preview |= strcmp(word, "preview") == 0;
	options->compress |= strcmp(word, "compress") == 0;
	options->is_stepwise |= strcmp(word, "stepwise") == 0;
	session->is_early |= strcmp(word, "early") == 0;
	session->is_manual |= strcmp(word, "manual") == 0;
}

/* The words of a "known" line as views_restore() takes them, without those that it cannot. */
static void restore(struct session *session, char *text)
{
	struct bytes line;
	char *rest = NULL;
	char *word = strtok_r(text, " ", &rest);

	if (!mailbox_of(session, word) || session->client) {
		return;
	}
	bytes_init(&line);
	bytes_put_str(&line, word);
	while ((word = strtok_r(NULL, " ", &rest))) {
		char *value = strchr(word, '=');
		const bool is_number = strncmp(word, "uidvalidity=", 12) == 0 ||
			strncmp(word, "watermark=", 10) == 0 || strncmp(word, "uidnext=", 8) == 0 ||
			strncmp(word, "modseq=", 7) == 0 || strcmp(word, "flags") == 0 ||
			strcmp(word, "all") == 0;

		if (value) {
			*value = '\0';
		}
		if (!is_number && (!value || !is_set(word))) {
			continue;
		}
		bytes_printf(&line, value ? " %s=%s" : " %s", word, value ? value + 1 : "");
	}
	text = bytes_steal(&line);
	require(text != NULL, "no memory");
	views_restore(&session->views, text);
	free(text);
}

static void remember(struct session *session, const char *line)
{
	struct imap_memory *memory = &session->memory;

	memory->mechanism = strstr(line, "login=PLAIN") ? "PLAIN" : "LOGIN";
	memory->login_is_whole = true;
	memory->login_tells = strstr(line, " tells");
	memory->has_qresync = strstr(line, " qresync");
	memory->has_utf8 = strstr(line, " utf8");
}

static void replace(char **text, const char *by)
{
	free(*text);
	*text = strdup(by);
}

/* Whether the line belongs to what is known before the beginning. */
static bool read_preamble(struct session *session, char *line)
{
	char *rest = NULL;

	if (strncmp(line, "option ", 7) == 0) {
		for (char *word = strtok_r(line + 7, " ", &rest); word;
			word = strtok_r(NULL, " ", &rest)) {
			set_option(session, word);
		}
	} else if (strncmp(line, "known ", 6) == 0) {
		restore(session, line + 6);
	} else if (strncmp(line, "watch ", 6) == 0) {
		session->watch = mailbox_of(session, line + 6);
	} else if (strncmp(line, "memory ", 7) == 0) {
		remember(session, line);
	} else if (strncmp(line, "greeting ", 9) == 0) {
		replace(&session->memory.greeting, line + 9);
	} else if (strncmp(line, "before ", 7) == 0) {
		replace(&session->memory.before, line + 7);
	} else if (strncmp(line, "after ", 6) == 0) {
		replace(&session->memory.after, line + 6);
	} else {
		return line[0] == '#' || line[0] == '\0';
	}
	return true;
}

static void put_said(struct bytes *said, const char *line)
{
	const bool is_counted = line[1] == '*';
	unsigned long n_times = 1;
	const char *text = line + (line[2] == ' ' ? 3 : 2);

	if (is_counted) {
		char *after;

		n_times = strtoul(text, &after, 10);
		n_times = n_times < N_REPEATED_HIGHEST ? n_times : N_REPEATED_HIGHEST;
		text = *after == ' ' ? after + 1 : after;
	}
	for (unsigned long i = 1; i <= n_times; i++) {
		size_t len;
		char *octets = script_expand(text, is_counted ? i : 0, &len);

		bytes_put(said, octets, len);
		bytes_put_str(said, line[1] == '+' ? "" : "\r\n");
		free(octets);
	}
}

static void run_line(struct session *session, char *line, struct bytes *said)
{
	if (line[0] == 'S' && line[1] != '\0') {
		put_said(said, line);
		return;
	}
	hear(session, bytes_span(said));
	bytes_clear(said);
	if (strncmp(line, "T: ", 3) == 0) {
		pass_time(session, strtod(line + 3, NULL));
	} else if (strncmp(line, "> ", 2) == 0) {
		call_intent(session, line + 2);
	} else if (line[0] == 'X' && !session->is_closed) {
		disconnect(session);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct session session = {.now = 1000 * USEC_PER_SEC,
		.options = {.secret_kind = IMAP_SECRET_PASSWORD,
			.idle_timeout_usec = 9 * USEC_PER_MINUTE,
			.poll_interval_usec = 5 * USEC_PER_MINUTE},
		.user = strdup("jo"),
		.password = strdup(SECRET_BEGINS "secret"),
		.views = {.has_strays = true}};
	char *text = strndup((const char *)data, len);
	char *rest = text, *line;
	struct bytes said;
	unsigned int n_lines = 0;

	bytes_init(&said);
	bytes_init(&session.heard);
	bytes_init(&session.trace);
	while ((line = strsep(&rest, "\n")) && n_lines++ < N_LINES_HIGHEST) {
		if (session.client == NULL) {
			if (read_preamble(&session, line)) {
				continue;
			}
			begin(&session);
		}
		run_line(&session, line, &said);
	}
	if (session.client) {
		hear(&session, bytes_span(&said));
		end(&session);
	}
	imap_memory_done(&session.memory);
	views_done(&session.views);
	bytes_done(&session.heard);
	bytes_done(&session.trace);
	bytes_done(&said);
	free(session.user);
	free(session.password);
	free(text);
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
