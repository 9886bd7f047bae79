/* Whatever callers ask for: every call has one answer, which is what the interface says or an error
 * of a known name. An input is a list of calls, a line for each: the method and its arguments, with
 * blanks between. A number stands for itself, "1,5:9" for UIDs, "a,b" for strings; "\xHH" is an
 * octet. "!TYPES" behind the method sends arguments of these types, whatever it wants; "." instead
 * of a method asks for a property. They go by a socket to the real methods, behind which are
 * accounts of a machine that sleeps: no connection is tried.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "dbus/object.h"
#include "dbus/root.h"
#include "tests/fuzzing/check.h"
#include "tests/unit/script.h"
#include "util/log.h"

enum {
	N_CALLS_HIGHEST = 64,
	N_UIDS_HIGHEST = 5000,
	N_STRINGS_HIGHEST = 1200,
};

struct methods {
	const char *name, *types, *result;
};

static const struct methods methods[] = {
	{"Refresh", "ss", ""},
	{"Fetch", "ssauas", "aa{sv}"},
	{"FetchRaw", "ssu", "ht"},
	{"ListSince", "ssuuu", "aa{sv}"},
	{"ListUnread", "ssu", "aa{sv}"},
	{"Stop", "ss", ""},
	{"Start", "ss", ""},
	{"SetFlags", "ssauasas", ""},
	{"Move", "ssaus", ""},
	{"ListMailboxes", "s", "a(sas)"},
	{"Reload", "", ""},
};

static const char configuration[] = "account \"work\" {\n\thost = \"127.0.0.1\"\n\tport = 9\n"
				    "\tsecurity = plain\n\tuser = \"jo\"\n"
				    "\tpassword-command = \"true\"\n"
				    "\tmailboxes = { \"INBOX\", \"Lists/*\" }\n}\n"
				    "account \"home\" {\n\thost = \"127.0.0.1\"\n\tport = 9\n"
				    "\tsecurity = plain\n\tuser = \"al\"\n"
				    "\tpassword-command = \"true\"\n}\n";

struct fixture {
	struct ev_loop *loop;
	struct turn *turn;
	struct task owner;
	struct state *state;
	struct accounts *accounts;
	struct root root;
	sd_bus *server, *caller;
	size_t n_calls, n_answers;
	const char *results[N_CALLS_HIGHEST]; /* by call; NULL: an error */
	uint64_t cookies[N_CALLS_HIGHEST];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void on_woken(struct task *task)
{
	(void)task;
}

static struct config *read_configuration(void)
{
	const int fd = memfd_create("mailidle.conf", MFD_CLOEXEC);
	struct config *config = NULL;
	struct bytes problems;
	char path[32];

	require(fd >= 0 && fchmod(fd, 0600) == 0 &&
			write(fd, configuration, strlen(configuration)) > 0,
		"no file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	bytes_init(&problems);
	require(config_load(path, false, &config, &problems) == 0, "%.*s",
		(int)bytes_len(&problems), (const char *)bytes_span(&problems).data);
	bytes_done(&problems);
	close(fd);
	return config;
}

static void connect_peers(struct fixture *fixture)
{
	const sd_id128_t id =
		SD_ID128_MAKE(00, 11, 22, 33, 44, 55, 66, 77, 88, 99, aa, bb, cc, dd, ee, ff);
	int fds[2];

	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0,
		"no socket");
	require(sd_bus_new(&fixture->server) >= 0 && sd_bus_new(&fixture->caller) >= 0 &&
			sd_bus_set_fd(fixture->server, fds[0], fds[0]) >= 0 &&
			sd_bus_set_fd(fixture->caller, fds[1], fds[1]) >= 0 &&
			sd_bus_set_server(fixture->server, 1, id) >= 0 &&
			sd_bus_negotiate_fds(fixture->server, 1) >= 0 &&
			sd_bus_negotiate_fds(fixture->caller, 1) >= 0 &&
			sd_bus_set_anonymous(fixture->server, 1) >= 0 &&
			sd_bus_start(fixture->server) >= 0 && sd_bus_start(fixture->caller) >= 0,
		"no bus");
	require(sd_bus_add_object_vtable(fixture->server, NULL, OBJECT_ROOT_PATH,
			PROPERTY_ROOT_INTERFACE, root_vtable, &fixture->root) >= 0,
		"no object");
}

