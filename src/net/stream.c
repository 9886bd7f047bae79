#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "net/deflate.h"
#include "net/dial.h"
#include "net/proxy.h"
#include "net/resolve.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/wire.h"
#include "util/clock.h"
#include "util/log.h"

/* For what is left, close_notify and the peer's end; the promise is 2 s. */
#define CLOSING_USEC (1500 * USEC_PER_MSEC)

/* A program that closes its output ends a moment later, and then tells how. */
#define ENDING_USEC (300 * USEC_PER_MSEC)

/* What is thrown away in one turn while closing. */
#define N_DISCARDS_MAX    16

#define UNIQUE_SIZE_MAX   36
#define EXPORTER_SIZE_MAX 32

/* Octets that are deflated or inflated at a time. */
#define DEFLATE_STEP 16384

/* How many of these in one turn may inflate to nothing. */
#define N_EMPTY_STEPS_MAX 16

struct stream {
	struct turn *turn;  /* borrowed */
	struct task *owner; /* borrowed */
	struct task task;
	enum stream_state state;
	struct failure failure;

	char *name; /* of the host, for TLS: without a final dot */
	uint16_t port;
	bool wants_tls;
	bool loopback_only;
	uint64_t patience_usec; /* for connecting, and for a handshake */
	uint64_t deadline;      /* of the state; USEC_NEVER */
	struct tls_trust *trust;

	/* Connecting: one of them at a time; a proxy stays. */
	struct resolve *resolve;
	struct dial *dial;
	struct proxy *proxy;

	struct wire wire;
	struct tls *tls;
	struct deflate *deflate; /* NULL: octets pass as they are */
	ev_io readable;
	ev_io writable;
	bool is_ending; /* the proxy's octets have ended, the program not yet */
	bool is_shut;   /* closing: all is sent, the peer's end is awaited */
	bool is_secure;
	bool is_resumed;
	bool is_unreachable;
	union address ours; /* with the peer's: AF_UNSPEC before */
	union address theirs;
	const char *tls_version; /* static */
	char *peer;
	uint8_t unique_len;
	uint8_t exporter_len;
	uint8_t unique[UNIQUE_SIZE_MAX];
	uint8_t exporter[EXPORTER_SIZE_MAX];
};

const char *stream_state_name(enum stream_state state)
{
	switch (state) {
	case STREAM_CONNECTING:
		return "connecting";
	case STREAM_HANDSHAKING:
		return "handshaking";
	case STREAM_OPEN:
		return "open";
	case STREAM_CLOSING:
		return "closing";
	case STREAM_CLOSED:
		return "closed";
	}
	return "";
}

/* Gives back everything but what can still be asked about a closed stream. */
static void release(struct stream *stream)
{
	struct ev_loop *loop = turn_loop(stream->turn);
	ev_io_stop(loop, &stream->readable);
	ev_io_stop(loop, &stream->writable);
	stream->resolve = resolve_free(stream->resolve);
	stream->dial = dial_free(stream->dial);
	stream->tls = tls_free(stream->tls);
	stream->deflate = deflate_free(stream->deflate);
	wire_done(&stream->wire);
	stream->proxy = proxy_free(stream->proxy);
	stream->trust = tls_trust_unref(stream->trust);
}

static void set_deadline(struct stream *stream, uint64_t patience_usec)
{
	uint64_t now = turn_now(stream->turn);
	stream->deadline = patience_usec < USEC_NEVER - now ? now + patience_usec : USEC_NEVER;
	if (task_set_deadline(&stream->task, stream->deadline, 0) < 0) {
		/* No memory for a deadline: it is now. */
		stream->deadline = 0;
		task_wake(&stream->task);
	}
}

static void enter(struct stream *stream, enum stream_state state)
{
	log_debug(NULL, NULL, "stream=%s state=%s was=%s", stream->name, stream_state_name(state),
		stream_state_name(stream->state));
	stream->state = state;
	switch (state) {
	case STREAM_CONNECTING:
	case STREAM_HANDSHAKING:
		/* A handshake that follows connecting shares its deadline. */
		if (stream->deadline == USEC_NEVER) {
			set_deadline(stream, stream->patience_usec);
		}
		break;
	case STREAM_OPEN:
	case STREAM_CLOSED:
		set_deadline(stream, USEC_NEVER);
		break;
	case STREAM_CLOSING:
		set_deadline(stream, CLOSING_USEC);
		break;
	}
	if (state == STREAM_CLOSED) {
		release(stream);
	}
	task_wake(stream->owner);
}

