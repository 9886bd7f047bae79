#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mime/entity.h"
#include "mime/html.h"
#include "util/text.h"

#define TAG_NAME_MAX   15
#define CHARSET_WITHIN 1024
#define LINES_MAX      2 /* an empty line parts paragraphs, never two */

enum effect {
	EFFECT_NONE,
	EFFECT_BREAK,     /* <br>: a line ends here */
	EFFECT_LINE,      /* begins and ends a line */
	EFFECT_PARAGRAPH, /* as above, with an empty line */
	EFFECT_ITEM,      /* a line with "- " */
	EFFECT_CELL,      /* parted by a blank */
	EFFECT_PRE,       /* a paragraph where white space counts */
	EFFECT_SKIP,      /* content is no text, up to the end tag */
};

struct element {
	const char *name;
	enum effect effect;
};

/* Sorted by name; what is not here is part of the running text. */
static const struct element elements[] = {
	{"address", EFFECT_LINE},
	{"article", EFFECT_PARAGRAPH},
	{"aside", EFFECT_PARAGRAPH},
	{"blockquote", EFFECT_PARAGRAPH},
	{"body", EFFECT_LINE},
	{"br", EFFECT_BREAK},
	{"caption", EFFECT_LINE},
	{"center", EFFECT_LINE},
	{"dd", EFFECT_LINE},
	{"details", EFFECT_LINE},
	{"dialog", EFFECT_LINE},
	{"dir", EFFECT_LINE},
	{"div", EFFECT_LINE},
	{"dl", EFFECT_PARAGRAPH},
	{"dt", EFFECT_LINE},
	{"fieldset", EFFECT_LINE},
	{"figcaption", EFFECT_LINE},
	{"figure", EFFECT_LINE},
	{"footer", EFFECT_LINE},
	{"form", EFFECT_LINE},
	{"h1", EFFECT_PARAGRAPH},
	{"h2", EFFECT_PARAGRAPH},
	{"h3", EFFECT_PARAGRAPH},
	{"h4", EFFECT_PARAGRAPH},
	{"h5", EFFECT_PARAGRAPH},
	{"h6", EFFECT_PARAGRAPH},
	{"head", EFFECT_LINE},
	{"header", EFFECT_LINE},
	{"hr", EFFECT_LINE},
	{"html", EFFECT_LINE},
	{"iframe", EFFECT_SKIP},
	{"legend", EFFECT_LINE},
	{"li", EFFECT_ITEM},
	{"main", EFFECT_LINE},
	{"menu", EFFECT_LINE},
	{"nav", EFFECT_LINE},
	{"noembed", EFFECT_SKIP},
	{"noframes", EFFECT_SKIP},
	{"ol", EFFECT_LINE},
	{"option", EFFECT_LINE},
	{"p", EFFECT_PARAGRAPH},
	{"pre", EFFECT_PRE},
	{"script", EFFECT_SKIP},
	{"section", EFFECT_LINE},
	{"style", EFFECT_SKIP},
	{"summary", EFFECT_LINE},
	{"table", EFFECT_LINE},
	{"tbody", EFFECT_LINE},
	{"td", EFFECT_CELL},
	{"template", EFFECT_SKIP},
	{"textarea", EFFECT_LINE},
	{"tfoot", EFFECT_LINE},
	{"th", EFFECT_CELL},
	{"thead", EFFECT_LINE},
	{"title", EFFECT_SKIP},
	{"tr", EFFECT_LINE},
	{"ul", EFFECT_LINE},
	{"xmp", EFFECT_PRE},
};

struct writer {
	struct bytes *text; /* borrowed */
	size_t start;       /* length of text at first */
	size_t max_len;
	unsigned int n_lines; /* line ends that are due before the next character */
	bool is_blank_due;
	bool is_item_due;
	size_t pre_depth;
};

struct reader {
	struct span html; /* what is still to be read */
	bool has_no_cdata_end;
	bool has_no_comment_end;
};

static size_t written(const struct writer *writer)
{
	return bytes_len(writer->text) - writer->start;
}

static void end_line(struct writer *writer, unsigned int n_lines)
{
	if (writer->n_lines < n_lines) {
		writer->n_lines = n_lines;
	}
	writer->is_blank_due = false;
}

