#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dbus/bus.h"
#include "dbus/logind.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/log.h"

#define LOGIND_NAME      "org.freedesktop.login1"
#define LOGIND_PATH      "/org/freedesktop/login1"
#define LOGIND_INTERFACE "org.freedesktop.login1.Manager"
#define DRIVER_NAME      "org.freedesktop.DBus"
#define DRIVER_PATH      "/org/freedesktop/DBus"

#define OWNER_MATCH \
	"type='signal',sender='" DRIVER_NAME "',path='" DRIVER_PATH "',interface='" DRIVER_NAME \
	"',member='NameOwnerChanged',arg0='" LOGIND_NAME "'"
#define SLEEP_MATCH \
	"type='signal',sender='" LOGIND_NAME "',path='" LOGIND_PATH \
	"',interface='" LOGIND_INTERFACE "',member='PrepareForSleep'"

/* How long after a failure the system bus is looked for again; after the last one only when there
 * is a reason to. */
static const uint64_t pauses[] = {
	1 * USEC_PER_SEC,
	5 * USEC_PER_SEC,
	30 * USEC_PER_SEC,
	120 * USEC_PER_SEC,
	600 * USEC_PER_SEC,
};

#define N_PAUSES (sizeof(pauses) / sizeof(pauses[0]))

/* More than others may make logind wait (InhibitDelayMaxSec=), and than the kernel takes to stop
 * everything. */
#define PATIENCE_USEC (2 * USEC_PER_MINUTE)

struct logind {
	struct turn *turn;  /* borrowed */
	struct task *owner; /* borrowed */
	struct task task;   /* woken by the bus; connects anew */
	struct bus *bus;    /* NULL: not connected */
	size_t n_failures;  /* in a row */
	sd_bus_slot *changed_slot;
	sd_bus_slot *sleep_slot;
	sd_bus_slot *name_slot;
	sd_bus_slot *inhibit_slot; /* NULL: no call is pending */
	char *name;                /* the unique name of logind; NULL: it does not run */
	int inhibitor;             /* -1: none */
	bool is_preparing;
	uint64_t announced; /* when that began, by the clock that stands still in sleep */
};

static void drop_inhibitor(struct logind *logind)
{
	logind->inhibit_slot = sd_bus_slot_unref(logind->inhibit_slot);
	if (logind->inhibitor >= 0) {
		close(logind->inhibitor);
		logind->inhibitor = -1;
	}
}

static void set_preparing(struct logind *logind, bool is_preparing)
{
	if (logind->is_preparing != is_preparing) {
		log_debug(NULL, NULL, "logind: %s",
			is_preparing ? "the machine is about to sleep" : "the sleep is over");
		logind->is_preparing = is_preparing;
		logind->announced = clock_monotonic_usec();
		/* Out of memory, it is logind alone that ends it. */
		task_set_deadline(&logind->task,
			is_preparing ? turn_now(logind->turn) + PATIENCE_USEC : USEC_NEVER,
			PATIENCE_USEC / 4);
		task_wake(logind->owner);
	}
}

static int on_inhibited(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct logind *logind = userdata;
	const sd_bus_error *refusal = sd_bus_message_get_error(reply);
	int fd = -1;
	logind->inhibit_slot = sd_bus_slot_unref(logind->inhibit_slot);
	if (refusal) {
		log_info(NULL, NULL, "logind does not wait for us before the machine sleeps: %s",
			refusal->message ? refusal->message : refusal->name);
	} else if (sd_bus_message_read(reply, "h", &fd) < 0) {
		log_info(NULL, NULL, "logind answers Inhibit in an unknown way");
	} else {
		/* The message keeps its own. */
		logind->inhibitor = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		log_debug(NULL, NULL, "logind: %s",
			logind->inhibitor >= 0 ? "waits for us before the machine sleeps"
					       : strerror(errno));
	}
	return 1;
}

/* The one who is asked is who was seen last, so that nothing is started by asking. */
static void take_inhibitor(struct logind *logind)
{
	if (!logind->name || logind->inhibitor >= 0 || logind->inhibit_slot) {
		return;
	}
	int result = sd_bus_call_method_async(bus_connection(logind->bus), &logind->inhibit_slot,
		logind->name, LOGIND_PATH, LOGIND_INTERFACE, "Inhibit", on_inhibited, logind,
		"ssss", "sleep", "mailidle", "to log out of mail servers", "delay");
	if (result < 0) {
		log_debug(NULL, NULL, "logind: Inhibit: %s", strerror(-result));
	}
}

/* A logind that went away takes its announcements with it. name: "" for nobody. */
static void set_name(struct logind *logind, const char *name)
{
	if (logind->name && strcmp(logind->name, name) == 0) {
		return;
	}
	drop_inhibitor(logind);
	free(logind->name);
	logind->name = name[0] != '\0' ? strdup(name) : NULL;
	set_preparing(logind, false);
	take_inhibitor(logind);
}

/* Anybody on the bus may send us a signal that looks like the one of somebody else; only the sender
 * is what the bus itself says. */
