/* The properties of the account and mailbox objects: org.example.MailIdle.Account and .Mailbox, as
 * vtables of sd-bus. They read what the accounts say at the moment; nothing is kept here.
 */
#pragma once

#include <systemd/sd-bus.h>

#define PROPERTY_ROOT_INTERFACE    "org.example.MailIdle"
#define PROPERTY_ACCOUNT_INTERFACE "org.example.MailIdle.Account"
#define PROPERTY_MAILBOX_INTERFACE "org.example.MailIdle.Mailbox"

/* The userdata is the struct account, or the struct mailbox. */
extern const sd_bus_vtable property_account_vtable[];
extern const sd_bus_vtable property_mailbox_vtable[];

enum property_owner {
	PROPERTY_OF_ROOT,
	PROPERTY_OF_ACCOUNT,
	PROPERTY_OF_MAILBOX,
};

/* Says on the bus that these properties (enum account_property) of the object have changed, as far
 * as it has them. 0 or a negative errno. */
int property_emit_changed(
	sd_bus *connection, const char *path, enum property_owner owner, unsigned int properties);

/* A count as the type u of the bus has it. */
uint32_t property_count(uint64_t count);
