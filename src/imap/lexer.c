#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/lexer.h"

/* What ends an atom. "{" is not among them: where literals are is known from the framing. */
static const bool ends_word[256] = {
	[' '] = true, ['\t'] = true, ['\r'] = true, ['('] = true, [')'] = true, ['"'] = true};

/* What may stand behind the quote that ends a string; before anything else it is content. */
static const bool follows_string[256] = {
	[' '] = true, ['\t'] = true, ['\r'] = true, ['('] = true, [')'] = true, [']'] = true};

static void find_stop(struct imap_lexer *lexer)
{
	lexer->stop = lexer->literal < lexer->literals_end ? lexer->base + lexer->literal->start
							   : lexer->end;
}

void imap_lexer_init(struct imap_lexer *lexer, struct span record,
	const struct imap_literal *literals, size_t n_literals, const struct imap_limits *limits,
	struct arena *arena)
{
	*lexer = (struct imap_lexer){
		.base = record.data,
		.at = record.data,
		.end = record.len > 0 ? record.data + record.len : record.data,
		.literal = literals,
		.literals_end = n_literals > 0 ? literals + n_literals : literals,
		.limits = limits,
		.arena = arena,
	};
	find_stop(lexer);
}

bool imap_lexer_fail(struct imap_lexer *lexer, const char *problem)
{
	if (!lexer->problem) {
		lexer->problem = problem;
	}
	return false;
}

static bool fail_memory(struct imap_lexer *lexer)
{
	lexer->error = -ENOMEM;
	return imap_lexer_fail(lexer, "out of memory");
}

bool imap_lexer_is_done(struct imap_lexer *lexer)
{
	imap_lexer_skip_blanks(lexer);
	return imap_lexer_peek(lexer) == IMAP_LEXER_END;
}

bool imap_lexer_open(struct imap_lexer *lexer)
{
	imap_lexer_skip_blanks(lexer);
	if (!imap_lexer_take(lexer, '(')) {
		return imap_lexer_fail(lexer, "a list was expected");
	}
	imap_lexer_skip_blanks(lexer);
	return true;
}

bool imap_lexer_close(struct imap_lexer *lexer)
{
	imap_lexer_skip_blanks(lexer);
	return imap_lexer_take(lexer, ')');
}

struct span imap_lexer_word(struct imap_lexer *lexer)
{
	const uint8_t *start = lexer->at, *at = start;

	while (at < lexer->stop && !ends_word[*at]) {
		at++;
	}
	lexer->at = at;
	return (struct span){.data = start, .len = at - start};
}

bool imap_lexer_number(struct imap_lexer *lexer, uint64_t max, uint64_t *ret_number)
{
	const uint8_t *at = lexer->at;
	uint64_t number = 0;

	if (at == lexer->stop || !imap_is_digit(*at)) {
		return imap_lexer_fail(lexer, "a number was expected");
	}
	for (; at < lexer->stop && imap_is_digit(*at); at++) {
		unsigned int digit = *at - '0';

		if (number > (max - digit) / 10) {
			return imap_lexer_fail(lexer, "a number is out of range");
		}
		number = number * 10 + digit;
	}
	lexer->at = at;
	*ret_number = number;
	return true;
}

bool imap_lexer_number32(struct imap_lexer *lexer, uint32_t *ret_number)
{
	uint64_t number;

	if (!imap_lexer_number(lexer, UINT32_MAX, &number)) {
		return false;
	}
	*ret_number = (uint32_t)number;
	return true;
}

bool imap_lexer_number63(struct imap_lexer *lexer, uint64_t *ret_number)
{
	return imap_lexer_number(lexer, IMAP_NUMBER63_MAX, ret_number);
}

bool imap_lexer_lenient_number(struct imap_lexer *lexer, uint64_t max, uint64_t *ret_number)
{
	struct imap_lexer before = *lexer;
	uint64_t number;

	if (imap_lexer_number(lexer, max, &number) &&
		(lexer->at == lexer->stop || ends_word[*lexer->at])) {
		*ret_number = number;
		return true;
	}
	*lexer = before;
	*ret_number = 0;
	return imap_lexer_skip_value(lexer);
}

/* The octets between the quotes, escapes and all. RFC 9051 escapes only quote and backslash, so a
 * backslash before anything else stands for itself. */
