#include <stdio.h>

#include "imap/engine.h"
#include "imap/trace.h"
#include "util/log.h"

/* Servers that do not bear several commands at a time, as RFC 3501 section 5.5 says they must:
 *
 *   1. They answer BAD to one that they would understand by itself. (One that they do not
 *      understand by itself either is found out by the next connection, which asks command by
 *      command: then it was no stumbling.) Cyrus 3.6 reads AUTHENTICATE PLAIN a second time where
 *      something is behind it, and loses as many octets at the end.
 *   2. They take what follows AUTHENTICATE for a part of it, and say "+".
 *   3. They throw away what has come together with what they answer. What comes later is answered,
 *      this is not, and then there is silence.
 *   4. They throw away all that was behind, and wait for more, as Courier does behind LOGIN. So it
 *      looks when a path dies, too; therefore one more NOOP is sent after some seconds. If it is
 *      answered while something before it is not, that was swallowed: certain. If nothing comes,
 *      but a part of the flight had been answered, the path was alive when all of it was under way:
 *      likely. If no part of it was answered, that says nothing about the server.
 *
 * What is behind a login is a matter of its own, for servers change their process there: those two
 * bear all other flights.
 */

/* So soon after a login what asks nothing of a mailbox should be answered. */
#define GREETED_USEC (1 * USEC_PER_SEC)

/* Since the last octet, and not in the middle of a response: then the NOOP is sent, and so long all
 * in all is waited. */
#define SILENCE_USEC (5 * USEC_PER_SEC)
#define VERDICT_USEC (10 * USEC_PER_SEC)

static void stumble(struct imap_client *client, enum imap_stumble kind, const char *what)
{
	struct failure failure;
	client->stumble = client->begins_with_login ? IMAP_STUMBLE_AT_LOGIN : kind;
	failure_set(&failure, FAILURE_OFFLINE, "the server %s: it does not bear several at a time",
		what);
	client_close(client, &failure, IMAP_END_STUMBLED, 0);
}

/* Others are harmless when they fail, or must not be asked twice. */
static const uint64_t suspicious = KIND(CAPABILITY) | KIND(AUTHENTICATE) | KIND(LOGIN) |
	KIND(ENABLE) | KIND(OPEN) | KIND(SEARCH_ALL) | KIND(SEARCH_UNSEEN) | KIND(FETCH_FLAGS) |
	KIND(FETCH_CHANGES) | KIND(NOOP) | KIND(LOOK) | KIND(LOOK_UIDS) | KIND(LOOK_BLOCK) |
	KIND(LOOK_PART) | KIND(IDLE) | KIND(STATUS) | KIND(FETCH) | KIND(FETCH_PART) |
	KIND(FETCH_RAW) | KIND(LIST) | KIND(LIST_SPECIAL);

bool stumbles_at_answer(struct imap_client *client, const struct command *command,
	const struct imap_response *response)
{
	uint64_t kind = UINT64_C(1) << command->kind;
	uint64_t retry_after;
	if (response->status != IMAP_STATUS_BAD) {
		return false;
	}
	if (client->options.is_stepwise) {
		client->bad_alone |= kind;
		return false;
	}
	if (!command->in_company || !(suspicious & ~client->options.bad_alone & kind) ||
		client->nudge != 0 ||
		classify_refusal(response, &retry_after) != IMAP_END_ORDINARY) {
		return false;
	}
	client->stumbled_at = kind;
	stumble(client, IMAP_STUMBLE_CERTAIN, "said BAD to one of several commands");
	return true;
}

bool stumbles_at_continuation(struct imap_client *client)
{
	struct command *head = commands_head(client);
	bool is_login = head && (head->kind == COMMAND_AUTHENTICATE || head->kind == COMMAND_LOGIN);
	if (!is_login || !head->in_company) {
		return false;
	}
	stumble(client, IMAP_STUMBLE_CERTAIN, "took the commands behind a login for a part of it");
	return true;
}

/* -- silence -- */

/* In company, and still to be answered: IDLE by "+", then by the answer to DONE. */
static bool is_awaited(const struct command *command)
{
	return command->is_sent && command->in_company &&
		(command->kind != COMMAND_IDLE || !command->is_continued || command->is_done);
}

