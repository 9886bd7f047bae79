#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "watch.h"

#define EVENTS_OF_INTEREST (IN_CLOSE_WRITE | IN_MOVED_TO | IN_ATTRIB)

struct watch {
	struct turn *turn;  /* borrowed */
	struct task *owner; /* borrowed */
	char *path;
	const char *name; /* in path */
	struct ev_io inotify;
};

static bool is_of_interest(const struct watch *watch, const struct inotify_event *event)
{
	/* A queue that ran over may have lost what was of interest. */
	return (event->mask & IN_Q_OVERFLOW) ||
		(event->len > 0 && strcmp(event->name, watch->name) == 0);
}

static void on_readable(struct ev_loop *loop, struct ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	struct watch *watch = watcher->data;
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	for (;;) {
		ssize_t len = read(watcher->fd, buffer, sizeof(buffer));
		if (len <= 0) {
			return;
		}
		for (char *next = buffer; next < buffer + len;) {
			const struct inotify_event *event = (const struct inotify_event *)next;
			if (is_of_interest(watch, event)) {
				task_wake(watch->owner);
			}
			next += sizeof(*event) + event->len;
		}
	}
}

static int open_inotify(struct watch *watch)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ev_io_init(&watch->inotify, on_readable, fd, EV_READ);
	watch->inotify.data = watch;
	char *slash = strrchr(watch->path, '/');
	watch->name = slash ? slash + 1 : watch->path;
	int result;
	if (!slash) {
		result = inotify_add_watch(fd, ".", EVENTS_OF_INTEREST);
	} else if (slash == watch->path) {
		result = inotify_add_watch(fd, "/", EVENTS_OF_INTEREST);
	} else {
		*slash = '\0';
		result = inotify_add_watch(fd, watch->path, EVENTS_OF_INTEREST);
		*slash = '/';
	}
	return result < 0 ? -errno : 0;
}

int watch_new(struct turn *turn, struct task *owner, const char *path, struct watch **ret_watch)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch) {
		return -ENOMEM;
	}
	watch->turn = turn;
	watch->owner = owner;
	watch->inotify.fd = -1;
	watch->path = strdup(path);
	int error = watch->path ? open_inotify(watch) : -ENOMEM;
	if (error < 0) {
		watch_free(watch);
		return error;
	}
	ev_io_start(turn_loop(turn), &watch->inotify);
	*ret_watch = watch;
	return 0;
}

struct watch *watch_free(struct watch *watch)
{
	if (!watch) {
		return NULL;
	}
	ev_io_stop(turn_loop(watch->turn), &watch->inotify);
	if (watch->inotify.fd >= 0) {
		close(watch->inotify.fd);
	}
	free(watch->path);
	free(watch);
	return NULL;
}
