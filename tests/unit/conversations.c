/* Conversations as data: each file of tests/conversations is a dialogue with the engine, run whole,
 * one octet at a time, cut in two at every position, cut at random positions, and ended at every
 * position; with a line more
 * between all lines of the server that must change nothing (a keepalive), and with one in every
 * such place that must end the connection (BYE, an answer that nobody waits for). The language:
 *
 *   # a comment
 *   option NAME=VALUE      transport=tls|starttls|plain|tunnel auth=NAME secret=password|token|none
 *                          user=TEXT password=TEXT preview compress manual (credentials)
 *                          early (watched from the beginning) stepwise cold (for the engine: the
 *                          daemon would know something of the server)
 *                          poll=SECONDS idle=SECONDS; cuts=N: so many places to cut at are enough;
 *                          strays: flags may be told of messages that were never told
 *   known NAME uidvalidity=N watermark=N modseq=N uidnext=N [flags] [all] [told=UID:MODSEQ]...
 *         UIDS=FLAGS...    a restored view; FLAGS is "-" for unread, "r" for read, or a list like
 *                          \Seen,\Flagged
 *   watch NAME             what is watched when READY comes
 *   memory login=NAME [tells] [qresync] [utf8]
 *                          what is known from the connection before: logged in by a single
 *                          message, whose answer told capabilities; what was enabled
 *   greeting WORDS         the capabilities that the greeting named then
 *   before WORDS           those before the login
 *   after WORDS            those after it
 *   S: LINE                the server says LINE CRLF; \xHH is an octet
 *   S+ TEXT                the same without CRLF
 *   S* N TEXT              the same line N times; "%n" is the count from 1, "%n+7" is 7 more
 *   C: LINE                the client has said LINE CRLF, and nothing before it that is not here
 *   C? LINE                the client may have said LINE, depending on how octets come
 *   E: EVENT               the client has told EVENT, see telling_put()
 *   E* N EVENT             so many events, counted as above
 *   E? EVENT               the client may have told EVENT, depending on how octets come
 *   F: TEXT                the failure told last has TEXT in its words; F! TEXT: it has not
 *   ? STATE                the client's state
 *   T: SECONDS             time passes; the client ticks when its deadline is reached
 *   > INTENT ARGS          a call from above, see call_intent()
 *   X: TEXT                the stream ends
 *
 * "$7" stands for the client's seventh tag. At the end nothing said or told may be left over. What
 * holds in every conversation is checked in all of them: a message is told as new once, and as gone
 * only if it was told before; at "? idling" and when the connection is over, a view holds what was
 * told and nothing else; neither trace nor failures have the secret in them.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/client.h"
#include "tests/unit/script.h"
#include "tests/unit/telling.h"
#include "tests/unit/views.h"
#include "util/clock.h"

enum mode {
	MODE_WHOLE,
	MODE_OCTETS,
	MODE_SPLIT,
	MODE_RANDOM, /* cut is the seed */
	MODE_ENDED,
	MODE_KEPT,   /* a keepalive between all lines */
	MODE_BYE,    /* BYE between two lines, and the end */
	MODE_ANSWER, /* an answer to a command that was never sent between two lines */
};

struct run_state {
	const struct script *script;
	enum mode mode;
	uint64_t chance; /* RANDOM */
	size_t cut;      /* SPLIT: a receive ends before this octet; ENDED: the stream does; BYE,
			  * ANSWER: behind so many lines it comes */
	size_t n_fed;    /* octets of the server so far */
	size_t line;
	bool is_over;                 /* ENDED, BYE, ANSWER: the cut was reached */
	bool is_skipped;              /* BYE, ANSWER: nothing can be said there */
	bool was_leaving;             /* it logged out by then: any end is the one wanted */
	size_t n_gaps;                /* between lines of the server, so far */
	size_t n_line;                /* octets of the server's line under way */
	char line_end[32];            /* the last of them, in a ring */
	unsigned long long n_literal; /* octets of a literal that are still to come */
	struct imap_client *client;
	struct imap_client_options options;
	bool is_manual, is_early;
	struct imap_memory memory;
	struct views views;
	struct imap_mailbox *watch;
	uint64_t now;
	struct bytes said; /* by the client, not yet asked for by a C: line */
	char *user, *password;
	size_t n_cuts;
	bool is_stalled; /* nobody takes the output */
	struct telling telling;
	char failure[256]; /* words of the last one */
	struct bytes trace;
	char problem[1024];
};

