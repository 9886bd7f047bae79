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

/* One that emits PropertiesChanged. */
struct property {
	unsigned int property; /* of enum account_property */
	const char *name;
	const char *type;
	sd_bus_property_get_t get;
};

/* Those of a kind of objects. */
struct properties {
	const char *interface;
	const struct property *list; /* the last one is zeroed */
};

extern const struct properties property_account;
extern const struct properties property_mailbox;

/* Says on the bus that these properties (enum account_property) of the object have changed, as far
 * as it has them. subject: what their getters take. 0 or a negative errno. */
int property_emit_changed(sd_bus *connection, const char *path, const struct properties *of,
	const void *subject, unsigned int changed);

/* A count as the type u of the bus has it. */
uint32_t property_count(uint64_t count);
