/* The items of a FETCH response. RFC 9051 section 7.5.2; see imap/message.h for the rest.
 *
 * Envelope and body structure that break the grammar but not the shape of a list are left out, as
 * are dates that are none, so that one odd message does not cost what else is said of it.
 */
#pragma once

#include <stdbool.h>

#include "imap/lexer.h"
#include "imap/message.h"

/* Reads "(" items ")". The lexer's arena is that of the message; words are scratch memory. */
bool imap_fetch_read(
	struct imap_lexer *lexer, struct imap_words *words, struct imap_message *message);
