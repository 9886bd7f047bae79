#include <stdio.h>
#include <sys/param.h>

#include "imap/structure.h"

/* The decimal digits of a part's number and the dot before it. */
#define PATH_STEP 11

struct structure {
	struct imap_lexer *lexer;
	struct imap_part **tail;
	size_t n_parts;
	unsigned int depth_max;
	char path[IMAP_STRUCTURE_DEPTH_MAX * PATH_STEP + 1];
};

static bool read_body(struct structure *structure, size_t path_len, unsigned int depth);

/* "(" name value ... ")", or NIL or anything else, which is skipped. */
static bool read_parameters(struct imap_lexer *lexer, struct imap_parameter **ret_parameters)
{
	struct imap_parameter **tail = ret_parameters, *parameter;
	size_t n = 0;

	if (imap_lexer_peek(lexer) != '(') {
		return imap_lexer_skip_value(lexer);
	}
	imap_lexer_open(lexer);
	while (!imap_lexer_close(lexer)) {
		struct span name, value = {0};

		if (imap_lexer_peek(lexer) == '(') {
			if (!imap_lexer_skip_value(lexer)) {
				return false;
			}
			continue;
		}
		if (!imap_lexer_nstring(lexer, &name)) {
			return false;
		}
		imap_lexer_skip_blanks(lexer);
		if (imap_lexer_peek(lexer) == '(') {
			if (!imap_lexer_skip_value(lexer)) {
				return false;
			}
		} else if (imap_lexer_peek(lexer) != ')' && !imap_lexer_nstring(lexer, &value)) {
			return false;
		}
		if (++n > lexer->limits->list) {
			return imap_lexer_fail(lexer, "a list is too long");
		}
		parameter = imap_lexer_alloc(lexer, sizeof(*parameter));
		if (!parameter || !imap_lexer_keep(lexer, name, &parameter->name) ||
			!imap_lexer_keep(lexer, value, &parameter->value)) {
			return false;
		}
		*tail = parameter;
		tail = &parameter->next;
	}
	return true;
}

/* "(" "attachment" parameters ")". Languages stand in a list, too, so a list that is no disposition
 * by its shape is skipped: a disposition has parameters or NIL behind its name, or a name that is
 * one. */