__attribute__((format(printf, 2, 3))) static void fail(
	struct run_state *run, const char *format, ...)
{
	if (*run->problem) {
		return;
	}
	char text[900];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(run->problem, sizeof(run->problem), "%s:%zu: %s", run->script->path, run->line + 1,
		text);
}

static void take_problem(struct run_state *run)
{
	if (*run->views.problem) {
		fail(run, "%s", run->views.problem);
	}
}

static void check_event(struct run_state *run, const struct imap_event *event)
{
	if (event->failure.kind != FAILURE_NONE) {
		snprintf(run->failure, sizeof(run->failure), "%s", event->failure.text);
		if (strstr(event->failure.text, run->password)) {
			fail(run, "a failure quotes the secret: %s", event->failure.text);
		}
	}
	views_take(&run->views, event);
	take_problem(run);
}

static void check_trace(struct run_state *run)
{
	struct span span = bytes_span(&run->trace);
	if (span.len > 0 && memmem(span.data, span.len, run->password, strlen(run->password))) {
		fail(run, "the secret is in the trace");
	}
	bytes_clear(&run->trace);
}

/* -- the owner's part -- */

static void give_credentials(struct run_state *run)
{
	struct imap_credentials credentials = {.user = run->user,
		.kind = run->options.secret_kind,
		.secret = run->options.secret_kind == IMAP_SECRET_NONE ? NULL : run->password,
		.host = "imap.example.org",
		.port = 993};
	imap_client_credentials(run->client, &credentials, run->now);
}

static void settle_client(struct run_state *run)
{
	for (bool again = true; again;) {
		const struct imap_event *event;
		bool wants_credentials = false, is_ready = false;
		while ((event = imap_client_next_event(run->client))) {
			check_event(run, event);
			if (event->kind != IMAP_EVENT_CREDENTIALS || run->is_manual) {
				telling_put(&run->telling, event);
			}
			wants_credentials =
				wants_credentials || event->kind == IMAP_EVENT_CREDENTIALS;
			is_ready = is_ready || event->kind == IMAP_EVENT_READY;
		}
		again = false;
		if (wants_credentials && !run->is_manual) {
			give_credentials(run);
			again = true;
		}
		if (is_ready && run->watch) {
			imap_client_watch(run->client, run->watch, run->now);
			again = true;
		}
	}
	check_trace(run);
	struct span output = imap_client_output(run->client);
	if (output.len > 0 && !run->is_stalled) {
		bytes_put(&run->said, output.data, output.len);
		imap_client_sent(run->client, output.len, run->now);
	}
}

static void feed_once(struct run_state *run, const uint8_t *data, size_t len)
{
	size_t used = imap_client_receive(run->client, data, len, run->now);
	settle_client(run);
	if (used < len && imap_client_state(run->client) != IMAP_STATE_CLOSED) {
		/* A change of transport: what is left belongs to the next one. */
		fail(run, "%zu octets were left over", len - used);
	}
}

/* Whether this octet of the server ends a response: a line end that no literal follows. */
static bool ends_response(struct run_state *run, uint8_t octet)
{
	if (run->n_literal > 0) {
		run->n_literal--;
		return false;
	}
	if (octet != '\n') {
		run->line_end[run->n_line++ % sizeof(run->line_end)] = (char)octet;
		return false;
	}
	char end[sizeof(run->line_end) + 1] = {0};
	for (size_t i = 0; i < sizeof(run->line_end) && i < run->n_line; i++) {
		size_t at = run->n_line > sizeof(run->line_end) ? run->n_line + i : i;
		end[i] = run->line_end[at % sizeof(run->line_end)];
	}
	run->n_line = 0;
	const char *brace = strrchr(end, '{');
	char *rest = NULL;
	run->n_literal = brace ? strtoull(brace + 1, &rest, 10) : 0;
	if (!rest || (strcmp(rest, "}\r") != 0 && strcmp(rest, "+}\r") != 0)) {
		run->n_literal = 0;
		return true;
	}
	return false;
}

