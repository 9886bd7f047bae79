/* The server's half of the conversation: octets in, one parsed response at a time out. RFC 9051
 * section 9 and RFC 3501, with the responses of RFC 2177, 4731 (ESEARCH), 5161 (ENABLED), 7162
 * (CONDSTORE, QRESYNC), 5465 (NOTIFY), 2971 (ID), 2342 (NAMESPACE), 6154, 5258 (LIST).
 *
 * It never trusts a length and never knows a command: it says what was written. Responses, codes
 * and fetch items that it does not know are skipped without harm; a response that breaks the
 * grammar comes as IMAP_RESPONSE_INVALID and costs only itself; what breaks framing (a line or
 * literal beyond the limits, a NUL in a line) is an error of the connection.
 *
 * Sets of numbers (SEARCH, ESEARCH's ALL, VANISHED) of any length are handed on in pieces, so that
 * the line limit does not hold for them. The literal of a BODY[] item is handed on in chunks where
 * that is wanted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/message.h"
#include "util/bytes.h"
#include "util/failure.h"
#include "util/runs.h"

struct imap_limits {
	size_t line;      /* octets of a line, literals not counted: 65536; those of a FETCH may be
			   * as many as the response may have, since senders write them */
	size_t literal;   /* octets of a literal that is kept; a longer one is skipped and reads as
			   * NIL: 262144 */
	uint64_t skipped; /* octets of a literal that is skipped or streamed; more is an error of
			   * the connection: 2^31 */
	size_t response;  /* octets of a response with its kept literals, a literal for which the
			   * line leaves no room is skipped: 1 MiB */
	unsigned int depth; /* of parentheses in a body structure, what is deeper is left out: 32 */
	size_t list;        /* items in one list: 65536 */
	size_t flags;       /* of one message, the rest is left out: 128 */
	size_t flag_len;    /* octets of one flag, a longer one is left out: 128 */
	size_t memory;      /* octets that a response takes when it is read, what goes beyond is
			     * a bad item: 4 MiB. "()" makes an address, and takes 80 */
	uint32_t messages;  /* of a mailbox; one with more is not followed: 2^24 */
	size_t runs;        /* of neighbours, of all that is known of a mailbox and of what is
			     * being listed: 2^20 */
};

extern const struct imap_limits imap_limits_default;

enum imap_response_kind {
	IMAP_RESPONSE_INVALID,      /* text: what was wrong */
	IMAP_RESPONSE_UNKNOWN,      /* well-formed, not for us */
	IMAP_RESPONSE_CONTINUATION, /* text */
	IMAP_RESPONSE_TAGGED,       /* tag, status, code, text */
	IMAP_RESPONSE_STATUS_LINE,  /* untagged OK, NO, BAD, BYE, PREAUTH: status, code, text */
	IMAP_RESPONSE_CAPABILITY,   /* words */
	IMAP_RESPONSE_ENABLED,      /* words */
	IMAP_RESPONSE_FLAGS,        /* words */
	IMAP_RESPONSE_LIST,         /* list; LSUB and XLIST are UNKNOWN */
	IMAP_RESPONSE_STATUS,       /* mailbox_status */
	IMAP_RESPONSE_NAMESPACE,    /* namespace_prefix, namespace_delimiter: first personal one */
	IMAP_RESPONSE_ID,           /* words: name, value, name, value */
	IMAP_RESPONSE_SEARCH,       /* set, partial; modseq */
	IMAP_RESPONSE_ESEARCH,  /* search: correlator, is_uid, min, max, count, modseq; set, partial
				 */
	IMAP_RESPONSE_EXISTS,   /* number, may be 0 */
	IMAP_RESPONSE_RECENT,   /* number */
	IMAP_RESPONSE_EXPUNGE,  /* number, not 0 */
	IMAP_RESPONSE_VANISHED, /* set, partial, earlier */
	IMAP_RESPONSE_FETCH,    /* message (number not 0); also UIDFETCH of RFC 9586 */
	IMAP_RESPONSE_CHUNK, /* chunk: octets of a streamed BODY[] literal, chunk_total: its size;
			      * the FETCH that it belongs to follows, or an INVALID instead */
};

enum imap_status {
	IMAP_STATUS_OK,
	IMAP_STATUS_NO,
	IMAP_STATUS_BAD,
	IMAP_STATUS_BYE,
	IMAP_STATUS_PREAUTH,
};

