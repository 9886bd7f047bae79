#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/wire.h"

/* More than one record of TLS and what answers to a peer that makes us talk; nothing honest comes
 * near it, since stream_write() takes nothing while octets wait. */
#define QUEUE_MAX (256 * 1024)

void wire_init(struct wire *wire)
{
	*wire = (struct wire){.read_fd = -1, .write_fd = -1};
	bytes_init(&wire->out);
}

void wire_done(struct wire *wire)
{
	if (wire->write_fd >= 0 && wire->write_fd != wire->read_fd) {
		close(wire->write_fd);
	}
	if (wire->read_fd >= 0) {
		close(wire->read_fd);
	}
	bytes_done(&wire->out);
	wire_init(wire);
}

void wire_open(struct wire *wire, int read_fd, int write_fd)
{
	wire->read_fd = read_fd;
	wire->write_fd = write_fd;
}

void wire_shut(struct wire *wire)
{
	if (wire->write_fd == wire->read_fd) {
		(void)shutdown(wire->write_fd, SHUT_WR);
	} else if (wire->write_fd >= 0) {
		close(wire->write_fd);
		wire->write_fd = -1;
	}
}

static void set_patience(const struct wire *wire, int msec)
{
	/* Pipes have none. */
	(void)setsockopt(wire->write_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &msec, sizeof(msec));
}

void wire_rest(struct wire *wire)
{
	int n_unacknowledged = 0;
	if (wire->is_resting || wire_is_writing(wire) || wire->write_fd != wire->read_fd ||
		ioctl(wire->write_fd, SIOCOUTQ, &n_unacknowledged) < 0 || n_unacknowledged > 0) {
		return;
	}
	wire->is_resting = true;
	set_patience(wire, 0);
}

static bool is_temporary(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK;
}

/* The number of octets that were taken; 0 also after an error, which is remembered. */
static size_t send_parts(struct wire *wire, const struct iovec *parts, size_t n_parts)
{
	if (wire->is_resting) {
		wire->is_resting = false;
		set_patience(wire, WIRE_PATIENCE_MSEC);
	}
	while (wire->error == 0) {
		ssize_t n = writev(wire->write_fd, parts, (int)n_parts);
		if (n >= 0) {
			return n;
		}
		if (is_temporary(errno)) {
			break;
		}
		if (errno != EINTR) {
			wire->error = -errno;
		}
	}
	return 0;
}

size_t wire_send(struct wire *wire, struct span span)
{
	struct iovec part = {.iov_base = (void *)span.data, .iov_len = span.len};
	return send_parts(wire, &part, 1);
}

int wire_queue(struct wire *wire, const struct iovec *parts, size_t n_parts)
{
	size_t n_sent = 0;
	if (wire->error == 0 && bytes_len(&wire->out) == 0) {
		n_sent = send_parts(wire, parts, n_parts);
	}
	if (wire->error != 0) {
		return wire->error;
	}
	for (size_t i = 0; i < n_parts; i++) {
		if (n_sent >= parts[i].iov_len) {
			n_sent -= parts[i].iov_len;
			continue;
		}
		size_t len = parts[i].iov_len - n_sent;
		if (len > QUEUE_MAX - bytes_len(&wire->out)) {
			wire->error = -ENOBUFS;
			return wire->error;
		}
		bytes_put(&wire->out, (const uint8_t *)parts[i].iov_base + n_sent, len);
		n_sent = 0;
	}
	if (wire->out.error != 0) {
		wire->error = wire->out.error;
	}
	return wire->error;
}

void wire_flush(struct wire *wire)
{
	while (wire_is_writing(wire)) {
		size_t n = wire_send(wire, bytes_span(&wire->out));
		if (n == 0) {
			return;
		}
		bytes_consume(&wire->out, n);
	}
	bytes_trim(&wire->out);
}

ssize_t wire_receive(struct wire *wire, void *buffer, size_t size)
{
	/* After a failed send there may still be something to read: what the peer said before it
	 * closed. So an earlier error is no reason not to try. */
	for (;;) {
		ssize_t n = read(wire->read_fd, buffer, size);
		if (n >= 0) {
			return n;
		}
		if (errno == EINTR) {
			continue;
		}
		if (is_temporary(errno) && wire->error == 0) {
			return -EAGAIN;
		}
		if (wire->error == 0) {
			wire->error = -errno;
		}
		return wire->error;
	}
}

void wire_tell(const struct wire *wire, struct failure *failure)
{
	if (wire->error == 0) {
		failure_set(failure, FAILURE_OFFLINE, "the server closed the connection");
	} else if (wire->error == -ETIMEDOUT) {
		failure_set(failure, FAILURE_TIMEOUT, "the server does not answer any more");
	} else {
		failure_set(failure, FAILURE_OFFLINE, "the connection broke: %s",
			strerror(-wire->error));
	}
}
