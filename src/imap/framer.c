#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "imap/framer.h"

/* An endless line is handed on whenever so much of it is there. */
#define PIECE_SIZE ((size_t)16384)

void imap_framer_init(struct imap_framer *framer, const struct imap_limits *limits)
{
	*framer = (struct imap_framer){.limits = limits};
	bytes_init(&framer->record);
}

void imap_framer_done(struct imap_framer *framer)
{
	bytes_done(&framer->record);
	free(framer->literals);
	framer->literals = NULL;
}

void imap_framer_clear(struct imap_framer *framer)
{
	bytes_clear(&framer->record);
	framer->n_literals = 0;
	framer->line = IMAP_LINE_UNDECIDED;
	framer->in_pieces = false;
	framer->line_len = 0;
	framer->fragment_start = 0;
	framer->literal_left = 0;
}

void imap_framer_trim(struct imap_framer *framer)
{
	bytes_trim(&framer->record);
	free(framer->literals);
	framer->literals = NULL;
	framer->n_literals_allocated = 0;
}

bool imap_framer_is_midway(const struct imap_framer *framer)
{
	return framer->line_len > 0 || framer->in_pieces;
}

void imap_framer_consume(struct imap_framer *framer, size_t len)
{
	bytes_consume(&framer->record, len);
}

struct span imap_framer_record(const struct imap_framer *framer)
{
	static const uint8_t nothing[1];

	if (bytes_len(&framer->record) == 0) {
		return (struct span){.data = nothing};
	}
	return bytes_span(&framer->record);
}

static int fail(struct imap_framer *framer, int error, const char *problem)
{
	framer->problem = problem;
	return error;
}

/* "65,536": what a person is to read. */
static const char *with_commas(uint64_t number, char text[static 32])
{
	char *at = text + 31;

	*at = '\0';
	for (unsigned int n = 0; n == 0 || number > 0; n++, number /= 10) {
		if (n > 0 && n % 3 == 0) {
			*--at = ',';
		}
		*--at = (char)('0' + number % 10);
	}
	return at;
}

/* "a line" of more than `limit` octets. */
static int fail_limit(struct imap_framer *framer, const char *what, uint64_t limit)
{
	char text[32];

	snprintf(framer->problem_text, sizeof(framer->problem_text), "%s of more than %s octets",
		what, with_commas(limit, text));
	return fail(framer, -EMSGSIZE, framer->problem_text);
}

static bool is_status(struct span word)
{
	return span_equal_nocase(word, "OK") || span_equal_nocase(word, "NO") ||
		span_equal_nocase(word, "BAD") || span_equal_nocase(word, "BYE") ||
		span_equal_nocase(word, "PREAUTH");
}

/* The same word that the reader of the whole response will find. */
static struct span word_at(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *start;

	while (*at < end && imap_is_blank(**at)) {
		(*at)++;
	}
	start = *at;
	while (*at < end && !imap_is_blank(**at) && !memchr("[()\"", **at, 4)) {
		(*at)++;
	}
	return (struct span){.data = start, .len = *at - start};
}

/* A word cut off by the end of what is there is good enough: only the limits can bring that about,
 * and no word of the table is the beginning of another that differs in kind. */
static enum imap_line classify(struct span record)
{
	const uint8_t *at = record.data, *end = at + record.len;
	struct span word;

	while (at < end && imap_is_blank(*at)) {
		at++;
	}
	if (at == end || *at != '*') {
		return IMAP_LINE_TEXT;
	}
	at++;
	word = word_at(&at, end);
	if (is_status(word)) {
		return IMAP_LINE_TEXT;
	}
	if (span_equal_nocase(word, "SEARCH") || span_equal_nocase(word, "VANISHED")) {
		return IMAP_LINE_NUMBERS;
	}
	if (span_equal_nocase(word, "ESEARCH")) {
		return IMAP_LINE_ESEARCH;
	}
	if (word.len > 0 && imap_is_digit(word.data[0])) {
		word = word_at(&at, end);
		if (span_equal_nocase(word, "FETCH") || span_equal_nocase(word, "UIDFETCH")) {
			return IMAP_LINE_FETCH;
		}
	}
	return IMAP_LINE_DATA;
}

static bool is_endless(const struct imap_framer *framer)
{
	switch (framer->line) {
	case IMAP_LINE_NUMBERS:
	case IMAP_LINE_ESEARCH:
		return framer->n_literals == 0;
	case IMAP_LINE_UNDECIDED:
	case IMAP_LINE_TEXT:
	case IMAP_LINE_DATA:
	case IMAP_LINE_FETCH:
		break;
	}
	return false;
}

