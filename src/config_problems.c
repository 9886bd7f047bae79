#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_problems.h"
#include "util/text.h"

#define MAX_CHARS 1000

/* A file of nothing but mistakes is not answered by a book. */
#define MAX_PROBLEMS 200

struct config_problem {
	int line;
	bool is_syntax;
	size_t order; /* of those on the same line */
	char *text;
};

void config_problems_init(struct config_problems *problems)
{
	*problems = (struct config_problems){0};
}

void config_problems_rewind(struct config_problems *problems, size_t n)
{
	while (problems->n > n) {
		free(problems->items[--problems->n].text);
	}
}

void config_problems_done(struct config_problems *problems)
{
	config_problems_rewind(problems, 0);
	free(problems->items);
	config_problems_init(problems);
}

static bool is_known(const struct config_problems *problems, int line, const char *text)
{
	for (size_t i = 0; i < problems->n; i++) {
		if (problems->items[i].line == line && strcmp(problems->items[i].text, text) == 0) {
			return true;
		}
	}
	return false;
}

static int grow(struct config_problems *problems)
{
	if (problems->n < problems->n_allocated) {
		return 0;
	}
	size_t n = problems->n_allocated ? 2 * problems->n_allocated : 16;
	struct config_problem *items = reallocarray(problems->items, n, sizeof(*items));
	if (!items) {
		return -ENOMEM;
	}
	problems->items = items;
	problems->n_allocated = n;
	return 0;
}

static void __attribute__((format(printf, 4, 0))) add(struct config_problems *problems, int line,
	bool is_syntax, const char *format, va_list arguments)
{
	if (problems->error || (problems->n >= MAX_PROBLEMS && !is_syntax)) {
		return;
	}
	char *raw = NULL;
	if (vasprintf(&raw, format, arguments) < 0) {
		problems->error = -ENOMEM;
		return;
	}
	char *text = text_clean(span_of(raw), TEXT_ONE_LINE, MAX_CHARS);
	free(raw);
	if (!text || grow(problems) < 0) {
		free(text);
		problems->error = -ENOMEM;
		return;
	}
	if (is_known(problems, line, text)) {
		free(text);
		return;
	}
	problems->items[problems->n] = (struct config_problem){
		.line = line,
		.is_syntax = is_syntax,
		.order = problems->n,
		.text = text,
	};
	problems->n++;
}

void config_problems_add(struct config_problems *problems, int line, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	add(problems, line, false, format, arguments);
	va_end(arguments);
}

void config_problems_add_syntax(struct config_problems *problems, int line, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	add(problems, line, true, format, arguments);
	va_end(arguments);
}

static int compare(const void *a, const void *b)
{
	const struct config_problem *x = a;
	const struct config_problem *y = b;
	if (x->line != y->line) {
		return x->line < y->line ? -1 : 1;
	}
	return x->order < y->order ? -1 : x->order > y->order;
}

static void print(const struct config_problem *problem, const char *path, struct bytes *bytes)
{
	if (problem->line > 0) {
		bytes_printf(bytes, "%s:%d: %s\n", path, problem->line, problem->text);
	} else {
		bytes_printf(bytes, "%s: %s\n", path, problem->text);
	}
}

int config_problems_print(struct config_problems *problems, const char *path, struct bytes *bytes)
{
	if (problems->error) {
		return problems->error;
	}
	if (problems->n == 0) {
		return 0;
	}
	qsort(problems->items, problems->n, sizeof(problems->items[0]), compare);
	const struct config_problem *syntax = NULL;
	for (size_t i = 0; i < problems->n && !syntax; i++) {
		syntax = problems->items[i].is_syntax ? &problems->items[i] : NULL;
	}
	if (syntax) {
		print(syntax, path, bytes);
	}
	for (size_t i = 0; i < problems->n && !syntax; i++) {
		print(&problems->items[i], path, bytes);
	}
	return bytes->error ? -ENOMEM : -EINVAL;
}
