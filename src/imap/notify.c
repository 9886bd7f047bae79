#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/engine.h"
#include "imap/utf7.h"
#include "imap/writer.h"
#include "util/log.h"

enum {
	NAMES_MAX = 100,     /* Dovecot refuses more of one namespace */
	NAMES_OCTETS = 8000, /* RFC 7162 section 4: a command line has 8,192 octets at most */
	MAX_MISSING = 3,     /* so many pushes in a row without their data: NOTIFY is of no use */
};

/* How long after EXISTS the data may come. */
#define DATA_USEC (1 * USEC_PER_SEC)

/* -- names -- */

/* INBOX is the same in any case (RFC 9051 section 5.1). */
static int compare_names(const char *a, const char *b)
{
	return strcmp(strcasecmp(a, "INBOX") == 0 ? "INBOX" : a,
		strcasecmp(b, "INBOX") == 0 ? "INBOX" : b);
}

static int compare_others(const void *a, const void *b)
{
	return compare_names(((const struct other *)a)->name, ((const struct other *)b)->name);
}

static void others_done(struct others *others)
{
	for (size_t i = 0; i < others->n; i++) {
		free(others->list[i].name);
	}
	free(others->list);
	*others = (struct others){0};
}

/* RFC 5465 section 3.1: with STATUS the server says of each that it watches what it is like.
 * Dovecot takes modified UTF-7 for the name itself, says nothing, and would never do so. */
static void others_keep_said(struct others *others)
{
	size_t n = 0;
	for (size_t i = 0; i < others->n; i++) {
		if (others->list[i].has_changed) {
			others->list[n++] = others->list[i];
		} else {
			free(others->list[i].name);
		}
	}
	others->n = n;
}

static struct other *others_find(const struct others *others, const char *name)
{
	const struct other key = {.name = (char *)name};
	return others->n == 0 ? NULL
			      : bsearch(&key, others->list, others->n, sizeof(key), compare_others);
}

static void free_names(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
	}
	free(names);
}

void notify_done(struct imap_client *client)
{
	struct notify *notify = &client->notify;
	free_names(notify->names, notify->n_names);
	others_done(&notify->asked);
	others_done(&notify->covered);
	*notify = (struct notify){0};
}

static bool has_names(const struct notify *notify, const char *const *names, size_t n)
{
	bool is_same = n == notify->n_names;
	for (size_t i = 0; is_same && i < n; i++) {
		is_same = strcmp(names[i], notify->names[i]) == 0;
	}
	return is_same;
}

int imap_client_watch_others(
	struct imap_client *client, const char *const *names, size_t n, uint64_t now)
{
	struct notify *notify = &client->notify;
	client->now = now;
	if (has_names(notify, names, n)) {
		return 0;
	}
	char **copies = calloc(n + 1, sizeof(*copies));
	if (!copies) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		copies[i] = strdup(names[i]);
		if (!copies[i]) {
			free_names(copies, i);
			return -ENOMEM;
		}
	}
	free_names(notify->names, notify->n_names);
	notify->names = copies;
	notify->n_names = n;
	notify->is_stale = true;
	settle(client);
	return 0;
}

/* -- NOTIFY SET -- */

/* Without IDLE Dovecot before 2.4 pushes nothing for a second after each command and each push, and
 * loses what comes meanwhile. */
static bool is_possible(const struct imap_client *client)
{
	bool is_ready = client->state >= IMAP_STATE_READY && client->state < IMAP_STATE_LOGOUT;
	return (is_ready || client->is_guessing) && !client->notify.is_over && !client->no_idle &&
		has_extension(client, "NOTIFY");
}

bool notify_is_wanted(const struct imap_client *client)
{
	const struct notify *notify = &client->notify;
	const struct open *open = &client->open;
	bool is_followed =
		open->stage == OPEN_FOLLOWED || (client->is_guessing && !open->wants_writable);
	bool is_home = client->watched && open->mailbox == client->watched && is_followed &&
		!open->is_writable;
	return is_home && is_possible(client) &&
		(!notify->was_sent || notify->is_stale || notify->items != new_mail_items(client));
}

