#include <stdlib.h>
#include <zlib.h>

#include "deflated.h"
#include "moment.h"

#define PIECE (16 * 1024)

struct deflated {
	z_stream receiver, sender;
};

struct deflated *deflated_new(void)
{
	struct deflated *deflated = calloc(1, sizeof(*deflated));
	if (!deflated || inflateInit2(&deflated->receiver, -MAX_WBITS) != Z_OK ||
		deflateInit2(&deflated->sender, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS,
			MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
		fail("zlib");
	}
	return deflated;
}

struct deflated *deflated_free(struct deflated *deflated)
{
	if (deflated) {
		inflateEnd(&deflated->receiver);
		deflateEnd(&deflated->sender);
		free(deflated);
	}
	return NULL;
}

static void reserve(struct bytes *bytes, z_stream *z)
{
	z->next_out = bytes_reserve(bytes, PIECE);
	z->avail_out = PIECE;
	if (!z->next_out) {
		fail("memory");
	}
}

bool deflated_receive(struct deflated *deflated, struct bytes *raw, struct bytes *plain)
{
	z_stream *z = &deflated->receiver;
	struct span span = bytes_span(raw);
	z->next_in = (Bytef *)span.data;
	z->avail_in = (uInt)span.len;
	do {
		reserve(plain, z);
		int r = inflate(z, Z_SYNC_FLUSH);
		if (r != Z_OK && r != Z_BUF_ERROR) {
			return false;
		}
		bytes_commit(plain, PIECE - z->avail_out);
	} while (z->avail_out == 0);
	bytes_consume(raw, span.len);
	return true;
}

void deflated_send(struct deflated *deflated, struct span plain, struct bytes *raw)
{
	z_stream *z = &deflated->sender;
	z->next_in = (Bytef *)plain.data;
	z->avail_in = (uInt)plain.len;
	do {
		reserve(raw, z);
		deflate(z, Z_SYNC_FLUSH);
		bytes_commit(raw, PIECE - z->avail_out);
	} while (z->avail_out == 0);
}
