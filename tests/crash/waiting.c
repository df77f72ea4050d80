/* waiting.c - scenarios: Event, and Condition under a native lock. */
#include "stepper.h"

#include <limits.h>

#include "platform/process.h"
#include "sync/condition.h"
#include "sync/event.h"

/* --- Event ---------------------------------------------------------------------------------------- */

static struct fmp_event_shm *event;

static void
event_setup(void)
{
    event = (struct fmp_event_shm *)world->room;
}

static int
try_event(void *arg, struct fmp_wait *w)
{
    return fmp_event_try(event, *(uint32_t *)arg, w);
}

static void
wait_for_event(void)
{
    uint32_t arrived = fmp_event_arrive(event);
    CHECK_EQ(wait_as_bridge(try_event, NULL, &arrived), FMP_OK);
}

static void
set_event(void)
{
    fmp_event_set(event);
}

static void
event_is_set(void)
{
    CHECK(fmp_event_is_set(event));
    CHECK(atomic_load(&event->sleepers) <= victim_killed());
}

static void
set_victim(void)
{
    begin();
    fmp_event_set(event);
    end();
}

SCENARIO(event_set_scenario) = {
    .name = "event-set",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = event_setup,
    .victim = set_victim,
    .judge = event_is_set,
    .others = {{"sleeper", EARLY, wait_for_event},
               {"another", EARLY, wait_for_event},
               {"setter", LATE, set_event}},
};

/* set() with clear() at once reaches all who wait. */
static void
flash_victim(void)
{
    begin();
    fmp_event_set(event);
    fmp_event_clear(event);
    end();
}

static void
set_if_killed(void)
{
    if (victim_killed()) {
        fmp_event_set(event);
    }
}

SCENARIO(event_flash_scenario) = {
    .name = "event-flash",
    .judged = TICKS(KILL) | TICKS(PAUSE) | NO_TICKS(KILL) | NO_TICKS(PAUSE),
    .setup = event_setup,
    .victim = flash_victim,
    .others = {{"sleeper", EARLY, wait_for_event},
               {"another", EARLY, wait_for_event},
               {"setter", LATE, set_if_killed}},
};

static void
wait_victim(void)
{
    begin();
    wait_for_event();
    end();
}

SCENARIO(event_wait_scenario) = {
    .name = "event-wait",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = event_setup,
    .victim = wait_victim,
    .judge = event_is_set,
    .others = {{"sleeper", EARLY, wait_for_event},
               {"setter", WAKER, set_event},
               {"latecomer", LATE, wait_for_event}},
};

/* --- Condition: tokens, of which each waiter takes one ---------------------------------------------- */

static struct fmp_userlock_shm *lock;
static struct fmp_condition_shm *condition;
static fmp_a64 *tokens; /* under the lock: those that were ever put << 32 | those that are there */

static void
condition_setup(void)
{
    lock = (struct fmp_userlock_shm *)world->room;
    condition = (struct fmp_condition_shm *)(world->room + 1024);
    tokens = (fmp_a64 *)(world->room + 8192);
}

struct waiting {
    uint64_t tag;
    uint32_t dead;
    struct fmp_condition_place place;
};

static int
try_lock(void *arg, struct fmp_wait *w)
{
    return fmp_userlock_try(lock, ((struct waiting *)arg)->tag, w);
}

static int
lock_tick(void *arg)
{
    struct waiting *a = arg;
    return fmp_userlock_recover(lock, a->tag, &a->dead);
}

static int
try_condition(void *arg, struct fmp_wait *w)
{
    return fmp_condition_try(condition, &((struct waiting *)arg)->place, w);
}

static int
condition_tick(void *arg)
{
    (void)arg;
    fmp_condition_tick(condition, lock);
    return FMP_AGAIN;
}

/* Who is told that the holder died says so to all: that one may have changed something and not yet
 * said so. */
static void
acquire(struct waiting *a)
{
    a->tag = fmp_userlock_tag(true);
    if (wait_as_bridge(try_lock, lock_tick, a) == FMP_OWNER_DIED) {
        fmp_condition_notify(condition, UINT64_MAX, lock);
    }
}

/* As objects/py_condition.c does it. */
static void
wait_with_lock(struct waiting *a)
{
    fmp_condition_arrive(condition, &a->place, lock);
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
    CHECK_EQ(wait_as_bridge(try_condition, condition_tick, a), FMP_OK);
    acquire(a);
    (void)fmp_condition_leave(condition, &a->place, lock);
}

