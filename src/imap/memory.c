#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imap/memory.h"

static int copy_words(char **copy, const char *words)
{
	*copy = words ? strdup(words) : NULL;
	return words && !*copy ? -ENOMEM : 0;
}

int imap_memory_copy(struct imap_memory *copy, const struct imap_memory *memory)
{
	*copy = *memory;
	copy->greeting = copy->before = copy->after = NULL;
	if (copy_words(&copy->greeting, memory->greeting) < 0 ||
		copy_words(&copy->before, memory->before) < 0 ||
		copy_words(&copy->after, memory->after) < 0) {
		imap_memory_done(copy);
		return -ENOMEM;
	}
	return 0;
}

void imap_memory_done(struct imap_memory *memory)
{
	free(memory->greeting);
	free(memory->before);
	free(memory->after);
	*memory = (struct imap_memory){0};
}
