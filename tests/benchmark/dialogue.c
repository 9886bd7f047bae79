#include <ctype.h>
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "deflated.h"
#include "dialogue.h"
#include "letters.h"
#include "moment.h"
#include "note.h"

/* A FETCH waits when so much is on its way. */
#define BACKLOG_HIGH (256 * 1024)
#define PIECE        (32 * 1024)

/* -- answers -- */

static void send_out(struct dialogue *dialogue)
{
	struct bytes *out = &dialogue->out;
	if (bytes_len(out) > 0 && dialogue->deflated) {
		deflated_send(dialogue->deflated, bytes_span(out), &dialogue->raw_out);
		bytes_clear(out);
		out = &dialogue->raw_out;
	}
	if (bytes_len(out) > 0) {
		wire_send(&dialogue->wire, bytes_span(out));
		bytes_clear(out);
	}
}

/* What is new; by NOTIFY with the FETCH right behind (RFC 5465 section 5.2). */
static void put_news(struct dialogue *dialogue)
{
	uint32_t first = dialogue->n_told + 1, last = dialogue->box->n_messages;
	dialogue->n_told = last;
	bytes_printf(&dialogue->out, "* %u EXISTS\r\n", last);
	for (uint32_t i = first; dialogue->notify_items && i <= last; i++) {
		letter_put(&dialogue->out, i, dialogue->notify_items, false);
	}
}

static bool has_news(const struct dialogue *dialogue)
{
	return dialogue->state == DIALOGUE_SELECTED &&
		dialogue->n_told != dialogue->box->n_messages;
}

/* The tagged answer; what has come meanwhile is said before it. */
static void put_answer(struct dialogue *dialogue, const char *answer)
{
	if (has_news(dialogue)) {
		put_news(dialogue);
	}
	bytes_printf(&dialogue->out, "%s %s\r\n", dialogue->tag, answer);
}

static void put_violation(struct dialogue *dialogue, const char *what)
{
	note(now_nsec(), dialogue->number, "violation", "%s", what);
	bytes_printf(&dialogue->out, "%s BAD %s\r\n", dialogue->tag, what);
}

/* wanted: the items that are asked for, in parentheses. */
static void put_status(struct dialogue *dialogue, const struct box *box, const char *wanted)
{
	char name[BOX_NAME_MAX];
	uint32_t n = box->n_messages;
	const struct {
		const char *name;
		uint32_t value;
	} items[] = {{"MESSAGES", n}, {"UIDNEXT", n + 1}, {"UIDVALIDITY", 1},
		{"UNSEEN", n - dialogue->house->users.n_messages}, {"HIGHESTMODSEQ", n + 1}};
	const char *space = "";
	bytes_printf(&dialogue->out, "* STATUS %s (", box_name(box, name));
	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
		if (strcasestr(wanted, items[i].name)) {
			bytes_printf(
				&dialogue->out, "%s%s %u", space, items[i].name, items[i].value);
			space = " ";
		}
	}
	bytes_put_str(&dialogue->out, ")\r\n");
}

/* By NOTIFY, of a mailbox that is not open (RFC 5465 section 5.2). */
static void put_news_elsewhere(struct dialogue *dialogue, const struct box *box)
{
	put_status(dialogue, box, "(MESSAGES UIDNEXT HIGHESTMODSEQ)");
}

/* Tells a client that watches. */
static void tell(struct dialogue *dialogue, const struct box *box)
{
	bool is_open = dialogue->state == DIALOGUE_SELECTED && dialogue->box == box;
	bool is_watched = is_open ? dialogue->idle_tag[0] || dialogue->notify_items
				  : dialogue->others && dialogue->others[box->number - 1];
	/* The tagged answer of a FETCH says it then. */
	if (is_watched && !(is_open && dialogue->fetch_items)) {
		note(now_nsec(), dialogue->number, "push", "%u %u", box->number, box->n_messages);
		if (is_open) {
			put_news(dialogue);
		} else {
			put_news_elsewhere(dialogue, box);
		}
		send_out(dialogue);
	}
}