/* A line that the conversation does not have, between two that it has. */
static void feed_gap(struct run_state *run)
{
	static const char kept[] = "* OK Still here\r\n";
	static const char bye[] = "* BYE [ALERT] enough\r\n";
	static const char answer[] = "ZZZZ7 OK nobody has asked\r\n";
	const char *last = telling_last(&run->telling);
	/* What follows is of another transport. */
	bool is_changing = strcmp(last, "start-tls") == 0 || strcmp(last, "start-deflate") == 0;
	bool is_closed = imap_client_state(run->client) == IMAP_STATE_CLOSED;
	run->is_over = run->mode != MODE_KEPT;
	run->is_skipped = is_changing || is_closed;
	if (run->is_skipped) {
		return;
	}
	const char *line = run->mode == MODE_KEPT ? kept : run->mode == MODE_BYE ? bye : answer;
	run->was_leaving = imap_client_state(run->client) == IMAP_STATE_LOGOUT;
	feed_once(run, (const uint8_t *)line, strlen(line));
}

/* With that line at every place between two responses, or at the one that is wanted. */
static void feed_lines(struct run_state *run, const uint8_t *data, size_t len)
{
	size_t begin = 0;
	for (size_t i = 0; i < len && !run->is_over; i++) {
		if (!ends_response(run, data[i])) {
			continue;
		}
		run->n_gaps++;
		if (run->mode == MODE_KEPT || run->n_gaps == run->cut) {
			feed_once(run, data + begin, i + 1 - begin);
			begin = i + 1;
			feed_gap(run);
		}
	}
	if (begin < len && !run->is_over) {
		feed_once(run, data + begin, len - begin);
	}
}

/* Mostly small ones, at times a long one. Numerical Recipes' generator. */
static void feed_pieces(struct run_state *run, const uint8_t *data, size_t len)
{
	while (len > 0) {
		run->chance = run->chance * UINT64_C(1664525) + UINT64_C(1013904223);
		size_t bound = (run->chance >> 12 & 7) == 0 ? 2000 : 40;
		size_t n = (run->chance >> 16) % bound + 1;
		n = n < len ? n : len;
		feed_once(run, data, n);
		data += n;
		len -= n;
	}
}

static void feed(struct run_state *run, const uint8_t *data, size_t len)
{
	size_t before = run->n_fed;
	run->n_fed += len;
	if (run->mode == MODE_KEPT || run->mode == MODE_BYE || run->mode == MODE_ANSWER) {
		feed_lines(run, data, len);
	} else if (run->mode == MODE_RANDOM) {
		feed_pieces(run, data, len);
	} else if (run->mode == MODE_OCTETS) {
		for (size_t i = 0; i < len; i++) {
			feed_once(run, data + i, 1);
		}
	} else if (run->mode != MODE_WHOLE && run->cut >= before && run->cut < before + len) {
		size_t head = run->cut - before;
		if (head > 0) {
			feed_once(run, data, head);
		}
		if (run->mode == MODE_ENDED) {
			struct failure failure;
			failure_set(&failure, FAILURE_OFFLINE, "cut");
			imap_client_disconnected(run->client, &failure, run->now);
			settle_client(run);
			run->is_over = true;
			return;
		}
		feed_once(run, data + head, len - head);
	} else {
		feed_once(run, data, len);
	}
}

/* -- the script's words -- */

