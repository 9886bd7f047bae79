/* What is known of a server, and of a login there, from the connection before: what may be assumed
 * of the next one until it says otherwise. It holds no secret. Capabilities stand in upper case,
 * separated by blanks, as take_capabilities() had them.
 */
#pragma once

#include <stdbool.h>

enum {
	IMAP_MEMORY_MAX = 8192, /* octets of a list of capabilities: a longer one is not kept */
};

struct imap_memory {
	char *greeting;             /* capabilities that the greeting named; NULL: none */
	char *before;               /* capabilities before the login; NULL: nothing is known */
	char *after;                /* capabilities after it; NULL: nothing is known */
	const char *mechanism;      /* static: by which it was; "LOGIN" for the command */
	bool login_is_whole;        /* a single message, with nothing to be waited for in between */
	bool login_tells;           /* the capabilities after it came with its answer */
	bool has_qresync, has_utf8; /* what ENABLE led to */
};

/* 0 or -ENOMEM; copy is overwritten, not freed. */
int imap_memory_copy(struct imap_memory *copy, const struct imap_memory *memory);

/* Forgets: a memory of nothing, which may be used or done again. */
void imap_memory_done(struct imap_memory *memory);
