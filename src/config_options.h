/* What the options of a configuration file mean: the contract's table, and what may not stand there
 * together. Paths that begin with "~/" begin in $HOME, other relative ones in the folder of the
 * configuration file.
 */
#pragma once

#include "config.h"
#include "config_problems.h"
#include "config_tree.h"

/* Everything outside sections, accounts (the only ones with a title), notifications. */
extern const struct config_kind config_grammar[];

/* A section whose options are being looked at. */
struct config_draft {
	const struct config_section *section; /* borrowed */
	struct config_problems *problems;     /* borrowed */
	const char *folder;                   /* borrowed; where relative paths begin */
	struct config_account *account;       /* borrowed; NULL for what is no account */
};

/* Puts what is right into the account, and tells what is wrong. */
void config_options_take(struct config_draft *draft);

/* Tells what is missing in an account, and what does not go together. */
void config_options_check(const struct config_draft *draft);
