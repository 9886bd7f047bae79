/* mailidled: watches mailboxes by IMAP IDLE and puts them on the session bus.
 *
 * The map of the program. Folders are layers, and no include points up: util < imap, net, mime
 * (which are strangers to each other) < config, state < secret, account < dbus < main.
 *
 *   util/       knows nothing
 *     arena, bytes, list, runs    memory and collections: runs are sets of UIDs
 *     text, failure, log          what people read
 *     clock, backoff              time and chance
 *     turn                        tasks and deadlines in the loop
 *     sleep                       notices that the machine slept
 *     shell                       commands of the configuration
 *
 *   imap/       the engine: octets and time in, octets and events out; no socket, no clock
 *     client, engine.h            one connection: what is wanted of it, and what it tells
 *     login, sasl, oauth          from the greeting to being logged in
 *     memory, guess               what may be assumed, and is sent before it is certain
 *     stumble                     servers that do not bear several commands at a time
 *     dispatch                    which part a response is for
 *     cycle, logout               synchronise, idle, synchronise; and the end
 *     open, follow                opening a mailbox, and what has changed in it
 *     notify, elsewhere           what is told of other mailboxes, and asked by STATUS
 *     request, command, writer    what callers want, as commands on the wire
 *     framer, lexer, response     the server's half, taken apart;
 *     fetch, structure, search, status    its greater parts
 *     mailbox, message            what is known of them
 *     utf7, trace                 names of mailboxes; the conversation for people
 *
 *   net/        one stream of octets to a server
 *     stream                      what the rest of the program sees of it
 *     resolve, address, dial, proxy    how it is connected
 *     wire, tls, tls_trust, tls_certificate, ticket, deflate    what it goes through
 *     network, path               news of this machine's network, and what they mean
 *
 *   mime/       header texts and bodies as people read them
 *     header, date, parameter, charset
 *     text, html, entity, flowed
 *
 *   config      the configuration file; config_source, _tree, _options, _problems
 *   state       what must survive, in a database; state_file, state_query, state_schema
 *   message     a message as the bus shows it
 *   secret      passwords and tokens; secret_command, secret_memory
 *   terms, key, gate, retry, watch, transcript    what a connection needs
 *   server                      what is known of servers from connections before
 *   connection, connection_attempt    a stream and an engine, held together and renewed
 *   mailbox     a mailbox followed; mailbox_follow, delta
 *   account, accounts    all of it, as account.h shows it; listing, share, visit, serve, show
 *   tally       what mailboxes are together
 *   call, wish  what callers want
 *   notice      what the bus is told, and what becomes durable then
 *
 *   dbus/       everything that speaks to a bus
 *     bus                         sd-bus in the loop
 *     service                     our name, objects, signals and replies
 *     root, request               the methods, and their replies that come later
 *     object, property            accounts and mailboxes as objects
 *     body, dictionary, error     what is in messages
 *     logind                      the machine's sleep, on the system bus
 *
 *   options     the command line
 *   folder      where the state lives
 *   supervisor  the service manager that started us
 *   machine     the machine's network and sleep, and what they mean for the accounts
 *
 * This file is the wiring: it makes the parts, gives each what it needs, wakes up when one of them
 * has something to say, and takes them apart again.
 */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "account.h"
#include "config.h"
#include "dbus/bus.h"
#include "dbus/service.h"
#include "folder.h"
#include "machine.h"
#include "mime/header.h"
#include "options.h"
#include "state.h"
#include "supervisor.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/log.h"
#include "util/shell.h"
#include "util/turn.h"

/* The contract gives us 2 s from SIGTERM on; the accounts take 1.5 s at most. */
#define STOP_USEC (1700 * USEC_PER_MSEC)

/* Newer than some kernels' headers. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN (1UL << 0)
#endif
#ifndef PR_MDWE_NO_INHERIT
#define PR_MDWE_NO_INHERIT (1UL << 1)
#endif

struct daemon {
	struct options options;
	char *config_path;
	char *state_path;
	int trace_fd;
	struct ev_loop *loop;
	struct turn *turn;
	struct task task;     /* woken by what tells something: see what they have */
	struct task deadline; /* of stopping */
	struct state *state;
	struct accounts *accounts;
	struct bus *bus;
	struct service *service;
	struct machine machine;
	struct supervisor supervisor;
	struct ev_signal sigterm;
	struct ev_signal sigint;
	struct ev_signal sighup;
	bool wants_reload; /* by SIGHUP */
	bool is_stopping;
	int exit_code;
};

