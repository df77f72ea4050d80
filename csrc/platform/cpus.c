/* cpus.c - the affinity mask's size, kept in one process-wide word; yielding. */
#include "platform/cpus.h"

#include <sched.h>

#include "base/atomics.h"
#include "platform/process.h"

static fmp_a64 cached; /* reset after fork: {generation + 1, count} */

unsigned
fmp_cpus_available(void)
{
    uint64_t now = (uint64_t)(fmp_fork_generation() + 1) << 32;
    uint64_t known = atomic_load_explicit(&cached, memory_order_relaxed);
    if ((known & ~UINT64_C(0xffffffff)) == now) {
        return (unsigned)known;
    }
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    atomic_store_explicit(&cached, now | (unsigned)(count > 0 ? count : 1), memory_order_relaxed);
    return count > 0 ? (unsigned)count : 1;
}

void
fmp_cpu_yield(void)
{
    sched_yield();
}
