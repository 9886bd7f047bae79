#include <errno.h>

#include "imap/search.h"

/* What is read now. A number that touches the end of a piece may be cut off, so it is added to the
 * set only when more than itself is there. */
struct reading {
	enum imap_search_place *place;
	struct imap_lexer *lexer;
	struct imap_response *response;
	uint32_t first, last; /* 0: none */
};

/* "(EARLIER)" of VANISHED. */
static bool read_earlier(struct imap_lexer *lexer, struct imap_response *response)
{
	if (imap_lexer_peek(lexer) != '(') {
		return true;
	}
	imap_lexer_open(lexer);
	response->earlier = span_equal_nocase(imap_lexer_word(lexer), "EARLIER");
	if (!response->earlier) {
		return imap_lexer_fail(lexer, "VANISHED with what is not EARLIER");
	}
	return imap_lexer_close(lexer) || imap_lexer_fail(lexer, "a list has no end");
}

/* "(TAG "A1")"; RFC 7377 adds more pairs of name and value. */
static bool read_correlator(struct imap_lexer *lexer, struct imap_response *response)
{
	struct span name, value;

	if (imap_lexer_peek(lexer) != '(') {
		return true;
	}
	imap_lexer_open(lexer);
	while (!imap_lexer_close(lexer)) {
		name = imap_lexer_word(lexer);
		imap_lexer_skip_blanks(lexer);
		if (!imap_lexer_astring(lexer, &value)) {
			return false;
		}
		if (span_equal_nocase(name, "TAG") &&
			!imap_lexer_keep(lexer, value, &response->search.correlator)) {
			return false;
		}
	}
	return true;
}

static bool read_head(struct reading *reading)
{
	struct imap_lexer *lexer = reading->lexer;

	if (reading->response->kind == IMAP_RESPONSE_VANISHED) {
		*reading->place = IMAP_SEARCH_SET;
		if (!read_earlier(lexer, reading->response)) {
			return false;
		}
		return !imap_lexer_is_done(lexer) ||
			imap_lexer_fail(lexer, "VANISHED without a set");
	}
	if (reading->response->kind == IMAP_RESPONSE_ESEARCH) {
		*reading->place = IMAP_SEARCH_ITEMS;
		return read_correlator(lexer, reading->response);
	}
	*reading->place = IMAP_SEARCH_NUMBERS;
	return true;
}

/* "(MODSEQ 917162500)" at the end of SEARCH, RFC 7162 section 3.1.5. */
static bool read_modseq(struct imap_lexer *lexer, struct imap_response *response)
{
	imap_lexer_open(lexer);
	if (!span_equal_nocase(imap_lexer_word(lexer), "MODSEQ")) {
		return imap_lexer_fail(lexer, "SEARCH with what is not MODSEQ");
	}
	imap_lexer_skip_blanks(lexer);
	return imap_lexer_lenient_number(lexer, IMAP_NUMBER63_MAX, &response->modseq) &&
		(imap_lexer_close(lexer) || imap_lexer_fail(lexer, "a list has no end"));
}

static bool read_number(struct reading *reading)
{
	struct imap_lexer *lexer = reading->lexer;
	int next;

	if (imap_lexer_peek(lexer) == '(') {
		*reading->place = IMAP_SEARCH_TAIL;
		return read_modseq(lexer, reading->response);
	}
	if (!imap_lexer_range(lexer, &reading->first, &reading->last)) {
		return false;
	}
	next = imap_lexer_peek(lexer);
	return next == IMAP_LEXER_END || next == '(' || imap_is_blank(next) ||
		imap_lexer_fail(lexer, "SEARCH with what is no number");
}