/* A name as it goes into the command; false where it cannot be said. */
static bool encode_name(const struct imap_client *client, const char *name, struct bytes *bytes)
{
	char *encoded = NULL;
	bytes_init(bytes);
	if (!client->has_utf8 && imap_utf7_encode(name, &encoded) < 0) {
		return false;
	}
	imap_put_quoted(bytes, encoded ? encoded : name);
	free(encoded);
	if (bytes->error < 0) {
		bytes_done(bytes);
		return false;
	}
	return true;
}

/* The others in parentheses, and the same sorted. */
static void put_others(struct imap_client *client, struct bytes *text, struct others *others)
{
	const struct notify *notify = &client->notify;
	size_t most = notify->n_names < NAMES_MAX ? notify->n_names : NAMES_MAX;
	others->list = calloc(most + 1, sizeof(*others->list));
	if (!others->list) {
		client_fail_memory(client);
		return;
	}
	size_t begin = bytes_len(text);
	for (size_t i = 0; i < notify->n_names && others->n < most; i++) {
		struct bytes name;
		if (!encode_name(client, notify->names[i], &name)) {
			continue;
		}
		struct span span = bytes_span(&name);
		struct other *other = &others->list[others->n];
		bool has_room = bytes_len(text) - begin + span.len < NAMES_OCTETS;
		other->name = has_room ? strdup(notify->names[i]) : NULL;
		if (other->name) {
			bytes_put_str(text, others->n++ == 0 ? " (MAILBOXES (" : " ");
			bytes_put(text, span.data, span.len);
		}
		bytes_done(&name);
		if (!has_room) {
			break;
		}
	}
	if (others->n > 0) {
		bytes_put_str(text, ") (MessageNew MessageExpunge FlagChange))");
		qsort(others->list, others->n, sizeof(*others->list), compare_others);
	}
}

/* SELECTED-DELAYED and not SELECTED, under which EXPUNGE may come while FETCH is being answered.
 * STATUS: what became of the others until now is said first, so that nothing is missed between a
 * visit and this. */
static void put_command(struct imap_client *client, struct others *others)
{
	struct command *command = command_new(client, COMMAND_NOTIFY, NULL);
	if (!command) {
		return;
	}
	struct bytes text;
	bytes_init(&text);
	if (!client->notify.is_alone && client->notify.n_names > 0) {
		put_others(client, &text, others);
	}
	bytes_put_str(&command->text, "NOTIFY SET ");
	bytes_put_str(&command->text, others->n > 0 ? "STATUS " : "");
	bytes_put_str(&command->text, "(SELECTED-DELAYED (MessageNew ");
	put_fetch_items(client, &command->text, new_mail_items(client));
	bytes_put_str(&command->text, " MessageExpunge FlagChange))");
	struct span span = bytes_span(&text);
	bytes_put(&command->text, span.data, span.len);
	command->text.error = text.error < 0 ? text.error : command->text.error;
	bytes_done(&text);
	command_end(client, command);
}

static void put_notify(struct imap_client *client)
{
	struct notify *notify = &client->notify;
	others_done(&notify->asked);
	bool is_first = !notify->is_in_force && !notify->was_guessed;
	if (!is_first) {
		/* Dovecot 2.3 says OK to another NOTIFY SET, and then loses most of what it is to
		 * push. What happens between the two, the STATUS and the look find. */
		command_put(client, COMMAND_NOTIFY_NONE, NULL, "NOTIFY NONE");
		client->wants_pass = true;
	}
	notify->items = new_mail_items(client);
	notify->was_sent = true;
	notify->was_guessed = notify->is_stale = false;
	put_command(client, &notify->asked);
	if (is_first && notify->was_guessed && !client_is_over(client)) {
		/* It turns out that another one was guessed. This one's tag was never seen. */
		client->n_commands--;
		command_free(list_entry(client->commands.prev, struct command, link));
		put_notify(client);
	}
}

