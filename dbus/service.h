/* org.example.MailIdle on the session bus: takes the bus name, shows the accounts as objects, hands
 * calls down to them, and tells their events as signals and replies.
 *
 * Events are popped only while nothing waits for the bus to take it, so that a stalled bus holds
 * back the mail instead of growing memory; and what was popped is confirmed to the accounts (which
 * makes it durable) only when the bus has taken it in: it may end at any moment, too. Reading the
 * configuration is the owner's task.
 */
#pragma once

#include <stdbool.h>

#include "account.h"
#include "dbus/bus.h"
#include "util/failure.h"
#include "util/turn.h"

#define SERVICE_NAME "org.example.MailIdle"

enum service_state {
	SERVICE_STATE_STARTING, /* the name is asked for */
	SERVICE_STATE_RUNNING,
	SERVICE_STATE_NAME_TAKEN, /* another process has the name; or the bus refuses it */
	SERVICE_STATE_FAILED,     /* something could not be told: the reason is in the log */
};

struct service;

/* All arguments are borrowed. owner is woken when the state changes and when a reload is wanted; it
 * is the task that bus and accounts wake, too, and then calls service_run(). 0 or a negative errno.
 */
int service_new(struct bus *bus, struct task *owner, struct accounts *accounts,
	struct service **ret_service);

/* Calls that are pending get no answer. To be called before the accounts and the bus are freed.
 * NULL is allowed. Returns NULL. */
struct service *service_free(struct service *service);

enum service_state service_state(const struct service *service);

/* Tells what is to be told, as far as the bus takes it. Once the state is failed nothing more is
 * told nor confirmed: the next start will tell it. */
void service_run(struct service *service);

/* Whether something is on its way to the bus, which has not taken it in yet. */
bool service_is_telling(struct service *service);

/* Whether somebody called Reload and waits for service_reloaded(). */
bool service_wants_reload(const struct service *service);

/* Answers all who wait: with FAILURE_NONE for success (when what changed has been told), else with
 * the kind and the text, which may have several lines. */
void service_reloaded(struct service *service, enum failure_kind kind, const char *text);
