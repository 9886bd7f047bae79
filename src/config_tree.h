/* What a configuration file says, section by section and option by option, each with its line; not
 * what it means. The only place that knows libconfuse.
 *
 * libconfuse stops at the first unknown option, and knows lines only while it reads. So all options
 * are declared to it as lists of text that are noted down as they come, an unknown one is learned
 * by its name, and the text read again until libconfuse is content.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config_problems.h"

struct config_draft;
struct config_entry;

/* An option that may stand in a section. The tree looks at name and initial alone, the rest is for
 * whoever finds out what the entry means. */
struct config_option {
	const char *name; /* NULL ends the table */
	const char *expected;
	void (*take)(struct config_draft *draft, const struct config_option *option,
		const struct config_entry *entry);
	size_t offset;
	uint64_t min;
	uint64_t max;
	const char
		*initial; /* the values before any is given, in libconfuse's syntax; NULL: none */
};

/* At least one option of a section has initial values: they tell where the section begins. */
struct config_kind {
	const char *name; /* of the section; "" for what stands outside all sections */
	bool has_title;
	const struct config_option *options;
};

struct config_value {
	int line; /* where it ends */
	char *text;
};

struct config_entry {
	struct config_value *values;
	size_t n_values; /* 0: the option was not given, or is "{}" */
};

struct config_section {
	const struct config_kind *kind; /* borrowed from the grammar */
	char *title;                    /* NULL: none */
	int line;                       /* where it begins */
	bool is_complete;               /* false: not all of it could be read */
	struct config_entry *entries;   /* one for each of the kind's options */
};

struct config_tree {
	struct config_section **sections; /* the first is what stands outside all sections */
	size_t n_sections;
};

/* The grammar is ended by a kind without a name and begins with the one called "". Tells the
 * syntax errors, unknown options and sections, and sections that stand there twice. 0 also when
 * there are problems, since the rest can still be looked at; or -ENOMEM. */
int config_tree_parse(const struct config_kind *grammar, const char *text,
	struct config_problems *problems, struct config_tree *tree);

/* Frees what it holds; harmless on a zeroed one. */
void config_tree_done(struct config_tree *tree);

/* 1 for true, yes and on, 0 for false, no and off, in any case; -1 for anything else. */
int config_tree_boolean(const char *text);

/* How problems name the section: "account \"work\": ", "" outside all sections. */
struct config_label {
	char text[128];
};
struct config_label config_label(const char *kind, const char *title);