static void set_option(struct run_state *run, const char *word)
{
	struct imap_client_options *options = &run->options;
	static const char *const transports[] = {
		"transport=tls", "transport=starttls", "transport=plain", "transport=tunnel"};
	static const char *const secrets[] = {"secret=none", "secret=password", "secret=token"};
	for (int i = 0; i < 4; i++) {
		if (strcmp(word, transports[i]) == 0) {
			options->transport = i;
			return;
		}
	}
	for (int i = 0; i < 3; i++) {
		if (strcmp(word, secrets[i]) == 0) {
			options->secret_kind = i;
			return;
		}
	}
	size_t len;
	if (strncmp(word, "user=", 5) == 0) {
		free(run->user);
		run->user = script_expand(word + 5, 0, &len);
	} else if (strncmp(word, "password=", 9) == 0) {
		free(run->password);
		run->password = script_expand(word + 9, 0, &len);
	} else if (strcmp(word, "strays") == 0) {
		run->views.has_strays = true;
	} else if (strncmp(word, "cuts=", 5) == 0) {
		run->n_cuts = strtoul(word + 5, NULL, 10);
	} else if (strncmp(word, "auth=", 5) == 0) {
		options->auth = word + 5;
	} else if (strcmp(word, "preview") == 0) {
		options->preview = true;
	} else if (strcmp(word, "compress") == 0) {
		options->compress = true;
	} else if (strcmp(word, "early") == 0) {
		run->is_early = true;
	} else if (strcmp(word, "cold") == 0) {
		/* As all are here. */
	} else if (strcmp(word, "stepwise") == 0) {
		options->is_stepwise = true;
	} else if (strcmp(word, "manual") == 0) {
		run->is_manual = true;
	} else if (strncmp(word, "poll=", 5) == 0) {
		options->poll_interval_usec = strtoull(word + 5, NULL, 10) * USEC_PER_SEC;
	} else if (strncmp(word, "idle=", 5) == 0) {
		options->idle_timeout_usec = strtoull(word + 5, NULL, 10) * USEC_PER_SEC;
	} else {
		fail(run, "unknown option %s", word);
	}
}

static void call_store(struct run_state *run, uint64_t id, struct imap_mailbox *view,
	const struct runs *uids, char **words, size_t n)
{
	const char *add[8], *del[8];
	size_t n_add = 0, n_del = 0;
	for (size_t i = 0; i < n; i++) {
		if (words[i][0] == '+') {
			add[n_add++] = words[i] + 1;
		} else {
			del[n_del++] = words[i] + 1;
		}
	}
	imap_client_store(run->client, id, view, uids, add, n_add, del, n_del, run->now);
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
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strstr(names, known[i].name)) {
			items |= known[i].items;
		}
	}
	return items;
}

static void call_others(struct run_state *run, char **words, size_t n)
{
	char *names[16];
	for (size_t i = 0; i < n; i++) {
		size_t len;
		names[i] = script_expand(words[i], 0, &len);
	}
	imap_client_watch_others(run->client, (const char *const *)names, n, run->now);
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
	}
}

/* refresh ID BOX | visit ID BOX | hold | release | fetch ID BOX UIDS ITEMS | raw ID BOX UID | store
 * ID BOX UIDS +FLAG -FLAG... | move ID BOX UIDS TARGET | list ID PATTERN | cancel ID | watch BOX |
 * drop BOX | logout | secured | compressed | credentials | probe | stall (nobody takes the output)
 * | flow | others NAME... */
