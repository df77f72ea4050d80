/* event.c - setting and clearing an event; see event.h.
 *
 * Owns nothing. Each operation is one compare-and-swap. A kill between that of set() and its wake
 * is mended by the next set() and by the sleepers' tick.
 */
#include "sync/event.h"

#include <limits.h>

void
fmp_event_set(struct fmp_event_shm *e)
{
    uint32_t word = atomic_load(&e->word);
    while ((word & 1) == 0) {
        /* + 2 counts the change; it wraps, which needs 2^31 of them during one sleep to matter */
        if (atomic_compare_exchange_weak(&e->word, &word, (word + 2) | 1)) {
            break;
        }
    }
    fmp_wake(&e->word, &e->sleepers, INT_MAX);
}

void
fmp_event_clear(struct fmp_event_shm *e)
{
    atomic_fetch_and(&e->word, ~UINT32_C(1));
}
