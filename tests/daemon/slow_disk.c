/* A disk that takes its time, for tests on file systems in memory: put into a program by
 * LD_PRELOAD, it lets fsync(2) and fdatasync(2) take SLOW_DISK_USEC µs. */
#include <stdlib.h>
#include <unistd.h>

static int take_time(void)
{
	const char *usec = getenv("SLOW_DISK_USEC");
	if (usec) {
		usleep((useconds_t)strtoul(usec, NULL, 10));
	}
	return 0;
}

/* Their parameters are named as in <unistd.h>. */
int fsync(int fd)
{
	(void)fd;
	return take_time();
}

int fdatasync(int fildes)
{
	(void)fildes;
	return take_time();
}