static void call_intent(struct run_state *run, char *text)
{
	char *words[16] = {0}, *rest = NULL;
	size_t n = 0;
	for (char *word = strtok_r(text, " ", &rest); word && n < 15;
		word = strtok_r(NULL, " ", &rest)) {
		words[n++] = word;
	}
	struct imap_client *client = run->client;
	uint64_t id = n > 1 ? strtoull(words[1], NULL, 10) : 0;
	struct runs uids;
	runs_init(&uids);
	if (n > 3 && strcmp(words[0], "others") != 0) {
		script_parse_set(words[3], &uids);
	}
	if (strcmp(words[0], "refresh") == 0) {
		imap_client_refresh(client, id, views_find(&run->views, words[2]), run->now);
	} else if (strcmp(words[0], "visit") == 0) {
		imap_client_visit(client, id, views_find(&run->views, words[2]), run->now);
	} else if (strcmp(words[0], "hold") == 0) {
		imap_client_hold(client);
	} else if (strcmp(words[0], "release") == 0) {
		imap_client_release(client, run->now);
	} else if (strcmp(words[0], "fetch") == 0) {
		imap_client_fetch(client, id, views_find(&run->views, words[2]), &uids,
			items_of(n > 4 ? words[4] : ""), run->now);
	} else if (strcmp(words[0], "raw") == 0) {
		imap_client_fetch_raw(client, id, views_find(&run->views, words[2]),
			strtoul(words[3], NULL, 10), run->now);
	} else if (strcmp(words[0], "store") == 0) {
		call_store(run, id, views_find(&run->views, words[2]), &uids, words + 4, n - 4);
	} else if (strcmp(words[0], "move") == 0) {
		imap_client_move(
			client, id, views_find(&run->views, words[2]), &uids, words[4], run->now);
	} else if (strcmp(words[0], "list") == 0) {
		imap_client_list(client, id, words[2], run->now);
	} else if (strcmp(words[0], "cancel") == 0) {
		imap_client_cancel(client, id, run->now);
	} else if (strcmp(words[0], "watch") == 0) {
		imap_client_watch(client,
			strcmp(words[1], "none") == 0 ? NULL : views_find(&run->views, words[1]),
			run->now);
	} else if (strcmp(words[0], "others") == 0) {
		call_others(run, words + 1, n - 1);
	} else if (strcmp(words[0], "drop") == 0) {
		imap_client_drop(client, views_find(&run->views, words[1]), run->now);
	} else if (strcmp(words[0], "logout") == 0) {
		imap_client_logout(client, run->now);
	} else if (strcmp(words[0], "secured") == 0) {
		imap_client_secured(client, run->now);
	} else if (strcmp(words[0], "compressed") == 0) {
		imap_client_compressed(client, run->now);
	} else if (strcmp(words[0], "credentials") == 0) {
		give_credentials(run);
	} else if (strcmp(words[0], "probe") == 0) {
		imap_client_probe(client, run->now);
	} else if (strcmp(words[0], "stall") == 0) {
		run->is_stalled = true;
	} else if (strcmp(words[0], "flow") == 0) {
		run->is_stalled = false;
	} else {
		fail(run, "unknown intent %s", words[0]);
	}
	runs_done(&uids);
	settle_client(run);
}

static void expect_said(struct run_state *run, const char *line)
{
	size_t len;
	char *wanted = script_expand(line, 0, &len);
	struct span said = bytes_span(&run->said);
	const uint8_t *end = said.len ? memmem(said.data, said.len, "\r\n", 2) : NULL;
	if (!end) {
		fail(run, "the client did not say \"%s\"%s%.*s", wanted, said.len ? ", but " : "",
			(int)said.len, (const char *)said.data);
	} else if ((size_t)(end - said.data) != len || memcmp(said.data, wanted, len) != 0) {
		fail(run, "the client said \"%.*s\" instead of \"%s\"", (int)(end - said.data),
			(const char *)said.data, wanted);
	} else {
		bytes_consume(&run->said, len + 2);
	}
	free(wanted);
}

static void expect_told(struct run_state *run, const char *line)
{
	const char *told = telling_next(&run->telling, line);
	if (!told) {
		fail(run, "the client did not tell \"%s\"", line);
	} else if (strcmp(told, line) != 0) {
		fail(run, "the client told \"%s\" instead of \"%s\"", told, line);
	} else {
		run->telling.next++;
	}
}

static void pass_time(struct run_state *run, double seconds)
{
	uint64_t end = run->now + (uint64_t)(seconds * 1e6), slack;
	for (int i = 0; i < 1000; i++) {
		uint64_t deadline = imap_client_deadline(run->client, &slack);
		if (deadline > end) {
			run->now = end;
			return;
		}
		run->now = deadline > run->now ? deadline : run->now;
		imap_client_tick(run->client, run->now);
		settle_client(run);
	}
	fail(run, "the client ticks without end");
}

