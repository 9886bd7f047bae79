/* What somebody knows who believes the events of a client, and what was wrong with them: messages
 * announced twice, or gone that were never told. For tests against the model of a server.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imap/client.h"
#include "tests/unit/imap_server.h"

enum {
	SUBSCRIBER_UIDS = 2 * IMAP_SERVER_MESSAGES,
};

/* Begins as zeros. */
struct subscriber {
	bool is_known[SUBSCRIBER_UIDS];
	bool was_new[SUBSCRIBER_UIDS];
	unsigned int flags[SUBSCRIBER_UIDS]; /* as in struct imap_server_message */
	size_t n_repeated;                   /* flags told that were known */
	bool is_settled;                     /* nothing may be told any more */
	char problem[200];                   /* the first one; "": none */
};

/* view, server: those of the client which told the event. */
void subscriber_take(struct subscriber *subscriber, const struct imap_mailbox *view,
	const struct imap_server *server, const struct imap_event *event);

/* Whether the message is known as it is; else the problem is set. */
bool subscriber_check_message(
	struct subscriber *subscriber, const struct imap_server_message *message);

/* Whether nothing is known that the mailbox does not have; else the problem is set. */
bool subscriber_check_gone(
	struct subscriber *subscriber, const struct imap_server_mailbox *mailbox);
