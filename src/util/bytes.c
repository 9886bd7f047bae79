#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/bytes.h"

#define SIZE_AT_FIRST 64

void bytes_init(struct bytes *bytes)
{
	*bytes = (struct bytes){0};
}

void bytes_done(struct bytes *bytes)
{
	free(bytes->data);
	bytes_init(bytes);
}

void bytes_wipe(struct bytes *bytes)
{
	if (bytes->data) {
		explicit_bzero(bytes->data, bytes->size);
	}
	bytes_done(bytes);
}

static void fail(struct bytes *bytes, int error)
{
	if (bytes->error == 0) {
		bytes->error = error;
	}
}

/* Not realloc(3): it may leave a copy of a secret behind. */
static bool grow(struct bytes *bytes, size_t needed)
{
	if (needed > PTRDIFF_MAX) {
		fail(bytes, -ENOMEM);
		return false;
	}
	size_t size = bytes->size > 0 ? bytes->size : SIZE_AT_FIRST;
	while (size < needed) {
		size = size <= PTRDIFF_MAX / 2 ? size * 2 : PTRDIFF_MAX;
	}
	uint8_t *data = malloc(size);
	if (!data) {
		fail(bytes, -ENOMEM);
		return false;
	}
	size_t len = bytes_len(bytes);
	if (bytes->data) {
		memcpy(data, bytes->data + bytes->start, len);
		explicit_bzero(bytes->data, bytes->size);
		free(bytes->data);
	}
	bytes->data = data;
	bytes->start = 0;
	bytes->end = len;
	bytes->size = size;
	return true;
}

void *bytes_reserve(struct bytes *bytes, size_t len)
{
	if (bytes->error < 0) {
		return NULL;
	}
	/* One octet more, so that bytes_steal() has room for its NUL. */
	size_t room = bytes->size - bytes->end;
	if (room > len) {
		return bytes->data + bytes->end;
	}
	size_t used = bytes_len(bytes);
	if (len >= SIZE_MAX - used) {
		fail(bytes, -ENOMEM);
		return NULL;
	}
	/* Moving is worth it only where at least as much was consumed as has to be moved; else a
	 * long queue would be moved again and again. */
	if (bytes->size > used + len && bytes->start >= used) {
		memmove(bytes->data, bytes->data + bytes->start, used);
		bytes->start = 0;
		bytes->end = used;
	} else if (!grow(bytes, used + len + 1)) {
		return NULL;
	}
	return bytes->data + bytes->end;
}

void bytes_commit(struct bytes *bytes, size_t len)
{
	size_t room = bytes->size - bytes->end;
	bytes->end += len < room ? len : room;
}

void bytes_put(struct bytes *bytes, const void *data, size_t len)
{
	if (len == 0) {
		return;
	}
	void *room = bytes_reserve(bytes, len);
	if (room) {
		memcpy(room, data, len);
		bytes_commit(bytes, len);
	}
}

void bytes_put_str(struct bytes *bytes, const char *str)
{
	bytes_put(bytes, str, strlen(str));
}

void bytes_put_char(struct bytes *bytes, char c)
{
	bytes_put(bytes, &c, 1);
}

void bytes_printf(struct bytes *bytes, const char *format, ...)
{
	char *room = bytes_reserve(bytes, SIZE_AT_FIRST);
	if (!room) {
		return;
	}
	size_t size = bytes->size - bytes->end;
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(room, size, format, arguments);
	va_end(arguments);
	if (len >= 0 && (size_t)len >= size) {
		size = (size_t)len + 1;
		room = bytes_reserve(bytes, size);
		if (!room) {
			return;
		}
		va_start(arguments, format);
		len = vsnprintf(room, size, format, arguments);
		va_end(arguments);
	}
	if (len < 0) {
		fail(bytes, errno > 0 ? -errno : -EINVAL);
		return;
	}
	bytes_commit(bytes, (size_t)len);
}

void bytes_consume(struct bytes *bytes, size_t len)
{
	if (len >= bytes_len(bytes)) {
		bytes_clear(bytes);
	} else {
		bytes->start += len;
	}
}

void bytes_clear(struct bytes *bytes)
{
	bytes->start = 0;
	bytes->end = 0;
}

void bytes_trim(struct bytes *bytes)
{
	if (bytes_len(bytes) > 0) {
		return;
	}
	free(bytes->data);
	bytes->data = NULL;
	bytes->start = 0;
	bytes->end = 0;
	bytes->size = 0;
}

char *bytes_steal(struct bytes *bytes)
{
	char *room = bytes_reserve(bytes, 0);
	if (!room) {
		return NULL;
	}
	*room = '\0';
	size_t len = bytes_len(bytes);
	char *str = (char *)bytes->data;
	if (bytes->start > 0) {
		memmove(str, str + bytes->start, len + 1);
	}
	bytes_init(bytes);
	return str;
}

bool span_equal(struct span span, const char *str)
{
	size_t len = strlen(str);
	return span.len == len && (len == 0 || memcmp(span.data, str, len) == 0);
}

/* Not tolower(3), which asks the locale. */
static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool span_equal_nocase(struct span span, const char *str)
{
	if (span.len != strlen(str)) {
		return false;
	}
	for (size_t i = 0; i < span.len; i++) {
		if (lower(span.data[i]) != lower((uint8_t)str[i])) {
			return false;
		}
	}
	return true;
}

char *span_dup(struct span span)
{
	if (span.len >= PTRDIFF_MAX) {
		return NULL;
	}
	char *copy = malloc(span.len + 1);
	if (!copy) {
		return NULL;
	}
	if (span.len > 0) {
		memcpy(copy, span.data, span.len);
	}
	copy[span.len] = '\0';
	return copy;
}