static bool read_disposition(struct imap_lexer *lexer, struct imap_part *part)
{
	struct imap_lexer before = *lexer;
	struct span name;
	int next;

	imap_lexer_open(lexer);
	next = imap_lexer_peek(lexer);
	if (next != '"' && next != IMAP_LEXER_LITERAL) {
		*lexer = before;
		return imap_lexer_skip_value(lexer);
	}
	if (!imap_lexer_string(lexer, &name)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	next = imap_lexer_peek(lexer);
	if (next == '(' || next == 'N' || next == 'n' || span_equal_nocase(name, "attachment") ||
		span_equal_nocase(name, "inline")) {
		if (!imap_lexer_keep(lexer, name, &part->disposition)) {
			return false;
		}
		if (next == '(' && !read_parameters(lexer, &part->disposition_parameters)) {
			return false;
		}
	}
	return imap_lexer_skip_rest(lexer);
}

/* What stands behind the size: lines of a text; envelope, body and lines of a message; then the
 * extension data MD5, disposition, language, location. Servers leave out this and that, so the
 * disposition is told by its shape. */
static bool read_extension(struct imap_lexer *lexer, struct imap_part *part)
{
	if (span_equal_nocase(part->type, "MESSAGE")) {
		for (int i = 0; i < 2; i++) {
			imap_lexer_skip_blanks(lexer);
			if (imap_lexer_peek(lexer) == '(' && !imap_lexer_skip_value(lexer)) {
				return false;
			}
		}
	}
	while (!imap_lexer_close(lexer)) {
		if (imap_lexer_peek(lexer) == '(' && !part->disposition.data) {
			if (!read_disposition(lexer, part)) {
				return false;
			}
		} else if (!imap_lexer_skip_value(lexer)) {
			return false;
		}
	}
	return true;
}

/* From the parameters on; the part may end anywhere. */
static bool read_fields(struct imap_lexer *lexer, struct imap_part *part)
{
	struct span encoding;
	uint64_t size;

	for (int field = 0; field < 5; field++) {
		if (imap_lexer_close(lexer)) {
			return true;
		}
		switch (field) {
		case 0:
			if (!read_parameters(lexer, &part->parameters)) {
				return false;
			}
			break;
		case 3:
			if (imap_lexer_peek(lexer) == '(') {
				return imap_lexer_fail(lexer, "an encoding was expected");
			}
			if (!imap_lexer_nstring(lexer, &encoding) ||
				!imap_lexer_keep(lexer, encoding, &part->encoding)) {
				return false;
			}
			break;
		case 4:
			if (!imap_lexer_lenient_number(lexer, UINT32_MAX, &size)) {
				return false;
			}
			part->size = (uint32_t)size;
			break;
		default: /* id and description */
			if (!imap_lexer_skip_value(lexer)) {
				return false;
			}
		}
	}
	return read_extension(lexer, part);
}

static bool read_leaf(
	struct structure *structure, size_t path_len, struct span type, struct span subtype)
{
	struct imap_lexer *lexer = structure->lexer;
	struct imap_part *part;
	struct span section = {.data = (const uint8_t *)structure->path, .len = path_len};

	if (++structure->n_parts > lexer->limits->list) {
		return imap_lexer_fail(lexer, "too many parts");
	}
	part = imap_lexer_alloc(lexer, sizeof(*part));
	if (!part) {
		return false;
	}
	*structure->tail = part;
	structure->tail = &part->next;
	/* RFC 9051 section 6.4.5: every message has at least one part number */
	return imap_lexer_keep(lexer, path_len > 0 ? section : span_of("1"), &part->section) &&
		imap_lexer_keep(lexer, type, &part->type) &&
		imap_lexer_keep(lexer, subtype, &part->subtype) && read_fields(lexer, part);
}

/* Behind the "(" of a body that begins with no other body. A multipart without parts reads
 * ("mixed" NIL ...) or (NIL "mixed" NIL ...). */
static bool read_single(struct structure *structure, size_t path_len)
{
	struct imap_lexer *lexer = structure->lexer;
	struct span type, subtype;

	if (imap_lexer_close(lexer)) {
		return true;
	}
	if (!imap_lexer_nstring(lexer, &type)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	if (imap_lexer_peek(lexer) == '(' || imap_lexer_peek(lexer) == ')') {
		return imap_lexer_skip_rest(lexer);
	}
	if (!imap_lexer_nstring(lexer, &subtype)) {
		return false;
	}
	if (!type.data != !subtype.data) {
		return imap_lexer_skip_rest(lexer);
	}
	return read_leaf(structure, path_len, type, subtype);
}

/* Before the "(" of the first part. */
static bool read_multipart(struct structure *structure, size_t path_len, unsigned int depth)
{
	struct imap_lexer *lexer = structure->lexer;
	struct imap_part **first = structure->tail;
	struct span subtype;
	unsigned int number = 0;

	while (imap_lexer_peek(lexer) == '(') {
		int len = snprintf(structure->path + path_len, sizeof(structure->path) - path_len,
			"%s%u", path_len > 0 ? "." : "", ++number);

		if (!read_body(structure, path_len + len, depth + 1)) {
			return false;
		}
		imap_lexer_skip_blanks(lexer);
	}
	if (imap_lexer_close(lexer)) {
		return true;
	}
	if (!imap_lexer_nstring(lexer, &subtype)) {
		return false;
	}
	if (span_equal_nocase(subtype, "ALTERNATIVE")) {
		for (struct imap_part *part = *first; part; part = part->next) {
			part->in_alternative = true;
		}
	}
	return imap_lexer_skip_rest(lexer);
}

static bool read_body(struct structure *structure, size_t path_len, unsigned int depth)
{
	struct imap_lexer *lexer = structure->lexer;

	if (depth > structure->depth_max) {
		return imap_lexer_skip_value(lexer);
	}
	imap_lexer_open(lexer);
	return imap_lexer_peek(lexer) == '(' ? read_multipart(structure, path_len, depth)
					     : read_single(structure, path_len);
}

bool imap_structure_read(struct imap_lexer *lexer, struct imap_message *message)
{
	struct imap_part *parts = NULL;
	struct structure structure = {
		.lexer = lexer,
		.tail = &parts,
		.depth_max = MIN(lexer->limits->depth, IMAP_STRUCTURE_DEPTH_MAX),
	};

	/* the list of items is the first level */
	if (imap_lexer_peek(lexer) != '(' || !read_body(&structure, 0, 2)) {
		return imap_lexer_fail(lexer, "a body structure was expected");
	}
	message->parts = parts;
	return true;
}
