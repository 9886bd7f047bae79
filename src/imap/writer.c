#include <errno.h>
#include <string.h>

#include "imap/writer.h"

/* What is sent quoted; longer strings would need a literal, which needs a server's consent. */
#define QUOTED_LEN_MAX 1000

/* No flag that is longer is ever told, see limits.flag_len. */
#define FLAG_LEN_MAX 128

static void refuse(struct bytes *bytes)
{
	if (bytes->error == 0) {
		bytes->error = -EINVAL;
	}
}

/* RFC 9051 section 9: ATOM-CHAR = <any CHAR except atom-specials>. */
static bool is_atom_char(unsigned char c)
{
	return c > ' ' && c < 0x7f && !strchr("(){%*\"\\]", c);
}

static bool is_atom(const char *str)
{
	const char *at = str;

	while (is_atom_char((unsigned char)*at)) {
		at++;
	}
	return at != str && *at == 0;
}

void imap_put_quoted(struct bytes *bytes, const char *str)
{
	size_t len = strlen(str);

	if (len > QUOTED_LEN_MAX || strpbrk(str, "\r\n")) {
		refuse(bytes);
		return;
	}
	bytes_put_char(bytes, '"');
	while (*str) {
		size_t n = strcspn(str, "\"\\");

		bytes_put(bytes, str, n);
		str += n;
		if (*str) {
			bytes_put_char(bytes, '\\');
			bytes_put_char(bytes, *str++);
		}
	}
	bytes_put_char(bytes, '"');
}

void imap_put_astring(struct bytes *bytes, const char *str)
{
	/* an atom NIL would be a string here, but few would read it so */
	if (is_atom(str) && strlen(str) <= QUOTED_LEN_MAX &&
		!span_equal_nocase(span_of(str), "NIL")) {
		bytes_put_str(bytes, str);
	} else {
		imap_put_quoted(bytes, str);
	}
}

void imap_put_set(struct bytes *bytes, const struct runs *set)
{
	struct run run, next;
	uint64_t n = 1;
	uint32_t last;

	if (runs_count(set) == 0) {
		refuse(bytes);
		return;
	}
	while (n <= UINT32_MAX && runs_next(set, (uint32_t)n, &run)) {
		if (n > 1) {
			bytes_put_char(bytes, ',');
		}
		/* neighbours with another value are another run, but not another range */
		last = run.last;
		while (last < UINT32_MAX && runs_next(set, last + 1, &next) &&
			next.first == last + 1) {
			last = next.last;
		}
		if (last == run.first) {
			bytes_printf(bytes, "%u", (unsigned int)run.first);
		} else {
			bytes_printf(bytes, "%u:%u", (unsigned int)run.first, (unsigned int)last);
		}
		n = (uint64_t)last + 1;
	}
}

bool imap_is_flag(const char *str)
{
	static const char *const system_flags[] = {
		"\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"};

	for (size_t i = 0; i < sizeof(system_flags) / sizeof(*system_flags); i++) {
		if (span_equal_nocase(span_of(str), system_flags[i])) {
			return true;
		}
	}
	return is_atom(str) && strlen(str) <= FLAG_LEN_MAX;
}
