/* Mailbox names: modified UTF-7 (RFC 3501 section 5.1.3) on the wire of most servers, UTF-8 here.
 */
#pragma once

#include "util/bytes.h"

/* UTF-8 to modified UTF-7, a string owned by the caller. -EILSEQ: name is no valid UTF-8; -ENOMEM.
 */
int imap_utf7_encode(const char *name, char **ret_encoded);

/* Modified UTF-7 to UTF-8. A name that is not canonical modified UTF-7 (it would not encode back to
 * itself) comes back as it stands, its invalid octets and control characters replaced by U+FFFD.
 * 0 with a string owned by the caller, or -ENOMEM. */
int imap_utf7_decode(struct span encoded, char **ret_name);
