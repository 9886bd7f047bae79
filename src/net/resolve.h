/* The addresses of a name, by getaddrinfo(3), which blocks: it runs on a worker thread. A question
 * that is freed before its answer came costs nothing but the thread, which is left to finish alone.
 * Threads are few, and end when no question waits; a question then waits for one of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/address.h"
#include "util/failure.h"
#include "util/turn.h"

/* At most so many addresses are looked at. */
#define RESOLVE_ADDRESSES_MAX 32

struct resolve;

/* Asks. owner is borrowed, and woken when the answer is there; an address literal is its own
 * answer. 0 or a negative errno (-ENOMEM, -EAGAIN, -EMFILE). */
int resolve_new(struct turn *turn, struct task *owner, const char *host, uint16_t port,
	struct resolve **ret_resolve);

/* NULL is allowed. Returns NULL. */
struct resolve *resolve_free(struct resolve *resolve);

bool resolve_is_done(const struct resolve *resolve);

/* The number of addresses, in the order in which they are to be dialed; 0 when it failed. They live
 * as long as the question, and may be changed. */
size_t resolve_addresses(struct resolve *resolve, union address **ret_addresses);

/* FAILURE_OFFLINE with the reason when it is done and there is no address. */
const struct failure *resolve_failure(const struct resolve *resolve);
