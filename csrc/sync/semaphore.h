/* semaphore.h - the words behind Semaphore and BoundedSemaphore.
 *
 * A plain acquire or release is one compare-and-swap of the value. A *scoped* one (`with semaphore`,
 * which nobody else is meant to end) also says who has the unit, so that those of a killed process
 * can be given back, neither lost nor doubled, whatever instruction it was killed at:
 *
 *   word    value, and in the high half the stamp of the change that made it: which place, what was
 *           done (a unit taken, given, or all lost), and a number that counts the place's changes
 *   place   per process: who it is, how many units it holds, and the number of the last change that
 *           is in that count
 *
 * The stamp makes the change; the place follows. Nobody replaces a stamp before it is reflected in
 * its place (whoever comes next does that, if the changer did not), so at most one change is open,
 * and it is in the word. A plain change leaves a stamp without a place, which only counts up, so that
 * no word comes back.
 *
 * More processes than places: the others' scoped units are like plain ones, lost with them.
 */
#ifndef FMP_SYNC_SEMAPHORE_H
#define FMP_SYNC_SEMAPHORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"
#include "platform/process.h"
#include "sync/eventcount.h"

#define FMP_SEMAPHORE_PLACES 15

struct fmp_semaphore_place_shm {
    fmp_a64 who;   /* owner, 0: free. By who claims it, gives it back, or buries a dead owner */
    fmp_a64 state; /* number of the last change << 32 | units held; by who reflects a stamp */
};

struct fmp_semaphore_shm {
    fmp_a64 word;     /* stamp << 32 | value; by acquire and release, anybody */
    fmp_a32 sleepers; /* by sleepers */
    uint32_t maximum; /* by the creator, once */
    struct fmp_semaphore_place_shm place[FMP_SEMAPHORE_PLACES];
};

static inline uint32_t
fmp_semaphore_value(struct fmp_semaphore_shm *s)
{
    return (uint32_t)atomic_load(&s->word);
}

/* Sees to it that the change which `word` is stamped with is in the count of its place. */
void fmp_semaphore_reflect(struct fmp_semaphore_shm *s, uint64_t word);

/* The stamp of a plain change has no place, and needs none. */
static inline bool
fmp_semaphore_is_plain(uint64_t word)
{
    return (word >> 32 & 15) == 0;
}

/* The word after a plain change of `word`. */
static inline uint64_t
fmp_semaphore_after(uint64_t word, uint32_t value)
{
    return ((word >> 36) + 1) << 36 | value;
}

/* Whether there was a unit, and it is taken. */
static inline bool
fmp_semaphore_take(struct fmp_semaphore_shm *s)
{
    uint64_t word = atomic_load(&s->word), taken;
    do {
        if ((uint32_t)word == 0) {
            return false;
        }
        if (!fmp_semaphore_is_plain(word)) {
            fmp_semaphore_reflect(s, word);
        }
        taken = fmp_semaphore_after(word, (uint32_t)word - 1);
    } while (!atomic_compare_exchange_weak(&s->word, &word, taken));
    return true;
}

/* FMP_OK: one unit taken. FMP_AGAIN: none left, wait as `w` says. */
int fmp_semaphore_try(struct fmp_semaphore_shm *s, struct fmp_wait *w);

/* FMP_OK, or FMP_OVER_RELEASE at the maximum. */
int fmp_semaphore_release(struct fmp_semaphore_shm *s);

/* A place for this process, or -1. To be given back by the process that claimed it. May have to
 * recover (*dead, else unchanged) to find one. */
int fmp_semaphore_claim(struct fmp_semaphore_shm *s, uint32_t *dead);
void fmp_semaphore_disclaim(struct fmp_semaphore_shm *s, int place);

/* The scoped ones. A release when the place holds nothing is a plain one. */
bool fmp_semaphore_take_scoped(struct fmp_semaphore_shm *s, int place);
int fmp_semaphore_try_scoped(struct fmp_semaphore_shm *s, int place, struct fmp_wait *w);
int fmp_semaphore_release_scoped(struct fmp_semaphore_shm *s, int place);

/* At a tick: gives back what a dead process held, and its place. How many units (*dead is the pid),
 * 0 for none. Exactly one caller gives them back. */
uint32_t fmp_semaphore_recover(struct fmp_semaphore_shm *s, uint32_t *dead);

#endif