/* Consecutive lines of the server are one receive. */
static void say(struct run_state *run)
{
	struct bytes data;
	bytes_init(&data);
	while (run->line < run->script->n_lines && run->script->lines[run->line][0] == 'S') {
		const char *line = run->script->lines[run->line];
		unsigned long n_times = 1;
		char kind = line[1];
		line += line[2] == ' ' ? 3 : 2;
		if (kind == '*') {
			char *end;
			n_times = strtoul(line, &end, 10);
			line = end + 1;
		}
		for (unsigned long i = 1; i <= n_times; i++) {
			size_t len;
			char *text = script_expand(line, kind == '*' ? i : 0, &len);
			bytes_put(&data, text, len);
			bytes_put_str(&data, kind == '+' ? "" : "\r\n");
			free(text);
		}
		run->line++;
	}
	struct span span = bytes_span(&data);
	run->line--;
	feed(run, span.data, span.len);
	bytes_done(&data);
}

static void run_line(struct run_state *run, const char *line)
{
	char *copy = strdup(line);
	if (line[0] == '\0' || line[0] == '#' || strncmp(line, "option ", 7) == 0 ||
		strncmp(line, "known ", 6) == 0 || strncmp(line, "watch ", 6) == 0 ||
		strncmp(line, "memory ", 7) == 0 || strncmp(line, "greeting ", 9) == 0 ||
		strncmp(line, "before ", 7) == 0 || strncmp(line, "after ", 6) == 0) {
		/* Read before the beginning. */
	} else if (line[0] == 'S') {
		say(run);
	} else if (strncmp(line, "C: ", 3) == 0) {
		expect_said(run, line + 3);
	} else if (strcmp(line, "C:") == 0) {
		expect_said(run, "");
	} else if (strncmp(line, "C? ", 3) == 0) {
		if (bytes_len(&run->said) > 0) {
			expect_said(run, line + 3);
		}
	} else if (strncmp(line, "E: ", 3) == 0) {
		expect_told(run, line + 3);
	} else if (strncmp(line, "E? ", 3) == 0) {
		const char *told = telling_next(&run->telling, line + 3);
		run->telling.next += told && strcmp(told, line + 3) == 0;
	} else if (strncmp(line, "E* ", 3) == 0) {
		char *end;
		unsigned long n_times = strtoul(line + 3, &end, 10);
		for (unsigned long i = 1; i <= n_times && !*run->problem; i++) {
			size_t len;
			char *text = script_expand(end + 1, i, &len);
			expect_told(run, text);
			free(text);
		}
	} else if (strncmp(line, "F: ", 3) == 0 || strncmp(line, "F! ", 3) == 0) {
		if ((strstr(run->failure, line + 3) != NULL) != (line[1] == ':')) {
			fail(run, "the words of the failure are \"%s\"", run->failure);
		}
	} else if (strncmp(line, "? ", 2) == 0) {
		const char *state = imap_state_name(imap_client_state(run->client));
		if (!state || strcmp(state, line + 2) != 0) {
			fail(run, "the state is \"%s\"", state ? state : "none");
		} else if (strcmp(state, "idling") == 0) {
			views_check(&run->views);
			take_problem(run);
		}
	} else if (strncmp(line, "T: ", 3) == 0) {
		pass_time(run, strtod(line + 3, NULL));
	} else if (strncmp(line, "> ", 2) == 0) {
		call_intent(run, copy + 2);
	} else if (line[0] == 'X') {
		struct failure failure;
		failure_set(&failure, FAILURE_OFFLINE, "%s", line + 2);
		imap_client_disconnected(run->client, &failure, run->now);
		settle_client(run);
	} else {
		fail(run, "what is \"%s\"?", line);
	}
	free(copy);
}

static void remember(struct run_state *run, const char *line)
{
	struct imap_memory *memory = &run->memory;
	memory->mechanism = strstr(line, "login=PLAIN") ? "PLAIN" : "LOGIN";
	memory->login_is_whole = true;
	memory->login_tells = strstr(line, " tells");
	memory->has_qresync = strstr(line, " qresync");
	memory->has_utf8 = strstr(line, " utf8");
}

