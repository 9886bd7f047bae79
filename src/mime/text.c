#include <gmime/gmime.h>
#include <stdlib.h>
#include <string.h>

#include "mime/charset.h"
#include "mime/flowed.h"
#include "mime/html.h"
#include "mime/text.h"
#include "util/text.h"

/* A word at the end of a preview is dropped whole if that costs no more than a part of it. */
#define PREVIEW_PART 6

static const struct {
	const char *name;
	GMimeContentEncoding encoding;
} encodings[] = {
	{"base64", GMIME_CONTENT_ENCODING_BASE64},
	{"quoted-printable", GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE},
	{"x-uuencode", GMIME_CONTENT_ENCODING_UUENCODE},
	{"x-uue", GMIME_CONTENT_ENCODING_UUENCODE},
	{"uuencode", GMIME_CONTENT_ENCODING_UUENCODE},
};

static bool is_white(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct span trim(struct span span)
{
	while (span.len > 0 && (is_white(span.data[0]) || span.data[0] == '"')) {
		span.data++;
		span.len--;
	}
	while (span.len > 0 &&
		(is_white(span.data[span.len - 1]) || span.data[span.len - 1] == '"')) {
		span.len--;
	}
	return span;
}

static struct span find_parameter(const struct mime_part *part, const char *name)
{
	for (size_t i = 0; i < part->n_parameters; i++) {
		if (span_equal_nocase(part->parameters[i].name, name)) {
			return trim(part->parameters[i].value);
		}
	}
	return (struct span){0};
}

/* Behind the line "begin 644 name", which GMime does not want to see. */
static struct span skip_begin(struct span octets)
{
	const uint8_t *begin = memmem(octets.data, octets.len, "begin ", 6);
	const uint8_t *end;
	size_t n;

	if (begin == NULL || (begin > octets.data && begin[-1] != '\n')) {
		return octets;
	}
	n = (size_t)(begin - octets.data);
	end = memchr(begin, '\n', octets.len - n);
	n = end != NULL ? (size_t)(end + 1 - octets.data) : octets.len;
	return (struct span){.data = octets.data + n, .len = octets.len - n};
}

static void put_transfer_decoded(struct bytes *decoded, struct span name, struct span octets)
{
	const struct span wanted = trim(name);

	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		GMimeEncoding encoding;
		char *room;

		if (!span_equal_nocase(wanted, encodings[i].name)) {
			continue;
		}
		if (encodings[i].encoding == GMIME_CONTENT_ENCODING_UUENCODE && octets.len > 0) {
			octets = skip_begin(octets);
		}
		g_mime_encoding_init_decode(&encoding, encodings[i].encoding);
		room = bytes_reserve(decoded, g_mime_encoding_outlen(&encoding, octets.len + 2));
		if (room != NULL && octets.len > 0) {
			size_t n = g_mime_encoding_step(
				&encoding, (const char *)octets.data, octets.len, room);

			/* For base64 that was cut off, or lacks its padding. */
			n += g_mime_encoding_flush(&encoding, "==",
				encodings[i].encoding == GMIME_CONTENT_ENCODING_BASE64 ? 2 : 0,
				room + n);
			bytes_commit(decoded, n);
		}
		return;
	}
	bytes_put(decoded, octets.data, octets.len);
}

static bool is_html(const struct mime_part *part)
{
	return span_equal_nocase(part->subtype, "html") ||
		span_equal_nocase(part->subtype, "xhtml+xml");
}

/* What the part says, else what the document says of itself. */
static struct span charset_of(const struct mime_part *part, struct span octets)
{
	struct span charset = find_parameter(part, "charset");

	if (charset.len > 0 || octets.len == 0) {
		return charset;
	}
	if (octets.len >= 2 &&
		(memcmp(octets.data, "\xff\xfe", 2) == 0 ||
			memcmp(octets.data, "\xfe\xff", 2) == 0)) {
		return span_of("utf-16");
	}
	return is_html(part) ? mime_html_charset(octets) : charset;
}

