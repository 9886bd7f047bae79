/* System calls that fail when they are told to: put into the daemon by LD_PRELOAD, it counts the
 * calls of the daemon and its libraries, by name and kind of descriptor, in the file that
 * FAULTY_CALLS names, and lets the ones fail that this file plans (see faults.py). */
/* Each name is a function of its own. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME_SIZE 28
#define N_SLOTS   255

struct slot {
	char name[NAME_SIZE]; /* "send tcp" */
	atomic_uint n_calls;
};

/* As faults.py knows it. */
struct control {
	struct slot plan; /* n_calls: since it was made */
	uint32_t first;   /* of these calls, from 1; 0: there is no plan */
	uint32_t last;
	int32_t fault; /* an errno, or less than 0: a transfer of so many octets */
	atomic_uint n_failed;
	struct slot slots[N_SLOTS];
};

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("FAULTY_CALLS");
	/* What it starts is left in peace. */
	if (!path || strcmp(program_invocation_short_name, "mailidled") != 0) {
		return;
	}
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	void *mapped = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || mapped == MAP_FAILED) {
		abort();
	}
	syscall(SYS_close, fd);
	control = mapped;
}

static const char *kind_of_path(const char *path)
{
	static const char *const kinds[][2] = {
		{"pipe:", "pipe"},
		{"/memfd:", "memfd"},
		{"anon_inode:", "event"},
		{"mailidle.db-wal", "log"},
		{"mailidle.db-journal", "log"},
		{"mailidle.db", "database"},
		{"mailidle.lock", "lock"},
		{"mailidle.conf", "conf"},
		{"/trace", "trace"},
		{".secret", "secret"},
		{"/state", "folder"},
		{".pem", "certificate"},
		{"/proc/", "proc"},
		{"/sys/", "proc"},
	};
	for (size_t i = 0; path && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strstr(path, kinds[i][0])) {
			return kinds[i][1];
		}
	}
	return "file";
}

static const char *kind_of_domain(int domain)
{
	switch (domain) {
	case AF_INET:
	case AF_INET6:
		return "tcp";
	case AF_UNIX:
		return "unix";
	}
	return "netlink";
}

static const char *kind_of(int fd)
{
	char link[64];
	char path[512];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	long n = syscall(SYS_readlink, link, path, sizeof(path) - 1);
	if (n < 0) {
		return "none";
	}
	path[n] = '\0';
	if (strncmp(path, "socket:", 7) != 0) {
		return kind_of_path(path);
	}
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	socklen_t size = sizeof(address);
	syscall(SYS_getsockname, fd, &address, &size);
	return kind_of_domain(address.ss_family);
}

/* 0: it is to go on as if nothing were. */
static int fault_of(const char *call, const char *kind)
{
	static atomic_flag is_busy = ATOMIC_FLAG_INIT;
	char name[NAME_SIZE];
	snprintf(name, sizeof(name), "%s %s", call, kind);
	while (atomic_flag_test_and_set(&is_busy)) {
	}
	for (size_t i = 0; i < N_SLOTS; i++) {
		struct slot *slot = &control->slots[i];
		if (slot->name[0] == '\0') {
			memcpy(slot->name, name, sizeof(name));
		}
		if (strcmp(slot->name, name) == 0) {
			slot->n_calls++;
			break;
		}
	}
	int fault = 0;
	if (control->first > 0 && strcmp(control->plan.name, name) == 0) {
		unsigned n = ++control->plan.n_calls;
		if (n >= control->first && n <= control->last) {
			fault = control->fault;
			control->n_failed++;
		}
	}
	atomic_flag_clear(&is_busy);
	return fault;
}

static void find_next(void *next, const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);
	memcpy(next, &found, sizeof(found));
}

