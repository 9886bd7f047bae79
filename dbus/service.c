#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/body.h"
#include "dbus/dictionary.h"
#include "dbus/object.h"
#include "dbus/property.h"
#include "dbus/request.h"
#include "dbus/root.h"
#include "dbus/service.h"
#include "util/log.h"

/* A signal is ended when it is longer than this, and the rest goes into the next one: envelopes can
 * be long, and the bus allows no message of any length. */
#define SIGNAL_SIZE ((size_t)1 << 20)

/* Somebody left the bus: whoever has calls pending is among them. One match for all callers. */
#define LEFT_MATCH \
	"type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus'," \
	"interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''"

/* Replies to RequestName, from the D-Bus specification. */
#define NAME_IS_OURS  1
#define NAME_WAS_OURS 4

struct service {
	struct bus *bus;           /* borrowed */
	struct task *owner;        /* borrowed */
	struct accounts *accounts; /* borrowed */
	enum service_state state;
	struct root root;
	struct requests reloaded; /* successful calls of Reload: signals come before replies */
	struct objects objects;
	sd_bus_slot *root_slot;
	sd_bus_slot *manager_slot;
	sd_bus_slot *name_slot;
	sd_bus_slot *left_slot;
	sd_bus_slot *taken_slot; /* NULL: the bus has taken in all that it was told */
};

static const char *state_name(enum service_state state)
{
	switch (state) {
	case SERVICE_STATE_STARTING:
		return "starting";
	case SERVICE_STATE_RUNNING:
		return "running";
	case SERVICE_STATE_NAME_TAKEN:
		return "name taken";
	case SERVICE_STATE_FAILED:
		return "failed";
	}
	return "";
}

static void enter(struct service *service, enum service_state state)
{
	log_debug(
		NULL, NULL, "service: %s after %s", state_name(state), state_name(service->state));
	service->state = state;
	task_wake(service->owner);
}

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct service *service = userdata;
	const sd_bus_error *refusal = sd_bus_message_get_error(reply);
	uint32_t result = 0;
	if (refusal) {
		log_error(NULL, NULL, "the bus does not give us the name %s: %s", SERVICE_NAME,
			refusal->message ? refusal->message : refusal->name);
	} else if (sd_bus_message_read(reply, "u", &result) < 0) {
		log_error(NULL, NULL, "the bus answers RequestName in an unknown way");
	} else if (result != NAME_IS_OURS && result != NAME_WAS_OURS) {
		log_error(NULL, NULL, "the name %s is taken: another mailidled is running",
			SERVICE_NAME);
	} else {
		enter(service, SERVICE_STATE_RUNNING);
		return 1;
	}
	enter(service, SERVICE_STATE_NAME_TAKEN);
	return 1;
}

/* Their calls were made under their unique names. */
static int on_left(sd_bus_message *signal, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct service *service = userdata;
	const char *name;
	if (sd_bus_message_read(signal, "s", &name) >= 0 && name[0] == ':' &&
		requests_drop_caller(&service->root.requests, name)) {
		accounts_caller_gone(service->accounts, name);
	}
	return 0;
}

static int add_account(struct service *service, struct account *account)
{
	int error = objects_add_account(&service->objects, account, false);
	for (size_t i = 0; error == 0 && i < account_n_mailboxes(account); i++) {
		error = objects_add_mailbox(&service->objects, account_mailbox(account, i), false);
	}
	return error;
}

/* sd-bus wants all tables at one path to be of one kind, and those of the objects below are shared
 * by many paths. */
static int find_root(sd_bus *connection, const char *path, const char *interface, void *userdata,
	void **ret_found, sd_bus_error *error)
{
	(void)connection;
	(void)interface;
	(void)error;
	*ret_found = userdata;
	return strcmp(path, OBJECT_ROOT_PATH) == 0;
}

/* All that is there already stands on the bus before the name is asked for, so that whoever waits
 * for the name finds it. */
static int add_objects(struct service *service)
{
	sd_bus *connection = bus_connection(service->bus);
	int error = sd_bus_add_fallback_vtable(connection, &service->root_slot, OBJECT_ROOT_PATH,
		PROPERTY_ROOT_INTERFACE, root_vtable, find_root, &service->root);
	if (error < 0) {
		return error;
	}
	error = objects_init(&service->objects, connection);
	if (error < 0) {
		return error;
	}
	error = sd_bus_add_object_manager(connection, &service->manager_slot, OBJECT_ROOT_PATH);
	if (error < 0) {
		return error;
	}
	error = 0;
	for (size_t i = 0; error == 0 && i < accounts_count(service->accounts); i++) {
		error = add_account(service, accounts_get(service->accounts, i));
	}
	return error;
}

