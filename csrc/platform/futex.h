/* futex.h - sleep until a shared 32 bit word changes; wake those who sleep on it. */
#ifndef FMP_PLATFORM_FUTEX_H
#define FMP_PLATFORM_FUTEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"

/* Sleeps while *word == expected, at most `ns` nanoseconds. FMP_OK: woken, or the word differed;
 * FMP_TIMEOUT; -EINTR: a signal arrived. A wake-up promises nothing: look at the word again. */
int fmp_futex_wait(fmp_a32 *word, uint32_t expected, int64_t ns);

/* Wakes up to `count` sleepers (INT_MAX: all) and returns how many. Costs a system call even when
 * nobody sleeps, so callers count their sleepers. */
int fmp_futex_wake(fmp_a32 *word, int count);

/* Lets one sleeper on *from, if *from == expected, sleep on *to instead, unwoken. Returns whether
 * there was one. */
bool fmp_futex_requeue(fmp_a32 *from, uint32_t expected, fmp_a32 *to);

#endif
