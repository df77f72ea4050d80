/* test_waiting.c - events, conditions, barriers and scoped semaphores, below Python.
 *
 * With FMP_NO_TICK a sleeper that is not woken sleeps past the alarm, so no lost wake-up hides; what
 * is the tick's work (finding the dead) is not tested in that variant.
 */
#include "base/status.h"
#include "check.h"
#include "platform/process.h"
#include "support.h"
#include "sync/barrier.h"
#include "sync/condition.h"
#include "sync/event.h"
#include "sync/semaphore.h"
#include "sync/userlock.h"

#ifdef FMP_NO_TICK
#define WITH_TICKS 0
#else
#define WITH_TICKS 1
#endif

/* --- event ----------------------------------------------------------------------------------- */

#define WAITERS 4
#define ROUNDS 500

struct event_room {
    struct fmp_event_shm event;
    fmp_a32 arrived; /* waits begun, by all together */
    fmp_a32 left;    /* waiters that have not finished */
};

struct event_wait {
    struct fmp_event_shm *event;
    uint32_t arrived;
};

static int
try_event(void *arg, struct fmp_wait *w)
{
    struct event_wait *a = arg;
    return fmp_event_try(a->event, a->arrived, w);
}

static void
wait_again_and_again(void *arg)
{
    struct event_room *room = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct event_wait a = {&room->event, fmp_event_arrive(&room->event)};
        atomic_fetch_add(&room->arrived, 1);
        CHECK_EQ(wait_for(try_event, &a, FMP_NEVER), FMP_OK);
    }
    atomic_fetch_sub(&room->left, 1);
}

