/* What the files of the client engine share, and nobody else: the client itself, its commands on
 * the wire, the requests of its owner, the open mailbox. See imap/client.h for what it is.
 *
 *   client.c   octets in and out, events, deadlines
 *   dispatch.c which part a response is for
 *   command.c  the queue of commands: tags, pipelining, continuations
 *   login.c    from the greeting to ENABLE
 *   logout.c   the last words
 *   guess.c    what is sent before it is certain that it will be wanted
 *   stumble.c  servers that do not bear several commands at a time
 *   open.c     EXAMINE, and what it takes until the view equals the server's mailbox
 *   follow.c   untagged data: EXISTS, EXPUNGE, VANISHED, FETCH applied to the view
 *   cycle.c    synchronise, idle, synchronise: which command comes next
 *   elsewhere.c  STATUS: what a mailbox that is not open looks like from outside
 *   notify.c   NOTIFY: what is pushed without being asked for
 *   request.c  fetch, store, move, list
 */
#pragma once

#include "imap/client.h"
#include "util/clock.h"
#include "util/list.h"

enum {
	NEW_MAIL_BATCH = 100, /* messages in one event */
	SCAN_BLOCK = 10000,   /* message numbers in one command of a scan */
	DIRECT_LOOK_MAX =
		200, /* more arrivals than that are first counted, then fetched in blocks */
	TEXT_OCTETS = 262144,      /* of a text part, as it travels */
	PREVIEW_OCTETS = 8192,     /* of a text part, for a preview */
	ARRIVALS_OCTETS = 4 << 20, /* held of arrivals, before they are told as they are */
	MAX_REFUSALS = 3,          /* then a message is announced with its identity alone */
	MAX_RESCANS = 3,           /* in a row, of a mailbox that does not add up */
	MAX_DOUBTS = 20, /* between two renewals, of numbers that were right all the same */
	QUICK_IDLES = 3, /* so many ended by the server at once: poll */
};

#define GREETING_USEC (30 * USEC_PER_SEC)
#define COMMAND_USEC  (60 * USEC_PER_SEC)
#define DONE_USEC     (15 * USEC_PER_SEC)
#define UNSENT_USEC   (15 * USEC_PER_SEC)
/* Between two looks at a new UIDVALIDITY: Courier's is the time in seconds. */
#define CONFIRM_USEC     (1100 * USEC_PER_MSEC)
#define PROBE_USEC       (5 * USEC_PER_SEC)
#define LOGOUT_USEC      (1200 * USEC_PER_MSEC)
#define QUICK_IDLE_USEC  (5 * USEC_PER_SEC)
#define QUICK_POLL_USEC  (2 * USEC_PER_MINUTE)
#define MAX_REPLY_OCTETS (24u << 20) /* what requests may hold before one is LimitExceeded */
#define MAX_LIST_OCTETS  (16u << 20) /* the same of a list of mailboxes */

enum command_kind {
	COMMAND_STARTTLS,
	COMMAND_CAPABILITY,
	COMMAND_AUTHENTICATE,
	COMMAND_LOGIN,
	COMMAND_COMPRESS,
	COMMAND_ID,
	COMMAND_NAMESPACE,
	COMMAND_ENABLE,
	COMMAND_OPEN,          /* EXAMINE or SELECT */
	COMMAND_SEARCH_ALL,    /* every UID, by ESEARCH */
	COMMAND_SEARCH_UNSEEN, /* the unread ones, by ESEARCH */
	COMMAND_FETCH_FLAGS,   /* UID and flags of a block of message numbers */
	COMMAND_FETCH_CHANGES, /* flags that changed since a modseq */
	COMMAND_NOOP,
	COMMAND_LOOK,       /* whatever has come since, with its data */
	COMMAND_LOOK_UIDS,  /* whatever has come since, without its data */
	COMMAND_LOOK_BLOCK, /* the data of some that have come */
	COMMAND_LOOK_PART,  /* their text, for previews */
	COMMAND_IDLE,
	COMMAND_NOTIFY_NONE, /* before it is said anew */
	COMMAND_NOTIFY,
	COMMAND_CHECK, /* STATUS of a mailbox that was left */
	COMMAND_STATUS,
	COMMAND_FETCH,
	COMMAND_FETCH_PART,
	COMMAND_FETCH_RAW,
	COMMAND_STORE,
	COMMAND_MOVE,
	COMMAND_COPY,
	COMMAND_MARK_DELETED,
	COMMAND_UID_EXPUNGE,
	COMMAND_LIST,
	COMMAND_LIST_SPECIAL, /* which mailbox has a special use */
	COMMAND_LOGOUT,
};

