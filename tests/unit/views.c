#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/writer.h"
#include "tests/unit/script.h"
#include "tests/unit/views.h"

static void fail(struct views *views, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void fail(struct views *views, const char *format, ...)
{
	if (*views->problem) {
		return;
	}
	va_list args;
	va_start(args, format);
	vsnprintf(views->problem, sizeof(views->problem), format, args);
	va_end(args);
}

void views_done(struct views *views)
{
	for (size_t i = 0; i < views->n; i++) {
		imap_mailbox_free(views->list[i]);
		runs_done(&views->told[i]);
	}
}

struct imap_mailbox *views_find(struct views *views, const char *name)
{
	for (size_t i = 0; i < views->n; i++) {
		if (strcmp(views->list[i]->name, name) == 0) {
			return views->list[i];
		}
	}
	if (views->n == VIEWS_MAX) {
		abort();
	}
	runs_init(&views->told[views->n]);
	views->list[views->n] = imap_mailbox_new(name);
	return views->list[views->n++];
}

static struct runs *told_of(struct views *views, const struct imap_mailbox *view)
{
	for (size_t i = 0; i < views->n; i++) {
		if (views->list[i] == view) {
			return &views->told[i];
		}
	}
	abort();
}

/* -- what is known at first -- */

/* A message with these flags only, to ask a view for its value. */
static uint16_t value_of(struct imap_mailbox *view, char *flags)
{
	struct imap_message *message = imap_message_new();
	struct span list[16];
	message->flags = list;
	char *rest = NULL;
	if (strcmp(flags, "r") == 0) {
		flags = (char *)"\\Seen";
		list[message->n_flags++] = span_of(flags);
	} else if (strcmp(flags, "-") != 0) {
		for (char *flag = strtok_r(flags, ",", &rest); flag;
			flag = strtok_r(NULL, ",", &rest)) {
			list[message->n_flags++] = span_of(flag);
		}
	}
	int value = imap_mailbox_value(view, message);
	imap_message_free(message);
	return value;
}

/* UIDS=FLAGS */
static void restore_messages(struct views *views, struct imap_mailbox *view, char *word)
{
	char *flags = strchr(word, '=');
	struct runs set;
	struct run part;
	runs_init(&set);
	*flags++ = '\0';
	script_parse_set(word, &set);
	uint16_t value = value_of(view, flags);
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&set, n, &part);
		n = (uint64_t)part.last + 1) {
		imap_mailbox_put(view, part.first, part.last, value);
		runs_set(told_of(views, view), part.first, part.last, 0);
	}
	runs_done(&set);
}

void views_restore(struct views *views, char *words)
{
	char *rest = NULL;
	char *word = strtok_r(words, " ", &rest);
	struct imap_mailbox *view = views_find(views, word);
	while ((word = strtok_r(NULL, " ", &rest))) {
		if (strncmp(word, "uidvalidity=", 12) == 0) {
			view->cursor.uidvalidity = strtoul(word + 12, NULL, 10);
		} else if (strncmp(word, "watermark=", 10) == 0) {
			view->cursor.watermark = strtoul(word + 10, NULL, 10);
		} else if (strncmp(word, "uidnext=", 8) == 0) {
			view->uidnext = strtoul(word + 8, NULL, 10);
		} else if (strncmp(word, "modseq=", 7) == 0) {
			view->cursor.highestmodseq = strtoull(word + 7, NULL, 10);
		} else if (strcmp(word, "flags") == 0) {
			view->cursor.has_flags = true;
		} else if (strcmp(word, "all") == 0) {
			view->announce_all = true;
		} else if (strncmp(word, "told=", 5) == 0) {
			char *modseq = NULL;
			uint32_t uid = strtoul(word + 5, &modseq, 10);
			imap_mailbox_note_told(view, uid, strtoull(modseq + 1, NULL, 10));
		} else {
			restore_messages(views, view, word);
		}
	}
}

/* -- what is told -- */

static void take_message(
	struct views *views, struct runs *told, const struct imap_event *event, size_t i)
{
	uint32_t uid = event->messages[i]->uid;
	bool is_known = runs_get(told, uid, NULL);
	if (event->n_messages > 1000 ||
		(event->kind == IMAP_EVENT_NEW && event->n_messages > 100)) {
		fail(views, "%zu messages in one event", event->n_messages);
	}
	if (i > 0 && event->messages[i - 1]->uid >= uid) {
		fail(views, "messages are not by ascending UID");
	}
	bool is_stray = event->kind == IMAP_EVENT_FLAGS && !is_known && views->has_strays;
	if (!is_stray && is_known != (event->kind == IMAP_EVENT_FLAGS)) {
		fail(views, "message %u of %s was %stold before", uid, event->mailbox->name,
			is_known ? "" : "not ");
	}
	runs_set(told, uid, uid, 0);
}

static void take_baseline(struct runs *told, const struct runs *baseline)
{
	struct run part;
	runs_done(told);
	runs_init(told);
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(baseline, n, &part);
		n = (uint64_t)part.last + 1) {
		runs_set(told, part.first, part.last, 0);
	}
}

static void take_expunged(struct views *views, struct runs *told, const struct runs *uids)
{
	struct run part;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(uids, n, &part);
		n = (uint64_t)part.last + 1) {
		uint64_t n_told = runs_count(told);
		runs_unset(told, part.first, part.last);
		if (n_told - runs_count(told) != (uint64_t)part.last - part.first + 1) {
			fail(views, "messages %u to %u are gone, but not all were told", part.first,
				part.last);
		}
	}
}

void views_take(struct views *views, const struct imap_event *event)
{
	struct runs *told = event->mailbox ? told_of(views, event->mailbox) : NULL;
	if (event->kind == IMAP_EVENT_NEW || event->kind == IMAP_EVENT_FLAGS) {
		for (size_t i = 0; i < event->n_messages; i++) {
			take_message(views, told, event, i);
		}
	} else if (event->kind == IMAP_EVENT_BASELINE) {
		take_baseline(told, &event->baseline);
	} else if (event->kind == IMAP_EVENT_EXPUNGED) {
		take_expunged(views, told, &event->uids);
	} else if (event->kind == IMAP_EVENT_CLOSED) {
		views_check(views);
	}
}

static char *print_set(const struct runs *set)
{
	struct bytes text;
	bytes_init(&text);
	bytes_put_char(&text, ' ');
	if (runs_count(set) > 0) {
		imap_put_set(&text, set);
	}
	return bytes_steal(&text);
}

void views_check_one(struct views *views, size_t index)
{
	const struct imap_mailbox *view = views->list[index];
	if (view->cursor.uidvalidity == 0 && runs_count(&view->messages) == 0) {
		return; /* a baseline is under way, which will say what is void */
	}
	char *in_view = print_set(&view->messages);
	char *in_events = print_set(&views->told[index]);
	uint64_t n_unread = 0;
	struct run part;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&view->messages, n, &part);
		n = (uint64_t)part.last + 1) {
		if (!imap_mailbox_is_read(view, part.value)) {
			n_unread += (uint64_t)part.last - part.first + 1;
		}
	}
	if (strcmp(in_view, in_events) != 0) {
		fail(views, "the view of %s holds%.300s, but told were%.300s", view->name, in_view,
			in_events);
	} else if (n_unread != view->n_unread) {
		fail(views, "%llu messages of %s are unread, not %llu",
			(unsigned long long)n_unread, view->name,
			(unsigned long long)view->n_unread);
	}
	free(in_view);
	free(in_events);
}

void views_check(struct views *views)
{
	for (size_t i = 0; i < views->n; i++) {
		views_check_one(views, i);
	}
}
