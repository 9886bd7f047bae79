#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "imap/oauth.h"
#include "util/text.h"

#define PROBLEM_CHARS 64

/* RFC 5801 section 4: saslname, where "," and "=" are written "=2C" and "=3D". */
static void put_saslname(struct bytes *message, const char *name)
{
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == ',') {
			bytes_put_str(message, "=2C");
		} else if (*p == '=') {
			bytes_put_str(message, "=3D");
		} else {
			bytes_put_char(message, *p);
		}
	}
}

int imap_oauth_put(struct bytes *message, enum imap_oauth_form form, const char *user,
	const char *token, const char *host, uint16_t port)
{
	/* At once, so that a buffer that grows leaves no part of the token behind. */
	bytes_reserve(message, 3 * strlen(user) + strlen(token) + strlen(host) + 64);

	switch (form) {
	case IMAP_OAUTH_BEARER:
		bytes_put_str(message, "n,a=");
		put_saslname(message, user);
		bytes_put_str(message, ",\1");
		if (host[0] != '\0') {
			bytes_printf(message, "host=%s\1port=%u\1", host, (unsigned int)port);
		}
		break;
	case IMAP_OAUTH_GOOGLE:
		bytes_put_str(message, "user=");
		bytes_put_str(message, user);
		bytes_put_char(message, '\1');
		break;
	}
	bytes_put_str(message, "auth=Bearer ");
	bytes_put_str(message, token);
	bytes_put_str(message, "\1\1");
	return message->error;
}

static size_t skip_white(struct span json, size_t at)
{
	while (at < json.len && strchr(" \t\r\n", json.data[at]) != NULL && json.data[at] != '\0') {
		at++;
	}
	return at;
}

/* What stands between the quotes, escapes and all; at is behind the opening quote. Returns where
 * the closing one is, or the end. */
static size_t find_quote(struct span json, size_t at)
{
	while (at < json.len && json.data[at] != '"') {
		at += json.data[at] == '\\' && json.len - at > 1 ? 2 : 1;
	}
	return at;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 8259 section 7. Characters beyond U+FFFF are written as two halves there: no status has any.
 */
static void put_unescaped(struct bytes *bytes, struct span string)
{
	for (size_t i = 0; i < string.len; i++) {
		char encoded[4];
		uint32_t c = 0;
		size_t n = 0;

		if (string.data[i] != '\\' || i + 1 == string.len) {
			bytes_put_char(bytes, (char)string.data[i]);
			continue;
		}
		i++;
		if (string.data[i] != 'u') {
			const bool is_white = strchr("bfnrt", string.data[i]) != NULL;

			bytes_put_char(bytes, is_white ? ' ' : (char)string.data[i]);
			continue;
		}
		while (n < 4 && string.len - i > n + 1 && hex_digit(string.data[i + 1 + n]) >= 0) {
			c = c << 4 | (uint32_t)hex_digit(string.data[i + 1 + n]);
			n++;
		}
		bytes_put(bytes, encoded,
			text_encode(c >> 11 == 0xd800 >> 11 ? TEXT_INVALID : c, encoded));
		i += n;
	}
}

/* The value of "status" in the outermost object, still escaped; empty when there is none. */
static struct span find_status(struct span json)
{
	size_t depth = 0;

	for (size_t at = 0; at < json.len; at++) {
		size_t start;
		struct span name;

		if (json.data[at] == '{' || json.data[at] == '[') {
			depth++;
		} else if ((json.data[at] == '}' || json.data[at] == ']') && depth > 0) {
			depth--;
		}
		if (json.data[at] != '"') {
			continue;
		}
		start = at + 1;
		at = find_quote(json, start);
		name = (struct span){.data = json.data + start, .len = at - start};
		if (depth != 1 || at == json.len || !span_equal(name, "status")) {
			continue;
		}
		start = skip_white(json, at + 1);
		if (start == json.len || json.data[start] != ':') {
			continue;
		}
		start = skip_white(json, start + 1);
		if (start == json.len || json.data[start] != '"') {
			continue;
		}
		start++;
		at = find_quote(json, start);
		return (struct span){.data = json.data + start, .len = at - start};
	}
	return (struct span){0};
}

char *imap_oauth_problem(struct span json)
{
	struct bytes unescaped;
	char *problem = NULL;

	bytes_init(&unescaped);
	put_unescaped(&unescaped, find_status(json));
	if (unescaped.error == 0) {
		problem = text_clean(bytes_span(&unescaped), TEXT_ONE_LINE, PROBLEM_CHARS);
	}
	bytes_done(&unescaped);
	return problem;
}
