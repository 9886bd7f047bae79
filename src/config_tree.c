#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_tree.h"
#include "util/bytes.h"

/* Of a grammar. */
#define MAX_KINDS 8

/* How many unknown names are learned before the rest stays unread. */
#define MAX_LEARNED 32

/* What an unknown name is taken for, in the order of trying. */
enum shape {
	SHAPE_OPTION,
	SHAPE_TITLED_SECTION,
	SHAPE_SECTION,
	SHAPE_NOTHING, /* a function, or a section within a section: nothing behind it can be read
			*/
};

struct learned {
	const struct config_kind *kind; /* borrowed; where it stands: NULL for an unknown section */
	enum shape shape;
	char *name;
	char *title; /* of the section where it was first seen, and the line */
	int line;
};

struct parser {
	const struct config_kind *grammar; /* borrowed */
	struct config_problems *problems;  /* borrowed */
	struct config_tree *tree;          /* borrowed */
	struct learned learned[MAX_LEARNED];
	size_t n_learned;
	bool wants_another_pass;
	cfg_t *root;
	struct config_section
		*current; /* the one being read, in the tree; NULL: none, or unknown */
	bool is_in_section;
	int error;
};

/* libconfuse hands no context to its callbacks; its scanner is a global as well. */
static struct parser *parsing;

struct config_label config_label(const char *kind, const char *title)
{
	struct config_label label = {{0}};
	if (title) {
		snprintf(label.text, sizeof(label.text), "%s \"%.80s\": ", kind, title);
	} else if (kind[0] != '\0') {
		snprintf(label.text, sizeof(label.text), "%.100s: ", kind);
	}
	return label;
}

int config_tree_boolean(const char *text)
{
	return cfg_parse_boolean(text);
}

static size_t count_options(const struct config_kind *kind)
{
	size_t n = 0;
	while (kind->options[n].name) {
		n++;
	}
	return n;
}

static void clear_entry(struct config_entry *entry)
{
	for (size_t i = 0; i < entry->n_values; i++) {
		free(entry->values[i].text);
	}
	free(entry->values);
	*entry = (struct config_entry){0};
}

static void *section_free(struct config_section *section)
{
	if (section && section->entries) {
		for (size_t i = 0; i < count_options(section->kind); i++) {
			clear_entry(&section->entries[i]);
		}
	}
	if (section) {
		free(section->entries);
		free(section->title);
		free(section);
	}
	return NULL;
}

void config_tree_done(struct config_tree *tree)
{
	for (size_t i = 0; i < tree->n_sections; i++) {
		section_free(tree->sections[i]);
	}
	free(tree->sections);
	*tree = (struct config_tree){0};
}

static int add_section(
	struct config_tree *tree, const struct config_kind *kind, const char *title, int line)
{
	struct config_section **sections =
		reallocarray(tree->sections, tree->n_sections + 1, sizeof(*sections));
	if (!sections) {
		return -ENOMEM;
	}
	tree->sections = sections;
	struct config_section *section = calloc(1, sizeof(*section));
	if (!section) {
		return -ENOMEM;
	}
	section->kind = kind;
	section->line = line;
	section->title = title ? strdup(title) : NULL;
	section->entries = calloc(count_options(kind) + 1, sizeof(*section->entries));
	if ((title && !section->title) || !section->entries) {
		section_free(section);
		return -ENOMEM;
	}
	tree->sections[tree->n_sections++] = section;
	return 0;
}

static const struct config_kind *find_kind(const cfg_t *cfg)
{
	if (!parsing->root || cfg == parsing->root) {
		return parsing->grammar;
	}
	for (const struct config_kind *kind = parsing->grammar + 1; kind->name; kind++) {
		if (strcmp(kind->name, cfg->name) == 0) {
			return kind;
		}
	}
	return NULL;
}

static void tell_unknown(
	const struct config_kind *kind, const char *title, const char *name, int line)
{
	if (!kind) {
		return; /* the section as such has been told */
	}
	struct bytes expected;
	bytes_init(&expected);
	for (const struct config_option *option = kind->options; option->name; option++) {
		bytes_printf(&expected, "%s%s", bytes_len(&expected) > 0 ? ", " : "", option->name);
	}
	bytes_put_char(&expected, '\0');
	if (expected.error) {
		parsing->error = -ENOMEM;
	} else {
		config_problems_add(parsing->problems, line,
			"%sunknown option \"%.80s\"; expected one of: %s",
			config_label(kind->name, title).text, name,
			(const char *)bytes_span(&expected).data);
	}
	bytes_done(&expected);
}

