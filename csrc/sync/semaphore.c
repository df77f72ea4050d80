/* semaphore.c - a shared counting semaphore; see semaphore.h.
 *
 * Owns nothing. Each operation is one compare-and-swap; a kill between that of a release and its
 * wake is mended by the sleepers' tick. A unit held by a killed process is lost with it.
 */
#include "sync/semaphore.h"

#include "base/status.h"

int
fmp_semaphore_try(struct fmp_semaphore_shm *s, struct fmp_wait *w)
{
    uint32_t value = atomic_load_explicit(&s->value, memory_order_relaxed);
    do {
        if (value == 0) {
            fmp_wait_on_word(w, &s->value, 0, &s->sleepers);
            return FMP_AGAIN;
        }
    } while (!atomic_compare_exchange_weak(&s->value, &value, value - 1));
    return FMP_OK;
}

int
fmp_semaphore_release(struct fmp_semaphore_shm *s)
{
    uint32_t value = atomic_load_explicit(&s->value, memory_order_relaxed);
    do {
        if (value >= s->maximum) {
            return FMP_OVER_RELEASE;
        }
    } while (!atomic_compare_exchange_weak(&s->value, &value, value + 1));
    fmp_wake(&s->value, &s->sleepers, 1);
    return FMP_OK;
}
