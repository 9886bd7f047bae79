/* The command line of mailidled, getopt_long(3). */
#pragma once

#include <stdbool.h>

#include "util/log.h"

struct options {
	/* Borrowed from argv; NULL: not given. */
	const char *config;
	const char *state_dir;
	const char *trace_imap;
	bool check_config;
	enum log_level log_level;
};

/* Parses. --help and --version are answered on standard output, mistakes on standard error. -1: go
 * on, ret_options is set; else the code to exit with. */
int options_parse(int argc, char **argv, struct options *ret_options);
