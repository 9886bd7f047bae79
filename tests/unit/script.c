#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/script.h"
#include "util/bytes.h"

void script_read(struct script *script, const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	*script = (struct script){.path = strdup(path)};
	if (!file) {
		perror(path);
		exit(1);
	}
	while ((len = getline(&line, &size, file)) >= 0) {
		while (len > 0 && line[len - 1] == '\n') {
			line[--len] = '\0';
		}
		script->lines = reallocarray(script->lines, script->n_lines + 1, sizeof(char *));
		script->lines[script->n_lines++] = strdup(line);
	}
	free(line);
	fclose(file);
}

void script_done(struct script *script)
{
	for (size_t i = 0; i < script->n_lines; i++) {
		free(script->lines[i]);
	}
	free(script->lines);
	free(script->path);
}

char *script_expand(const char *text, unsigned long count, size_t *ret_len)
{
	struct bytes out;
	bytes_init(&out);
	for (const char *p = text; *p;) {
		if (*p == '$' && isdigit((unsigned char)p[1])) {
			bytes_put_str(&out, "AAAA");
			p++;
		} else if (p[0] == '\\' && p[1] == 'x' && isxdigit((unsigned char)p[2]) &&
			isxdigit((unsigned char)p[3])) {
			char hex[3] = {p[2], p[3], 0};
			bytes_put_char(&out, (char)strtoul(hex, NULL, 16));
			p += 4;
		} else if (count > 0 && p[0] == '%' && p[1] == 'n') {
			char *end = (char *)p + 2;
			unsigned long more = p[2] == '+' ? strtoul(p + 3, &end, 10) : 0;
			bytes_printf(&out, "%lu", count + more);
			p = end;
		} else {
			bytes_put_char(&out, *p++);
		}
	}
	*ret_len = bytes_len(&out);
	char *str = bytes_steal(&out);
	return str ? str : strdup("");
}

void script_parse_set(const char *text, struct runs *set)
{
	for (const char *p = text; *p;) {
		char *end;
		uint32_t first = strtoul(p, &end, 10), last = first;
		if (*end == ':') {
			last = strtoul(end + 1, &end, 10);
		}
		runs_set(set, first, last, 0);
		p = *end == ',' ? end + 1 : end;
		if (p == end && *p) {
			abort();
		}
	}
}
