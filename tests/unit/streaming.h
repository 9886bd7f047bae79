/* For tests: a stream to a server of the test's own, its owner, and the certificates of both.
 */
#pragma once

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "net/stream.h"
#include "peer.h"
#include "turning.h"

#define BIG_SIZE (10 * 1024 * 1024)

static char certificates_folder[256];
static char ca_file[512];

/* What is transferred. */
static uint8_t *big;

struct streaming {
	struct turning turning;
	struct server server;
	struct stream *stream;
	struct stream_target target;
};

static inline void streaming_init(struct streaming *streaming)
{
	*streaming = (struct streaming){
		.server = {.chain = "chain.pem",
			.key = "srv.key",
			.tls_at_once = true,
			.serve = peer_echo},
		.target = {.host = "localhost",
			.tls = true,
			.deadline_usec = 20 * USEC_PER_SEC,
			.trust = {.ca_file = ca_file}},
	};
	/* As the daemon does. */
	signal(SIGPIPE, SIG_IGN);
	turning_init(&streaming->turning);
}

static inline void init_plain(struct streaming *streaming)
{
	streaming_init(streaming);
	streaming->server.tls_at_once = false;
	streaming->server.chain = NULL;
	streaming->target.tls = false;
	streaming->target.host = "127.0.0.1";
}

static inline void dial(struct streaming *streaming)
{
	streaming->target.port = streaming->server.port;
	assert_int_equal(stream_new(streaming->turning.turn, &streaming->turning.owner,
				 &streaming->target, &streaming->stream),
		0);
}

static inline void await_settled(struct streaming *streaming)
{
	while (stream_state(streaming->stream) == STREAM_CONNECTING ||
		stream_state(streaming->stream) == STREAM_HANDSHAKING) {
		turning_await(&streaming->turning);
	}
}

static inline void await_closed(struct streaming *streaming)
{
	while (stream_state(streaming->stream) != STREAM_CLOSED) {
		turning_await(&streaming->turning);
	}
}

static inline void connect_and_await(struct streaming *streaming)
{
	server_start(&streaming->server);
	dial(streaming);
	await_settled(streaming);
}

static inline void streaming_done(struct streaming *streaming)
{
	streaming->stream = stream_free(streaming->stream);
	server_stop(&streaming->server);
	turning_done(&streaming->turning);
}

/* Reads as an owner does: again only when woken. False at the end. */
static inline bool read_exactly(struct streaming *streaming, char *text, size_t len, size_t step)
{
	size_t n_read = 0;
	while (n_read < len) {
		streaming->turning.is_woken = false;
		size_t size = len - n_read < step ? len - n_read : step;
		ssize_t n = stream_read(streaming->stream, text + n_read, size);
		if (n < 0) {
			return false;
		}
		n_read += (size_t)n;
		if (n == 0) {
			turning_await(&streaming->turning);
		}
	}
	return true;
}

static inline void assert_reads(struct streaming *streaming, const char *text)
{
	char answer[256] = "";
	assert_true(read_exactly(streaming, answer, strlen(text), sizeof(answer)));
	assert_string_equal(answer, text);
}

static inline void assert_echoes(struct streaming *streaming, const char *line)
{
	char answer[64] = "";
	assert_int_equal(stream_write(streaming->stream, span_of(line)), strlen(line));
	assert_true(read_exactly(streaming, answer, strlen(line), 1));
	assert_string_equal(answer, line);
}

static inline void assert_open(struct streaming *streaming)
{
	assert_string_equal(stream_failure(streaming->stream)->text, "");
	assert_int_equal(stream_state(streaming->stream), STREAM_OPEN);
	assert_true(stream_is_secure(streaming->stream));
}

static inline void assert_closed(
	struct streaming *streaming, enum failure_kind kind, const char *words)
{
	const struct failure *failure = stream_failure(streaming->stream);
	assert_int_equal(stream_state(streaming->stream), STREAM_CLOSED);
	assert_string_equal(failure_name(failure->kind), failure_name(kind));
	if (!strstr(failure->text, words)) {
		fail_msg("\"%s\" is not in \"%s\"", words, failure->text);
	}
	assert_false(stream_is_secure(streaming->stream));
	assert_int_equal(stream_write(streaming->stream, span_of("x")), -ENOTCONN);
}

/* As an owner does it that wants to write and to read, with reads of odd sizes. */
static inline void swap(struct streaming *streaming)
{
	uint8_t *answer = malloc(BIG_SIZE);
	size_t n_written = 0;
	size_t n_read = 0;
	size_t step = 1;
	while (n_read < BIG_SIZE) {
		streaming->turning.is_woken = false;
		ssize_t n = stream_write(streaming->stream,
			(struct span){.data = big + n_written, .len = BIG_SIZE - n_written});
		assert_true(n >= 0);
		n_written += (size_t)n;
		do {
			size_t room = BIG_SIZE - n_read;
			step = step * 7 % 20011 + 1;
			n = stream_read(
				streaming->stream, answer + n_read, room < step ? room : step);
			assert_true(n >= 0);
			n_read += (size_t)n;
		} while (n > 0 && n_read < BIG_SIZE);
		if (n_read < BIG_SIZE) {
			turning_await(&streaming->turning);
		}
	}
	assert_int_equal(n_written, BIG_SIZE);
	assert_memory_equal(answer, big, BIG_SIZE);
	free(answer);
}

static inline int big_make(void)
{
	uint32_t chance = 1;
	big = malloc(BIG_SIZE);
	for (size_t i = 0; big && i < BIG_SIZE; i++) {
		chance = chance * 1664525 + 1013904223;
		big[i] = (uint8_t)(chance >> 24);
	}
	return big ? 0 : -1;
}

static inline int certificates_make(void)
{
	const char *source = getenv("MAILIDLE_SOURCE");
	const char *temporary = getenv("TMPDIR");
	char command[1024];
	snprintf(certificates_folder, sizeof(certificates_folder), "%s/mailidle-test-XXXXXX",
		temporary ? temporary : P_tmpdir);
	if (!mkdtemp(certificates_folder)) {
		return -1;
	}
	snprintf(command, sizeof(command), "'%s/tests/certificates' '%s'", source ? source : ".",
		certificates_folder);
	peer_certificates = certificates_folder;
	peer_path("ca.pem", ca_file);
	return system(command) == 0 ? 0 : -1;
}

static inline int certificates_remove_entry(
	const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int certificates_remove(void)
{
	return nftw(certificates_folder, certificates_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
