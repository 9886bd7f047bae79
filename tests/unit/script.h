/* The lines of a conversation, and the words in them; conversations.c tells the language. For
 * tests: out of memory it aborts.
 */
#pragma once

#include <stddef.h>

#include "util/runs.h"

struct script {
	char *path;
	char **lines; /* without their ends */
	size_t n_lines;
};

/* Ends the program when the file cannot be read. */
void script_read(struct script *script, const char *path);
void script_done(struct script *script);

/* "$7" to the tag's beginning, \xHH to the octet, and when count is not 0 "%n+7" to a number: the
 * caller owns what is returned, which has a NUL behind its *ret_len octets. */
char *script_expand(const char *text, unsigned long count, size_t *ret_len);

/* Adds "3,5:7" with the value 0. */
void script_parse_set(const char *text, struct runs *set);
