#include "imap/engine.h"

/* What was pushed in IDLE has a modseq that the cursor takes only with an answer to a command, and
 * after the next start it would be named again: IDLE's answer, or that to a NOOP, comes before that
 * to LOGOUT. */
void handle_last(struct imap_client *client, const struct command *command,
	const struct imap_response *response)
{
	const struct open *open = &client->open;
	if (!open->mailbox || open->stage != OPEN_FOLLOWED) {
		return;
	}
	follow_tagged(client, command, response);
	bool is_equal = open->is_synchronised && !open->owes_answer && !open->wants_look &&
		!open->wants_scan && runs_count(&open->pending) == 0;
	if (is_equal && follow_modseq(client) > open->mailbox->cursor.highestmodseq) {
		cycle_tell_synchronised(client);
	}
}

void imap_client_logout(struct imap_client *client, uint64_t now)
{
	client->now = now;
	if (client_is_over(client) || client->state == IMAP_STATE_LOGOUT) {
		return;
	}
	client->wants_logout = true;
	client->phase_deadline = now + LOGOUT_USEC;
	struct command *head = commands_head(client);
	bool is_plain_start = !client->has_greeting || client->transport_changes ||
		client->state == IMAP_STATE_AUTHENTICATE || !list_is_empty(&client->guesses);
	if (is_plain_start || (head && head->kind == COMMAND_IDLE && !head->is_continued)) {
		/* LOGOUT would be out of place; closing is no loss. */
		struct failure none = {.kind = FAILURE_NONE};
		client_close(client, &none, IMAP_END_ORDINARY, 0);
		return;
	}
	if (head && head->kind == COMMAND_IDLE && !head->is_done) {
		command_put_done(client, head);
	}
	/* What is not yet on the wire stays off it. */
	LIST_FOR_EACH_SAFE (node, &client->commands) {
		struct command *command = list_entry(node, struct command, link);
		if (!command->is_sent) {
			command_free(command);
		}
	}
	if (cycle_lacks_noop(client)) {
		command_put(client, COMMAND_NOOP, NULL, "NOOP");
	}
	command_put(client, COMMAND_LOGOUT, NULL, "LOGOUT");
	enter(client, IMAP_STATE_LOGOUT);
	client->renewal = USEC_NEVER;
	commands_flush(client);
}
