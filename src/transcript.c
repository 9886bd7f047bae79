#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "transcript.h"

static void write_all(int fd, struct span span)
{
	while (span.len > 0) {
		ssize_t len = write(fd, span.data, span.len);
		if (len < 0 && errno == EINTR) {
			continue;
		}
		if (len <= 0) {
			return;
		}
		span.data += len;
		span.len -= (size_t)len;
	}
}

void transcript_write(struct bytes *trace, int fd, const char *account, unsigned int number)
{
	struct bytes lines;
	bytes_init(&lines);
	struct span rest = bytes_span(trace);
	while (rest.len > 0) {
		const uint8_t *end = memchr(rest.data, '\n', rest.len);
		size_t len = end ? (size_t)(end - rest.data) + 1 : rest.len;
		bytes_printf(&lines, "%s#%u ", account, number);
		bytes_put(&lines, rest.data, len);
		if (!end) {
			bytes_put_char(&lines, '\n');
		}
		rest.data += len;
		rest.len -= len;
	}
	if (lines.error == 0) {
		write_all(fd, bytes_span(&lines));
	}
	bytes_done(&lines);
	bytes_done(trace);
}
