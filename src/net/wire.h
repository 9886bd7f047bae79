/* A connected, non-blocking socket and the octets that it did not take yet. TLS writes through its
 * queue, so that a record is always sent as a whole and nothing above has to resume a send: what
 * waits for room is the queue, whoever put it there (a record, an alert, a key update).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "util/bytes.h"
#include "util/failure.h"

struct wire {
	int fd;    /* -1: none */
	int error; /* 0, or the negative errno of the first failure */
	struct bytes out;
};

/* Without a socket. */
void wire_init(struct wire *wire);

/* Closes the socket and frees the queue; the wire is as after wire_init(). */
void wire_done(struct wire *wire);

/* Takes fd over. */
void wire_open(struct wire *wire, int fd);

/* The octets the socket took at once, 0 when it takes none now or the wire has failed. Only while
 * the queue is empty. */
size_t wire_send(struct wire *wire, struct span span);

/* Sends, and queues what the socket does not take. 0; -ENOBUFS when too much waits already; the
 * wire's error. */
int wire_queue(struct wire *wire, const struct iovec *parts, size_t n_parts);

/* Sends from the queue what the socket takes. */
void wire_flush(struct wire *wire);

static inline bool wire_is_writing(const struct wire *wire)
{
	return bytes_len(&wire->out) > 0 && wire->error == 0;
}

/* The number of octets; 0 at the end; -EAGAIN; or the wire's error. size is not 0. */
ssize_t wire_receive(struct wire *wire, void *buffer, size_t size);

/* Why nothing comes any more: the error, or that the other side closed the connection. */
void wire_tell(const struct wire *wire, struct failure *failure);