CASE(event_set_and_cleared_at_once_wakes_all_who_wait)
{
    struct event_room *room = shared_zeros(sizeof *room);
    atomic_store(&room->left, WAITERS);
    pid_t pids[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        pids[i] = check_fork(wait_again_and_again, room);
    }
    while (atomic_load(&room->left) > 0) {
        fmp_event_set(&room->event);
        fmp_event_clear(&room->event);
    }
    for (int i = 0; i < WAITERS; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(atomic_load(&room->arrived), WAITERS * ROUNDS);
}

CASE(event_counts_only_changes)
{
    struct fmp_event_shm *e = shared_zeros(sizeof *e);
    struct fmp_wait w;
    uint32_t arrived = fmp_event_arrive(e);
    CHECK_EQ(fmp_event_try(e, arrived, &w), FMP_AGAIN);
    fmp_event_clear(e);
    CHECK_EQ(fmp_event_try(e, arrived, &w), FMP_AGAIN);
    fmp_event_set(e);
    fmp_event_set(e);
    CHECK(fmp_event_is_set(e));
    CHECK_EQ(fmp_event_try(e, arrived, &w), FMP_OK);
    CHECK_EQ(fmp_event_try(e, fmp_event_arrive(e), &w), FMP_OK);
    fmp_event_clear(e);
    CHECK_EQ(fmp_event_try(e, arrived, &w), FMP_OK); /* it was set since */
    CHECK_EQ(fmp_event_try(e, fmp_event_arrive(e), &w), FMP_AGAIN);
    atomic_store(&e->word, UINT32_MAX - 1); /* the count wraps */
    arrived = fmp_event_arrive(e);
    fmp_event_set(e);
    fmp_event_clear(e);
    CHECK_EQ(fmp_event_try(e, arrived, &w), FMP_OK);
}

/* --- condition --------------------------------------------------------------------------------- */

#define MANY (FMP_CONDITION_PLACES + 6)

static int
is_notified(struct fmp_condition_shm *c, const struct fmp_condition_place *place)
{
    struct fmp_wait w;
    return fmp_condition_try(c, place, &w) == FMP_OK;
}

static void
check_order(uint32_t first, struct fmp_userlock_shm *lock)
{
    struct fmp_condition_shm *c = shared_zeros(sizeof *c);
    struct fmp_condition_place place[6];
    atomic_store(&c->arrivals, first);
    for (int i = 0; i < 5; i++) {
        fmp_condition_arrive(c, &place[i], NULL);
    }
    CHECK(!fmp_condition_leave(c, &place[0], lock)); /* as one that timed out */
    fmp_condition_arrive(c, &place[5], NULL);        /* in its place, but the last in the order */
    CHECK_EQ(fmp_condition_waiting(c), 5);
    for (int i = 1; i <= 5; i++) {
        fmp_condition_notify(c, 1, lock);
        CHECK(is_notified(c, &place[i]));
        CHECK(i == 5 || !is_notified(c, &place[i + 1]));
        CHECK(fmp_condition_leave(c, &place[i], lock));
    }
    fmp_condition_notify(c, 7, lock);
    CHECK_EQ(fmp_condition_waiting(c), 0);
    CHECK(lock == NULL || atomic_load(&lock->sleepers) == 0);
}

CASE(condition_notifies_in_order)
{
    struct fmp_userlock_shm *lock = shared_zeros(sizeof *lock);
    check_order(0, NULL);
    check_order(0, lock);
    check_order((1u << 30) - 3, NULL); /* the order wraps */
    check_order(UINT32_MAX - 2, lock);
}

CASE(condition_has_more_waiters_than_places)
{
    struct fmp_condition_shm *c = shared_zeros(sizeof *c);
    struct fmp_condition_place place[MANY];
    for (int i = 0; i < MANY; i++) {
        fmp_condition_arrive(c, &place[i], NULL);
        CHECK_EQ(place[i].index >= 0, i < FMP_CONDITION_PLACES);
    }
    CHECK_EQ(fmp_condition_waiting(c), MANY);
    CHECK(!fmp_condition_leave(c, &place[MANY - 1], NULL));
    CHECK(!fmp_condition_leave(c, &place[3], NULL));
    fmp_condition_arrive(c, &place[3], NULL);
    CHECK_EQ(place[3].index, -1); /* though one is free: behind those without */
    fmp_condition_notify(c, FMP_CONDITION_PLACES - 1, NULL);
    for (int i = 0; i < MANY - 1; i++) {
        CHECK_EQ(is_notified(c, &place[i]), i < FMP_CONDITION_PLACES && i != 3);
    }
    fmp_condition_notify(c, 1, NULL);
    for (int i = 0; i < MANY - 1; i++) {
        CHECK(fmp_condition_leave(c, &place[i], NULL));
    }
    fmp_condition_arrive(c, &place[0], NULL);
    CHECK_EQ(place[0].index, 0);
    CHECK_EQ(fmp_condition_waiting(c), 1);
}

struct condition_room {
    struct fmp_userlock_shm lock;
    struct fmp_condition_shm condition;
    volatile uint32_t turn;
    fmp_a32 stop;
};

struct condition_wait {
    struct condition_room *room;
    struct fmp_condition_place place;
};

static int
try_lock(void *arg, struct fmp_wait *w)
{
    struct condition_room *room = arg;
    uint32_t dead;
    uint64_t tag = fmp_userlock_tag(true);
    int rc = fmp_userlock_try(&room->lock, tag, w);
    if (rc == FMP_AGAIN && WITH_TICKS) {
        rc = fmp_userlock_recover(&room->lock, tag, &dead);
        rc = rc == FMP_OWNER_DIED ? FMP_OK : rc;
    }
    return rc;
}

static int
try_condition(void *arg, struct fmp_wait *w)
{
    struct condition_wait *a = arg;
    return fmp_condition_try(&a->room->condition, &a->place, w);
}

static bool
wait_condition(struct condition_room *room, int64_t deadline)
{
    struct condition_wait a = {.room = room};
    fmp_condition_arrive(&room->condition, &a.place, NULL);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
    (void)wait_for(try_condition, &a, deadline);
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    return fmp_condition_leave(&room->condition, &a.place, &room->lock);
}

static void
take_turns(struct condition_room *room, uint32_t me, int rounds)
{
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    for (int i = 0; i < rounds; i++) {
        while (room->turn != me) {
            CHECK(wait_condition(room, FMP_NEVER));
        }
        room->turn = !me;
        fmp_condition_notify(&room->condition, 1, &room->lock);
    }
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
}

static void
take_the_other_turns(void *arg)
{
    take_turns(arg, 1, 2000);
}

CASE(condition_loses_no_notification)
{
    struct condition_room *room = shared_zeros(sizeof *room);
    pid_t pid = check_fork(take_the_other_turns, room);
    take_turns(room, 0, 2000);
    check_reap(pid);
}

static void
arrive_and_end(void *arg)
{
    struct condition_room *room = arg;
    struct fmp_condition_place place;
    fmp_condition_arrive(&room->condition, &place, NULL);
}

CASE(condition_passes_on_what_a_zombie_got)
{
    CHECK_NEEDS_PROCESSES();
    struct condition_room *room = shared_zeros(sizeof *room);
    struct fmp_condition_shm *c = &room->condition;
    struct fmp_condition_place place[2];
    pid_t zombies[3];
    for (int i = 0; i < 3; i++) {
        zombies[i] = check_fork(arrive_and_end, room);
        while (fmp_who_alive((fmp_who)zombies[i])) {
            check_sleep_ms(1);
        }
    }
    fmp_condition_arrive(c, &place[0], NULL);
    fmp_condition_arrive(c, &place[1], NULL);
    fmp_condition_notify(c, 1, &room->lock);
    CHECK(!is_notified(c, &place[0]));
    fmp_condition_tick(c, &room->lock);
    CHECK(is_notified(c, &place[0])); /* after two zombies more */
    CHECK(!is_notified(c, &place[1]));
    fmp_condition_tick(c, &room->lock);
    CHECK(!is_notified(c, &place[1])); /* once */
    CHECK_EQ(atomic_load(&room->lock.sleepers), 0);
    for (int i = 0; i < 3; i++) {
        check_reap(zombies[i]);
    }
}

static void
wait_and_notify(void *arg)
{
    struct condition_room *room = arg;
    uint64_t seed = (uint64_t)fmp_now();
    while (atomic_load(&room->stop) == 0) {
        CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
        fmp_condition_notify(&room->condition, random_next(&seed) % 3, &room->lock);
        (void)wait_condition(room, fmp_now() + random_next(&seed) % 2000000);
        CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
    }
}

CASE(condition_survives_kills)
{
    CHECK_NEEDS_PROCESSES();
    struct condition_room *room = shared_zeros(sizeof *room);
    uint64_t seed = 7;
    for (int i = 0; WITH_TICKS && i < 80; i++) {
        pid_t victim = check_fork(wait_and_notify, room);
        pid_t other = check_fork(wait_and_notify, room);
        check_sleep_ms((int)(random_next(&seed) % 4));
        check_kill(victim);
        atomic_store(&room->stop, 1);
        check_reap(other);
        atomic_store(&room->stop, 0);
    }
    /* Every place can be had: none is lost for ever. */
    struct fmp_condition_place place[FMP_CONDITION_PLACES];
    fmp_condition_notify(&room->condition, UINT64_MAX, NULL);
    CHECK_EQ(fmp_condition_waiting(&room->condition), 0);
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        fmp_condition_arrive(&room->condition, &place[i], NULL);
        CHECK(place[i].index >= 0);
    }
}

