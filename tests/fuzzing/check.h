/* What targets require of texts and of all else. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/text.h"

/* Ends the program with these words, which is what a fuzzer takes note of. */
static inline void require(bool condition, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static inline void require(bool condition, const char *format, ...)
{
	va_list args;

	if (condition) {
		return;
	}
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static inline size_t count_characters(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		n += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return n;
}

/* Valid UTF-8, without anything that deceives who reads it. */
static inline void require_clean(const char *text, bool has_lines)
{
	struct span span = span_of(text);

	while (span.len > 0) {
		const uint32_t c = text_next(&span);

		require(c != TEXT_INVALID && !text_is_deceptive(c), "unclean: U+%04X", c);
		require(!text_is_control(c) || (has_lines && (c == '\n' || c == '\t')),
			"control: U+%04X", c);
	}
}
