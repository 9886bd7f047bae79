#include <errno.h>
#include <search.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/object.h"
#include "dbus/property.h"

struct object {
	const void *subject;                 /* borrowed: the account or mailbox */
	const struct properties *properties; /* what kind it is */
	char *path;
};

static struct object *object_free(struct object *object)
{
	if (!object) {
		return NULL;
	}
	free(object->path);
	free(object);
	return NULL;
}

static void free_node(void *node)
{
	object_free(node);
}

static void leave_node(void *node)
{
	(void)node;
}

static int compare_subjects(const void *a, const void *b)
{
	uintptr_t left = (uintptr_t)((const struct object *)a)->subject;
	uintptr_t right = (uintptr_t)((const struct object *)b)->subject;
	return (left > right) - (left < right);
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(((const struct object *)a)->path, ((const struct object *)b)->path);
}

static struct object *find(const struct objects *objects, const void *subject)
{
	struct object key = {.subject = subject};
	struct object **node = tfind(&key, &objects->by_subject, compare_subjects);
	return node ? *node : NULL;
}

/* -- for sd-bus: what is there -- */

static int find_by_path(const struct objects *objects, const char *path,
	const struct properties *properties, void **ret_subject)
{
	struct object key = {.path = (char *)(uintptr_t)path};
	struct object **node = tfind(&key, &objects->by_path, compare_paths);
	if (!node || (*node)->properties != properties) {
		return 0;
	}
	*ret_subject = (void *)(uintptr_t)(*node)->subject;
	return 1;
}

static int find_account(sd_bus *connection, const char *path, const char *interface, void *userdata,
	void **ret_found, sd_bus_error *error)
{
	(void)connection;
	(void)interface;
	(void)error;
	return find_by_path(userdata, path, &property_account, ret_found);
}

static int find_mailbox(sd_bus *connection, const char *path, const char *interface, void *userdata,
	void **ret_found, sd_bus_error *error)
{
	(void)connection;
	(void)interface;
	(void)error;
	return find_by_path(userdata, path, &property_mailbox, ret_found);
}

/* The objects below a path, on their way into an array. */
struct listing {
	const char *prefix;
	size_t prefix_len;
	bool is_deep; /* not only those directly below */
	char **paths; /* NULL: they are counted alone */
	size_t n;
	bool has_failed;
};

static void list_node(const void *node, VISIT visit, void *data)
{
	struct listing *listing = data;
	if (visit != postorder && visit != leaf) {
		return;
	}
	const char *path = (*(const struct object *const *)node)->path;
	if (strncmp(path, listing->prefix, listing->prefix_len) != 0 ||
		path[listing->prefix_len] != '/' ||
		(!listing->is_deep && strchr(path + listing->prefix_len + 1, '/'))) {
		return;
	}
	if (listing->paths && !listing->has_failed) {
		listing->paths[listing->n] = strdup(path);
		listing->has_failed = !listing->paths[listing->n];
	}
	listing->n++;
}

/* Introspection names children one level deep; everything else wants all that there is. */
static bool is_introspection(sd_bus *connection)
{
	sd_bus_message *message = sd_bus_get_current_message(connection);
	return message &&
		sd_bus_message_is_method_call(
			message, "org.freedesktop.DBus.Introspectable", "Introspect") > 0;
}

static int list_objects(sd_bus *connection, const char *prefix, void *userdata, char ***ret_paths,
	sd_bus_error *error)
{
	(void)error;
	const struct objects *objects = userdata;
	struct listing listing = {
		.prefix = prefix,
		.prefix_len = strlen(prefix),
		.is_deep = !is_introspection(connection),
	};
	twalk_r(objects->by_path, list_node, &listing);
	listing.paths = calloc(listing.n + 1, sizeof(*listing.paths));
	if (!listing.paths) {
		return -ENOMEM;
	}
	listing.n = 0;
	twalk_r(objects->by_path, list_node, &listing);
	if (listing.has_failed) {
		for (size_t i = 0; listing.paths[i]; i++) {
			free(listing.paths[i]);
		}
		free(listing.paths);
		return -ENOMEM;
	}
	*ret_paths = listing.paths;
	return 0;
}

