/* Text of "format=flowed" (RFC 3676): lines that were broken on the way become one again. Quoted
 * lines come out with "> " for each level.
 */
#pragma once

#include <stdbool.h>

#include "util/bytes.h"

/* deletes_space: the parameter DelSp=yes. Fails as bytes do. */
void mime_flowed_put(struct bytes *text, struct span flowed, bool deletes_space);
