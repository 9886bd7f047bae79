#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "util/clock.h"

static uint64_t read_usec(clockid_t clock)
{
	struct timespec time = {0};
	if (clock_gettime(clock, &time) < 0 || time.tv_sec < 0) {
		return 0;
	}
	return (uint64_t)time.tv_sec * USEC_PER_SEC + (uint64_t)time.tv_nsec / 1000;
}

uint64_t clock_now_usec(void)
{
	return read_usec(CLOCK_BOOTTIME);
}

uint64_t clock_monotonic_usec(void)
{
	return read_usec(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_usec(void)
{
	return read_usec(CLOCK_REALTIME);
}

/* That a server cannot guess our tags rests on this, so no weaker source stands in for it. */
uint64_t clock_random(void)
{
	uint64_t value = 0;
	ssize_t len = -1;
	do {
		len = getrandom(&value, sizeof(value), 0);
	} while (len < 0 && errno == EINTR);
	if (len != sizeof(value)) {
		abort();
	}
	return value;
}
