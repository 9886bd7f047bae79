/* Bodies as people read them: a text part's octets as they travel (still in their transfer
 * encoding, perhaps cut off in the middle) to clean UTF-8, HTML to text, and the short form of
 * both.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/bytes.h"

/* A parameter of Content-Type or Content-Disposition as a server lists it. */
struct mime_parameter {
	struct span name;
	struct span value;
};

/* What a part says of itself; spans may be empty. */
struct mime_part {
	struct span type;                        /* "text" */
	struct span subtype;                     /* "html" */
	struct span encoding;                    /* "quoted-printable" */
	const struct mime_parameter *parameters; /* of Content-Type: charset, name, format, delsp */
	size_t n_parameters;
};

/* The readable text, lines ended by "\n", at most max_len octets of UTF-8 (cut between characters):
 * transfer encoding undone, charset (aliases and unknown ones included: see facts) converted, HTML
 * turned into text (no markup, scripts, styles or comments; entities decoded; block elements are
 * lines; links are their text), format=flowed joined (RFC 3676). Owned by the caller; NULL when out
 * of memory. */
char *mime_part_text(const struct mime_part *part, struct span octets, size_t max_len);

/* The first max_chars characters of a text fit for a line: white space folded to blanks, quoted
 * lines
 * ("> ") and a signature ("-- ") left out where something else is there, cut at a word where that
 * is near. Also used to clean a server's PREVIEW. */
char *mime_preview(const char *text, size_t max_chars);

/* The file name of a part: filename of Content-Disposition, else name of Content-Type, RFC 2231 and
 * (against the standard but common) RFC 2047 decoded, without any folder before it ("/", "\\"),
 * at most 255 octets. "" when there is none. Owned by the caller; NULL when out of memory. */
char *mime_file_name(const struct mime_parameter *disposition, size_t n_disposition,
	const struct mime_parameter *type, size_t n_type);
