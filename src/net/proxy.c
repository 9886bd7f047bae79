#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/proxy.h"
#include "util/bytes.h"
#include "util/shell.h"

struct proxy {
	struct ev_loop *loop; /* borrowed */
	struct task *owner;   /* borrowed */
	struct shell shell;
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

static void on_ended(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	struct proxy *proxy = watcher->data;
	if (!shell_has_ended(&proxy->shell, proxy->ending, sizeof(proxy->ending))) {
		return;
	}
	if (proxy->ending[0] == '\0') {
		/* Success, and an end of the connection all the same. */
		snprintf(proxy->ending, sizeof(proxy->ending), "exited with 0");
	}
	proxy->has_ended = true;
	ev_io_stop(loop, watcher);
	task_wake(proxy->owner);
}

static void close_pipe(int (*ends)[2])
{
	for (size_t i = 0; i < 2; i++) {
		if ((*ends)[i] >= 0) {
			close((*ends)[i]);
		}
	}
}

/* Starts the command between two pipes. Our ends alone do not block: the command's are open file
 * descriptions of their own. */
static int start(struct proxy *proxy, const char *command, int *ret_read_fd, int *ret_write_fd)
{
	__attribute__((cleanup(close_pipe))) int input[2] = {-1, -1};
	__attribute__((cleanup(close_pipe))) int output[2] = {-1, -1};
	if (pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0 ||
		fcntl(input[1], F_SETFL, O_NONBLOCK) < 0 ||
		fcntl(output[0], F_SETFL, O_NONBLOCK) < 0) {
		return -errno;
	}
	int error = shell_start(&proxy->shell, command, input[0], output[1]);
	if (error < 0) {
		return error;
	}
	*ret_read_fd = output[0];
	*ret_write_fd = input[1];
	output[0] = -1;
	input[1] = -1;
	return 0;
}

int proxy_new(struct turn *turn, struct task *owner, const char *command, const char *host,
	uint16_t port, struct proxy **ret_proxy, int *ret_read_fd, int *ret_write_fd)
{
	char *expanded = NULL;
	int error = proxy_expand(command, host, port, &expanded);
	if (error < 0) {
		return error;
	}
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	error = proxy ? start(proxy, expanded, ret_read_fd, ret_write_fd) : -ENOMEM;
	free(expanded);
	if (error < 0) {
		free(proxy);
		return error;
	}
	proxy->loop = turn_loop(turn);
	proxy->owner = owner;
	ev_io_init(&proxy->ended, on_ended, proxy->shell.pidfd, EV_READ);
	proxy->ended.data = proxy;
	ev_io_start(proxy->loop, &proxy->ended);
	*ret_proxy = proxy;
	return 0;
}

struct proxy *proxy_free(struct proxy *proxy)
{
	if (!proxy) {
		return NULL;
	}
	ev_io_stop(proxy->loop, &proxy->ended);
	shell_done(&proxy->shell);
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
