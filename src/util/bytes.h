/* A growable buffer of octets, read at the front and written at the back, and a span of octets that
 * somebody else owns. The error is sticky: after a failed allocation every put is ignored, so that
 * ten lines of putting need one check at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const uint8_t *data; /* borrowed */
	size_t len;
};

struct bytes {
	uint8_t *data;
	size_t start; /* what lies before has been consumed */
	size_t end;   /* what lies behind is free */
	size_t size;
	int error; /* 0, or a negative errno that stays until bytes_done() */
};

void bytes_init(struct bytes *bytes);

/* Frees the memory and leaves an empty, usable buffer. */
void bytes_done(struct bytes *bytes);

/* As bytes_done(), and overwrites what the buffer held. A buffer that takes secrets is wiped before
 * it grows, too: use bytes_reserve() with its final size first. */
void bytes_wipe(struct bytes *bytes);

static inline size_t bytes_len(const struct bytes *bytes)
{
	return bytes->end - bytes->start;
}

static inline struct span bytes_span(const struct bytes *bytes)
{
	return (struct span){.data = bytes->data ? bytes->data + bytes->start : NULL,
		.len = bytes->end - bytes->start};
}

void bytes_put(struct bytes *bytes, const void *data, size_t len);
void bytes_put_str(struct bytes *bytes, const char *str);
void bytes_put_char(struct bytes *bytes, char c);
void bytes_printf(struct bytes *bytes, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Room for len octets at the back; NULL after an error. Say how many were used by bytes_commit().
 */
void *bytes_reserve(struct bytes *bytes, size_t len);
void bytes_commit(struct bytes *bytes, size_t len);

/* Drops len octets at the front (at most bytes_len()). An emptied buffer starts over. */
void bytes_consume(struct bytes *bytes, size_t len);

/* Empties the buffer, keeps its memory. */
void bytes_clear(struct bytes *bytes);

/* Gives memory back that an empty buffer holds. */
void bytes_trim(struct bytes *bytes);

/* The content as a string with a final NUL, owned by the caller; the buffer is empty afterwards.
 * NULL after an error. */
char *bytes_steal(struct bytes *bytes);

static inline struct span span_of(const char *str)
{
	return (struct span){.data = (const uint8_t *)str, .len = __builtin_strlen(str)};
}

bool span_equal(struct span span, const char *str);

/* ASCII letters compare without regard to case. */
bool span_equal_nocase(struct span span, const char *str);

/* A copy with a final NUL, owned by the caller, NULL when out of memory. NUL octets inside stay. */
char *span_dup(struct span span);
