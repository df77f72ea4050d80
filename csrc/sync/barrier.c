/* barrier.c - rounds of a barrier; see barrier.h.
 *
 * Owns nothing. A kill
 *   - inside the mutex: the next to take it, at a tick at the latest, breaks the barrier, as nobody
 *     knows who was told what;
 *   - between a change and its wake: the sleepers' ticks see it;
 *   - of one that has a place: its neighbour's tick breaks the barrier, in the next round if this one
 *     has been passed, and the place is free again.
 */
#include "sync/barrier.h"

#include <limits.h>

#include "base/status.h"
#include "platform/clock.h"
#include "platform/process.h"

#define STALE_MS                                                                                   \
    1500 /* longer than the longest tick: who has not ticked for so long is looked at */

size_t
fmp_barrier_size(uint32_t parties)
{
    /* Twice, as those of the last round may still be on their way out; and some, for strangers. */
    size_t places = 2 * (size_t)parties + 6;
    return sizeof(struct fmp_barrier_shm) + places * sizeof(struct fmp_barrier_place_shm);
}

static uint32_t
places_in(size_t size)
{
    return (uint32_t)((size - sizeof(struct fmp_barrier_shm))
                      / sizeof(struct fmp_barrier_place_shm));
}

int
fmp_barrier_create(struct fmp_barrier *b, struct fmp_barrier_shm *shm, uint32_t parties)
{
    shm->parties = parties;
    *b = (struct fmp_barrier){.shm = shm, .places = places_in(fmp_barrier_size(parties))};
    return fmp_mutex_init(&shm->mutex);
}

int
fmp_barrier_attach(struct fmp_barrier *b, struct fmp_barrier_shm *shm, size_t size)
{
    if (size < sizeof(*shm)) {
        return FMP_CORRUPT;
    }
    uint32_t parties =
        *(volatile uint32_t *)&shm->parties; /* once: what is checked is what counts */
    if (parties < 1 || parties > FMP_BARRIER_PARTIES_MAX || size < fmp_barrier_size(parties)) {
        return FMP_CORRUPT;
    }
    *b = (struct fmp_barrier){.shm = shm, .places = places_in(fmp_barrier_size(parties))};
    return FMP_OK;
}

static uint32_t
milliseconds(void)
{
    return (uint32_t)(fmp_now() / 1000000);
}

/* --- inside the mutex --------------------------------------------------------------------------- */

/* Ends the round: everybody inside gets `outcome`. */
static void
end_round(struct fmp_barrier *b, uint32_t outcome, int32_t state)
{
    for (uint32_t i = 0; i < b->places; i++) {
        struct fmp_barrier_place_shm *p = &b->shm->place[i];
        uint32_t now = atomic_load(&p->outcome);
        if (now == FMP_PLACE_WAITS || now == FMP_PLACE_ACTS) {
            atomic_store(&p->outcome, outcome);
        }
        else if (now == FMP_PLACE_PASSED && outcome == FMP_PLACE_BROKE) {
            /* Unless its owner has just left. */
            atomic_compare_exchange_strong(&p->outcome, &now, FMP_PLACE_PARDONED);
        }
    }
    atomic_store(&b->shm->count, 0);
    b->shm->left_early = 0;
    atomic_store(&b->shm->state, state);
    atomic_fetch_add(&b->shm->changes, 1);
}

static int
lock(struct fmp_barrier *b, struct fmp_wait *w)
{
    int rc = fmp_mutex_lock(&b->shm->mutex, w->budget_ns);
    if (rc == FMP_OWNER_DIED) {
        end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_BROKEN);
        fmp_wake(&b->shm->changes, &b->shm->sleepers, INT_MAX);
        return FMP_OK;
    }
    if (rc == FMP_AGAIN) {
        fmp_wait_on_lock(w);
    }
    return rc;
}

static int
unlock(struct fmp_barrier *b, int rc)
{
    fmp_mutex_unlock(&b->shm->mutex);
    return rc;
}

/* After a change: those who sleep look at it. */
static int
unlock_and_wake(struct fmp_barrier *b, int rc)
{
    fmp_mutex_unlock(&b->shm->mutex);
    fmp_wake(&b->shm->changes, &b->shm->sleepers, INT_MAX);
    return rc;
}

static uint32_t
next_index(struct fmp_barrier *b)
{
    uint32_t count = atomic_load(&b->shm->count);
    if (!b->shm->left_early) {
        return count;
    }
    for (uint32_t index = 0;; index++) {
        bool used = false;
        for (uint32_t i = 0; i < b->places && !used; i++) {
            struct fmp_barrier_place_shm *p = &b->shm->place[i];
            used = atomic_load(&p->outcome) == FMP_PLACE_WAITS && p->index == index;
        }
        if (!used) {
            return index;
        }
    }
}