/* One element of a set, perhaps empty, and the comma behind it. */
static bool read_element(struct reading *reading)
{
	struct imap_lexer *lexer = reading->lexer;
	int next = imap_lexer_peek(lexer);
	bool is_vanished = reading->response->kind == IMAP_RESPONSE_VANISHED;

	if (next != ',' && !imap_is_blank(next) &&
		!imap_lexer_range(lexer, &reading->first, &reading->last)) {
		return false;
	}
	if (imap_lexer_take(lexer, ',')) {
		return true;
	}
	next = imap_lexer_peek(lexer);
	if (next != IMAP_LEXER_END && !imap_is_blank(next)) {
		return imap_lexer_fail(lexer, "a set holds what is no number");
	}
	*reading->place = is_vanished ? IMAP_SEARCH_TAIL : IMAP_SEARCH_ITEMS;
	return true;
}

static bool read_item(struct reading *reading)
{
	struct imap_lexer *lexer = reading->lexer;
	struct imap_search_result *search = &reading->response->search;
	struct span name = imap_lexer_word(lexer);

	if (name.len == 0) {
		return imap_lexer_fail(lexer, "ESEARCH with what is no item");
	}
	if (span_equal_nocase(name, "UID")) {
		search->is_uid = true;
		return true;
	}
	imap_lexer_skip_blanks(lexer);
	if (span_equal_nocase(name, "ALL")) {
		search->has_all = true;
		*reading->place = IMAP_SEARCH_SET;
		return imap_lexer_peek(lexer) != IMAP_LEXER_END ||
			imap_lexer_fail(lexer, "ALL without a set");
	}
	if (span_equal_nocase(name, "MIN")) {
		return imap_lexer_number32(lexer, &search->min);
	}
	if (span_equal_nocase(name, "MAX")) {
		return imap_lexer_number32(lexer, &search->max);
	}
	if (span_equal_nocase(name, "COUNT")) {
		search->has_count = true;
		return imap_lexer_number32(lexer, &search->count);
	}
	if (span_equal_nocase(name, "MODSEQ")) {
		return imap_lexer_lenient_number(
			lexer, IMAP_NUMBER63_MAX, &reading->response->modseq);
	}
	return imap_lexer_skip_value(lexer);
}

static bool read_next(struct reading *reading)
{
	switch (*reading->place) {
	case IMAP_SEARCH_HEAD:
		return read_head(reading);
	case IMAP_SEARCH_NUMBERS:
		return read_number(reading);
	case IMAP_SEARCH_ITEMS:
		return read_item(reading);
	case IMAP_SEARCH_SET:
		return read_element(reading);
	case IMAP_SEARCH_TAIL:
		break;
	}
	return imap_lexer_fail(reading->lexer, "something stands behind the end");
}

static bool add_range(struct reading *reading)
{
	if (reading->first > 0 &&
		runs_set(&reading->response->set, reading->first, reading->last, 0) < 0) {
		reading->lexer->error = -ENOMEM;
		return imap_lexer_fail(reading->lexer, "out of memory");
	}
	return true;
}

bool imap_search_read(enum imap_search_place *place, struct imap_lexer *lexer, bool is_last,
	struct imap_response *response)
{
	for (;;) {
		struct reading reading = {.place = place, .lexer = lexer, .response = response};
		struct imap_search_result search_before = response->search;
		enum imap_search_place place_before = *place;
		struct imap_lexer before;
		bool ok;

		/* a blank ends a set */
		if (*place != IMAP_SEARCH_SET) {
			imap_lexer_skip_blanks(lexer);
		}
		if (imap_lexer_peek(lexer) == IMAP_LEXER_END) {
			break;
		}
		before = *lexer;
		ok = read_next(&reading);
		if (lexer->error < 0 || (is_last && !ok)) {
			return false;
		}
		if (!is_last && (!ok || imap_lexer_peek(lexer) == IMAP_LEXER_END)) {
			/* it may go on in the next piece; if it does not, it is met there again */
			before.problem = lexer->problem;
			*lexer = before;
			*place = place_before;
			response->search = search_before;
			return true;
		}
		if (!add_range(&reading)) {
			return false;
		}
	}
	if (is_last && *place == IMAP_SEARCH_HEAD && response->kind == IMAP_RESPONSE_VANISHED) {
		return imap_lexer_fail(lexer, "VANISHED without a set");
	}
	return true;
}
