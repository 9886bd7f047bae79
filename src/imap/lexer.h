/* Tokens of one response that has arrived whole: atoms, numbers, strings, lists. RFC 9051
 * section 9.
 *
 * The octets of literals stand in the record right behind their "{n}"; where they stand is known
 * from the framing, so that nothing inside a literal or a quoted string is ever taken for syntax.
 * Tokens are views into the record; only a quoted string with escapes is copied, into the arena.
 * Real servers leave backslashes and quotes unescaped, write 8-bit octets and double their blanks:
 * all of that is read as it was meant as long as that is unambiguous.
 *
 * A reader that returns false has said why in `problem`, or has run out of memory: `error`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/response.h"
#include "util/arena.h"
#include "util/bytes.h"
#include "util/runs.h"

/* What imap_lexer_peek() says besides an octet. */
#define IMAP_LEXER_END     (-1)
#define IMAP_LEXER_LITERAL (-2)

/* RFC 7162 section 7: mod-sequence-value is a 63-bit number. */
#define IMAP_NUMBER63_MAX ((uint64_t)INT64_MAX)

enum imap_literal_fate {
	IMAP_LITERAL_KEPT,     /* its octets are in the record */
	IMAP_LITERAL_SKIPPED,  /* too long, reads as NIL */
	IMAP_LITERAL_STREAMED, /* went past as chunks, reads as NIL */
};

struct imap_literal {
	enum imap_literal_fate fate;
	size_t start;  /* offset of its "{" or "~{" in the record */
	size_t data;   /* offset behind its "}" */
	uint64_t size; /* as announced */
};

/* A list of words that grows; its memory is used again for the next one. */
struct imap_words {
	struct span *items;
	size_t n_items;
	size_t n_allocated;
};

struct imap_lexer {
	const uint8_t *base;
	const uint8_t *at;
	const uint8_t *stop; /* the next literal, or the end */
	const uint8_t *end;
	const struct imap_literal *literal; /* the next one; borrowed, as is all below */
	const struct imap_literal *literals_end;
	const struct imap_limits *limits;
	struct arena *arena;
	const char *problem;
	int error; /* 0 or -ENOMEM */
};

void imap_lexer_init(struct imap_lexer *lexer, struct span record,
	const struct imap_literal *literals, size_t n_literals, const struct imap_limits *limits,
	struct arena *arena);

/* Remembers the first problem; always false. */
bool imap_lexer_fail(struct imap_lexer *lexer, const char *problem);

static inline int imap_lexer_peek(const struct imap_lexer *lexer)
{
	if (lexer->at < lexer->stop) {
		return *lexer->at;
	}
	return lexer->literal < lexer->literals_end ? IMAP_LEXER_LITERAL : IMAP_LEXER_END;
}

static inline bool imap_is_blank(int c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static inline bool imap_is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static inline void imap_lexer_skip_blanks(struct imap_lexer *lexer)
{
	while (lexer->at < lexer->stop && imap_is_blank(*lexer->at)) {
		lexer->at++;
	}
}

/* Steps over c if that is next. */
static inline bool imap_lexer_take(struct imap_lexer *lexer, char c)
{
	if (lexer->at == lexer->stop || *lexer->at != (uint8_t)c) {
		return false;
	}
	lexer->at++;
	return true;
}

/* Whether nothing but blanks is left; steps over them. */
bool imap_lexer_is_done(struct imap_lexer *lexer);

/* "(", blanks around it allowed. */
bool imap_lexer_open(struct imap_lexer *lexer);

/* Whether a list ends here (steps over blanks and ")"). */
bool imap_lexer_close(struct imap_lexer *lexer);

/* Octets up to a blank, a parenthesis, a quote, a literal or the end; may be empty. */
struct span imap_lexer_word(struct imap_lexer *lexer);

/* Digits, at most max. */
bool imap_lexer_number(struct imap_lexer *lexer, uint64_t max, uint64_t *ret_number);
bool imap_lexer_number32(struct imap_lexer *lexer, uint32_t *ret_number);
bool imap_lexer_number63(struct imap_lexer *lexer, uint64_t *ret_number);

/* A number from 1 on, or 0 for anything else of the shape of one value, which is skipped. */
bool imap_lexer_lenient_number(struct imap_lexer *lexer, uint64_t max, uint64_t *ret_number);

/* A quoted string or a literal (data NULL for one that was not kept). */
bool imap_lexer_string(struct imap_lexer *lexer, struct span *ret_string);

/* The same or an atom. */
bool imap_lexer_astring(struct imap_lexer *lexer, struct span *ret_string);

/* The same, and an atom NIL has data NULL. */
bool imap_lexer_nstring(struct imap_lexer *lexer, struct span *ret_string);

/* The literal that is next, else NULL. */
const struct imap_literal *imap_lexer_next_literal(const struct imap_lexer *lexer);

/* Steps over one value of whatever shape: atom, string, literal, list of any depth. */
bool imap_lexer_skip_value(struct imap_lexer *lexer);

/* Steps over values up to the end of the list that is open, and over its ")". */
bool imap_lexer_skip_rest(struct imap_lexer *lexer);

/* One element of a set: a number, or a range in any order. 0 and 0 when it has a "*". */
bool imap_lexer_range(struct imap_lexer *lexer, uint32_t *ret_first, uint32_t *ret_last);

/* A whole set up to a blank or the end; empty elements are passed over. */
bool imap_lexer_set(struct imap_lexer *lexer, struct runs *set);

/* Whether the span is the atom NIL. */
bool imap_is_nil(struct span span);

/* Zeroed memory of the arena. */
void *imap_lexer_alloc(struct imap_lexer *lexer, size_t size);

/* A copy in the arena; data NULL stays so. */
bool imap_lexer_keep(struct imap_lexer *lexer, struct span span, struct span *ret_copy);

void imap_words_done(struct imap_words *words);

/* false: more than limits.list, or out of memory. */
bool imap_lexer_add_word(struct imap_lexer *lexer, struct imap_words *words, struct span word);

/* Words up to the end; a literal that was not kept is left out. */
bool imap_lexer_words(struct imap_lexer *lexer, struct imap_words *words);

/* "(" words ")", the same; NIL is an empty list. */
bool imap_lexer_list(struct imap_lexer *lexer, struct imap_words *words);
