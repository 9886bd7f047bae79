#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/shell.h"

/* What we were started with, where we have raised it; 0: it is as it was. */
static rlim_t limit_at_first;

void shell_raise_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max) {
		return;
	}
	rlim_t before = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit_at_first = before;
	}
}

/* What is meant for the daemon alone. */
static bool is_hidden(const char *variable)
{
	static const char *const hidden[] = {
		"NOTIFY_SOCKET=",
		"WATCHDOG_",
		"LISTEN_",
		"CREDENTIALS_DIRECTORY=",
		"MAILIDLE_",
	};
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (strncmp(variable, hidden[i], strlen(hidden[i])) == 0) {
			return true;
		}
	}
	return false;
}

/* The strings stay those of environ. NULL: out of memory. */
static char **visible_environment(void)
{
	size_t n = 0;
	while (environ && environ[n]) {
		n++;
	}
	char **variables = calloc(n + 1, sizeof(*variables));
	for (size_t i = 0, n_kept = 0; variables && i < n; i++) {
		if (!is_hidden(environ[i])) {
			variables[n_kept++] = environ[i];
		}
	}
	return variables;
}

/* Like posix_spawn(3) and its kin these return 0 or a positive errno. */
static int add_descriptor(posix_spawn_file_actions_t *actions, int fd, int target, int flags)
{
	if (fd < 0) {
		return posix_spawn_file_actions_addopen(actions, target, "/dev/null", flags, 0);
	}
	return posix_spawn_file_actions_adddup2(actions, fd, target);
}

static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none;
	sigset_t all;
	sigemptyset(&none);
	sigfillset(&all);
	int error = posix_spawnattr_setflags(
		attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (error == 0) {
		error = posix_spawnattr_setpgroup(attributes, 0);
	}
	if (error == 0) {
		error = posix_spawnattr_setsigmask(attributes, &none);
	}
	if (error == 0) {
		error = posix_spawnattr_setsigdefault(attributes, &all);
	}
	return error;
}

static int spawn(const char *command, int input, int output, char **variables, pid_t *ret_pid)
{
	/* posix_spawn(3) sets no limits, and lowering ours for the moment would take descriptors
	 * from the threads that resolve names. */
	char lower[96];
	snprintf(lower, sizeof(lower), "ulimit -S -n %ju; exec /bin/sh -c \"$1\" sh",
		(uintmax_t)limit_at_first);
	char *lowering[] = {"sh", "-c", lower, "sh", (char *)command, NULL};
	char *plain[] = {"sh", "-c", (char *)command, NULL};
	char **arguments = limit_at_first > 0 ? lowering : plain;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);
	if (error != 0) {
		return error;
	}
	error = posix_spawnattr_init(&attributes);
	if (error != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	error = set_attributes(&attributes);
	if (error == 0) {
		error = add_descriptor(&actions, output, STDOUT_FILENO, O_WRONLY);
	}
	if (error == 0) {
		error = add_descriptor(&actions, input, STDIN_FILENO, O_RDONLY);
	}
	if (error == 0) {
		error = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	}
	if (error == 0) {
		error = posix_spawn(
			ret_pid, "/bin/sh", &actions, &attributes, arguments, variables);
	}
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

int shell_start(struct shell *shell, const char *command, int input, int output)
{
	char **variables = visible_environment();
	if (!variables) {
		return -ENOMEM;
	}
	struct shell started = {.pidfd = -1};
	int error = -spawn(command, input, output, variables, &started.pid);
	free(variables);
	if (error < 0) {
		return error;
	}
	started.pidfd = pidfd_open(started.pid, 0); /* is not inherited */
	if (started.pidfd < 0) {
		error = -errno;
		shell_done(&started);
		return error;
	}
	*shell = started;
	return 0;
}

bool shell_has_ended(const struct shell *shell, char *ending, size_t size)
{
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)shell->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		/* Somebody else reaped it (libev does on its default loop: use another). */
		snprintf(ending, size, "has ended in an unknown way");
		return true;
	}
	if (info.si_pid != shell->pid) {
		return false;
	}
	if (info.si_code != CLD_EXITED) {
		snprintf(ending, size, "was killed by signal %d", info.si_status);
	} else if (info.si_status != 0) {
		snprintf(ending, size, "exited with %d", info.si_status);
	} else {
		ending[0] = '\0';
	}
	return true;
}

void shell_done(struct shell *shell)
{
	if (shell->pid <= 0) {
		return;
	}
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)shell->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
		/* Alive or a zombie, it keeps the number of its group from becoming another's. What
		 * it started may have outlived it. */
		(void)kill(-shell->pid, SIGKILL);
		while (waitpid(shell->pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	if (shell->pidfd >= 0) {
		close(shell->pidfd);
	}
	*shell = (struct shell){.pidfd = -1};
}