static bool can_hold_literals(const struct imap_framer *framer)
{
	switch (framer->line) {
	case IMAP_LINE_DATA:
	case IMAP_LINE_FETCH:
		return true;
	case IMAP_LINE_ESEARCH:
		return !framer->in_pieces;
	case IMAP_LINE_UNDECIDED:
	case IMAP_LINE_TEXT:
	case IMAP_LINE_NUMBERS:
		break;
	}
	return false;
}

/* How long the line may be. A sender must not be able to break our connection by what he writes to
 * a thousand people, so an envelope may take all that is left for the response. */
static size_t line_limit(const struct imap_framer *framer)
{
	const struct imap_limits *limits = framer->limits;
	size_t in_literals = bytes_len(&framer->record) - framer->line_len;

	if (framer->line != IMAP_LINE_FETCH) {
		return limits->line;
	}
	return MAX(limits->line, limits->response - MIN(limits->response, in_literals));
}

/* "{n}", "{n+}" or "~{n}" at the end of the fragment, which has no octet of an earlier literal. */
static bool ends_in_literal(struct span fragment, size_t *ret_start, uint64_t *ret_size)
{
	size_t digits, end = fragment.len;
	uint64_t size = 0;

	if (end == 0 || fragment.data[--end] != '}') {
		return false;
	}
	if (end > 0 && fragment.data[end - 1] == '+') {
		end--;
	}
	for (digits = end; digits > 0 && imap_is_digit(fragment.data[digits - 1]); digits--) {
	}
	if (digits == end || digits == 0 || fragment.data[digits - 1] != '{') {
		return false;
	}
	for (size_t i = digits; i < end; i++) {
		unsigned int digit = fragment.data[i] - '0';

		/* more than can be counted is more than any limit */
		size = size > (UINT64_MAX - digit) / 10 ? UINT64_MAX : size * 10 + digit;
	}
	*ret_start = digits - 1;
	if (digits >= 2 && fragment.data[digits - 2] == '~') {
		*ret_start = digits - 2;
	}
	*ret_size = size;
	return true;
}

/* Whether what stands before a literal is "BODY[]" or "BODY[]<0>" as a fetch item. */
static bool is_whole_body(struct span before)
{
	static const char item[] = "BODY[]";
	size_t len = before.len, item_len = strlen(item);

	while (len > 0 && imap_is_blank(before.data[len - 1])) {
		len--;
	}
	if (len > 0 && before.data[len - 1] == '>') {
		for (len--; len > 0 && imap_is_digit(before.data[len - 1]); len--) {
		}
		if (len == 0 || before.data[--len] != '<') {
			return false;
		}
	}
	if (len <= item_len) {
		return false;
	}
	len -= item_len;
	return span_equal_nocase((struct span){.data = before.data + len, .len = item_len}, item) &&
		(before.data[len - 1] == '(' || imap_is_blank(before.data[len - 1]));
}

static enum imap_literal_fate fate_of(
	const struct imap_framer *framer, struct span before, uint64_t size)
{
	const struct imap_limits *limits = framer->limits;
	size_t len = bytes_len(&framer->record);
	size_t line_left = limits->line;

	if (framer->line != IMAP_LINE_FETCH) {
		line_left -= MIN(limits->line, framer->line_len);
	}
	if (framer->streaming && framer->line == IMAP_LINE_FETCH && is_whole_body(before)) {
		return IMAP_LITERAL_STREAMED;
	}
	/* whatever is kept leaves room for what the line may still hold */
	if (size > limits->literal || len > limits->response ||
		line_left > limits->response - len || size > limits->response - len - line_left) {
		return IMAP_LITERAL_SKIPPED;
	}
	return IMAP_LITERAL_KEPT;
}

static int begin_literal(struct imap_framer *framer, size_t start, uint64_t size)
{
	struct span fragment = imap_framer_record(framer);
	enum imap_literal_fate fate;

	fragment.data += framer->fragment_start;
	fragment.len = start;
	fate = fate_of(framer, fragment, size);
	if (fate != IMAP_LITERAL_KEPT && size > framer->limits->skipped) {
		return fail_limit(framer, "a literal", framer->limits->skipped);
	}
	if (framer->n_literals == framer->n_literals_allocated) {
		size_t n = framer->n_literals > 0 ? framer->n_literals * 2 : 8;
		struct imap_literal *literals =
			reallocarray(framer->literals, n, sizeof(*literals));

		if (!literals) {
			return fail(framer, -ENOMEM, "out of memory");
		}
		framer->literals = literals;
		framer->n_literals_allocated = n;
	}
	framer->literals[framer->n_literals++] = (struct imap_literal){
		.fate = fate,
		.start = framer->fragment_start + start,
		.data = bytes_len(&framer->record),
		.size = size,
	};
	framer->literal_left = size;
	framer->fragment_start = bytes_len(&framer->record);
	return 0;
}