/* --- barrier --------------------------------------------------------------------------------------- */

struct barrier_room {
    fmp_a32 passed[3];
    fmp_a32 rounds;
    _Alignas(64) char memory[2048];
};

static struct barrier_room *
new_barrier(struct fmp_barrier *b, uint32_t parties)
{
    struct barrier_room *room = shared_zeros(sizeof *room);
    CHECK(fmp_barrier_size(parties) <= sizeof room->memory);
    CHECK_EQ(fmp_barrier_create(b, (struct fmp_barrier_shm *)room->memory, parties), FMP_OK);
    return room;
}

static struct fmp_barrier
barrier_in(struct barrier_room *room)
{
    struct fmp_barrier b;
    struct fmp_barrier_shm *shm = (struct fmp_barrier_shm *)room->memory;
    CHECK_EQ(fmp_barrier_attach(&b, shm, sizeof room->memory), FMP_OK);
    return b;
}

struct pass {
    struct fmp_barrier *barrier;
    struct fmp_party party;
    bool has_action;
};

static int
try_arrive(void *arg, struct fmp_wait *w)
{
    struct pass *a = arg;
    int rc = fmp_barrier_arrive(a->barrier, &a->party, a->has_action, w);
    if (rc == FMP_AGAIN && WITH_TICKS) {
        fmp_barrier_tick(a->barrier, &a->party);
    }
    return rc;
}

