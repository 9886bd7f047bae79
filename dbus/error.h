/* Failures as errors of the bus. */
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/body.h"
#include "util/failure.h"

/* "org.example.MailIdle.Error.Timeout"; "" for FAILURE_NONE. A buffer of this size holds any. */
#define ERROR_NAME_SIZE 64
void error_name(enum failure_kind kind, char ret_name[static ERROR_NAME_SIZE]);

/* "(ss)": name and text; two empty strings for none. */
void error_put(struct body *body, const struct failure *failure);

/* Answers the call. text: for a person; where there is none the kind itself is put in words. 0 or a
 * negative errno of sd-bus. */
int error_reply(sd_bus_message *call, enum failure_kind kind, const char *text);
