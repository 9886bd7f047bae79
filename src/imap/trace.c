#include <string.h>

#include "imap/engine.h"
#include "imap/trace.h"

enum {
	TRACE_LINE_MAX = 2000, /* octets of a line that are shown */
};

/* Whether what the server says may quote what it was told, as many do. */
static bool is_logging_in(const struct imap_client *client)
{
	return client->state == IMAP_STATE_AUTHENTICATE;
}

/* The number in "{123}" or "{123+}" at the end of the line; 0 for none. */
static uint64_t literal_of(struct span line)
{
	if (line.len < 3 || line.data[line.len - 1] != '}') {
		return 0;
	}
	size_t i = line.len - 1;
	i -= line.data[i - 1] == '+';
	uint64_t number = 0, factor = 1;
	while (i > 0 && line.data[i - 1] >= '0' && line.data[i - 1] <= '9' &&
		factor <= 1000000000) {
		number += factor * (line.data[i - 1] - '0');
		factor *= 10;
		i--;
	}
	return i > 0 && line.data[i - 1] == '{' ? number : 0;
}

static void put_line(struct imap_client *client, const char *side, struct span line)
{
	bytes_put_str(client->trace, side);
	size_t len = line.len < TRACE_LINE_MAX ? line.len : TRACE_LINE_MAX;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = line.data[i];
		bytes_put_char(client->trace, c < 0x20 || c == 0x7f ? '?' : (char)c);
	}
	bytes_put_str(client->trace, len < line.len ? "...\n" : "\n");
}

static bool is_known(struct span word)
{
	static const char *const words[] = {"OK", "NO", "BAD", "BYE", "PREAUTH", "CAPABILITY"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (span_equal_nocase(word, words[i])) {
			return true;
		}
	}
	return false;
}

static struct span first_word(struct span line)
{
	const uint8_t *end = line.len > 0 ? memchr(line.data, ' ', line.len) : NULL;
	return end ? (struct span){.data = line.data, .len = (size_t)(end - line.data)} : line;
}

/* Tag and status of a line said while logging in, where they are such: the rest may quote the
 * password, and a line that is none of the protocol may be the password. */
static struct span without_words(const struct imap_client *client, struct span line)
{
	struct span tag = first_word(line);
	if (line.len > 0 && line.data[0] == '+') {
		return span_of("+");
	}
	if (!span_equal(tag, "*") && commands_number(client, tag) == 0) {
		return span_of("...");
	}
	size_t behind = tag.len < line.len ? tag.len + 1 : tag.len;
	struct span status =
		first_word((struct span){.data = line.data + behind, .len = line.len - behind});
	line.len = is_known(status) ? behind + status.len : tag.len;
	return line;
}

static void end_line(struct imap_client *client)
{
	struct bytes *line = &client->trace_line;
	struct span span = bytes_span(line);
	if (span.len > 0 && span.data[span.len - 1] == '\r') {
		span.len--;
	}
	if (client->trace_literal == 0) {
		client->trace_literal = literal_of(span);
	}
	if (is_logging_in(client)) {
		span = without_words(client, span);
	}
	put_line(client, "S: ", span);
	bytes_clear(line);
}

void trace_received(struct imap_client *client, const uint8_t *data, size_t len)
{
	if (!client->trace) {
		return;
	}
	for (size_t i = 0; i < len;) {
		if (client->trace_literal > 0) {
			size_t n =
				len - i < client->trace_literal ? len - i : client->trace_literal;
			client->trace_literal -= n;
			i += n;
			continue;
		}
		const uint8_t *end = memchr(data + i, '\n', len - i);
		size_t n = end ? (size_t)(end - data) - i : len - i;
		/* The end of an endless line is kept, for it may announce a literal. */
		if (bytes_len(&client->trace_line) + n > 4 * TRACE_LINE_MAX) {
			bytes_clear(&client->trace_line);
			bytes_put_str(&client->trace_line, "... ");
		}
		bytes_put(&client->trace_line, data + i, n < TRACE_LINE_MAX ? n : TRACE_LINE_MAX);
		if (n > TRACE_LINE_MAX) {
			bytes_put(&client->trace_line, data + i + n - 32, 32);
		}
		i += n;
		if (end) {
			end_line(client);
			i++;
		}
	}
}

void trace_sent(struct imap_client *client, const struct command *command, struct span text)
{
	if (!client->trace) {
		return;
	}
	if (command->is_secret) {
		/* The tag, the command, and for AUTHENTICATE the mechanism. */
		size_t words = command->kind == COMMAND_AUTHENTICATE ? 3 : 2;
		for (size_t i = 0; i < text.len; i++) {
			if (text.data[i] == ' ' && --words == 0) {
				text.len = i;
			}
		}
	}
	while (text.len > 0 &&
		(text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r')) {
		text.len--;
	}
	put_line(client, "C: ", text);
}

void trace_sent_line(struct imap_client *client, const char *line)
{
	if (client->trace) {
		put_line(client, "C: ", span_of(line));
	}
}
