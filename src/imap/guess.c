#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"
#include "util/log.h"

/* Commands are sent before it is certain that they will be wanted: what would be put next if all
 * went as it did before. A guess is right when the very command is put that was sent, to the octet;
 * then it is that command. It is wrong when another one is put, or when it is answered before its
 * turn has come: then this guess and those behind it are void. What the server says to them is
 * received and thrown away, a void IDLE gets DONE, and as soon as the last of them is answered all
 * goes on as if they had never been sent. So whatever leads to the next command needs to know
 * nothing of guesses.
 *
 *   login       behind LOGIN or AUTHENTICATE: what follows them, by what is known from the
 *               connection before
 *   greet back  behind ID, NAMESPACE and ENABLE: EXAMINE
 *   open        behind EXAMINE: the look, and IDLE
 */

bool guesses_are_sent(const struct imap_client *client)
{
	return !list_is_empty(&client->guesses) &&
		list_entry(client->guesses.next, struct command, link)->is_sent;
}

/* Servers are asked command by command if they stumble; and one guess at a time is enough. */
static bool may_guess(const struct imap_client *client)
{
	return !client->options.is_stepwise && !client->is_guessing && !client_is_over(client) &&
		list_is_empty(&client->guesses);
}

static void begin(struct imap_client *client)
{
	client->is_guessing = true;
	client->guesses_are_void = false;
}

/* -- what is guessed -- */

/* What follows EXAMINE where nothing has happened: no more than servers with CONDSTORE can say by
 * EXAMINE alone. */
static void guess_behind_open(struct imap_client *client, const struct imap_mailbox *mailbox)
{
	const struct imap_cursor *cursor = &mailbox->cursor;
	if (client->has_condstore && cursor->uidvalidity != 0 && cursor->highestmodseq != 0 &&
		!cursor->has_flags) {
		cycle_put_guess(client);
	}
}

/* The mailbox that is opened first, if it is the watched one. */
static struct imap_mailbox *first_mailbox(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->requests) {
		const struct request *request = list_entry(node, struct request, link);
		if (request->kind != REQUEST_REFRESH || request->mailbox != client->watched) {
			return NULL;
		}
	}
	return client->open.mailbox ? NULL : client->watched;
}

/* With the view as it would be if the mailbox were open. */
static void guess_open(struct imap_client *client)
{
	struct imap_mailbox *mailbox = first_mailbox(client);
	if (!mailbox) {
		return;
	}
	client->open.mailbox = mailbox;
	open_put_command(client);
	guess_behind_open(client, mailbox);
	client->open.mailbox = NULL;
}

/* What the client knows of the server, to be put back when a guess has been made. */
struct knowledge {
	struct bytes capability_words;
	struct span *capabilities;
	size_t n_capabilities;
	bool has_capabilities;
	bool has_condstore, has_qresync, has_utf8, has_rev2, no_idle;
};

static struct knowledge knowledge_of(const struct imap_client *client)
{
	return (struct knowledge){
		.capability_words = client->capability_words,
		.capabilities = client->capabilities,
		.n_capabilities = client->n_capabilities,
		.has_capabilities = client->has_capabilities,
		.has_condstore = client->has_condstore,
		.has_qresync = client->has_qresync,
		.has_utf8 = client->has_utf8,
		.has_rev2 = client->has_rev2,
		.no_idle = client->no_idle,
	};
}

static void know_again(struct imap_client *client, const struct knowledge *knowledge)
{
	client->capability_words = knowledge->capability_words;
	client->capabilities = knowledge->capabilities;
	client->n_capabilities = knowledge->n_capabilities;
	client->has_capabilities = knowledge->has_capabilities;
	client->has_condstore = knowledge->has_condstore;
	client->has_qresync = knowledge->has_qresync;
	client->has_utf8 = knowledge->has_utf8;
	client->has_rev2 = knowledge->has_rev2;
	client->no_idle = knowledge->no_idle;
}

/* All that is offered, unless it is known what became of it. */
static void assume_enabled(struct imap_client *client)
{
	const struct imap_memory *past = &client->past;
	bool is_known = past->after != NULL;
	if (has_extension(client, "ENABLE")) {
		bool has_utf8 = imap_client_has_capability(client, "UTF8=ACCEPT") ||
			imap_client_has_capability(client, "UTF8=ONLY") ||
			imap_client_has_capability(client, "IMAP4REV2");
		client->has_qresync = is_known ? past->has_qresync
					       : imap_client_has_capability(client, "QRESYNC");
		client->has_utf8 = client->has_utf8 || (is_known ? past->has_utf8 : has_utf8);
	}
}

void guess_at_greeting_back(struct imap_client *client)
{
	if (!may_guess(client) || !first_mailbox(client)) {
		return;
	}
	struct knowledge knowledge = knowledge_of(client);
	begin(client);
	assume_enabled(client);
	guess_open(client);
	client->is_guessing = false;
	know_again(client, &knowledge);
}

