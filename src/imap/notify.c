#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/engine.h"

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
	*notify = (struct notify){0};
}

int imap_client_watch_others(
	struct imap_client *client, const char *const *names, size_t n, uint64_t now)
{
	struct notify *notify = &client->notify;
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
	client->now = now;
	settle(client);
	return 0;
}

bool imap_client_has_notify(const struct imap_client *client)
{
	(void)client;
	return false;
}

bool imap_client_may_notify(const struct imap_client *client)
{
	(void)client;
	return false;
}

bool imap_client_notifies(const struct imap_client *client, const char *name)
{
	(void)client;
	(void)name;
	return false;
}
