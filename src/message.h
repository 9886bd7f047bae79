/* A message as the bus shows it: what the server said (imap/message.h), decoded (mime/) to clean
 * UTF-8 by the rules of the message dictionary in the interface.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/message.h"

struct message_address {
	char *name;    /* display name, may be "" */
	char *address; /* local@domain, may be "" */
};

struct message_addresses {
	struct message_address *list;
	size_t n;
	bool is_present; /* the message has this header */
};

struct message_attachment {
	char *file_name;  /* may be "" */
	char *media_type; /* lower case */
	uint64_t size;
};

/* What a caller can ask for; UID and UIDVALIDITY are always there. */
enum message_item {
	MESSAGE_ENVELOPE = 1 << 0,
	MESSAGE_FLAGS = 1 << 1,
	MESSAGE_RECEIVED = 1 << 2,
	MESSAGE_SIZE = 1 << 3,
	MESSAGE_PREVIEW = 1 << 4,
	MESSAGE_TEXT = 1 << 5,
	MESSAGE_ATTACHMENTS = 1 << 6,
	MESSAGE_IDENTITY = 1 << 7,
	MESSAGE_DEFAULT = MESSAGE_ENVELOPE | MESSAGE_FLAGS | MESSAGE_RECEIVED | MESSAGE_SIZE,
};

/* Strings and lists are owned by the message; NULL: the message lacks it. */
struct message {
	uint32_t uid;
	uint32_t uidvalidity;
	bool is_moved; /* a Move of ours brought it into the mailbox: nobody is to be notified */
	char **flags;  /* without \Recent; NULL-terminated; NULL: not known */
	char *subject;
	struct message_addresses from, sender, reply_to, to, cc, bcc;
	bool has_date, has_received, has_size;
	int64_t date;     /* seconds since 1970 */
	int64_t received; /* seconds since 1970 */
	uint64_t size;
	char *message_id;
	char *in_reply_to;
	char *preview;
	char *text;
	bool has_attachments;
	struct message_attachment *attachments;
	size_t n_attachments;
	char *email_id;
	char *thread_id;
	char **labels; /* NULL-terminated; NULL: not Gmail */
};

/* The item of this name ("envelope"), 0 for an unknown one. */
enum message_item message_item_from_name(const char *name);

/* What to ask the engine for, so that message_new() can give the items: enum imap_item and
 * IMAP_FETCH_*. */
unsigned int message_imap_items(unsigned int items);

/* Decodes the items asked for. raw is borrowed for the call. NULL when out of memory. */
struct message *message_new(
	const struct imap_message *raw, uint32_t uidvalidity, unsigned int items);

/* NULL is allowed. Returns NULL. */
struct message *message_free(struct message *message);

/* How many octets it takes, about the same in memory and on the bus: for limits. */
size_t message_size(const struct message *message);
