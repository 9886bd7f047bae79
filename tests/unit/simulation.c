/* Whole sessions of the engine against a model of a server, ended after every octet in either
 * direction and then resumed: whatever the cut, the client must come to the state that the uncut
 * session comes to, with each message announced once.
 *
 * A session comes from a seed alone: how the server behaves, what is in the mailbox at first, what
 * others do to it and what is asked of the client, and where octets are torn apart. The mailbox
 * does not depend on the client, so what it becomes in the end is the same for all cuts of a
 * session. A session that was cut is resumed with the view that lived on, and with one that is made
 * of what was told alone, as the daemon stores it; more may have happened meanwhile.
 *
 *   simulation [--sessions N] [--seed S] [--every K]  N sessions, S is the first; a cut at each
 *                                                     K-th octet (0: none)
 *   simulation --show S client|server AT view|stored  one run in words
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/client.h"
#include "tests/unit/imap_server.h"
#include "tests/unit/plan.h"
#include "tests/unit/stored.h"
#include "tests/unit/subscriber.h"
#include "util/clock.h"
#include "util/log.h"

enum {
	TURNS_MAX = 20000,
};

enum cut {
	CUT_NEVER,
	CUT_TO_CLIENT,
	CUT_TO_SERVER,
};

enum resumption {
	RESUME_VIEW,
	RESUME_STORED,
};

struct session {
	uint64_t seed;
	struct plan plan; /* its traits and its mailbox are what became of them so far */
	size_t next_step;
	struct chance chance;

	struct imap_server server;
	struct imap_client *client; /* NULL: not connected */
	struct imap_mailbox *view;
	struct stored stored;
	struct subscriber subscriber;
	struct imap_memory memory; /* of the connection before */
	bool is_login_alone;       /* the server has stumbled behind a login */
	bool is_stepwise;          /* ... anywhere */
	bool is_doubtful;          /* it seemed so, in the last connection */
	uint64_t bad_alone;
	bool refuses_login; /* the next one */
	bool has_failed;    /* the mailbox cannot be opened: to be tried again */
	uint64_t now;
	uint64_t next_id, request; /* request: the one that has had no DONE; 0 */
	bool is_fetching;

	enum cut cut;
	size_t cut_at;
	enum resumption resumption;
	size_t n_to_client, n_to_server;
	bool is_cut;

	size_t n_turns;
	bool is_verbose;
	char problem[600];
};

/* What a session came to. */
struct outcome {
	size_t n_to_client, n_to_server; /* octets */
	char mailbox[2048];              /* what became of it, in words, for comparison */
};

static struct {
	size_t n_cuts, n_runs, n_repeated, n_stumbles, n_refused;
	size_t every;
	bool is_verbose;
} total = {.every = 1};

__attribute__((format(printf, 2, 3))) static void fail(
	struct session *session, const char *format, ...)
{
	static const char *const cuts[] = {"uncut", "to the client", "to the server"};
	if (*session->problem) {
		return;
	}
	char text[400];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(session->problem, sizeof(session->problem), "session %llu (%s %zu, %s): %s",
		(unsigned long long)session->seed, cuts[session->cut], session->cut_at,
		session->resumption == RESUME_VIEW ? "view" : "stored", text);
}

static void say(const struct session *session, const char *who, struct span octets)
{
	if (session->is_verbose && octets.len > 0) {
		printf("# %s %.*s\n", who, (int)octets.len, (const char *)octets.data);
	}
}

/* -- the owner -- */

static void ask(struct session *session, bool is_fetch)
{
	session->is_fetching = is_fetch;
	session->request = ++session->next_id;
	if (!is_fetch) {
		imap_client_refresh(session->client, session->request, session->view, session->now);
		return;
	}
	struct runs uids;
	runs_init(&uids);
	uint32_t uid = runs_highest(&session->view->messages);
	runs_set(&uids, uid > 0 ? uid : 1, uid > 0 ? uid : 1, 0);
	imap_client_fetch(session->client, session->request, session->view, &uids,
		IMAP_ITEM_ENVELOPE | IMAP_ITEM_FLAGS, session->now);
	runs_done(&uids);
}

