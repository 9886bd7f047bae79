/* A command that prints a secret: it runs while the loop goes on, may print 64 KiB and take its
 * time up to a limit, and is over with everything that it started.
 */
#pragma once

#include <stdint.h>

#include "secret.h"
#include "secret_memory.h"

struct secret_command;

/* option is what failures call it. owner is woken when the state is no longer pending; memory is
 * borrowed until secret_command_free(), and holds the first line once it is ready. -ENOMEM, or a
 * negative errno when no process could be started. */
int secret_command_new(struct turn *turn, struct task *owner, const char *option,
	const char *command, uint64_t timeout_usec, struct secret_memory *memory,
	struct secret_command **ret_command);

/* Kills the command and all that it started, and reaps it. NULL is allowed. Returns NULL. */
struct secret_command *secret_command_free(struct secret_command *command);

enum secret_state secret_command_state(const struct secret_command *command);

/* Only when failed. */
const struct failure *secret_command_failure(const struct secret_command *command);

/* Takes the first line of what was read from whatever source, and says what is wrong with it. */
enum secret_state secret_finish(
	struct secret_memory *memory, const char *option, struct failure *failure);
