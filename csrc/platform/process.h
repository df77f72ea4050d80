/* process.h - who a process is, whether it still lives, and waiting for its end.
 *
 * A pid alone may be reused; a pid and a birth (start time) may not.
 */
#ifndef FMP_PLATFORM_PROCESS_H
#define FMP_PLATFORM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* A process in one 64 bit word, so that it can be compared and swapped: the low half is the pid,
 * the high half the low bits of its start time. 0 is nobody. */
typedef uint64_t fmp_who;

/* This process. Computed once per process, and again after fork. */
fmp_who fmp_who_am_i(void);

static inline uint32_t
fmp_who_pid(fmp_who who)
{
    return (uint32_t)who;
}

/* False when the process has ended, is a zombie, or its pid belongs to a younger process. When
 * it cannot be known (no /proc), true. Costs two system calls or more: for ticks, not for hot
 * paths. */
bool fmp_who_alive(fmp_who who);

/* How many times this process descends from a fork since fastmp was loaded; changes in the child,
 * so state that must not cross a fork remembers the value it was made under. */
uint32_t fmp_fork_generation(void);

/* How many forks this process has made or descends from: what was made under another value may be
 * shared with a relative. */
uint32_t fmp_fork_epoch(void);

#endif
