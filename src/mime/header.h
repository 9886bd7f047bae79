/* Header texts as people read them: RFC 2047 encoded words, RFC 2231 parameters, raw UTF-8, raw
 * legacy charsets; always clean, valid UTF-8 of one line (util/text.h). GMime, which only this
 * folder knows, undoes transfer encodings and reads odd dates. Words are put together here: GMime
 * loses characters that are divided between two of them. Input is what a server said, of any length
 * and content.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/bytes.h"

/* To be called once before anything else of this folder, and once at the end. */
void mime_init(void);
void mime_done(void);

/* A decoded text (Subject, a display name), cut to max_chars characters. Owned by the caller, NULL
 * when out of memory. */
char *mime_header_decode(struct span raw, size_t max_chars);

/* A Date header in seconds since 1970, UTC. false: there is no date in it. RFC 5322 section 3.3,
 * obsolete forms included. */
bool mime_date_parse(struct span raw, int64_t *ret_seconds);

/* A message identifier "<...>" out of a Message-ID or In-Reply-To header (the first one), clean,
 * with its angle brackets, at most 998 characters; an identifier without brackets is returned as it
 * is. Owned by the caller; NULL when there is none or out of memory. */
char *mime_message_id(struct span raw);