/* Mail and secrets end up neither in files for others nor in a core dump. Not being dumpable also
 * keeps other processes of the user from reading our memory. */
static void harden(void)
{
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	/* A file that must not grow is an error of its write, not the end. */
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){0}) < 0) {
		log_warning(NULL, NULL, "core dumps cannot be forbidden: %s", strerror(errno));
	}
	if (MAILIDLE_DUMPABLE) {
		return;
	}
	if (prctl(PR_SET_DUMPABLE, 0) < 0) {
		log_warning(NULL, NULL, "our memory cannot be closed: %s", strerror(errno));
	}
	/* Since Linux 6.6, and not for what a password command runs, which may well compile. */
	(void)prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT, 0, 0, 0);
}

/* The file of the command line has to be there, the default one has not. problems: not empty where
 * there is something to say. */
static int load(const struct daemon *daemon, struct config **ret_config, struct bytes *problems)
{
	if (!daemon->config_path) {
		bytes_put_str(problems,
			"neither XDG_CONFIG_HOME nor HOME is set: where is the "
			"configuration? (--config FILE)\n");
		return problems->error < 0 ? problems->error : -ENOENT;
	}
	return config_load(
		daemon->config_path, daemon->options.config == NULL, ret_config, problems);
}

/* One line of the log for each of theirs. */
static void log_problems(const char *problems)
{
	while (*problems != '\0') {
		size_t len = strcspn(problems, "\n");
		log_error(NULL, NULL, "%.*s", (int)len, problems);
		problems += len;
		problems += *problems == '\n';
	}
}

static int check_config(const struct daemon *daemon)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	int error = load(daemon, &config, &problems);
	if (error == 0) {
		printf("%s: fine, %zu account%s\n", daemon->config_path, config->n_accounts,
			config->n_accounts == 1 ? "" : "s");
		error = fflush(stdout) != 0 ? -errno : 0;
	} else if (error == -ENOMEM) {
		fputs("out of memory\n", stderr);
	} else {
		struct span text = bytes_span(&problems);
		fwrite(text.data, 1, text.len, stderr);
		error = -EINVAL;
	}
	config_free(config);
	bytes_done(&problems);
	return error == 0 ? EXIT_SUCCESS : error == -EINVAL ? EX_CONFIG : EXIT_FAILURE;
}

