#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "net/deflate.h"

/* Windows as powers of two, negative for raw deflate. Sending costs (1 << 12) + (1 << 12) octets
 * and what zlib needs beside, receiving 32 KiB and that. */
enum {
	SEND_WINDOW = -10,
	SEND_MEMORY = 3,
	RECEIVE_WINDOW = -15,
	OUTPUT_STEP = 512,
};

/* zlib's function by another name: here a deflate is the thing. */
static int squeeze(z_stream *z, int flush)
{
	return deflate(z, flush);
}

struct deflate {
	z_stream sender;
	z_stream receiver;
	struct bytes input;
	struct bytes output;
};

int deflate_new(struct span first_input, struct deflate **ret_deflate)
{
	struct deflate *deflate = calloc(1, sizeof(*deflate));
	if (!deflate) {
		return -ENOMEM;
	}
	bytes_init(&deflate->input);
	bytes_init(&deflate->output);
	bytes_put(&deflate->input, first_input.data, first_input.len);
	if (deflateInit2(&deflate->sender, Z_DEFAULT_COMPRESSION, Z_DEFLATED, SEND_WINDOW,
		    SEND_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK ||
		inflateInit2(&deflate->receiver, RECEIVE_WINDOW) != Z_OK ||
		deflate->input.error < 0) {
		deflate_free(deflate);
		return -ENOMEM;
	}
	*ret_deflate = deflate;
	return 0;
}

struct deflate *deflate_free(struct deflate *deflate)
{
	if (deflate) {
		/* Both accept a stream that was never begun. */
		deflateEnd(&deflate->sender);
		inflateEnd(&deflate->receiver);
		bytes_done(&deflate->input);
		bytes_done(&deflate->output);
		free(deflate);
	}
	return NULL;
}

void *deflate_input(struct deflate *deflate, size_t size)
{
	return bytes_reserve(&deflate->input, size);
}

void deflate_received(struct deflate *deflate, size_t len)
{
	bytes_commit(&deflate->input, len);
	if (bytes_len(&deflate->input) == 0) {
		bytes_trim(&deflate->input);
	}
}

ssize_t deflate_read(struct deflate *deflate, void *buffer, size_t size)
{
	struct span input = bytes_span(&deflate->input);
	z_stream *z = &deflate->receiver;
	/* Even without input zlib may still hold output that found no room before. */
	z->next_in = (Bytef *)input.data;
	z->avail_in = (uInt)input.len;
	z->next_out = buffer;
	z->avail_out = (uInt)size;
	int r = inflate(z, Z_SYNC_FLUSH);
	bytes_consume(&deflate->input, input.len - z->avail_in);
	if (bytes_len(&deflate->input) == 0) {
		bytes_trim(&deflate->input);
	}
	size_t n = size - z->avail_out;
	if (n > 0) {
		return (ssize_t)n;
	}
	if (r == Z_OK || r == Z_BUF_ERROR) {
		return 0;
	}
	/* The end of the deflated stream is none in RFC 4978: the connection ends it. */
	return r == Z_MEM_ERROR ? -ENOMEM : -EPROTO;
}

int deflate_write(struct deflate *deflate, struct span span)
{
	z_stream *z = &deflate->sender;
	z->next_in = (Bytef *)span.data;
	z->avail_in = (uInt)span.len;
	do {
		void *room = bytes_reserve(&deflate->output, OUTPUT_STEP);
		if (!room) {
			return -ENOMEM;
		}
		z->next_out = room;
		z->avail_out = OUTPUT_STEP;
		(void)squeeze(z, Z_SYNC_FLUSH);
		bytes_commit(&deflate->output, OUTPUT_STEP - z->avail_out);
	} while (z->avail_out == 0);
	return 0;
}

struct span deflate_output(const struct deflate *deflate)
{
	return bytes_span(&deflate->output);
}

void deflate_sent(struct deflate *deflate, size_t len)
{
	bytes_consume(&deflate->output, len);
	if (bytes_len(&deflate->output) == 0) {
		bytes_trim(&deflate->output);
	}
}
