#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/imap_server.h"

const char *const imap_server_flags[IMAP_SERVER_FLAGS] = {
	"$Junk", "\\Answered", "\\Flagged", "\\Seen", "kw"};

void chance_init(struct chance *chance, uint64_t seed)
{
	chance->state = seed;
	chance_below(chance, 1);
}

/* SplitMix64. */
uint32_t chance_below(struct chance *chance, uint32_t n)
{
	chance->state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = chance->state;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ (z >> 31)) >> 33) % n;
}

/* -- the mailbox -- */

void imap_server_mailbox_create(struct imap_server_mailbox *mailbox, uint32_t uidvalidity)
{
	mailbox->exists = true;
	mailbox->uidvalidity = uidvalidity;
	mailbox->uidnext = 1;
	mailbox->highestmodseq = 1;
	mailbox->n_messages = mailbox->n_gone = 0;
}

void imap_server_mailbox_delete(struct imap_server_mailbox *mailbox)
{
	mailbox->exists = false;
	mailbox->n_messages = mailbox->n_gone = 0;
}

void imap_server_arrive(struct imap_server_mailbox *mailbox, unsigned int flags)
{
	if (mailbox->exists && mailbox->n_messages < IMAP_SERVER_MESSAGES) {
		mailbox->messages[mailbox->n_messages++] = (struct imap_server_message){
			.uid = mailbox->uidnext++,
			.flags = flags,
			.modseq = ++mailbox->highestmodseq,
		};
	}
}

void imap_server_change(struct imap_server_mailbox *mailbox, uint32_t index, unsigned int flags)
{
	if (mailbox->n_messages > 0) {
		struct imap_server_message *message =
			&mailbox->messages[index % mailbox->n_messages];
		message->flags = flags;
		message->modseq = ++mailbox->highestmodseq;
	}
}

static void messages_remove(struct imap_server_message *messages, size_t *n, size_t index)
{
	memmove(messages + index, messages + index + 1, (*n - index - 1) * sizeof(*messages));
	(*n)--;
}

void imap_server_expunge(struct imap_server_mailbox *mailbox, uint32_t index)
{
	if (mailbox->n_messages > 0 && mailbox->n_gone < IMAP_SERVER_MESSAGES) {
		index %= mailbox->n_messages;
		mailbox->gone[mailbox->n_gone++] = (struct imap_server_message){
			.uid = mailbox->messages[index].uid,
			.modseq = ++mailbox->highestmodseq,
		};
		messages_remove(mailbox->messages, &mailbox->n_messages, index);
	}
}

const struct imap_server_message *imap_server_find(
	const struct imap_server_mailbox *mailbox, uint32_t uid)
{
	for (size_t i = 0; i < mailbox->n_messages; i++) {
		if (mailbox->messages[i].uid == uid) {
			return &mailbox->messages[i];
		}
	}
	return NULL;
}

/* -- pushes -- */

static const struct imap_server_message *truth_of(const struct imap_server *server, uint32_t uid)
{
	return imap_server_find(server->mailbox, uid);
}

static void put_flags(struct bytes *output, unsigned int flags)
{
	bool is_first = true;
	bytes_put_str(output, "FLAGS (");
	for (size_t i = 0; i < IMAP_SERVER_FLAGS; i++) {
		if (flags & (1u << i)) {
			bytes_printf(output, "%s%s", is_first ? "" : " ", imap_server_flags[i]);
			is_first = false;
		}
	}
	bytes_put_char(output, ')');
}

static void push_flags_of(struct imap_server *server, size_t i)
{
	struct imap_server_message *told = &server->told[i];
	const struct imap_server_message *truth = truth_of(server, told->uid);
	if (!truth || (truth->flags == told->flags && truth->modseq == told->modseq)) {
		return;
	}
	/* Without modseqs a server has no reason to say what is as it was. */
	bool is_worth = server->has_condstore || truth->flags != told->flags;
	*told = *truth;
	if (!is_worth) {
		return;
	}
	bytes_printf(&server->output, "* %zu FETCH (", i + 1);
	if (server->has_qresync) {
		bytes_printf(&server->output, "UID %u ", told->uid);
	}
	if (server->has_condstore) {
		bytes_printf(&server->output, "MODSEQ (%llu) ", (unsigned long long)told->modseq);
	}
	put_flags(&server->output, told->flags);
	bytes_put_str(&server->output, ")\r\n");
}

