/* Events as lines of text, in the order in which they are told. For tests: out of memory it aborts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imap/client.h"
#include "util/bytes.h"

struct telling {
	char **lines;
	size_t n_lines, n_allocated;
	size_t next;        /* the first that was not asked for yet; the reader counts it up */
	struct bytes chunk; /* of consecutive CHUNK events, which make one line */
	uint64_t chunk_id;
};

void telling_init(struct telling *telling);
void telling_done(struct telling *telling);

void telling_put(struct telling *telling, const struct imap_event *event);

/* The line that is told next, NULL when there is none; borrowed. What changes in one turn is told
 * together, so that the order of flags and expunges depends on how the octets came: of such lines
 * the wanted one goes first. wanted: NULL takes any. */
const char *telling_next(struct telling *telling, const char *wanted);

/* "" when nothing was told. */
const char *telling_last(const struct telling *telling);
