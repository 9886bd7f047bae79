/* A piece of a conversation, and what is understood of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define INPUT(text) text, sizeof(text) - 1

struct sample {
	const char *name;
	bool streaming;
	const char *input;
	size_t len;
	const char *expected; /* in the form of canonical.h */
};
