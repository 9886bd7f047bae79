/* BODY and BODYSTRUCTURE: the tree of a message's parts, of which the leaves are kept. RFC 9051
 * section 7.5.2, section numbers by section 6.4.5.
 */
#pragma once

#include <stdbool.h>

#include "imap/lexer.h"
#include "imap/message.h"

/* What is nested deeper is left out, whatever limits.depth says. */
#define IMAP_STRUCTURE_DEPTH_MAX 64

/* Reads into message->parts; the arena is that of the message. */
bool imap_structure_read(struct imap_lexer *lexer, struct imap_message *message);
