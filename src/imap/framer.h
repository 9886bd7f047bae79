/* Where a response begins and ends: lines, literals and their limits. RFC 9051 sections 2.2
 * and 4.3.
 *
 * It collects the octets of one response in a record, without line ends; the octets of a literal
 * follow its "{n}". It reads only as much of the beginning of a line as tells whether that line can
 * hold literals, whether it may be endless (SEARCH, ESEARCH, VANISHED), and whether a literal is to
 * be streamed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/lexer.h"
#include "imap/response.h"
#include "util/bytes.h"

enum imap_frame {
	IMAP_FRAME_NONE,     /* more octets are needed */
	IMAP_FRAME_COMPLETE, /* the record is a response, or the last piece of an endless line */
	IMAP_FRAME_PIECE,    /* the record is full with a piece of an endless line, see
			      * imap_framer_consume() */
	IMAP_FRAME_CHUNK,    /* octets of a streamed literal */
};

/* What the beginning of a line says of the rest. */
enum imap_line {
	IMAP_LINE_UNDECIDED,
	IMAP_LINE_TEXT, /* ends in text for people, where "{5}" is no literal */
	IMAP_LINE_DATA,
	IMAP_LINE_FETCH,
	IMAP_LINE_NUMBERS, /* SEARCH and VANISHED: endless, without strings */
	IMAP_LINE_ESEARCH, /* endless, with a string perhaps ahead of the numbers */
};

struct imap_framer {
	const struct imap_limits *limits; /* borrowed */
	bool streaming;
	struct bytes record;
	struct imap_literal *literals;
	size_t n_literals;
	size_t n_literals_allocated;
	enum imap_line line;
	bool in_pieces;
	size_t line_len;       /* of all octets in the record that are not in literals */
	size_t fragment_start; /* where in the record the line goes on after the last literal */
	uint64_t literal_left; /* octets of a literal that are still to come */
	const char *problem;   /* fixed words, or problem_text */
	char problem_text[64];
};

void imap_framer_init(struct imap_framer *framer, const struct imap_limits *limits);
void imap_framer_done(struct imap_framer *framer);

/* Begins a new record. */
void imap_framer_clear(struct imap_framer *framer);

/* Gives back the memory of an empty record. */
void imap_framer_trim(struct imap_framer *framer);

/* Whether something of a response has arrived since imap_framer_clear(). */
bool imap_framer_is_midway(const struct imap_framer *framer);

/* Takes octets up to the next frame. ret_chunk points into data. 0, or -EPROTO, -EMSGSIZE
 * (`problem` says which) or -ENOMEM. */
int imap_framer_receive(struct imap_framer *framer, const uint8_t *data, size_t len,
	size_t *ret_consumed, enum imap_frame *ret_frame, struct span *ret_chunk);

/* What has been collected; data is never NULL. */
struct span imap_framer_record(const struct imap_framer *framer);

/* Drops len octets at the front of a piece; at least one must go. */
void imap_framer_consume(struct imap_framer *framer, size_t len);
