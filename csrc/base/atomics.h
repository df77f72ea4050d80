/* atomics.h - the atomic words that lie in shared memory, and the pause of a spinning reader.
 *
 * Only lock-free widths: an atomic that hides a process-local lock would not be shared.
 */
#ifndef FMP_BASE_ATOMICS_H
#define FMP_BASE_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint32_t fmp_a32;
typedef _Atomic uint64_t fmp_a64;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "32 and 64 bit atomics must be lock-free to be shared between processes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "futexes sleep on the low half of a 64 bit word");

/* The low half of a 64 bit word: what a futex compares. */
static inline fmp_a32 *
fmp_low_half(fmp_a64 *word)
{
    return (fmp_a32 *)word;
}

/* ThreadSanitizer knows no fences. */
#ifdef FMP_TSAN
#define fmp_fence(order) atomic_signal_fence(order)
#else
#define fmp_fence(order) atomic_thread_fence(order)
#endif

static inline void
fmp_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

#endif