static int32_t
free_place(struct fmp_barrier *b)
{
    for (uint32_t i = 0; i < b->places; i++) {
        if (atomic_load(&b->shm->place[i].outcome) == FMP_PLACE_FREE) {
            return (int32_t)i;
        }
    }
    return -1;
}

static bool
take_place(struct fmp_barrier *b, struct fmp_party *party, uint32_t outcome)
{
    party->place = free_place(b);
    if (party->place < 0) {
        return false;
    }
    struct fmp_barrier_place_shm *p = &b->shm->place[party->place];
    atomic_store(&p->who, fmp_who_am_i());
    atomic_store(&p->beat, milliseconds());
    p->index = party->index;
    atomic_store(&p->outcome, outcome);
    return true;
}

/* The owner of a place was found dead. Whether that breaks the barrier. */
static bool
bury(struct fmp_barrier *b, uint32_t i, fmp_who dead)
{
    struct fmp_barrier_place_shm *p = &b->shm->place[i];
    uint32_t outcome = atomic_load(&p->outcome);
    if (outcome == FMP_PLACE_FREE || atomic_load(&p->who) != dead) {
        return false; /* somebody else has buried it */
    }
    atomic_store(&p->outcome, FMP_PLACE_FREE);
    return outcome != FMP_PLACE_BROKE && outcome != FMP_PLACE_PARDONED;
}

/* Has one of those inside been silent for long, because it is dead? */
static bool
somebody_died(struct fmp_barrier *b)
{
    fmp_who me = fmp_who_am_i();
    uint32_t now = milliseconds();
    bool died = false;
    for (uint32_t i = 0; i < b->places; i++) {
        struct fmp_barrier_place_shm *p = &b->shm->place[i];
        fmp_who who = atomic_load(&p->who);
        /* Signed: a beat may be younger than `now`. */
        int32_t silent = (int32_t)(now - atomic_load(&p->beat));
        if (atomic_load(&p->outcome) != FMP_PLACE_FREE && who != me && silent > STALE_MS
            && !fmp_who_alive(who)) {
            died |= bury(b, i, who);
        }
    }
    return died;
}

static int
break_now(struct fmp_barrier *b, struct fmp_party *party)
{
    end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_BROKEN);
    if (party->place >= 0) {
        atomic_store(&b->shm->place[party->place].outcome, FMP_PLACE_FREE);
    }
    return unlock_and_wake(b, FMP_BROKEN);
}

static struct fmp_barrier_place_shm *
place_of(struct fmp_barrier *b, const struct fmp_party *party)
{
    return &b->shm->place[party->place];
}

static void
give_place_up(struct fmp_barrier *b, struct fmp_barrier_place_shm *p)
{
    atomic_store(&p->outcome, FMP_PLACE_FREE);
    if (atomic_load(&b->shm->starving) != 0) {
        atomic_fetch_add(&b->shm->changes, 1);
        fmp_wake(&b->shm->changes, &b->shm->sleepers, INT_MAX);
    }
}

/* If it has been decided already: FMP_OK or FMP_BROKEN, and left; else FMP_AGAIN. No mutex needed:
 * once decided, the place is its owner's alone. */
static int
take_outcome(struct fmp_barrier *b, struct fmp_party *party)
{
    struct fmp_barrier_place_shm *p = place_of(b, party);
    uint32_t outcome = atomic_load(&p->outcome);
    if (outcome == FMP_PLACE_WAITS || outcome == FMP_PLACE_ACTS) {
        return FMP_AGAIN;
    }
    give_place_up(b, p);
    return outcome == FMP_PLACE_BROKE ? FMP_BROKEN : FMP_OK;
}

/* --- calls ----------------------------------------------------------------------------------------- */

static int
wait_for_place(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w)
{
    if (!party->starved) {
        party->starved = true;
        atomic_fetch_add(&b->shm->starving, 1);
        fmp_wait_on_lock(w); /* look again: who has left just now did not know of us */
    }
    return unlock(b, FMP_AGAIN);
}

static int
come_last(struct fmp_barrier *b, struct fmp_party *party, bool has_action, struct fmp_wait *w)
{
    if (somebody_died(b)) {
        return break_now(b, party);
    }
    if (!has_action) {
        end_round(b, FMP_PLACE_PASSED, FMP_BARRIER_FILLING);
        return unlock_and_wake(b, FMP_OK);
    }
    if (!take_place(b, party, FMP_PLACE_ACTS)) {
        return wait_for_place(b, party, w);
    }
    party->acts = true;
    atomic_fetch_add(&b->shm->count, 1);
    atomic_store(&b->shm->state, FMP_BARRIER_ACTING);
    return unlock(b, FMP_OK);
}

