/* Whatever a message holds: it is decoded within the limits, and what comes out is clean. The first
 * octet of an input chooses what it is read as; the first line behind it is the charset of a part,
 * or the name of a parameter. With FUZZ_REPLAY it is a program of its own that goes through the
 * files and folders given; without, LLVMFuzzerTestOneInput() is for libFuzzer (clang
 * -fsanitize=fuzzer).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mime/header.h"
#include "mime/text.h"
#include "tests/fuzzing/check.h"

#define LIMIT 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_header(struct span octets)
{
	char *text = mime_header_decode(octets, LIMIT);
	char *id = mime_message_id(octets);
	int64_t seconds;

	require(text != NULL, "no header");
	require_clean(text, false);
	require(count_characters(text) <= LIMIT, "a header that is too long");
	if (id != NULL) {
		require(id[0] != '\0' && count_characters(id) <= 998, "an identifier that is none");
		require_clean(id, false);
	}
	mime_date_parse(octets, &seconds);
	free(text);
	free(id);
}

static void read_part(
	const char *subtype, const char *encoding, struct span charset, struct span octets)
{
	const struct mime_parameter parameters[] = {
		{.name = span_of("charset"), .value = charset},
		{.name = span_of("format"), .value = span_of("flowed")},
		{.name = span_of("delsp"), .value = span_of("yes")},
	};
	const struct mime_part part = {
		.type = span_of("text"),
		.subtype = span_of(subtype),
		.encoding = span_of(encoding),
		.parameters = parameters,
		.n_parameters = subtype[0] == 'f' ? 3 : 1,
	};
	char *text = mime_part_text(&part, octets, LIMIT);
	char *preview;

	require(text != NULL && strlen(text) <= LIMIT, "a text that is too long");
	require_clean(text, true);
	preview = mime_preview(text, LIMIT / 4);
	require(preview != NULL && count_characters(preview) <= LIMIT / 4,
		"a preview that is too long");
	require_clean(preview, false);
	free(preview);
	free(text);
}

/* Every line is "name=value". */
static void read_file_name(struct span octets)
{
	struct mime_parameter parameters[16];
	size_t n = 0;
	char *name;

	while (octets.len > 0 && n < 16) {
		const uint8_t *end = memchr(octets.data, '\n', octets.len);
		const size_t len = end != NULL ? (size_t)(end - octets.data) : octets.len;
		const uint8_t *equals = memchr(octets.data, '=', len);
		const size_t name_len = equals != NULL ? (size_t)(equals - octets.data) : len;
		const size_t used = end != NULL ? len + 1 : len;

		parameters[n].name = (struct span){.data = octets.data, .len = name_len};
		parameters[n].value = equals != NULL
			? (struct span){.data = equals + 1, .len = len - name_len - 1}
			: (struct span){0};
		n++;
		octets.data += used;
		octets.len -= used;
	}
	name = mime_file_name(parameters, n / 2, parameters + n / 2, n - n / 2);
	require(name != NULL && strlen(name) <= 255, "a file name that is too long");
	require(strpbrk(name, "/\\") == NULL && strcmp(name, "..") != 0,
		"a file name that leaves its folder");
	require_clean(name, false);
	free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct span octets = {.data = data + 1, .len = len - 1};
	struct span first = {0};
	const uint8_t *end;

	if (len == 0) {
		return 0;
	}
	mime_init();
	end = memchr(octets.data, '\n', octets.len);
	if (end != NULL) {
		first = (struct span){.data = octets.data, .len = (size_t)(end - octets.data)};
	}
	switch (data[0]) {
	case 'n':
		read_file_name(octets);
		break;
	case 'p':
	case 'f':
	case 'h':
	case 'q':
	case 'b':
	case 'u':
		octets.data += first.len + (end != NULL);
		octets.len -= first.len + (end != NULL);
		read_part(data[0] == 'h' || data[0] == 'q' ? "html"
				: data[0] == 'f'           ? "flowed"
							   : "plain",
			data[0] == 'q'           ? "quoted-printable"
				: data[0] == 'b' ? "base64"
				: data[0] == 'u' ? "x-uuencode"
						 : "8bit",
			first, octets);
		break;
	default:
		read_header(octets);
		break;
	}
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