static void tell_notify(struct imap_client *client)
{
	struct imap_event *event = client_event(client, IMAP_EVENT_NOTIFY);
	if (event) {
		event->is_in_force = client->notify.is_in_force;
	}
}

void notify_end(struct imap_client *client)
{
	struct notify *notify = &client->notify;
	if (notify->is_over) {
		return;
	}
	log_debug(NULL, NULL, "imap %s: NOTIFY is over", client->tag_prefix);
	client->wants_pass = client->wants_pass || notify->is_in_force;
	notify->is_over = true;
	notify->is_in_force = false;
	notify->data_due = 0;
	others_done(&notify->asked);
	others_done(&notify->covered);
	tell_notify(client);
}

void handle_notify(struct imap_client *client, const struct imap_response *response)
{
	struct notify *notify = &client->notify;
	if (notify->is_over) {
		return; /* there was an overflow before it was answered */
	}
	if (response->status == IMAP_STATUS_OK) {
		notify->is_in_force = true;
		others_done(&notify->covered);
		notify->covered = notify->asked;
		notify->asked = (struct others){0};
		others_keep_said(&notify->covered);
		notify->has_changes = true;
		tell_notify(client);
	} else if (notify->asked.n > 0 && response->code != IMAP_CODE_BADEVENT) {
		/* It may be the names that it cannot watch, or so many of them. */
		notify->is_alone = notify->is_stale = true;
		others_done(&notify->asked);
		others_done(&notify->covered);
	} else {
		notify_end(client);
	}
}

void notify_take_warning(struct imap_client *client, const struct imap_response *response)
{
	/* Dovecot's way to say that events may be lost is an untagged NO without a code. */
	bool is_loss = response->status == IMAP_STATUS_NO && response->text.len >= 6 &&
		strncasecmp((const char *)response->text.data, "NOTIFY", 6) == 0;
	if (client->notify.was_sent &&
		(is_loss || response->code == IMAP_CODE_NOTIFICATIONOVERFLOW)) {
		notify_end(client);
	}
}

/* -- the data of new messages -- */

bool notify_brings_data(const struct imap_client *client)
{
	return client->notify.is_in_force && client->open.mailbox == client->watched;
}

/* Whether a message has what was asked for. */
static bool is_complete(const struct imap_client *client, const struct imap_message *message)
{
	unsigned int items = new_mail_items(client);
	unsigned int plain = items & (IMAP_FETCH_PREVIEW - 1) & ~IMAP_ITEM_MODSEQ;
	unsigned int preview =
		items & IMAP_FETCH_PREVIEW ? IMAP_ITEM_PREVIEW | IMAP_ITEM_BODYSTRUCTURE : 0;
	return (message->items & plain) == plain && (!preview || message->items & preview);
}

bool notify_takes(struct imap_client *client, const struct imap_message *message)
{
	struct open *open = &client->open;
	if (!client->notify.is_in_force || !is_complete(client, message)) {
		return false;
	}
	if (message->number > open->exists) {
		follow_exists(client, message->number); /* which should have come before it */
	}
	if (!follow_has_tail(client) && !runs_get(&open->pending, message->uid, NULL)) {
		open->wants_look = true; /* there is no room for it: something is off */
		return false;
	}
	client->notify.data_due = 0; /* the rest has time again */
	return true;
}

