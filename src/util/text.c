#include <stdint.h>
#include <string.h>

#include "util/text.h"

#define REPLACEMENT 0xfffd

/* Text is cleaned into a buffer of its own length, but at first of no more than this: what is left
 * of it may be little. */
#define SIZE_HIGHEST_AT_FIRST 4096

/* Eight octets are looked at together, each of them this one. */
#define EACH(octet) ((octet)*UINT64_C(0x0101010101010101))
#define BLOCK       sizeof(uint64_t)

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

static uint64_t load(const uint8_t *octets)
{
	uint64_t block;
	memcpy(&block, octets, sizeof(block));
	return block;
}

/* What is below 0x20 borrows its high bit, 0x7f gets one from its neighbour's increment; the first
 * such octet is not mistaken, whatever stands behind it. */
static bool is_printable_block(uint64_t block)
{
	return ((block | (block - EACH(0x20)) | (block + EACH(0x01))) & EACH(0x80)) == 0;
}

static bool is_printable(uint8_t octet)
{
	return octet >= 0x20 && octet < 0x7f;
}

size_t text_plain_len(struct span span)
{
	size_t n = 0;
	while (span.len - n >= BLOCK && is_printable_block(load(span.data + n))) {
		n += BLOCK;
	}
	while (n < span.len && is_printable(span.data[n])) {
		n++;
	}
	return n;
}

/* In printable ASCII: adding 0x7f to an octet leaves its high bit clear only where it is 0. Blocks
 * overlap by an octet, so that every pair stands in one of them. */
static bool has_two_blanks(struct span span)
{
	size_t n = 0;
	for (; span.len - n >= BLOCK; n += BLOCK - 1) {
		uint64_t blanks = ~((load(span.data + n) ^ EACH(' ')) + EACH(0x7f)) & EACH(0x80);
		if (blanks & blanks << 8) {
			return true;
		}
	}
	for (; n + 1 < span.len; n++) {
		if (span.data[n] == ' ' && span.data[n + 1] == ' ') {
			return true;
		}
	}
	return false;
}

bool text_is_plain(struct span span)
{
	if (span.len == 0) {
		return true;
	}
	return span.data[0] != ' ' && span.data[span.len - 1] != ' ' &&
		text_plain_len(span) == span.len && !has_two_blanks(span);
}

/* A text while it is written. */
struct cleaning {
	struct bytes bytes;
	size_t n_left; /* characters that there is room for */
};

/* Takes n characters of one octet each off the front, and puts as many as there is room for. */
static void put_plain(struct cleaning *cleaning, struct span *span, size_t n)
{
	size_t n_put = n < cleaning->n_left ? n : cleaning->n_left;
	bytes_put(&cleaning->bytes, span->data, n_put);
	cleaning->n_left -= n_put;
	span->data += n;
	span->len -= n;
}

static void put_char(struct cleaning *cleaning, uint32_t c)
{
	char buffer[4];
	bytes_put(&cleaning->bytes, buffer, text_encode(c, buffer));
	cleaning->n_left--;
}

static size_t word_len(struct span span)
{
	size_t n = 0;
	while (n < span.len && is_printable(span.data[n]) && span.data[n] != ' ') {
		n++;
	}
	return n;
}

static void clean_one_line(struct cleaning *cleaning, struct span span)
{
	bool is_blank_due = false;
	while (span.len > 0) {
		size_t n = word_len(span);
		uint32_t c = n > 0 ? span.data[0] : text_next(&span);
		if (is_white_space(c)) {
			is_blank_due = bytes_len(&cleaning->bytes) > 0;
			continue;
		}
		if (text_is_control(c) || text_is_deceptive(c)) {
			continue;
		}
		if (cleaning->n_left < (is_blank_due ? 2 : 1)) {
			return;
		}
		if (is_blank_due) {
			put_char(cleaning, ' ');
			is_blank_due = false;
		}
		if (n > 0) {
			put_plain(cleaning, &span, n);
		} else {
			put_char(cleaning, c);
		}
	}
}

static void clean_lines(struct cleaning *cleaning, struct span span)
{
	while (span.len > 0 && cleaning->n_left > 0) {
		size_t n = text_plain_len(span);
		if (n > 0) {
			put_plain(cleaning, &span, n);
			continue;
		}
		uint32_t c = text_next(&span);
		bool is_kept = c == '\n' || c == '\t';
		if (is_kept || !(text_is_control(c) || text_is_deceptive(c))) {
			put_char(cleaning, c);
		}
	}
}

char *text_clean(struct span span, enum text_lines lines, size_t max_chars)
{
	if (max_chars == 0) {
		max_chars = SIZE_MAX;
	}
	if (span.len <= max_chars && text_is_plain(span)) {
		return span_dup(span);
	}
	struct cleaning cleaning = {.n_left = max_chars};
	bytes_init(&cleaning.bytes);
	size_t size = span.len < SIZE_HIGHEST_AT_FIRST ? span.len : SIZE_HIGHEST_AT_FIRST;
	bytes_reserve(&cleaning.bytes, max_chars < size ? max_chars : size);
	switch (lines) {
	case TEXT_ONE_LINE:
		clean_one_line(&cleaning, span);
		break;
	case TEXT_LINES:
		clean_lines(&cleaning, span);
		break;
	}
	char *text = bytes_steal(&cleaning.bytes);
	bytes_done(&cleaning.bytes);
	return text;
}

bool text_is_utf8(struct span span)
{
	while (span.len > 0) {
		size_t n = text_plain_len(span);
		if (n == 0 && text_next(&span) == TEXT_INVALID) {
			return false;
		}
		span.data += n;
		span.len -= n;
	}
	return true;
}
