#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/telling.h"

void telling_init(struct telling *telling)
{
	*telling = (struct telling){0};
	bytes_init(&telling->chunk);
}

void telling_done(struct telling *telling)
{
	for (size_t i = 0; i < telling->n_lines; i++) {
		free(telling->lines[i]);
	}
	free(telling->lines);
	bytes_done(&telling->chunk);
}

static void put(struct telling *telling, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void put(struct telling *telling, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0) {
		abort();
	}
	va_end(args);
	if (telling->n_lines == telling->n_allocated) {
		telling->n_allocated = telling->n_allocated ? 2 * telling->n_allocated : 64;
		telling->lines = reallocarray(telling->lines, telling->n_allocated, sizeof(char *));
		if (!telling->lines) {
			abort();
		}
	}
	telling->lines[telling->n_lines++] = text;
}

static void flush_chunk(struct telling *telling)
{
	if (bytes_len(&telling->chunk) > 0) {
		struct span span = bytes_span(&telling->chunk);
		struct bytes shown;
		bytes_init(&shown);
		for (size_t i = 0; i < span.len; i++) {
			bytes_printf(
				&shown, isprint(span.data[i]) ? "%c" : "\\x%02x", span.data[i]);
		}
		char *text = bytes_steal(&shown);
		put(telling, "chunk %llu %s", (unsigned long long)telling->chunk_id, text);
		free(text);
		bytes_clear(&telling->chunk);
	}
}

static void put_flags(struct bytes *text, const struct imap_message *message)
{
	bytes_put_char(text, '(');
	for (size_t i = 0; i < message->n_flags; i++) {
		bytes_printf(text, "%s%.*s", i ? " " : "", (int)message->flags[i].len,
			(const char *)message->flags[i].data);
	}
	bytes_put_char(text, ')');
}

static char *print_message(const struct imap_message *message)
{
	struct bytes text;
	bytes_init(&text);
	bytes_printf(&text, "%u", message->uid);
	if (message->items & IMAP_ITEM_FLAGS) {
		bytes_put_char(&text, ' ');
		put_flags(&text, message);
	}
	if (message->items & IMAP_ITEM_ENVELOPE) {
		bytes_printf(&text, " \"%.*s\"", (int)message->envelope.subject.len,
			(const char *)message->envelope.subject.data);
	}
	if (message->items & IMAP_ITEM_SIZE) {
		bytes_printf(&text, " size=%llu", (unsigned long long)message->size);
	}
	if (message->items & IMAP_ITEM_PREVIEW && message->preview.data) {
		bytes_printf(&text, " preview=%.*s", (int)message->preview.len,
			(const char *)message->preview.data);
	}
	for (const struct imap_section *section = message->sections; section;
		section = section->next) {
		bytes_printf(&text, " [%.*s]=%.*s", (int)section->section.len,
			(const char *)section->section.data, (int)section->data.len,
			(const char *)section->data.data);
	}
	return bytes_steal(&text);
}

static char *print_runs(const struct runs *runs, const struct imap_mailbox *mailbox)
{
	struct bytes text;
	struct run run;
	bytes_init(&text);
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(runs, n, &run);
		n = (uint64_t)run.last + 1) {
		bytes_printf(&text, run.first == run.last ? " %u" : " %u:%u", run.first, run.last);
		if (mailbox) {
			bytes_put_str(
				&text, imap_mailbox_is_read(mailbox, run.value) ? "=r" : "=-");
		}
	}
	char *str = bytes_steal(&text);
	return str ? str : strdup("");
}

static const char *end_name(enum imap_end end)
{
	static const char *const names[] = {
		"", " credentials", " throttled", " limit", " stumbled", " token"};
	return names[end];
}

/* -- events -- */

static void put_baseline(struct telling *telling, const struct imap_event *event)
{
	char *text = print_runs(&event->baseline, event->mailbox);
	put(telling, "%s %s uidvalidity=%u watermark=%u modseq=%llu%s",
		event->is_reset ? "reset" : "baseline", event->mailbox->name,
		event->cursor.uidvalidity, event->cursor.watermark,
		(unsigned long long)event->cursor.highestmodseq, text);
	free(text);
}

static void put_messages(struct telling *telling, const struct imap_event *event)
{
	for (size_t i = 0; i < event->n_messages; i++) {
		char *text = print_message(event->messages[i]);
		put(telling, "%s %s %s", event->kind == IMAP_EVENT_NEW ? "new" : "flags",
			event->mailbox->name, text);
		free(text);
	}
}

static void put_expunged(struct telling *telling, const struct imap_event *event)
{
	struct run set;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&event->uids, n, &set);
		n = (uint64_t)set.last + 1) {
		for (uint64_t uid = set.first; uid <= set.last; uid++) {
			put(telling, "expunged %s %u", event->mailbox->name, (unsigned int)uid);
		}
	}
}

static void put_synchronised(struct telling *telling, const struct imap_event *event)
{
	put(telling, "synchronised %s watermark=%u modseq=%llu messages=%u unread=%u",
		event->mailbox->name, event->cursor.watermark,
		(unsigned long long)event->cursor.highestmodseq,
		(unsigned int)runs_count(&event->mailbox->messages),
		(unsigned int)event->mailbox->n_unread);
}