static int
enter(struct fmp_barrier *b, struct fmp_party *party, bool has_action, struct fmp_wait *w)
{
    /* The word before all else: places are given up without the mutex. */
    fmp_wait_on_word(w, &b->shm->changes, atomic_load(&b->shm->changes), &b->shm->sleepers);
    int32_t state = atomic_load(&b->shm->state);
    if (state != FMP_BARRIER_FILLING) {
        return unlock(b, state == FMP_BARRIER_ACTING ? FMP_AGAIN : FMP_BROKEN);
    }
    party->index = next_index(b);
    if (atomic_load(&b->shm->count) + 1 >= b->shm->parties) {
        return come_last(b, party, has_action, w);
    }
    if (!take_place(b, party, FMP_PLACE_WAITS)) {
        return wait_for_place(b, party, w);
    }
    atomic_fetch_add(&b->shm->count, 1);
    return unlock(b, FMP_OK);
}

void
fmp_barrier_turn_away(struct fmp_barrier *b, struct fmp_party *party)
{
    if (party->starved) {
        party->starved = false;
        atomic_fetch_sub(&b->shm->starving, 1);
    }
}

int
fmp_barrier_arrive(struct fmp_barrier *b, struct fmp_party *party, bool has_action,
                   struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc == FMP_OK) {
        rc = enter(b, party, has_action, w);
    }
    if (rc != FMP_AGAIN) {
        fmp_barrier_turn_away(b, party);
    }
    return rc;
}

int
fmp_barrier_try(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w)
{
    /* The word before the outcome: a change in between ends the sleep at once. */
    fmp_wait_on_word(w, &b->shm->changes, atomic_load(&b->shm->changes), &b->shm->sleepers);
    return take_outcome(b, party);
}

int
fmp_barrier_expire(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = take_outcome(b, party);
    if (rc != FMP_AGAIN) {
        return unlock(b, rc);
    }
    if (atomic_load(&b->shm->state) == FMP_BARRIER_ACTING) {
        return unlock(b, FMP_TIMEOUT);
    }
    return break_now(b, party);
}

int
fmp_barrier_leave(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc != FMP_OK) {
        return rc;
    }
    if (take_outcome(b, party) == FMP_AGAIN) {
        atomic_fetch_sub(&b->shm->count, 1);
        b->shm->left_early = 1;
        give_place_up(b, place_of(b, party));
    }
    return unlock(b, FMP_OK);
}

int
fmp_barrier_finish(struct fmp_barrier *b, struct fmp_party *party, bool good, struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = take_outcome(b, party);
    if (rc != FMP_AGAIN) {
        return unlock(b, rc); /* aborted or reset meanwhile */
    }
    if (!good) {
        return break_now(b, party);
    }
    end_round(b, FMP_PLACE_PASSED, FMP_BARRIER_FILLING);
    atomic_store(&place_of(b, party)->outcome, FMP_PLACE_FREE);
    return unlock_and_wake(b, FMP_OK);
}

int
fmp_barrier_reset(struct fmp_barrier *b, struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc != FMP_OK) {
        return rc;
    }
    end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_FILLING);
    return unlock_and_wake(b, FMP_OK);
}

int
fmp_barrier_abort(struct fmp_barrier *b, struct fmp_wait *w)
{
    int rc = lock(b, w);
    if (rc != FMP_OK) {
        return rc;
    }
    end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_BROKEN);
    return unlock_and_wake(b, FMP_OK);
}

/* --- at the ticks ---------------------------------------------------------------------------------- */

static void
bury_at_tick(struct fmp_barrier *b, uint32_t i, fmp_who dead)
{
    struct fmp_wait w = {.budget_ns = 1};
    if (lock(b, &w) != FMP_OK) {
        return; /* at the next tick */
    }
    if (bury(b, i, dead)) {
        end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_BROKEN);
    }
    (void)unlock_and_wake(b, FMP_OK);
}

void
fmp_barrier_tick(struct fmp_barrier *b, const struct fmp_party *party)
{
    fmp_who me = fmp_who_am_i();
    if (party->place >= 0) {
        atomic_store(&place_of(b, party)->beat, milliseconds());
    }
    /* Who was killed in the mutex, and had no place, may have told some and not us. */
    struct fmp_wait now = {.budget_ns = 0};
    if (lock(b, &now) == FMP_OK) {
        fmp_mutex_unlock(&b->shm->mutex);
    }
    for (uint32_t step = 1; step <= b->places; step++) {
        uint32_t i = (uint32_t)(party->place + (int32_t)step) % b->places;
        uint32_t outcome = atomic_load(&b->shm->place[i].outcome);
        fmp_who who = atomic_load(&b->shm->place[i].who);
        if (outcome == FMP_PLACE_FREE) {
            continue;
        }
        if (who != me && !fmp_who_alive(who)) {
            bury_at_tick(b, i, who);
        }
        else if (outcome == FMP_PLACE_WAITS && !party->starved) {
            return; /* it ticks, and looks at the ones after it */
        }
    }
}
