#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_source.h"

#define MAX_SIZE (1024 * 1024)

/* What ends a word that is not quoted. */
#define SEPARATORS " #\"'\t\n\r={}()+,*"

static int check_file(int fd, struct config_problems *problems)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		config_problems_add(problems, 0, "not a regular file");
		return -EINVAL;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		config_problems_add(problems, 0,
			"belongs to user %lu; since it names commands to run, "
			"expected a file of user %lu or root",
			(unsigned long)st.st_uid, (unsigned long)geteuid());
		return -EINVAL;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		config_problems_add(problems, 0,
			"mode is %04o; since it names commands to run, "
			"expected a file that only its owner can write (chmod go-w)",
			(unsigned int)(st.st_mode & 07777));
		return -EINVAL;
	}
	return 0;
}

static int read_all(int fd, char **ret_text, size_t *ret_len, struct config_problems *problems)
{
	char *text = malloc(MAX_SIZE + 2);
	if (!text) {
		return -ENOMEM;
	}
	size_t len = 0;
	while (len <= MAX_SIZE) {
		ssize_t n = read(fd, text + len, MAX_SIZE + 1 - len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			int r = -errno;
			free(text);
			return r;
		}
		if (n == 0) {
			break;
		}
		len += (size_t)n;
	}
	if (len > MAX_SIZE) {
		config_problems_add(problems, 0, "expected a file of at most 1 MiB");
		free(text);
		return -EINVAL;
	}
	text[len] = '\0';
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int config_source_read(
	const char *path, char **ret_text, size_t *ret_len, struct config_problems *problems)
{
	/* A FIFO must not hold up the daemon before fstat() can refuse it. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r = fd < 0 ? -errno : check_file(fd, problems);
	if (r == 0) {
		r = read_all(fd, ret_text, ret_len, problems);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (r < 0 && r != -EINVAL && r != -ENOMEM) {
		config_problems_add(problems, 0, "cannot be read: %s", strerror(-r));
	}
	return r;
}

struct scanner {
	char *text;
	size_t len;
	size_t position;
	int line;
	unsigned int depth; /* of braces */
	int depth_line;     /* of the outermost brace that is open */
	bool is_cut;        /* the end of the file belongs to a comment or string */
	struct config_problems *problems;
};

static char peek(const struct scanner *scanner, size_t ahead)
{
	size_t position = scanner->position + ahead;
	return position < scanner->len ? scanner->text[position] : '\0';
}

static void advance(struct scanner *scanner, size_t n)
{
	for (; n > 0 && scanner->position < scanner->len; n--) {
		if (scanner->text[scanner->position++] == '\n') {
			scanner->line++;
		}
	}
}

static void blank(struct scanner *scanner, size_t n)
{
	for (size_t i = scanner->position; i < scanner->position + n; i++) {
		if (scanner->text[i] != '\n') {
			scanner->text[i] = ' ';
		}
	}
	advance(scanner, n);
}

static void blank_line_comment(struct scanner *scanner)
{
	const char *start = scanner->text + scanner->position;
	const char *end = memchr(start, '\n', scanner->len - scanner->position);
	blank(scanner, end ? (size_t)(end - start) : scanner->len - scanner->position);
}

static void blank_block_comment(struct scanner *scanner)
{
	const char *start = scanner->text + scanner->position;
	size_t rest = scanner->len - scanner->position;
	const char *end = memmem(start + 2, rest - 2, "*/", 2);
	if (!end) {
		scanner->is_cut = true;
		config_problems_add_syntax(scanner->problems, scanner->line,
			"the comment that begins here does not end; expected \"*/\"");
	}
	blank(scanner, end ? (size_t)(end - start) + 2 : rest);
}

/* True when a "${NAME}" was passed over. It takes precedence over a quote or a brace in it, and
 * libconfuse does not count the lines in it. */
static bool skip_variable(struct scanner *scanner)
{
	const char *start = scanner->text + scanner->position;
	if (start[0] != '$' || peek(scanner, 1) != '{') {
		return false;
	}
	const char *end = memchr(start, '}', scanner->len - scanner->position);
	if (!end) {
		return false;
	}
	size_t len = (size_t)(end - start) + 1;
	if (memchr(start, '\n', len)) {
		config_problems_add_syntax(scanner->problems, scanner->line,
			"a variable's name goes on in the next line; expected \"${NAME}\" "
			"(a dollar that is meant as such stands in single quotes)");
	}
	advance(scanner, len);
	return true;
}

/* "\0", "\x00" and the like would end the string for libconfuse. */
static bool is_nul_escape(const struct scanner *scanner)
{
	bool is_hex = peek(scanner, 1) == 'x';
	const char *digits = is_hex ? "0123456789ABCDEFabcdef" : "01234567";
	size_t start = is_hex ? 2 : 1;
	size_t n = 0;
	for (; n < (is_hex ? 2 : 3); n++) {
		char c = peek(scanner, start + n);
		if (c == '\0' || !strchr(digits, c)) {
			break;
		}
		if (c != '0') {
			return false;
		}
	}
	return n > 0;
}

static void skip_string(struct scanner *scanner)
{
	char quote = peek(scanner, 0);
	int line = scanner->line;
	advance(scanner, 1);
	while (scanner->position < scanner->len) {
		char c = peek(scanner, 0);
		if (c == quote) {
			advance(scanner, 1);
			return;
		}
		if (c == '\\') {
			if (quote == '"' && is_nul_escape(scanner)) {
				config_problems_add_syntax(scanner->problems, scanner->line,
					"found a NUL in a string, expected text");
			}
			advance(scanner, 2);
		} else if (quote != '"' || !skip_variable(scanner)) {
			advance(scanner, 1);
		}
	}
	scanner->is_cut = true;
	config_problems_add_syntax(scanner->problems, line,
		"the string that begins here does not end; expected %c", quote);
}

static void skip_word(struct scanner *scanner)
{
	do {
		advance(scanner, 1);
	} while (scanner->position < scanner->len && !strchr(SEPARATORS, peek(scanner, 0)));
}

static void skip_brace(struct scanner *scanner)
{
	if (peek(scanner, 0) == '{') {
		if (scanner->depth++ == 0) {
			scanner->depth_line = scanner->line;
		}
	} else if (scanner->depth > 0) {
		scanner->depth--;
	}
	advance(scanner, 1);
}

void config_source_prepare(char *text, size_t len, struct config_problems *problems)
{
	struct scanner scanner = {.text = text, .len = len, .line = 1, .problems = problems};
	const char *nul = memchr(text, '\0', len);
	if (nul) {
		scanner.len = (size_t)(nul - text);
	}
	while (scanner.position < scanner.len) {
		char c = peek(&scanner, 0);
		if (c == '#' || (c == '/' && peek(&scanner, 1) == '/')) {
			blank_line_comment(&scanner);
		} else if (c == '/' && peek(&scanner, 1) == '*') {
			blank_block_comment(&scanner);
		} else if (c == '"' || c == '\'') {
			skip_string(&scanner);
		} else if (c == '{' || c == '}') {
			skip_brace(&scanner);
		} else if (skip_variable(&scanner)) {
			continue;
		} else if (strchr(SEPARATORS, c)) {
			advance(&scanner, 1);
		} else {
			skip_word(&scanner);
		}
	}
	if (nul) {
		config_problems_add_syntax(
			problems, scanner.line, "found a NUL octet, expected text");
	} else if (scanner.depth > 0 && !scanner.is_cut) {
		config_problems_add_syntax(problems, scanner.depth_line,
			"what begins here is not closed; expected \"}\" before the end of the "
			"file");
	}
}