/* Whether something is deflated and waits for what is below, which has not failed. */
static bool has_deflated(const struct stream *stream)
{
	return stream->deflate && stream->wire.error == 0 &&
		deflate_output(stream->deflate).len > 0;
}

bool stream_is_writing(const struct stream *stream)
{
	return wire_is_writing(&stream->wire) || has_deflated(stream);
}

/* Watches for room while something waits for it, be it the owner. Reading is watched until there is
 * something, and then again when stream_read() has found the end of it: what the owner leaves costs
 * nothing. */
static void watch(struct stream *stream, bool wants_room)
{
	struct ev_loop *loop = turn_loop(stream->turn);
	if (stream->wire.error == 0 && (wants_room || stream_is_writing(stream))) {
		ev_io_start(loop, &stream->writable);
	} else {
		ev_io_stop(loop, &stream->writable);
	}
}

/* The failure is set, and the stream closed, or soon: a proxy that closes its output is given a
 * moment to tell why. */
static void end(struct stream *stream)
{
	if (stream->proxy && stream->failure.kind == FAILURE_OFFLINE) {
		bool has_ended = proxy_has_ended(stream->proxy);
		if (!has_ended && !stream->is_ending) {
			stream->failure = (struct failure){0};
			stream->is_ending = true;
			ev_io_stop(turn_loop(stream->turn), &stream->readable);
			ev_io_stop(turn_loop(stream->turn), &stream->writable);
			set_deadline(stream, ENDING_USEC);
			return;
		}
		failure_set(&stream->failure, FAILURE_OFFLINE, "the proxy-command %s",
			has_ended ? proxy_ending(stream->proxy) : "closed the connection");
	}
	enter(stream, STREAM_CLOSED);
}

/* An error that is none of the server's. */
static void end_by_error(struct stream *stream, int error)
{
	if (!failure_is_set(&stream->failure)) {
		failure_set(
			&stream->failure, FAILURE_OFFLINE, "cannot connect: %s", strerror(-error));
	}
	enter(stream, STREAM_CLOSED);
}

static void note_session(struct stream *stream)
{
	stream->is_secure = true;
	stream->is_resumed = tls_is_resumed(stream->tls);
	stream->tls_version = tls_version(stream->tls);
	stream->unique_len = (uint8_t)tls_unique(stream->tls, stream->unique, UNIQUE_SIZE_MAX);
	stream->exporter_len =
		(uint8_t)tls_exporter(stream->tls, stream->exporter, EXPORTER_SIZE_MAX);
}

static void shake(struct stream *stream)
{
	int r = tls_handshake(stream->tls, &stream->failure);
	if (r == -EAGAIN) {
		watch(stream, false);
	} else if (r < 0) {
		end(stream);
	} else {
		note_session(stream);
		watch(stream, false);
		enter(stream, STREAM_OPEN);
	}
}

static void begin_handshake(struct stream *stream)
{
	int error = tls_new(stream->trust, &stream->wire, stream->name, stream->port, &stream->tls,
		&stream->failure);
	if (error < 0) {
		end_by_error(stream, error);
		return;
	}
	enter(stream, STREAM_HANDSHAKING);
	ev_io_start(turn_loop(stream->turn), &stream->readable);
	shake(stream);
}

static void use_descriptors(struct stream *stream, int read_fd, int write_fd)
{
	wire_open(&stream->wire, read_fd, write_fd);
	ev_io_set(&stream->readable, read_fd, EV_READ);
	ev_io_set(&stream->writable, write_fd, EV_WRITE);
	if (stream->wants_tls) {
		begin_handshake(stream);
	} else {
		ev_io_start(turn_loop(stream->turn), &stream->readable);
		enter(stream, STREAM_OPEN);
	}
}

static void dial_addresses(struct stream *stream)
{
	union address *addresses;
	size_t n_addresses = resolve_addresses(stream->resolve, &addresses);
	if (n_addresses == 0) {
		stream->failure = *resolve_failure(stream->resolve);
		stream->is_unreachable = true;
		end(stream);
		return;
	}
	if (stream->loopback_only) {
		n_addresses = address_keep_loopback(addresses, n_addresses);
	}
	if (n_addresses == 0) {
		failure_set(&stream->failure, FAILURE_INSECURE,
			"%.120s is another machine, to which nothing is said without TLS",
			stream->name);
		end(stream);
		return;
	}
	int error = dial_new(stream->turn, &stream->task, addresses, n_addresses, &stream->dial);
	stream->resolve = resolve_free(stream->resolve);
	if (error < 0) {
		end_by_error(stream, error);
	}
}

