#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "secret_command.h"
#include "util/clock.h"
#include "util/shell.h"

struct secret_command {
	struct task *owner;           /* borrowed */
	struct ev_loop *loop;         /* borrowed */
	const char *option;           /* static */
	struct secret_memory *memory; /* borrowed */
	uint64_t timeout_usec;
	struct shell shell;
	int pipe_fd; /* our end; -1: closed */
	ev_io output;
	ev_io ended;
	struct task deadline;
	enum secret_state state;
	struct failure failure;
};

/* Nothing is left running, whatever the outcome: what the command started goes with it. */
static void stop(struct secret_command *command)
{
	ev_io_stop(command->loop, &command->output);
	ev_io_stop(command->loop, &command->ended);
	task_done(&command->deadline);
	shell_done(&command->shell);
	if (command->pipe_fd >= 0) {
		close(command->pipe_fd);
		command->pipe_fd = -1;
	}
}

static void conclude(struct secret_command *command, enum secret_state state)
{
	stop(command);
	command->state = state;
	task_wake(command->owner);
}

static void refuse(struct secret_command *command, const char *reason)
{
	failure_set(
		&command->failure, FAILURE_AUTHENTICATION_FAILED, "%s %s", command->option, reason);
	conclude(command, SECRET_FAILED);
}

enum secret_state secret_finish(
	struct secret_memory *memory, const char *option, struct failure *failure)
{
	int r = secret_memory_cut_line(memory);
	if (r == 0) {
		return SECRET_READY;
	}
	failure_set(failure, FAILURE_AUTHENTICATION_FAILED, "%s: %s", option,
		r == -ENODATA ? "the first line is empty" : "there is a NUL in the first line");
	return SECRET_FAILED;
}

/* Reads what there is; false when that was the end of the command. */
static bool drain(struct secret_command *command)
{
	int r;
	do {
		r = secret_memory_read(command->memory, command->pipe_fd);
	} while (r > 0);
	if (r == -EAGAIN) {
		return true;
	}
	if (r == 0) {
		ev_io_stop(command->loop, &command->output);
		return true;
	}
	refuse(command, r == -EFBIG ? "printed more than 64 KiB" : "could not be read");
	return false;
}

static void on_output(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	drain(watcher->data);
}

/* What is still in the pipe belongs to the command. Its end is not waited for, since something that
 * was started in the background may hold it open. */
static void on_ended(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	struct secret_command *command = watcher->data;
	char ending[48];
	if (!shell_has_ended(&command->shell, ending, sizeof(ending))) {
		/* The loop had no room for it, and calls no more. */
		if (events & EV_ERROR) {
			refuse(command, "could not be waited for");
		}
		return;
	}
	if (ending[0] != '\0') {
		refuse(command, ending);
	} else if (drain(command)) {
		conclude(command,
			secret_finish(command->memory, command->option, &command->failure));
	}
}

static void on_deadline(struct task *task)
{
	struct secret_command *command =
		(struct secret_command *)((char *)task - offsetof(struct secret_command, deadline));
	char reason[64];
	snprintf(reason, sizeof(reason), "took longer than %u s",
		(unsigned int)(command->timeout_usec / USEC_PER_SEC));
	refuse(command, reason);
}

/* Our end alone does not block. */
static int start(struct secret_command *command, const char *text)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	command->pipe_fd = fds[0];
	int r = fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0) {
		r = shell_start(&command->shell, text, -1, fds[1]);
	}
	close(fds[1]);
	return r;
}

int secret_command_new(struct turn *turn, struct task *owner, const char *option,
	const char *command, uint64_t timeout_usec, struct secret_memory *memory,
	struct secret_command **ret_command)
{
	struct secret_command *new = calloc(1, sizeof(*new));
	if (!new) {
		return -ENOMEM;
	}
	new->owner = owner;
	new->loop = turn_loop(turn);
	new->option = option;
	new->memory = memory;
	new->timeout_usec = timeout_usec;
	new->pipe_fd = -1;
	task_init(&new->deadline, turn, on_deadline);
	int r = task_set_deadline(&new->deadline, turn_now(turn) + timeout_usec, 0);
	if (r == 0) {
		r = start(new, command);
	}
	ev_io_init(&new->output, on_output, new->pipe_fd, EV_READ);
	ev_io_init(&new->ended, on_ended, new->shell.pidfd, EV_READ);
	if (r < 0) {
		secret_command_free(new);
		return r;
	}
	new->output.data = new;
	new->ended.data = new;
	ev_io_start(new->loop, &new->output);
	ev_io_start(new->loop, &new->ended);
	*ret_command = new;
	return 0;
}

struct secret_command *secret_command_free(struct secret_command *command)
{
	if (command) {
		stop(command);
		free(command);
	}
	return NULL;
}

enum secret_state secret_command_state(const struct secret_command *command)
{
	return command->state;
}

const struct failure *secret_command_failure(const struct secret_command *command)
{
	return &command->failure;
}