static void disconnect(struct session *session)
{
	session->client = imap_client_free(session->client);
	imap_server_done(&session->server);
}

static void give_credentials(struct session *session)
{
	const struct imap_credentials credentials = {
		.user = "jo",
		.kind = IMAP_SECRET_PASSWORD,
		.secret = "secret",
		.host = "imap.example.org",
		.port = 993,
	};
	imap_client_credentials(session->client, &credentials, session->now);
}

static void print_event(const struct session *session, const struct imap_event *event)
{
	static const char *const names[] = {"state", "tls", "deflate", "credentials", "ready",
		"baseline", "new", "flags", "expunged", "synchronised", "mailbox failed", "notify",
		"elsewhere", "listed", "message", "chunk", "moved", "done", "closed"};
	if (!session->is_verbose) {
		return;
	}
	printf("# event %s %s", names[event->kind], event->failure.text);
	for (size_t i = 0; i < event->n_messages; i++) {
		printf(" %u", event->messages[i]->uid);
	}
	if (event->kind == IMAP_EVENT_SYNCHRONISED || event->kind == IMAP_EVENT_BASELINE) {
		printf(" watermark %u modseq %llu", event->cursor.watermark,
			(unsigned long long)event->cursor.highestmodseq);
	}
	printf("\n");
}

/* As the daemon does. */
static void learn(struct session *session, const struct imap_event *event)
{
	uint64_t kind;
	enum imap_stumble stumble = imap_client_stumble(session->client, &kind);
	session->is_doubtful = stumble == IMAP_STUMBLE_HUNG || stumble == IMAP_STUMBLE_LIKELY;
	session->is_login_alone = session->is_login_alone || stumble == IMAP_STUMBLE_AT_LOGIN;
	if (stumble == IMAP_STUMBLE_CERTAIN) {
		session->is_stepwise = true;
		total.n_stumbles++;
		/* Time passes while octets are under way: what is only likely may be wrong. */
		if (session->plan.traits.stumble == IMAP_SERVER_BEARS) {
			fail(session, "the server bears several commands at a time, and did so");
		}
	}
	session->bad_alone |= imap_client_bad_alone(session->client);
	if (event->end == IMAP_END_CREDENTIALS) {
		imap_memory_done(&session->memory);
		total.n_refused++;
	}
}

static void pop_events(struct session *session)
{
	const struct imap_event *event;
	bool is_over = false;
	while (!is_over && (event = imap_client_next_event(session->client))) {
		print_event(session, event);
		subscriber_take(&session->subscriber, session->view, &session->server, event);
		stored_take(&session->stored, session->view, event);
		if (event->kind == IMAP_EVENT_CREDENTIALS) {
			give_credentials(session);
		} else if (event->kind == IMAP_EVENT_READY) {
			imap_memory_done(&session->memory);
			imap_client_take_memory(session->client, &session->memory);
			imap_client_watch(session->client, session->view, session->now);
			if (session->request) {
				ask(session, session->is_fetching);
			}
		} else if (event->kind == IMAP_EVENT_MAILBOX_FAILED) {
			session->has_failed = true;
		} else if (event->kind == IMAP_EVENT_DONE) {
			session->request = session->request == event->id ? 0 : session->request;
		}
		is_over = event->kind == IMAP_EVENT_CLOSED;
		if (is_over) {
			learn(session, event);
		}
	}
	if (*session->subscriber.problem) {
		fail(session, "%s", session->subscriber.problem);
	}
	if (is_over) {
		disconnect(session);
		if (session->resumption == RESUME_STORED) {
			imap_mailbox_free(session->view);
			session->view =
				stored_restore(&session->stored, session->plan.announces_all);
		}
		session->now += USEC_PER_SEC;
	}
}

static void cut(struct session *session)
{
	struct failure failure;
	failure_set(&failure, FAILURE_OFFLINE, "cut");
	say(session, "cut", span_of("here"));
	session->is_cut = true;
	imap_client_disconnected(session->client, &failure, session->now);
	pop_events(session);
}

/* How much of so many octets travels before the cut. */
static size_t before_cut(
	const struct session *session, enum cut direction, size_t n_travelled, size_t len)
{
	bool is_near = session->cut == direction && !session->is_cut &&
		session->cut_at < n_travelled + len;
	return is_near ? session->cut_at - n_travelled : len;
}