struct request;

struct command {
	struct list link; /* client->commands, in the order of sending */
	enum command_kind kind;
	uint32_t number;         /* of the tag */
	struct request *request; /* borrowed; NULL: none, or it was cancelled */
	struct bytes text;       /* of what is not yet in the output */
	struct bytes rest; /* of what follows a continuation request (a synchronising literal) */
	bool is_guess;     /* among client->guesses */
	bool is_sent;
	bool is_overtaken; /* a later one has been answered */
	bool in_company;   /* on the wire with others, unanswered */
	bool is_secret;    /* neither in traces nor left in memory */
	bool is_continued; /* IDLE: the "+" has come */
	bool is_disturbed; /* IDLE: a NOOP against silence comes in its midst */
	bool is_done;      /* IDLE: DONE is sent */
	struct runs uids;  /* LOOK_BLOCK, LOOK_PART: of which messages */
	uint64_t deadline;
};

enum request_kind {
	REQUEST_REFRESH,
	REQUEST_FETCH,
	REQUEST_FETCH_RAW,
	REQUEST_STORE,
	REQUEST_MOVE,
	REQUEST_LIST,
};

enum request_stage {
	REQUEST_QUEUED,
	REQUEST_STARTED, /* its first commands are on the wire, or a pass serves it */
	REQUEST_PARTS,   /* fetch: the text parts are being fetched */
	REQUEST_STATUS,  /* refresh of another mailbox: STATUS is on the wire */
	REQUEST_VISIT,   /* refresh of another mailbox: STATUS was not enough, open it */
};

struct request {
	struct list link; /* client->requests, in the order of asking */
	uint64_t id;
	enum request_kind kind;
	enum request_stage stage;
	struct imap_mailbox *mailbox; /* NULL for a list */
	struct runs uids;
	unsigned int items;
	char *add, *remove;             /* flag lists as they go on the wire; NULL: none */
	char *target;                   /* move: mailbox name; list: pattern; UTF-8 */
	struct imap_message **messages; /* what has come, by UID */
	size_t n_messages, n_messages_allocated;
	size_t octets;          /* held by messages */
	unsigned int n_pending; /* commands on the wire */
	bool has_raw;           /* fetch_raw: the message came */
	bool is_unchanged;      /* refresh: STATUS says that nothing happened */
	bool is_changed;        /* ... or that something did, which may have been a push */
	struct imap_list_item *list;
	size_t n_list, n_list_allocated;
	struct failure failure; /* the first */
};

/* How the view of the open mailbox is made equal to the server's. */
enum open_stage {
	OPEN_NOTHING,  /* no mailbox is open, or EXAMINE is on the wire */
	OPEN_SCAN,     /* the server's UIDs are being listed */
	OPEN_CHANGES,  /* CHANGEDSINCE */
	OPEN_FOLLOWED, /* the known messages are right; what is new is fetched by passes */
};