enum imap_code {
	IMAP_CODE_NONE,
	IMAP_CODE_UNKNOWN,
	IMAP_CODE_ALERT,
	IMAP_CODE_ALREADYEXISTS,
	IMAP_CODE_AUTHENTICATIONFAILED,
	IMAP_CODE_AUTHORIZATIONFAILED,
	IMAP_CODE_BADEVENT,
	IMAP_CODE_CANNOT,
	IMAP_CODE_CAPABILITY, /* words */
	IMAP_CODE_CLIENTBUG,
	IMAP_CODE_CLOSED,
	IMAP_CODE_CONTACTADMIN,
	IMAP_CODE_COPYUID, /* number: UIDVALIDITY; code_source, code_target */
	IMAP_CODE_EXPIRED,
	IMAP_CODE_EXPUNGEISSUED,
	IMAP_CODE_HIGHESTMODSEQ, /* number */
	IMAP_CODE_INUSE,
	IMAP_CODE_LIMIT,
	IMAP_CODE_MODIFIED,
	IMAP_CODE_NOMODSEQ,
	IMAP_CODE_NONEXISTENT,
	IMAP_CODE_NOPERM,
	IMAP_CODE_NOTIFICATIONOVERFLOW,
	IMAP_CODE_OVERQUOTA,
	IMAP_CODE_PERMANENTFLAGS, /* words */
	IMAP_CODE_PRIVACYREQUIRED,
	IMAP_CODE_READ_ONLY,
	IMAP_CODE_READ_WRITE,
	IMAP_CODE_REFERRAL,
	IMAP_CODE_SERVERBUG,
	IMAP_CODE_TRYCREATE,
	IMAP_CODE_UIDNEXT, /* number; 0 when it is out of range */
	IMAP_CODE_UIDNOTSTICKY,
	IMAP_CODE_UIDVALIDITY, /* number; 0 when it is out of range */
	IMAP_CODE_UNAVAILABLE,
	IMAP_CODE_UNSEEN,
};

enum imap_mailbox_attribute {
	IMAP_MAILBOX_NOSELECT = 1 << 0, /* \Noselect or \NonExistent */
};

struct imap_list_entry {
	struct span name; /* as it stands on the wire: modified UTF-7 or UTF-8 */
	char delimiter;   /* 0: none */
	unsigned int attributes;
	struct span *words; /* every attribute as spelled: \HasNoChildren, \Sent */
	size_t n_words;
};

struct imap_mailbox_status {
	struct span name;
	bool has_messages, has_unseen, has_uidnext, has_uidvalidity, has_highestmodseq;
	uint32_t messages, unseen, uidnext, uidvalidity;
	uint64_t highestmodseq;
};

struct imap_search_result {
	struct span correlator; /* the tag; data NULL: none */
	bool is_uid;
	bool has_count, has_all;
	uint32_t min, max, count; /* 0: not said */
};

/* Everything it points to is valid until the next call of imap_parser_receive(). */
struct imap_response {
	enum imap_response_kind kind;
	struct span tag;
	enum imap_status status;
	enum imap_code code;
	uint64_t number;
	struct span text;
	struct span *words;
	size_t n_words;
	struct imap_list_entry list;
	struct imap_mailbox_status mailbox_status;
	struct span namespace_prefix;
	char namespace_delimiter;
	struct imap_search_result search;
	struct runs set; /* SEARCH, ESEARCH, VANISHED; ranges stay ranges, "*" is skipped */
	bool partial;    /* more pieces of the same response follow, or an INVALID that ends them */
	bool earlier;
	uint64_t modseq;                      /* SEARCH, ESEARCH; 0: not said */
	struct runs code_source, code_target; /* COPYUID (order is lost, as nobody needs it) */
	struct imap_message *message;         /* FETCH; may be taken (set to NULL) by the reader */
	struct span chunk;
	uint64_t chunk_total;
};

struct imap_parser;

/* NULL when out of memory. limits are copied. */
struct imap_parser *imap_parser_new(const struct imap_limits *limits);

/* NULL is allowed. Returns NULL. */
struct imap_parser *imap_parser_free(struct imap_parser *parser);

/* Whether literals of BODY[] (the whole message, also partial) come as chunks. */
void imap_parser_set_streaming(struct imap_parser *parser, bool streaming);

/* Takes octets up to the end of one response (or piece of one), never more, and says how many.
 * 1: *ret_response is valid until the next call; 0: more octets are needed (all were consumed);
 * negative errno: framing is lost, the connection is to be closed: -EPROTO, -EMSGSIZE (a limit),
 * -ENOMEM. imap_parser_problem() says it in words. */
int imap_parser_receive(struct imap_parser *parser, const void *data, size_t len,
	size_t *ret_consumed, const struct imap_response **ret_response);

const char *imap_parser_problem(const struct imap_parser *parser);

/* Whether the parser is in the middle of a response. */
bool imap_parser_is_midway(const struct imap_parser *parser);

/* Gives back the memory that a quiet parser does not need; the last response is void then. Does
 * nothing in the middle of one. */
void imap_parser_trim(struct imap_parser *parser);

const char *imap_code_name(enum imap_code code);
const char *imap_status_name(enum imap_status status);

/* Takes message out of a response of kind FETCH; the caller owns it. */
struct imap_message *imap_response_take_message(const struct imap_response *response);