static int
try_pass(void *arg, struct fmp_wait *w)
{
    struct pass *a = arg;
    int rc = fmp_barrier_try(a->barrier, &a->party, w);
    if (rc == FMP_AGAIN && WITH_TICKS) {
        fmp_barrier_tick(a->barrier, &a->party);
    }
    return rc;
}

static int
try_finish(void *arg, struct fmp_wait *w)
{
    struct pass *a = arg;
    return fmp_barrier_finish(a->barrier, &a->party, true, w);
}

/* FMP_OK or FMP_BROKEN. */
static int
pass_barrier(struct fmp_barrier *b, bool has_action)
{
    struct pass a = {.barrier = b, .party = {.place = -1}, .has_action = has_action};
    int rc = wait_for(try_arrive, &a, FMP_NEVER);
    if (rc == FMP_OK && a.party.acts) {
        return wait_for(try_finish, &a, FMP_NEVER);
    }
    return rc == FMP_OK && a.party.place >= 0 ? wait_for(try_pass, &a, FMP_NEVER) : rc;
}

struct party_arg {
    struct barrier_room *room;
    int me;
};

static void
pass_in_step(void *arg)
{
    struct party_arg *a = arg;
    struct fmp_barrier b = barrier_in(a->room);
    for (uint32_t i = 1; i <= 1000; i++) {
        atomic_store(&a->room->passed[a->me], i);
        CHECK_EQ(pass_barrier(&b, i % 2), FMP_OK);
        for (int other = 0; other < 3; other++) {
            uint32_t at = atomic_load(&a->room->passed[other]);
            CHECK(at == i || at == i + 1);
        }
    }
}

CASE(barrier_holds_everybody_back)
{
    struct fmp_barrier b;
    struct barrier_room *room = new_barrier(&b, 3);
    struct party_arg args[3];
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        args[i] = (struct party_arg){room, i};
        pids[i] = check_fork(pass_in_step, &args[i]);
    }
    for (int i = 0; i < 3; i++) {
        check_reap(pids[i]);
    }
}

static int
arrive(struct fmp_barrier *b, struct fmp_party *party)
{
    struct fmp_wait w = {.budget_ns = 0};
    *party = (struct fmp_party){.place = -1};
    return fmp_barrier_arrive(b, party, false, &w);
}

CASE(barrier_indices_have_no_holes)
{
    struct fmp_barrier b;
    new_barrier(&b, 4);
    struct fmp_party party[5];
    struct fmp_wait w = {.budget_ns = 0};
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(arrive(&b, &party[i]), FMP_OK);
        CHECK_EQ(party[i].index, i);
    }
    CHECK_EQ(fmp_barrier_leave(&b, &party[1], &w), FMP_OK);
    CHECK_EQ(arrive(&b, &party[3]), FMP_OK);
    CHECK_EQ(party[3].index, 1);
    CHECK_EQ(arrive(&b, &party[4]), FMP_OK);
    CHECK_EQ(party[4].index, 3);
    CHECK_EQ(party[4].place, -1); /* the last one passes at once */
    CHECK_EQ(fmp_barrier_try(&b, &party[0], &w), FMP_OK);
    CHECK_EQ(fmp_barrier_expire(&b, &party[2], &w), FMP_OK);
    CHECK_EQ(fmp_barrier_leave(&b, &party[3], &w), FMP_OK);
    CHECK_EQ(atomic_load(&b.shm->count), 0);
}

static void
die_in_the_mutex(void *arg)
{
    struct fmp_barrier b = barrier_in(arg);
    CHECK_EQ(fmp_mutex_lock(&b.shm->mutex, FMP_SECOND), FMP_OK);
}

CASE(barrier_is_broken_by_a_death_in_its_mutex)
{
    struct fmp_barrier b;
    struct barrier_room *room = new_barrier(&b, 3);
    struct fmp_party party[2];
    struct fmp_wait w = {.budget_ns = 0};
    CHECK_EQ(arrive(&b, &party[0]), FMP_OK);
    check_reap(check_fork(die_in_the_mutex, room));
    CHECK_EQ(arrive(&b, &party[1]), FMP_BROKEN);
    CHECK_EQ(fmp_barrier_try(&b, &party[0], &w), FMP_BROKEN);
    CHECK_EQ(fmp_barrier_reset(&b, &w), FMP_OK);
    CHECK_EQ(arrive(&b, &party[0]), FMP_OK);
}

