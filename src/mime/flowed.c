#include <string.h>

#include "mime/flowed.h"

/* A deeper quotation than anybody reads: what is written for it must not outgrow what was sent. */
#define DEPTH_MAX 32

struct line {
	struct span text; /* without quote marks and the stuffed blank */
	size_t depth;
	bool is_flowed;
	bool is_signature;
};

/* RFC 3676 sections 4.1 to 4.5: line end, quote marks, stuffing, signature, in this order. */
static struct line take_line(struct span *rest)
{
	const uint8_t *end = memchr(rest->data, '\n', rest->len);
	struct line line = {.text = *rest};

	if (end != NULL) {
		line.text.len = (size_t)(end - rest->data);
		rest->len -= line.text.len + 1;
		rest->data = end + 1;
	} else {
		rest->len = 0;
	}
	if (line.text.len > 0 && line.text.data[line.text.len - 1] == '\r') {
		line.text.len--;
	}
	while (line.text.len > 0 && line.text.data[0] == '>') {
		line.depth++;
		line.text.data++;
		line.text.len--;
	}
	if (line.text.len > 0 && line.text.data[0] == ' ') {
		line.text.data++;
		line.text.len--;
	}
	line.is_signature = span_equal(line.text, "-- ");
	line.is_flowed =
		!line.is_signature && line.text.len > 0 && line.text.data[line.text.len - 1] == ' ';
	return line;
}

static void put_marks(struct bytes *text, size_t depth)
{
	for (size_t i = 0; i < depth && i < DEPTH_MAX; i++) {
		bytes_put_char(text, '>');
	}
	if (depth > 0) {
		bytes_put_char(text, ' ');
	}
}

void mime_flowed_put(struct bytes *text, struct span flowed, bool deletes_space)
{
	bool is_open = false; /* the last line goes on */
	size_t depth = 0;

	while (flowed.len > 0 && text->error == 0) {
		struct line line = take_line(&flowed);

		/* Section 4.5: a change of depth ends a paragraph, whatever its last line said. */
		if (is_open && (line.depth != depth || line.is_signature)) {
			bytes_put_char(text, '\n');
			is_open = false;
		}
		if (!is_open) {
			put_marks(text, line.depth);
		}
		if (line.is_flowed && deletes_space) {
			line.text.len--;
		}
		bytes_put(text, line.text.data, line.text.len);
		if (!line.is_flowed) {
			bytes_put_char(text, '\n');
		}
		is_open = line.is_flowed;
		depth = line.depth;
	}
	if (is_open) {
		bytes_put_char(text, '\n');
	}
}
