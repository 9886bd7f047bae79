/* The way of packets from one of our addresses to a peer: what has become of it, after news of the
 * network.
 */
#pragma once

union address;

enum path {
	PATH_UNKNOWN, /* there is none yet, or it is not ours to see (a command's) */
	PATH_SAME,
	PATH_OTHER, /* the kernel would choose another address of ours now */
	PATH_GONE,  /* our address is not this machine's any more, or no route leads there */
};

const char *path_name(enum path path);

/* Asks the kernel, without a packet. */
enum path path_look(const union address *ours, const union address *peer);
