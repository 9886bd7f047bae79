#include <stdlib.h>
#include <string.h>

#include "mime/charset.h"
#include "mime/header.h"
#include "mime/text.h"
#include "util/text.h"

#define FILE_NAME_MAX 255 /* NAME_MAX of limits.h, in octets */
#define SECTIONS_MAX  64

/* RFC 2231 section 3: a value in pieces, "name*0", "name*1*" and so on in any order. */
struct sections {
	const struct mime_parameter *list[SECTIONS_MAX]; /* borrowed */
	bool is_extended[SECTIONS_MAX];
};

/* What stands behind the name: "" is the plain form, "*" the extended one, "*7" or "*7*" a section.
 * false for another parameter. */
static bool has_name(struct span full, const char *name, struct span *ret_suffix)
{
	const size_t len = strlen(name);

	if (full.len < len || !span_equal_nocase((struct span){full.data, len}, name) ||
		(full.len > len && full.data[len] != '*')) {
		return false;
	}
	*ret_suffix = (struct span){.data = full.data + len, .len = full.len - len};
	return true;
}

static bool read_section_number(struct span suffix, size_t *ret_number, bool *ret_is_extended)
{
	size_t number = 0;
	bool is_extended = false;

	if (suffix.len > 1 && suffix.data[suffix.len - 1] == '*') {
		is_extended = true;
		suffix.len--;
	}
	if (suffix.len < 2) {
		return false;
	}
	for (size_t i = 1; i < suffix.len; i++) {
		if (suffix.data[i] < '0' || suffix.data[i] > '9') {
			return false;
		}
		number = number * 10 + (suffix.data[i] - '0');
		if (number >= SECTIONS_MAX) {
			return false;
		}
	}
	*ret_number = number;
	*ret_is_extended = is_extended;
	return true;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_percent_decoded(struct bytes *octets, struct span value)
{
	for (size_t i = 0; i < value.len; i++) {
		uint8_t c = value.data[i];

		if (c == '%' && value.len - i > 2 && hex_value(value.data[i + 1]) >= 0 &&
			hex_value(value.data[i + 2]) >= 0) {
			c = (uint8_t)(hex_value(value.data[i + 1]) << 4 |
				hex_value(value.data[i + 2]));
			i += 2;
		}
		bytes_put_char(octets, (char)c);
	}
}

/* RFC 2231 section 4: charset'language'text. Without quotes all of it is text. */
static struct span take_charset(struct span *value)
{
	const uint8_t *first = memchr(value->data, '\'', value->len);
	const uint8_t *second;
	struct span charset;

	if (first == NULL) {
		return (struct span){0};
	}
	second = memchr(first + 1, '\'', value->len - (size_t)(first + 1 - value->data));
	if (second == NULL) {
		return (struct span){0};
	}
	charset = (struct span){.data = value->data, .len = (size_t)(first - value->data)};
	value->len -= (size_t)(second + 1 - value->data);
	value->data = second + 1;
	return charset;
}

/* The value as UTF-8 that is still to be cleaned, out of all that are given. */
static void put_sections(struct bytes *text, const struct sections *sections)
{
	struct bytes octets;
	struct span charset = {0};

	bytes_init(&octets);
	for (size_t i = 0; i < SECTIONS_MAX && sections->list[i] != NULL; i++) {
		struct span value = sections->list[i]->value;

		if (value.len == 0) {
			continue;
		}
		if (!sections->is_extended[i]) {
			bytes_put(&octets, value.data, value.len);
			continue;
		}
		if (i == 0) {
			charset = take_charset(&value);
		}
		put_percent_decoded(&octets, value);
	}
	if (sections->is_extended[0]) {
		mime_charset_put(text, charset, bytes_span(&octets));
	} else {
		bytes_put(text, bytes_span(&octets).data, bytes_len(&octets));
	}
	if (octets.error < 0) {
		text->error = octets.error;
	}
	bytes_done(&octets);
}

/* The extended forms go before the plain one, which is there for those who know no better (RFC 6266
 * section 4.3 says it for the same thing in HTTP). NULL: there is none, or no memory (*error). */
static char *find_value(
	const struct mime_parameter *parameters, size_t n_parameters, const char *name, int *error)
{
	struct sections sections = {0};
	const struct mime_parameter *whole = NULL;
	struct span plain = {0};
	struct bytes text;
	char *value = NULL;

	for (size_t i = 0; i < n_parameters; i++) {
		struct span suffix;
		size_t number;
		bool is_extended;

		if (!has_name(parameters[i].name, name, &suffix)) {
			continue;
		}
		if (suffix.len == 0 && plain.len == 0) {
			plain = parameters[i].value;
		} else if (span_equal(suffix, "*") && whole == NULL) {
			whole = &parameters[i];
		} else if (read_section_number(suffix, &number, &is_extended) &&
			sections.list[number] == NULL) {
			sections.list[number] = &parameters[i];
			sections.is_extended[number] = is_extended;
		}
	}
	if (whole != NULL) {
		sections = (struct sections){.list = {whole}, .is_extended = {true}};
	}
	bytes_init(&text);
	put_sections(&text, &sections);
	if (text.error == 0 && bytes_len(&text) == 0) {
		bytes_put(&text, plain.data, plain.len);
		sections.is_extended[0] = false;
	}
	if (text.error == 0 && bytes_len(&text) > 0) {
		value = sections.is_extended[0] ? text_clean(bytes_span(&text), TEXT_ONE_LINE, 0)
						: mime_header_decode(bytes_span(&text), 0);
		*error = value == NULL;
	} else {
		*error = text.error < 0;
	}
	bytes_done(&text);
	return value;
}

/* What is behind the last slash of either kind, in place; "" for the names of folders. */
static void keep_file_name(char *path)
{
	const char *name = path;
	size_t len;

	for (const char *p = path; *p != '\0'; p++) {
		if (*p == '/' || *p == '\\') {
			name = p + 1;
		}
	}
	while (*name == ' ') {
		name++;
	}
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		name = "";
	}
	len = strlen(name);
	memmove(path, name, len + 1);
	if (len > FILE_NAME_MAX) {
		len = FILE_NAME_MAX;
		while (((unsigned char)path[len] & 0xc0) == 0x80) {
			len--;
		}
		path[len] = '\0';
	}
}

char *mime_file_name(const struct mime_parameter *disposition, size_t n_disposition,
	const struct mime_parameter *type, size_t n_type)
{
	int error = 0;
	char *name = find_value(disposition, n_disposition, "filename", &error);

	if (name != NULL) {
		keep_file_name(name);
	}
	if (error == 0 && (name == NULL || name[0] == '\0')) {
		free(name);
		name = find_value(type, n_type, "name", &error);
		if (name != NULL) {
			keep_file_name(name);
		}
	}
	if (error != 0) {
		return NULL;
	}
	return name != NULL ? name : strdup("");
}