static void
pass_for_ever(void *arg)
{
    struct barrier_room *room = arg;
    struct fmp_barrier b = barrier_in(room);
    while (pass_barrier(&b, true) == FMP_OK) {
        atomic_fetch_add(&room->rounds, 1);
    }
}

CASE(barrier_survives_kills)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_barrier b;
    struct barrier_room *room = new_barrier(&b, 3);
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    uint64_t seed = 11;
    for (int i = 0; WITH_TICKS && i < 40; i++) {
        pid_t pids[3];
        uint32_t before = atomic_load(&room->rounds);
        for (int k = 0; k < 3; k++) {
            pids[k] = check_fork(pass_for_ever, room);
        }
        while (atomic_load(&room->rounds) < before + random_next(&seed) % 50) {
            check_sleep_ms(0);
        }
        check_kill(pids[0]);
        /* Broken if it was inside, which it nearly always was; if not, the others wait for us. */
        long long give_up = check_now_ms() + 300;
        while (atomic_load(&b.shm->state) != FMP_BARRIER_BROKEN && check_now_ms() < give_up) {
            check_sleep_ms(1);
        }
        CHECK_EQ(fmp_barrier_abort(&b, &w), FMP_OK);
        check_reap(pids[1]);
        check_reap(pids[2]);
        CHECK_EQ(fmp_barrier_reset(&b, &w), FMP_OK);
    }
}

CASE(barrier_refuses_what_is_none)
{
    struct fmp_barrier b;
    struct barrier_room *room = new_barrier(&b, 3);
    struct fmp_barrier_shm *shm = b.shm;
    CHECK_EQ(fmp_barrier_attach(&b, shm, fmp_barrier_size(3) - 1), FMP_CORRUPT);
    CHECK_EQ(fmp_barrier_attach(&b, shm, 8), FMP_CORRUPT);
    shm->parties = 0;
    CHECK_EQ(fmp_barrier_attach(&b, shm, sizeof room->memory), FMP_CORRUPT);
    shm->parties = UINT32_MAX;
    CHECK_EQ(fmp_barrier_attach(&b, shm, sizeof room->memory), FMP_CORRUPT);
}

/* --- semaphore ------------------------------------------------------------------------------------ */

#define UNITS 3

struct semaphore_room {
    struct fmp_semaphore_shm semaphore;
    fmp_a32 taken; /* times, by all together */
    fmp_a32 stop;
};

static struct semaphore_room *
new_semaphore(void)
{
    struct semaphore_room *room = shared_zeros(sizeof *room);
    atomic_store(&room->semaphore.word, UNITS);
    room->semaphore.maximum = UNITS;
    return room;
}

struct unit {
    struct fmp_semaphore_shm *semaphore;
    int place;
};

static int
try_unit(void *arg, struct fmp_wait *w)
{
    struct unit *a = arg;
    uint32_t dead;
    int rc = a->place >= 0 ? fmp_semaphore_try_scoped(a->semaphore, a->place, w)
                           : fmp_semaphore_try(a->semaphore, w);
    if (rc == FMP_AGAIN && WITH_TICKS) {
        (void)fmp_semaphore_recover(a->semaphore, &dead);
    }
    return rc;
}

static void
take_two_and_end(void *arg)
{
    struct semaphore_room *room = arg;
    uint32_t dead;
    struct fmp_wait w;
    int place = fmp_semaphore_claim(&room->semaphore, &dead);
    CHECK_EQ(fmp_semaphore_try_scoped(&room->semaphore, place, &w), FMP_OK);
    CHECK_EQ(fmp_semaphore_try_scoped(&room->semaphore, place, &w), FMP_OK);
    CHECK_EQ(fmp_semaphore_release_scoped(&room->semaphore, place), FMP_OK);
    CHECK_EQ(fmp_semaphore_try_scoped(&room->semaphore, place, &w), FMP_OK);
}

