#include <stdarg.h>
#include <unistd.h>

#include "moment.h"
#include "note.h"
#include "util/bytes.h"

static struct bytes lines;

void note(uint64_t now, unsigned int connection, const char *event, const char *format, ...)
{
	char more[128] = "";
	if (format) {
		va_list args;
		va_start(args, format);
		vsnprintf(more, sizeof(more), format, args);
		va_end(args);
	}
	bytes_printf(&lines, "%llu %u %s%s%s\n", (unsigned long long)now, connection, event,
		format ? " " : "", more);
}

size_t notes_len(void)
{
	return bytes_len(&lines);
}

void notes_write(void)
{
	while (bytes_len(&lines) > 0) {
		struct span span = bytes_span(&lines);
		ssize_t n = write(STDOUT_FILENO, span.data, span.len);
		if (n < 0) {
			fail("standard output");
		}
		bytes_consume(&lines, (size_t)n);
	}
	if (lines.error < 0) {
		errno = -lines.error;
		fail("notes");
	}
}
