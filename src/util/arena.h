/* Memory that is freed all at once: what a response or a message is made of. Pointers stay valid
 * until arena_done(). A failed allocation returns NULL and is remembered in `error`.
 */
#pragma once

#include <stddef.h>

#include "util/bytes.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used; /* octets handed out, for limits */
	int error;   /* 0 or -ENOMEM */
};

void arena_init(struct arena *arena);
void arena_done(struct arena *arena);

/* Zeroed memory, aligned for any type; NULL when out of memory. */
void *arena_alloc(struct arena *arena, size_t size);

/* A copy with a final NUL behind it (not counted in len). An empty span with data NULL on failure.
 */
struct span arena_dup(struct arena *arena, struct span span);