static void put_elsewhere(struct telling *telling, const struct imap_event *event)
{
	const struct imap_elsewhere *elsewhere = &event->elsewhere;
	char messages[16] = "-";
	if (elsewhere->has_messages) {
		snprintf(messages, sizeof(messages), "%u", elsewhere->messages);
	}
	put(telling, "elsewhere %s messages=%s uidvalidity=%u uidnext=%u modseq=%llu%s",
		event->list_name, messages, elsewhere->uidvalidity, elsewhere->uidnext,
		(unsigned long long)elsewhere->highestmodseq, elsewhere->is_push ? " push" : "");
}

static void put_list(struct telling *telling, const struct imap_event *event)
{
	for (size_t i = 0; i < event->n_list; i++) {
		struct bytes line;
		bytes_init(&line);
		bytes_printf(&line, "listed %llu %s", (unsigned long long)event->id,
			event->list[i].name);
		for (size_t k = 0; k < event->list[i].n_attributes; k++) {
			bytes_printf(&line, " %s", event->list[i].attributes[k]);
		}
		char *text = bytes_steal(&line);
		put(telling, "%s", text);
		free(text);
	}
}

static void put_message(struct telling *telling, const struct imap_event *event)
{
	char *text = print_message(event->messages[0]);
	put(telling, "message %llu %s", (unsigned long long)event->id, text);
	free(text);
}

static void put_chunk(struct telling *telling, const struct imap_event *event)
{
	telling->chunk_id = event->id;
	bytes_put(&telling->chunk, event->chunk.data, event->chunk.len);
}

static void put_moved(struct telling *telling, const struct imap_event *event)
{
	char *text = print_runs(&event->uids, NULL);
	put(telling, "moved %llu %s uidvalidity=%u%s", (unsigned long long)event->id,
		event->moved_target, event->moved_uidvalidity, text);
	free(text);
}

static void put_closed(struct telling *telling, const struct imap_event *event)
{
	char after[32] = "";
	if (event->retry_after_usec) {
		snprintf(
			after, sizeof(after), " after=%.3f", (double)event->retry_after_usec / 1e6);
	}
	put(telling, "closed%s%s%s%s", event->failure.kind ? " " : "",
		failure_name(event->failure.kind), end_name(event->end), after);
}

void telling_put(struct telling *telling, const struct imap_event *event)
{
	const char *name = event->mailbox ? event->mailbox->name : "";
	if (event->kind != IMAP_EVENT_CHUNK) {
		flush_chunk(telling);
	}
	switch (event->kind) {
	case IMAP_EVENT_STATE:
		return;
	case IMAP_EVENT_CHUNK:
		put_chunk(telling, event);
		return;
	case IMAP_EVENT_START_TLS:
		put(telling, "start-tls");
		return;
	case IMAP_EVENT_START_DEFLATE:
		put(telling, "start-deflate");
		return;
	case IMAP_EVENT_CREDENTIALS:
		put(telling, "credentials");
		return;
	case IMAP_EVENT_READY:
		put(telling, "ready");
		return;
	case IMAP_EVENT_BASELINE:
		put_baseline(telling, event);
		return;
	case IMAP_EVENT_NEW:
	case IMAP_EVENT_FLAGS:
		put_messages(telling, event);
		return;
	case IMAP_EVENT_EXPUNGED:
		put_expunged(telling, event);
		return;
	case IMAP_EVENT_SYNCHRONISED:
		put_synchronised(telling, event);
		return;
	case IMAP_EVENT_MAILBOX_FAILED:
		put(telling, "failed %s %s", name, failure_name(event->failure.kind));
		return;
	case IMAP_EVENT_NOTIFY:
		put(telling, "notify %s", event->is_in_force ? "on" : "off");
		return;
	case IMAP_EVENT_CHANGED_ELSEWHERE:
		put_elsewhere(telling, event);
		return;
	case IMAP_EVENT_LISTED:
		put_list(telling, event);
		return;
	case IMAP_EVENT_MESSAGE:
		put_message(telling, event);
		return;
	case IMAP_EVENT_MOVED:
		put_moved(telling, event);
		return;
	case IMAP_EVENT_DONE:
		put(telling, "done %llu%s%s", (unsigned long long)event->id,
			event->failure.kind ? " " : "", failure_name(event->failure.kind));
		return;
	case IMAP_EVENT_CLOSED:
		put_closed(telling, event);
		return;
	}
}

/* -- the reader -- */

static bool is_change(const char *told)
{
	return strncmp(told, "flags ", 6) == 0 || strncmp(told, "expunged ", 9) == 0 ||
		strncmp(told, "elsewhere ", 10) == 0;
}

static void find_change(struct telling *telling, const char *line)
{
	for (size_t i = telling->next;
		is_change(line) && i < telling->n_lines && is_change(telling->lines[i]); i++) {
		if (strcmp(telling->lines[i], line) == 0) {
			char *found = telling->lines[i];
			memmove(telling->lines + telling->next + 1, telling->lines + telling->next,
				(i - telling->next) * sizeof(char *));
			telling->lines[telling->next] = found;
			return;
		}
	}
}

const char *telling_next(struct telling *telling, const char *wanted)
{
	flush_chunk(telling);
	if (wanted) {
		find_change(telling, wanted);
	}
	return telling->next < telling->n_lines ? telling->lines[telling->next] : NULL;
}

const char *telling_last(const struct telling *telling)
{
	return telling->n_lines > 0 ? telling->lines[telling->n_lines - 1] : "";
}
