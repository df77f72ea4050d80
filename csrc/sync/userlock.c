/* userlock.c - recovery of user locks; see userlock.h.
 *
 * Owns nothing. A kill before the exchange of a release leaves the lock held by a dead
 * process (recovered if scoped); a kill between it and the wake is mended by the sleepers' tick.
 */
#include "sync/userlock.h"

int
fmp_userlock_recover(struct fmp_userlock_shm *l, uint64_t tag, uint32_t *dead)
{
    uint64_t held = atomic_load(&l->word);
    if ((held & FMP_USERLOCK_SCOPED) == 0) {
        return FMP_AGAIN;
    }
    fmp_who holder = held & ~(FMP_USERLOCK_HELD | FMP_USERLOCK_SCOPED);
    if (fmp_who_alive(holder) || !atomic_compare_exchange_strong(&l->word, &held, tag)) {
        return FMP_AGAIN;
    }
    fmp_userlock_count_hold(l);
    *dead = fmp_who_pid(holder);
    return FMP_OWNER_DIED;
}
