/* The mistakes in a configuration file, collected in any order and told in the file's order. A
 * syntax error makes all else guesswork, so where there is one, only the first of these is told.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/bytes.h"

struct config_problem;

struct config_problems {
	struct config_problem *items;
	size_t n;
	size_t n_allocated;
	int error; /* 0 or -ENOMEM, sticky */
};

void config_problems_init(struct config_problems *problems);
void config_problems_done(struct config_problems *problems);

/* line 0: the file as a whole. The text is cleaned; what was said of that line before is not
 * repeated. */
void config_problems_add(struct config_problems *problems, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void config_problems_add_syntax(struct config_problems *problems, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Forgets all but the first n, to look again. */
void config_problems_rewind(struct config_problems *problems, size_t n);

/* Appends "PATH:LINE: text\n" for each to be told. 0: there are none; -EINVAL: there are; -ENOMEM.
 */
int config_problems_print(struct config_problems *problems, const char *path, struct bytes *bytes);