static int start(struct service *service)
{
	sd_bus *connection = bus_connection(service->bus);
	int error = add_objects(service);
	if (error < 0) {
		return error;
	}
	error = sd_bus_add_match_async(
		connection, &service->left_slot, LEFT_MATCH, on_left, NULL, service);
	if (error < 0) {
		return error;
	}
	/* Without queueing for it, and nobody can take it from us. */
	error = sd_bus_request_name_async(
		connection, &service->name_slot, SERVICE_NAME, 0, on_name, service);
	return error < 0 ? error : 0;
}

int service_new(struct bus *bus, struct task *owner, struct accounts *accounts,
	struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	if (!service) {
		return -ENOMEM;
	}
	service->bus = bus;
	service->owner = owner;
	service->accounts = accounts;
	service->root.accounts = accounts;
	service->root.owner = owner;
	requests_init(&service->root.requests);
	requests_init(&service->root.reloads);
	requests_init(&service->reloaded);
	int error = start(service);
	if (error < 0) {
		service_free(service);
		return error;
	}
	*ret_service = service;
	return 0;
}

struct service *service_free(struct service *service)
{
	if (!service) {
		return NULL;
	}
	requests_done(&service->root.requests);
	requests_done(&service->root.reloads);
	requests_done(&service->reloaded);
	objects_done(&service->objects);
	sd_bus_slot_unref(service->taken_slot);
	sd_bus_slot_unref(service->name_slot);
	sd_bus_slot_unref(service->left_slot);
	sd_bus_slot_unref(service->manager_slot);
	sd_bus_slot_unref(service->root_slot);
	free(service);
	return NULL;
}

enum service_state service_state(const struct service *service)
{
	return service->state;
}

static void put_message(struct body *body, const struct account_event *event, size_t i)
{
	dictionary_put(body, event->messages[i]);
}

static void put_flags(struct body *body, const struct account_event *event, size_t i)
{
	const struct message *message = event->messages[i];
	body_open_struct(body, "uas");
	body_put_u32(body, message->uid);
	body_put_strings(body, (const char *const *)message->flags);
	body_close(body);
}

static void put_uid(struct body *body, const struct account_event *event, size_t i)
{
	body_put_u32(body, event->uids[i]);
}

/* A signal about the mailbox of the event, whose third argument is a list. */
struct list_signal {
	const char *member;
	const char *contents; /* type of the elements */
	void (*put)(struct body *body, const struct account_event *event, size_t i);
};

static const struct list_signal new_mail = {"NewMail", "a{sv}", put_message};
static const struct list_signal flags_changed = {"FlagsChanged", "(uas)", put_flags};
static const struct list_signal expunged = {"Expunged", "u", put_uid};

static int open_signal(struct service *service, const struct account_event *event,
	const char *member, struct body *body, sd_bus_message **ret_signal)
{
	sd_bus_message *signal;
	int error = sd_bus_message_new_signal(bus_connection(service->bus), &signal,
		OBJECT_ROOT_PATH, PROPERTY_ROOT_INTERFACE, member);
	if (error < 0) {
		return error;
	}
	/* A single message is far from this, and it is far from what the bus allows. */
	body_init(body, signal, 4 * BODY_SIZE_HIGHEST);
	body_put_string(body, account_name(mailbox_account(event->mailbox)));
	body_put_string(body, mailbox_name(event->mailbox));
	*ret_signal = signal;
	return 0;
}

/* Takes the signal. */
static int send_signal(const struct body *body, sd_bus_message *signal)
{
	int error = body->error == 0 ? sd_bus_message_send(signal) : body->error;
	sd_bus_message_unref(signal);
	return error < 0 ? error : 0;
}

static int emit_list(struct service *service, const struct account_event *event,
	const struct list_signal *kind, size_t n)
{
	size_t i = 0;
	while (i < n) {
		struct body body;
		sd_bus_message *signal;
		int error = open_signal(service, event, kind->member, &body, &signal);
		if (error < 0) {
			return error;
		}
		body_open_array(&body, kind->contents);
		while (i < n && body.error == 0 && body.size < SIGNAL_SIZE) {
			kind->put(&body, event, i);
			i++;
		}
		body_close(&body);
		error = send_signal(&body, signal);
		if (error < 0) {
			return error;
		}
	}
	return 0;
}

