/* A connected, non-blocking socket, or two pipes, and the octets that they did not take yet. TLS
 * writes through its queue, so that a record is always sent as a whole and nothing above has to
 * resume a send: what waits for room is the queue, whoever put it there (a record, an alert, a key
 * update). Pipes have no MSG_NOSIGNAL: the process ignores SIGPIPE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "util/bytes.h"
#include "util/failure.h"

/* What is sent must be acknowledged within this time (TCP_USER_TIMEOUT, RFC 5482). The kernel looks
 * when it sends again, some seconds later: a path that is silent is noticed within 30 s. */
#define WIRE_PATIENCE_MSEC 25000

struct wire {
	int read_fd;  /* -1: none */
	int write_fd; /* the same for a socket; -1: none, or shut */
	int error;    /* 0, or the negative errno of the first failure */
	bool is_resting;
	struct bytes out;
};

/* Without a descriptor. */
void wire_init(struct wire *wire);

/* Closes what is open and frees the queue; the wire is as after wire_init(). */
void wire_done(struct wire *wire);

/* Takes the descriptors over; for a socket both are the same. */
void wire_open(struct wire *wire, int read_fd, int write_fd);

/* Nothing is sent any more, and the other side is told; what it says can still be received. Nobody
 * watches write_fd, which a pipe closes. */
void wire_shut(struct wire *wire);

/* The octets that were taken at once, 0 when none are now, or the wire has failed. Only while the
 * queue is empty. */
size_t wire_send(struct wire *wire, struct span span);

/* Sends, and queues what is not taken. 0; -ENOBUFS when too much waits already; the wire's error.
 */
int wire_queue(struct wire *wire, const struct iovec *parts, size_t n_parts);

/* Sends from the queue what is taken. */
void wire_flush(struct wire *wire);

/* Nothing has come for now. If all that was sent has arrived, the kernel's keepalive may take the
 * time that it was given: as long as TCP_USER_TIMEOUT is set, a single probe that is lost ends the
 * connection (tcp(7)). Until something is sent. */
void wire_rest(struct wire *wire);

static inline bool wire_is_writing(const struct wire *wire)
{
	return bytes_len(&wire->out) > 0 && wire->error == 0;
}

/* The number of octets; 0 at the end; -EAGAIN; or the wire's error. size is not 0. */
ssize_t wire_receive(struct wire *wire, void *buffer, size_t size);

/* Why nothing comes any more: the error, or that the other side closed the connection. */
void wire_tell(const struct wire *wire, struct failure *failure);