/* One for all of a kind: what sd-bus keeps for each object that has a vtable of its own is more
 * than what we know of a mailbox. */
int objects_init(struct objects *objects, sd_bus *connection)
{
	*objects = (struct objects){.connection = connection};
	int error = sd_bus_add_fallback_vtable(connection, &objects->account_slot, OBJECT_ROOT_PATH,
		PROPERTY_ACCOUNT_INTERFACE, property_account_vtable, find_account, objects);
	if (error >= 0) {
		error = sd_bus_add_fallback_vtable(connection, &objects->mailbox_slot,
			OBJECT_ROOT_PATH, PROPERTY_MAILBOX_INTERFACE, property_mailbox_vtable,
			find_mailbox, objects);
	}
	if (error >= 0) {
		error = sd_bus_add_node_enumerator(
			connection, &objects->list_slot, OBJECT_ROOT_PATH, list_objects, objects);
	}
	return error < 0 ? error : 0;
}

void objects_done(struct objects *objects)
{
	sd_bus_slot_unref(objects->list_slot);
	sd_bus_slot_unref(objects->mailbox_slot);
	sd_bus_slot_unref(objects->account_slot);
	tdestroy(objects->by_path, leave_node);
	tdestroy(objects->by_subject, free_node);
	*objects = (struct objects){0};
}

/* -- for us -- */

static int account_path(const struct account *account, char **ret_path)
{
	return sd_bus_path_encode(OBJECT_ROOT_PATH, account_name(account), ret_path);
}

static int mailbox_path(const struct mailbox *mailbox, char **ret_path)
{
	char *parent;
	int error = account_path(mailbox_account(mailbox), &parent);
	if (error < 0) {
		return error;
	}
	error = sd_bus_path_encode(parent, mailbox_name(mailbox), ret_path);
	free(parent);
	return error;
}

/* Takes the object. */
static int add(struct objects *objects, struct object *object, bool is_told)
{
	if (!tsearch(object, &objects->by_subject, compare_subjects)) {
		object_free(object);
		return -ENOMEM;
	}
	if (!tsearch(object, &objects->by_path, compare_paths)) {
		tdelete(object, &objects->by_subject, compare_subjects);
		object_free(object);
		return -ENOMEM;
	}
	if (!is_told) {
		return 0;
	}
	int error = sd_bus_emit_interfaces_added(
		objects->connection, object->path, object->properties->interface, NULL);
	return error < 0 ? error : 0;
}

int objects_add_account(struct objects *objects, struct account *account, bool is_told)
{
	if (find(objects, account)) {
		return 0;
	}
	struct object *object = calloc(1, sizeof(*object));
	if (!object) {
		return -ENOMEM;
	}
	object->subject = account;
	object->properties = &property_account;
	int error = account_path(account, &object->path);
	if (error < 0) {
		object_free(object);
		return error;
	}
	return add(objects, object, is_told);
}

int objects_add_mailbox(struct objects *objects, struct mailbox *mailbox, bool is_told)
{
	if (find(objects, mailbox)) {
		return 0;
	}
	struct object *object = calloc(1, sizeof(*object));
	if (!object) {
		return -ENOMEM;
	}
	object->subject = mailbox;
	object->properties = &property_mailbox;
	int error = mailbox_path(mailbox, &object->path);
	if (error < 0) {
		object_free(object);
		return error;
	}
	return add(objects, object, is_told);
}

int objects_remove(struct objects *objects, const void *subject)
{
	struct object *object = find(objects, subject);
	if (!object) {
		return 0;
	}
	tdelete(object, &objects->by_subject, compare_subjects);
	tdelete(object, &objects->by_path, compare_paths);
	int error = sd_bus_emit_interfaces_removed(
		objects->connection, object->path, object->properties->interface, NULL);
	object_free(object);
	return error < 0 ? error : 0;
}

int objects_changed(struct objects *objects, const void *subject, unsigned int properties)
{
	struct object *object = find(objects, subject);
	if (!object) {
		return 0;
	}
	return property_emit_changed(
		objects->connection, object->path, object->properties, object->subject, properties);
}
