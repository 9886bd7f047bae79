/* UTF-8 that is fit to leave the process: for the bus, the log and a person's eyes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bytes.h"

enum text_lines {
	TEXT_ONE_LINE, /* any white space, CR and LF included, becomes one blank; none at the ends
			*/
	TEXT_LINES,    /* "\n" and "\t" stay, CR LF becomes "\n" */
};

/* A string owned by the caller: invalid UTF-8 (surrogates, overlong forms and beyond U+10FFFF
 * included) becomes U+FFFD, and C0, C1, DEL, bidi controls (U+202A-202E, U+2066-2069, U+200E,
 * U+200F, U+061C), U+2028, U+2029 and noncharacters are left out. At most max_chars characters (0:
 * no limit), cut between characters. NULL when out of memory. */
char *text_clean(struct span span, enum text_lines lines, size_t max_chars);

bool text_is_utf8(struct span span);

/* Whether it is printable ASCII with single blanks between its words: as it stands, it is one clean
 * line. Nearly every text is. */
bool text_is_plain(struct span span);

/* The parts it is made of, for those who clean by another rule. */

#define TEXT_INVALID UINT32_MAX

/* Takes the next character off the front of a span that is not empty; TEXT_INVALID for octets that
 * are no UTF-8, as many as one U+FFFD should stand for. */
uint32_t text_next(struct span *span);

/* How many octets at the front are printable ASCII, blanks included. */
size_t text_plain_len(struct span span);

/* How many octets the character has, written to buffer; U+FFFD for TEXT_INVALID. */
size_t text_encode(uint32_t c, char buffer[static 4]);

/* C0, DEL and C1. */
bool text_is_control(uint32_t c);

/* Bidi controls, U+2028, U+2029 and noncharacters. */
bool text_is_deceptive(uint32_t c);