/* The mailbox that is open on the connection. */
struct open {
	struct imap_mailbox *mailbox; /* borrowed; NULL: none */
	enum open_stage stage;
	bool is_writable;
	bool wants_writable;  /* the EXAMINE on the wire is a SELECT */
	bool by_qresync;      /* EXAMINE carried QRESYNC */
	bool awaits_closed;   /* data may still be about the mailbox that was open before */
	bool has_listing;     /* OPEN_SCAN by search: the answer is there */
	bool listing_is_off;  /* ... but it lacked what went later */
	bool listing_grew;    /* it has messages that EXAMINE did not count */
	bool is_baseline;     /* the scan makes a new baseline */
	bool is_reset;        /* ... in place of an older one */
	bool is_synchronised; /* SYNCHRONISED was told since it was opened */
	bool wants_look;      /* EXISTS said more than is known */
	bool is_second_look;  /* the one before found less than EXISTS said */
	bool asks_first;      /* data was missing: NOOP goes before what asks for it again */
	bool owes_answer;     /* a look has begun that SYNCHRONISED was not told after */
	bool wants_scan;      /* the numbers do not add up */
	bool has_exists;
	uint32_t exists; /* messages on the server, as of the last response */
	uint32_t exists_at_look;
	uint32_t exists_at_listing; /* OPEN_SCAN by search: of the messages in the answer */
	uint32_t phantoms; /* the server counts them, but however it is asked it does not list them
			    */
	uint32_t uidvalidity, uidnext; /* as EXAMINE said; 0: not */
	uint32_t rewound_to;    /* UIDNEXT, where it is below what was told before; 0: it is not */
	uint64_t highestmodseq; /* as EXAMINE said; 0: none */
	uint64_t seen_modseq;   /* the highest MODSEQ of a FETCH since */
	uint64_t told_modseq;   /* of what happened since, all up to here was told */
	bool wants_noop;        /* more was seen than is sure to have been told */
	unsigned int n_confirmations; /* of a new UIDVALIDITY */
	uint32_t confirmed_uidvalidity;
	uint64_t confirm_at; /* when the next EXAMINE is due; 0: none waits */
	unsigned int n_rescans;
	unsigned int n_doubts;
	bool doubts_later; /* there were too many: the next renewal lists anew */
	bool numbers_off;  /* a message stands at another number than in the view: a number above
			    * n_certain says nothing certain, since one that is gone and not yet said
			    * to be may stand between those that came */
	uint32_t n_certain;
	bool missed_push;   /* flags that a listing under way cannot take in were pushed */
	struct runs scan;   /* OPEN_SCAN: UID to value; message number n is the n-th */
	struct runs unseen; /* of SEARCH_UNSEEN */
	struct runs strays; /* found by a scan: not new, and yet not known before */
	uint32_t scan_next; /* the message number that the next block begins with */
	bool scan_by_search;
	struct runs pending; /* in the view, but not yet told: their data is being fetched */
	struct imap_message **arrivals; /* data of pending messages, by UID */
	size_t n_arrivals, n_arrivals_allocated;
	struct imap_message **changes; /* flags that changed, to be told at the end of the turn */
	size_t n_changes, n_changes_allocated;
	struct runs expunged; /* to be told at the end of the turn */
};

/* Another mailbox than the watched one, under NOTIFY. */
struct other {
	char *name;
	bool has_changed; /* to be told at the end of the turn, as: */
	struct imap_elsewhere elsewhere;
	bool was_left;     /* it was visited; a STATUS is to tell whether it is still as it was: */
	bool is_checked;   /* that STATUS is on the wire */
	bool was_in_doubt; /* the last one found a difference */
	struct imap_mailbox_status left;
};

/* Sorted by name. */
struct others {
	struct other *list;
	size_t n;
};

/* NOTIFY (RFC 5465) on this connection. */
struct notify {
	char **names; /* the other mailboxes that are to be watched, in UTF-8 */
	size_t n_names;
	struct others asked;   /* those of the NOTIFY on the wire */
	struct others covered; /* those of the one in force */
	unsigned int items;    /* of new messages, as was said last */
	bool was_sent;
	bool was_guessed; /* ... in vain: it is in force there all the same */
	bool is_stale;    /* it is to be said anew */
	bool is_alone;    /* the server refused the others: the open mailbox alone */
	bool is_in_force; /* new messages of the watched mailbox come with their data */
	bool is_over;
	bool has_changes;  /* of the others, to be told */
	uint64_t data_due; /* when data that has not come is asked for; 0: nothing is missing */
	unsigned int n_missing; /* how often in a row it did not come */
};

struct event {
	struct list link;
	struct imap_event event;
};

struct imap_client {
	struct imap_client_options options;
	char *auth;
	enum imap_state state;
	uint64_t now;
	char tag_prefix[8];
	uint32_t n_commands;

