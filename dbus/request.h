/* The method calls that have not been answered: each waits for the event that carries the id which
 * the accounts gave to it, and is answered once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "account.h"
#include "util/list.h"

/* What a request gives when it succeeds. */
enum request_result {
	REQUEST_NOTHING,
	REQUEST_MESSAGES,  /* aa{sv} */
	REQUEST_RAW,       /* ht */
	REQUEST_MAILBOXES, /* a(sas) */
};

struct requests {
	struct list list;
	size_t n;
};

void requests_init(struct requests *requests);

/* Drops all of them without an answer. */
void requests_done(struct requests *requests);

/* So many wait that no other may come: who calls faster than the bus takes answers is refused. */
bool requests_is_full(const struct requests *requests);

/* Keeps the call (a reference of it). 0 or -ENOMEM. */
int requests_add(
	struct requests *requests, uint64_t id, enum request_result result, sd_bus_message *call);

/* Answers the call that the event is the reply to; where its caller has left, nothing happens. */
void requests_answer(struct requests *requests, const struct account_event *event);

/* Answers all of them: by an empty reply for FAILURE_NONE, else by the error. */
void requests_answer_all(struct requests *requests, enum failure_kind kind, const char *text);

/* Moves all of the source behind those of the target. */
void requests_take(struct requests *target, struct requests *source);

/* Drops the calls of this unique name. Whether there were any. */
bool requests_drop_caller(struct requests *requests, const char *caller);
