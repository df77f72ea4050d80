/* condition.h - who waits for a condition, in the order of arrival.
 *
 * A table of waiters, each sleeping on a word of its own, so that notify(n) releases exactly the n
 * that have waited longest and are alive. The user's lock keeps notify() and the arrivals apart, as
 * Condition demands; every single step is atomic all the same, so that even a foreign lock that two
 * hold at once, or a holder that was killed, damages nothing.
 *
 * More waiters than the table has places sleep on `generation`. A notify() that has released the
 * whole table and should release more wakes all of those, which may be more than it was asked for:
 * threading's documentation allows it. While one of those sleeps, nobody takes a place in the
 * table, so that they are never overtaken.
 *
 * Nobody waits for a sleeper. A killed one is skipped, and its place is used again. One that did not
 * sleep when it was notified may be a zombie: at their ticks, those who wait look at the notified,
 * and pass on what a dead one has got.
 *
 * Under a native lock notify() wakes nobody: whom it has chosen could but wait for the lock. The
 * kernel moves the sleeper to the lock's word, and the release of the lock wakes it: one switch
 * instead of two, and no herd after notify_all(). The lock's count of sleepers is raised for it.
 */
#ifndef FMP_SYNC_CONDITION_H
#define FMP_SYNC_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "sync/eventcount.h"
#include "sync/userlock.h"

#define FMP_CONDITION_PLACES 64

struct fmp_condition_shm {
    fmp_a32 arrivals; /* +1 by whoever takes a place: the order */
    fmp_a32 crowd;    /* by who sleeps without a place (+1, -1) and notify() (0); too high by those
                         * that were killed, until the next notify() that gets so far */
    fmp_a32 generation; /* by notify(): releases the crowd */
    fmp_a32 sleepers;   /* by sleepers */
    uint32_t reserved[12];
    fmp_a32 word[FMP_CONDITION_PLACES]; /* order << 2 | state; 0: nobody waits here.
                                         * By who owns the place; to a notified state, by
                                         * notify() */
    fmp_a64 who[FMP_CONDITION_PLACES];  /* owner of the place, 0: free. By who takes or leaves it,
                                         * or finds its owner dead */
};

/* Where one waiter waits; in its own memory. */
struct fmp_condition_place {
    int index;     /* -1: in the crowd */
    uint32_t word; /* what its word, or `generation`, is while it has to wait */
};

/* `lock` is the user's lock, which the caller holds unless it is said otherwise, or NULL if it is not
 * a native one. */

/* Takes a place. */
void fmp_condition_arrive(struct fmp_condition_shm *c, struct fmp_condition_place *place,
                          struct fmp_userlock_shm *lock);

/* FMP_OK: notified. FMP_AGAIN: wait as `w` says. */
int fmp_condition_try(struct fmp_condition_shm *c, const struct fmp_condition_place *place,
                      struct fmp_wait *w);

/* Gives the place back. Whether it had been notified. */
bool fmp_condition_leave(struct fmp_condition_shm *c, const struct fmp_condition_place *place,
                         struct fmp_userlock_shm *lock);

/* Releases the `count` that have waited longest. */
void fmp_condition_notify(struct fmp_condition_shm *c, uint64_t count,
                          struct fmp_userlock_shm *lock);

/* At a tick of one that waits, without holding the lock. */
void fmp_condition_tick(struct fmp_condition_shm *c, struct fmp_userlock_shm *lock);

/* How many wait and have not been notified. */
uint32_t fmp_condition_waiting(struct fmp_condition_shm *c);

#endif