static void push_flags(struct imap_server *server)
{
	for (size_t n = 0; n < server->n_told; n++) {
		push_flags_of(server, server->traits->descends ? server->n_told - 1 - n : n);
	}
}

static void put_items(struct imap_server *server, size_t i, const char *items)
{
	struct bytes *output = &server->output;
	struct imap_server_message *told = &server->told[i];
	bytes_printf(output, "* %zu FETCH (UID %u", i + 1, told->uid);
	if (strstr(items, "MODSEQ") || strstr(items, "CHANGEDSINCE") ||
		(server->has_condstore && server->traits->has_modseq_in_answers)) {
		bytes_printf(output, " MODSEQ (%llu)", (unsigned long long)told->modseq);
	}
	if (strstr(items, "FLAGS")) {
		bytes_put_char(output, ' ');
		put_flags(output, told->flags);
	}
	if (strstr(items, "INTERNALDATE")) {
		bytes_put_str(output, " INTERNALDATE \" 1-Jan-2026 00:00:00 +0000\"");
	}
	if (strstr(items, "RFC822.SIZE")) {
		bytes_printf(output, " RFC822.SIZE %u", 100 + told->uid);
	}
	if (strstr(items, "ENVELOPE")) {
		bytes_printf(output, " ENVELOPE (NIL \"%u\" NIL NIL NIL NIL NIL NIL NIL NIL)",
			told->uid);
	}
	if (strstr(items, "BODY.PEEK[]")) {
		bytes_printf(output, " BODY[] {14}\r\nSubject: %03u\r\n", told->uid % 1000);
	}
	bytes_put_str(output, ")\r\n");
}

/* RFC 5465 section 5.2: the data of the messages from this one on, or what the server makes of it.
 */
static void push_data(struct imap_server *server, size_t first)
{
	enum imap_server_notify_fault fault = server->traits->notify_fault;
	for (size_t i = first; i < server->n_told; i++) {
		bool is_faulty = chance_below(server->chance, 4) == 0;
		if (is_faulty && fault == IMAP_SERVER_NOTIFY_STRIPS) {
			put_items(server, i, "FLAGS");
		} else if (!is_faulty || fault != IMAP_SERVER_NOTIFY_OMITS) {
			put_items(server, i, server->notify_items);
		}
	}
}

static void push_late_data(struct imap_server *server)
{
	size_t first = 0;
	while (first < server->n_told && server->told[first].uid < server->late_from) {
		first++;
	}
	if (server->late_from != 0 && server->is_notifying) {
		push_data(server, first);
	}
	server->late_from = 0;
}

/* A change of another mailbox. */
static void push_status(struct imap_server *server)
{
	if (server->is_notifying && server->has_others && chance_below(server->chance, 4) == 0) {
		bytes_printf(&server->output, "* STATUS Other (MESSAGES %u UIDNEXT 9)\r\n",
			chance_below(server->chance, 9));
	}
}

static void push_exists(struct imap_server *server)
{
	size_t before = server->n_told;
	for (size_t i = 0; i < server->mailbox->n_messages; i++) {
		const struct imap_server_message *message = &server->mailbox->messages[i];
		if (message->uid > server->horizon && server->n_told < IMAP_SERVER_MESSAGES) {
			server->told[server->n_told++] = *message;
		}
	}
	if (server->n_told == before) {
		return;
	}
	enum imap_server_notify_fault fault = server->traits->notify_fault;
	bool is_faulty = server->is_notifying && chance_below(server->chance, 2);
	server->horizon = server->told[server->n_told - 1].uid;
	if (is_faulty && fault == IMAP_SERVER_NOTIFY_OVERFLOWS) {
		bytes_put_str(&server->output, "* OK [NOTIFICATIONOVERFLOW] Too much.\r\n");
		server->is_notifying = false;
	}
	bool is_early = is_faulty && fault == IMAP_SERVER_NOTIFY_IS_EARLY;
	if (is_early) {
		push_data(server, before);
	}
	bytes_printf(&server->output, "* %zu EXISTS\r\n* 0 RECENT\r\n", server->n_told);
	if (is_faulty && fault == IMAP_SERVER_NOTIFY_IS_LATE) {
		server->late_from = server->told[before].uid;
	} else if (server->is_notifying && !is_early) {
		push_data(server, before);
	}
}