static void connect_further(struct stream *stream)
{
	if (stream->resolve && resolve_is_done(stream->resolve)) {
		dial_addresses(stream);
		return;
	}
	if (!stream->dial || !dial_is_done(stream->dial)) {
		return;
	}
	char text[ADDRESS_TEXT_SIZE];
	int fd = dial_take(stream->dial, &stream->ours, &stream->theirs);
	if (fd < 0) {
		stream->failure = *dial_failure(stream->dial);
		stream->is_unreachable = dial_is_unreachable(stream->dial);
		end(stream);
		return;
	}
	stream->dial = dial_free(stream->dial);
	address_print(&stream->theirs, text);
	stream->peer = strdup(text);
	use_descriptors(stream, fd, fd);
}

static ssize_t write_plain(struct stream *stream, struct span span)
{
	if (!stream->tls) {
		return (ssize_t)wire_send(&stream->wire, span);
	}
	wire_flush(&stream->wire);
	return tls_write(stream->tls, span, &stream->failure);
}

/* Hands on what was deflated before. Whether all of it was taken, or a negative number. */
static int flush_deflated(struct stream *stream)
{
	struct span output = deflate_output(stream->deflate);
	while (output.len > 0) {
		ssize_t n = write_plain(stream, output);
		if (n <= 0) {
			return (int)n;
		}
		deflate_sent(stream->deflate, (size_t)n);
		output = deflate_output(stream->deflate);
	}
	return 1;
}

/* close_notify is the last that TLS sends. */
static void say_bye(struct stream *stream)
{
	if (stream->tls && !has_deflated(stream)) {
		tls_bye(stream->tls);
		stream->tls = tls_free(stream->tls);
	}
}

/* All is sent, then the peer is heard out: a socket that is closed with something unread makes the
 * kernel send a reset, which may overtake what was sent last. */
static void close_further(struct stream *stream)
{
	wire_flush(&stream->wire);
	if (has_deflated(stream) && flush_deflated(stream) < 0) {
		enter(stream, STREAM_CLOSED);
		return;
	}
	say_bye(stream);
	watch(stream, false);
	if (stream_is_writing(stream)) {
		return;
	}
	if (!stream->is_shut) {
		stream->is_shut = true;
		wire_shut(&stream->wire);
		ev_io_start(turn_loop(stream->turn), &stream->readable);
	}
	for (unsigned int i = 0; i < N_DISCARDS_MAX; i++) {
		uint8_t discarded[4096];
		ssize_t n = wire_receive(&stream->wire, discarded, sizeof(discarded));
		if (n == -EAGAIN) {
			return;
		}
		if (n <= 0) {
			enter(stream, STREAM_CLOSED);
			return;
		}
	}
}