/* What was pushed is told when nothing of it is missing any more. */
static void settle_data(struct imap_client *client)
{
	struct notify *notify = &client->notify;
	struct open *open = &client->open;
	bool is_quiet = open->stage == OPEN_FOLLOWED && open->is_synchronised &&
		!open->owes_answer && !open->wants_look && !open->wants_scan &&
		!commands_have(client, COMMAND_LOOK_BLOCK) &&
		!commands_have(client, COMMAND_LOOK_PART);
	if (!notify_brings_data(client) || !is_quiet) {
		notify->data_due = 0;
		return;
	}
	if (follow_has_tail(client)) {
		if (notify->data_due == 0) {
			notify->data_due = client->now + DATA_USEC;
		}
		return;
	}
	notify->data_due = 0;
	if (runs_count(&open->pending) == 0) {
		return;
	}
	notify->n_missing = 0;
	follow_tell_arrivals(client, false);
	if (client_is_over(client)) {
		return;
	}
	open->wants_look = open->numbers_off;
	if (!open->wants_look && runs_count(&open->pending) == 0) {
		cycle_tell_synchronised(client);
	}
}

void notify_tick(struct imap_client *client)
{
	struct notify *notify = &client->notify;
	if (notify->data_due == 0 || notify->data_due > client->now) {
		return;
	}
	notify->data_due = 0;
	client->open.wants_look = true;
	/* Between commands a server may wait for the end of them. */
	if (client->state == IMAP_STATE_IDLING && ++notify->n_missing >= MAX_MISSING) {
		notify_end(client);
	}
}

/* -- the others -- */

static void note_change(struct other *other, const struct imap_mailbox_status *status, bool is_push)
{
	struct imap_elsewhere *elsewhere = &other->elsewhere;
	other->has_changed = true;
	elsewhere->is_push = elsewhere->is_push || is_push;
	if (status->has_messages) {
		elsewhere->has_messages = true;
		elsewhere->messages = status->messages;
	}
	elsewhere->uidvalidity =
		status->has_uidvalidity ? status->uidvalidity : elsewhere->uidvalidity;
	elsewhere->uidnext = status->has_uidnext ? status->uidnext : elsewhere->uidnext;
	elsewhere->highestmodseq =
		status->has_highestmodseq ? status->highestmodseq : elsewhere->highestmodseq;
}

static bool is_as_left(const struct other *other, const struct imap_mailbox_status *status)
{
	const struct imap_mailbox_status *left = &other->left;
	return status->has_messages && status->messages == left->messages && status->has_unseen &&
		status->unseen == left->unseen && status->has_uidnext &&
		(left->uidnext == 0 || status->uidnext == left->uidnext) &&
		(!status->has_uidvalidity || status->uidvalidity == left->uidvalidity) &&
		(!status->has_highestmodseq || left->highestmodseq == 0 ||
			status->highestmodseq <= left->highestmodseq);
}

static void take_status(struct imap_client *client, const char *name,
	const struct imap_mailbox_status *status, bool is_answer)
{
	struct notify *notify = &client->notify;
	struct other *covered = others_find(&notify->covered, name);
	struct other *asked = others_find(&notify->asked, name);
	const struct imap_mailbox *open = client->open.mailbox;
	if ((open && compare_names(open->name, name) == 0) ||
		(client->watched && compare_names(client->watched->name, name) == 0)) {
		return; /* opening it shows what became of it */
	}
	if (asked) {
		/* Told when it is in force. Of one that was watched before it may be a push. */
		note_change(asked, status, covered != NULL);
	} else if (is_answer) {
		return;
	} else if (covered && !covered->is_checked) {
		note_change(covered, status, true);
	} else if (covered && !is_as_left(covered, status)) {
		covered->was_in_doubt = true;
		note_change(covered, status, true);
	}
	notify->has_changes = true;
}

void notify_take_status(
	struct imap_client *client, const struct imap_response *response, bool is_answer)
{
	if (client->notify.asked.n > 0 || client->notify.covered.n > 0) {
		char *name = take_mailbox_name(client, response->mailbox_status.name);
		if (name) {
			take_status(client, name, &response->mailbox_status, is_answer);
		}
		free(name);
	}
}

void notify_unheard(struct imap_client *client, const char *name)
{
	struct other *other = others_find(&client->notify.covered, name);
	if (other) {
		other->has_changed = other->elsewhere.is_push = true;
		client->notify.has_changes = true;
	}
}

