/* UTF-8 that is fit to leave the process: for the bus, the log and a person's eyes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/bytes.h"

enum text_lines {
	TEXT_ONE_LINE, /* any white space, CR and LF included, becomes one blank; none at the ends */
	TEXT_LINES,    /* "\n" and "\t" stay, CR LF becomes "\n" */
};

/* A string owned by the caller: invalid UTF-8 (surrogates, overlong forms and beyond U+10FFFF
 * included) becomes U+FFFD, and C0, C1, DEL, bidi controls (U+202A-202E, U+2066-2069, U+200E,
 * U+200F, U+061C), U+2028, U+2029 and noncharacters are left out. At most max_chars characters (0:
 * no limit), cut between characters. NULL when out of memory. */
char *text_clean(struct span span, enum text_lines lines, size_t max_chars);

bool text_is_utf8(struct span span);
