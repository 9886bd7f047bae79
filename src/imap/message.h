/* What a server said of one message in FETCH responses, undecoded: octets as they came. RFC 9051
 * section 7.5.2, RFC 3501 section 7.4.2, RFC 8970 (PREVIEW), RFC 8474 (OBJECTID), RFC 7162
 * (MODSEQ), and Gmail's X-GM-* items. Decoding is mime/'s task.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/bytes.h"

/* Which members of struct imap_message a server has given; also what a request asks for. */
enum imap_item {
	IMAP_ITEM_UID = 1 << 0,
	IMAP_ITEM_FLAGS = 1 << 1,
	IMAP_ITEM_INTERNALDATE = 1 << 2,
	IMAP_ITEM_SIZE = 1 << 3,
	IMAP_ITEM_ENVELOPE = 1 << 4,
	IMAP_ITEM_BODYSTRUCTURE = 1 << 5,
	IMAP_ITEM_PREVIEW = 1 << 6, /* given, but data NULL: the server has none (NIL) */
	IMAP_ITEM_MODSEQ = 1 << 7,
	IMAP_ITEM_EMAIL_ID = 1 << 8,
	IMAP_ITEM_THREAD_ID = 1 << 9,
	IMAP_ITEM_GM_MSGID = 1 << 10,
	IMAP_ITEM_GM_THRID = 1 << 11,
	IMAP_ITEM_GM_LABELS = 1 << 12,
};

/* One address structure of an envelope. NIL is data NULL. RFC 9051 section 7.5.2: host NIL begins a
 * group (mailbox is its name) or ends one (mailbox NIL too). */
struct imap_address {
	struct span name;
	struct span mailbox;
	struct span host;
	struct imap_address *next;
};

struct imap_envelope {
	struct span date;
	struct span subject;
	struct imap_address *from;
	struct imap_address *sender;
	struct imap_address *reply_to;
	struct imap_address *to;
	struct imap_address *cc;
	struct imap_address *bcc;
	struct span in_reply_to;
	struct span message_id;
};

struct imap_parameter {
	struct span name;
	struct span value;
	struct imap_parameter *next;
};

/* A leaf of the body structure (a message/rfc822 part is a leaf too: what it contains is left out);
 * multiparts are not listed, but where a leaf stands is: in an alternative, as its n-th child. */
struct imap_part {
	struct span section; /* "1", "2.1": what stands in BODY[...] */
	struct span type;    /* "TEXT" in whatever case the server wrote */
	struct span subtype;
	struct imap_parameter
		*parameters;     /* of Content-Type; RFC 2231 forms are left as they are */
	struct span encoding;    /* Content-Transfer-Encoding */
	uint32_t size;           /* octets as they travel */
	struct span disposition; /* "attachment"; data NULL: none */
	struct imap_parameter *disposition_parameters;
	bool in_alternative; /* some multipart/alternative is above it */
	struct imap_part *next;
};

/* The data of a BODY[section] item. */
struct imap_section {
	struct span section; /* "1", "HEADER.FIELDS (SUBJECT)", "" for the whole message */
	struct span data;    /* data NULL: NIL, or `streamed` */
	bool streamed;       /* its octets went past as chunks */
	uint64_t size;       /* octets announced */
	struct imap_section *next;
};

#define IMAP_MESSAGE_SECTIONS_MAX 128

struct imap_message {
	struct arena arena; /* holds everything below, and the message itself is freed with it */
	unsigned int items; /* enum imap_item */
	uint32_t number;    /* message sequence number of the response; 0 in a UIDFETCH */
	uint32_t uid;
	uint16_t value; /* what imap_mailbox keeps of the flags, once it knows the message */
	uint64_t modseq;
	uint64_t size;
	int64_t internaldate; /* seconds since 1970 */
	struct span *flags;   /* as spelled by the server, without \Recent */
	size_t n_flags;
	struct imap_envelope envelope;
	struct imap_part *parts;
	struct span preview;
	struct span email_id;
	struct span thread_id;
	uint64_t gm_msgid;
	uint64_t gm_thrid;
	struct span *gm_labels;
	size_t n_gm_labels;
	struct imap_section *sections; /* at most IMAP_MESSAGE_SECTIONS_MAX, the rest is left out */
	size_t live; /* what arena.used was when all of it was in use: imap_message_merge() */
};

/* An empty message; NULL when out of memory. */
struct imap_message *imap_message_new(void);

/* NULL is allowed. Returns NULL. */
struct imap_message *imap_message_free(struct imap_message *message);

/* Adds what `from` has and `message` lacks (a server may answer in several responses for one
 * message); flags, modseq and sections of `from` win. Takes the memory of `from`, which is freed.
 */
void imap_message_merge(struct imap_message *message, struct imap_message *from);

/* Whether the flag is set; flags compare without regard to ASCII case. */
bool imap_message_has_flag(const struct imap_message *message, const char *flag);

/* The section, compared without regard to case, or NULL. Where header fields are asked for and none
 * is equal, the first one with other fields: servers may sort them. */
const struct imap_section *imap_message_section(
	const struct imap_message *message, const char *section);

/* The part that a person reads: the first text/plain that is no attachment, else the first
 * text/html that is none; NULL when there is neither. Whoever fetches a text and whoever decodes it
 * choose by this. */
const struct imap_part *imap_message_text_part(const struct imap_message *message);
