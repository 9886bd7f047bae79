#include "net/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/bytes.h"

struct proxy {
	struct ev_loop *loop; /* borrowed */
	struct task *owner;   /* borrowed */
	pid_t pid;            /* also the process group; 0: reaped */
	int pidfd;
	ev_io ended; /* not an ev_child, which asks for the default loop */
	bool has_ended;
	char ending[48];
};

static bool is_host_harmless(const char *host)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:_%-";
	return host[0] != '-' && host[0] != '\0' && host[strspn(host, allowed)] == '\0';
}

int proxy_expand(const char *command, const char *host, uint16_t port, char **ret_command)
{
	if (!is_host_harmless(host)) {
		return -EINVAL;
	}
	struct bytes expanded;
	bytes_init(&expanded);
	for (const char *c = command; *c != '\0'; c++) {
		if (c[0] == '%' && c[1] == 'h') {
			bytes_put_str(&expanded, host);
			c++;
		} else if (c[0] == '%' && c[1] == 'p') {
			bytes_printf(&expanded, "%u", port);
			c++;
		} else if (c[0] == '%' && c[1] == '%') {
			bytes_put_char(&expanded, '%');
			c++;
		} else {
			bytes_put_char(&expanded, *c);
		}
	}
	char *result = bytes_steal(&expanded);
	bytes_done(&expanded);
	if (!result) {
		return -ENOMEM;
	}
	*ret_command = result;
	return 0;
}

static bool is_variable_hidden(const char *variable)
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

/* The strings stay those of environ. */
static char **clean_environment(void)
{
	size_t n = 0;
	while (environ && environ[n]) {
		n++;
	}
	char **variables = calloc(n + 1, sizeof(*variables));
	size_t n_kept = 0;
	for (size_t i = 0; variables && i < n; i++) {
		if (!is_variable_hidden(environ[i])) {
			variables[n_kept++] = environ[i];
		}
	}
	return variables;
}

/* fd becomes standard input and output of the shell. Returns 0 or a positive errno, as
 * posix_spawn(3) does. */
static int spawn(char *command, int fd, char **variables, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	int error = posix_spawn_file_actions_init(&actions);
	if (error != 0) {
		return error;
	}
	posix_spawnattr_t attributes;
	error = posix_spawnattr_init(&attributes);
	if (error != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	sigset_t none;
	sigset_t all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setflags(&attributes,
		POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	error = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
	if (error == 0) {
		error = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
	}
	if (error == 0) {
		error = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	}
	if (error == 0) {
		char *arguments[] = {"sh", "-c", command, NULL};
		error = posix_spawn(
			ret_pid, "/bin/sh", &actions, &attributes, arguments, variables);
	}
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* How it ended, while it stays a zombie: so the number of its group cannot become another's. */
static void look(struct proxy *proxy)
{
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)proxy->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		/* Somebody else reaped it (libev does on its default loop). */
		proxy->has_ended = true;
		snprintf(proxy->ending, sizeof(proxy->ending), "has ended");
	} else if (info.si_pid == proxy->pid) {
		proxy->has_ended = true;
		snprintf(proxy->ending, sizeof(proxy->ending),
			info.si_code == CLD_EXITED ? "exited with %d" : "was killed by signal %d",
			info.si_status);
	}
}

static void on_ended(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	struct proxy *proxy = watcher->data;
	look(proxy);
	if (proxy->has_ended) {
		ev_io_stop(loop, watcher);
		task_wake(proxy->owner);
	}
}

int proxy_new(struct turn *turn, struct task *owner, const char *command, const char *host,
	uint16_t port, struct proxy **ret_proxy, int *ret_fd)
{
	char *expanded = NULL;
	int error = proxy_expand(command, host, port, &expanded);
	if (error < 0) {
		return error;
	}
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	char **variables = clean_environment();
	int pair[2] = {-1, -1};
	if (!proxy || !variables) {
		error = -ENOMEM;
	} else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		error = -errno;
	} else if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
		error = -errno;
	} else {
		error = -spawn(expanded, pair[1], variables, &proxy->pid);
	}
	free(variables);
	free(expanded);
	if (pair[1] >= 0) {
		close(pair[1]);
	}
	if (error == 0) {
		proxy->loop = turn_loop(turn);
		proxy->owner = owner;
		/* pidfd_open(2): the descriptor is not inherited. */
		proxy->pidfd = (int)syscall(SYS_pidfd_open, proxy->pid, 0);
		error = proxy->pidfd < 0 ? -errno : 0;
		ev_io_init(&proxy->ended, on_ended, proxy->pidfd, EV_READ);
		proxy->ended.data = proxy;
	}
	if (error < 0) {
		if (pair[0] >= 0) {
			close(pair[0]);
		}
		if (proxy && proxy->pid > 0) {
			proxy_free(proxy);
		} else {
			free(proxy);
		}
		return error;
	}
	ev_io_start(proxy->loop, &proxy->ended);
	*ret_proxy = proxy;
	*ret_fd = pair[0];
	return 0;
}

struct proxy *proxy_free(struct proxy *proxy)
{
	if (!proxy) {
		return NULL;
	}
	ev_io_stop(proxy->loop, &proxy->ended);
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)proxy->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
		/* Alive or a zombie, it keeps the number of its group from becoming another's. What
		 * it started may have outlived it. */
		(void)kill(-proxy->pid, SIGKILL);
		while (waitpid(proxy->pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	if (proxy->pidfd >= 0) {
		close(proxy->pidfd);
	}
	free(proxy);
	return NULL;
}

bool proxy_has_ended(const struct proxy *proxy)
{
	return proxy->has_ended;
}

const char *proxy_ending(const struct proxy *proxy)
{
	return proxy->ending;
}
