/* semaphore.c - a shared counting semaphore; see semaphore.h.
 *
 * Owns nothing. A kill between the change of a release and its wake is mended by the sleepers' tick.
 * A unit taken by a plain acquire is lost with a killed process, as it may be another's to give
 * back; a scoped one is given back at a waiter's tick.
 */
#include "sync/semaphore.h"

enum { TAKEN = 1, GIVEN = 2, LOST = 3 };

#define NUMBERS 0x3ffffffu /* 26 bits */

static uint64_t
make_stamp(int place, uint32_t what, uint32_t number)
{
    return (uint64_t)(number << 6 | what << 4 | (uint32_t)(place + 1)) << 32;
}

static uint32_t
held_by(struct fmp_semaphore_place_shm *p)
{
    return (uint32_t)atomic_load(&p->state);
}

static uint32_t
next_number(struct fmp_semaphore_place_shm *p)
{
    return ((uint32_t)(atomic_load(&p->state) >> 32) + 1) & NUMBERS;
}

static void
reflect_in_place(struct fmp_semaphore_shm *s, uint32_t stamp)
{
    struct fmp_semaphore_place_shm *p = &s->place[(stamp & 15) - 1];
    uint32_t what = stamp >> 4 & 3, number = stamp >> 6;
    uint64_t state = atomic_load(&p->state);
    if ((((uint32_t)(state >> 32) + 1) & NUMBERS) != number) {
        return; /* it is */
    }
    uint32_t held = (uint32_t)state;
    held = what == TAKEN ? held + 1 : what == GIVEN && held > 0 ? held - 1 : 0;
    /* If it fails, another has done the same. */
    atomic_compare_exchange_strong(&p->state, &state, (uint64_t)number << 32 | held);
}

static inline void
reflect(struct fmp_semaphore_shm *s, uint64_t word)
{
    if (!fmp_semaphore_is_plain(word)) {
        reflect_in_place(s, (uint32_t)(word >> 32));
    }
}

void
fmp_semaphore_reflect(struct fmp_semaphore_shm *s, uint64_t word)
{
    reflect(s, word);
}

static int
taken_or_wait(struct fmp_semaphore_shm *s, bool taken, struct fmp_wait *w)
{
    if (taken) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, fmp_low_half(&s->word), 0, &s->sleepers);
    return FMP_AGAIN;
}

int
fmp_semaphore_try(struct fmp_semaphore_shm *s, struct fmp_wait *w)
{
    return taken_or_wait(s, fmp_semaphore_take(s), w);
}

static void
wake(struct fmp_semaphore_shm *s, int count)
{
    fmp_wake(fmp_low_half(&s->word), &s->sleepers, count);
}

int
fmp_semaphore_release(struct fmp_semaphore_shm *s)
{
    uint64_t word = atomic_load(&s->word), given;
    do {
        if ((uint32_t)word >= s->maximum) {
            return FMP_OVER_RELEASE;
        }
        reflect(s, word);
        given = fmp_semaphore_after(word, (uint32_t)word + 1);
    } while (!atomic_compare_exchange_weak(&s->word, &word, given));
    wake(s, 1);
    return FMP_OK;
}

/* --- scoped ------------------------------------------------------------------------------------- */

static int
claim_free(struct fmp_semaphore_shm *s)
{
    for (int i = 0; i < FMP_SEMAPHORE_PLACES; i++) {
        fmp_who nobody = 0;
        if (atomic_load_explicit(&s->place[i].who, memory_order_relaxed) == 0
            && atomic_compare_exchange_strong(&s->place[i].who, &nobody, fmp_who_am_i())) {
            return i;
        }
    }
    return -1;
}

int
fmp_semaphore_claim(struct fmp_semaphore_shm *s, uint32_t *dead)
{
    int place = claim_free(s);
    if (place < 0) {
        while (fmp_semaphore_recover(s, dead) > 0) {
        }
        place = claim_free(s);
    }
    return place;
}

void
fmp_semaphore_disclaim(struct fmp_semaphore_shm *s, int place)
{
    fmp_who me = fmp_who_am_i();
    reflect(s, atomic_load(&s->word));
    if (held_by(&s->place[place]) == 0) {
        atomic_compare_exchange_strong(&s->place[place].who, &me, 0);
    }
}

bool
fmp_semaphore_take_scoped(struct fmp_semaphore_shm *s, int place)
{
    uint64_t word = atomic_load(&s->word), taken;
    do {
        if ((uint32_t)word == 0) {
            return false;
        }
        reflect(s, word);
        taken = make_stamp(place, TAKEN, next_number(&s->place[place])) | ((uint32_t)word - 1);
    } while (!atomic_compare_exchange_weak(&s->word, &word, taken));
    return true;
}

int
fmp_semaphore_try_scoped(struct fmp_semaphore_shm *s, int place, struct fmp_wait *w)
{
    return taken_or_wait(s, fmp_semaphore_take_scoped(s, place), w);
}

int
fmp_semaphore_release_scoped(struct fmp_semaphore_shm *s, int place)
{
    uint64_t word = atomic_load(&s->word), given;
    do {
        if ((uint32_t)word >= s->maximum) {
            return FMP_OVER_RELEASE;
        }
        reflect(s, word);
        if (held_by(&s->place[place]) == 0) {
            return fmp_semaphore_release(s);
        }
        given = make_stamp(place, GIVEN, next_number(&s->place[place])) | ((uint32_t)word + 1);
    } while (!atomic_compare_exchange_weak(&s->word, &word, given));
    wake(s, 1);
    return FMP_OK;
}

/* Gives back what the dead owner of the place held. How many units. */
static uint32_t
give_back(struct fmp_semaphore_shm *s, int place, fmp_who dead)
{
    struct fmp_semaphore_place_shm *p = &s->place[place];
    uint64_t word = atomic_load(&s->word), lost;
    uint32_t held;
    do {
        reflect(s, word);
        /* The word was read first: if the place gets another owner, who takes units, it changes. */
        held = held_by(p);
        if (atomic_load(&p->who) != dead || held == 0) {
            return 0;
        }
        uint64_t value = (uint64_t)(uint32_t)word + held;
        value = value < s->maximum ? value : s->maximum;
        lost = make_stamp(place, LOST, next_number(p)) | value;
    } while (!atomic_compare_exchange_weak(&s->word, &word, lost));
    reflect(s, lost);
    wake(s, (int)held);
    return held;
}

uint32_t
fmp_semaphore_recover(struct fmp_semaphore_shm *s, uint32_t *dead)
{
    fmp_who me = fmp_who_am_i();
    uint32_t units = 0;
    for (int i = 0; i < FMP_SEMAPHORE_PLACES && units == 0; i++) {
        fmp_who owner = atomic_load(&s->place[i].who);
        if (owner != 0 && owner != me && !fmp_who_alive(owner)) {
            units = give_back(s, i, owner);
            *dead = units > 0 ? fmp_who_pid(owner) : *dead;
            atomic_compare_exchange_strong(&s->place[i].who, &owner, 0);
        }
    }
    return units;
}
