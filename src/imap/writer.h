/* Words of a command, in the grammar's own form. Nothing that comes from outside can leave its
 * place: a string with CR, LF or NUL is refused with a sticky -EINVAL in the buffer's error.
 * RFC 9051 section 9.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/bytes.h"
#include "util/runs.h"

/* The string as an atom where that is possible, else quoted. 8-bit octets are quoted as they are
 * (valid under UTF8=ACCEPT and IMAP4rev2 only); a string that cannot be quoted (longer than 1000
 * octets) is refused. */
void imap_put_astring(struct bytes *bytes, const char *str);

/* Always quoted. */
void imap_put_quoted(struct bytes *bytes, const char *str);

/* A sequence set: "1:3,7". The set must not be empty. */
void imap_put_set(struct bytes *bytes, const struct runs *set);

/* Whether str is a flag that may be set by a client: a system flag other than \Recent ("\Seen"), or
 * a keyword (an atom). RFC 9051 section 2.3.2. */
bool imap_is_flag(const char *str);