/* What a server answers at once, or nearly so; others may take long, and nobody knows why. */
static const uint64_t swift = KIND(CAPABILITY) | KIND(AUTHENTICATE) | KIND(LOGIN) | KIND(ID) |
	KIND(NAMESPACE) | KIND(ENABLE) | KIND(OPEN) | KIND(NOOP) | KIND(LOOK) | KIND(LOOK_UIDS) |
	KIND(IDLE);

static const uint64_t trifling = KIND(CAPABILITY) | KIND(ID) | KIND(NAMESPACE) | KIND(ENABLE);

static bool is_overtaken(const struct imap_client *client)
{
	LIST_FOR_EACH (node, &client->commands) {
		const struct command *command = list_entry(node, struct command, link);
		if (is_awaited(command) && command->is_overtaken) {
			return true;
		}
	}
	return false;
}

/* Whether the next answer of a flight should be here soon. */
static bool is_waiting(const struct imap_client *client)
{
	const struct command *head = commands_awaited(client);
	return head && is_awaited(head) && swift & (UINT64_C(1) << head->kind);
}

void stumble_note_answer(struct imap_client *client, const struct command *command)
{
	client->has_progress = true;
	LIST_FOR_EACH (node, &client->commands) {
		struct command *other = list_entry(node, struct command, link);
		other->is_overtaken = other->is_overtaken || other->number < command->number;
	}
}

uint64_t stumble_deadline(const struct imap_client *client)
{
	if (client->state == IMAP_STATE_LOGOUT || client->transport_changes ||
		client->output_since != 0 || imap_parser_is_midway(client->parser)) {
		return USEC_NEVER;
	}
	if (is_overtaken(client)) {
		return client->heard_at + SILENCE_USEC;
	}
	if (!is_waiting(client)) {
		return USEC_NEVER;
	}
	if (client->nudge == 0) {
		const struct command *head = commands_awaited(client);
		bool is_trifle =
			client->begins_with_login && trifling & (UINT64_C(1) << head->kind);
		return client->heard_at + (is_trifle ? GREETED_USEC : SILENCE_USEC);
	}
	return client->has_progress ? client->heard_at + VERDICT_USEC : USEC_NEVER;
}

void stumble_tick(struct imap_client *client)
{
	if (is_overtaken(client)) {
		stumble(client, IMAP_STUMBLE_CERTAIN, "left a command unanswered");
		return;
	}
	if (client->nudge != 0) {
		stumble(client, IMAP_STUMBLE_LIKELY, "fell silent in the middle of its answers");
		return;
	}
	char line[32];
	client->nudge = ++client->n_commands;
	snprintf(line, sizeof(line), "%s%u NOOP", client->tag_prefix, client->nudge);
	bytes_printf(&client->output, "%s\r\n", line);
	trace_sent_line(client, line);
	client->output_since = client->now;
}

void stumble_at_nudge(struct imap_client *client)
{
	bool is_missing = false;
	LIST_FOR_EACH (node, &client->commands) {
		const struct command *command = list_entry(node, struct command, link);
		is_missing = is_missing || (is_awaited(command) && command->number < client->nudge);
	}
	is_missing = is_missing || guesses_are_sent(client);
	client->nudge = 0;
	if (is_missing) {
		stumble(client, IMAP_STUMBLE_CERTAIN, "left a command unanswered");
	}
}

void stumble_at_repetition(struct imap_client *client, const struct imap_response *response)
{
	if (client->begins_with_login && response->status == IMAP_STATUS_BAD &&
		commands_number(client, response->tag) == client->login) {
		stumble(client, IMAP_STUMBLE_CERTAIN, "heard a command twice");
	}
}

/* -- questions -- */

enum imap_stumble imap_client_stumble(const struct imap_client *client, uint64_t *ret_kind)
{
	*ret_kind = client->stumbled_at;
	return client->stumble;
}

uint64_t imap_client_bad_alone(const struct imap_client *client)
{
	return client->bad_alone;
}
