/* Octets in whatever charset mail says, to UTF-8. Only charsets of a list of ours are handed to
 * iconv(3), with the aliases that mail programs use for them; ISO-8859-1 and the East Asian ones
 * are read as the supersets that are really sent (windows-1252, GB18030, CP949, CP932).
 */
#pragma once

#include "util/bytes.h"

/* To the back of text; fails as bytes do. name: as it stands in a header, of any content. Where it
 * is empty, unknown or plainly wrong: UTF-8 if the octets are that, else windows-1252. Octets that
 * mean nothing become U+FFFD, and what is left of a character cut off at the end is dropped. */
void mime_charset_put(struct bytes *text, struct span name, struct span octets);