	struct imap_limits limits;
	struct imap_parser *parser;
	struct bytes output;
	uint64_t output_since;  /* when the output that is unsent began to wait; 0: nothing waits */
	bool transport_changes; /* nothing more is to be received before secured() or compressed()
				 */

	struct list commands; /* struct command */
	struct list guesses;  /* struct command: on the wire behind those, but nobody has put them
			       * yet */
	bool is_guessing;     /* what is put is a guess */
	bool guesses_are_void;
	bool is_astray;    /* a mailbox is open there that was opened in vain: what is said is not
			    * about ours */
	uint64_t heard_at; /* of a flight: when it left, or the last octet came */
	bool has_progress; /* a part of the flight has been answered */
	bool begins_with_login; /* the flight does */
	uint32_t login;         /* number of the last login's tag */
	uint32_t nudge; /* the tag's number of a NOOP against silence; 0: none is on the wire */
	enum imap_stumble stumble;
	uint64_t stumbled_at, bad_alone; /* KIND() or-ed */
	bool is_secure;
	bool has_greeting;
	bool is_preauth;
	uint64_t phase_deadline; /* of greeting, answers of the owner, logout; USEC_NEVER */

	struct bytes capability_words; /* NUL-terminated words */
	struct span *capabilities;
	size_t n_capabilities;
	bool has_capabilities;
	struct bytes secret;    /* of the login under way, to keep it out of texts */
	struct bytes sasl_said; /* what was said last in it, for the same */
	struct imap_sasl *sasl;
	bool is_authenticated;
	bool login_is_whole;       /* a single message, with nothing to be waited for in between */
	struct imap_memory past;   /* what is known from the connection before, until it is used up
				    */
	struct imap_memory memory; /* what will be known by the next one */
	bool no_compress;          /* refused */
	bool has_rev2; /* IMAP4rev2 is in force: what it implies needs no capability word */
	const char *mechanism;
	bool without_plus, plus_failed;
	struct imap_credentials credentials;
	char *credentials_user, *credentials_host;
	struct bytes tls_unique, tls_exporter;
	bool has_condstore, has_qresync, has_utf8; /* offered, enabled, enabled */
	bool is_compressed;
	char *namespace_prefix;

	struct imap_mailbox *watched; /* borrowed */
	struct open open;
	struct notify notify;
	struct list requests; /* struct request */
	bool no_qresync;      /* it was promised, but refused */
	bool no_idle;         /* the server has none, or refused it */
	unsigned int n_quick_idles;
	uint64_t idle_since;     /* when the IDLE under way began; 0: none */
	uint64_t watching_since; /* since when nothing but IDLE and its renewals happened; 0 */
	bool is_polling;  /* nothing is asked; polling stands in for IDLE, or nothing is watched */
	uint64_t renewal; /* when IDLE is renewed, or polling looks again; USEC_NEVER */
	uint64_t renewal_slack;
	bool is_renewing;
	bool left_idle;  /* nobody has looked since */
	bool wants_pass; /* look even if nothing asks for it: a renewal, a probe */
	uint64_t probe_deadline;
	bool wants_logout;
	bool is_held; /* intents are only gathered */

	struct list events; /* struct event */
	struct event *popped;
	struct bytes *trace; /* borrowed */
	struct bytes trace_line;
	uint64_t trace_literal; /* octets of a literal that the trace leaves out */
};

/* client.c */
void enter(struct imap_client *client, enum imap_state state);
void client_close(struct imap_client *client, const struct failure *failure, enum imap_end end,
	uint64_t retry_after_usec);