static bool quoted(struct imap_lexer *lexer, struct span *ret_raw, size_t *ret_n_escapes)
{
	const uint8_t *start = lexer->at + 1;
	size_t n_escapes = 0;

	for (const uint8_t *at = start; at < lexer->stop; at++) {
		if (*at == '\\' && at + 1 < lexer->stop && (at[1] == '"' || at[1] == '\\')) {
			n_escapes++;
			at++;
		} else if (*at == '"' && (at + 1 == lexer->stop || follows_string[at[1]])) {
			lexer->at = at + 1;
			*ret_raw = (struct span){.data = start, .len = at - start};
			*ret_n_escapes = n_escapes;
			return true;
		}
	}
	return imap_lexer_fail(lexer, "a quoted string has no end");
}

static bool unescape(
	struct imap_lexer *lexer, struct span raw, size_t n_escapes, struct span *ret_string)
{
	uint8_t *copy, *to;

	copy = to = imap_lexer_alloc(lexer, raw.len - n_escapes + 1);
	if (!copy) {
		return false;
	}
	for (size_t i = 0; i < raw.len; i++) {
		if (raw.data[i] == '\\' && i + 1 < raw.len &&
			(raw.data[i + 1] == '"' || raw.data[i + 1] == '\\')) {
			i++;
		}
		*to++ = raw.data[i];
	}
	*ret_string = (struct span){.data = copy, .len = to - copy};
	return true;
}

const struct imap_literal *imap_lexer_next_literal(const struct imap_lexer *lexer)
{
	return imap_lexer_peek(lexer) == IMAP_LEXER_LITERAL ? lexer->literal : NULL;
}

static struct span take_literal(struct imap_lexer *lexer)
{
	const struct imap_literal *literal = lexer->literal++;
	struct span span = {0};

	lexer->at = lexer->base + literal->data;
	if (literal->fate == IMAP_LITERAL_KEPT) {
		span = (struct span){.data = lexer->at, .len = literal->size};
		lexer->at += literal->size;
	}
	find_stop(lexer);
	return span;
}

bool imap_lexer_string(struct imap_lexer *lexer, struct span *ret_string)
{
	struct span raw;
	size_t n_escapes;
	int next = imap_lexer_peek(lexer);

	if (next == IMAP_LEXER_LITERAL) {
		*ret_string = take_literal(lexer);
		return true;
	}
	if (next != '"') {
		return imap_lexer_fail(lexer, "a string was expected");
	}
	if (!quoted(lexer, &raw, &n_escapes)) {
		return false;
	}
	if (n_escapes > 0) {
		return unescape(lexer, raw, n_escapes, ret_string);
	}
	*ret_string = raw;
	return true;
}

bool imap_lexer_astring(struct imap_lexer *lexer, struct span *ret_string)
{
	struct span word;
	int next = imap_lexer_peek(lexer);

	if (next == '"' || next == IMAP_LEXER_LITERAL) {
		return imap_lexer_string(lexer, ret_string);
	}
	word = imap_lexer_word(lexer);
	if (word.len == 0) {
		return imap_lexer_fail(lexer, "a word was expected");
	}
	*ret_string = word;
	return true;
}

bool imap_is_nil(struct span span)
{
	return span_equal_nocase(span, "NIL");
}

bool imap_lexer_nstring(struct imap_lexer *lexer, struct span *ret_string)
{
	int next = imap_lexer_peek(lexer);
	struct span string;

	if (!imap_lexer_astring(lexer, &string)) {
		return false;
	}
	if (next != '"' && next != IMAP_LEXER_LITERAL && imap_is_nil(string)) {
		string = (struct span){0};
	}
	*ret_string = string;
	return true;
}

/* Steps over values until the lists opened in here, and `depth` more, are closed. */
static bool skip(struct imap_lexer *lexer, size_t depth)
{
	struct span span;
	size_t n_escapes;

	do {
		imap_lexer_skip_blanks(lexer);
		switch (imap_lexer_peek(lexer)) {
		case IMAP_LEXER_END:
			return imap_lexer_fail(lexer, "a value is missing or a list has no end");
		case IMAP_LEXER_LITERAL:
			take_literal(lexer);
			break;
		case '"':
			if (!quoted(lexer, &span, &n_escapes)) {
				return false;
			}
			break;
		case '(':
			lexer->at++;
			depth++;
			break;
		case ')':
			if (depth == 0) {
				return imap_lexer_fail(lexer, "a value is missing");
			}
			lexer->at++;
			depth--;
			break;
		default:
			imap_lexer_word(lexer);
		}
	} while (depth > 0);
	return true;
}

bool imap_lexer_skip_value(struct imap_lexer *lexer)
{
	return skip(lexer, 0);
}

bool imap_lexer_skip_rest(struct imap_lexer *lexer)
{
	return skip(lexer, 1);
}

