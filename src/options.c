#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define EXIT_USAGE 2

/* None of the options has a short form. */
enum option_value {
	OPTION_CONFIG = 256,
	OPTION_STATE_DIR,
	OPTION_CHECK_CONFIG,
	OPTION_LOG_LEVEL,
	OPTION_TRACE_IMAP,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"state-dir", required_argument, NULL, OPTION_STATE_DIR},
	{"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"trace-imap", required_argument, NULL, OPTION_TRACE_IMAP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char help[] =
	"Usage: mailidled [OPTION]...\n"
	"Watches mailboxes by IMAP IDLE and puts them on the session bus.\n"
	"\n"
	"  --config FILE       the configuration (default:\n"
	"                      $XDG_CONFIG_HOME/mailidle/mailidle.conf)\n"
	"  --state-dir DIR     where to remember what was announced (default:\n"
	"                      $STATE_DIRECTORY, else $XDG_STATE_HOME/mailidle)\n"
	"  --check-config      check the configuration and exit\n"
	"  --log-level LEVEL   error, warning, info (default) or debug\n"
	"  --trace-imap FILE   append the IMAP conversations, without credentials\n"
	"                      and literals' contents\n"
	"  --version           print the version and exit\n"
	"  --help              print this and exit\n"
	"\n"
	"Exit codes: 0; 1 failure; 2 usage; 69 the bus went away; 78 bad configuration.\n";

static bool parse_log_level(const char *name, enum log_level *ret_level)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* A full disk or a closed pipe is no success. */
static int print(const char *text)
{
	return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int complain(const char *what, const char *argument)
{
	fprintf(stderr, "mailidled: %s: %s\nTry mailidled --help.\n", what, argument);
	return EXIT_USAGE;
}

/* -1: go on; else the code to exit with. */
static int take(struct options *options, int value)
{
	if (optarg && optarg[0] == '\0') {
		return complain("an option's value is empty", "it has to name something");
	}
	switch (value) {
	case OPTION_CONFIG:
		options->config = optarg;
		return -1;
	case OPTION_STATE_DIR:
		options->state_dir = optarg;
		return -1;
	case OPTION_CHECK_CONFIG:
		options->check_config = true;
		return -1;
	case OPTION_LOG_LEVEL:
		if (!parse_log_level(optarg, &options->log_level)) {
			return complain(
				"--log-level is error, warning, info or debug, not", optarg);
		}
		return -1;
	case OPTION_TRACE_IMAP:
		options->trace_imap = optarg;
		return -1;
	case OPTION_VERSION:
		return print("mailidled " MAILIDLE_VERSION "\n");
	case OPTION_HELP:
		return print(help);
	}
	/* getopt_long(3) has said what is wrong. */
	fputs("Try mailidled --help.\n", stderr);
	return EXIT_USAGE;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options options = {.log_level = LOG_LEVEL_INFO};
	int value;
	while ((value = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int code = take(&options, value);
		if (code != -1) {
			return code;
		}
	}
	if (optind < argc) {
		return complain("no arguments are expected", argv[optind]);
	}
	*ret_options = options;
	return -1;
}