static void tell_unknown_section(const char *name, int line)
{
	config_problems_add(parsing->problems, line,
		"unknown section \"%.80s\"; expected \"account NAME\" or \"notifications\"", name);
}

static struct learned *find_learned(const struct config_kind *kind, const char *name)
{
	for (size_t i = 0; i < parsing->n_learned; i++) {
		struct learned *learned = &parsing->learned[i];
		if (learned->kind == kind && strcmp(learned->name, name) == 0) {
			return learned;
		}
	}
	return NULL;
}

static void learn(const struct config_kind *kind, const char *title, const char *name, int line)
{
	if (find_learned(kind, name)) {
		return; /* by now it should be known: nothing behind it can be read */
	}
	if (parsing->n_learned == MAX_LEARNED) {
		config_problems_add(parsing->problems, line,
			"too many unknown options; what follows has not been looked at");
		return;
	}
	struct learned *learned = &parsing->learned[parsing->n_learned];
	*learned = (struct learned){.kind = kind, .line = line};
	learned->name = strdup(name);
	learned->title = title ? strdup(title) : NULL;
	parsing->n_learned++;
	if (!learned->name || (title && !learned->title)) {
		parsing->error = -ENOMEM;
	}
	parsing->wants_another_pass = true;
}

/* What was taken for an option or a section is none. */
static void reshape(struct learned *learned)
{
	bool is_in_root = learned->kind == parsing->grammar;
	learned->shape = is_in_root ? learned->shape + 1 : SHAPE_NOTHING;
	parsing->wants_another_pass = learned->shape != SHAPE_NOTHING;
}

static void __attribute__((format(printf, 2, 0)))
tell_syntax(const cfg_t *cfg, const char *format, va_list arguments)
{
	const struct config_kind *kind = find_kind(cfg);
	char *text = NULL;
	if (vasprintf(&text, format, arguments) < 0) {
		parsing->error = -ENOMEM;
		return;
	}
	config_problems_add_syntax(parsing->problems, cfg->line, "%s%s",
		config_label(kind ? kind->name : cfg->name, cfg->title).text, text);
	free(text);
}

/* libconfuse tells kinds of errors apart by nothing but their text. One that is not recognised here
 * is an error like all others: the first is told. */
static void __attribute__((format(printf, 2, 0)))
on_error(cfg_t *cfg, const char *format, va_list arguments)
{
	static const char unknown[] = "no such option '%s'";
	static const char *const unfit[] = {
		"missing equal sign after option '%s'",
		"missing title for section '%s'",
		"missing opening brace for section '%s'",
	};
	const struct config_kind *kind = find_kind(cfg);
	va_list copy;
	va_copy(copy, arguments);
	const char *name = strstr(format, "'%s'") ? va_arg(copy, const char *) : NULL;
	va_end(copy);
	struct learned *learned = NULL;
	for (size_t i = 0; i < sizeof(unfit) / sizeof(unfit[0]); i++) {
		if (strcmp(format, unfit[i]) == 0) {
			learned = find_learned(kind, name);
		}
	}
	if (strcmp(format, unknown) == 0) {
		learn(kind, cfg->title, name, cfg->line);
	} else if (learned) {
		reshape(learned);
	} else {
		tell_syntax(cfg, format, arguments);
	}
}

/* Called at the first value in a section, which is an initial one, so that the section has just
 * begun. (root->line stays there until its end.) */
static int begin_section(const char *name, const char *title)
{
	int line = parsing->root->line;
	parsing->is_in_section = true;
	parsing->current = NULL;
	const struct config_kind *kind = parsing->grammar + 1;
	while (kind->name && strcmp(kind->name, name) != 0) {
		kind++;
	}
	if (!kind->name) {
		tell_unknown_section(name, line);
		return 0;
	}
	for (size_t i = 1; i < parsing->tree->n_sections; i++) {
		const struct config_section *other = parsing->tree->sections[i];
		if (other->kind == kind && (!title || strcmp(other->title, title) == 0)) {
			config_problems_add(parsing->problems, line,
				"%snamed a second time, expected it once; the first begins in line "
				"%d",
				config_label(name, title).text, other->line);
		}
	}
	int r = add_section(parsing->tree, kind, title, line);
	if (r < 0) {
		return r;
	}
	parsing->current = parsing->tree->sections[parsing->tree->n_sections - 1];
	return 0;
}

