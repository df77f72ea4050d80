/* barriers.c - scenarios: a Barrier of three parties, one of which is the victim. */
#include "stepper.h"

#include "platform/process.h"
#include "sync/barrier.h"

#define PARTIES 3
#define PATIENCE 12 /* ticks after the kill, until a party breaks the barrier by its timeout */

static struct fmp_barrier barrier;

/* What became of each party, in world->seen[me]. */
enum { PASSED = 1, BROKEN, EXPIRED };

/* In world->seen, beside those: */
enum { COUNTED = MAX_PROCESSES, PASSED_BY_ALL };

static void
setup(void)
{
    CHECK(fmp_barrier_size(PARTIES) <= sizeof world->room);
    CHECK_EQ(fmp_barrier_create(&barrier, (struct fmp_barrier_shm *)world->room, PARTIES), FMP_OK);
}

static int
try_arrive(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_arrive(&barrier, arg, false, w);
}

static int
try_pass(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_try(&barrier, arg, w);
}

static int
try_expire(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_expire(&barrier, arg, w);
}

static int
look_around(void *arg)
{
    fmp_barrier_tick(&barrier, arg);
    static uint32_t ticks;
    ticks += victim_killed();
    return ticks < PATIENCE ? FMP_AGAIN : FMP_TIMEOUT;
}

/* As objects/py_barrier.c does it. */
static uint32_t
pass(struct fmp_party *party)
{
    int rc = wait_as_bridge(try_arrive, look_around, party);
    if (rc == FMP_OK && party->place >= 0) {
        rc = wait_as_bridge(try_pass, look_around, party);
        if (rc == FMP_TIMEOUT) {
            rc = wait_as_bridge(try_expire, NULL, party);
            CHECK(rc == FMP_OK || rc == FMP_BROKEN);
            return rc == FMP_OK ? PASSED : EXPIRED;
        }
    }
    CHECK(rc == FMP_OK || rc == FMP_BROKEN);
    return rc == FMP_OK ? PASSED : BROKEN;
}

static void
come(void)
{
    struct fmp_party party = {.place = -1};
    uint32_t became = pass(&party);
    atomic_store(&world->seen[me], became);
    if (became == PASSED) {
        CHECK(party.index < PARTIES);
        atomic_fetch_add(&world->counts[0][party.index], 1);
    }
}

static void
victim(void)
{
    struct fmp_party party = {.place = -1};
    (void)fmp_who_am_i();
    begin();
    uint32_t became = pass(&party);
    end();
    atomic_store(&world->seen[me], became);
}

/* The victim stands still: has it come? */
static void
look(void)
{
    uint32_t inside = 0;
    for (uint32_t i = 0; i < barrier.places; i++) {
        uint32_t outcome = atomic_load(&barrier.shm->place[i].outcome);
        inside += outcome == FMP_PLACE_WAITS;
        if (outcome == FMP_PLACE_PASSED) {
            atomic_store(&world->seen[PASSED_BY_ALL], 1);
        }
    }
    atomic_store(&world->seen[COUNTED], inside);
}

/* What the others 0 and 1 have met. */
static void
judge_first_round(uint32_t inside_when_it_had_come)
{
    uint32_t a = atomic_load(&world->seen[0]), b = atomic_load(&world->seen[1]);
    if (!victim_killed()) {
        CHECK(a == PASSED && b == PASSED && atomic_load(&world->seen[VICTIM]) == PASSED);
        return;
    }
    /* A timeout is met only by those whom the victim had not joined, or had left behind. */
    bool had_come = atomic_load(&world->seen[COUNTED]) >= inside_when_it_had_come
                 && atomic_load(&world->seen[PASSED_BY_ALL]) == 0 && !victim_ended();
    if (had_come) {
        CHECK(a != EXPIRED && b != EXPIRED);
    }
    /* Killed while it told them, one may have passed and the other be told that it is broken. But
     * nobody waits for those who have passed. */
    CHECK((a != PASSED || b != EXPIRED) && (b != PASSED || a != EXPIRED));
}

static void
begin_anew(void)
{
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    CHECK_EQ(fmp_barrier_reset(&barrier, &w), FMP_OK);
    for (int i = 0; i < PARTIES; i++) {
        atomic_store(&world->counts[0][i], 0);
    }
}

/* The round after: all pass, with an index each, and nobody is left in the table but the dead. */
static void
judge_next_round(void)
{
    for (int i = 0; i < PARTIES; i++) {
        CHECK_EQ(atomic_load(&world->seen[2 + i]), PASSED);
        CHECK_EQ(atomic_load(&world->counts[0][i]), 1);
    }
    CHECK_EQ(atomic_load(&barrier.shm->count), 0);
    CHECK_EQ(atomic_load(&barrier.shm->starving), 0);
    CHECK(atomic_load(&barrier.shm->sleepers) <= victim_killed());
}

/* It comes as the second and sleeps, until the third comes. */
static void
judge_waiting(void)
{
    judge_first_round(2);
    judge_next_round();
}

SCENARIO(barrier_wait_scenario) = {
    .name = "barrier-wait",
    .judged = ALWAYS,
    .setup = setup,
    .victim = victim,
    .look = look,
    .between = begin_anew,
    .judge = judge_waiting,
    .others = {{"first", EARLY, come},
               {"third", WAKER, come},
               {"next round's first", LAST, come},
               {"next round's second", LAST, come},
               {"next round's third", LAST, come}},
};

/* It comes as the last. */
static void
judge_passing(void)
{
    judge_first_round(3);
    judge_next_round();
}

SCENARIO(barrier_last_scenario) = {
    .name = "barrier-last",
    .judged = ALWAYS,
    .setup = setup,
    .victim = victim,
    .look = look,
    .between = begin_anew,
    .judge = judge_passing,
    .others = {{"first", EARLY, come},
               {"second", EARLY, come},
               {"next round's first", LAST, come},
               {"next round's second", LAST, come},
               {"next round's third", LAST, come}},
};

/* The third does not come to one that has lost a party: who waits finds the dead one itself. */
static void
come_unless_killed(void)
{
    if (!victim_killed()) {
        come();
    }
}

static void
judge_dying(void)
{
    uint32_t a = atomic_load(&world->seen[0]), third = atomic_load(&world->seen[1]);
    if (third != 0) {
        judge_first_round(2);
    }
    else {
        CHECK(a == BROKEN || (a == EXPIRED && atomic_load(&world->seen[COUNTED]) < 2));
    }
    judge_next_round();
}

SCENARIO(barrier_die_scenario) = {
    .name = "barrier-die",
    .judged = TICKS(KILL),
    .setup = setup,
    .victim = victim,
    .look = look,
    .between = begin_anew,
    .judge = judge_dying,
    .others = {{"first", EARLY, come},
               {"third", WAKER, come_unless_killed},
               {"next round's first", LAST, come},
               {"next round's second", LAST, come},
               {"next round's third", LAST, come}},
};