/* -- what happens -- */

static void happen(struct session *session, const struct step *step)
{
	struct imap_server_mailbox *mailbox = &session->plan.mailbox;
	switch (step->kind) {
	case STEP_ARRIVE:
		imap_server_arrive(mailbox, step->flags);
		return;
	case STEP_CHANGE:
		imap_server_change(mailbox, step->argument, step->flags);
		return;
	case STEP_EXPUNGE:
		imap_server_expunge(mailbox, step->argument);
		return;
	case STEP_RESET:
		imap_server_mailbox_create(mailbox, mailbox->uidvalidity + 1 + step->argument);
		imap_server_arrive(mailbox, step->flags);
		imap_server_bye(&session->server, step->argument % 2 ? "Lost my way." : NULL);
		return;
	case STEP_DELETE:
		imap_server_mailbox_delete(mailbox);
		imap_server_bye(&session->server, step->argument % 2 ? "Deleted." : NULL);
		return;
	case STEP_CREATE:
		imap_server_mailbox_create(mailbox, mailbox->uidvalidity + 1 + step->argument);
		return;
	case STEP_BYE:
		imap_server_bye(&session->server, step->argument % 2 ? "Later." : NULL);
		return;
	case STEP_PASSWORD:
		session->refuses_login = true;
		imap_server_bye(&session->server, NULL);
		return;
	case STEP_ABILITIES:
		session->plan.traits.has_condstore = !session->plan.traits.has_condstore;
		session->plan.traits.has_qresync =
			session->plan.traits.has_condstore && step->argument % 2;
		imap_server_bye(&session->server, NULL);
		return;
	case STEP_REFRESH:
	case STEP_FETCH:
	case STEP_TIME:
	case STEP_LOGOUT:
		return;
	}
}

static const struct step *next_happening(const struct session *session)
{
	const struct step *step = &session->plan.steps[session->next_step];
	return session->next_step < session->plan.n_steps && step->kind < STEP_REFRESH ? step
										       : NULL;
}

/* The next happening, and those that come at once with it. */
static void let_happen(struct session *session)
{
	const struct step *step = next_happening(session);
	while (step) {
		if (session->is_verbose) {
			printf("# happens %d %u %u\n", step->kind, step->argument, step->flags);
		}
		happen(session, step);
		session->next_step++;
		step = next_happening(session);
		step = step && step->at_once ? step : NULL;
	}
}

static void meanwhile(void *userdata)
{
	struct session *session = userdata;
	if (next_happening(session) && chance_below(&session->chance, session->plan.pace) == 0) {
		let_happen(session);
	}
}

static void pass_time(struct session *session, uint64_t most)
{
	uint64_t slack;
	uint64_t deadline = imap_client_deadline(session->client, &slack);
	session->now = deadline < session->now + most ? deadline : session->now + most;
	imap_server_look(&session->server, true);
	imap_client_tick(session->client, session->now);
	pop_events(session);
}

static void take_step(struct session *session)
{
	const struct step *step = &session->plan.steps[session->next_step];
	if (next_happening(session)) {
		let_happen(session);
		imap_server_look(&session->server, false);
		return;
	}
	bool is_ready = imap_client_state(session->client) >= IMAP_STATE_READY &&
		session->request == 0 && session->view->cursor.uidvalidity != 0;
	session->next_step++;
	if (step->kind == STEP_TIME) {
		pass_time(session, 10 * USEC_PER_MINUTE);
	} else if (step->kind == STEP_LOGOUT) {
		imap_client_logout(session->client, session->now);
		pop_events(session);
	} else if (is_ready) {
		ask(session, step->kind == STEP_FETCH);
		pop_events(session);
	}
}

/* -- octets -- */

static size_t part_of(struct session *session, size_t len)
{
	return chance_below(&session->chance, 2)
		? len
		: 1 + chance_below(&session->chance, (uint32_t)len);
}

