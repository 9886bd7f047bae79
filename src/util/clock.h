/* Time and chance come from here and are passed down as arguments. */
#pragma once

#include <stdint.h>

#define USEC_PER_MSEC   1000ULL
#define USEC_PER_SEC    1000000ULL
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)

/* A deadline that never comes. */
#define USEC_NEVER UINT64_MAX

/* µs of CLOCK_BOOTTIME: goes on in suspend, never steps. */
uint64_t clock_now_usec(void);

/* µs of CLOCK_MONOTONIC: the same, but stands still in suspend. */
uint64_t clock_monotonic_usec(void);

/* µs since 1970. */
uint64_t clock_realtime_usec(void);

/* 64 random bits from the kernel (getrandom(2)). */
uint64_t clock_random(void);