CASE(semaphore_units_of_the_dead_are_given_back_once)
{
    CHECK_NEEDS_PROCESSES();
    struct semaphore_room *room = new_semaphore();
    struct fmp_wait w;
    for (uint32_t i = 0; i < 20; i++) { /* more often than there are places */
        uint32_t dead = 0;
        pid_t pid = check_fork(take_two_and_end, room);
        check_reap(pid);
        CHECK_EQ(fmp_semaphore_value(&room->semaphore), UNITS - 2);
        if (i % 2) { /* a plain change in between */
            CHECK_EQ(fmp_semaphore_try(&room->semaphore, &w), FMP_OK);
        }
        CHECK_EQ(fmp_semaphore_recover(&room->semaphore, &dead), 2);
        CHECK_EQ(dead, pid);
        CHECK_EQ(fmp_semaphore_recover(&room->semaphore, &dead), 0);
        if (i % 2) {
            CHECK_EQ(fmp_semaphore_release(&room->semaphore), FMP_OK);
        }
        CHECK_EQ(fmp_semaphore_value(&room->semaphore), UNITS);
    }
}

CASE(semaphore_places_are_claimed_and_given_back)
{
    struct semaphore_room *room = new_semaphore();
    struct fmp_semaphore_shm *s = &room->semaphore;
    struct fmp_wait w;
    uint32_t dead = 0;
    for (int i = 0; i < FMP_SEMAPHORE_PLACES; i++) {
        CHECK_EQ(fmp_semaphore_claim(s, &dead), i);
    }
    CHECK_EQ(fmp_semaphore_claim(s, &dead), -1);
    CHECK_EQ(fmp_semaphore_try_scoped(s, 4, &w), FMP_OK);
    fmp_semaphore_disclaim(s, 4); /* holds a unit: kept */
    CHECK_EQ(fmp_semaphore_claim(s, &dead), -1);
    CHECK_EQ(fmp_semaphore_release_scoped(s, 4), FMP_OK);
    CHECK_EQ(fmp_semaphore_release_scoped(s, 4), FMP_OVER_RELEASE);
    fmp_semaphore_disclaim(s, 4);
    CHECK_EQ(fmp_semaphore_claim(s, &dead), 4);
    CHECK_EQ(dead, 0);
}

static void
take_and_give(void *arg)
{
    struct semaphore_room *room = arg;
    uint32_t dead;
    uint64_t seed = (uint64_t)fmp_now();
    struct unit scoped = {&room->semaphore, fmp_semaphore_claim(&room->semaphore, &dead)};
    CHECK(scoped.place >= 0);
    while (atomic_load(&room->stop) == 0) {
        CHECK_EQ(wait_for(try_unit, &scoped, FMP_NEVER), FMP_OK);
        atomic_fetch_add(&room->taken, 1);
        bool twice = random_next(&seed) % 4 == 0 && fmp_semaphore_value(&room->semaphore) > 0;
        if (twice) {
            struct fmp_wait w;
            twice = fmp_semaphore_try_scoped(&room->semaphore, scoped.place, &w) == FMP_OK;
        }
        for (int n = twice ? 2 : 1; n > 0; n--) {
            CHECK_EQ(fmp_semaphore_release_scoped(&room->semaphore, scoped.place), FMP_OK);
        }
    }
    fmp_semaphore_disclaim(&room->semaphore, scoped.place);
}

CASE(semaphore_survives_kills)
{
    CHECK_NEEDS_PROCESSES();
    struct semaphore_room *room = new_semaphore();
    uint64_t seed = 3;
    uint32_t dead;
    for (int i = 0; WITH_TICKS && i < 80; i++) {
        pid_t pids[4];
        uint32_t before = atomic_load(&room->taken);
        for (int k = 0; k < 4; k++) {
            pids[k] = check_fork(take_and_give, room);
        }
        while (atomic_load(&room->taken) < before + random_next(&seed) % 200) {
        }
        check_kill(pids[0]);
        check_kill(pids[1]);
        atomic_store(&room->stop, 1);
        check_reap(pids[2]);
        check_reap(pids[3]);
        atomic_store(&room->stop, 0);
        while (fmp_semaphore_recover(&room->semaphore, &dead) > 0) {
        }
        CHECK_EQ(fmp_semaphore_value(&room->semaphore), UNITS);
    }
    for (int i = 0; i < FMP_SEMAPHORE_PLACES; i++) {
        CHECK_EQ(fmp_semaphore_claim(&room->semaphore, &dead), i);
    }
}

CHECK_MAIN