static void tell_others(struct imap_client *client)
{
	struct others *others = &client->notify.covered;
	for (size_t i = 0; i < others->n && client->notify.has_changes; i++) {
		struct other *other = &others->list[i];
		if (!other->has_changed) {
			continue;
		}
		struct imap_event *event = client_event(client, IMAP_EVENT_CHANGED_ELSEWHERE);
		if (!event) {
			return;
		}
		event->list_name = strdup(other->name);
		if (!event->list_name) {
			client_fail_memory(client);
			return;
		}
		event->elsewhere = other->elsewhere;
		other->elsewhere = (struct imap_elsewhere){0};
		other->has_changed = false;
	}
	client->notify.has_changes = false;
}

/* -- visits -- */

void notify_leave(struct imap_client *client)
{
	const struct open *open = &client->open;
	const struct imap_mailbox *mailbox = open->mailbox;
	struct other *other = mailbox && mailbox != client->watched
		? others_find(&client->notify.covered, mailbox->name)
		: NULL;
	if (!other || other->was_in_doubt) {
		/* Once is enough: what STATUS says of some mailboxes is never what EXAMINE says. */
		if (other) {
			other->was_in_doubt = false;
		}
		return;
	}
	other->was_left = true;
	other->left = (struct imap_mailbox_status){0};
	if (open->stage == OPEN_FOLLOWED && open->is_synchronised) {
		other->left = (struct imap_mailbox_status){
			.messages = (uint32_t)runs_count(&mailbox->messages),
			.unseen = (uint32_t)mailbox->n_unread,
			.uidvalidity = mailbox->cursor.uidvalidity,
			.uidnext = mailbox->uidnext,
			.highestmodseq = follow_modseq(client),
		};
	}
}

/* What happens in the moment in which a mailbox is left is neither pushed, for it was open, nor
 * told by STATUS, for it was no other one. */
static void put_checks(struct imap_client *client)
{
	struct others *others = &client->notify.covered;
	for (size_t i = 0; i < others->n && !client_is_over(client); i++) {
		struct other *other = &others->list[i];
		if (!other->was_left) {
			continue;
		}
		other->was_left = client->is_guessing;
		other->is_checked = other->is_checked || !client->is_guessing;
		struct command *command = command_new(client, COMMAND_CHECK, NULL);
		if (!command) {
			return;
		}
		bytes_put_str(&command->text, "STATUS ");
		command_put_mailbox(client, command, other->name);
		bytes_printf(&command->text, " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN%s)",
			client->has_condstore ? " HIGHESTMODSEQ" : "");
		command_end(client, command);
	}
}

void notify_checked(struct imap_client *client)
{
	struct others *others = &client->notify.covered;
	if (commands_have(client, COMMAND_CHECK)) {
		return;
	}
	for (size_t i = 0; i < others->n; i++) {
		others->list[i].is_checked = false;
	}
}

/* -- turns -- */

void notify_put_guess(struct imap_client *client)
{
	struct others others = {0};
	if (client->watched && client->open.mailbox == client->watched) {
		put_checks(client);
	}
	if (!client_is_over(client) && notify_is_wanted(client)) {
		put_command(client, &others);
		others_done(&others);
	}
}

void notify_put(struct imap_client *client)
{
	if (client->watched && client->open.mailbox == client->watched) {
		put_checks(client);
	}
	if (!client_is_over(client) && notify_is_wanted(client) &&
		!commands_have(client, COMMAND_NOTIFY)) {
		put_notify(client);
	}
}

void notify_settle(struct imap_client *client)
{
	tell_others(client);
	if (!client_is_over(client)) {
		settle_data(client);
	}
}

/* -- questions -- */

bool imap_client_has_notify(const struct imap_client *client)
{
	return client->notify.is_in_force;
}

bool imap_client_may_notify(const struct imap_client *client)
{
	return is_possible(client);
}

bool imap_client_notifies(const struct imap_client *client, const char *name)
{
	return client->notify.is_in_force && others_find(&client->notify.covered, name);
}