/* Takes the text, and gives back what it does not need: many of them may wait for their reader. */
static char *cut_octets(char *text, size_t max_len)
{
	size_t len = strlen(text);

	if (len > max_len) {
		while (max_len > 0 && ((unsigned char)text[max_len] & 0xc0) == 0x80) {
			max_len--;
		}
		text[max_len] = '\0';
		len = max_len;
	}
	char *fitting = realloc(text, len + 1);
	return fitting != NULL ? fitting : text;
}

char *mime_part_text(const struct mime_part *part, struct span octets, size_t max_len)
{
	struct bytes decoded;
	struct bytes converted;
	struct bytes readable;
	char *text = NULL;

	bytes_init(&decoded);
	bytes_init(&converted);
	bytes_init(&readable);
	put_transfer_decoded(&decoded, part->encoding, octets);
	mime_charset_put(&converted, charset_of(part, bytes_span(&decoded)), bytes_span(&decoded));
	if (is_html(part)) {
		mime_html_put_text(&readable, bytes_span(&converted), max_len);
	} else if (span_equal_nocase(find_parameter(part, "format"), "flowed")) {
		mime_flowed_put(&readable, bytes_span(&converted),
			span_equal_nocase(find_parameter(part, "delsp"), "yes"));
	} else {
		bytes_put(&readable, bytes_span(&converted).data, bytes_len(&converted));
	}
	if (decoded.error == 0 && converted.error == 0 && readable.error == 0) {
		text = text_clean(bytes_span(&readable), TEXT_LINES, 0);
	}
	if (text != NULL) {
		text = cut_octets(text, max_len);
	}
	bytes_done(&decoded);
	bytes_done(&converted);
	bytes_done(&readable);
	return text;
}

/* The lines that somebody wrote for this message. RFC 3676 section 4.3: the line "-- " begins the
 * signature; its blank is often lost. */
static void put_own_lines(struct bytes *own, const char *text)
{
	while (*text != '\0') {
		const char *end = strchrnul(text, '\n');
		const size_t len = (size_t)(end - text);
		const size_t visible = len > 0 && text[len - 1] == '\r' ? len - 1 : len;

		if ((visible == 2 && memcmp(text, "--", 2) == 0) ||
			(visible == 3 && memcmp(text, "-- ", 3) == 0)) {
			return;
		}
		if (text[0] != '>') {
			bytes_put(own, text, len);
			bytes_put_char(own, '\n');
		}
		text = *end == '\n' ? end + 1 : end;
	}
}

/* One line of at most max_chars characters; what was longer ends with a whole word where one ends
 * in the last part of it. */
static char *shorten(struct span text, size_t max_chars)
{
	char *line = text_clean(text, TEXT_ONE_LINE, max_chars < SIZE_MAX ? max_chars + 1 : 0);
	size_t n_chars = 0;
	size_t end = 0;   /* behind the last character that may stay */
	size_t blank = 0; /* where the last word ends */
	size_t n_at_blank = 0;

	if (line == NULL) {
		return NULL;
	}
	for (size_t i = 0; line[i] != '\0'; i++) {
		if (((unsigned char)line[i] & 0xc0) == 0x80) {
			continue;
		}
		if (n_chars <= max_chars && line[i] == ' ') {
			blank = i;
			n_at_blank = n_chars;
		}
		if (n_chars == max_chars) {
			end = i;
		}
		n_chars++;
	}
	if (n_chars > max_chars) {
		const bool is_near =
			blank > 0 && max_chars - n_at_blank <= max_chars / PREVIEW_PART;

		line[is_near ? blank : end] = '\0';
	}
	return line;
}

char *mime_preview(const char *text, size_t max_chars)
{
	struct bytes own;
	char *preview = NULL;

	bytes_init(&own);
	put_own_lines(&own, text);
	if (own.error == 0) {
		preview = shorten(bytes_span(&own), max_chars);
	}
	bytes_done(&own);
	if (preview != NULL && preview[0] == '\0') {
		free(preview);
		preview = shorten(span_of(text), max_chars);
	}
	return preview;
}