static void expire(struct stream *stream)
{
	unsigned int seconds =
		(unsigned int)((stream->patience_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
	switch (stream->state) {
	case STREAM_CONNECTING:
		stream->is_unreachable = stream->resolve != NULL;
		failure_set(&stream->failure, FAILURE_TIMEOUT, "%.120s %s within %u s",
			stream->name, stream->resolve ? "was not found" : "did not answer",
			seconds);
		break;
	case STREAM_HANDSHAKING:
		failure_set(&stream->failure, FAILURE_TIMEOUT,
			"%.120s did not finish the TLS handshake within %u s", stream->name,
			seconds);
		break;
	case STREAM_OPEN:
	case STREAM_CLOSING:
	case STREAM_CLOSED:
		break;
	}
	enter(stream, STREAM_CLOSED);
}

static void run(struct task *task)
{
	struct stream *stream = list_entry(task, struct stream, task);
	bool is_late = turn_now(stream->turn) >= stream->deadline;
	if (stream->is_ending && stream->state != STREAM_CLOSED) {
		if (is_late || proxy_has_ended(stream->proxy)) {
			wire_tell(&stream->wire, &stream->failure);
			end(stream);
		}
		return;
	}
	if (is_late && stream->state != STREAM_CLOSED) {
		expire(stream);
		return;
	}
	switch (stream->state) {
	case STREAM_CONNECTING:
		connect_further(stream);
		break;
	case STREAM_HANDSHAKING:
		wire_flush(&stream->wire);
		shake(stream);
		break;
	case STREAM_OPEN:
		wire_flush(&stream->wire);
		if (has_deflated(stream) && flush_deflated(stream) < 0) {
			end(stream);
			break;
		}
		watch(stream, false);
		if (!stream_is_writing(stream)) {
			task_wake(stream->owner);
		}
		break;
	case STREAM_CLOSING:
		close_further(stream);
		break;
	case STREAM_CLOSED:
		break;
	}
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	struct stream *stream = watcher->data;
	if (stream->state == STREAM_OPEN) {
		ev_io_stop(loop, watcher);
		task_wake(stream->owner);
	} else {
		task_wake(&stream->task);
	}
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	struct stream *stream = watcher->data;
	ev_io_stop(loop, watcher);
	task_wake(&stream->task);
}

static void begin(struct stream *stream, const struct stream_target *target)
{
	int error;
	if (!target->proxy_command) {
		error = resolve_new(
			stream->turn, &stream->task, target->host, target->port, &stream->resolve);
		if (error < 0) {
			end_by_error(stream, error);
		}
		return;
	}
	int read_fd;
	int write_fd;
	error = proxy_new(stream->turn, &stream->task, target->proxy_command, target->host,
		target->port, &stream->proxy, &read_fd, &write_fd);
	if (error == -EINVAL) {
		failure_set(&stream->failure, FAILURE_CONFIG_INVALID,
			"the host %.120s cannot be given to proxy-command: it is no name or "
			"address",
			target->host);
	}
	if (error < 0) {
		end_by_error(stream, error);
		return;
	}
	stream->peer = strdup("proxy");
	use_descriptors(stream, read_fd, write_fd);
}

static char *without_final_dot(const char *host)
{
	size_t len = strlen(host);
	return strndup(host, len > 1 && host[len - 1] == '.' ? len - 1 : len);
}

int stream_new(struct turn *turn, struct task *owner, const struct stream_target *target,
	struct stream **ret_stream)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream) {
		return -ENOMEM;
	}
	stream->turn = turn;
	stream->owner = owner;
	stream->port = target->port;
	stream->wants_tls = target->tls;
	stream->loopback_only = target->loopback_only;
	stream->patience_usec = target->deadline_usec;
	stream->deadline = USEC_NEVER;
	stream->tls_version = "";
	wire_init(&stream->wire);
	task_init(&stream->task, turn, run);
	ev_io_init(&stream->readable, on_readable, -1, EV_READ);
	ev_io_init(&stream->writable, on_writable, -1, EV_WRITE);
	stream->readable.data = stream;
	stream->writable.data = stream;
	stream->name = without_final_dot(target->host);
	if (!stream->name || tls_trust_get(turn, &target->trust, &stream->trust) < 0) {
		stream_free(stream);
		return -ENOMEM;
	}
	enter(stream, STREAM_CONNECTING);
	begin(stream, target);
	*ret_stream = stream;
	return 0;
}

struct stream *stream_free(struct stream *stream)
{
	if (!stream) {
		return NULL;
	}
	release(stream);
	task_done(&stream->task);
	free(stream->name);
	free(stream->peer);
	free(stream);
	return NULL;
}

enum stream_state stream_state(const struct stream *stream)
{
	return stream->state;
}

const struct failure *stream_failure(const struct stream *stream)
{
	return &stream->failure;
}

/* What TLS or the wire has: octets, 0 for none now, or -ENOTCONN with the failure set. */
static ssize_t read_plain(struct stream *stream, void *buffer, size_t size)
{
	ssize_t n;
	if (stream->tls) {
		n = tls_read(stream->tls, buffer, size, &stream->failure);
		watch(stream, false);
		if (n == 0 && stream->wire.error != 0) {
			wire_tell(&stream->wire, &stream->failure);
			n = -ENOTCONN;
		}
	} else {
		n = wire_receive(&stream->wire, buffer, size);
		if (n == -EAGAIN) {
			n = 0;
		} else if (n <= 0) {
			wire_tell(&stream->wire, &stream->failure);
			n = -ENOTCONN;
		}
	}
	return n;
}

/* The same through DEFLATE. A peer whose octets go on and on without meaning anything does not keep
 * others from their turn. */
static ssize_t read_deflated(struct stream *stream, void *buffer, size_t size)
{
	for (unsigned int i = 0; i < N_EMPTY_STEPS_MAX; i++) {
		ssize_t n = deflate_read(stream->deflate, buffer, size);
		if (n < 0) {
			failure_set(&stream->failure, FAILURE_PROTOCOL_ERROR,
				n == -ENOMEM ? "out of memory" : "what came is not deflated");
			return -ENOTCONN;
		}
		if (n > 0) {
			return n;
		}
		void *room = deflate_input(stream->deflate, DEFLATE_STEP);
		if (!room) {
			failure_set(&stream->failure, FAILURE_PROTOCOL_ERROR, "out of memory");
			return -ENOTCONN;
		}
		n = read_plain(stream, room, DEFLATE_STEP);
		deflate_received(stream->deflate, n > 0 ? (size_t)n : 0);
		if (n <= 0) {
			return n;
		}
	}
	task_wake(stream->owner);
	return 0;
}