static void
take_token(void)
{
    struct waiting a = {0};
    acquire(&a);
    while ((uint32_t)atomic_load(tokens) == 0) {
        wait_with_lock(&a);
    }
    atomic_fetch_sub(tokens, 1);
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
}

static void
put_tokens(uint32_t n)
{
    struct waiting a = {0};
    acquire(&a);
    atomic_fetch_add(tokens, (uint64_t)n << 32 | n);
    fmp_condition_notify(condition, n, lock);
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
}

static void
put_one(void)
{
    put_tokens(1);
}

static void
put_two(void)
{
    put_tokens(2);
}

/* Nobody waits, every place is free. */
static void
judge_table(void)
{
    struct waiting a = {0};
    acquire(&a);
    fmp_condition_notify(condition, UINT64_MAX, lock);
    fmp_condition_tick(condition, lock);
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
    CHECK_EQ(fmp_condition_waiting(condition), 0);
    for (int i = 0; i < FMP_CONDITION_PLACES; i++) {
        CHECK_EQ(atomic_load(&condition->word[i]) & 3, 0);
    }
    CHECK(atomic_load(&condition->sleepers) <= victim_killed());
    CHECK(atomic_load(&lock->sleepers) <= victim_killed());
}

static void
put_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    put_two();
    end();
}

static void
put_judge(void)
{
    judge_table();
    uint64_t both = atomic_load(tokens);
    CHECK_EQ((uint32_t)both, (both >> 32) - 2);
    CHECK(both >> 32 == 4 || (both >> 32 == 2 && victim_killed()));
}

SCENARIO(condition_notify_scenario) = {
    .name = "condition-notify",
    .judged = TICKS(KILL) | TICKS(PAUSE) | TICKS(QUEUE) | NO_TICKS(PAUSE),
    .setup = condition_setup,
    .victim = put_victim,
    .judge = put_judge,
    .others = {{"sleeper", EARLY, take_token},
               {"another", EARLY, take_token},
               {"putter", LATE, put_two}},
};

/* The victim waits, and is the first to be notified; another waits after it. */
static void
take_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    take_token();
    end();
}

static void
take_judge(void)
{
    judge_table();
    CHECK((uint32_t)atomic_load(tokens) <= victim_killed());
}

/* When the victim lives, one more; when it is dead, only if it had taken the one that is there or
 * another has: else that waits for it, and who sleeps has to be told in the dead one's place. */
static void
put_unless_left(void)
{
    struct waiting a = {0};
    acquire(&a);
    if (!victim_killed() || (uint32_t)atomic_load(tokens) == 0) {
        atomic_fetch_add(tokens, UINT64_C(1) << 32 | 1);
        fmp_condition_notify(condition, 1, lock);
    }
    CHECK_EQ(fmp_userlock_release(lock), FMP_OK);
}

SCENARIO(condition_wait_scenario) = {
    .name = "condition-wait",
    .judged = TICKS(KILL) | TICKS(PAUSE) | NO_TICKS(PAUSE),
    .setup = condition_setup,
    .victim = take_victim,
    .judge = take_judge,
    .others = {{"who waits after it", WAKER, take_token},
               {"putter", WAKER, put_one},
               {"another putter", LATE, put_unless_left}},
};

SCENARIO(condition_wait_behind_scenario) = {
    .name = "condition-wait-behind",
    .judged = ALWAYS,
    .setup = condition_setup,
    .victim = take_victim,
    .judge = take_judge,
    .others = {{"who waits before it", EARLY, take_token}, {"putter of two", WAKER, put_two}},
};

static void
put_if_killed(void)
{
    if (victim_killed()) {
        put_one();
    }
}

/* The one that has waited longest is dead and gone: who notifies finds the next by itself. */
static void
setup_with_dead(void)
{
    condition_setup();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct fmp_condition_place place;
        fmp_condition_arrive(condition, &place, lock);
        _exit(0);
    }
    check_reap(pid);
}

static void
put_one_victim(void)
{
    (void)fmp_who_am_i();
    begin();
    put_one();
    end();
}

SCENARIO(condition_dead_scenario) = {
    .name = "condition-dead",
    .judged = TICKS(KILL) | TICKS(PAUSE) | NO_TICKS(PAUSE),
    .setup = setup_with_dead,
    .victim = put_one_victim,
    .judge = judge_table,
    .others = {{"sleeper", EARLY, take_token}, {"putter", LATE, put_if_killed}},
};