/* -- calls -- */

static int put_uids(sd_bus_message *call, const char *word)
{
	uint32_t *list = calloc(N_UIDS_HIGHEST, sizeof(*list));
	size_t n = 0;
	int error;

	require(list != NULL, "no memory");
	/* In the input's order, and what is there twice stays so: sets are made behind the bus. */
	while (*word != '\0' && n < N_UIDS_HIGHEST) {
		char *end;
		uint32_t first = (uint32_t)strtoul(word, &end, 10), last = first;

		if (*end == ':') {
			last = (uint32_t)strtoul(end + 1, &end, 10);
		}
		list[n++] = first;
		while (first < last && n < N_UIDS_HIGHEST) {
			list[n++] = ++first;
		}
		word = *end == '\0' ? end : end + 1;
	}
	error = sd_bus_message_append_array(call, 'u', list, n * sizeof(*list));
	free(list);
	return error;
}

static int put_strings(sd_bus_message *call, char *word)
{
	char *rest = word, *string;
	size_t n = 0;
	int error = sd_bus_message_open_container(call, 'a', "s");

	while (error >= 0 && word[0] != '\0' && (string = strsep(&rest, ",")) &&
		n++ < N_STRINGS_HIGHEST) {
		error = sd_bus_message_append_basic(call, 's', string);
	}
	return error < 0 ? error : sd_bus_message_close_container(call);
}

/* The next argument, an octet string that the input chose. */
static char *next_word(char **rest)
{
	char *word = *rest ? strsep(rest, " ") : NULL;
	size_t len;

	return script_expand(word ? word : "", 0, &len);
}

static int put_argument(sd_bus_message *call, const char **types, char *word)
{
	uint32_t number = (uint32_t)strtoul(word, NULL, 10);
	uint64_t long_number = strtoull(word, NULL, 10);

	switch (**types) {
	case 's':
		return sd_bus_message_append_basic(call, 's', word);
	case 'u':
		return sd_bus_message_append_basic(call, 'u', &number);
	case 't':
		return sd_bus_message_append_basic(call, 't', &long_number);
	case 'v':
		return sd_bus_message_append(call, "v", "s", word);
	case 'a':
		++*types;
		return **types == 'u'    ? put_uids(call, word)
			: **types == 's' ? put_strings(call, word)
					 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static const struct methods *find_method(const char *name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, name) == 0) {
			return &methods[i];
		}
	}
	return NULL;
}

/* 0 or why it cannot be said on a bus. */
static int write_call(struct fixture *fixture, char *line, sd_bus_message **ret_call)
{
	char *rest = line;
	char *name = strsep(&rest, " ");
	const struct methods *method = find_method(name);
	const bool is_property = name[0] == '.';
	const char *types = is_property ? "ss" : method ? method->types : "";
	int error =
		sd_bus_message_new_method_call(fixture->caller, ret_call, NULL, OBJECT_ROOT_PATH,
			is_property ? "org.freedesktop.DBus.Properties" : PROPERTY_ROOT_INTERFACE,
			is_property ? "Get" : name);

	fixture->results[fixture->n_calls] = is_property ? "v" : method ? method->result : NULL;
	if (error >= 0 && is_property) {
		return sd_bus_message_append(*ret_call, "ss", PROPERTY_ROOT_INTERFACE, name + 1);
	}
	if (rest && rest[0] == '!') {
		types = strsep(&rest, " ") + 1;
	}
	for (; error >= 0 && *types != '\0'; types++) {
		char *word = next_word(&rest);

		error = put_argument(*ret_call, &types, word);
		free(word);
	}
	return error;
}