ssize_t stream_read(struct stream *stream, void *buffer, size_t size)
{
	if (stream->state == STREAM_CLOSED) {
		return -ENOTCONN;
	}
	if (stream->state != STREAM_OPEN || stream->is_ending || size == 0) {
		return 0;
	}
	ssize_t n = stream->deflate ? read_deflated(stream, buffer, size)
				    : read_plain(stream, buffer, size);
	if (n < 0) {
		end(stream);
		return stream->state == STREAM_CLOSED ? -ENOTCONN : 0;
	}
	if (n == 0) {
		ev_io_start(turn_loop(stream->turn), &stream->readable);
		wire_rest(&stream->wire);
	}
	return n;
}

static ssize_t write_deflated(struct stream *stream, struct span span)
{
	size_t n = 0;
	int r = flush_deflated(stream);
	while (r > 0 && n < span.len) {
		size_t len = span.len - n < DEFLATE_STEP ? span.len - n : DEFLATE_STEP;
		struct span step = {.data = span.data + n, .len = len};
		if (deflate_write(stream->deflate, step) < 0) {
			failure_set(&stream->failure, FAILURE_PROTOCOL_ERROR, "out of memory");
			return -ENOTCONN;
		}
		n += len;
		r = flush_deflated(stream);
	}
	return r < 0 ? r : (ssize_t)n;
}

ssize_t stream_write(struct stream *stream, struct span span)
{
	if (stream->state == STREAM_CLOSED || stream->state == STREAM_CLOSING) {
		return -ENOTCONN;
	}
	if (stream->state != STREAM_OPEN || stream->is_ending || stream->wire.error != 0) {
		return 0;
	}
	ssize_t n = stream->deflate ? write_deflated(stream, span) : write_plain(stream, span);
	if (n < 0) {
		end(stream);
		return stream->state == STREAM_CLOSED ? -ENOTCONN : 0;
	}
	watch(stream, (size_t)n < span.len);
	if (stream->wire.error != 0) {
		/* By reading, the owner gets what the peer said last, and then the failure. */
		task_wake(stream->owner);
	}
	return n;
}

int stream_start_deflate(struct stream *stream, struct span first_input)
{
	if (stream->state != STREAM_OPEN || stream->deflate || stream->is_ending) {
		return -EBUSY;
	}
	int r = deflate_new(first_input, &stream->deflate);
	if (r == 0) {
		/* What came along may be all that comes for now. */
		task_wake(stream->owner);
	}
	return r;
}

int stream_start_tls(struct stream *stream)
{
	if (stream->state != STREAM_OPEN || stream->tls || stream->is_ending ||
		stream_is_writing(stream)) {
		return -EBUSY;
	}
	begin_handshake(stream);
	return 0;
}

void stream_close(struct stream *stream)
{
	switch (stream->state) {
	case STREAM_CONNECTING:
	case STREAM_HANDSHAKING:
		enter(stream, STREAM_CLOSED);
		break;
	case STREAM_OPEN:
		if (stream->is_ending) {
			enter(stream, STREAM_CLOSED);
			break;
		}
		say_bye(stream);
		enter(stream, STREAM_CLOSING);
		task_wake(&stream->task);
		break;
	case STREAM_CLOSING:
	case STREAM_CLOSED:
		break;
	}
}

bool stream_is_secure(const struct stream *stream)
{
	return stream->is_secure &&
		(stream->state == STREAM_OPEN || stream->state == STREAM_CLOSING);
}

const char *stream_tls_version(const struct stream *stream)
{
	return stream->tls_version;
}

bool stream_is_resumed(const struct stream *stream)
{
	return stream->is_resumed;
}

struct span stream_tls_unique(const struct stream *stream)
{
	return (struct span){.data = stream->unique, .len = stream->unique_len};
}

struct span stream_tls_exporter(const struct stream *stream)
{
	return (struct span){.data = stream->exporter, .len = stream->exporter_len};
}

const char *stream_peer(const struct stream *stream)
{
	return stream->peer ? stream->peer : "";
}

enum path stream_path(const struct stream *stream)
{
	if (stream->state == STREAM_CLOSED) {
		return PATH_UNKNOWN;
	}
	if (stream->dial) {
		return dial_path(stream->dial);
	}
	return stream->ours.any.sa_family == AF_UNSPEC ? PATH_UNKNOWN
						       : path_look(&stream->ours, &stream->theirs);
}

bool stream_is_unreachable(const struct stream *stream)
{
	return stream->is_unreachable;
}
