/* The IMAP client engine of one connection, pure: octets and time in; octets, events and one
 * deadline out. No socket, no clock, no globals. RFC 9051 and 3501; 2177 (IDLE), 5161 (ENABLE),
 * 7162 (CONDSTORE, QRESYNC), 4731 (ESEARCH), 4315 (UIDPLUS), 6851 (MOVE), 6154 (SPECIAL-USE), 2342
 * (NAMESPACE), 2971 (ID), 4959 (SASL-IR), 7888 (LITERAL+, LITERAL-), 6855 (UTF8=ACCEPT), 4978
 * (COMPRESS), 8970 (PREVIEW), 8474 (OBJECTID), 5465 (NOTIFY, together with IDLE).
 *
 * It logs in, opens the mailbox it is to watch (EXAMINE), synchronises its view with the server,
 * and idles; everything that is wanted in between leaves IDLE by one path: DONE, a look for news,
 * what is wanted, IDLE. A mailbox other than the watched one is visited: opened, synchronised,
 * served; then the watched one is opened again. It never sends CLOSE, never sets \Seen by a fetch.
 *
 * Down is a call, up is an event: pop imap_client_next_event() until NULL after every receive, tick
 * or intent; then send imap_client_output(), then arm imap_client_deadline().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imap/mailbox.h"
#include "imap/memory.h"
#include "imap/message.h"
#include "imap/response.h"
#include "imap/sasl.h"
#include "util/bytes.h"
#include "util/failure.h"
#include "util/runs.h"

enum imap_transport {
	IMAP_TRANSPORT_TLS,      /* TLS from the start */
	IMAP_TRANSPORT_STARTTLS, /* in the clear; STARTTLS is the first command, and nothing but TLS
				    will do */
	IMAP_TRANSPORT_PLAIN,    /* to loopback: credentials may go in the clear */
	IMAP_TRANSPORT_TUNNEL,   /* a proxy command without TLS: PREAUTH is welcome, too */
};

struct imap_client_options {
	enum imap_transport transport;
	const char
		*auth; /* "auto", "login", or a mechanism's canonical name. Borrowed for the call */
	enum imap_secret_kind secret_kind;
	bool without_plus;           /* a PLUS mechanism failed here before */
	uint64_t seed;               /* chance: the tags' prefix comes from it */
	uint64_t idle_timeout_usec;  /* IDLE is renewed this often */
	uint64_t poll_interval_usec; /* how often to look where IDLE is missing */
	bool preview;                /* NEW events carry what `Preview` needs */
	bool compress;
	const struct imap_limits *limits; /* NULL: imap_limits_default. Copied */
	/* What is known from the connection before; copied. NULL: nothing. */
	const struct imap_memory *memory;
	bool is_login_alone; /* it does not bear anything behind a login */
	bool is_stepwise;    /* the server does not bear several commands at a time */
	uint64_t bad_alone; /* ... but to these it says BAD in any case: see imap_client_bad_alone()
			     */
};

enum imap_state {
	IMAP_STATE_GREETING,
	IMAP_STATE_STARTTLS,
	IMAP_STATE_CAPABILITY,
	IMAP_STATE_AUTHENTICATE,
	IMAP_STATE_COMPRESS,
	IMAP_STATE_ENABLE,
	IMAP_STATE_READY, /* logged in, nothing to watch */
	IMAP_STATE_EXAMINE,
	IMAP_STATE_SYNCHRONISE,
	IMAP_STATE_IDLE_REQUESTED,
	IMAP_STATE_IDLING, /* also where polling stands in, and during a renewal without news */
	IMAP_STATE_IDLE_ENDING,
	IMAP_STATE_FETCHING, /* a request is being served */
	IMAP_STATE_LOGOUT,
	IMAP_STATE_CLOSED,
};

const char *imap_state_name(enum imap_state state);

