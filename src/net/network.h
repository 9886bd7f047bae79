/* News of this machine's network, told by the kernel (rtnetlink(7)): addresses and routes that come
 * and go. What a change means for one stream only that stream can say: stream_path().
 *
 * Known at the beginning is what is there. An address or a route that is told once more is no news
 * (routers advertise the same ones for ever), nor is what concerns loopback or a link alone.
 * Where the kernel tells nothing, there is no news, and the network counts as up.
 */
#pragma once

#include <stdbool.h>

#include "util/turn.h"

struct network;

enum network_news {
	NETWORK_NEWS_LESS = 1 << 0, /* an address or a route is gone */
	NETWORK_NEWS_MORE = 1 << 1, /* there is a new one */
};

/* owner is borrowed, and woken when there is news. 0; -ENOMEM; a system without rtnetlink is no
 * error. */
int network_new(struct turn *turn, struct task *owner, struct network **ret_network);

/* NULL is allowed. Returns NULL. */
struct network *network_free(struct network *network);

/* What happened since the last call: NETWORK_NEWS_ or-ed, 0 for nothing. */
unsigned int network_take_news(struct network *network);

/* Whether anything but this machine can be reached at all: some link that is no loopback is up and
 * has an address of more than link scope. True where that is not known. */
bool network_is_up(const struct network *network);
