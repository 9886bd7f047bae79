#include <stdint.h>

#include "util/text.h"

#define REPLACEMENT 0xfffd

/* A character of several octets: how many, and what the second may be (Unicode, table 3-7), which
 * shuts out overlong forms, surrogates and what lies beyond U+10FFFF. */
struct lead {
	uint8_t first;
	uint8_t last;
	uint8_t n_more;
	uint8_t second_lowest;
	uint8_t second_highest;
};

static const struct lead leads[] = {
	{0xc2, 0xdf, 1, 0x80, 0xbf},
	{0xe0, 0xe0, 2, 0xa0, 0xbf},
	{0xe1, 0xec, 2, 0x80, 0xbf},
	{0xed, 0xed, 2, 0x80, 0x9f},
	{0xee, 0xef, 2, 0x80, 0xbf},
	{0xf0, 0xf0, 3, 0x90, 0xbf},
	{0xf1, 0xf3, 3, 0x80, 0xbf},
	{0xf4, 0xf4, 3, 0x80, 0x8f},
};

static uint32_t next_of_several(const struct lead *lead, struct span *span)
{
	uint32_t c = span->data[0] & (0x3fU >> lead->n_more);
	uint8_t lowest = lead->second_lowest;
	uint8_t highest = lead->second_highest;
	size_t n = 1;
	for (; n <= lead->n_more && n < span->len; n++) {
		uint8_t octet = span->data[n];
		if (octet < lowest || octet > highest) {
			break;
		}
		c = c << 6 | (octet & 0x3fU);
		lowest = 0x80;
		highest = 0xbf;
	}
	span->data += n;
	span->len -= n;
	return n == (size_t)lead->n_more + 1 ? c : TEXT_INVALID;
}

uint32_t text_next(struct span *span)
{
	uint8_t octet = span->data[0];
	if (octet >= 0x80) {
		for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
			if (octet >= leads[i].first && octet <= leads[i].last) {
				return next_of_several(&leads[i], span);
			}
		}
	}
	span->data++;
	span->len--;
	return octet < 0x80 ? octet : TEXT_INVALID;
}

size_t text_encode(uint32_t c, char buffer[static 4])
{
	if (c < 0x80) {
		buffer[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		buffer[0] = (char)(0xc0 | c >> 6);
		buffer[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c > 0x10ffff) {
		c = REPLACEMENT;
	}
	if (c < 0x10000) {
		buffer[0] = (char)(0xe0 | c >> 12);
		buffer[1] = (char)(0x80 | (c >> 6 & 0x3f));
		buffer[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	buffer[0] = (char)(0xf0 | c >> 18);
	buffer[1] = (char)(0x80 | (c >> 12 & 0x3f));
	buffer[2] = (char)(0x80 | (c >> 6 & 0x3f));
	buffer[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

bool text_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f);
}

bool text_is_deceptive(uint32_t c)
{
	if (c < 0x61c || c == TEXT_INVALID) {
		return false;
	}
	bool is_bidi = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
		(c >= 0x2066 && c <= 0x2069);
	bool is_separator = c == 0x2028 || c == 0x2029;
	bool is_noncharacter = (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
	return is_bidi || is_separator || is_noncharacter;
}

/* Unicode's White_Space but U+2028 and U+2029, which never reach a text. */
static bool is_white_space(uint32_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xa0 || c == 0x1680 ||
		(c >= 0x2000 && c <= 0x200a) || c == 0x202f || c == 0x205f || c == 0x3000;
}

static void put_char(struct bytes *bytes, uint32_t c)
{
	char buffer[4];
	bytes_put(bytes, buffer, text_encode(c, buffer));
}

static void clean_one_line(struct bytes *bytes, struct span span, size_t max_chars)
{
	bool is_blank_due = false;
	size_t n_chars = 0;
	while (span.len > 0) {
		uint32_t c = text_next(&span);
		if (is_white_space(c)) {
			is_blank_due = n_chars > 0;
			continue;
		}
		if (text_is_control(c) || text_is_deceptive(c)) {
			continue;
		}
		size_t n_more = is_blank_due ? 2 : 1;
		if (n_more > max_chars - n_chars) {
			return;
		}
		if (is_blank_due) {
			bytes_put_char(bytes, ' ');
			is_blank_due = false;
		}
		put_char(bytes, c);
		n_chars += n_more;
	}
}

static void clean_lines(struct bytes *bytes, struct span span, size_t max_chars)
{
	size_t n_chars = 0;
	while (span.len > 0 && n_chars < max_chars) {
		uint32_t c = text_next(&span);
		bool is_kept = c == '\n' || c == '\t';
		if (is_kept || !(text_is_control(c) || text_is_deceptive(c))) {
			put_char(bytes, c);
			n_chars++;
		}
	}
}

char *text_clean(struct span span, enum text_lines lines, size_t max_chars)
{
	if (max_chars == 0) {
		max_chars = SIZE_MAX;
	}
	struct bytes bytes;
	bytes_init(&bytes);
	switch (lines) {
	case TEXT_ONE_LINE:
		clean_one_line(&bytes, span, max_chars);
		break;
	case TEXT_LINES:
		clean_lines(&bytes, span, max_chars);
		break;
	}
	char *text = bytes_steal(&bytes);
	bytes_done(&bytes);
	return text;
}

bool text_is_utf8(struct span span)
{
	while (span.len > 0) {
		if (text_next(&span) == TEXT_INVALID) {
			return false;
		}
	}
	return true;
}