static bool bring_to_server(struct session *session)
{
	struct span output = imap_client_output(session->client);
	if (output.len == 0 || session->server.is_closed) {
		return false;
	}
	size_t len = part_of(session, output.len);
	size_t n = before_cut(session, CUT_TO_SERVER, session->n_to_server, len);
	session->n_to_server += n;
	say(session, "C:", (struct span){.data = output.data, .len = n});
	imap_server_receive(&session->server, output.data, n);
	imap_client_sent(session->client, n, session->now);
	if (n < len) {
		cut(session);
	}
	return true;
}

static bool bring_to_client(struct session *session)
{
	struct span output = bytes_span(&session->server.output);
	if (output.len == 0) {
		return false;
	}
	size_t len = part_of(session, output.len);
	size_t n = before_cut(session, CUT_TO_CLIENT, session->n_to_client, len);
	session->n_to_client += n;
	say(session, "S:", (struct span){.data = output.data, .len = n});
	imap_client_receive(session->client, output.data, n, session->now);
	bytes_consume(&session->server.output, n);
	pop_events(session);
	if (n < len && session->client) {
		cut(session);
	}
	return true;
}

static void connect(struct session *session)
{
	const struct imap_client_options options = {
		.transport = IMAP_TRANSPORT_TLS,
		.auth = "login",
		.secret_kind = IMAP_SECRET_PASSWORD,
		.seed = session->seed,
		.idle_timeout_usec = 9 * USEC_PER_MINUTE,
		.poll_interval_usec = 5 * USEC_PER_MINUTE,
		.memory = &session->memory,
		.is_login_alone = session->is_login_alone,
		.is_stepwise = session->is_stepwise || session->is_doubtful,
		.bad_alone = session->bad_alone,
	};
	session->client = imap_client_new(&options, session->now);
	if (!session->client) {
		abort();
	}
	static const char *const others[] = {"Other"};
	imap_client_watch_others(
		session->client, others, session->plan.watches_another, session->now);
	session->has_failed = false;
	imap_server_init(
		&session->server, &session->plan.traits, &session->plan.mailbox, &session->chance);
	session->server.meanwhile = meanwhile;
	session->server.userdata = session;
	session->server.refuses_login = session->refuses_login;
	session->refuses_login = false;
	if (session->plan.is_early) {
		imap_client_watch(session->client, session->view, session->now);
	}
}

/* What is told to nobody happens meanwhile. */
static void reconnect(struct session *session)
{
	uint32_t n = chance_below(&session->chance, 4);
	for (uint32_t i = 0; i < n; i++) {
		while (session->next_step < session->plan.n_steps && !next_happening(session)) {
			session->next_step++;
		}
		let_happen(session);
	}
	connect(session);
}

/* One thing of all that could come next; false when nothing is on its way. */
static bool turn(struct session *session)
{
	if (session->n_turns++ > TURNS_MAX) {
		fail(session, "there is no end");
		return false;
	}
	if (!session->client) {
		reconnect(session);
		return true;
	}
	if (session->next_step < session->plan.n_steps &&
		chance_below(&session->chance, session->plan.pace) == 0) {
		take_step(session);
		return true;
	}
	bool server_first = chance_below(&session->chance, 2);
	if ((server_first && bring_to_server(session)) ||
		(session->client && bring_to_client(session)) ||
		(session->client && !server_first && bring_to_server(session))) {
		return true;
	}
	if (session->client && session->server.is_closed) {
		struct failure failure;
		failure_set(&failure, FAILURE_OFFLINE, "the server ended the stream");
		imap_client_disconnected(session->client, &failure, session->now);
		pop_events(session);
		return true;
	}
	return false;
}

/* -- the end -- */

static bool is_at_rest(const struct session *session)
{
	return session->client && imap_client_state(session->client) == IMAP_STATE_IDLING &&
		session->request == 0;
}

/* Until the client idles and nothing is on its way. */
static void settle(struct session *session)
{
	uint64_t stalled = session->now;
	while (!*session->problem) {
		if (turn(session)) {
			stalled = session->now;
			continue;
		}
		if (is_at_rest(session)) {
			return;
		}
		if (*session->problem) {
			return;
		}
		if (session->has_failed) {
			session->has_failed = false;
			session->now += USEC_PER_SEC;
			stalled = session->now;
			imap_client_watch(session->client, session->view, session->now);
			pop_events(session);
		} else if (session->now > stalled + 2 * USEC_PER_MINUTE) {
			fail(session, "stuck (%s)",
				imap_state_name(imap_client_state(session->client)));
		} else {
			pass_time(session, 10 * USEC_PER_SEC);
		}
	}
}

