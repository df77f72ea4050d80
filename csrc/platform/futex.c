/* futex.c - the futex system call, shared between processes (never FUTEX_PRIVATE).
 *
 * Owns nothing. A process killed in here leaves no trace: the kernel forgets its sleep.
 */
#include "platform/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "platform/clock.h"

int
fmp_futex_wait(fmp_a32 *word, uint32_t expected, int64_t ns)
{
    struct timespec limit = fmp_timespec(ns);
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, NULL, 0) == 0) {
        return FMP_OK;
    }
    switch (errno) {
    case EAGAIN:
        return FMP_OK;
    case ETIMEDOUT:
        return FMP_TIMEOUT;
    default:
        return -errno;
    }
}

int
fmp_futex_wake(fmp_a32 *word, int count)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

bool
fmp_futex_requeue(fmp_a32 *from, uint32_t expected, fmp_a32 *to)
{
    const long most = 1; /* in the place of the timeout */
    return syscall(SYS_futex, from, FUTEX_CMP_REQUEUE, 0, most, to, expected) > 0;
}
