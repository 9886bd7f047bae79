/* Answers that may be endless: SEARCH, ESEARCH and VANISHED. They are read piece by piece, whatever
 * of a piece is no whole element yet stays for the next one. RFC 9051 section 7.3.4, RFC 3501
 * section 7.2.5, RFC 4731, RFC 7162 sections 3.1.5 and 3.2.10.
 */
#pragma once

#include <stdbool.h>

#include "imap/lexer.h"
#include "imap/response.h"

enum imap_search_place {
	IMAP_SEARCH_HEAD,    /* nothing is read yet but the response's name */
	IMAP_SEARCH_NUMBERS, /* of SEARCH, with blanks between them */
	IMAP_SEARCH_ITEMS,   /* of ESEARCH: name and value */
	IMAP_SEARCH_SET,     /* of VANISHED or of ESEARCH's ALL */
	IMAP_SEARCH_TAIL,    /* only blanks may follow */
};

/* Reads from the lexer into kind, search, set, modseq and earlier of the response. Leaves the lexer
 * behind the last whole element; if the record is not the last piece (is_last), that may be before
 * its end. */
bool imap_search_read(enum imap_search_place *place, struct imap_lexer *lexer, bool is_last,
	struct imap_response *response);