/* 0, or the code to exit with. */
static int configure_at_start(struct daemon *daemon)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	int error = load(daemon, &config, &problems);
	char *text = bytes_steal(&problems);
	bytes_done(&problems);
	if (error < 0 && error != -ENOMEM && text) {
		log_problems(text);
		free(text);
		return EX_CONFIG;
	}
	free(text);
	if (error == 0) {
		if (config->n_accounts == 0) {
			log_info(NULL, NULL, "no account is configured: %s", daemon->config_path);
		}
		error = accounts_configure(daemon->accounts, config);
	}
	if (error < 0) {
		log_error(NULL, NULL, "cannot begin: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	return 0;
}

static void reload(struct daemon *daemon)
{
	struct config *config = NULL;
	struct bytes problems;
	bytes_init(&problems);
	daemon->wants_reload = false;
	int error = load(daemon, &config, &problems);
	if (error == 0) {
		error = accounts_configure(daemon->accounts, config);
	}
	char *text = bytes_steal(&problems);
	bytes_done(&problems);
	machine_look_again(&daemon->machine);
	if (error == 0) {
		log_info(NULL, NULL, "configuration read again: %s", daemon->config_path);
		service_reloaded(daemon->service, FAILURE_NONE, NULL);
	} else if (error == -ENOMEM || !text) {
		log_error(NULL, NULL, "the configuration could not be read: out of memory");
		service_reloaded(daemon->service, FAILURE_LIMIT_EXCEEDED, "out of memory");
	} else {
		log_problems(text);
		log_error(NULL, NULL, "the configuration is left as it was");
		size_t len = strlen(text);
		if (len > 0 && text[len - 1] == '\n') {
			text[len - 1] = '\0';
		}
		service_reloaded(daemon->service, FAILURE_CONFIG_INVALID, text);
	}
	free(text);
}

/* The first reason decides about the exit code. */
static void stop(struct daemon *daemon, int exit_code)
{
	if (daemon->is_stopping) {
		return;
	}
	daemon->is_stopping = true;
	daemon->exit_code = exit_code;
	supervisor_stopping(&daemon->supervisor);
	accounts_shutdown(daemon->accounts);
	if (task_set_deadline(&daemon->deadline, turn_now(daemon->turn) + STOP_USEC, 0) < 0) {
		ev_break(daemon->loop, EVBREAK_ALL);
	}
	task_wake(&daemon->task);
}

/* Whether nothing is connected any more and all that happened has been told. */
static bool has_stopped(const struct daemon *daemon)
{
	return accounts_is_quiet(daemon->accounts) && !service_is_telling(daemon->service);
}

static void on_task(struct task *task)
{
	struct daemon *daemon = list_entry(task, struct daemon, task);
	if (!daemon->is_stopping) {
		machine_run(&daemon->machine);
	}
	service_run(daemon->service);
	switch (service_state(daemon->service)) {
	case SERVICE_STATE_STARTING:
		break;
	case SERVICE_STATE_RUNNING:
		supervisor_ready(&daemon->supervisor);
		break;
	case SERVICE_STATE_NAME_TAKEN:
	case SERVICE_STATE_FAILED:
		stop(daemon, EXIT_FAILURE);
		break;
	}
	if (bus_is_lost(daemon->bus)) {
		if (!daemon->is_stopping) {
			log_error(NULL, NULL, "the bus went away");
		}
		stop(daemon, EX_UNAVAILABLE);
	}
	if (daemon->is_stopping) {
		service_reloaded(daemon->service, FAILURE_CANCELLED, "mailidle stops");
	} else if (daemon->wants_reload || service_wants_reload(daemon->service)) {
		reload(daemon);
	}
	supervisor_changed(&daemon->supervisor);
	if (daemon->is_stopping && has_stopped(daemon)) {
		ev_break(daemon->loop, EVBREAK_ALL);
	}
}

static void on_deadline(struct task *task)
{
	struct daemon *daemon = list_entry(task, struct daemon, deadline);
	log_warning(NULL, NULL, "stopping takes too long, connections are cut");
	ev_break(daemon->loop, EVBREAK_ALL);
}

static void on_stop_signal(struct ev_loop *loop, struct ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	struct daemon *daemon = watcher->data;
	log_info(NULL, NULL, "stopping: %s", strsignal(watcher->signum));
	stop(daemon, EXIT_SUCCESS);
}

static void on_reload_signal(struct ev_loop *loop, struct ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	struct daemon *daemon = watcher->data;
	daemon->wants_reload = true;
	task_wake(&daemon->task);
}

static void watch_signal(struct daemon *daemon, struct ev_signal *watcher, int signum,
	void (*on_signal)(struct ev_loop *loop, struct ev_signal *watcher, int events))
{
	ev_signal_init(watcher, on_signal, signum);
	watcher->data = daemon;
	ev_signal_start(daemon->loop, watcher);
}

static int open_state(struct daemon *daemon)
{
	int error = 0;
	if (daemon->options.state_dir) {
		daemon->state_path = strdup(daemon->options.state_dir);
		error = daemon->state_path ? 0 : -ENOMEM;
	} else {
		error = folder_default(&daemon->state_path);
	}
	if (error == -ENOENT) {
		log_error(NULL, NULL,
			"neither XDG_STATE_HOME nor HOME is set: where is the state "
			"to be kept? (--state-dir DIR)");
		return error;
	}
	if (error == 0) {
		error = folder_make(daemon->state_path);
		if (error < 0) {
			log_warning(NULL, NULL, "the state folder cannot be made: %s: %s",
				daemon->state_path, strerror(-error));
		}
		error = state_open(daemon->state_path, &daemon->state);
	}
	if (error == -EBUSY) {
		log_error(
			NULL, NULL, "another mailidled is running: it has %s", daemon->state_path);
	} else if (error < 0) {
		log_error(NULL, NULL, "the state cannot be opened: %s", strerror(-error));
	}
	return error;
}

/* What it holds is mail: nobody else may read it, also where the file was there before. A terminal
 * and /dev/null are not ours to change. */
static int make_private(int fd)
{
	struct stat status;
	if (fstat(fd, &status) < 0) {
		return -1;
	}
	return S_ISREG(status.st_mode) ? fchmod(fd, 0600) : 0;
}

static int open_trace(struct daemon *daemon)
{
	const char *path = daemon->options.trace_imap;
	if (!path) {
		return 0;
	}
	int flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
	daemon->trace_fd = open(path, flags, 0600);
	if (daemon->trace_fd < 0 || make_private(daemon->trace_fd) < 0) {
		int error = -errno;
		log_error(NULL, NULL, "the trace cannot be written: %s: %s", path, strerror(errno));
		return error;
	}
	return 0;
}

/* 0, or the code to exit with. */
static int start(struct daemon *daemon)
{
	/* Not the default loop: that one reaps every child, and takes the exit codes with it. */
	daemon->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	int error = daemon->loop ? turn_new(daemon->loop, &daemon->turn) : -ENOMEM;
	if (error < 0) {
		log_error(NULL, NULL, "cannot begin: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	task_init(&daemon->task, daemon->turn, on_task);
	task_init(&daemon->deadline, daemon->turn, on_deadline);
	error = accounts_new(
		daemon->turn, &daemon->task, daemon->state, daemon->trace_fd, &daemon->accounts);
	if (error < 0) {
		log_error(NULL, NULL, "cannot begin: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	error = machine_init(&daemon->machine, daemon->turn, &daemon->task, daemon->accounts);
	if (error < 0) {
		log_error(NULL, NULL, "cannot begin: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	supervisor_init(&daemon->supervisor, daemon->turn, daemon->accounts);
	/* Before the bus name is asked for: whoever waits for the name finds the accounts. */
	int code = configure_at_start(daemon);
	if (code != 0) {
		return code;
	}
	error = bus_new(daemon->turn, &daemon->task, &daemon->bus);
	if (error < 0) {
		log_error(NULL, NULL, "there is no session bus: %s", strerror(-error));
		return EX_UNAVAILABLE;
	}
	error = service_new(daemon->bus, &daemon->task, daemon->accounts, &daemon->service);
	if (error < 0) {
		log_error(NULL, NULL, "cannot begin: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	watch_signal(daemon, &daemon->sigterm, SIGTERM, on_stop_signal);
	watch_signal(daemon, &daemon->sigint, SIGINT, on_stop_signal);
	watch_signal(daemon, &daemon->sighup, SIGHUP, on_reload_signal);
	return 0;
}

/* Takes what start() left, however far it came. */
static void finish(struct daemon *daemon)
{
	if (daemon->service) {
		ev_signal_stop(daemon->loop, &daemon->sigterm);
		ev_signal_stop(daemon->loop, &daemon->sigint);
		ev_signal_stop(daemon->loop, &daemon->sighup);
	}
	machine_done(&daemon->machine);
	supervisor_done(&daemon->supervisor);
	service_free(daemon->service);
	bus_free(daemon->bus);
	accounts_free(daemon->accounts);
	state_close(daemon->state);
	task_done(&daemon->task);
	task_done(&daemon->deadline);
	turn_free(daemon->turn);
	if (daemon->loop) {
		ev_loop_destroy(daemon->loop);
	}
	if (daemon->trace_fd >= 0) {
		close(daemon->trace_fd);
	}
	free(daemon->state_path);
}

static int run(struct daemon *daemon)
{
	if (open_state(daemon) < 0 || open_trace(daemon) < 0) {
		return EXIT_FAILURE;
	}
	int code = start(daemon);
	if (code == 0) {
		ev_run(daemon->loop, 0);
		code = daemon->exit_code;
	}
	return code;
}

int main(int argc, char **argv)
{
	struct daemon daemon = {.trace_fd = -1};
	int code = options_parse(argc, argv, &daemon.options);
	if (code != -1) {
		return code;
	}
	log_open();
	log_set_level(daemon.options.log_level);
	harden();
	shell_raise_limit();
	daemon.config_path =
		daemon.options.config ? strdup(daemon.options.config) : config_default_path();
	if (daemon.options.check_config) {
		code = check_config(&daemon);
	} else {
		mime_init();
		code = run(&daemon);
		finish(&daemon);
		mime_done();
	}
	free(daemon.config_path);
	return code;
}