static int emit_reset(struct service *service, const struct account_event *event)
{
	struct body body;
	sd_bus_message *signal;
	int error = open_signal(service, event, "MailboxReset", &body, &signal);
	if (error < 0) {
		return error;
	}
	body_put_u32(&body, event->uidvalidity);
	return send_signal(&body, signal);
}

static int tell(struct service *service, const struct account_event *event)
{
	struct objects *objects = &service->objects;
	switch (event->kind) {
	case ACCOUNT_EVENT_ADDED:
		return objects_add_account(objects, event->account, true);
	case ACCOUNT_EVENT_REMOVED:
		return objects_remove(objects, event->account);
	case ACCOUNT_EVENT_CHANGED:
		return objects_changed(objects, event->account, event->properties);
	case ACCOUNT_EVENT_MAILBOX_ADDED:
		return objects_add_mailbox(objects, event->mailbox, true);
	case ACCOUNT_EVENT_MAILBOX_REMOVED:
		return objects_remove(objects, event->mailbox);
	case ACCOUNT_EVENT_MAILBOX_CHANGED:
		return objects_changed(objects, event->mailbox, event->properties);
	case ACCOUNT_EVENT_ROOT_CHANGED:
		return property_emit_changed(bus_connection(service->bus), OBJECT_ROOT_PATH,
			&root_properties, &service->root, event->properties);
	case ACCOUNT_EVENT_NEW_MAIL:
		return emit_list(service, event, &new_mail, event->n_messages);
	case ACCOUNT_EVENT_FLAGS_CHANGED:
		return emit_list(service, event, &flags_changed, event->n_messages);
	case ACCOUNT_EVENT_EXPUNGED:
		return emit_list(service, event, &expunged, event->n_uids);
	case ACCOUNT_EVENT_RESET:
		return emit_reset(service, event);
	case ACCOUNT_EVENT_REPLY:
		requests_answer(&service->root.requests, event);
		return 0;
	}
	return 0;
}

/* A bus that ends makes its own end of what was asked: it took nothing in. */
static int on_taken(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)reply;
	(void)error;
	struct service *service = userdata;
	service->taken_slot = sd_bus_slot_unref(service->taken_slot);
	if (!bus_is_lost(service->bus)) {
		accounts_announced(service->accounts);
		task_wake(service->owner);
	}
	return 1;
}

/* What has left the process may still be in a socket before a bus that stands still, or ends. The
 * bus does everything in order: when it answers this, it has passed the signals on. */
static int ask_whether_taken(struct service *service)
{
	sd_bus_message *call;
	int error = sd_bus_message_new_method_call(bus_connection(service->bus), &call,
		"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId");
	if (error < 0) {
		return error;
	}
	/* However long it takes. */
	error = sd_bus_call_async(bus_connection(service->bus), &service->taken_slot, call,
		on_taken, service, UINT64_MAX);
	sd_bus_message_unref(call);
	return error < 0 ? error : 0;
}

static void fail(struct service *service, int error)
{
	if (!bus_is_lost(service->bus)) {
		log_error(NULL, NULL, "what happened cannot be told on the bus: %s",
			strerror(-error));
		enter(service, SERVICE_STATE_FAILED);
	}
}

/* A signal that cannot be sent would be mail that is never announced, hence the end. */
void service_run(struct service *service)
{
	if (service->state != SERVICE_STATE_RUNNING) {
		return;
	}
	while (!bus_is_lost(service->bus) && !service_is_telling(service)) {
		const struct account_event *event = accounts_next_event(service->accounts);
		int error = 0;
		if (event) {
			error = tell(service, event);
			/* In the socket a file takes no room, and yet it is memory. */
			if (error == 0 && event->raw_fd >= 0) {
				error = ask_whether_taken(service);
			}
		} else {
			requests_answer_all(&service->reloaded, FAILURE_NONE, NULL);
			if (!accounts_has_announcement(service->accounts)) {
				return;
			}
			error = ask_whether_taken(service);
		}
		if (error < 0) {
			fail(service, error);
			return;
		}
	}
}

bool service_is_telling(struct service *service)
{
	return !bus_is_lost(service->bus) &&
		(bus_is_writing(service->bus) || service->taken_slot != NULL);
}

bool service_wants_reload(const struct service *service)
{
	return service->root.reloads.n > 0;
}

void service_reloaded(struct service *service, enum failure_kind kind, const char *text)
{
	if (kind != FAILURE_NONE) {
		requests_answer_all(&service->root.reloads, kind, text);
		return;
	}
	requests_take(&service->reloaded, &service->root.reloads);
	task_wake(service->owner);
}