static void check_message(struct session *session, const struct imap_server_message *message)
{
	const struct imap_mailbox *view = session->view;
	uint16_t value = 0;
	char flags[64] = "";
	for (size_t i = 0; i < IMAP_SERVER_FLAGS; i++) {
		if (message->flags & (1u << i)) {
			strcat(flags, *flags ? " " : "");
			strcat(flags, imap_server_flags[i]);
		}
	}
	const char *set;
	if (!runs_get(&view->messages, message->uid, &value)) {
		fail(session, "message %u is missing", message->uid);
	} else if (imap_mailbox_is_read(view, value) != !!(message->flags & IMAP_SERVER_SEEN)) {
		fail(session, "message %u is read and it is not, or the other way round",
			message->uid);
	} else if (view->cursor.has_flags &&
		(!(set = imap_mailbox_flag_set(view, value)) || strcmp(set, flags) != 0)) {
		fail(session, "message %u has flags \"%s\", not what the view says", message->uid,
			flags);
	} else if (!subscriber_check_message(&session->subscriber, message)) {
		fail(session, "%s", session->subscriber.problem);
	}
}

static void check(struct session *session)
{
	const struct imap_server_mailbox *mailbox = &session->plan.mailbox;
	uint64_t n_unread = 0;
	for (size_t i = 0; i < mailbox->n_messages && !*session->problem; i++) {
		check_message(session, &mailbox->messages[i]);
		n_unread += !(mailbox->messages[i].flags & IMAP_SERVER_SEEN);
	}
	if (!*session->problem && !subscriber_check_gone(&session->subscriber, mailbox)) {
		fail(session, "%s", session->subscriber.problem);
	}
	if (runs_count(&session->view->messages) != mailbox->n_messages) {
		fail(session, "the view has %u messages instead of %zu",
			(unsigned int)runs_count(&session->view->messages), mailbox->n_messages);
	} else if (session->view->n_unread != n_unread) {
		fail(session, "%u messages are unread, not %u", (unsigned int)n_unread,
			(unsigned int)session->view->n_unread);
	}
}

/* All that was to happen has happened: what is not pushed is found at the next renewal, and then
 * nothing is left to be told. */
static void finish(struct session *session)
{
	settle(session);
	for (int i = 0; i < 2 && !*session->problem; i++) {
		uint64_t slack;
		session->now = imap_client_deadline(session->client, &slack);
		pass_time(session, USEC_PER_SEC);
		settle(session);
	}
	if (!*session->problem) {
		check(session);
	}
	if (!*session->problem) {
		session->subscriber.is_settled = true;
		ask(session, false);
		settle(session);
	}
}

/* -- sessions -- */

static void begin(struct session *session)
{
	session->now = 1000 * USEC_PER_SEC;
	session->is_verbose = total.is_verbose;
	session->view = imap_mailbox_new("INBOX");
	if (!session->view) {
		abort();
	}
	stored_init(&session->stored);
	chance_init(&session->chance, session->seed);
	plan_choose(&session->plan, session->seed, &session->chance);
	session->view->announce_all = session->plan.announces_all;
	connect(session);
}

static void play(struct session *session)
{
	while (!*session->problem && session->next_step < session->plan.n_steps) {
		settle(session);
		if (session->next_step < session->plan.n_steps && !*session->problem) {
			take_step(session);
		}
	}
	finish(session);
}

static void end(struct session *session)
{
	if (session->client) {
		disconnect(session);
	}
	imap_memory_done(&session->memory);
	imap_mailbox_free(session->view);
	stored_done(&session->stored);
}