static int add_value(struct config_entry *entry, int line, const char *text)
{
	struct config_value *values =
		reallocarray(entry->values, entry->n_values + 1, sizeof(*values));
	if (!values) {
		return -ENOMEM;
	}
	entry->values = values;
	values[entry->n_values] = (struct config_value){.line = line, .text = strdup(text)};
	if (!values[entry->n_values].text) {
		return -ENOMEM;
	}
	entry->n_values++;
	return 0;
}

/* libconfuse finds "section|option" from outside of the section, too, which is nobody's syntax. */
static bool belongs(const cfg_t *cfg, const cfg_opt_t *opt)
{
	for (const cfg_opt_t *other = cfg->opts; other->name; other++) {
		if (other == opt) {
			return true;
		}
	}
	return false;
}

static int note_value(cfg_t *cfg, cfg_opt_t *opt, const char *text)
{
	if (cfg != parsing->root && !parsing->is_in_section) {
		int r = begin_section(cfg->name, cfg->title);
		if (r < 0) {
			return r;
		}
	}
	const struct config_section *section =
		cfg == parsing->root ? parsing->tree->sections[0] : parsing->current;
	if (!section) {
		return 0;
	}
	for (size_t i = 0; belongs(cfg, opt) && section->kind->options[i].name; i++) {
		if (strcmp(section->kind->options[i].name, opt->name) != 0) {
			continue;
		}
		if (opt->nvalues == 1) { /* by "=" */
			clear_entry(&section->entries[i]);
		}
		return add_value(&section->entries[i], cfg->line, text);
	}
	tell_unknown(section->kind, section->title, opt->name, cfg->line);
	return 0;
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
	*(void **)result = NULL;
	int r = note_value(cfg, opt, text ? text : "");
	if (r < 0) {
		parsing->error = r;
	}
	return r < 0 ? -1 : 0;
}

/* What is left of an option that was emptied by "{}". */
static void clear_emptied(cfg_t *cfg, const struct config_section *section)
{
	for (size_t i = 0; section->kind->options[i].name; i++) {
		if (cfg_size(cfg, section->kind->options[i].name) == 0) {
			clear_entry(&section->entries[i]);
		}
	}
}

/* Called at the end of a section. One with a title that was there before has taken its place. */
static int on_section(cfg_t *cfg, cfg_opt_t *opt)
{
	(void)cfg;
	struct config_section *section = parsing->current;
	if (section) {
		clear_emptied(section->title ? cfg_opt_gettsec(opt, section->title)
					     : cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1),
			section);
		section->is_complete = true;
	}
	parsing->is_in_section = false;
	parsing->current = NULL;
	return 0;
}

static cfg_opt_t make_option(const char *name, const char *initial)
{
	cfg_flag_t flags = initial ? CFGF_NONE : CFGF_NODEFAULT;
	return (cfg_opt_t)CFG_PTR_LIST_CB((char *)name, (char *)initial, flags, on_value, NULL);
}

static cfg_opt_t make_section(const char *name, cfg_opt_t *opts, cfg_flag_t flags)
{
	cfg_opt_t opt = CFG_SEC((char *)name, opts, flags);
	opt.validcb = on_section;
	return opt;
}

/* The options of one kind, known and learned, with room for as many sections; NULL: no memory. What
 * stands in an unknown section is most likely what would stand in an account. */
static cfg_opt_t *make_options(const struct config_kind *kind, size_t n_sections, size_t *ret_n)
{
	const struct config_option *options = kind ? kind->options : parsing->grammar[1].options;
	size_t n_max = n_sections + parsing->n_learned + 1;
	for (const struct config_option *option = options; option->name; option++) {
		n_max++;
	}
	cfg_opt_t *opts = calloc(n_max, sizeof(*opts));
	size_t n = 0;
	for (; opts && options[n].name; n++) {
		opts[n] = make_option(options[n].name, options[n].initial);
	}
	for (size_t i = 0; opts && i < parsing->n_learned; i++) {
		const struct learned *learned = &parsing->learned[i];
		if (learned->kind == kind && learned->shape == SHAPE_OPTION) {
			opts[n++] = make_option(learned->name, NULL);
		}
	}
	*ret_n = n;
	return opts;
}