/* In each of the functions: next is the real one, fault what it is to fail with. */
#define BEGIN(name, kind) \
	static __typeof__(&(name)) next; \
	if (!next) { \
		find_next(&next, #name); \
	} \
	int fault = 0; \
	if (control) { \
		int saved = errno; \
		fault = fault_of(#name, kind); \
		errno = saved; \
	} \
	if (fault > 0) { \
		errno = fault; \
	}

#define CALL(type, name, kind, parameters, arguments) \
	type name parameters \
	{ \
		BEGIN(name, kind) \
		return fault != 0 ? (type)-1 : next arguments; \
	}

#define TRANSFER(name, parameters, arguments) \
	ssize_t name parameters \
	{ \
		BEGIN(name, kind_of(fd)) \
		if (fault < 0 && n > (size_t)-fault) { \
			n = (size_t)-fault; \
		} \
		return fault > 0 ? -1 : next arguments; \
	}

TRANSFER(read, (int fd, void *data, size_t n), (fd, data, n))
TRANSFER(write, (int fd, const void *data, size_t n), (fd, data, n))
TRANSFER(recv, (int fd, void *data, size_t n, int flags), (fd, data, n, flags))
TRANSFER(send, (int fd, const void *data, size_t n, int flags), (fd, data, n, flags))
TRANSFER(pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at))
TRANSFER(pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
TRANSFER(sendto,
	(int fd, const void *data, size_t n, int flags, __CONST_SOCKADDR_ARG to, socklen_t size),
	(fd, data, n, flags, to, size))

/* The first of them that is not empty, cut. */
static struct iovec cut(const struct iovec *vector, size_t n, int fault)
{
	struct iovec first = {0};
	for (size_t i = 0; i < n && first.iov_len == 0; i++) {
		first = vector[i];
	}
	if (first.iov_len > (size_t)-fault) {
		first.iov_len = (size_t)-fault;
	}
	return first;
}

#define VECTOR(name) \
	ssize_t name(int fd, const struct iovec *vector, int n) \
	{ \
		BEGIN(name, kind_of(fd)) \
		if (fault < 0) { \
			struct iovec first = cut(vector, (size_t)n, fault); \
			return next(fd, &first, 1); \
		} \
		return fault > 0 ? -1 : next(fd, vector, n); \
	}

VECTOR(readv)
VECTOR(writev)

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	BEGIN(sendmsg, kind_of(fd))
	if (fault < 0) {
		struct iovec first = cut(message->msg_iov, message->msg_iovlen, fault);
		struct msghdr shorter = *message;
		shorter.msg_iov = &first;
		shorter.msg_iovlen = 1;
		return next(fd, &shorter, flags);
	}
	return fault > 0 ? -1 : next(fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	BEGIN(recvmsg, kind_of(fd))
	if (fault < 0) {
		struct iovec first = cut(message->msg_iov, message->msg_iovlen, fault);
		struct msghdr shorter = *message;
		shorter.msg_iov = &first;
		shorter.msg_iovlen = 1;
		ssize_t result = next(fd, &shorter, flags);
		message->msg_controllen = shorter.msg_controllen;
		message->msg_flags = shorter.msg_flags;
		return result;
	}
	return fault > 0 ? -1 : next(fd, message, flags);
}

CALL(int, socket, kind_of_domain(domain), (int domain, int type, int protocol),
	(domain, type, protocol))
CALL(int, socketpair, kind_of_domain(domain), (int domain, int type, int protocol, int fds[2]),
	(domain, type, protocol, fds))
CALL(int, connect, kind_of(fd), (int fd, __CONST_SOCKADDR_ARG address, socklen_t size),
	(fd, address, size))
CALL(int, bind, kind_of(fd), (int fd, __CONST_SOCKADDR_ARG address, socklen_t size),
	(fd, address, size))
CALL(int, shutdown, kind_of(fd), (int fd, int how), (fd, how))
CALL(int, setsockopt, kind_of(fd), (int fd, int level, int name, const void *value, socklen_t size),
	(fd, level, name, value, size))
CALL(int, getsockopt, kind_of(fd), (int fd, int level, int name, void *value, socklen_t *size),
	(fd, level, name, value, size))
CALL(int, pipe2, "new", (int fds[2], int flags), (fds, flags))
CALL(int, memfd_create, "new", (const char *name, unsigned int flags), (name, flags))
CALL(int, epoll_create1, "new", (int flags), (flags))
CALL(int, epoll_ctl, kind_of(fd), (int epoll, int operation, int fd, struct epoll_event *event),
	(epoll, operation, fd, event))
CALL(int, epoll_wait, "all", (int epoll, struct epoll_event *events, int n, int msec),
	(epoll, events, n, msec))
CALL(int, timerfd_create, "new", (clockid_t clock, int flags), (clock, flags))
CALL(int, timerfd_settime, "event",
	(int fd, int flags, const struct itimerspec *time, struct itimerspec *old),
	(fd, flags, time, old))
CALL(int, eventfd, "new", (unsigned int value, int flags), (value, flags))
CALL(int, inotify_init1, "new", (int flags), (flags))
CALL(int, inotify_add_watch, "event", (int fd, const char *path, uint32_t mask), (fd, path, mask))
CALL(int, pidfd_open, "new", (pid_t pid, unsigned int flags), (pid, flags))
CALL(int, poll, "all", (struct pollfd * fds, nfds_t n, int msec), (fds, n, msec))
CALL(int, ppoll, "all",
	(struct pollfd * fds, nfds_t n, const struct timespec *time, const sigset_t *signals),
	(fds, n, time, signals))
CALL(int, fsync, kind_of(fd), (int fd), (fd))
CALL(int, fdatasync, kind_of(fd), (int fd), (fd))
CALL(int, ftruncate64, kind_of(fd), (int fd, off64_t size), (fd, size))
CALL(int, fstat64, kind_of(fd), (int fd, struct stat64 *st), (fd, st))
CALL(int, fchmod, kind_of(fd), (int fd, mode_t mode), (fd, mode))
CALL(int, flock, kind_of(fd), (int fd, int operation), (fd, operation))
CALL(int, mkdir, kind_of_path(path), (const char *path, mode_t mode), (path, mode))
CALL(int, rename, kind_of_path(from), (const char *from, const char *to), (from, to))
CALL(int, unlink, kind_of_path(path), (const char *path), (path))
CALL(pid_t, waitpid, "all", (pid_t pid, int *status, int options), (pid, status, options))
CALL(int, waitid, "all", (idtype_t type, id_t id, siginfo_t *info, int options),
	(type, id, info, options))
CALL(ssize_t, getrandom, "new", (void *data, size_t n, unsigned int flags), (data, n, flags))

#define OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list rest; \
		va_start(rest, flags); \
		mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
		va_end(rest); \
		BEGIN(name, kind_of_path(path)) \
		return fault != 0 ? -1 : next(path, flags, mode); \
	}

OPEN(open)
OPEN(open64)

int openat64(int folder, const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	BEGIN(openat64, kind_of_path(path))
	return fault != 0 ? -1 : next(folder, path, flags, mode);
}

int fcntl64(int fd, int command, ...)
{
	va_list rest;
	va_start(rest, command);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	BEGIN(fcntl64, kind_of(fd))
	return fault != 0 ? -1 : next(fd, command, argument);
}

FILE *fopen(const char *path, const char *mode)
{
	BEGIN(fopen, kind_of_path(path))
	return fault != 0 ? NULL : next(path, mode);
}

/* These return what is wrong. */

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes, char *const arguments[], char *const variables[])
{
	BEGIN(posix_spawn, "new")
	return fault != 0 ? fault : next(pid, path, actions, attributes, arguments, variables);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
	struct addrinfo **addresses)
{
	BEGIN(getaddrinfo, "new")
	return fault != 0 ? EAI_MEMORY : next(node, service, hints, addresses);
}
