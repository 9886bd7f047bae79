/* COMPRESS=DEFLATE (RFC 4978), the server's half, as servers have it: full windows both ways. */
#pragma once

#include <stdbool.h>

#include "util/bytes.h"

struct deflated;

struct deflated *deflated_new(void);

/* NULL is allowed. Returns NULL. */
struct deflated *deflated_free(struct deflated *deflated);

/* Takes all of raw; false: it is not deflated. */
bool deflated_receive(struct deflated *deflated, struct bytes *raw, struct bytes *plain);

/* Appends to raw, up to an octet's end. */
void deflated_send(struct deflated *deflated, struct span plain, struct bytes *raw);