enum imap_event_kind {
	/* imap_client_state() is another one than at the event before. */
	IMAP_EVENT_STATE,
	/* Begin TLS now, then call imap_client_secured(). */
	IMAP_EVENT_START_TLS,
	/* Deflate both ways from the next octet on, then call imap_client_compressed(); octets that
	 * imap_client_receive() did not consume are the first of the deflated ones. */
	IMAP_EVENT_START_DEFLATE,
	/* Call imap_client_credentials(). */
	IMAP_EVENT_CREDENTIALS,
	/* Logged in; capabilities are known. */
	IMAP_EVENT_READY,
	/* mailbox: its messages are a new silent baseline (already in the view). is_reset: there
	 * was another one before, every UID known is void. */
	IMAP_EVENT_BASELINE,
	/* mailbox, messages: 1 to 100 that are new, by ascending UID, already in the view. A
	 * message whose data the server refuses has IMAP_ITEM_UID alone. */
	IMAP_EVENT_NEW,
	/* mailbox, messages: UID, flags, value (and modseq) of known messages that changed. */
	IMAP_EVENT_FLAGS,
	/* mailbox, uids: known messages that are gone. */
	IMAP_EVENT_EXPUNGED,
	/* mailbox, cursor: the view equals the server's mailbox, all changes have been told before.
	 */
	IMAP_EVENT_SYNCHRONISED,
	/* mailbox, failure: it cannot be opened; the connection stays. If it is the watched one,
	 * the state is READY and nothing is watched until imap_client_watch(). */
	IMAP_EVENT_MAILBOX_FAILED,
	/* is_in_force: NOTIFY came into force (also anew, for other mailboxes), or is over for this
	 * connection: refused, an overflow, data that did not come. What changed in the other
	 * mailboxes may have been missed then. */
	IMAP_EVENT_NOTIFY,
	/* list_name, elsewhere: another mailbox than the open one has changed, in any way that
	 * NOTIFY tells; several changes within a turn are one event. Also, once, the state of each
	 * when NOTIFY comes into force. */
	IMAP_EVENT_CHANGED_ELSEWHERE,
	/* id, list: answer to imap_client_list(), followed by DONE. */
	IMAP_EVENT_LISTED,
	/* id, messages (one): a piece of the answer to imap_client_fetch(), in UID order. */
	IMAP_EVENT_MESSAGE,
	/* id, chunk, chunk_total: a piece of the answer to imap_client_fetch_raw(), in order. */
	IMAP_EVENT_CHUNK,
	/* id, moved_*: UIDs in the target mailbox where the server told (COPYUID); before DONE. */
	IMAP_EVENT_MOVED,
	/* id, failure (kind NONE: done as wanted): the last event of a request. */
	IMAP_EVENT_DONE,
	/* failure: the connection is over (NONE: after logout, as wanted). The last event. Requests
	 * have had no DONE: the owner gives them to another connection or ends them. */
	IMAP_EVENT_CLOSED,
};

/* What kind of end it was, beside its failure: decides about waiting. */
enum imap_end {
	IMAP_END_ORDINARY,
	IMAP_END_CREDENTIALS, /* refused: AuthenticationFailed */
	IMAP_END_THROTTLED,   /* [UNAVAILABLE], throttling: wait long; retry_after_usec may say how
				 long */
	IMAP_END_LIMIT,       /* too many connections: use fewer */
	IMAP_END_STUMBLED,    /* over several commands at a time: nobody's error, see
				 imap_client_stumble() */
	IMAP_END_TOKEN, /* BYE that says that the access token expired: fetch one, reconnect at once
			 */
};

struct imap_list_item {
	char *name; /* UTF-8 */
	char delimiter;
	char **attributes; /* as spelled by the server */
	size_t n_attributes;
	bool is_selectable;
};

/* What the server said of a mailbox that is not open. */
struct imap_elsewhere {
	bool is_push; /* because it changed; else as its state when NOTIFY came into force, which
		       * may be the one that is known */
	bool has_messages;
	uint32_t messages;
	uint32_t uidvalidity, uidnext; /* 0: not said */
	uint64_t highestmodseq;        /* 0: not said */
};

/* Valid until the next call of imap_client_next_event(). What it points to may be taken by setting
 * the pointer to NULL (messages one by one). */
struct imap_event {
	enum imap_event_kind kind;
	struct imap_mailbox *mailbox; /* borrowed */
	uint64_t id;
	bool is_reset;
	bool is_in_force; /* NOTIFY */
	struct imap_message **messages;
	size_t n_messages;
	struct runs uids;     /* EXPUNGED; MOVED: the UIDs in the target */
	struct runs baseline; /* BASELINE: UID to value, a copy as of now */
	struct imap_cursor cursor;
	struct imap_list_item *list;
	size_t n_list;
	char *list_name; /* CHANGED_ELSEWHERE: in UTF-8 */
	struct imap_elsewhere elsewhere;
	struct span chunk;
	uint64_t chunk_total;
	uint32_t moved_uidvalidity;
	char *moved_target; /* name in UTF-8 */
	struct failure failure;
	enum imap_end end;
	uint64_t retry_after_usec; /* CLOSED: 0 or what the server asked for */
};