/* What is declared to libconfuse; it copies all of it. */
struct declarations {
	cfg_opt_t *root;
	size_t n_root;
	cfg_opt_t *kinds[MAX_KINDS];
	cfg_opt_t *unknown; /* of an unknown section */
};

static void declarations_done(struct declarations *declarations)
{
	free(declarations->root);
	free(declarations->unknown);
	for (size_t i = 0; i < MAX_KINDS; i++) {
		free(declarations->kinds[i]);
	}
}

static int declare(struct declarations *declarations)
{
	size_t n_ignored = 0;
	declarations->root =
		make_options(parsing->grammar, MAX_KINDS + MAX_LEARNED, &declarations->n_root);
	declarations->unknown = make_options(NULL, 0, &n_ignored);
	if (!declarations->root || !declarations->unknown) {
		return -ENOMEM;
	}
	for (size_t i = 1; i < MAX_KINDS && parsing->grammar[i].name; i++) {
		const struct config_kind *kind = &parsing->grammar[i];
		declarations->kinds[i] = make_options(kind, 0, &n_ignored);
		if (!declarations->kinds[i]) {
			return -ENOMEM;
		}
		declarations->root[declarations->n_root++] =
			make_section(kind->name, declarations->kinds[i],
				kind->has_title ? CFGF_MULTI | CFGF_TITLE : CFGF_MULTI);
	}
	for (size_t i = 0; i < parsing->n_learned; i++) {
		const struct learned *learned = &parsing->learned[i];
		bool has_title = learned->shape == SHAPE_TITLED_SECTION;
		if (has_title || learned->shape == SHAPE_SECTION) {
			declarations->root[declarations->n_root++] =
				make_section(learned->name, declarations->unknown,
					has_title ? CFGF_MULTI | CFGF_TITLE : CFGF_MULTI);
		}
	}
	return 0;
}

static int parse_pass(const char *text)
{
	struct declarations declarations = {0};
	int r = declare(&declarations);
	if (r == 0) {
		r = add_section(parsing->tree, parsing->grammar, NULL, 1);
	}
	if (r == 0) {
		parsing->root = cfg_init(declarations.root, CFGF_NONE);
		r = parsing->root ? 0 : -ENOMEM;
	}
	if (r == 0) {
		cfg_set_error_function(parsing->root, on_error);
		errno = 0;
		r = cfg_parse_buf(parsing->root, text) == CFG_SUCCESS ? 0 : -EINVAL;
		r = r < 0 && errno == ENOMEM ? -ENOMEM : r;
		cfg_free(parsing->root);
		parsing->root = NULL;
	}
	declarations_done(&declarations);
	return r;
}

int config_tree_parse(const struct config_kind *grammar, const char *text,
	struct config_problems *problems, struct config_tree *tree)
{
	struct parser parser = {.grammar = grammar, .problems = problems, .tree = tree};
	size_t n_problems = problems->n;
	int r;
	parsing = &parser;
	do {
		config_problems_rewind(problems, n_problems);
		config_tree_done(tree);
		parser.wants_another_pass = false;
		parser.is_in_section = false;
		r = parse_pass(text);
	} while (parser.wants_another_pass && r != -ENOMEM && parser.error == 0);
	for (size_t i = 0; i < parser.n_learned; i++) {
		struct learned *learned = &parser.learned[i];
		if (learned->shape == SHAPE_OPTION || learned->shape == SHAPE_NOTHING) {
			tell_unknown(learned->kind, learned->title, learned->name, learned->line);
		}
		free(learned->name);
		free(learned->title);
	}
	parsing = NULL;
	if (parser.error || r == -ENOMEM) {
		return -ENOMEM;
	}
	if (r < 0 && problems->n == 0) {
		config_problems_add_syntax(problems, 0, "syntax error");
	}
	return problems->error;
}