static bool is_from(sd_bus_message *message, const char *name)
{
	const char *sender = sd_bus_message_get_sender(message);
	return sender && name && strcmp(sender, name) == 0;
}

static int on_changed(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct logind *logind = userdata;
	const char *name, *before, *after;
	if (is_from(signal, DRIVER_NAME) &&
		sd_bus_message_read(signal, "sss", &name, &before, &after) >= 0 &&
		strcmp(name, LOGIND_NAME) == 0) {
		set_name(logind, after);
	}
	return 0;
}

static int on_sleep(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct logind *logind = userdata;
	int is_preparing;
	if (!is_from(signal, logind->name) || sd_bus_message_read(signal, "b", &is_preparing) < 0) {
		return 0;
	}
	set_preparing(logind, is_preparing != 0);
	if (!is_preparing) {
		take_inhibitor(logind);
	}
	return 0;
}

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct logind *logind = userdata;
	const char *name;
	logind->n_failures = 0;
	logind->name_slot = sd_bus_slot_unref(logind->name_slot);
	/* The error says that it does not run. */
	if (!sd_bus_message_is_method_error(reply, NULL) &&
		sd_bus_message_read(reply, "s", &name) >= 0) {
		set_name(logind, name);
	}
	return 1;
}

static int ask(struct logind *logind)
{
	sd_bus *connection = bus_connection(logind->bus);
	int result = sd_bus_add_match_async(
		connection, &logind->changed_slot, OWNER_MATCH, on_changed, NULL, logind);
	if (result >= 0) {
		result = sd_bus_add_match_async(
			connection, &logind->sleep_slot, SLEEP_MATCH, on_sleep, NULL, logind);
	}
	if (result >= 0) {
		result = sd_bus_call_method_async(connection, &logind->name_slot, DRIVER_NAME,
			DRIVER_PATH, DRIVER_NAME, "GetNameOwner", on_name, logind, "s",
			LOGIND_NAME);
	}
	return result < 0 ? result : 0;
}

static void disconnect(struct logind *logind)
{
	set_name(logind, "");
	logind->changed_slot = sd_bus_slot_unref(logind->changed_slot);
	logind->sleep_slot = sd_bus_slot_unref(logind->sleep_slot);
	logind->name_slot = sd_bus_slot_unref(logind->name_slot);
	logind->bus = bus_free(logind->bus);
}

static void pause_after_failure(struct logind *logind, int error)
{
	log_debug(NULL, NULL, "logind: no system bus: %s", strerror(-error));
	if (logind->n_failures == N_PAUSES) {
		return;
	}
	uint64_t pause = pauses[logind->n_failures];
	logind->n_failures++;
	/* Out of memory, it is the next reason that tries again. */
	task_set_deadline(&logind->task, turn_now(logind->turn) + pause, pause / 4);
}

static void connect_anew(struct logind *logind)
{
	task_set_deadline(&logind->task, USEC_NEVER, 0);
	int error = bus_new_system(logind->turn, &logind->task, &logind->bus);
	if (error == 0) {
		error = ask(logind);
	}
	if (error < 0) {
		disconnect(logind);
		pause_after_failure(logind, error);
	}
}

/* Else a word of logind's that never comes would be the end of all mail. */
static void doubt_announcement(struct logind *logind)
{
	uint64_t waited = clock_monotonic_usec() - logind->announced;
	if (waited < PATIENCE_USEC) {
		task_set_deadline(&logind->task, turn_now(logind->turn) + PATIENCE_USEC - waited,
			PATIENCE_USEC / 4);
		return;
	}
	log_info(NULL, NULL, "logind announced a sleep that has not come, and does not say so");
	set_preparing(logind, false);
	take_inhibitor(logind);
}

static void on_task(struct task *task)
{
	struct logind *logind = list_entry(task, struct logind, task);
	if (!logind->bus) {
		connect_anew(logind);
	} else if (bus_is_lost(logind->bus)) {
		disconnect(logind);
		pause_after_failure(logind, -ECONNRESET);
	} else if (logind->is_preparing) {
		doubt_announcement(logind);
	}
}

int logind_new(struct turn *turn, struct task *owner, struct logind **ret_logind)
{
	struct logind *logind = calloc(1, sizeof(*logind));
	if (!logind) {
		return -ENOMEM;
	}
	logind->turn = turn;
	logind->owner = owner;
	logind->inhibitor = -1;
	task_init(&logind->task, turn, on_task);
	task_wake(&logind->task);
	*ret_logind = logind;
	return 0;
}

struct logind *logind_free(struct logind *logind)
{
	if (!logind) {
		return NULL;
	}
	disconnect(logind);
	task_done(&logind->task);
	free(logind);
	return NULL;
}

void logind_try_again(struct logind *logind)
{
	if (!logind->bus) {
		logind->n_failures = 0;
		task_wake(&logind->task);
	}
}

bool logind_is_preparing(const struct logind *logind)
{
	return logind->is_preparing;
}

void logind_let_sleep(struct logind *logind)
{
	drop_inhibitor(logind);
}