static int on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *ret_error)
{
	struct fixture *fixture = userdata;
	const sd_bus_error *error = sd_bus_message_get_error(answer);
	uint64_t cookie = 0;
	size_t i = 0;

	(void)ret_error;
	require(sd_bus_message_get_reply_cookie(answer, &cookie) >= 0, "an answer to nothing");
	while (i < fixture->n_calls && fixture->cookies[i] != cookie) {
		i++;
	}
	require(i < fixture->n_calls, "an answer to nothing");
	fixture->cookies[i] = 0;
	fixture->n_answers++;
	if (error) {
		/* The others are sd-bus's own, which quotes what it was given. */
		const bool is_ours = strncmp(error->name, "org.example.MailIdle.Error.", 27) == 0;

		require(is_ours || strncmp(error->name, "org.freedesktop.DBus.Error.", 27) == 0,
			"an error without a name: %s", error->name);
		require(error->message && error->message[0] != '\0', "an error without words");
		if (is_ours) {
			require_clean(error->message, true);
		}
	} else {
		require(fixture->results[i] &&
				sd_bus_message_has_signature(answer, fixture->results[i]),
			"an answer of other types");
	}
	return 0;
}

static void call(struct fixture *fixture, char *line)
{
	sd_bus_message *message = NULL;

	if (write_call(fixture, line, &message) >= 0 &&
		sd_bus_call_async(fixture->caller, NULL, message, on_answer, fixture, UINT64_MAX) >=
			0 &&
		sd_bus_message_get_cookie(message, &fixture->cookies[fixture->n_calls]) >= 0) {
		fixture->n_calls++;
	}
	sd_bus_message_unref(message);
}

/* -- answers -- */

static bool answer_events(struct fixture *fixture)
{
	struct account_event *event;
	bool is_busy = false;

	while ((event = accounts_next_event(fixture->accounts))) {
		is_busy = true;
		if (event->kind == ACCOUNT_EVENT_REPLY) {
			requests_answer(&fixture->root.requests, event);
		}
	}
	accounts_announced(fixture->accounts);
	return is_busy;
}

/* Until nobody has anything to say. */
static void settle(struct fixture *fixture)
{
	bool is_busy = true;

	while (is_busy) {
		const int by_server = sd_bus_process(fixture->server, NULL);
		const int by_caller = sd_bus_process(fixture->caller, NULL);

		require(by_server >= 0 && by_caller >= 0, "the bus is lost: %d %d", by_server,
			by_caller);
		ev_run(fixture->loop, EVRUN_NOWAIT);
		is_busy = answer_events(fixture) || by_server > 0 || by_caller > 0;
		if (fixture->root.reloads.n > 0) {
			requests_answer_all(&fixture->root.reloads, FAILURE_NONE, "");
			is_busy = true;
		}
	}
}

static void set_up(struct fixture *fixture)
{
	log_set_level(LOG_LEVEL_ERROR);
	fixture->loop = ev_loop_new(EVFLAG_AUTO);
	require(fixture->loop && turn_new(fixture->loop, &fixture->turn) == 0, "no loop");
	task_init(&fixture->owner, fixture->turn, on_woken);
	/* There is no such folder: it remembers nothing. */
	require(state_open("/proc/mailidle", &fixture->state) == 0, "no state");
	require(accounts_new(fixture->turn, &fixture->owner, fixture->state, -1,
			&fixture->accounts) == 0,
		"no accounts");
	accounts_sleep(fixture->accounts);
	require(accounts_configure(fixture->accounts, read_configuration()) == 0, "no accounts");
	fixture->root.accounts = fixture->accounts;
	fixture->root.owner = &fixture->owner;
	requests_init(&fixture->root.requests);
	requests_init(&fixture->root.reloads);
	connect_peers(fixture);
	settle(fixture);
}

static void tear_down(struct fixture *fixture)
{
	requests_done(&fixture->root.requests);
	requests_done(&fixture->root.reloads);
	sd_bus_close_unref(fixture->caller);
	sd_bus_close_unref(fixture->server);
	accounts_free(fixture->accounts);
	state_close(fixture->state);
	task_done(&fixture->owner);
	turn_free(fixture->turn);
	ev_loop_destroy(fixture->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fixture fixture = {0};
	char *text = strndup((const char *)data, len);
	char *rest = text, *line;

	set_up(&fixture);
	while ((line = strsep(&rest, "\n")) && fixture.n_calls < N_CALLS_HIGHEST) {
		if (line[0] == '\0') {
			/* Those before it are answered before those behind it are heard. */
			settle(&fixture);
		} else {
			call(&fixture, line);
		}
	}
	settle(&fixture);
	require(fixture.n_answers == fixture.n_calls, "%zu calls, %zu answers", fixture.n_calls,
		fixture.n_answers);
	tear_down(&fixture);
	free(text);
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
