#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "key.h"
#include "secret.h"
#include "util/clock.h"
#include "util/log.h"
#include "watch.h"

/* How often it may be refused in a row. */
#define N_TRIES 2

struct key {
	struct turn *turn;                   /* borrowed */
	struct task *owner;                  /* borrowed */
	const struct config_account *config; /* borrowed */
	struct task fetching;
	struct task watching;
	struct list users;
	struct secret *secret;
	unsigned int n_fetch;   /* of the secret that is there, or was */
	unsigned int n_refused; /* in a row */
	unsigned int n_fetch_refused;
	int64_t file_nsec; /* of the password file when it was refused */
	struct watch *watch;
	bool is_renewed;
	bool is_without_plus;
};

static void on_fetched(struct task *task)
{
	struct key *key = list_entry(task, struct key, fetching);
	LIST_FOR_EACH (node, &key->users) {
		task_wake(list_entry(node, struct key_user, node)->owner);
	}
}

/* Not only its time: permissions that were put right count as well. */
static void on_file_changed(struct task *task)
{
	struct key *key = list_entry(task, struct key, watching);
	if (key->n_refused > 0) {
		log_info(key->config->name, NULL, "the password file has changed: trying again");
		key_renew(key);
		key->is_renewed = true;
		task_wake(key->owner);
	}
}

struct key *key_new(struct turn *turn, struct task *owner, const struct config_account *config)
{
	struct key *key = calloc(1, sizeof(*key));
	if (!key) {
		return NULL;
	}
	key->turn = turn;
	key->owner = owner;
	key->config = config;
	list_init(&key->users);
	task_init(&key->fetching, turn, on_fetched);
	task_init(&key->watching, turn, on_file_changed);
	return key;
}

struct key *key_free(struct key *key)
{
	if (!key) {
		return NULL;
	}
	watch_free(key->watch);
	secret_free(key->secret);
	task_done(&key->fetching);
	task_done(&key->watching);
	free(key);
	return NULL;
}

void key_set_config(struct key *key, const struct config_account *config)
{
	key->config = config;
}

void key_user_init(struct key_user *user, struct task *owner)
{
	*user = (struct key_user){.owner = owner};
	list_init(&user->node);
}

int key_join(struct key *key, struct key_user *user)
{
	if (!key->secret && secret_is_wanted(key->config)) {
		int error = secret_new(key->turn, &key->fetching, key->config, &key->secret);
		if (error < 0) {
			return error;
		}
		key->n_fetch++;
	}
	user->n_fetch = key->n_fetch;
	if (list_is_empty(&user->node)) {
		list_append(&key->users, &user->node);
	}
	return 0;
}

void key_leave(struct key *key, struct key_user *user)
{
	list_remove(&user->node);
	if (list_is_empty(&key->users)) {
		key_discard(key);
	}
}

enum key_status key_status(const struct key *key)
{
	if (!key->secret) {
		return secret_is_wanted(key->config) ? KEY_PENDING : KEY_READY;
	}
	switch (secret_state(key->secret)) {
	case SECRET_PENDING:
		return KEY_PENDING;
	case SECRET_READY:
		return KEY_READY;
	case SECRET_FAILED:
		break;
	}
	return KEY_UNAVAILABLE;
}

enum imap_secret_kind key_kind(const struct key *key)
{
	if (!secret_is_wanted(key->config)) {
		return IMAP_SECRET_NONE;
	}
	return secret_is_token(key->config) ? IMAP_SECRET_TOKEN : IMAP_SECRET_PASSWORD;
}

const char *key_value(const struct key *key)
{
	return key->secret ? secret_value(key->secret) : NULL;
}

const struct failure *key_failure(const struct key *key)
{
	static const struct failure none;
	return key_status(key) == KEY_UNAVAILABLE ? secret_failure(key->secret) : &none;
}

void key_accepted(struct key *key, struct key_user *user)
{
	key->n_refused = 0;
	key->watch = watch_free(key->watch);
	user->was_refused = false;
}

static void watch_file(struct key *key)
{
	if (!key->config->password_file || key->watch) {
		return;
	}
	int error = watch_new(key->turn, &key->watching, key->config->password_file, &key->watch);
	if (error < 0) {
		log_debug(key->config->name, NULL, "the password file cannot be watched: %s",
			strerror(-error));
	}
}

static enum key_verdict verdict(const struct key *key, bool was_fetched)
{
	if (!was_fetched && secret_is_token(key->config)) {
		/* What gives out tokens needs the network as we do. */
		return KEY_LATER;
	}
	if (key->n_refused >= N_TRIES) {
		return KEY_NEVER;
	}
	return secret_is_token(key->config) ? KEY_AGAIN : KEY_LATER;
}

enum key_verdict key_refused(struct key *key, struct key_user *user)
{
	bool was_fetched = key_status(key) != KEY_UNAVAILABLE;
	bool is_lasting = was_fetched || !secret_is_token(key->config);
	/* The same secret is refused for several connections, and counts once. Without any secret
	 * each attempt counts. */
	bool is_counted = secret_is_wanted(key->config) && key->n_refused > 0 &&
		key->n_fetch_refused == user->n_fetch;
	if (is_lasting && !is_counted) {
		key->n_refused++;
		key->n_fetch_refused = user->n_fetch;
	}
	user->was_refused = true;
	key->file_nsec = secret_file_changed_nsec(key->config);
	enum key_verdict result = verdict(key, was_fetched);
	watch_file(key);
	if (user->n_fetch == key->n_fetch) {
		key_discard(key);
	}
	key_leave(key, user);
	return result;
}

/* Those who wait for it or have not used it yet get a new one. */
void key_discard(struct key *key)
{
	key->secret = secret_free(key->secret);
	LIST_FOR_EACH (node, &key->users) {
		task_wake(list_entry(node, struct key_user, node)->owner);
	}
}

void key_renew(struct key *key)
{
	key->n_refused = 0;
	key->watch = watch_free(key->watch);
	key_discard(key);
}

bool key_has_new_file(const struct key *key)
{
	if (!key->config->password_file) {
		return false;
	}
	int64_t nsec = secret_file_changed_nsec(key->config);
	return nsec != 0 && nsec != key->file_nsec;
}

bool key_take_renewal(struct key *key)
{
	bool is_renewed = key->is_renewed;
	key->is_renewed = false;
	return is_renewed;
}

bool key_has_failed(const struct key *key)
{
	return key->n_refused >= N_TRIES;
}

bool key_needs_network(const struct key *key)
{
	return key_status(key) == KEY_UNAVAILABLE && secret_is_token(key->config);
}

bool key_is_open_to(const struct key *key, const struct key_user *user)
{
	return key->n_refused == 0 || user->was_refused;
}

bool key_is_without_plus(const struct key *key)
{
	return key->is_without_plus;
}

void key_set_without_plus(struct key *key)
{
	key->is_without_plus = true;
}