static int end_line(struct imap_framer *framer, enum imap_frame *ret_frame)
{
	struct span record = imap_framer_record(framer), fragment;
	uint64_t size;
	size_t start;

	if (record.len > framer->fragment_start && record.data[record.len - 1] == '\r') {
		framer->record.end--;
		framer->line_len--;
		record.len--;
	}
	if (framer->line == IMAP_LINE_UNDECIDED) {
		framer->line = classify(record);
	}
	if (!is_endless(framer) && framer->line_len > line_limit(framer)) {
		return fail_limit(framer, "a line", line_limit(framer));
	}
	if (can_hold_literals(framer)) {
		fragment = (struct span){.data = record.data + framer->fragment_start,
			.len = record.len - framer->fragment_start};
		if (ends_in_literal(fragment, &start, &size)) {
			return begin_literal(framer, start, size);
		}
	}
	*ret_frame = IMAP_FRAME_COMPLETE;
	return 0;
}

/* How many octets the line may still take before a decision is due; never 0. */
static size_t line_room(const struct imap_framer *framer)
{
	if (framer->in_pieces) {
		return PIECE_SIZE - bytes_len(&framer->record);
	}
	/* a line, its CR, and one too many */
	if (framer->line == IMAP_LINE_UNDECIDED) {
		return MIN(PIECE_SIZE, framer->limits->line + 2) - framer->line_len;
	}
	return line_limit(framer) + 2 - framer->line_len;
}

/* The line has used up its room and goes on. */
static int overflow_line(struct imap_framer *framer, enum imap_frame *ret_frame)
{
	if (framer->line == IMAP_LINE_UNDECIDED) {
		framer->line = classify(imap_framer_record(framer));
		framer->in_pieces = is_endless(framer);
	}
	if (framer->in_pieces) {
		*ret_frame = IMAP_FRAME_PIECE;
		return 0;
	}
	if (framer->line_len >= line_limit(framer) + 2) {
		return fail_limit(framer, "a line", line_limit(framer));
	}
	return 0;
}

static int receive_line(struct imap_framer *framer, const uint8_t *data, size_t len,
	size_t *ret_taken, enum imap_frame *ret_frame)
{
	size_t room = line_room(framer), n = MIN(len, room);
	const uint8_t *lf = memchr(data, '\n', n);

	if (lf) {
		n = lf - data;
	}
	if (n > 0 && memchr(data, 0, n)) {
		return fail(framer, -EPROTO, "a line holds a NUL");
	}
	bytes_put(&framer->record, data, n);
	if (framer->record.error < 0) {
		return fail(framer, framer->record.error, "out of memory");
	}
	if (!framer->in_pieces) {
		framer->line_len += n;
	}
	*ret_taken = n + (lf ? 1 : 0);
	if (lf) {
		return end_line(framer, ret_frame);
	}
	return n == room ? overflow_line(framer, ret_frame) : 0;
}

static int receive_literal(struct imap_framer *framer, const uint8_t *data, size_t len,
	size_t *ret_taken, enum imap_frame *ret_frame, struct span *ret_chunk)
{
	size_t n = MIN(len, framer->literal_left);

	switch (framer->literals[framer->n_literals - 1].fate) {
	case IMAP_LITERAL_KEPT:
		bytes_put(&framer->record, data, n);
		if (framer->record.error < 0) {
			return fail(framer, framer->record.error, "out of memory");
		}
		framer->fragment_start += n;
		break;
	case IMAP_LITERAL_SKIPPED:
		break;
	case IMAP_LITERAL_STREAMED:
		*ret_chunk = (struct span){.data = data, .len = n};
		*ret_frame = IMAP_FRAME_CHUNK;
		break;
	}
	framer->literal_left -= n;
	*ret_taken = n;
	return 0;
}

int imap_framer_receive(struct imap_framer *framer, const uint8_t *data, size_t len,
	size_t *ret_consumed, enum imap_frame *ret_frame, struct span *ret_chunk)
{
	enum imap_frame frame = IMAP_FRAME_NONE;
	size_t consumed = 0, taken;
	int r;

	while (frame == IMAP_FRAME_NONE && consumed < len) {
		if (framer->literal_left > 0) {
			r = receive_literal(
				framer, data + consumed, len - consumed, &taken, &frame, ret_chunk);
		} else {
			r = receive_line(framer, data + consumed, len - consumed, &taken, &frame);
		}
		if (r < 0) {
			return r;
		}
		consumed += taken;
	}
	*ret_consumed = consumed;
	*ret_frame = frame;
	return 0;
}