static void push_expunges(struct imap_server *server)
{
	bool has_vanished = false;
	for (size_t n = server->n_told; n > 0; n--) {
		uint32_t uid = server->told[n - 1].uid;
		if (truth_of(server, uid)) {
			continue;
		}
		messages_remove(server->told, &server->n_told, n - 1);
		if (server->has_qresync) {
			bytes_printf(
				&server->output, "%s%u", has_vanished ? "," : "* VANISHED ", uid);
			has_vanished = true;
		} else {
			bytes_printf(&server->output, "* %zu EXPUNGE\r\n", n);
		}
	}
	if (has_vanished) {
		bytes_put_str(&server->output, "\r\n");
	}
}

/* RFC 3501 section 7.4.1: no EXPUNGE while FETCH, STORE or SEARCH is being answered. */
static void push(struct imap_server *server, bool may_expunge)
{
	if (!server->is_open || server->is_closed) {
		return;
	}
	push_late_data(server);
	push_status(server);
	if (may_expunge && !server->traits->expunges_last) {
		push_expunges(server);
	}
	push_exists(server);
	push_flags(server);
	if (may_expunge && server->traits->expunges_last) {
		push_expunges(server);
	}
}

static void pass(struct imap_server *server)
{
	if (server->meanwhile) {
		server->meanwhile(server->userdata);
	}
}

/* -- commands -- */

/* The lowest modseq of what happened to messages that the client knows, and was not told; 0: none.
 */
static uint64_t untold_modseq(const struct imap_server *server)
{
	const struct imap_server_mailbox *mailbox = server->mailbox;
	uint64_t lowest = 0;
	for (size_t i = 0; i < server->n_told; i++) {
		const struct imap_server_message *truth = truth_of(server, server->told[i].uid);
		uint64_t modseq =
			truth && truth->modseq != server->told[i].modseq ? truth->modseq : 0;
		for (size_t n = 0; !truth && n < mailbox->n_gone; n++) {
			if (mailbox->gone[n].uid == server->told[i].uid) {
				modseq = mailbox->gone[n].modseq;
			}
		}
		lowest = modseq != 0 && (lowest == 0 || modseq < lowest) ? modseq : lowest;
	}
	return lowest;
}

static void tagged(struct imap_server *server, const char *tag, const char *text)
{
	if (server->is_closed) {
		return;
	}
	uint64_t untold = server->is_open && server->has_qresync ? untold_modseq(server) : 0;
	if (untold != 0 && strncmp(text, "OK ", 3) == 0 && text[3] != '[') {
		/* RFC 7162 section 6: after a tagged response a client takes all as told up to the
		 * highest modseq that it saw, unless it is told another one. */
		bytes_printf(&server->output, "%s OK [HIGHESTMODSEQ %llu] %s\r\n", tag,
			(unsigned long long)untold - 1, text + 3);
		return;
	}
	bytes_printf(&server->output, "%s %s\r\n", tag, text);
}

/* The end of a command that needs a mailbox. */
static void finish(struct imap_server *server, const char *tag, const char *text, bool is_uid)
{
	if (server->traits->pushes != IMAP_SERVER_PUSHES_RARELY || text[3] == '[') {
		push(server, is_uid);
	}
	tagged(server, tag, text);
}

static bool set_has(const char *set, uint64_t n)
{
	while (*set >= '0' && *set <= '9') {
		char *end;
		uint64_t first = strtoull(set, &end, 10), last = first;
		if (*end == ':') {
			last = strtoull(end + 1, &end, 10);
		}
		if (n >= first && n <= last) {
			return true;
		}
		set = *end == ',' ? end + 1 : end;
	}
	return false;
}

/* Flags as this connection knows them, or as they are. */
static void refresh_told(struct imap_server *server, struct imap_server_message *told)
{
	const struct imap_server_message *truth = truth_of(server, told->uid);
	if (truth && server->traits->has_fresh_answers) {
		*told = *truth;
	}
}

static size_t told_index(const struct imap_server *server, uint32_t uid)
{
	size_t i = 0;
	while (i < server->n_told && server->told[i].uid != uid) {
		i++;
	}
	return i;
}

/* What may be said in the middle of answers; EXPUNGE would shift what is being answered. */
static void interrupt(struct imap_server *server)
{
	pass(server);
	if (server->traits->has_exists_in_answers) {
		push_exists(server);
		if (server->traits->pushes == IMAP_SERVER_PUSHES_ALWAYS) {
			push_flags(server);
		}
	}
}

