/* userlock.h - the word behind Lock and RLock: a binary lock that says who holds it.
 *
 * Unlike the internal mutex it may be released by anybody, in any process. It knows its holder so
 * that a hold which nobody else is meant to end (a *scoped* hold: `with lock`, any RLock) can be
 * taken over when the holder's process is dead.
 *
 * One 64 bit word, one atomic each way: a compare-and-swap from free, an exchange to free.
 *   0            free
 *   who | flags  held; the low half (pid and flags) is what sleepers compare
 *
 * `holds` counts holds as they begin, for a *glance*: who only reads one word that the lock guards, and
 * finds it free and no hold begun meanwhile, has read as if he had held it, and written nothing. A kill
 * before the count leaves a hold that has done nothing, and whoever takes it over counts.
 */
#ifndef FMP_SYNC_USERLOCK_H
#define FMP_SYNC_USERLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"
#include "platform/process.h"
#include "sync/eventcount.h"

#define FMP_USERLOCK_HELD UINT64_C(0x80000000)
#define FMP_USERLOCK_SCOPED UINT64_C(0x40000000)
#define FMP_USERLOCK_PID UINT64_C(0x3fffffff)

struct fmp_userlock_shm {
    fmp_a64 word;     /* by whoever acquires (0 -> held) or releases (held -> 0) */
    fmp_a32 sleepers; /* by sleepers */
    uint32_t robust;  /* by the creator, once: every hold is scoped */
    fmp_a64 holds;    /* by the holder, before all else that it does */
    fmp_a32 reserved[2];
};

/* The word that says: held by this process. */
static inline uint64_t
fmp_userlock_tag_of(fmp_who me, bool scoped)
{
    return me | FMP_USERLOCK_HELD | (scoped ? FMP_USERLOCK_SCOPED : 0);
}

static inline uint64_t
fmp_userlock_tag(bool scoped)
{
    return fmp_userlock_tag_of(fmp_who_am_i(), scoped);
}

/* Whoever sees what this hold writes sees the count, too. */
static inline void
fmp_userlock_count_hold(struct fmp_userlock_shm *l)
{
    uint64_t holds = atomic_load_explicit(&l->holds, memory_order_relaxed);
    atomic_store_explicit(&l->holds, holds + 1, memory_order_relaxed);
    fmp_fence(memory_order_release);
}

/* Whether it was free and is held now: the word is `tag`. If not, *held is what the word was. */
static inline bool
fmp_userlock_take(struct fmp_userlock_shm *l, uint64_t tag, uint64_t *held)
{
    *held = 0;
    if (!atomic_compare_exchange_strong(&l->word, held, tag)) {
        return false;
    }
    fmp_userlock_count_hold(l);
    return true;
}

/* FMP_OK: held now, the word is `tag`. FMP_AGAIN: wait as `w` says. */
static inline int
fmp_userlock_try(struct fmp_userlock_shm *l, uint64_t tag, struct fmp_wait *w)
{
    uint64_t held;
    if (fmp_userlock_take(l, tag, &held)) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, fmp_low_half(&l->word), (uint32_t)held, &l->sleepers);
    return FMP_AGAIN;
}

/* FMP_OK, or FMP_OVER_RELEASE when it is free. */
static inline int
fmp_userlock_release(struct fmp_userlock_shm *l)
{
    if (atomic_exchange(&l->word, 0) == 0) {
        return FMP_OVER_RELEASE; /* and nothing has changed */
    }
    fmp_wake(fmp_low_half(&l->word), &l->sleepers, 1);
    return FMP_OK;
}

/* For a waiter at its tick: when the hold is scoped and its holder is dead, takes it over as
 * `tag`. FMP_OWNER_DIED (held now; *dead is the pid) or FMP_AGAIN. Exactly one waiter wins. */
int fmp_userlock_recover(struct fmp_userlock_shm *l, uint64_t tag, uint32_t *dead);

/* Whether a process that calls itself `tag` (scoped or not) holds it. */
static inline bool
fmp_userlock_held_as(struct fmp_userlock_shm *l, uint64_t tag)
{
    return ((atomic_load(&l->word) ^ tag) & ~FMP_USERLOCK_SCOPED) == 0;
}

static inline bool
fmp_userlock_held(struct fmp_userlock_shm *l)
{
    return atomic_load_explicit(&l->word, memory_order_relaxed) != 0;
}

/* Before a glance: whether it is free. Only for a lock that nobody but its holder releases: where two
 * believe to hold it, a count may be lost. */
static inline bool
fmp_userlock_glance(struct fmp_userlock_shm *l, uint64_t *holds)
{
    *holds = atomic_load_explicit(&l->holds, memory_order_acquire);
    return atomic_load_explicit(&l->word, memory_order_acquire) == 0;
}

/* After it: whether what was read is what the last hold left. */
static inline bool
fmp_userlock_glanced(struct fmp_userlock_shm *l, uint64_t holds)
{
    fmp_fence(memory_order_acquire);
    return atomic_load_explicit(&l->holds, memory_order_relaxed) == holds;
}

#endif
