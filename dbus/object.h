/* The objects of accounts and mailboxes below the root object: that they are there, under which
 * path, and who is told when they come, change and go.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "account.h"

#define OBJECT_ROOT_PATH "/org/example/MailIdle"

struct objects {
	sd_bus *connection; /* borrowed */
	sd_bus_slot *account_slot;
	sd_bus_slot *mailbox_slot;
	sd_bus_slot *list_slot;
	void *by_subject; /* tsearch(3): struct object by its account or mailbox */
	void *by_path;    /* the same, which are owned by the other */
};

/* It must stay where it is until objects_done(), which is harmless on one that was zeroed. 0 or a
 * negative errno. */
int objects_init(struct objects *objects, sd_bus *connection);
void objects_done(struct objects *objects);

/* An object for the account or mailbox (borrowed), unless it has one; told on the bus by
 * InterfacesAdded when is_told. 0 or a negative errno. */
int objects_add_account(struct objects *objects, struct account *account, bool is_told);
int objects_add_mailbox(struct objects *objects, struct mailbox *mailbox, bool is_told);

/* The rest does nothing for an account or mailbox that has no object. */

/* InterfacesRemoved; the account or mailbox is not looked at any more. 0 or a negative errno. */
int objects_remove(struct objects *objects, const void *subject);

/* PropertiesChanged with these (enum account_property). 0 or a negative errno. */
int objects_changed(struct objects *objects, const void *subject, unsigned int properties);
