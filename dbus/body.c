#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/body.h"
#include "util/text.h"

void body_init(struct body *body, sd_bus_message *message, size_t size_highest)
{
	*body = (struct body){.message = message, .size_highest = size_highest};
}

static void check(struct body *body, int result)
{
	if (body->error == 0 && result < 0) {
		body->error = result;
	}
}

/* Before anything is written, so that no memory is taken for what is too much. */
static bool count(struct body *body, size_t alignment, size_t len)
{
	if (body->error != 0) {
		return false;
	}
	size_t padding = (alignment - body->size % alignment) % alignment;
	size_t left = body->size_highest - body->size;
	if (padding > left || len > left - padding) {
		body->error = -EMSGSIZE;
		return false;
	}
	body->size += padding + len;
	return true;
}

static void put(struct body *body, char type, const void *value, size_t len)
{
	if (count(body, len, len)) {
		check(body, sd_bus_message_append_basic(body->message, type, value));
	}
}

void body_put_bool(struct body *body, bool value)
{
	put(body, 'b', &(int){value}, sizeof(uint32_t));
}

void body_put_u16(struct body *body, uint16_t value)
{
	put(body, 'q', &value, sizeof(value));
}

void body_put_u32(struct body *body, uint32_t value)
{
	put(body, 'u', &value, sizeof(value));
}

void body_put_u64(struct body *body, uint64_t value)
{
	put(body, 't', &value, sizeof(value));
}

void body_put_i64(struct body *body, int64_t value)
{
	put(body, 'x', &value, sizeof(value));
}

/* On the wire it is an index. */
void body_put_fd(struct body *body, int fd)
{
	put(body, 'h', &fd, sizeof(uint32_t));
}

/* As sd-bus sees it, stricter than the specification is today: noncharacters are refused, too. What
 * text_clean() leaves out beyond that may be part of a name. */
static bool is_fit(struct span rest)
{
	while (rest.len > 0) {
		size_t n = text_plain_len(rest);
		rest.data += n;
		rest.len -= n;
		uint32_t c = rest.len > 0 ? text_next(&rest) : 0;
		if (c == TEXT_INVALID || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe) {
			return false;
		}
	}
	return true;
}

/* As append_basic() does it, which would look at every octet once more. */
static void put_fit(struct body *body, struct span text)
{
	char *space;
	if (text.len > UINT32_MAX) {
		check(body, -EMSGSIZE);
		return;
	}
	if (!count(body, sizeof(uint32_t), sizeof(uint32_t) + text.len + 1)) {
		return;
	}
	check(body, sd_bus_message_append_string_space(body->message, text.len, &space));
	if (body->error == 0) {
		memcpy(space, text.data, text.len);
	}
}

void body_put_string(struct body *body, const char *text)
{
	if (body->error != 0) {
		return;
	}
	struct span span = span_of(text ? text : "");
	if (is_fit(span)) {
		put_fit(body, span);
		return;
	}
	char *clean = text_clean(span, TEXT_LINES, 0);
	if (!clean) {
		check(body, -ENOMEM);
		return;
	}
	put_fit(body, span_of(clean));
	free(clean);
}

void body_put_strings(struct body *body, const char *const *texts)
{
	body_open_array(body, "s");
	for (size_t i = 0; body->error == 0 && texts && texts[i]; i++) {
		body_put_string(body, texts[i]);
	}
	body_close(body);
}

static void open_container(struct body *body, char type, const char *contents)
{
	check(body, sd_bus_message_open_container(body->message, type, contents));
}

static size_t alignment_of(char type)
{
	switch (type) {
	case 'n':
	case 'q':
		return 2;
	case 'x':
	case 't':
	case 'd':
	case '(':
	case '{':
		return 8;
	case 'y':
	case 'g':
	case 'v':
		return 1;
	}
	return 4;
}

/* The elements' padding counts even where there are none. */
void body_open_array(struct body *body, const char *contents)
{
	if (count(body, sizeof(uint32_t), sizeof(uint32_t)) &&
		count(body, alignment_of(contents[0]), 0)) {
		open_container(body, 'a', contents);
	}
}

void body_open_struct(struct body *body, const char *contents)
{
	if (count(body, 8, 0)) {
		open_container(body, 'r', contents);
	}
}

void body_open_entry(struct body *body, const char *key, const char *contents)
{
	if (!count(body, 8, 0)) {
		return;
	}
	open_container(body, 'e', "sv");
	put_fit(body, span_of(key));
	if (count(body, 1, 1 + strlen(contents) + 1)) {
		open_container(body, 'v', contents);
	}
}

void body_close_entry(struct body *body)
{
	body_close(body);
	body_close(body);
}

void body_close(struct body *body)
{
	if (body->error == 0) {
		check(body, sd_bus_message_close_container(body->message));
	}
}