static void put_due(struct writer *writer)
{
	if (written(writer) > 0) {
		for (; writer->n_lines > 0; writer->n_lines--) {
			bytes_put_char(writer->text, '\n');
			writer->is_blank_due = false;
		}
		if (writer->is_blank_due && !writer->is_item_due) {
			bytes_put_char(writer->text, ' ');
		}
	}
	if (writer->is_item_due) {
		bytes_put_str(writer->text, "- ");
	}
	writer->n_lines = 0;
	writer->is_blank_due = false;
	writer->is_item_due = false;
}

static bool is_white(uint32_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0;
}

/* What newsletters fill their first lines with, so that previews show no more than the teaser: it
 * takes no room, and next to a blank or at the start of a line it joins nothing. */
static bool is_filler(const struct writer *writer, uint32_t c)
{
	if (c == 0xad || c == 0x34f || c == 0x200b || c == 0x2060 || c == 0xfeff) {
		return true;
	}
	return (c == 0x200c || c == 0x200d) &&
		(writer->is_blank_due || writer->n_lines > 0 || written(writer) == 0);
}

static void put_character(struct writer *writer, uint32_t c)
{
	char buffer[4];

	if (writer->pre_depth > 0 && (c == ' ' || c == '\t' || c == 0xa0)) {
		put_due(writer);
		bytes_put_char(writer->text, c == '\t' ? '\t' : ' ');
		return;
	}
	if (writer->pre_depth > 0 && c == '\n') {
		writer->n_lines += writer->n_lines < LINES_MAX;
		return;
	}
	if (is_white(c)) {
		writer->is_blank_due = true;
		return;
	}
	if (is_filler(writer, c)) {
		return;
	}
	put_due(writer);
	bytes_put(writer->text, buffer, text_encode(c, buffer));
}

static int compare_name(const void *name, const void *element)
{
	return strcmp(name, ((const struct element *)element)->name);
}

static const struct element *find_element(const char *name)
{
	return bsearch(name, elements, sizeof(elements) / sizeof(elements[0]), sizeof(elements[0]),
		compare_name);
}

static void advance(struct span *span, size_t n)
{
	if (n > span->len) {
		n = span->len;
	}
	span->data += n;
	span->len -= n;
}

static bool starts_with(struct span span, const char *prefix)
{
	const size_t len = strlen(prefix);

	return span.len >= len && span_equal_nocase((struct span){span.data, len}, prefix);
}

