/* A message as the bus shows it: the dictionary a{sv} of the interface, and what goes with it. */
#pragma once

#include "dbus/body.h"
#include "message.h"

/* A key whose value the message lacks is left out. */
void dictionary_put(struct body *body, const struct message *message);
