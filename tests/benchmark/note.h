/* What the server of the benchmark has seen: one line for each event on standard output,
 *
 *     NANOSECONDS CONNECTION EVENT [MORE]
 *
 * by CLOCK_MONOTONIC. Lines are collected, and to be written when there is nothing else to do: so
 * they stand in nobody's way.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* format may be NULL. */
void note(uint64_t now, unsigned int connection, const char *event, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Octets that are to be written. */
size_t notes_len(void);

void notes_write(void);