static bool is_letter(uint8_t c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* Reads up to and with `end`. false: it does not come any more, and nothing was read. */
static bool skip_past(struct span *html, const char *end)
{
	const uint8_t *found = memmem(html->data, html->len, end, strlen(end));

	if (found == NULL) {
		return false;
	}
	advance(html, (size_t)(found - html->data) + strlen(end));
	return true;
}

/* "<!" and "<?": comments, CDATA, doctypes, processing instructions. What is searched in vain once
 * is not searched again, so that a million beginnings cost no more than one. */
static void skip_declaration(struct reader *reader)
{
	struct span *html = &reader->html;

	if (starts_with(*html, "<!--")) {
		advance(html, 4);
		if (starts_with(*html, ">") || starts_with(*html, "->")) {
			skip_past(html, ">");
			return;
		}
		if (!reader->has_no_comment_end && skip_past(html, "-->")) {
			return;
		}
		reader->has_no_comment_end = true;
	} else if (starts_with(*html, "<![CDATA[")) {
		if (!reader->has_no_cdata_end && skip_past(html, "]]>")) {
			return;
		}
		reader->has_no_cdata_end = true;
	}
	if (!skip_past(html, ">")) {
		advance(html, html->len);
	}
}

/* HTML, sections 13.2.5.32 to 13.2.5.40: a quote counts as one only where a value begins. At the
 * name's end before, behind ">" afterwards; everything is taken when the tag does not end. */
static void skip_attributes(struct span *html)
{
	bool is_value_due = false;

	while (html->len > 0) {
		const uint8_t c = html->data[0];

		advance(html, 1);
		if (c == '>') {
			return;
		}
		if (is_value_due && (c == '"' || c == '\'')) {
			if (!skip_past(html, c == '"' ? "\"" : "'")) {
				advance(html, html->len);
			}
			is_value_due = false;
		} else if (c == '=') {
			is_value_due = true;
		} else if (!is_white(c)) {
			is_value_due = false;
		}
	}
}

/* To behind the end tag of an element whose content is no markup. */
static void skip_content(struct span *html, const char *name)
{
	const size_t len = strlen(name);

	while (skip_past(html, "</")) {
		if (starts_with(*html, name) && (html->len == len || !is_letter(html->data[len]))) {
			skip_attributes(html);
			return;
		}
	}
	advance(html, html->len);
}

/* Takes a tag's name in small letters; "" for one that is too long to be of interest. */
static void take_name(struct span *html, char name[static TAG_NAME_MAX + 1])
{
	size_t len = 0;
	size_t n = 0;

	while (n < html->len && !is_white(html->data[n]) && html->data[n] != '/' &&
		html->data[n] != '>') {
		if (len < TAG_NAME_MAX) {
			const uint8_t c = html->data[n];

			name[len++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
		}
		n++;
	}
	name[n == len ? len : 0] = '\0';
	advance(html, n);
}

static void handle_pre(struct writer *writer, struct span *html, bool is_end)
{
	end_line(writer, LINES_MAX);
	if (is_end) {
		writer->pre_depth -= writer->pre_depth > 0;
		return;
	}
	writer->pre_depth++;
	/* HTML, section 13.2.6.4.7: a line end right behind the tag is not part of the text. */
	if (starts_with(*html, "\r\n")) {
		advance(html, 2);
	} else if (starts_with(*html, "\n")) {
		advance(html, 1);
	}
}

static void handle_element(
	struct writer *writer, struct span *html, const struct element *element, bool is_end)
{
	switch (element->effect) {
	case EFFECT_NONE:
		break;
	case EFFECT_BREAK:
		writer->n_lines += writer->n_lines < LINES_MAX;
		writer->is_blank_due = false;
		break;
	case EFFECT_LINE:
		end_line(writer, 1);
		break;
	case EFFECT_PARAGRAPH:
		end_line(writer, LINES_MAX);
		break;
	case EFFECT_ITEM:
		end_line(writer, 1);
		writer->is_item_due = !is_end;
		break;
	case EFFECT_CELL:
		writer->is_blank_due = true;
		break;
	case EFFECT_PRE:
		handle_pre(writer, html, is_end);
		break;
	case EFFECT_SKIP:
		if (!is_end) {
			skip_content(html, element->name);
		}
		break;
	}
}

/* At "<". */
static void read_markup(struct reader *reader, struct writer *writer)
{
	struct span *html = &reader->html;
	const uint8_t next = html->len > 1 ? html->data[1] : '\0';
	const bool is_end = next == '/' && html->len > 2 && is_letter(html->data[2]);
	char name[TAG_NAME_MAX + 1];
	const struct element *element;

	if (next == '!' || next == '?') {
		skip_declaration(reader);
		return;
	}
	if (!is_end && !is_letter(next)) {
		put_character(writer, '<');
		advance(html, 1);
		return;
	}
	advance(html, is_end ? 2 : 1);
	take_name(html, name);
	skip_attributes(html);
	element = find_element(name);
	if (element != NULL) {
		handle_element(writer, html, element, is_end);
	}
}

static void read_reference(struct reader *reader, struct writer *writer)
{
	uint32_t c = '&';
	size_t n;

	advance(&reader->html, 1);
	n = mime_entity_read(reader->html, &c);
	advance(&reader->html, n);
	put_character(writer, c);
}

void mime_html_put_text(struct bytes *text, struct span html, size_t max_len)
{
	struct reader reader = {.html = html};
	struct writer writer = {.text = text, .start = bytes_len(text), .max_len = max_len};

	while (reader.html.len > 0 && text->error == 0 && written(&writer) < writer.max_len) {
		switch (reader.html.data[0]) {
		case '<':
			read_markup(&reader, &writer);
			break;
		case '&':
			read_reference(&reader, &writer);
			break;
		default:
			put_character(&writer, text_next(&reader.html));
			break;
		}
	}
	if (written(&writer) > 0) {
		bytes_put_char(text, '\n');
	}
}

struct span mime_html_charset(struct span html)
{
	static const char word[] = "charset";
	size_t len = 0;

	if (html.len > CHARSET_WITHIN) {
		html.len = CHARSET_WITHIN;
	}
	while (html.len > 0 && !starts_with(html, word)) {
		advance(&html, 1);
	}
	advance(&html, strlen(word));
	while (html.len > 0 && is_white(html.data[0])) {
		advance(&html, 1);
	}
	if (html.len == 0 || html.data[0] != '=') {
		return (struct span){0};
	}
	advance(&html, 1);
	while (html.len > 0 && (is_white(html.data[0]) || strchr("\"'", html.data[0]) != NULL)) {
		advance(&html, 1);
	}
	while (len < html.len && strchr("\"'/>; \t\r\n", html.data[len]) == NULL) {
		len++;
	}
	return (struct span){.data = html.data, .len = len};
}
