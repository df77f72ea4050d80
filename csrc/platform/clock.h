/* clock.h - the monotonic clock, in nanoseconds, and deadlines on it. */
#ifndef FMP_PLATFORM_CLOCK_H
#define FMP_PLATFORM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define FMP_NEVER INT64_MAX /* a deadline that does not come */
#define FMP_SECOND INT64_C(1000000000)

static inline int64_t
fmp_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * FMP_SECOND + t.tv_nsec;
}

/* Nanoseconds until the deadline, 0 when it has passed. */
static inline int64_t
fmp_time_left(int64_t deadline)
{
    if (deadline == FMP_NEVER) {
        return FMP_NEVER;
    }
    int64_t left = deadline - fmp_now();
    return left > 0 ? left : 0;
}

static inline struct timespec
fmp_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / FMP_SECOND),
                             .tv_nsec = (long)(ns % FMP_SECOND)};
}

#endif