struct imap_client;

/* options are copied. The connection has just been made (for implicit TLS: the handshake is done):
 * the greeting is due within 30 s. NULL when out of memory. */
struct imap_client *imap_client_new(const struct imap_client_options *options, uint64_t now);

/* NULL is allowed. Wipes what was secret. Views that it showed stay. Returns NULL. */
struct imap_client *imap_client_free(struct imap_client *client);

/* -- the wire -- */

/* Takes octets from the server, all but what follows a change of transport. Owner errors do not
 * exist: what is wrong with them comes as IMAP_EVENT_CLOSED. */
size_t imap_client_receive(struct imap_client *client, const void *data, size_t len, uint64_t now);

/* The server ended the stream, or the network did: failure says why (copied). */
void imap_client_disconnected(
	struct imap_client *client, const struct failure *failure, uint64_t now);

/* What is to be sent, empty for nothing. Valid until any other call. */
struct span imap_client_output(const struct imap_client *client);

/* So many octets of it have been taken by the stream. */
void imap_client_sent(struct imap_client *client, size_t len, uint64_t now);

/* The next event, or NULL. */
struct imap_event *imap_client_next_event(struct imap_client *client);

/* When imap_client_tick() is due: µs, USEC_NEVER. slack: it may be so much later. */
uint64_t imap_client_deadline(const struct imap_client *client, uint64_t *ret_slack);
void imap_client_tick(struct imap_client *client, uint64_t now);

/* The conversation is appended to trace (borrowed, may be NULL) as lines "C: ..." and "S: ...",
 * without credentials and literals' contents. The owner empties it. */
void imap_client_set_trace(struct imap_client *client, struct bytes *trace);

/* -- answers -- */

void imap_client_secured(struct imap_client *client, uint64_t now);
void imap_client_compressed(struct imap_client *client, uint64_t now);

/* The secret is copied and wiped as soon as it is not needed. */
void imap_client_credentials(
	struct imap_client *client, const struct imap_credentials *credentials, uint64_t now);

/* -- intents; after CLOSED they do nothing. Mailboxes are borrowed until they are dropped, uids are
 * copied. id: not 0, unique among the requests of the client that have had no DONE. 0 or -ENOMEM.
 * -- */

/* From now on this mailbox is watched (NULL: none). */
int imap_client_watch(struct imap_client *client, struct imap_mailbox *mailbox, uint64_t now);

/* Beside the watched one these mailboxes (names in UTF-8, copied; n 0: none) are to be watched by
 * NOTIFY, where the server has it; names that make the list too long are left out, the last ones
 * first. 0 or -ENOMEM. */
int imap_client_watch_others(
	struct imap_client *client, const char *const *names, size_t n, uint64_t now);

/* Forgets the mailbox: nothing refers to it afterwards. If it is open, the connection ends by
 * logout unless another one is watched. Its requests end without DONE. */
void imap_client_drop(struct imap_client *client, struct imap_mailbox *mailbox, uint64_t now);

/* Until the release intents are only gathered: what they want leaves in one flight. */
void imap_client_hold(struct imap_client *client);
void imap_client_release(struct imap_client *client, uint64_t now);

/* Synchronises: DONE comes when the view is the server's as of some instant after the call. A
 * mailbox that is not open is asked by STATUS first where that tells enough. */
int imap_client_refresh(
	struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox, uint64_t now);

/* The same for a mailbox that is known to have changed: it is opened without being asked first. */
int imap_client_visit(
	struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox, uint64_t now);

/* Whether imap_client_refresh() would ask this mailbox by STATUS, which is cheap. */
bool imap_client_asks_first(const struct imap_client *client, const struct imap_mailbox *mailbox);

/* What imap_client_fetch() may ask beside enum imap_item: octets of the readable text part, in
 * `sections`, with the parts in `parts`. IMAP_ITEM_PREVIEW: the server's own, and where it has none
 * the beginning of the text part. */
enum {
	IMAP_FETCH_TEXT = 1 << 30,     /* up to 256 KiB as they travel */
	IMAP_FETCH_PREVIEW = 1 << 29,  /* PREVIEW, else up to 8 KiB of the text part */
	IMAP_FETCH_IDENTITY = 1 << 28, /* EMAILID, THREADID or Gmail's, as the server has them */
};

