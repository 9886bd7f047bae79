/* A connection to the session bus or to the system bus, in the loop. Nothing here or above ever
 * asks a bus synchronously: the process would stand still while it waits.
 *
 * Work is done in a prepare watcher, behind the tasks of the turn: a bounded batch of what sd-bus
 * has to do, then sd-bus is asked anew what it waits for (the descriptor, the events and the
 * timeout change with every step), and that is armed. See sd_bus_get_fd(3), sd_bus_process(3).
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "util/turn.h"

struct bus;

/* Begins to connect to $DBUS_SESSION_BUS_ADDRESS. owner is borrowed and woken when all that was
 * queued has left the process (once for each time that something was), and when the connection is
 * lost. 0 or a negative errno: there is no bus. */
int bus_new(struct turn *turn, struct task *owner, struct bus **ret_bus);

/* The same to the system bus, $DBUS_SYSTEM_BUS_ADDRESS. */
int bus_new_system(struct turn *turn, struct task *owner, struct bus **ret_bus);

/* Closes the connection; what is still queued is dropped. NULL is allowed. Returns NULL. */
struct bus *bus_free(struct bus *bus);

/* To queue messages on and to register objects with; borrowed. */
sd_bus *bus_connection(struct bus *bus);

/* Whether messages wait for the bus to take them: the source is to be held back. sd-bus would queue
 * hundreds of megabytes. */
bool bus_is_writing(struct bus *bus);

/* Nothing can be sent or received any more. */
bool bus_is_lost(const struct bus *bus);
