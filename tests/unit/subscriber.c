#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/subscriber.h"

static void fail(struct subscriber *subscriber, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void fail(struct subscriber *subscriber, const char *format, ...)
{
	if (*subscriber->problem) {
		return;
	}
	va_list args;
	va_start(args, format);
	vsnprintf(subscriber->problem, sizeof(subscriber->problem), format, args);
	va_end(args);
}

static unsigned int flags_of(const struct imap_message *message)
{
	unsigned int flags = 0;
	for (size_t i = 0; i < IMAP_SERVER_FLAGS; i++) {
		if (imap_message_has_flag(message, imap_server_flags[i])) {
			flags |= 1u << i;
		}
	}
	return flags;
}

/* Flags at a baseline: the view has them where the server has no CONDSTORE; else they are those
 * that the server showed, from which it tells every change. */
static unsigned int baseline_flags(
	const struct imap_mailbox *view, const struct imap_server *server, uint32_t uid)
{
	uint16_t value = 0;
	unsigned int flags = 0;
	runs_get(&view->messages, uid, &value);
	const char *set = imap_mailbox_flag_set(view, value);
	for (size_t i = 0; set && i < IMAP_SERVER_FLAGS; i++) {
		flags |= strstr(set, imap_server_flags[i]) ? 1u << i : 0;
	}
	for (size_t i = 0; !set && i < server->n_told; i++) {
		flags |= server->told[i].uid == uid ? server->told[i].flags : 0;
	}
	return flags;
}

static void take_baseline(struct subscriber *subscriber, const struct imap_mailbox *view,
	const struct imap_server *server, const struct runs *baseline)
{
	struct run run;
	memset(subscriber->is_known, 0, sizeof(subscriber->is_known));
	memset(subscriber->was_new, 0, sizeof(subscriber->was_new));
	memset(subscriber->flags, 0, sizeof(subscriber->flags));
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(baseline, n, &run);
		n = (uint64_t)run.last + 1) {
		for (uint32_t uid = run.first; uid <= run.last; uid++) {
			subscriber->is_known[uid] = true;
			subscriber->was_new[uid] = true;
			subscriber->flags[uid] = baseline_flags(view, server, uid);
		}
	}
}

static void take_message(
	struct subscriber *subscriber, const struct imap_message *message, bool is_new)
{
	uint32_t uid = message->uid;
	if (is_new && subscriber->was_new[uid]) {
		fail(subscriber, "message %u was announced twice", uid);
	} else if (!is_new && !subscriber->is_known[uid]) {
		fail(subscriber, "flags of message %u, which is not known", uid);
	}
	if (!is_new && subscriber->flags[uid] == flags_of(message)) {
		subscriber->n_repeated++;
	}
	subscriber->is_known[uid] = subscriber->was_new[uid] = true;
	subscriber->flags[uid] = flags_of(message);
}

static void take_expunged(struct subscriber *subscriber, const struct runs *uids)
{
	struct run run;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(uids, n, &run);
		n = (uint64_t)run.last + 1) {
		for (uint32_t uid = run.first; uid <= run.last; uid++) {
			if (!subscriber->is_known[uid]) {
				fail(subscriber, "message %u is gone, which is not known", uid);
			}
			subscriber->is_known[uid] = false;
		}
	}
}

void subscriber_take(struct subscriber *subscriber, const struct imap_mailbox *view,
	const struct imap_server *server, const struct imap_event *event)
{
	bool is_of_messages = event->kind == IMAP_EVENT_NEW || event->kind == IMAP_EVENT_FLAGS;
	bool is_change = is_of_messages || event->kind == IMAP_EVENT_EXPUNGED ||
		event->kind == IMAP_EVENT_BASELINE;
	if (is_change && subscriber->is_settled) {
		fail(subscriber, "something is told (%d) after all was told", event->kind);
	}
	if (event->kind == IMAP_EVENT_BASELINE) {
		take_baseline(subscriber, view, server, &event->baseline);
	} else if (event->kind == IMAP_EVENT_EXPUNGED) {
		take_expunged(subscriber, &event->uids);
	}
	for (size_t i = 0; is_of_messages && i < event->n_messages; i++) {
		take_message(subscriber, event->messages[i], event->kind == IMAP_EVENT_NEW);
	}
}

bool subscriber_check_message(
	struct subscriber *subscriber, const struct imap_server_message *message)
{
	if (!subscriber->is_known[message->uid]) {
		fail(subscriber, "message %u was never told", message->uid);
	} else if (subscriber->flags[message->uid] != message->flags) {
		fail(subscriber, "flags of message %u: %x, but told was %x", message->uid,
			message->flags, subscriber->flags[message->uid]);
	}
	return !*subscriber->problem;
}

bool subscriber_check_gone(struct subscriber *subscriber, const struct imap_server_mailbox *mailbox)
{
	for (uint32_t uid = 1; uid < SUBSCRIBER_UIDS; uid++) {
		if (subscriber->is_known[uid] && !imap_server_find(mailbox, uid)) {
			fail(subscriber, "message %u is gone, and nobody was told", uid);
		}
	}
	return !*subscriber->problem;
}
