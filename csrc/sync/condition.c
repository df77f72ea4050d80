/* condition.c - the table of waiters of a condition; see condition.h.
 *
 * Owns nothing. A kill
 *   - of a sleeper leaves its place taken: notify() finds that nobody woke and that its owner has
 *     vanished, the ticks of others that it is a zombie, and an arrival that finds no place looks for
 *     the dead. Several may find the same: who buries compares what it saw, as the place may have
 *     been freed and taken meanwhile;
 *   - between taking a place and filling its word: the same, with an empty word;
 *   - in notify(), between the word and the wake: that waiter's tick sees the word;
 *   - of one that was moved: the lock's count of sleepers stays one too high, and the wake-up that
 *     it did not take, the ticks of others do.
 */
#include "sync/condition.h"

#include <limits.h>
#include <stddef.h>

#include "base/points.h"
#include "base/status.h"
#include "platform/futex.h"
#include "platform/process.h"

#define WAITING 1u
#define NOTIFIED 2u
#define MOVED 3u /* notified, and counted as a sleeper of the lock */
#define STATE 3u

/* Frees a dead owner's place, whose word was `word`. False: somebody else did something to it. */
static bool
bury(struct fmp_condition_shm *c, int i, uint32_t word, fmp_who owner)
{
    FMP_POINT("condition: to bury");
    if (!atomic_compare_exchange_strong(&c->word[i], &word, 0)) {
        return false;
    }
    atomic_compare_exchange_strong(&c->who[i], &owner, 0);
    return true;
}

static int
take_place(struct fmp_condition_shm *c, fmp_who me)
{
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        fmp_who nobody = 0;
        if (atomic_load_explicit(&c->who[i], memory_order_relaxed) == 0
            && atomic_compare_exchange_strong(&c->who[i], &nobody, me)) {
            return i;
        }
    }
    return -1;
}

int
fmp_condition_try(struct fmp_condition_shm *c, const struct fmp_condition_place *place,
                  struct fmp_wait *w)
{
    fmp_a32 *word = place->index < 0 ? &c->generation : &c->word[place->index];
    if (atomic_load(word) != place->word) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, word, place->word, &c->sleepers);
    return FMP_AGAIN;
}

static bool
leave_crowd(struct fmp_condition_shm *c, uint32_t generation)
{
    if (atomic_load(&c->generation) != generation) {
        return true;
    }
    uint32_t crowd = atomic_load(&c->crowd);
    while (crowd > 0 && !atomic_compare_exchange_weak(&c->crowd, &crowd, crowd - 1)) {
    }
    return false;
}

bool
fmp_condition_leave(struct fmp_condition_shm *c, const struct fmp_condition_place *place,
                    struct fmp_userlock_shm *lock)
{
    if (place->index < 0) {
        return leave_crowd(c, place->word);
    }
    uint32_t found = place->word;
    bool notified = !atomic_compare_exchange_strong(&c->word[place->index], &found, 0);
    /* Anything but our own arrival means that we were taken for dead: the place is another's. */
    if (found != 0 && found >> 2 == place->word >> 2) {
        fmp_who me = fmp_who_am_i();
        atomic_store(&c->word[place->index], 0);
        atomic_compare_exchange_strong(&c->who[place->index], &me, 0);
        if ((found & STATE) == MOVED && lock != NULL) {
            atomic_fetch_sub(&lock->sleepers, 1);
        }
    }
    return notified;
}

/* The place of the one that has waited longest, or -1. */
static int
find_oldest(struct fmp_condition_shm *c, uint32_t *oldest)
{
    int place = -1;
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        uint32_t word = atomic_load(&c->word[i]);
        /* Orders wrap at 30 bits: older is a negative difference, not a smaller number. */
        if ((word & STATE) == WAITING && (place < 0 || (int32_t)(word - *oldest) < 0)) {
            place = i;
            *oldest = word;
        }
    }
    return place;
}

/* Who sleeps is alive, says the kernel. Another may just be about to sleep: not worth more than one
 * system call, unless it has to be known. */
static bool
reach(struct fmp_condition_shm *c, int i, fmp_who owner, struct fmp_userlock_shm *lock,
      bool for_certain)
{
    fmp_a32 *word = &c->word[i];
    bool slept = lock != NULL
                   ? fmp_futex_requeue(word, atomic_load(word), fmp_low_half(&lock->word))
                   : fmp_futex_wake(word, 1) > 0;
    if (slept || owner == fmp_who_am_i()) {
        return true;
    }
    return for_certain ? fmp_who_alive(owner) : !fmp_who_vanished(owner);
}