static void read_preamble(struct run_state *run, char **options)
{
	size_t n_options = 0;
	for (run->line = 0; run->line < run->script->n_lines; run->line++) {
		const char *line = run->script->lines[run->line];
		if (strncmp(line, "option ", 7) == 0) {
			char *copy = options[n_options++] = strdup(line + 7), *rest = NULL;
			for (char *word = strtok_r(copy, " ", &rest); word;
				word = strtok_r(NULL, " ", &rest)) {
				set_option(run, word);
			}
		} else if (strncmp(line, "known ", 6) == 0) {
			char *copy = strdup(line + 6);
			views_restore(&run->views, copy);
			free(copy);
		} else if (strncmp(line, "watch ", 6) == 0) {
			run->watch = views_find(&run->views, line + 6);
		} else if (strncmp(line, "memory ", 7) == 0) {
			remember(run, line);
		} else if (strncmp(line, "greeting ", 9) == 0) {
			run->memory.greeting = strdup(line + 9);
		} else if (strncmp(line, "before ", 7) == 0) {
			run->memory.before = strdup(line + 7);
		} else if (strncmp(line, "after ", 6) == 0) {
			run->memory.after = strdup(line + 6);
		}
	}
}

static void check_end(struct run_state *run)
{
	const char *told = telling_next(&run->telling, NULL);
	if (run->mode == MODE_ENDED || run->mode == MODE_BYE || run->mode == MODE_ANSWER) {
		/* Whatever was going on: the last word is CLOSED, and nothing untold stays in a
		 * view. */
		bool is_lunacy = run->mode == MODE_ANSWER && !run->was_leaving;
		const char *wanted = is_lunacy ? "closed ProtocolError" : "closed";
		const char *last = telling_last(&run->telling);
		bool is_told = strncmp(last, wanted, strlen(wanted)) == 0;
		if (run->is_over && !run->is_skipped && !is_told) {
			fail(run,
				"the conversation ended at %zu and the client did not tell, "
				"but \"%s\"",
				run->cut, last);
		}
		return;
	}
	struct span said = bytes_span(&run->said);
	run->line = run->script->n_lines;
	if (said.len > 0) {
		fail(run, "the client also said \"%.*s\"", (int)said.len, (const char *)said.data);
	}
	if (told) {
		fail(run, "the client also told \"%s\"", told);
	}
}

/* How much the server said. */
struct extent {
	size_t n_octets;
	size_t n_cuts; /* so many places to cut at are enough */
	size_t n_gaps; /* between its responses; known after MODE_KEPT */
};

/* Whether it went well, else with the problem on standard output. */
static bool run_script(
	const struct script *script, enum mode mode, size_t cut, struct extent *extent)
{
	static struct run_state run;
	char *options[16] = {0};
	memset(&run, 0, sizeof(run));
	run.script = script;
	run.mode = mode;
	run.cut = cut;
	run.chance = cut;
	run.now = 1000 * USEC_PER_SEC;
	run.options = (struct imap_client_options){.transport = IMAP_TRANSPORT_TLS,
		.secret_kind = IMAP_SECRET_PASSWORD,
		.idle_timeout_usec = 9 * USEC_PER_MINUTE,
		.poll_interval_usec = 5 * USEC_PER_MINUTE};
	bytes_init(&run.said);
	telling_init(&run.telling);
	bytes_init(&run.trace);
	run.user = strdup("jo");
	run.password = strdup("secret");
	run.n_cuts = 4000;
	read_preamble(&run, options);
	run.options.memory = &run.memory;
	run.client = imap_client_new(&run.options, run.now);
	if (!run.client) {
		abort();
	}
	imap_memory_done(&run.memory);
	if (run.is_early) {
		imap_client_watch(run.client, run.watch, run.now);
	}
	imap_client_set_trace(run.client, &run.trace);
	for (run.line = 0; run.line < script->n_lines && !*run.problem && !run.is_over;
		run.line++) {
		run_line(&run, script->lines[run.line]);
	}
	if (!*run.problem) {
		check_end(&run);
	}
	imap_client_free(run.client);
	views_done(&run.views);
	telling_done(&run.telling);
	free(run.user);
	free(run.password);
	bytes_done(&run.trace);
	for (size_t i = 0; i < 16; i++) {
		free(options[i]);
	}
	bytes_done(&run.said);
	if (*run.problem) {
		static const char *const names[] = {"whole", "octet by octet", "split",
			"random cuts, seeded", "ended", "kept alive", "BYE",
			"an answer to nothing"};
		printf("# %s (%s at %zu)\n", run.problem, names[mode], cut);
		return false;
	}
	*extent =
		(struct extent){.n_octets = run.n_fed, .n_cuts = run.n_cuts, .n_gaps = run.n_gaps};
	return true;
}