void client_fail(struct imap_client *client, enum failure_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Out of memory: the connection ends. */
void client_fail_memory(struct imap_client *client);
/* A new event at the end of the queue; NULL when out of memory (the client is closed then). */
struct imap_event *client_event(struct imap_client *client, enum imap_event_kind kind);
bool client_is_over(const struct imap_client *client);
/* Everything that a turn of input, time or wishes leads to. */
void settle(struct imap_client *client);

/* dispatch.c */
void handle_response(struct imap_client *client, const struct imap_response *response);

/* command.c */
/* A command at the end of the queue; its text has the tag and a blank. NULL when out of memory. */
struct command *command_new(
	struct imap_client *client, enum command_kind kind, struct request *request);
struct command *command_free(struct command *command);
/* Adds CRLF; the command is written when its turn has come. */
void command_end(struct imap_client *client, struct command *command);
/* A whole command without arguments from outside, of at most 159 octets. */
void command_put(struct imap_client *client, enum command_kind kind, struct request *request,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A string argument that may need a literal (LITERAL+, LITERAL-, or synchronising). */
void command_put_string(struct imap_client *client, struct command *command, const char *str);
/* The mailbox name of a response in UTF-8, a string owned by the caller; NULL when out of memory
 * (the client is closed then). */
char *take_mailbox_name(struct imap_client *client, struct span name);
/* A mailbox name: UTF-8 or modified UTF-7 as the server takes it, quoted. */
void command_put_mailbox(struct imap_client *client, struct command *command, const char *name);
/* The words of FETCH for the items, in parentheses. */
void put_fetch_items(const struct imap_client *client, struct bytes *bytes, unsigned int items);
/* Ends IDLE, and writes. */
void command_put_done(struct imap_client *client, struct command *idle);
/* Writes what may be written now. */
void commands_flush(struct imap_client *client);
/* The first command that is sent and not answered; NULL. */
struct command *commands_head(const struct imap_client *client);
/* The first of these kinds (KIND() or-ed) that is sent and not answered; NULL. Servers may answer
 * the commands of a flight in another order (RFC 9051 section 5.5; Dovecot lets NOOP and UID FETCH
 * wait for their sync): data belongs to the command that can have asked for it, not to the first.
 */
#define KIND(name) (UINT64_C(1) << COMMAND_##name)
struct command *commands_awaiting(const struct imap_client *client, uint64_t kinds);
bool commands_have(const struct imap_client *client, enum command_kind kind);
/* By a tag: the command; NULL and *ret_was_sent when it was answered before. */
struct command *commands_find(
	const struct imap_client *client, struct span tag, bool *ret_was_sent);
/* The number in one of our tags; 0: it is none. */
uint32_t commands_number(const struct imap_client *client, struct span tag);
void handle_continuation(struct imap_client *client, const struct imap_response *response);
/* The first command on the wire that is not answered, be it a guess; NULL. */
struct command *commands_awaited(const struct imap_client *client);
/* Whether any of these kinds is still to be answered, be it not yet sent. */
bool commands_owe(const struct imap_client *client, uint64_t kinds);
const char *command_name(enum command_kind kind);

/* login.c */
void login_begin(struct imap_client *client);
/* The greeting was the last word before the login, or TLS begins anew: what is known from the
 * connection before holds, unless it has been contradicted. */
void login_recall(struct imap_client *client);
/* Puts who we are, and what is to be enabled. */
void login_greet_back(struct imap_client *client);
/* Capabilities as a memory has them. */
void take_words(struct imap_client *client, const char *words);
void handle_greeting(struct imap_client *client, const struct imap_response *response);
void handle_login(
	struct imap_client *client, struct command *command, const struct imap_response *response);
void login_continue(struct imap_client *client, struct span challenge);
void login_wipe(struct imap_client *client);
/* What the server says while a login is under way, as far as it may be shown. */
struct span login_text(const struct imap_client *client, struct span text);
/* Whether the server has an extension, by its word or because IMAP4rev2 contains it. */
bool has_extension(const struct imap_client *client, const char *word);
void take_capabilities(struct imap_client *client, const struct span *words, size_t n_words);
void take_enabled(struct imap_client *client, const struct imap_response *response);
/* Whether it is about the data that was asked for, and the connection may go on. */
bool refusal_is_of_data(const struct imap_response *response);
/* What a NO or BAD or BYE means beside its words: LIMIT, THROTTLED, TOKEN. */
enum imap_end classify_refusal(
	const struct imap_response *response, uint64_t *ret_retry_after_usec);

/* guess.c */
/* Behind LOGIN or AUTHENTICATE, ID and the like, EXAMINE: what will follow, if all goes well. They
 * put nothing where it is not known, or a guess is under way. */
void guess_at_login(struct imap_client *client);
void guess_at_greeting_back(struct imap_client *client);
void guess_at_opening(struct imap_client *client);
bool guesses_are_sent(const struct imap_client *client);
/* Another way is taken than was guessed. */
void guesses_void(struct imap_client *client);
/* A command is complete: if it was guessed it is on the wire already, else the guess is void. */
void guess_meet(struct imap_client *client, struct command *command);
/* A guess was answered before its turn came; it is in no list any more. */
void guess_answered(struct imap_client *client, const struct command *guess,
	const struct imap_response *response);
/* Untagged data: RFC 9051 section 5.5 lets a server open a mailbox before it has answered ID. What
 * it says of it before the turn of EXAMINE has come is for nobody, so the guess is void. */
void guess_heard(struct imap_client *client, const struct imap_response *response);
/* An IDLE on the wire that has not been ended; NULL. */
struct command *guess_awaiting_continuation(const struct imap_client *client);

/* stumble.c */
/* Whether the server has stumbled: then the connection is over. */
bool stumbles_at_answer(struct imap_client *client, const struct command *command,
	const struct imap_response *response);
bool stumbles_at_continuation(struct imap_client *client);
/* Also a continuation request. */
void stumble_note_answer(struct imap_client *client, const struct command *command);
void stumble_at_nudge(struct imap_client *client);
/* An answer to what was answered before. */
void stumble_at_repetition(struct imap_client *client, const struct imap_response *response);
uint64_t stumble_deadline(const struct imap_client *client);
void stumble_tick(struct imap_client *client);

/* logout.c */
/* An answer that comes before that to LOGOUT. */
void handle_last(struct imap_client *client, const struct command *command,
	const struct imap_response *response);

/* open.c */
void open_mailbox(struct imap_client *client, struct imap_mailbox *mailbox, bool writable);
void open_forget(struct imap_client *client);
/* Ends the connection where more is to be followed than can be (imap_limits). */
void open_bound(struct imap_client *client);
/* Puts EXAMINE or SELECT of the mailbox that is open. Whether with QRESYNC. */
bool open_put_command(struct imap_client *client);
/* The time to look once more at a UIDVALIDITY has come. */
void open_confirm(struct imap_client *client);
void handle_open(
	struct imap_client *client, struct command *command, const struct imap_response *response);
void open_code(struct imap_client *client, const struct imap_response *response);
/* Puts the next commands that synchronising needs; false when the known messages are right. */
bool open_advance(struct imap_client *client);
/* Begins to list the server's messages anew, because the numbers do not add up. */
void open_rescan(struct imap_client *client);
void handle_scan(
	struct imap_client *client, struct command *command, const struct imap_response *response);

/* follow.c */
void follow_exists(struct imap_client *client, uint32_t exists);
/* What a tagged response says of the modseq up to which everything was told. */
void follow_tagged(struct imap_client *client, const struct command *command,
	const struct imap_response *response);
/* The modseq up to which everything was told; 0: the mailbox has none. */
uint64_t follow_modseq(const struct imap_client *client);
/* The numbers do not add up: the messages are to be listed anew, unless that was tried often. */
void follow_doubt(struct imap_client *client);
void follow_expunge(struct imap_client *client, uint32_t number);
void follow_vanished(struct imap_client *client, const struct imap_response *response);
void follow_search(struct imap_client *client, const struct imap_response *response);
void follow_fetch(struct imap_client *client, const struct imap_response *response);
/* Takes messages out of the view and tells it, those that were never told excepted. */
void follow_gone(struct imap_client *client, uint32_t first, uint32_t last);
/* Tells flags and expunges that were collected. */
void follow_tell(struct imap_client *client);
/* Tells up to all arrivals whose data is complete. */
void follow_tell_arrivals(struct imap_client *client, bool all);
/* Whether the n of an unknown tail of messages is above 0. */
bool follow_has_tail(const struct imap_client *client);
/* What is fetched of a message that is new. */
unsigned int new_mail_items(const struct imap_client *client);
/* Whether a preview is asked for and still to be made of the text part. */
bool message_lacks_preview(const struct imap_message *message, unsigned int items);

/* cycle.c */
/* Decides what comes next; called after every response, tick and intent. */
void cycle_advance(struct imap_client *client);
/* Puts what follows EXAMINE where nothing has happened. */
void cycle_put_guess(struct imap_client *client);
void handle_look(
	struct imap_client *client, struct command *command, const struct imap_response *response);
void handle_idle(
	struct imap_client *client, struct command *command, const struct imap_response *response);
void handle_idle_continuation(struct imap_client *client, struct command *command);
void cycle_tick(struct imap_client *client);
/* Whether what was seen has a modseq that the cursor can take only when NOOP has said all that is
 * older. Without it a restart would find what came as changed. */
bool cycle_lacks_noop(const struct imap_client *client);
/* The view equals the mailbox, and all of it has been told. */
void cycle_tell_synchronised(struct imap_client *client);

/* notify.c */
void notify_done(struct imap_client *client);
/* Whether NOTIFY SET is to be sent, or sent anew. */
bool notify_is_wanted(const struct imap_client *client);
/* Puts what is wanted before a look: it finds what NOTIFY does not tell yet. */
void notify_put(struct imap_client *client);
/* Puts what notify_put() will put when the mailbox has been opened. */
void notify_put_guess(struct imap_client *client);
void handle_notify(struct imap_client *client, const struct imap_response *response);
/* NOTIFY is of no use any more on this connection. NOTIFY NONE would silence the open mailbox. */
void notify_end(struct imap_client *client);
/* An untagged status, which may say that events are lost. */
void notify_take_warning(struct imap_client *client, const struct imap_response *response);
/* Whether new messages are pushed with their data, so that EXISTS alone is no reason to look. */
bool notify_brings_data(const struct imap_client *client);
/* Whether a message that nobody asked for is such a push. */
bool notify_takes(struct imap_client *client, const struct imap_message *message);
/* is_answer: a request asked for it, too. */
void notify_take_status(
	struct imap_client *client, const struct imap_response *response, bool is_answer);
/* What STATUS said of a mailbox was taken for an answer, and whoever asked wants it no more. */
void notify_unheard(struct imap_client *client, const char *name);
/* The open mailbox is being left. */
void notify_leave(struct imap_client *client);
/* A COMMAND_CHECK was answered. */
void notify_checked(struct imap_client *client);
/* The end of a turn. */
void notify_settle(struct imap_client *client);
void notify_tick(struct imap_client *client);

/* elsewhere.c */
/* Puts the STATUS of a mailbox that is to be refreshed. */
void elsewhere_ask(struct imap_client *client, struct request *request);
/* Whether the response is the answer to a STATUS on the wire. */
bool elsewhere_take(struct imap_client *client, const struct imap_response *response);
/* The tagged response to it. */
void elsewhere_answered(
	struct imap_client *client, struct request *request, const struct imap_response *response);

/* request.c */
struct request *request_free(struct imap_client *client, struct request *request);
bool request_is_write(const struct request *request);
/* Ends a request that this server cannot serve, before a mailbox is opened for it. */
bool request_fails_early(struct imap_client *client, struct request *request);
/* Puts its first commands. */
void request_start(struct imap_client *client, struct request *request);
void handle_request(
	struct imap_client *client, struct command *command, const struct imap_response *response);
void request_take_message(
	struct imap_client *client, struct request *request, const struct imap_response *response);
void request_take_chunk(
	struct imap_client *client, struct request *request, const struct imap_response *response);
void request_take_list(
	struct imap_client *client, struct request *request, const struct imap_response *response);
void request_take_copyuid(
	struct imap_client *client, struct request *request, const struct imap_response *response);
/* DONE with its failure (NONE: done). */
void request_end(struct imap_client *client, struct request *request);
/* Failure out of a NO or BAD. */
void refusal_set(struct failure *failure, const struct imap_response *response);
/* Inserts by UID; merges with one that is there. -ENOMEM: message was freed. */
int messages_insert(
	struct imap_message ***list, size_t *n, size_t *n_allocated, struct imap_message *message);
