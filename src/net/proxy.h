/* A program that carries the octets in place of a connection, as OpenSSH's ProxyCommand: a command
 * of the configuration (util/shell.h) whose standard input and output are pipes. Not a socket,
 * which some programs take for a sign that inetd started them: doveadm exec refuses it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/turn.h"

struct proxy;

/* Runs the command with %h and %p replaced by host and port, and %% by %. owner is borrowed, and
 * woken when the program has ended. ret_read_fd and ret_write_fd are our ends of the pipes,
 * non-blocking, the caller's. 0; -EINVAL: the host has a character that means something to a shell,
 * or begins with "-" (a name that a program would take for an option); -ENOMEM; another negative
 * errno when no process could be started. */
int proxy_new(struct turn *turn, struct task *owner, const char *command, const char *host,
	uint16_t port, struct proxy **ret_proxy, int *ret_read_fd, int *ret_write_fd);

/* Kills what still runs of the process group, and reaps the program. NULL is allowed. Returns
 * NULL. */
struct proxy *proxy_free(struct proxy *proxy);

bool proxy_has_ended(const struct proxy *proxy);

/* "exited with 0", "was killed by signal 9", "has ended in an unknown way"; "" while it runs. */
const char *proxy_ending(const struct proxy *proxy);

/* The command as it is given to the shell, owned by the caller. 0, -EINVAL, -ENOMEM. */
int proxy_expand(const char *command, const char *host, uint16_t port, char **ret_command);