void deliver(struct house *house, const char *name, unsigned int number, uint32_t n)
{
	struct user *user = users_find(&house->users, name);
	if (number < 1 || number > house->users.n_boxes) {
		errno = EINVAL;
		fail("deliver");
	}
	struct box *box = &user->boxes[number - 1];
	box->n_messages += n;
	LIST_FOR_EACH (node, &house->dialogues) {
		struct dialogue *dialogue = list_entry(node, struct dialogue, node);
		if (dialogue->user == user) {
			tell(dialogue, box);
		}
	}
}

/* -- FETCH -- */

static uint32_t number_in(const char **p, uint32_t highest)
{
	if (**p == '*') {
		(*p)++;
		return highest;
	}
	char *end;
	unsigned long number = strtoul(*p, &end, 10);
	*p = end;
	return number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

/* The ranges of a sequence set, without what lies behind the highest message. */
static bool take_set(struct dialogue *dialogue, const char *set, uint32_t above)
{
	uint32_t highest = dialogue->box->n_messages;
	dialogue->n_ranges = dialogue->i_range = 0;
	for (;;) {
		uint32_t first = number_in(&set, highest), last = first;
		if (*set == ':') {
			set++;
			last = number_in(&set, highest);
		}
		if (first == 0 || last == 0 || dialogue->n_ranges == RANGES_MAX ||
			(*set != ',' && *set != ' ')) {
			return false;
		}
		if (first > last) {
			uint32_t other = first;
			first = last;
			last = other;
		}
		first = first > above ? first : above;
		last = last < highest ? last : highest;
		if (first <= last) {
			dialogue->ranges[dialogue->n_ranges++] = (struct range){first, last};
		}
		if (*set++ != ',') {
			return true;
		}
	}
}

static void advance_fetch(struct dialogue *dialogue)
{
	while (dialogue->i_range < dialogue->n_ranges) {
		struct range *range = &dialogue->ranges[dialogue->i_range];
		while (range->first <= range->last) {
			letter_put(&dialogue->out, range->first, dialogue->fetch_items,
				range->first <= dialogue->house->users.n_messages);
			range->first++;
			if (bytes_len(&dialogue->out) >= PIECE) {
				send_out(dialogue);
				if (wire_backlog(&dialogue->wire) >= BACKLOG_HIGH) {
					return;
				}
			}
		}
		dialogue->i_range++;
	}
	dialogue->fetch_items = 0;
	put_answer(dialogue, "OK fetched");
}

/* "SET ITEMS [(CHANGEDSINCE N)]" */
static void fetch(struct dialogue *dialogue, const char *args)
{
	const char *list = strchr(args, ' ');
	const char *since = strcasestr(args, "(CHANGEDSINCE ");
	/* The modseq of message n is n + 1. */
	uint32_t above = since ? (uint32_t)strtoul(since + 14, NULL, 10) : 1;
	unsigned int items = list ? letter_items(list + 1) : LETTER_UNKNOWN;
	if (items & LETTER_UNKNOWN || !take_set(dialogue, args, above)) {
		put_answer(dialogue, "BAD no such items here, or no such set");
		return;
	}
	dialogue->fetch_items = items | LETTER_UID | (since ? LETTER_MODSEQ : 0);
	advance_fetch(dialogue);
}

/* -- commands -- */

static void login(struct dialogue *dialogue, const char *name)
{
	char answer[512];
	dialogue->user = users_find(&dialogue->house->users, name);
	dialogue->state = DIALOGUE_AUTHENTICATED;
	note(now_nsec(), dialogue->number, "login", "%s", dialogue->user->name);
	snprintf(answer, sizeof(answer), "OK [CAPABILITY %s] welcome",
		dialogue->house->capabilities);
	put_answer(dialogue, answer);
}

/* RFC 4616: authorization identity, NUL, name, NUL, password. */
static void take_response(struct dialogue *dialogue, const char *response)
{
	gnutls_datum_t encoded = {
		.data = (unsigned char *)response, .size = (unsigned int)strlen(response)};
	gnutls_datum_t plain = {0};
	const unsigned char *name = NULL;
	dialogue->state = DIALOGUE_LOGIN;
	if (gnutls_base64_decode2(&encoded, &plain) == 0) {
		name = memchr(plain.data, '\0', plain.size);
	}
	if (name && memchr(name + 1, '\0', (size_t)(plain.data + plain.size - name - 1))) {
		login(dialogue, (const char *)name + 1);
	} else {
		put_answer(dialogue, "BAD no response of PLAIN");
	}
	gnutls_free(plain.data);
}

static void authenticate(struct dialogue *dialogue, const char *args)
{
	if (strncasecmp(args, "PLAIN", 5) != 0) {
		put_answer(dialogue, "NO PLAIN alone");
	} else if (args[5] == ' ') {
		take_response(dialogue, args + 6);
	} else {
		dialogue->state = DIALOGUE_RESPONSE;
		bytes_put_str(&dialogue->out, "+ \r\n");
	}
}

static void examine(struct dialogue *dialogue, const char *args)
{
	struct bytes *out = &dialogue->out;
	struct box *box = users_box(&dialogue->house->users, dialogue->user, args);
	if (!box) {
		dialogue->state = DIALOGUE_AUTHENTICATED;
		put_answer(dialogue, "NO [NONEXISTENT] no such mailbox");
		return;
	}
	uint32_t n = box->n_messages;
	const char *known = dialogue->has_qresync ? strcasestr(args, "(QRESYNC (1 ") : NULL;
	if (dialogue->state == DIALOGUE_SELECTED && dialogue->has_qresync) {
		bytes_put_str(out, "* OK [CLOSED] x\r\n");
	}
	dialogue->state = DIALOGUE_SELECTED;
	dialogue->box = box;
	dialogue->n_told = n;
	bytes_printf(out,
		"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* %u EXISTS\r\n"
		"* 0 RECENT\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT %u] x\r\n"
		"* OK [HIGHESTMODSEQ %u] x\r\n",
		n, n + 1, n + 1);
	if (known) {
		uint64_t first = strtoul(known + 12, NULL, 10);
		for (uint64_t i = first ? first : 1; i <= n; i++) {
			letter_put(out, (uint32_t)i, LETTER_UID | LETTER_FLAGS | LETTER_MODSEQ,
				i <= dialogue->house->users.n_messages);
		}
	}
	put_answer(dialogue, "OK [READ-ONLY] opened");
}

/* Everything, or what is unseen: all that the daemon asks for. */
static void search(struct dialogue *dialogue, const char *args)
{
	uint32_t first = strstr(args, "UNSEEN") ? dialogue->house->users.n_messages + 1 : 1;
	uint32_t last = dialogue->box->n_messages;
	if (strncasecmp(args, "RETURN (ALL) ", 13) != 0) {
		put_answer(dialogue, "BAD RETURN (ALL) alone");
		return;
	}
	bytes_printf(&dialogue->out, "* ESEARCH (TAG \"%s\") UID", dialogue->tag);
	if (first <= last) {
		bytes_printf(&dialogue->out, " ALL %u:%u", first, last);
	}
	bytes_put_str(&dialogue->out, "\r\n");
	put_answer(dialogue, "OK searched");
}

/* "REFERENCE PATTERN [RETURN (... STATUS (ITEMS))]" */
static void list(struct dialogue *dialogue, const char *args)
{
	const char *status = strcasestr(args, "STATUS (");
	const char *pattern = strchr(args, ' ');
	for (unsigned int i = 0; pattern && i < dialogue->house->users.n_boxes; i++) {
		char name[BOX_NAME_MAX];
		const struct box *box = &dialogue->user->boxes[i];
		if (!box_fits(box, pattern + 1)) {
			continue;
		}
		bytes_printf(&dialogue->out, "* LIST (\\HasNoChildren) \"/\" %s\r\n",
			box_name(box, name));
		if (status) {
			put_status(dialogue, box, status + 7);
		}
	}
	put_answer(dialogue, "OK listed");
}

static void status(struct dialogue *dialogue, const char *args)
{
	const struct box *box = users_box(&dialogue->house->users, dialogue->user, args);
	if (box) {
		put_status(dialogue, box, args);
	}
	put_answer(dialogue, box ? "OK told" : "NO [NONEXISTENT] no such mailbox");
}

static void enable(struct dialogue *dialogue, const char *args)
{
	dialogue->has_qresync = strcasestr(args, "QRESYNC");
	bytes_printf(&dialogue->out, "* ENABLED%s\r\n", dialogue->has_qresync ? " QRESYNC" : "");
	put_answer(dialogue, "OK enabled");
}

/* The mailboxes that a filter beside SELECTED means: PERSONAL, or MAILBOXES with one name or a list
 * (RFC 5465 section 6). */
static void watch_others(struct dialogue *dialogue, const char *args)
{
	const struct users *users = &dialogue->house->users;
	const char *names = strcasestr(args, "(MAILBOXES ");
	free(dialogue->others);
	dialogue->others = calloc(users->n_boxes, sizeof(*dialogue->others));
	if (!dialogue->others) {
		fail("memory");
	}
	if (strcasestr(args, "(PERSONAL")) {
		memset(dialogue->others, true, users->n_boxes * sizeof(*dialogue->others));
	} else if (names) {
		names += strlen("(MAILBOXES ");
		bool is_list = *names == '(';
		names += is_list;
		do {
			const struct box *box = users_box(users, dialogue->user, names);
			if (box) {
				dialogue->others[box->number - 1] = true;
			}
			names += strcspn(names, " )");
		} while (is_list && *names++ == ' ');
	}
}

/* "SET [STATUS] (SELECTED (MessageNew (ITEMS) MessageExpunge ...)) (MAILBOXES (...) ...)", or NONE.
 * Flags do not change here, and nothing is expunged. */
static void notify(struct dialogue *dialogue, const char *args)
{
	const char *selected = strcasestr(args, "(SELECTED");
	const char *event = selected ? strcasestr(selected, "MessageNew (") : NULL;
	unsigned int items = event ? letter_items(event + 11) : 0;
	if (!strstr(dialogue->house->capabilities, "NOTIFY") || items & LETTER_UNKNOWN) {
		put_answer(dialogue, "BAD no NOTIFY, or no such items");
		return;
	}
	dialogue->notify_items = items;
	watch_others(dialogue, args);
	for (unsigned int i = 0; i < dialogue->house->users.n_boxes; i++) {
		const struct box *box = &dialogue->user->boxes[i];
		bool is_open = dialogue->state == DIALOGUE_SELECTED && dialogue->box == box;
		if (strncasecmp(args, "SET STATUS", 10) == 0 && dialogue->others[i] && !is_open) {
			put_news_elsewhere(dialogue, box);
		}
	}
	put_answer(dialogue, "OK will tell");
}

/* RFC 4978: what follows the answer is deflated, both ways. */
static void compress(struct dialogue *dialogue, const char *args)
{
	if (!strstr(dialogue->house->capabilities, "COMPRESS") || dialogue->deflated ||
		strcasecmp(args, "DEFLATE") != 0) {
		put_answer(dialogue, "BAD DEFLATE alone, and once");
		return;
	}
	put_answer(dialogue, "OK deflating");
	send_out(dialogue);
	dialogue->deflated = deflated_new();
}

static void idle(struct dialogue *dialogue)
{
	uint64_t now = now_nsec();
	snprintf(dialogue->idle_tag, sizeof(dialogue->idle_tag), "%s", dialogue->tag);
	bytes_put_str(&dialogue->out, "+ idling\r\n");
	note(now, dialogue->number, "idle", NULL);
	if (has_news(dialogue)) {
		note(now, dialogue->number, "push", "%u %u", dialogue->box->number,
			dialogue->box->n_messages);
		put_news(dialogue);
	}
}

static void take_done(struct dialogue *dialogue, const char *line)
{
	snprintf(dialogue->tag, sizeof(dialogue->tag), "%s", dialogue->idle_tag);
	dialogue->idle_tag[0] = '\0';
	if (strcasecmp(line, "DONE") == 0) {
		note(now_nsec(), dialogue->number, "done", NULL);
		put_answer(dialogue, "OK idled");
	} else {
		put_violation(dialogue, "DONE is due");
	}
}

static const char *after(const char *command, const char *word)
{
	size_t len = strlen(word);
	if (strncasecmp(command, word, len) != 0 || (command[len] && command[len] != ' ')) {
		return NULL;
	}
	return command + len + (command[len] == ' ');
}

/* The commands of a mailbox that is open; false: it is none. */
static bool take_selected(struct dialogue *dialogue, const char *command)
{
	const char *args;
	if ((args = after(command, "UID FETCH"))) {
		fetch(dialogue, args);
	} else if ((args = after(command, "FETCH"))) {
		if (dialogue->numbers_off) {
			put_violation(dialogue, "message numbers may have changed");
		} else {
			fetch(dialogue, args);
		}
	} else if ((args = after(command, "UID SEARCH"))) {
		search(dialogue, args);
	} else if (after(command, "IDLE")) {
		idle(dialogue);
	} else {
		return false;
	}
	return true;
}

static bool take_authenticated(struct dialogue *dialogue, const char *command)
{
	const char *args;
	if ((args = after(command, "EXAMINE")) || (args = after(command, "SELECT"))) {
		examine(dialogue, args);
	} else if ((args = after(command, "STATUS"))) {
		status(dialogue, args);
	} else if ((args = after(command, "LIST"))) {
		list(dialogue, args);
	} else if ((args = after(command, "ENABLE"))) {
		enable(dialogue, args);
	} else if ((args = after(command, "NOTIFY"))) {
		notify(dialogue, args);
	} else if ((args = after(command, "COMPRESS"))) {
		compress(dialogue, args);
	} else if (after(command, "NAMESPACE")) {
		bytes_put_str(&dialogue->out, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
		put_answer(dialogue, "OK told");
	} else {
		return false;
	}
	return true;
}

static void take_command(struct dialogue *dialogue, const char *command)
{
	const char *args;
	if (dialogue->state >= DIALOGUE_AUTHENTICATED && take_authenticated(dialogue, command)) {
		dialogue->numbers_off = true;
	} else if (dialogue->state == DIALOGUE_SELECTED && take_selected(dialogue, command)) {
		dialogue->numbers_off = dialogue->numbers_off || after(command, "UID FETCH") ||
			after(command, "UID SEARCH");
	} else if (after(command, "NOOP")) {
		dialogue->numbers_off = true;
		put_answer(dialogue, "OK done");
	} else if (after(command, "CAPABILITY")) {
		bytes_printf(&dialogue->out, "* CAPABILITY %s\r\n", dialogue->house->capabilities);
		put_answer(dialogue, "OK told");
	} else if (after(command, "ID")) {
		bytes_put_str(&dialogue->out, "* ID (\"name\" \"benchmark\")\r\n");
		put_answer(dialogue, "OK told");
	} else if (after(command, "LOGOUT")) {
		bytes_put_str(&dialogue->out, "* BYE till next time\r\n");
		put_answer(dialogue, "OK bye");
	} else if (dialogue->state == DIALOGUE_LOGIN && (args = after(command, "AUTHENTICATE"))) {
		authenticate(dialogue, args);
	} else {
		put_answer(dialogue, "BAD not here, or not now");
	}
}

/* Its name alone: two words for UID, and never what follows AUTHENTICATE. */
static void note_command(const struct dialogue *dialogue, const char *command)
{
	size_t len = strcspn(command, " ");
	if (after(command, "UID") && command[len]) {
		len += 1 + strcspn(command + len + 1, " ");
	}
	note(now_nsec(), dialogue->number, "command", "%.*s", (int)len, command);
}

static void take_line(struct dialogue *dialogue, char *line)
{
	if (dialogue->state == DIALOGUE_RESPONSE) {
		take_response(dialogue, line);
		return;
	}
	if (dialogue->idle_tag[0]) {
		take_done(dialogue, line);
		return;
	}
	size_t len = strcspn(line, " ");
	snprintf(dialogue->tag, sizeof(dialogue->tag), "%.*s", (int)len, line);
	if (len == 0 || line[len] == '\0' || line[strlen(line) - 1] == '}') {
		put_violation(dialogue, "no command, or one with a literal");
		return;
	}
	note_command(dialogue, line + len + 1);
	take_command(dialogue, line + len + 1);
}

/* -- the connection -- */

void dialogue_new(struct house *house, int fd)
{
	struct dialogue *dialogue = calloc(1, sizeof(*dialogue));
	if (!dialogue) {
		fail("memory");
	}
	dialogue->house = house;
	dialogue->number = ++house->n_dialogues;
	list_append(&house->dialogues, &dialogue->node);
	house->n_handshakes++;
	if (house->n_handshakes > house->n_handshakes_max) {
		house->n_handshakes_max = house->n_handshakes;
	}
	note(now_nsec(), dialogue->number, "accepted", "%u", house->n_handshakes);
	wire_init(&dialogue->wire, &house->network, fd);
}

struct dialogue *dialogue_free(struct dialogue *dialogue)
{
	if (dialogue->state == DIALOGUE_GREETING) {
		dialogue->house->n_handshakes--;
	}
	note(now_nsec(), dialogue->number, "closed", NULL);
	list_remove(&dialogue->node);
	wire_done(&dialogue->wire);
	deflated_free(dialogue->deflated);
	bytes_done(&dialogue->in);
	bytes_done(&dialogue->out);
	bytes_done(&dialogue->raw_in);
	bytes_done(&dialogue->raw_out);
	free(dialogue->others);
	free(dialogue);
	return NULL;
}

static void greet(struct dialogue *dialogue)
{
	bool is_resumed = gnutls_session_is_resumed(dialogue->wire.session);
	dialogue->house->n_handshakes--;
	dialogue->state = DIALOGUE_LOGIN;
	note(now_nsec(), dialogue->number, "secured", "%s %s", is_resumed ? "resumed" : "full",
		gnutls_protocol_get_name(gnutls_protocol_get_version(dialogue->wire.session)));
	bytes_printf(
		&dialogue->out, "* OK [CAPABILITY %s] hello\r\n", dialogue->house->capabilities);
}

static bool receive(struct dialogue *dialogue)
{
	if (!dialogue->deflated) {
		return wire_receive(&dialogue->wire, &dialogue->in);
	}
	bool goes_on = wire_receive(&dialogue->wire, &dialogue->raw_in);
	return deflated_receive(dialogue->deflated, &dialogue->raw_in, &dialogue->in) && goes_on;
}

void dialogue_turn(struct dialogue *dialogue)
{
	bool goes_on = receive(dialogue);
	if (goes_on && dialogue->wire.is_open && dialogue->state == DIALOGUE_GREETING) {
		greet(dialogue);
	}
	if (goes_on && dialogue->fetch_items && wire_backlog(&dialogue->wire) < BACKLOG_HIGH) {
		advance_fetch(dialogue);
	}
	dialogue->numbers_off = false;
	while (goes_on && !dialogue->fetch_items) {
		struct span span = bytes_span(&dialogue->in);
		char *end = span.len > 0 ? memmem(span.data, span.len, "\r\n", 2) : NULL;
		if (!end) {
			break;
		}
		*end = '\0';
		take_line(dialogue, (char *)span.data);
		bytes_consume(&dialogue->in, (size_t)(end + 2 - (char *)span.data));
	}
	send_out(dialogue);
	if (!goes_on || dialogue->wire.has_ended) {
		dialogue_free(dialogue);
	}
}