static unsigned int n_tests;

static bool report(bool is_ok, const char *path, const char *what)
{
	const char *name = strrchr(path, '/');
	printf("%s %u - %s, %s\n", is_ok ? "ok" : "not ok", ++n_tests, name ? name + 1 : path,
		what);
	fflush(stdout);
	return is_ok;
}

/* With --sparse so many cuts are left out for each that is made: for slow tools such as valgrind.
 */
static size_t sparseness = 1;

/* At every place, or every step-th. */
static bool test_places(
	const struct script *script, enum mode mode, size_t first, size_t end, size_t step)
{
	bool is_fine = true;
	struct extent extent;
	for (size_t cut = first; cut < end && is_fine; cut += step) {
		is_fine = run_script(script, mode, cut, &extent);
	}
	return is_fine;
}

/* Ways to cut each conversation at random. */
#define N_RANDOM 20

static bool test_script(const char *path)
{
	struct script script;
	script_read(&script, path);
	struct extent whole = {0};
	struct extent kept = {0};
	bool is_ok = report(run_script(&script, MODE_WHOLE, 0, &whole), path, "whole");
	if (is_ok) {
		/* A long conversation is cut at some 4,000 places, or fewer, evenly. */
		size_t n = whole.n_octets;
		size_t step = (n / whole.n_cuts + 1) * sparseness;
		bool is_fine = run_script(&script, MODE_OCTETS, 0, &whole);
		is_ok = report(is_fine, path, "octet by octet") && is_ok;
		is_fine = test_places(&script, MODE_SPLIT, 1, n, step);
		is_ok = report(is_fine, path, "cut at every position") && is_ok;
		is_fine = test_places(&script, MODE_RANDOM, 1, 1 + N_RANDOM, 1);
		is_ok = report(is_fine, path, "cut at random positions") && is_ok;
		is_fine = test_places(&script, MODE_ENDED, 0, n, step);
		is_ok = report(is_fine, path, "ended at every position") && is_ok;
		is_fine = run_script(&script, MODE_KEPT, 0, &kept);
		is_ok = report(is_fine, path, "kept alive everywhere") && is_ok;
		step = (kept.n_gaps / whole.n_cuts + 1) * sparseness;
		is_fine = test_places(&script, MODE_BYE, 1, kept.n_gaps + 1, step) &&
			test_places(&script, MODE_ANSWER, 1, kept.n_gaps + 1, step);
		is_ok = report(is_fine, path, "BYE, or an answer to nothing, anywhere") && is_ok;
	}
	script_done(&script);
	return is_ok;
}

static int is_script(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');
	return dot && strcmp(dot, ".txt") == 0;
}

int main(int argc, char **argv)
{
	bool is_ok = true;
	if (argc < 2) {
		fprintf(stderr, "usage: %s [--sparse] FOLDER | FILE...\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--sparse") == 0) {
			sparseness = 97;
			continue;
		}
		struct dirent **entries = NULL;
		int n = scandir(argv[i], &entries, is_script, alphasort);
		if (n < 0) {
			is_ok = test_script(argv[i]) && is_ok;
		}
		for (int k = 0; k < n; k++) {
			char *path = NULL;
			if (asprintf(&path, "%s/%s", argv[i], entries[k]->d_name) < 0) {
				abort();
			}
			is_ok = test_script(path) && is_ok;
			free(path);
			free(entries[k]);
		}
		free(entries);
	}
	printf("1..%u\n", n_tests);
	return is_ok && n_tests > 0 ? 0 : 1;
}