static void command_fetch(struct imap_server *server, const char *tag, const char *set, bool is_uid)
{
	const char *items = strchr(set, ' ');
	const char *since = strstr(set, "CHANGEDSINCE ");
	uint64_t modseq = since ? strtoull(since + 13, NULL, 10) : 0;
	bool is_missing = false;
	uint32_t wanted[IMAP_SERVER_MESSAGES];
	size_t n_wanted = 0;
	if (server->traits->pushes == IMAP_SERVER_PUSHES_ALWAYS) {
		push(server, is_uid);
	}
	for (size_t i = 0; i < server->n_told; i++) {
		if (set_has(set, is_uid ? server->told[i].uid : i + 1)) {
			wanted[n_wanted++] = server->told[i].uid;
		}
	}
	for (size_t n = 0; n < n_wanted; n++) {
		interrupt(server);
		if (server->is_closed) {
			return;
		}
		size_t i = told_index(server, wanted[n]);
		bool is_gone = !truth_of(server, wanted[n]);
		bool is_plain = !strstr(items, "ENVELOPE") && !strstr(items, "BODY");
		if (strstr(items, "FLAGS")) {
			refresh_told(server, &server->told[i]);
		}
		if (is_gone && is_plain && server->traits->omits_gone) {
			continue;
		}
		if (is_gone && !is_plain && !server->traits->keeps_gone) {
			is_missing = true;
		} else if (server->told[i].modseq > modseq) {
			put_items(server, i, items);
		}
	}
	finish(server, tag,
		is_missing && server->traits->refuses_gone
			? "NO [EXPUNGEISSUED] Some messages are gone."
			: "OK Fetch completed.",
		is_uid);
}

static void command_search(struct imap_server *server, const char *tag, const char *key)
{
	bool is_first = true;
	if (server->traits->pushes == IMAP_SERVER_PUSHES_ALWAYS) {
		push(server, true);
	}
	bytes_printf(&server->output, "* ESEARCH (TAG \"%s\") UID", tag);
	for (size_t i = 0; i < server->n_told; i++) {
		/* An answer tells nobody's flags: what is new in them is still to be pushed. */
		struct imap_server_message message = server->told[i];
		bool is_gone = !truth_of(server, message.uid);
		refresh_told(server, &message);
		if ((is_gone && server->traits->omits_gone) ||
			(strstr(key, "UNSEEN") && message.flags & IMAP_SERVER_SEEN)) {
			continue;
		}
		bytes_printf(
			&server->output, "%s%u", is_first ? " ALL " : ",", server->told[i].uid);
		is_first = false;
	}
	bytes_put_str(&server->output, "\r\n");
	pass(server);
	finish(server, tag, "OK Search completed.", true);
}

/* RFC 7162 section 3.2.5: what vanished and what changed since a modseq. */
static void put_changes(struct imap_server *server, uint64_t modseq)
{
	bool is_first = true;
	for (size_t i = 0; i < server->mailbox->n_gone; i++) {
		if (server->mailbox->gone[i].modseq > modseq) {
			bytes_printf(&server->output, "%s%u",
				is_first ? "* VANISHED (EARLIER) " : ",",
				server->mailbox->gone[i].uid);
			is_first = false;
		}
	}
	bytes_put_str(&server->output, is_first ? "" : "\r\n");
	for (size_t i = 0; i < server->n_told; i++) {
		if (server->told[i].modseq > modseq) {
			put_items(server, i, "FLAGS MODSEQ");
		}
	}
}

static void command_examine(struct imap_server *server, const char *tag, const char *arguments)
{
	struct imap_server_mailbox *mailbox = server->mailbox;
	struct bytes *output = &server->output;
	server->is_open = false;
	server->late_from = 0;
	if (!mailbox->exists) {
		tagged(server, tag, "NO [NONEXISTENT] No such mailbox.");
		return;
	}
	server->has_condstore = server->has_condstore || strstr(arguments, "CONDSTORE") ||
		strstr(arguments, "QRESYNC");
	server->is_open = true;
	server->uidvalidity = mailbox->uidvalidity;
	server->n_told = mailbox->n_messages;
	memcpy(server->told, mailbox->messages, sizeof(server->told));
	server->horizon = mailbox->uidnext - 1;
	bytes_printf(output,
		"* FLAGS (\\Seen)\r\n* %zu EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY %u] ok\r\n",
		server->n_told, mailbox->uidvalidity);
	if (server->traits->has_uidnext) {
		bytes_printf(output, "* OK [UIDNEXT %u] ok\r\n", mailbox->uidnext);
	}
	if (server->traits->has_condstore) {
		bytes_printf(output, "* OK [HIGHESTMODSEQ %llu] ok\r\n",
			(unsigned long long)mailbox->highestmodseq);
	}
	const char *qresync = strstr(arguments, "(QRESYNC (");
	if (qresync && server->has_qresync) {
		char *end;
		uint32_t uidvalidity = strtoul(qresync + 10, &end, 10);
		if (uidvalidity == mailbox->uidvalidity) {
			put_changes(server, strtoull(end, NULL, 10));
		}
	}
	pass(server);
	tagged(server, tag, "OK [READ-ONLY] Opened.");
}

