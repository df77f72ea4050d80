/* semaphores.c - scenarios: a Semaphore of two units, taken and given back as by `with`. */
#include "stepper.h"

#include "platform/process.h"
#include "sync/semaphore.h"

#define UNITS 2

static struct fmp_semaphore_shm *semaphore;

static void
setup(void)
{
    semaphore = (struct fmp_semaphore_shm *)world->room;
    semaphore->maximum = UNITS;
    atomic_store(&semaphore->word, UNITS);
}

static void
setup_empty(void)
{
    setup();
    struct fmp_wait w;
    for (int i = 0; i < UNITS; i++) {
        CHECK_EQ(fmp_semaphore_try(semaphore, &w), FMP_OK);
    }
}

/* --- what the actors do --------------------------------------------------------------------------- */

static int
try_plain(void *arg, struct fmp_wait *w)
{
    (void)arg;
    return fmp_semaphore_try(semaphore, w);
}

static int
try_scoped(void *arg, struct fmp_wait *w)
{
    return fmp_semaphore_try_scoped(semaphore, *(int *)arg, w);
}

static int
look_for_dead(void *arg)
{
    (void)arg;
    uint32_t dead;
    (void)fmp_semaphore_recover(semaphore, &dead);
    return FMP_AGAIN;
}

static int
claim(void)
{
    uint32_t dead;
    int place = fmp_semaphore_claim(semaphore, &dead);
    CHECK(place >= 0);
    return place;
}

static void
take(int place, int units)
{
    for (int i = 0; i < units; i++) {
        CHECK_EQ(wait_as_bridge(try_scoped, look_for_dead, &place), FMP_OK);
    }
}

static void
give(int place, int units)
{
    for (int i = 0; i < units; i++) {
        CHECK_EQ(fmp_semaphore_release_scoped(semaphore, place), FMP_OK);
    }
}

static void
once(int units)
{
    int place = claim();
    take(place, units);
    CHECK(atomic_fetch_add(&world->inside, (uint32_t)units) + (uint32_t)units
          <= (victim_killed() ? 2 * UNITS : UNITS)); /* a dead one never says that it is out */
    atomic_fetch_sub(&world->inside, (uint32_t)units);
    give(place, units);
    fmp_semaphore_disclaim(semaphore, place);
}

static void
want_one(void)
{
    once(1);
}

static void
want_all(void)
{
    once(UNITS);
}

static void
want_plain(void)
{
    CHECK_EQ(wait_as_bridge(try_plain, look_for_dead, NULL), FMP_OK);
    CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
}

static void
give_one_plain(void)
{
    CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
}

/* All units are there, nobody holds any, and every place is free. */
static void
judge(void)
{
    uint32_t dead = 0;
    while (fmp_semaphore_recover(semaphore, &dead) > 0) {
    }
    CHECK_EQ(fmp_semaphore_value(semaphore), UNITS);
    CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OVER_RELEASE);
    for (int i = 0; i < FMP_SEMAPHORE_PLACES; i++) {
        CHECK_EQ(atomic_load(&semaphore->place[i].who), 0);
        CHECK_EQ((uint32_t)atomic_load(&semaphore->place[i].state), 0);
    }
    CHECK(atomic_load(&semaphore->sleepers) <= victim_killed());
}

/* --- the scenarios -------------------------------------------------------------------------------- */

static void
victim(void)
{
    want_one();
    begin();
    want_one();
    end();
}

SCENARIO(semaphore_scenario) = {
    .name = "semaphore",
    .judged = ALWAYS,
    .setup = setup,
    .victim = victim,
    .judge = judge,
    .others = {{"who wants all", LATE, want_all},
               {"who wants one", LATE, want_one},
               {"last", LAST, want_all}},
};

/* The victim holds all units, and two come for them. */
static void
release_victim(void)
{
    int place = claim();
    for (int i = 0; i < UNITS; i++) {
        CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
        struct fmp_wait w;
        CHECK_EQ(fmp_semaphore_try_scoped(semaphore, place, &w), FMP_OK);
    }
    begin();
    give(place, UNITS);
    fmp_semaphore_disclaim(semaphore, place);
    end();
}

SCENARIO(semaphore_release_scenario) = {
    .name = "semaphore-release",
    .judged = ALWAYS,
    .setup = setup_empty,
    .victim = release_victim,
    .judge = judge,
    .others = {{"who wants a plain one", LATE, want_plain},
               {"who wants one", LATE, want_one},
               {"last", LAST, want_all}},
};

static void
give_victim(void)
{
    begin();
    CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
    CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
    end();
}

/* A plain unit that a dead one did not give back is lost. */
static void
make_good(void)
{
    while (fmp_semaphore_value(semaphore) < UNITS) {
        CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
    }
}

/* Gives what the victim may have owed, so that the sleepers can go on. */
static void
give_if_killed(void)
{
    if (victim_killed() && atomic_load(&world->seen[0]) == 0) {
        CHECK_EQ(fmp_semaphore_release(semaphore), FMP_OK);
    }
}

static void
look_at_value(void)
{
    atomic_store(&world->seen[0], (uint32_t)(atomic_load(&semaphore->word) >> 36) > UNITS);
}

SCENARIO(semaphore_give_scenario) = {
    .name = "semaphore-give",
    .judged = ALWAYS & ~TICKS(QUEUE),
    .setup = setup_empty,
    .victim = give_victim,
    .look = look_at_value,
    .between = make_good,
    .judge = judge,
    .others = {{"sleeper", EARLY, want_one},
               {"another", EARLY, want_one},
               {"giver", LATE, give_if_killed},
               {"last", LAST, want_all}},
};

/* The victim sleeps and is woken, as does another. */
static void
woken_victim(void)
{
    int place = claim();
    begin();
    take(place, 1);
    give(place, 1);
    end();
    fmp_semaphore_disclaim(semaphore, place);
}

SCENARIO(semaphore_woken_scenario) = {
    .name = "semaphore-woken",
    .judged = ALWAYS,
    .setup = setup_empty,
    .victim = woken_victim,
    .judge = judge,
    .others = {{"sleeper", EARLY, want_one},
               {"giver", WAKER, give_one_plain},
               {"giver of another", LATE, give_one_plain},
               {"last", LAST, want_all}},
};

/* Two victims: who gives back the units of a dead one is killed too. */
static void
hold_victim(void)
{
    int place = claim();
    begin();
    take(place, UNITS);
    end();
}

static void
recover_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    (void)look_for_dead(NULL);
    end();
}

SCENARIO(semaphore_twice_scenario) = {
    .name = "semaphore-twice",
    .judged = TICKS(KILL) | TICKS(PAUSE) | TICKS(QUEUE),
    .setup = setup,
    .victim = hold_victim,
    .second = recover_victim,
    .judge = judge,
    .others = {{"who wants all", LATE, want_all},
               {"who wants one", LATE, want_one},
               {"last", LAST, want_all}},
};