void guess_at_opening(struct imap_client *client)
{
	if (!may_guess(client)) {
		return;
	}
	begin(client);
	guess_behind_open(client, client->open.mailbox);
	client->is_guessing = false;
}

void guess_at_login(struct imap_client *client)
{
	const struct imap_memory *past = &client->past;
	bool is_as_before = client->login_is_whole && past->login_is_whole && past->after &&
		strcmp(client->mechanism, past->mechanism) == 0;
	if (!is_as_before || client->options.is_login_alone || !may_guess(client)) {
		return;
	}
	struct knowledge knowledge = knowledge_of(client);
	bytes_init(&client->capability_words);
	client->capabilities = NULL;
	take_words(client, past->after);
	bool is_compressing =
		client->options.compress && imap_client_has_capability(client, "COMPRESS=DEFLATE");
	if (!client_is_over(client) && !is_compressing) {
		begin(client);
		if (!past->login_tells) {
			command_put(client, COMMAND_CAPABILITY, NULL, "CAPABILITY");
		}
		client->no_idle = !has_extension(client, "IDLE");
		login_greet_back(client);
		assume_enabled(client);
		guess_open(client);
		client->is_guessing = false;
	}
	bytes_done(&client->capability_words);
	free(client->capabilities);
	know_again(client, &knowledge);
}

/* -- right or wrong -- */

/* What follows the tag. */
static struct span words_of(const struct command *command)
{
	struct span text = bytes_span(&command->text);
	const uint8_t *blank = memchr(text.data, ' ', text.len);
	size_t tag = blank ? (size_t)(blank - text.data) : 0;
	return (struct span){.data = text.data + tag, .len = text.len - tag};
}

static bool is_same(const struct command *guess, const struct command *command)
{
	struct span a = words_of(guess);
	struct span b = words_of(command);
	return guess->kind == command->kind && a.len == b.len && bytes_len(&command->rest) == 0 &&
		memcmp(a.data, b.data, a.len) == 0;
}

void guesses_void(struct imap_client *client)
{
	if (list_is_empty(&client->guesses) || client->guesses_are_void) {
		return;
	}
	if (!guesses_are_sent(client)) {
		LIST_FOR_EACH_SAFE (node, &client->guesses) {
			command_free(list_entry(node, struct command, link));
		}
		return;
	}
	client->guesses_are_void = true;
	LIST_FOR_EACH (node, &client->guesses) {
		const struct command *guess = list_entry(node, struct command, link);
		log_debug(NULL, NULL, "imap %s: %s was sent in vain", client->tag_prefix,
			command_name(guess->kind));
		/* A mailbox that nobody opened is open then, and what is said is about it. */
		client->is_astray = client->is_astray || guess->kind == COMMAND_OPEN;
		client->notify.was_guessed =
			client->notify.was_guessed || guess->kind == COMMAND_NOTIFY;
	}
}

void guess_heard(struct imap_client *client, const struct imap_response *response)
{
	bool is_of_opening = response->kind == IMAP_RESPONSE_EXISTS ||
		response->kind == IMAP_RESPONSE_VANISHED || response->kind == IMAP_RESPONSE_FETCH;
	if (is_of_opening && guesses_are_sent(client) &&
		list_entry(client->guesses.next, struct command, link)->kind == COMMAND_OPEN) {
		guesses_void(client);
	}
}

void guess_meet(struct imap_client *client, struct command *command)
{
	if (list_is_empty(&client->guesses) || client->guesses_are_void) {
		return;
	}
	struct command *guess = list_entry(client->guesses.next, struct command, link);
	if (!guess->is_sent || !is_same(guess, command)) {
		guesses_void(client);
		return;
	}
	if (command->number == client->n_commands) {
		client->n_commands--; /* its tag was never seen */
	}
	command->number = guess->number;
	command->is_sent = true;
	command->in_company = guess->in_company;
	command->deadline = client->now + COMMAND_USEC;
	bytes_done(&command->text);
	command_free(guess);
}

void guess_answered(struct imap_client *client, const struct command *guess,
	const struct imap_response *response)
{
	guesses_void(client);
	if (guess->kind == COMMAND_OPEN) {
		client->is_astray = true;
		/* RFC 7162 section 3.2.11: CLOSED will say where its data end. */
		if (response->status == IMAP_STATUS_OK) {
			client->open.awaits_closed = !client->open.mailbox || client->has_qresync;
		}
	}
}

struct command *guess_awaiting_continuation(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->guesses) {
		struct command *guess = list_entry(node, struct command, link);
		if (guess->kind == COMMAND_IDLE && guess->is_sent && !guess->is_done) {
			return guess;
		}
	}
	return NULL;
}
