/* The root object: methods that are handed to the accounts, and properties of the whole. What the
 * methods answer comes later, as events of the accounts.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "account.h"
#include "dbus/property.h"
#include "dbus/request.h"
#include "util/turn.h"

/* The userdata of the vtable. */
struct root {
	struct accounts *accounts; /* borrowed */
	struct task *owner;        /* borrowed; woken when a Reload is wanted */
	struct requests requests;
	struct requests reloads; /* wait for the configuration to be read */
};

/* The userdata is the struct root. */
extern const sd_bus_vtable root_vtable[];
extern const struct properties root_properties;
