#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "server.h"
#include "util/list.h"
#include "util/log.h"

enum {
	LOGINS_MAX = 4096, /* more than one machine has accounts */
	HOSTS_MAX = 256,
};

/* How often it is likely, before it is believed. */
#define N_LIKELY 2

struct login {
	struct list node;
	const char *host, *user, *auth; /* owned */
	uint16_t port;
	enum config_security security;
	struct imap_memory memory;
};

struct host {
	struct list node;
	char *name;
	uint16_t port;
	bool is_login_alone, is_stepwise;
	bool is_doubtful; /* the next connection is stepwise */
	unsigned int n_likely;
	uint64_t stumbled_at; /* what it said BAD to when it stumbled; 0: it was something else */
	uint64_t bad_alone;
};

/* The one that was used last comes first. */
struct servers {
	struct list logins, hosts;
	unsigned int n_logins, n_hosts;
	void *by_name; /* tsearch(3): the logins */
};

struct servers *servers_new(void)
{
	struct servers *servers = calloc(1, sizeof(*servers));
	if (servers) {
		list_init(&servers->logins);
		list_init(&servers->hosts);
	}
	return servers;
}

static int compare(const void *a, const void *b)
{
	const struct login *left = a;
	const struct login *right = b;
	int order = strcmp(left->user, right->user);
	order = order != 0 ? order : strcmp(left->host, right->host);
	order = order != 0 ? order : strcmp(left->auth, right->auth);
	order = order != 0 ? order : (int)left->port - (int)right->port;
	return order != 0 ? order : (int)left->security - (int)right->security;
}

static void free_login(struct servers *servers, struct login *login)
{
	if (!list_is_empty(&login->node)) {
		tdelete(login, &servers->by_name, compare);
		list_remove(&login->node);
		servers->n_logins--;
	}
	imap_memory_done(&login->memory);
	free((char *)login->host);
	free((char *)login->user);
	free((char *)login->auth);
	free(login);
}

static void free_host(struct servers *servers, struct host *host)
{
	list_remove(&host->node);
	servers->n_hosts--;
	free(host->name);
	free(host);
}

struct servers *servers_free(struct servers *servers)
{
	if (!servers) {
		return NULL;
	}
	LIST_FOR_EACH_SAFE (node, &servers->logins) {
		free_login(servers, list_entry(node, struct login, node));
	}
	LIST_FOR_EACH_SAFE (node, &servers->hosts) {
		free_host(servers, list_entry(node, struct host, node));
	}
	free(servers);
	return NULL;
}

static void put_first(struct list *list, struct list *node)
{
	list_remove(node);
	list_append(list->next, node);
}

/* -- logins -- */

static const char *text(const char *str)
{
	return str ? str : "";
}

static struct login *find_login(struct servers *servers, const struct config_account *config)
{
	struct login key = {
		.host = text(config->host),
		.user = text(config->user),
		.auth = text(config->auth),
		.port = config->port,
		.security = config->security,
	};
	struct login **found = tfind(&key, &servers->by_name, compare);
	if (!found) {
		return NULL;
	}
	put_first(&servers->logins, &(*found)->node);
	return *found;
}

static struct login *add_login(struct servers *servers, const struct config_account *config)
{
	struct login *login = calloc(1, sizeof(*login));
	if (!login) {
		return NULL;
	}
	list_init(&login->node);
	login->host = strdup(text(config->host));
	login->user = strdup(text(config->user));
	login->auth = strdup(text(config->auth));
	login->port = config->port;
	login->security = config->security;
	if (!login->host || !login->user || !login->auth ||
		!tsearch(login, &servers->by_name, compare)) {
		free_login(servers, login);
		return NULL;
	}
	list_append(servers->logins.next, &login->node);
	servers->n_logins++;
	if (servers->n_logins > LOGINS_MAX) {
		free_login(servers, list_entry(servers->logins.prev, struct login, node));
	}
	return login;
}

const struct imap_memory *servers_recall(
	struct servers *servers, const struct config_account *config)
{
	const struct login *login = find_login(servers, config);
	return login ? &login->memory : NULL;
}

void servers_remember(
	struct servers *servers, const struct config_account *config, struct imap_memory *memory)
{
	struct login *login = find_login(servers, config);
	login = login ? login : add_login(servers, config);
	if (!login) {
		imap_memory_done(memory);
		return;
	}
	imap_memory_done(&login->memory);
	login->memory = *memory;
	*memory = (struct imap_memory){0};
}

void servers_forget(struct servers *servers, const struct config_account *config)
{
	struct login *login = find_login(servers, config);
	if (login) {
		free_login(servers, login);
	}
}

/* -- manners -- */

static struct host *find_host(struct servers *servers, const struct config_account *config)
{
	LIST_FOR_EACH (node, &servers->hosts) {
		struct host *host = list_entry(node, struct host, node);
		if (host->port == config->port && strcmp(host->name, text(config->host)) == 0) {
			put_first(&servers->hosts, node);
			return host;
		}
	}
	return NULL;
}

static struct host *add_host(struct servers *servers, const struct config_account *config)
{
	struct host *host = calloc(1, sizeof(*host));
	if (!host) {
		return NULL;
	}
	list_init(&host->node);
	host->port = config->port;
	host->name = strdup(text(config->host));
	if (!host->name) {
		free(host);
		return NULL;
	}
	list_append(servers->hosts.next, &host->node);
	servers->n_hosts++;
	if (servers->n_hosts > HOSTS_MAX) {
		free_host(servers, list_entry(servers->hosts.prev, struct host, node));
	}
	return host;
}

void servers_advise(struct servers *servers, const struct config_account *config,
	struct imap_client_options *options)
{
	struct host *host = find_host(servers, config);
	if (host) {
		options->is_login_alone = host->is_login_alone;
		options->is_stepwise = host->is_stepwise || host->is_doubtful;
		options->bad_alone = host->bad_alone;
		host->is_doubtful = false;
	}
}

static void note_stumble(struct host *host, const struct config_account *config,
	enum imap_stumble stumble, uint64_t kind)
{
	if (stumble == IMAP_STUMBLE_AT_LOGIN) {
		host->is_login_alone = true;
		log_info(config->name, NULL,
			"%s bears nothing behind a login: by itself from now on", host->name);
		return;
	}
	host->is_doubtful = true;
	host->n_likely += stumble == IMAP_STUMBLE_LIKELY;
	if (stumble == IMAP_STUMBLE_CERTAIN || host->n_likely >= N_LIKELY) {
		host->is_stepwise = true;
		host->stumbled_at = kind;
		log_info(config->name, NULL,
			"%s does not bear several commands at a time: one by one from now on",
			host->name);
	}
}

/* It said BAD by itself, too, to what it seemed to stumble over. */
static void note_bad_alone(struct host *host, uint64_t kinds)
{
	host->bad_alone |= kinds;
	if (host->stumbled_at & kinds) {
		host->stumbled_at = 0;
		host->is_stepwise = false;
	}
}

void servers_note_end(struct servers *servers, const struct config_account *config,
	const struct imap_client *client)
{
	uint64_t kind = 0;
	enum imap_stumble stumble = imap_client_stumble(client, &kind);
	struct host *host = find_host(servers, config);
	if (stumble != IMAP_STUMBLE_NONE && !host) {
		host = add_host(servers, config);
	}
	if (!host) {
		return;
	}
	if (stumble != IMAP_STUMBLE_NONE) {
		note_stumble(host, config, stumble, kind);
	}
	note_bad_alone(host, imap_client_bad_alone(client));
}
