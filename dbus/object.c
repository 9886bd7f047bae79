#include <errno.h>
#include <search.h>
#include <stdint.h>
#include <stdlib.h>

#include "dbus/object.h"
#include "dbus/property.h"

struct object {
	const void *subject; /* borrowed: the account or mailbox */
	enum property_owner owner;
	char *path;
	sd_bus_slot *slot;
};

/* What the two kinds of objects differ in, by their enum. */
static const struct {
	const char *interface;
	const sd_bus_vtable *vtable;
} kinds[] = {
	[PROPERTY_OF_ACCOUNT] = {PROPERTY_ACCOUNT_INTERFACE, property_account_vtable},
	[PROPERTY_OF_MAILBOX] = {PROPERTY_MAILBOX_INTERFACE, property_mailbox_vtable},
};

static struct object *object_free(struct object *object)
{
	if (!object) {
		return NULL;
	}
	sd_bus_slot_unref(object->slot);
	free(object->path);
	free(object);
	return NULL;
}

static void free_node(void *node)
{
	object_free(node);
}

static int compare(const void *a, const void *b)
{
	uintptr_t left = (uintptr_t)((const struct object *)a)->subject;
	uintptr_t right = (uintptr_t)((const struct object *)b)->subject;
	return (left > right) - (left < right);
}

static struct object *find(const struct objects *objects, const void *subject)
{
	struct object key = {.subject = subject};
	struct object **node = tfind(&key, &objects->tree, compare);
	return node ? *node : NULL;
}

void objects_init(struct objects *objects, sd_bus *connection)
{
	*objects = (struct objects){.connection = connection};
}

void objects_done(struct objects *objects)
{
	tdestroy(objects->tree, free_node);
	objects->tree = NULL;
}

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
	int error = sd_bus_add_object_vtable(objects->connection, &object->slot, object->path,
		kinds[object->owner].interface, kinds[object->owner].vtable,
		(void *)(uintptr_t)object->subject);
	if (error >= 0 && !tsearch(object, &objects->tree, compare)) {
		error = -ENOMEM;
	}
	if (error < 0) {
		object_free(object);
		return error;
	}
	if (!is_told) {
		return 0;
	}
	error = sd_bus_emit_interfaces_added(
		objects->connection, object->path, kinds[object->owner].interface, NULL);
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
	object->owner = PROPERTY_OF_ACCOUNT;
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
	object->owner = PROPERTY_OF_MAILBOX;
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
	tdelete(object, &objects->tree, compare);
	int error = sd_bus_emit_interfaces_removed(
		objects->connection, object->path, kinds[object->owner].interface, NULL);
	object_free(object);
	return error < 0 ? error : 0;
}

int objects_changed(struct objects *objects, const void *subject, unsigned int properties)
{
	struct object *object = find(objects, subject);
	if (!object) {
		return 0;
	}
	return property_emit_changed(objects->connection, object->path, object->owner, properties);
}
