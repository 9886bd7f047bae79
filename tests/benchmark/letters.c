#include <string.h>

#include "letters.h"

#define LETTER_MAX 1024

unsigned int letter_items(const char *list)
{
	static const struct {
		const char *name;
		enum letter_item item;
	} names[] = {{"UID", LETTER_UID}, {"FLAGS", LETTER_FLAGS}, {"INTERNALDATE", LETTER_DATE},
		{"RFC822.SIZE", LETTER_SIZE}, {"MODSEQ", LETTER_MODSEQ},
		{"ENVELOPE", LETTER_ENVELOPE}};
	unsigned int items = 0;
	for (list += strspn(list, "( "); *list && *list != ')'; list += strspn(list, " ")) {
		size_t len = strcspn(list, " )");
		unsigned int item = LETTER_UNKNOWN;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (strlen(names[i].name) == len &&
				strncasecmp(list, names[i].name, len) == 0) {
				item = names[i].item;
			}
		}
		items |= item;
		list += len;
	}
	return items;
}

static char *put(char *p, const char *text)
{
	return mempcpy(p, text, __builtin_strlen(text));
}

/* A hundred thousand envelopes are to cost the client more than the server. */
static char *put_number(char *p, uint64_t number)
{
	char digits[24];
	size_t n = 0;
	do {
		digits[n++] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (n > 0) {
		*p++ = digits[--n];
	}
	return p;
}

static char *put_envelope(char *p, uint32_t n)
{
	static const char sender[] = "((\"Ida Sender\" NIL \"ida.sender\" \"lists.example.org\")) ";
	p = put(p, " ENVELOPE (\"Mon, 2 Feb 2026 10:00:00 +0100\" \"Re: [dev] About number ");
	p = put_number(p, n);
	p = put(p, " and what came of it\" ");
	p = put(p, sender);
	p = put(p, sender);
	p = put(p, sender);
	p = put(p,
		"((\"Jo Receiver\" NIL \"jo\" \"example.org\")) NIL NIL "
		"\"<thread.17@lists.example.org>\" \"<");
	p = put_number(p, n);
	return put(p, ".20260202@lists.example.org>\")");
}

void letter_put(struct bytes *bytes, uint32_t n, unsigned int items, bool is_seen)
{
	char *start = bytes_reserve(bytes, LETTER_MAX), *p = start;
	if (!p) {
		return;
	}
	p = put(p, "* ");
	p = put_number(p, n);
	p = put(p, " FETCH (UID ");
	p = put_number(p, n);
	if (items & LETTER_MODSEQ) {
		p = put(p, " MODSEQ (");
		p = put_number(p, (uint64_t)n + 1);
		p = put(p, ")");
	}
	if (items & LETTER_FLAGS) {
		p = put(p, is_seen ? " FLAGS (\\Seen)" : " FLAGS ()");
	}
	if (items & LETTER_DATE) {
		p = put(p, " INTERNALDATE \"02-Feb-2026 10:00:01 +0100\"");
	}
	if (items & LETTER_SIZE) {
		p = put(p, " RFC822.SIZE 4711");
	}
	if (items & LETTER_ENVELOPE) {
		p = put_envelope(p, n);
	}
	p = put(p, ")\r\n");
	bytes_commit(bytes, (size_t)(p - start));
}
