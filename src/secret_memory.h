/* Memory for one secret: pages of their own, kept out of core dumps and of the swap as far as the
 * kernel allows, and wiped in the end. What is read goes straight into it.
 */
#pragma once

#include <stddef.h>

/* In octets. */
#define SECRET_MEMORY_SIZE (64 * 1024)

struct secret_memory {
	char *data; /* NULL: none */
	size_t len;
};

/* 0 or -ENOMEM. */
int secret_memory_init(struct secret_memory *memory);

/* Wipes. Harmless when zeroed, and when done twice. */
void secret_memory_done(struct secret_memory *memory);

/* One read(2): what it returned, or a negative errno; -EFBIG when there was more than there is room
 * for. */
int secret_memory_read(struct secret_memory *memory, int fd);

/* Leaves the first line, without its LF or CRLF, with a final NUL; wipes the rest. 0; -ENODATA: it
 * is empty; -EBADMSG: it has a NUL in it. */
int secret_memory_cut_line(struct secret_memory *memory);
