/* The views of a conversation by their names, and what the events told of each. What is wrong with
 * either is kept in words: a message is told as new once, and as gone only if it was told before; a
 * view holds what was told and nothing else. For tests: out of memory it aborts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imap/client.h"

enum {
	VIEWS_MAX = 16,
};

/* Begins as zeros. */
struct views {
	struct imap_mailbox *list[VIEWS_MAX];
	struct runs told[VIEWS_MAX]; /* of each view: the messages that were told */
	size_t n;
	bool has_strays;   /* flags may be told of messages that were never told */
	char problem[900]; /* the first one; "": none */
};

void views_done(struct views *views);

/* A new one where there is none of this name; borrowed. */
struct imap_mailbox *views_find(struct views *views, const char *name);

/* The words of a "known" line, which are torn apart. */
void views_restore(struct views *views, char *words);

void views_take(struct views *views, const struct imap_event *event);

/* Whenever everything must have been told: of one view, or of all. */
void views_check_one(struct views *views, size_t index);
void views_check(struct views *views);
