/* The trace of a conversation: lines "C: ..." and "S: ..." for a person who looks for a fault.
 * Credentials, literals' contents and whatever is said while logging in are left out. */
#pragma once

#include "imap/engine.h"

/* Octets as they came from the server; a line is written when it is complete. */
void trace_received(struct imap_client *client, const uint8_t *data, size_t len);

/* A command as it goes out, without its CRLF. */
void trace_sent(struct imap_client *client, const struct command *command, struct span text);
void trace_sent_line(struct imap_client *client, const char *line);
