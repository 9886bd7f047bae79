/* Status, response code and text: what stands behind a tag, or behind "* OK" and its like. RFC 9051
 * section 7.1, RFC 5530, and the codes of RFC 4315 (UIDPLUS), 5465, 7162.
 */
#pragma once

#include <stdbool.h>

#include "imap/lexer.h"
#include "imap/response.h"
#include "util/bytes.h"

/* Whether the word is a status, in any case. */
bool imap_status_read(struct span word, enum imap_status *ret_status);

/* Takes what stands behind the status: code, its arguments, text. A code that breaks the grammar is
 * IMAP_CODE_UNKNOWN, a bracket without its fellow is text; so only memory can fail. */
bool imap_status_read_text(
	struct imap_lexer *lexer, struct imap_words *words, struct imap_response *response);