int imap_client_fetch(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, unsigned int items, uint64_t now);

/* FAILURE_NO_SUCH_MESSAGE when it is gone. */
int imap_client_fetch_raw(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	uint32_t uid, uint64_t now);

/* Each flag passes imap_is_flag(). FLAGS events come before DONE. */
int imap_client_store(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, const char *const *add, size_t n_add, const char *const *remove,
	size_t n_remove, uint64_t now);

/* target: a mailbox name in UTF-8, or a special use ("\Archive"). */
int imap_client_move(struct imap_client *client, uint64_t id, struct imap_mailbox *mailbox,
	const struct runs *uids, const char *target, uint64_t now);

/* pattern in UTF-8 as in LIST. */
int imap_client_list(struct imap_client *client, uint64_t id, const char *pattern, uint64_t now);

/* The request is forgotten: no event of it comes any more (what is on the wire is thrown away). A
 * SetFlags or Move that is on the wire takes effect all the same. */
void imap_client_cancel(struct imap_client *client, uint64_t id, uint64_t now);

/* DONE if need be, LOGOUT, then CLOSED; within 2 s. */
void imap_client_logout(struct imap_client *client, uint64_t now);

/* Asks for a proof of life: an idling connection leaves IDLE, and the server must answer something
 * within 5 s (from the last octet on, while an answer is on its way). Asking again meanwhile gives
 * no more time. */
void imap_client_probe(struct imap_client *client, uint64_t now);

/* -- questions -- */

enum imap_state imap_client_state(const struct imap_client *client);

/* Whether pushes are seen by IDLE; false where polling stands in. Known from READY on. */
bool imap_client_has_idle(const struct imap_client *client);

/* Whether NOTIFY is in force on this connection. */
bool imap_client_has_notify(const struct imap_client *client);

/* Whether it is in force, or will be when a mailbox is being watched: the server offers it together
 * with IDLE and has not failed at it. Known from READY on. */
bool imap_client_may_notify(const struct imap_client *client);

/* Whether changes of this mailbox, one of imap_client_watch_others(), are being told. */
bool imap_client_notifies(const struct imap_client *client, const char *name);

/* Capability words, upper case, in the server's order; valid until the next receive. */
size_t imap_client_capabilities(const struct imap_client *client, const struct span **ret_words);

bool imap_client_has_capability(const struct imap_client *client, const char *capability);

/* The mechanism that logged us in ("LOGIN" for the command); NULL before. */
const char *imap_client_mechanism(const struct imap_client *client);

/* Whether a PLUS mechanism was refused and another one taken. */
bool imap_client_plus_failed(const struct imap_client *client);

/* What was learnt for the next connection, moved to memory; from READY on, once. It may be nothing.
 */
void imap_client_take_memory(struct imap_client *client, struct imap_memory *memory);

enum imap_stumble {
	IMAP_STUMBLE_NONE,
	IMAP_STUMBLE_HUNG,     /* nothing of a flight was answered in time: nobody knows why */
	IMAP_STUMBLE_LIKELY,   /* it fell silent after it had answered a part of one */
	IMAP_STUMBLE_AT_LOGIN, /* over what was sent together with a login */
	IMAP_STUMBLE_CERTAIN,
};

/* Whether the server stumbled over several commands at a time. ret_kind: 0 or what it said BAD to.
 */
enum imap_stumble imap_client_stumble(const struct imap_client *client, uint64_t *ret_kind);

/* What a server that is asked command by command has said BAD to: if that is what it stumbled over
 * before, it did not stumble. */
uint64_t imap_client_bad_alone(const struct imap_client *client);

/* µs of time in IDLE since the mailbox was last opened and synchronised; 0 when not idling. */
uint64_t imap_client_idling_since(const struct imap_client *client);

/* The prefix of personal mailboxes by NAMESPACE in UTF-8 ("INBOX."); "" for none. */
const char *imap_client_namespace(const struct imap_client *client);

/* Whether the mailbox's view holds nothing that was not told by events, all of them popped. */
bool imap_client_has_told(const struct imap_client *client, const struct imap_mailbox *mailbox);

/* The mailbox that is open, or NULL. */
struct imap_mailbox *imap_client_mailbox(const struct imap_client *client);
