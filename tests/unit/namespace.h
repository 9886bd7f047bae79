/* For tests: a network of their own, in namespaces in which an ordinary user may do what root may.
 * Wants cmocka's headers before it.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static inline bool namespace_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	size_t len = strlen(text);
	bool is_written = write(fd, text, len) == (ssize_t)len;
	close(fd);
	return is_written;
}

static inline bool namespace_unshare(void)
{
	if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0) {
		return true;
	}
	char uids[64];
	char gids[64];
	snprintf(uids, sizeof(uids), "0 %u 1", (unsigned int)geteuid());
	snprintf(gids, sizeof(gids), "0 %u 1", (unsigned int)getegid());
	return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
		namespace_write("/proc/self/setgroups", "deny") &&
		namespace_write("/proc/self/uid_map", uids) &&
		namespace_write("/proc/self/gid_map", gids);
}

/* From here on this process is root in a network without anything but loopback. Whether that was
 * possible; if not, all tests have been skipped in the words of TAP. For a process with one thread.
 */
static inline bool namespace_enter(void)
{
	if (!namespace_unshare()) {
		printf("1..0 # SKIP no namespaces here: %s\n", strerror(errno));
		return false;
	}
	if (system("ip link set lo up && ip link add x type veth && ip link del x") != 0) {
		printf("1..0 # SKIP no ip(8) or no virtual links here\n");
		return false;
	}
	return true;
}

/* Commands of ip(8), in one batch. */
static inline void namespace_ip(const char *commands)
{
	FILE *ip = popen("ip -batch -", "we");
	assert_non_null(ip);
	assert_true(fputs(commands, ip) >= 0);
	assert_int_equal(pclose(ip), 0);
}

/* The kernel takes its time to say so, and tells it to whoever listens. */
static inline void namespace_await_carrier(const char *link)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", link);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	while (!(request.ifr_flags & IFF_RUNNING)) {
		usleep(1000);
		assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	}
	close(fd);
}

/* Two ends of a cable, "here" and "there", that get no address by themselves. */
static inline void namespace_lay_cable(void)
{
	namespace_ip("link add here type veth peer name there\n"
		     "link set here addrgenmode none\n"
		     "link set there addrgenmode none\n"
		     "link set there up\n"
		     "link set here up\n");
	namespace_await_carrier("here");
	namespace_await_carrier("there");
}

static inline void namespace_take_cable(void)
{
	namespace_ip("link del here\n");
}
