/* COMPRESS=DEFLATE (RFC 4978): octets to and from their deflated form, by zlib, which only this
 * file knows. Raw deflate (RFC 1951) both ways; what is sent is flushed to an octet's end each
 * time, so that the other side can read all of it. A small window for what we send: commands are
 * short, and a session that idles keeps it. What comes may use the full window of 32 KiB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/bytes.h"

struct deflate;

/* first_input: octets that came before and are deflated already (copied). 0 or -ENOMEM. */
int deflate_new(struct span first_input, struct deflate **ret_deflate);

/* NULL is allowed. Returns NULL. */
struct deflate *deflate_free(struct deflate *deflate);

/* Where octets from the other side are put: room for size octets at once; say by deflate_received()
 * how many came, also when none did, which gives the room back. NULL when out of memory. */
void *deflate_input(struct deflate *deflate, size_t size);
void deflate_received(struct deflate *deflate, size_t len);

/* Inflates into the buffer, at most size octets. The number; 0: more input is needed; -EPROTO: what
 * came is not deflated; -ENOMEM. However much a little input may grow to, no more than size of it
 * exists at a time. */
ssize_t deflate_read(struct deflate *deflate, void *buffer, size_t size);

/* Deflates all of span into the output. 0, -ENOMEM. */
int deflate_write(struct deflate *deflate, struct span span);

/* What is to be sent, and how many octets of it were. */
struct span deflate_output(const struct deflate *deflate);
void deflate_sent(struct deflate *deflate, size_t len);
