/* locks.c - scenarios: the internal mutex, Lock. */
#include "stepper.h"

#include "platform/process.h"
#include "sync/mutex.h"
#include "sync/userlock.h"

/* Never two inside; who is told that the holder has died may find that one's mark. */
static void
enter(int rc)
{
    CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
    uint32_t was = atomic_exchange(&world->inside, (uint32_t)me + 1);
    if (rc == FMP_OWNER_DIED) {
        CHECK(was == 0 || was == VICTIM + 1);
        atomic_fetch_add(&world->recovered, 1);
    }
    else {
        CHECK_EQ(was, 0);
    }
}

static void
leave(void)
{
    CHECK_EQ(atomic_exchange(&world->inside, 0), me + 1);
}

static void
judge_recoveries(void)
{
    CHECK(atomic_load(&world->recovered) <= victim_killed());
    CHECK(atomic_load(&world->inside) == 0 || victim_killed());
}

/* --- the mutex of the internal sections ----------------------------------------------------------- */

static struct fmp_mutex_shm *mutex;

static void
mutex_setup(void)
{
    mutex = (struct fmp_mutex_shm *)world->room;
    CHECK_EQ(fmp_mutex_init(mutex), FMP_OK);
}

static int
try_mutex(void *arg, struct fmp_wait *w)
{
    int rc = fmp_mutex_lock(arg, w->budget_ns);
    fmp_wait_on_lock(w);
    return rc;
}

static void
mutex_once(void)
{
    enter(wait_as_bridge(try_mutex, NULL, mutex));
    leave();
    fmp_mutex_unlock(mutex);
}

static void
mutex_victim(void)
{
    mutex_once();
    begin();
    mutex_once();
    end();
}

SCENARIO(mutex_scenario) = {
    .name = "mutex",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = mutex_setup,
    .victim = mutex_victim,
    .judge = judge_recoveries,
    .others = {{"contender", LATE, mutex_once},
               {"another", LATE, mutex_once},
               {"last", LAST, mutex_once}},
};

/* --- Lock ----------------------------------------------------------------------------------------- */

static struct fmp_userlock_shm *lock;

struct locking {
    uint64_t tag;
    uint32_t dead;
};

static int
try_lock(void *arg, struct fmp_wait *w)
{
    struct locking *l = arg;
    return fmp_userlock_try(lock, l->tag, w);
}

static int
look_for_dead(void *arg)
{
    struct locking *l = arg;
    return fmp_userlock_recover(lock, l->tag, &l->dead);
}

static void
acquire(void)
{
    struct locking l = {.tag = fmp_userlock_tag(true)};
    enter(wait_as_bridge(try_lock, look_for_dead, &l));
}

static void
release(void)
{
    leave();
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
}

static void
lock_once(void)
{
    acquire();
    release();
}

static void
lock_setup(void)
{
    lock = (struct fmp_userlock_shm *)world->room;
}

static void
lock_judge(void)
{
    judge_recoveries();
    CHECK(!fmp_userlock_held(lock));
    CHECK(atomic_load(&lock->sleepers) <= victim_killed());
}

static void
lock_victim(void)
{
    lock_once();
    begin();
    lock_once();
    end();
}

SCENARIO(lock_scenario) = {
    .name = "lock",
    .judged = ALWAYS,
    .setup = lock_setup,
    .victim = lock_victim,
    .judge = lock_judge,
    .others = {{"contender", LATE, lock_once},
               {"another", LATE, lock_once},
               {"last", LAST, lock_once}},
};

/* The world has the lock, and gives it away. */
static void
hand_over_setup(void)
{
    lock_setup();
    struct fmp_wait w = {.budget_ns = 0};
    CHECK_EQ(fmp_userlock_try(lock, fmp_userlock_tag(false), &w), FMP_OK);
}

static void
release_first(void)
{
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
}

static void
lock_woken_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    lock_once();
    end();
}

SCENARIO(lock_woken_scenario) = {
    .name = "lock-woken",
    .judged = ALWAYS,
    .setup = hand_over_setup,
    .victim = lock_woken_victim,
    .judge = lock_judge,
    .others = {{"sleeper", EARLY, lock_once},
               {"releaser", WAKER, release_first},
               {"contender", LATE, lock_once}},
};

/* The victim makes it its own: nobody else wants it before the sleepers. */
static void
lock_release_setup(void)
{
    lock_setup();
    me = VICTIM; /* as whom the world holds it, until the victim takes the word over */
    hand_over_setup();
    atomic_store(&world->inside, VICTIM + 1);
}

static void
lock_release_victim(void)
{
    atomic_store(&lock->word, fmp_userlock_tag(true));
    begin();
    release();
    end();
}

SCENARIO(lock_release_scenario) = {
    .name = "lock-release",
    .judged = ALWAYS,
    .setup = lock_release_setup,
    .victim = lock_release_victim,
    .judge = lock_judge,
    .others = {{"sleeper", EARLY, lock_once},
               {"another", EARLY, lock_once},
               {"last", LAST, lock_once}},
};

/* --- two victims: who takes over a dead holder's lock is killed too -------------------------------- */

static void
lock_hold_victim(void)
{
    acquire();
    begin();
    atomic_store(&world->seen[0], 1);
    end();
}

static void
lock_recover_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    struct locking l = {.tag = fmp_userlock_tag(true)};
    struct fmp_wait w = {.budget_ns = 0};
    int rc = fmp_userlock_try(lock, l.tag, &w);
    if (rc == FMP_AGAIN) {
        rc = look_for_dead(&l);
    }
    if (rc != FMP_AGAIN) { /* else another was faster */
        enter(rc);
        release();
    }
    end();
}

/* Is still inside when the victim goes on. */
static void
stay_inside(void)
{
    acquire();
    while (!victim_killed() && atomic_load(&world->released) == 0) {
        check_sleep_ms(1);
    }
    check_sleep_ms(2);
    release();
}

static void
lock_twice_judge(void)
{
    CHECK(atomic_load(&world->recovered) <= 2);
    CHECK(!fmp_userlock_held(lock));
}

SCENARIO(lock_twice_scenario) = {
    .name = "lock-twice",
    .judged = TICKS(KILL) | TICKS(PAUSE) | TICKS(QUEUE),
    .setup = lock_setup,
    .victim = lock_hold_victim,
    .second = lock_recover_victim,
    .judge = lock_twice_judge,
    .others = {{"who stays inside", LATE, stay_inside},
               {"another", LATE, lock_once},
               {"last", LAST, lock_once}},
};