bool imap_lexer_range(struct imap_lexer *lexer, uint32_t *ret_first, uint32_t *ret_last)
{
	uint32_t ends[2] = {0, 0};
	bool has_star = false;
	size_t n_ends = 0;

	do {
		if (imap_lexer_take(lexer, '*')) {
			has_star = true;
		} else if (!imap_lexer_number32(lexer, &ends[n_ends])) {
			return false;
		} else if (ends[n_ends] == 0) {
			return imap_lexer_fail(lexer, "0 stands in a set");
		}
		n_ends++;
	} while (n_ends < 2 && imap_lexer_take(lexer, ':'));
	if (n_ends == 1) {
		ends[1] = ends[0];
	}
	*ret_first = has_star ? 0 : ends[0] < ends[1] ? ends[0] : ends[1];
	*ret_last = has_star ? 0 : ends[0] < ends[1] ? ends[1] : ends[0];
	return true;
}

bool imap_lexer_set(struct imap_lexer *lexer, struct runs *set)
{
	uint32_t first, last;
	int next;

	for (;;) {
		while (imap_lexer_take(lexer, ',')) {
		}
		next = imap_lexer_peek(lexer);
		if (next == IMAP_LEXER_END || imap_is_blank(next)) {
			return true;
		}
		if (!imap_lexer_range(lexer, &first, &last)) {
			return false;
		}
		if (first > 0 && runs_set(set, first, last, 0) < 0) {
			return fail_memory(lexer);
		}
		next = imap_lexer_peek(lexer);
		if (next != ',' && next != IMAP_LEXER_END && !imap_is_blank(next)) {
			return imap_lexer_fail(lexer, "a set holds what is no number");
		}
	}
}

/* Whether a response may still take so much. */
static bool has_room(struct imap_lexer *lexer, size_t size)
{
	size_t used = lexer->arena->used, most = lexer->limits->memory;

	return (used <= most && size <= most - used) ||
		imap_lexer_fail(lexer, "a response takes too much memory");
}

void *imap_lexer_alloc(struct imap_lexer *lexer, size_t size)
{
	void *memory;

	if (!has_room(lexer, size)) {
		return NULL;
	}
	memory = arena_alloc(lexer->arena, size);
	if (!memory) {
		fail_memory(lexer);
	}
	return memory;
}

bool imap_lexer_keep(struct imap_lexer *lexer, struct span span, struct span *ret_copy)
{
	if (!span.data) {
		*ret_copy = (struct span){0};
		return true;
	}
	if (!has_room(lexer, span.len)) {
		return false;
	}
	span = arena_dup(lexer->arena, span);
	if (!span.data) {
		return fail_memory(lexer);
	}
	*ret_copy = span;
	return true;
}

void imap_words_done(struct imap_words *words)
{
	free(words->items);
	*words = (struct imap_words){0};
}

bool imap_lexer_add_word(struct imap_lexer *lexer, struct imap_words *words, struct span word)
{
	if (words->n_items >= lexer->limits->list) {
		return imap_lexer_fail(lexer, "a list is too long");
	}
	if (words->n_items == words->n_allocated) {
		size_t n = words->n_allocated > 0 ? words->n_allocated * 2 : 32;
		struct span *items = reallocarray(words->items, n, sizeof(*items));

		if (!items) {
			return fail_memory(lexer);
		}
		words->items = items;
		words->n_allocated = n;
	}
	words->items[words->n_items++] = word;
	return true;
}

bool imap_lexer_words(struct imap_lexer *lexer, struct imap_words *words)
{
	struct span word;

	words->n_items = 0;
	while (!imap_lexer_is_done(lexer)) {
		if (!imap_lexer_astring(lexer, &word) ||
			(word.data && !imap_lexer_add_word(lexer, words, word))) {
			return false;
		}
	}
	return true;
}

bool imap_lexer_list(struct imap_lexer *lexer, struct imap_words *words)
{
	struct span word;

	words->n_items = 0;
	imap_lexer_skip_blanks(lexer);
	if (imap_lexer_peek(lexer) != '(') {
		if (!imap_lexer_nstring(lexer, &word)) {
			return false;
		}
		return word.data ? imap_lexer_fail(lexer, "a list was expected") : true;
	}
	imap_lexer_open(lexer);
	while (!imap_lexer_close(lexer)) {
		if (!imap_lexer_astring(lexer, &word) ||
			(word.data && !imap_lexer_add_word(lexer, words, word))) {
			return false;
		}
	}
	return true;
}
