/* One connection of an account: fetches the secret, dials, and then stands between the stream and
 * the engine, which know nothing of each other. It knows when to try again after an end of whatever
 * kind, and nothing of mailboxes but the view that it is to watch.
 *
 *   stopped -> unlocking -> dialing -> online -> waiting -> unlocking ...
 *                                      online -> closing -> stopped;  offline;  failed
 *
 * Its task is run by the owner: connection_step(), connection_next_event() until NULL, and
 * connection_flush(), again as long as connection_step() says so.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "gate.h"
#include "imap/client.h"
#include "key.h"
#include "server.h"
#include "util/failure.h"
#include "util/turn.h"

enum connection_state {
	CONNECTION_STOPPED,   /* nothing is under way, and nothing will be by itself */
	CONNECTION_WAITING,   /* for the next attempt */
	CONNECTION_OFFLINE,   /* for a network: no time brings it, but connection_check() */
	CONNECTION_UNLOCKING, /* for the secret, for the first connection, for the gate */
	CONNECTION_DIALING,
	CONNECTION_ONLINE,  /* there is an engine, logged in or not */
	CONNECTION_CLOSING, /* logged out, the stream says good-bye */
	CONNECTION_FAILED,  /* credentials refused: only connection_start() tries again */
};

const char *connection_state_name(enum connection_state state);

/* What is so of the whole machine. */
struct surroundings {
	bool has_network; /* anything but itself can be reached, as far as is known */
	bool is_asleep;   /* or about to be: nothing begins by itself */
};

/* What connections share; all of it is borrowed. */
struct connection_setup {
	struct turn *turn;
	const struct surroundings *surroundings;
	struct gate *gate;
	struct key *key;
	struct servers *servers;
	const struct config_account *config;
	uint8_t *buffer; /* for octets on their way from the stream to the engine */
	size_t buffer_size;
	int trace_fd; /* -1: none */
	unsigned int number;
};

struct connection;

/* run: what its task runs; owner: for connection_owner(), borrowed. Stopped. NULL when out of
 * memory. */
struct connection *connection_new(
	const struct connection_setup *setup, void (*run)(struct task *task), void *owner);

/* Cuts. NULL is allowed. Returns NULL. */
struct connection *connection_free(struct connection *connection);

struct connection *connection_of(struct task *task);
void *connection_owner(const struct connection *connection);

/* The same account, as read again. */
void connection_set_config(struct connection *connection, const struct config_account *config);

/* Tries now, when it is stopped, waiting, offline or failed. */
void connection_start(struct connection *connection);

/* Somebody asks for it: tries soon if it waits, but not more often than once a second; at once
 * without a network, since then nobody is troubled. */
void connection_hurry(struct connection *connection);

/* The network is another one, or the machine has slept: begins anew at once where the path is gone,
 * tries at once if it waits for such a change, and asks the server for a proof of life where the
 * path may have died unseen; has_more: that is so of every path. */
void connection_check(struct connection *connection, bool has_more);

/* Whether it may dial, or waits until another connection has shown that the account works. */
void connection_allow(struct connection *connection, bool may_dial);

/* Waits as the leader does (waiting or offline), until connection_start(): there is no sense in
 * trying before it has succeeded. Only for one that is unlocking, waiting or offline. */
void connection_follow(struct connection *connection, const struct connection *leader);
bool connection_is_following(const struct connection *connection);

/* Logs out, or cuts what has not logged in; then it is stopped, perhaps at once. */
void connection_stop(struct connection *connection);

/* Cuts at once; stopped. */
void connection_cut(struct connection *connection);

/* Something is wrong on our side: the connection is over as if the server had ended it. */
void connection_abort(struct connection *connection, const struct failure *failure);

/* As long as it is held, nothing more is read. */
void connection_hold(struct connection *connection, bool is_held);

/* While it is kept the secret stays, also when logged in: other connections are about
 * to be made. */
void connection_keep_key(struct connection *connection, bool is_kept);

/* From now on this view is watched (NULL: none), also after reconnecting. The connection then
 * refers to it until connection_drop(). */
int connection_watch(struct connection *connection, struct imap_mailbox *view);
void connection_drop(struct connection *connection, struct imap_mailbox *view);

/* Beside it these mailboxes (copied) are to be told of, where the server has NOTIFY, also after
 * reconnecting. 1; 0: they are the same as before; -ENOMEM. */
int connection_watch_others(struct connection *connection, const char *const *names, size_t n);

/* -- the work; in its task -- */

/* Does a bounded piece of work. Whether there may be more of it now. */
bool connection_step(struct connection *connection);

/* The next event of the engine that is not the connection's own business, or NULL. CLOSED comes for
 * ends before there was an engine, too; by then the state is what follows. */
struct imap_event *connection_next_event(struct connection *connection);

/* Sends what is to be sent, writes the trace, sets the deadline. */
void connection_flush(struct connection *connection);

/* Runs the task in this turn. */
void connection_wake(struct connection *connection);

/* -- questions -- */

enum connection_state connection_state(const struct connection *connection);

/* Neither at rest nor waiting. */
bool connection_is_under_way(const struct connection *connection);
struct imap_client *connection_client(const struct connection *connection); /* NULL: none */
struct imap_mailbox *connection_watched(const struct connection *connection);
bool connection_is_logged_in(const struct connection *connection);
bool connection_is_stopping(const struct connection *connection);

/* Waiting, but not for longer than until its task runs. */
bool connection_is_immediate(const struct connection *connection);

/* Whether what ended last had been logged in. */
bool connection_was_logged_in(const struct connection *connection);

/* Why it is waiting or failed. */
const struct failure *connection_failure(const struct connection *connection);

/* µs since 1970; 0 unless it is waiting. */
uint64_t connection_next_try_usec(const struct connection *connection);

bool connection_is_secure(const struct connection *connection);
const char *connection_tls_version(const struct connection *connection);
