#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arena.h"

#define CHUNK_SIZE_AT_FIRST 1024
#define CHUNK_SIZE_HIGHEST  65536

struct arena_chunk {
	struct arena_chunk *next;
	size_t used;
	size_t size;
	max_align_t data[];
};

void arena_init(struct arena *arena)
{
	*arena = (struct arena){0};
}

void arena_done(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *chunk = arena->chunks;
		arena->chunks = chunk->next;
		free(chunk);
	}
	arena_init(arena);
}

/* Chunks double, so that small things stay small and large ones need few calls. What is larger than
 * a chunk gets one of its own, behind the first, whose rest stays in use. */
static struct arena_chunk *add_chunk(struct arena *arena, size_t size)
{
	struct arena_chunk *first = arena->chunks;
	size_t chunk_size = CHUNK_SIZE_AT_FIRST;
	if (first && first->size < CHUNK_SIZE_HIGHEST) {
		chunk_size = first->size * 2;
	} else if (first) {
		chunk_size = CHUNK_SIZE_HIGHEST;
	}
	bool is_alone = size > chunk_size;
	if (is_alone) {
		chunk_size = size;
	}
	struct arena_chunk *chunk = calloc(1, sizeof(*chunk) + chunk_size);
	if (!chunk) {
		return NULL;
	}
	chunk->size = chunk_size;
	if (is_alone && first) {
		chunk->next = first->next;
		first->next = chunk;
	} else {
		chunk->next = first;
		arena->chunks = chunk;
	}
	return chunk;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	const size_t alignment = _Alignof(max_align_t);
	if (size > PTRDIFF_MAX - sizeof(struct arena_chunk) - alignment) {
		arena->error = -ENOMEM;
		return NULL;
	}
	/* Nothing gets an address of its own, too. */
	size_t rounded = size > 0 ? (size + alignment - 1) / alignment * alignment : alignment;
	struct arena_chunk *chunk = arena->chunks;
	if (!chunk || rounded > chunk->size - chunk->used) {
		chunk = add_chunk(arena, rounded);
	}
	if (!chunk) {
		arena->error = -ENOMEM;
		return NULL;
	}
	void *memory = (char *)chunk->data + chunk->used;
	chunk->used += rounded;
	arena->used += rounded;
	return memory;
}

struct span arena_dup(struct arena *arena, struct span span)
{
	if (span.len == SIZE_MAX) {
		arena->error = -ENOMEM;
		return (struct span){0};
	}
	uint8_t *copy = arena_alloc(arena, span.len + 1);
	if (!copy) {
		return (struct span){0};
	}
	if (span.len > 0) {
		memcpy(copy, span.data, span.len);
	}
	return (struct span){.data = copy, .len = span.len};
}
