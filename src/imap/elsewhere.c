#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/engine.h"

bool imap_client_asks_first(const struct imap_client *client, const struct imap_mailbox *mailbox)
{
	return mailbox != client->open.mailbox && mailbox != client->watched &&
		client->has_condstore && mailbox->cursor.uidvalidity != 0 &&
		mailbox->cursor.highestmodseq != 0;
}

void elsewhere_ask(struct imap_client *client, struct request *request)
{
	struct command *command = command_new(client, COMMAND_STATUS, request);
	request->stage = REQUEST_STATUS;
	if (command) {
		bytes_put_str(&command->text, "STATUS ");
		command_put_mailbox(client, command, request->mailbox->name);
		bytes_put_str(&command->text, " (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)");
		command_end(client, command);
	}
}

/* A name as the server spells it: INBOX in any case (RFC 9051 section 5.1). */
static bool is_named(const struct imap_mailbox *mailbox, const char *name)
{
	return strcmp(mailbox->name, name) == 0 ||
		(strcasecmp(name, "INBOX") == 0 && strcmp(mailbox->name, "INBOX") == 0);
}

/* The name tells whose answer it is: there may be several on their way, and pushes of NOTIFY among
 * them. */
static struct request *asking_for(struct imap_client *client, const char *name)
{
	LIST_FOR_EACH (node, &client->commands) {
		const struct command *command = list_entry(node, struct command, link);
		struct request *request = command->request;
		if (command->kind == COMMAND_STATUS && command->is_sent && request &&
			is_named(request->mailbox, name)) {
			return request;
		}
	}
	return NULL;
}

bool elsewhere_take(struct imap_client *client, const struct imap_response *response)
{
	const struct imap_mailbox_status *status = &response->mailbox_status;
	if (!commands_awaiting(client, KIND(STATUS))) {
		return false;
	}
	char *name = take_mailbox_name(client, status->name);
	if (!name) {
		return true;
	}
	struct request *request = asking_for(client, name);
	free(name);
	if (!request) {
		return false;
	}
	request->is_unchanged = status->has_messages && status->has_uidvalidity &&
		status->has_uidnext && status->has_highestmodseq &&
		imap_mailbox_is_as_said(request->mailbox, status->uidvalidity, status->uidnext,
			status->messages, status->highestmodseq);
	request->is_changed = !request->is_unchanged;
	return true;
}

void elsewhere_answered(
	struct imap_client *client, struct request *request, const struct imap_response *response)
{
	if (response->status != IMAP_STATUS_OK || !request->is_unchanged) {
		/* It has changed, or the server says too little: go and see. */
		request->stage = REQUEST_VISIT;
		return;
	}
	struct imap_event *event = client_event(client, IMAP_EVENT_SYNCHRONISED);
	if (event) {
		event->mailbox = request->mailbox;
		event->cursor = request->mailbox->cursor;
		request_end(client, request);
	}
}
