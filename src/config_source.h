/* The text of a configuration file, made fit for libconfuse. libconfuse 3.3 counts lines wrongly
 * behind every comment, takes a file that ends within a section or a comment for a whole one, and
 * cuts strings at a NUL; so comments are blanked out here and the rest is told as syntax errors.
 *
 * Knows of the syntax what is needed for that: where comments, quoted strings and variables begin
 * and end, and braces.
 */
#pragma once

#include <stddef.h>

#include "config_problems.h"

/* Reads the whole file, with a final NUL, owned by the caller. Because the file can name commands
 * to run, it must be a regular file of ours or root's that nobody else can write, and for good
 * measure have no more than 1 MiB: -EINVAL with a problem. -ENOENT, -EACCES, ...: with a problem
 * too. -ENOMEM. */
int config_source_read(
	const char *path, char **ret_text, size_t *ret_len, struct config_problems *problems);

/* Blanks out the comments, in place. Adds a problem for each syntax error found. */
void config_source_prepare(char *text, size_t len, struct config_problems *problems);
