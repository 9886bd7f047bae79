/* The messages of a generated mailbox, as FETCH tells them. Message number n has UID n and the
 * modseq n + 1; nothing is stored.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/bytes.h"

enum letter_item {
	LETTER_UID = 1 << 0,
	LETTER_FLAGS = 1 << 1,
	LETTER_DATE = 1 << 2,
	LETTER_SIZE = 1 << 3,
	LETTER_MODSEQ = 1 << 4,
	LETTER_ENVELOPE = 1 << 5,
	LETTER_UNKNOWN = 1 << 6,
};

/* The items that a list in parentheses, or a single word, names: letter_item or'ed. */
unsigned int letter_items(const char *list);

/* Appends "* n FETCH (...)". */
void letter_put(struct bytes *bytes, uint32_t n, unsigned int items, bool is_seen);