static void command_idle(struct imap_server *server, const char *tag)
{
	snprintf(server->idle_tag, sizeof(server->idle_tag), "%.31s", tag);
	server->is_idling = true;
	if (server->traits->has_pushes_before_plus) {
		push(server, true);
	}
	bytes_put_str(&server->output, "+ idling\r\n");
	pass(server);
	if (!server->traits->has_pushes_before_plus) {
		push(server, true);
	}
}

static void command_noop(struct imap_server *server, const char *tag)
{
	pass(server);
	push(server, true);
	tagged(server, tag, "OK Done.");
}

static void command_notify(struct imap_server *server, const char *tag, const char *arguments)
{
	const char *items = strstr(arguments, "(MessageNew (");
	if (server->traits->notify_fault == IMAP_SERVER_NOTIFY_REFUSED) {
		tagged(server, tag, server->n_told % 2 ? "NO [BADEVENT ()] Never." : "BAD What?");
		return;
	}
	if (!items || !strstr(arguments, " MessageExpunge FlagChange))")) {
		/* RFC 5465 section 5: flags are told only with the other two, these only together.
		 */
		tagged(server, tag, "BAD What?");
		return;
	}
	snprintf(server->notify_items, sizeof(server->notify_items), "%.*s",
		(int)strcspn(items + 13, ")"), items + 13);
	server->has_others = strstr(arguments, "(MAILBOXES (\"Other\") ");
	server->is_notifying = true;
	if (strncmp(arguments, "SET STATUS ", 11) == 0 && server->has_others) {
		bytes_put_str(
			&server->output, "* STATUS Other (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3)\r\n");
	}
	finish(server, tag, "OK Notifying.", true);
}

static void put_capabilities(struct imap_server *server)
{
	const struct imap_server_traits *traits = server->traits;
	bytes_printf(&server->output, "CAPABILITY IMAP4rev1 UIDPLUS%s%s%s%s%s",
		traits->has_idle ? " IDLE" : "", traits->has_notify ? " NOTIFY" : "",
		traits->has_esearch ? " ESEARCH" : "", traits->has_condstore ? " CONDSTORE" : "",
		traits->has_qresync ? " ENABLE QRESYNC" : "");
}

static void handle_command(struct imap_server *server, const char *tag, const char *command)
{
	if (strncmp(command, "LOGIN ", 6) == 0 && server->refuses_login) {
		server->refuses_login = false;
		tagged(server, tag, "NO [AUTHENTICATIONFAILED] That is not the password.");
	} else if (strncmp(command, "LOGIN ", 6) == 0) {
		server->is_logged_in = true;
		bytes_printf(&server->output, "%s OK [", tag);
		put_capabilities(server);
		bytes_put_str(&server->output, "] Hello.\r\n");
	} else if (!server->is_logged_in && strcmp(command, "LOGOUT") != 0) {
		tagged(server, tag, "BAD Log in first.");
	} else if (strncmp(command, "ENABLE ", 7) == 0) {
		server->has_qresync = server->has_condstore = server->traits->has_qresync;
		bytes_put_str(&server->output,
			server->has_qresync ? "* ENABLED QRESYNC\r\n" : "* ENABLED\r\n");
		tagged(server, tag, "OK Enabled.");
	} else if (strncmp(command, "EXAMINE ", 8) == 0) {
		command_examine(server, tag, command + 8);
	} else if (strncmp(command, "UID FETCH ", 10) == 0) {
		command_fetch(server, tag, command + 10, true);
	} else if (strncmp(command, "FETCH ", 6) == 0) {
		command_fetch(server, tag, command + 6, false);
	} else if (strncmp(command, "UID SEARCH ", 11) == 0) {
		command_search(server, tag, command + 11);
	} else if (strcmp(command, "NOOP") == 0) {
		command_noop(server, tag);
	} else if (strcmp(command, "IDLE") == 0 && server->traits->has_idle) {
		command_idle(server, tag);
	} else if (strncmp(command, "NOTIFY ", 7) == 0 && server->traits->has_notify) {
		command_notify(server, tag, command + 7);
	} else if (strcmp(command, "LOGOUT") == 0) {
		bytes_put_str(&server->output, "* BYE Logging out.\r\n");
		tagged(server, tag, "OK Bye.");
		server->is_closed = true;
	} else {
		tagged(server, tag, "BAD What?");
	}
}

