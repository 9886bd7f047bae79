/* Commands of the configuration: /bin/sh -c in a process group of its own, with the environment
 * less NOTIFY_SOCKET, WATCHDOG_*, LISTEN_*, CREDENTIALS_DIRECTORY and MAILIDLE_*, signals at their
 * defaults, and no descriptors but the three; standard error is ours. Their soft limit of
 * descriptors is the one that we were started with. No SIGCHLD handler is needed, nor disturbed:
 * the end is seen by a pidfd.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct shell {
	pid_t pid; /* also the process group; 0: nothing was started, or all is over */
	int pidfd; /* readable when the shell has ended */
};

/* Raises our own soft limit of descriptors to the hard one: each session takes one, and nothing of
 * ours uses select(2), for whose sake it is low. For the beginning of main(). */
void shell_raise_limit(void);

/* input and output (above 2) become its standard input and output, and stay the caller's; -1 stands
 * for /dev/null. 0 or a negative errno. */
int shell_start(struct shell *shell, const char *command, int input, int output);

/* Whether the shell has ended; it stays a zombie, so that the number of its group cannot become
 * another's. ending says how: "exited with 1", "was killed by signal 9"; "" for success. */
bool shell_has_ended(const struct shell *shell, char *ending, size_t size);

/* Kills what still runs of the group, reaps the shell, closes the pidfd. Harmless when zeroed, and
 * when done twice. */
void shell_done(struct shell *shell);
