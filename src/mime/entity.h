/* Character references of HTML: "&amp;", "&#65;", "&#x41;" (HTML, section 13.5), with the names
 * that mail uses. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/bytes.h"

/* What stands behind an ampersand. Returns how many octets belong to the reference, 0 when it is
 * none. TEXT_INVALID for a number that no character has. Looks at a bounded number of octets but
 * for the digits that it takes. */
size_t mime_entity_read(struct span text, uint32_t *ret_character);