static void handle_line(struct imap_server *server, char *line)
{
	if (server->is_idling) {
		server->is_idling = false;
		if (server->traits->has_pushes_before_ok) {
			push(server, true);
		}
		tagged(server, server->idle_tag,
			strcmp(line, "DONE") == 0 ? "OK Idle completed." : "BAD Expected DONE.");
		return;
	}
	char *blank = strchr(line, ' ');
	if (!blank) {
		bytes_put_str(&server->output, "* BAD What?\r\n");
		return;
	}
	*blank = '\0';
	handle_command(server, line, blank + 1);
}

/* -- the connection -- */

void imap_server_init(struct imap_server *server, const struct imap_server_traits *traits,
	struct imap_server_mailbox *mailbox, struct chance *chance)
{
	bytes_init(&server->input);
	bytes_init(&server->output);
	server->traits = traits;
	server->mailbox = mailbox;
	server->chance = chance;
	server->meanwhile = NULL;
	server->refuses_login = server->is_logged_in = false;
	server->is_open = server->is_idling = server->is_closed = false;
	server->has_qresync = server->has_condstore = false;
	server->is_notifying = server->has_others = false;
	server->n_told = 0;
	server->horizon = server->late_from = 0;
	bytes_put_str(&server->output, "* OK [");
	put_capabilities(server);
	bytes_put_str(&server->output, "] Ready.\r\n");
}

void imap_server_done(struct imap_server *server)
{
	bytes_done(&server->input);
	bytes_done(&server->output);
	server->is_closed = true;
}

static bool says_done(const char *line)
{
	return strcmp(line, "DONE") == 0;
}

static bool is_making_deaf(const char *line)
{
	const char *command = strchr(line, ' ');
	return command &&
		(strncmp(command, " LOGIN ", 7) == 0 || strncmp(command, " EXAMINE ", 9) == 0 ||
			strcmp(command, " NOOP") == 0);
}

/* What came together with a command is lost. */
static void stumble(struct imap_server *server)
{
	struct span span = bytes_span(&server->input);
	const uint8_t *end = span.len > 0 ? memchr(span.data, '\n', span.len) : NULL;
	if (server->traits->stumble == IMAP_SERVER_SWALLOWS) {
		bytes_consume(&server->input, span.len);
	} else if (server->traits->stumble == IMAP_SERVER_SKIPS_ONE && end) {
		bytes_consume(&server->input, (size_t)(end - span.data) + 1);
	}
}

void imap_server_receive(struct imap_server *server, const void *data, size_t len)
{
	bytes_put(&server->input, data, len);
	for (;;) {
		struct span span = bytes_span(&server->input);
		const uint8_t *end = span.len > 0 ? memmem(span.data, span.len, "\r\n", 2) : NULL;
		if (!end || server->is_closed) {
			return;
		}
		char line[4096];
		size_t n = (size_t)(end - span.data);
		n = n < sizeof(line) - 1 ? n : sizeof(line) - 1;
		memcpy(line, span.data, n);
		line[n] = '\0';
		bytes_consume(&server->input, (size_t)(end - span.data) + 2);
		bool is_followed =
			bytes_len(&server->input) > 0 && !server->is_idling && !says_done(line);
		if (server->traits->stumble == IMAP_SERVER_SAYS_BAD && is_followed) {
			char *blank = strchr(line, ' ');
			*(blank ? blank : line) = '\0';
			tagged(server, line, "BAD One at a time.");
			continue;
		}
		bool is_deaf = says_done(line) || is_making_deaf(line);
		handle_line(server, line);
		if (is_deaf) {
			stumble(server);
		}
	}
}

void imap_server_look(struct imap_server *server, bool has_time_passed)
{
	bool is_due = has_time_passed || server->traits->pushes == IMAP_SERVER_PUSHES_ALWAYS;
	if (server->is_idling && is_due && !server->is_closed) {
		push(server, true);
	}
}

void imap_server_bye(struct imap_server *server, const char *text)
{
	if (text && !server->is_closed) {
		bytes_printf(&server->output, "* BYE %s\r\n", text);
	}
	server->is_closed = true;
}