static void tell_outcome(const struct session *session, struct outcome *outcome)
{
	const struct imap_server_mailbox *mailbox = &session->plan.mailbox;
	char *text = outcome->mailbox;
	size_t size = sizeof(outcome->mailbox);
	outcome->n_to_client = session->n_to_client;
	outcome->n_to_server = session->n_to_server;
	int len = snprintf(text, size, "%u:", mailbox->uidvalidity);
	for (size_t i = 0; i < mailbox->n_messages && (size_t)len < size; i++) {
		len += snprintf(text + len, size - (size_t)len, " %u/%x", mailbox->messages[i].uid,
			mailbox->messages[i].flags);
	}
}

/* Runs a session with this cut. Whether all was well; else the problem is printed. */
static bool run(uint64_t seed, enum cut direction, size_t at, enum resumption resumption,
	struct outcome *outcome)
{
	static struct session session;
	memset(&session, 0, sizeof(session));
	session.seed = seed;
	session.cut = direction;
	session.cut_at = at;
	session.resumption = resumption;
	begin(&session);
	play(&session);
	bool is_ok = !*session.problem;
	if (!is_ok) {
		printf("# %s\n", session.problem);
	}
	tell_outcome(&session, outcome);
	total.n_runs++;
	total.n_repeated += session.subscriber.n_repeated;
	end(&session);
	return is_ok;
}

static bool run_cut(uint64_t seed, enum cut direction, size_t at, const struct outcome *wanted)
{
	struct outcome reached;
	total.n_cuts++;
	for (enum resumption i = RESUME_VIEW; i <= RESUME_STORED; i++) {
		if (!run(seed, direction, at, i, &reached)) {
			return false;
		}
		if (strcmp(reached.mailbox, wanted->mailbox) != 0) {
			printf("# session %llu, cut at %zu: the mailbox became another one\n",
				(unsigned long long)seed, at);
			return false;
		}
	}
	return true;
}

static bool test_session(uint64_t seed)
{
	struct outcome wanted;
	if (!run(seed, CUT_NEVER, 0, RESUME_VIEW, &wanted)) {
		return false;
	}
	bool is_ok = true;
	for (size_t at = 0; total.every && at < wanted.n_to_client && is_ok; at += total.every) {
		is_ok = run_cut(seed, CUT_TO_CLIENT, at, &wanted);
	}
	for (size_t at = 0; total.every && at < wanted.n_to_server && is_ok; at += total.every) {
		is_ok = run_cut(seed, CUT_TO_SERVER, at, &wanted);
	}
	return is_ok;
}

/* One run in words. */
static int show(char **words)
{
	struct outcome outcome;
	total.is_verbose = true;
	bool is_ok = run(strtoull(words[0], NULL, 10),
		strcmp(words[1], "client") == 0 ? CUT_TO_CLIENT : CUT_TO_SERVER,
		strtoull(words[2], NULL, 10),
		strcmp(words[3], "view") == 0 ? RESUME_VIEW : RESUME_STORED, &outcome);
	printf("# %s\n", outcome.mailbox);
	return is_ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1;
	size_t n_sessions = 60;
	size_t n_bad = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--show") == 0 && i + 4 < argc) {
			return show(argv + i + 1);
		} else if (strcmp(argv[i], "--sessions") == 0 && i + 1 < argc) {
			n_sessions = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--every") == 0 && i + 1 < argc) {
			total.every = strtoull(argv[++i], NULL, 10);
		} else {
			fprintf(stderr,
				"usage: %s [--sessions N] [--seed S] [--every K]\n"
				"       %s --show S client|server AT view|stored\n",
				argv[0], argv[0]);
			return 2;
		}
	}
	log_set_level(LOG_LEVEL_ERROR);
	for (size_t i = 0; i < n_sessions; i++) {
		bool is_ok = test_session(seed + i);
		printf("%s %zu - session %llu\n", is_ok ? "ok" : "not ok", i + 1,
			(unsigned long long)(seed + i));
		fflush(stdout);
		n_bad += !is_ok;
	}
	printf("# %zu cut points, %zu runs; flags told again: %zu; stumbled: %zu; refused: %zu\n",
		total.n_cuts, total.n_runs, total.n_repeated, total.n_stumbles, total.n_refused);
	printf("1..%zu\n", n_sessions);
	return n_bad == 0 && n_sessions > 0 ? 0 : 1;
}
