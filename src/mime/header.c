#include <errno.h>
#include <gmime/gmime.h>
#include <stdlib.h>
#include <string.h>

#include "mime/charset.h"
#include "mime/header.h"
#include "util/text.h"

#define CHARSET_NAME_MAX 64
#define MESSAGE_ID_MAX   998 /* RFC 5322 section 2.1.1: a line */

/* RFC 2047 section 2: "=?" charset "?" encoding "?" encoded-text "?=" */
struct word {
	struct span charset; /* without the language of RFC 2231 section 5 */
	bool is_base64;
	struct span text;
	size_t len; /* of all */
};

/* Where the next "?=" is. Asked for ever later places, so all questions together cost one pass. */
struct search {
	struct span raw;
	size_t found; /* raw.len: none any more */
	bool is_valid;
};

/* Words of one charset that follow each other are converted together: many programs cut in the
 * middle of a character, or between the escape sequences of ISO-2022, against section 5. */
struct words {
	struct span charset;
	struct bytes octets;
	bool is_base64_open; /* the last word ended within a group of four */
	int base64_state;
	guint32 base64_save;
};

void mime_init(void)
{
	g_mime_init();
}

void mime_done(void)
{
	g_mime_shutdown();
}

static bool is_white(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct span trim(struct span span)
{
	while (span.len > 0 && is_white(span.data[0])) {
		span.data++;
		span.len--;
	}
	while (span.len > 0 && is_white(span.data[span.len - 1])) {
		span.len--;
	}
	return span;
}

static struct span part_of(struct span span, size_t from, size_t to)
{
	return (struct span){.data = span.data + from, .len = to - from};
}

static size_t find_word_end(struct search *search, size_t from)
{
	const uint8_t *found;

	if (search->is_valid && search->found >= from) {
		return search->found;
	}
	found = memmem(search->raw.data + from, search->raw.len - from, "?=", 2);
	search->found = found != NULL ? (size_t)(found - search->raw.data) : search->raw.len;
	search->is_valid = true;
	return search->found;
}

/* An encoded word at `start`. Blanks within its text are against the standard, but sent. */
static bool read_word(struct search *search, size_t start, struct word *ret_word)
{
	const struct span raw = search->raw;
	size_t at = start + 2;
	size_t language;
	size_t end;

	while (at < raw.len && at - start <= CHARSET_NAME_MAX && raw.data[at] != '?' &&
		!is_white(raw.data[at])) {
		at++;
	}
	/* Room for "?Q?". */
	if (at == start + 2 || raw.len - at < 3 || raw.data[at] != '?' || raw.data[at + 2] != '?' ||
		raw.data[at + 1] == '\0' || strchr("bBqQ", raw.data[at + 1]) == NULL) {
		return false;
	}
	end = find_word_end(search, at + 3);
	if (end == raw.len) {
		return false;
	}
	language = start + 2;
	while (language < at && raw.data[language] != '*') {
		language++;
	}
	*ret_word = (struct word){
		.charset = part_of(raw, start + 2, language),
		.is_base64 = (raw.data[at + 1] | 0x20) == 'b',
		.text = part_of(raw, at + 3, end),
		.len = end + 2 - start,
	};
	return true;
}

static void put_base64_step(struct words *words, const void *text, size_t len)
{
	unsigned char *out = bytes_reserve(&words->octets, len / 4 * 3 + 6);

	if (out != NULL) {
		bytes_commit(&words->octets,
			g_mime_encoding_base64_decode_step(
				text, len, out, &words->base64_state, &words->base64_save));
	}
}

static void put_base64(struct words *words, struct span text)
{
	if (!words->is_base64_open) {
		words->base64_state = 0;
		words->base64_save = 0;
	}
	put_base64_step(words, text.data, text.len);
	words->is_base64_open = text.len > 0 && text.data[text.len - 1] != '=';
}

/* Padding is often forgotten; too much of it does no harm. */
static void end_base64(struct words *words)
{
	if (words->is_base64_open) {
		put_base64_step(words, "==", 2);
		words->is_base64_open = false;
	}
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 2047 section 4.2. */
static void put_q(struct words *words, struct span text)
{
	end_base64(words);
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.data[i];

		if (c == '_') {
			c = ' ';
		} else if (c == '=' && text.len - i > 2 && hex_value(text.data[i + 1]) >= 0 &&
			hex_value(text.data[i + 2]) >= 0) {
			c = (uint8_t)(hex_value(text.data[i + 1]) << 4 |
				hex_value(text.data[i + 2]));
			i += 2;
		}
		bytes_put_char(&words->octets, (char)c);
	}
}

static void words_flush(struct words *words, struct bytes *text)
{
	end_base64(words);
	mime_charset_put(text, words->charset, bytes_span(&words->octets));
	if (words->octets.error < 0) {
		text->error = words->octets.error;
	}
	bytes_clear(&words->octets);
	words->charset = (struct span){0};
}

static bool is_same_charset(struct span a, struct span b)
{
	return a.len == b.len &&
		(a.len == 0 || strncasecmp((const char *)a.data, (const char *)b.data, a.len) == 0);
}

static void words_put(struct words *words, const struct word *word, struct bytes *text)
{
	if (!is_same_charset(words->charset, word->charset)) {
		words_flush(words, text);
	}
	words->charset = word->charset;
	if (word->is_base64) {
		put_base64(words, word->text);
	} else {
		put_q(words, word->text);
	}
}

static bool is_blank(struct span span)
{
	return trim(span).len == 0;
}

static void decode(struct span raw, struct bytes *text)
{
	struct search search = {.raw = raw};
	struct words words = {0};
	size_t literal = 0; /* where what is no encoded word begins */
	size_t at = 0;
	bool is_behind_word = false;

	bytes_init(&words.octets);
	while (at < raw.len) {
		const uint8_t *found = memmem(raw.data + at, raw.len - at, "=?", 2);
		struct word word;

		if (found == NULL) {
			break;
		}
		at = (size_t)(found - raw.data);
		if (!read_word(&search, at, &word)) {
			at += 2;
			continue;
		}
		/* Section 6.2: white space between encoded words is not displayed. */
		if (!is_behind_word || !is_blank(part_of(raw, literal, at))) {
			words_flush(&words, text);
			mime_charset_put(text, (struct span){0}, part_of(raw, literal, at));
		}
		words_put(&words, &word, text);
		at += word.len;
		literal = at;
		is_behind_word = true;
	}
	words_flush(&words, text);
	mime_charset_put(text, (struct span){0}, part_of(raw, literal, raw.len));
	bytes_done(&words.octets);
}

/* Plain as it is, and decoded already: in nearly every header. */
static bool is_decoded(struct span raw, size_t max_chars)
{
	return raw.len <= max_chars && text_is_plain(raw) &&
		(raw.len == 0 || memmem(raw.data, raw.len, "=?", 2) == NULL);
}

char *mime_header_decode(struct span raw, size_t max_chars)
{
	struct bytes text;
	char *clean = NULL;

	if (is_decoded(raw, max_chars)) {
		return span_dup(raw);
	}
	bytes_init(&text);
	decode(raw, &text);
	if (text.error == 0) {
		clean = text_clean(bytes_span(&text), TEXT_ONE_LINE, max_chars);
	}
	bytes_done(&text);
	return clean;
}

/* The first "<...>" without a blank in it; obsolete forms of In-Reply-To have phrases around it,
 * and some of them addresses with names. All of the text where there is none. */
static struct span find_message_id(struct span raw)
{
	size_t start = raw.len;

	for (size_t i = 0; i < raw.len; i++) {
		if (raw.data[i] == '<') {
			start = i;
		} else if (start < i && raw.data[i] == '>' && i - start > 1) {
			return part_of(raw, start, i + 1);
		} else if (is_white(raw.data[i]) && raw.data[i] != '\r' && raw.data[i] != '\n') {
			const bool is_folded = i > 0 && raw.data[i - 1] == '\n';

			start = is_folded ? start : raw.len;
		}
	}
	return trim(raw);
}

char *mime_message_id(struct span raw)
{
	const struct span found = find_message_id(raw);
	struct bytes id;
	char *clean = NULL;

	if (found.len > 0 && found.len <= MESSAGE_ID_MAX && text_is_plain(found) &&
		memchr(found.data, ' ', found.len) == NULL) {
		return span_dup(found);
	}
	bytes_init(&id);
	for (size_t i = 0; i < found.len; i++) {
		/* RFC 5322 section 3.6.4: no white space within, so folding left what is there. */
		if (found.data[0] != '<' || !is_white(found.data[i])) {
			bytes_put_char(&id, (char)found.data[i]);
		}
	}
	if (id.error == 0) {
		clean = text_clean(bytes_span(&id), TEXT_ONE_LINE, MESSAGE_ID_MAX);
	}
	bytes_done(&id);
	if (clean != NULL && clean[0] == '\0') {
		free(clean);
		return NULL;
	}
	return clean;
}