/* Whether it reached somebody who lives. */
static bool
notify_place(struct fmp_condition_shm *c, int i, uint32_t word, struct fmp_userlock_shm *lock,
             bool for_certain)
{
    fmp_who owner = atomic_load(&c->who[i]);
    uint32_t notified = (word & ~STATE) | (lock != NULL ? MOVED : NOTIFIED);
    if (lock != NULL) {
        atomic_fetch_add(&lock->sleepers, 1);
    }
    /* It fails when the waiter has left, or another notify() was faster. */
    if (atomic_compare_exchange_strong(&c->word[i], &word, notified)) {
        if (reach(c, i, owner, lock, for_certain)) {
            return true;
        }
        if (!bury(c, i, notified, owner)) {
            return true; /* one at its tick was faster: it passes this on */
        }
    }
    if (lock != NULL) {
        atomic_fetch_sub(&lock->sleepers, 1);
    }
    return false;
}

static void
notify(struct fmp_condition_shm *c, uint64_t count, struct fmp_userlock_shm *lock, bool for_certain)
{
    while (count > 0) {
        uint32_t word = 0;
        int i = find_oldest(c, &word);
        if (i < 0) {
            break;
        }
        if (notify_place(c, i, word, lock, for_certain)) {
            count--;
        }
    }
    if (count > 0 && atomic_load(&c->crowd) > 0) {
        atomic_store(&c->crowd, 0);
        atomic_fetch_add(&c->generation, 1);
        fmp_wake(&c->generation, &c->sleepers, INT_MAX);
    }
}

/* Frees a dead owner's place; what it had been notified of goes to another. */
static void
inherit(struct fmp_condition_shm *c, int i, uint32_t word, fmp_who owner,
        struct fmp_userlock_shm *lock)
{
    if (!bury(c, i, word, owner) || (word & STATE) <= WAITING) {
        return;
    }
    if ((word & STATE) == MOVED && lock != NULL) {
        atomic_fetch_sub(&lock->sleepers, 1);
    }
    notify(c, 1, NULL, true); /* who is notified here is woken: we may not hold the lock */
}

static void
free_places_of_the_dead(struct fmp_condition_shm *c, fmp_who me, struct fmp_userlock_shm *lock)
{
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        uint32_t word = atomic_load(&c->word[i]);
        fmp_who owner = atomic_load(&c->who[i]);
        if (owner != 0 && owner != me && !fmp_who_alive(owner)) {
            inherit(c, i, word, owner, lock);
        }
    }
}

void
fmp_condition_arrive(struct fmp_condition_shm *c, struct fmp_condition_place *place,
                     struct fmp_userlock_shm *lock)
{
    fmp_who me = fmp_who_am_i();
    place->index = -1;
    if (atomic_load(&c->crowd) == 0) {
        place->index = take_place(c, me);
        if (place->index < 0) {
            free_places_of_the_dead(c, me, lock);
            place->index = take_place(c, me);
        }
    }
    if (place->index < 0) {
        place->word = atomic_load(&c->generation);
        atomic_fetch_add(&c->crowd, 1);
        return;
    }
    place->word = atomic_fetch_add(&c->arrivals, 1) << 2 | WAITING;
    atomic_store(&c->word[place->index], place->word);
}

void
fmp_condition_notify(struct fmp_condition_shm *c, uint64_t count, struct fmp_userlock_shm *lock)
{
    notify(c, count, lock, false);
}

void
fmp_condition_tick(struct fmp_condition_shm *c, struct fmp_userlock_shm *lock)
{
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        uint32_t word = atomic_load(&c->word[i]);
        fmp_who owner = atomic_load(&c->who[i]);
        if ((word & STATE) > WAITING && owner != fmp_who_am_i() && !fmp_who_alive(owner)) {
            inherit(c, i, word, owner, lock);
        }
    }
}

uint32_t
fmp_condition_waiting(struct fmp_condition_shm *c)
{
    uint32_t waiting = atomic_load(&c->crowd);
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        waiting += (atomic_load(&c->word[i]) & STATE) == WAITING;
    }
    return waiting;
}
