/* test_condition.c - sync/condition.c and event.c: who is released, in which order, and the dead. */
#include <signal.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "support.h"
#include "sync/condition.h"
#include "sync/event.h"
#include "sync/mutex.h"

struct room {
    struct fmp_condition_shm condition;
    struct fmp_event_shm event;
    struct fmp_mutex_shm lock; /* the user's lock */
    fmp_a32 arrived, released, order[200];
};

static struct room *
new_room(void)
{
    struct room *room = shared_zeros(sizeof *room);
    CHECK_EQ(fmp_mutex_init(&room->lock), FMP_OK);
    return room;
}

static void
lock(struct room *room)
{
    int rc;
    do {
        rc = fmp_mutex_lock(&room->lock, FMP_SECOND / 10);
    } while (rc == FMP_AGAIN);
    CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
}

static void
unlock(struct room *room)
{
    fmp_mutex_unlock(&room->lock);
}

static void
notify(struct room *room, uint64_t count)
{
    lock(room);
    fmp_condition_notify(&room->condition, count, NULL);
    unlock(room);
}

struct waiter {
    struct room *room;
    uint32_t id;
    struct fmp_condition_place place;
};

static int
try_condition(void *arg, struct fmp_wait *w)
{
    struct waiter *waiter = arg;
    return fmp_condition_try(&waiter->room->condition, &waiter->place, w);
}

/* Waits once; notes its turn among the released. */
static void
wait_once(void *arg)
{
    struct waiter *waiter = arg;
    struct room *room = waiter->room;
    lock(room);
    fmp_condition_arrive(&room->condition, &waiter->place, NULL);
    atomic_fetch_add(&room->arrived, 1);
    unlock(room);
    CHECK_EQ(wait_for(try_condition, waiter, FMP_NEVER), FMP_OK);
    lock(room);
    CHECK(fmp_condition_leave(&room->condition, &waiter->place, NULL));
    atomic_store(&room->order[atomic_fetch_add(&room->released, 1)], waiter->id);
    unlock(room);
}

static pid_t
start_waiter(struct room *room, uint32_t id)
{
    static struct waiter all[256]; /* one for each: they may be threads */
    static unsigned n;
    struct waiter *waiter = &all[n++ % 256];
    *waiter = (struct waiter){room, id, {0, 0}};
    uint32_t before = atomic_load(&room->arrived);
    pid_t pid = check_fork(wait_once, waiter);
    while (atomic_load(&room->arrived) == before) {
        check_sleep_ms(1);
    }
    return pid;
}

static void
until_released(struct room *room, uint32_t count)
{
    while (atomic_load(&room->released) < count) {
        check_sleep_ms(1);
    }
}

CASE(the_longest_waiters_are_released)
{
    struct room *room = new_room();
    pid_t pids[6];
    for (uint32_t i = 0; i < 6; i++) {
        pids[i] = start_waiter(room, i);
    }
    CHECK_EQ(fmp_condition_waiting(&room->condition), 6);
    for (uint32_t i = 0; i < 3; i++) {
        notify(room, 1);
        until_released(room, i + 1);
        CHECK_EQ(atomic_load(&room->order[i]), i);
    }
    check_sleep_ms(150); /* longer than a tick: nobody else comes out */
    CHECK_EQ(atomic_load(&room->released), 3);
    CHECK_EQ(fmp_condition_waiting(&room->condition), 3);
    notify(room, UINT64_MAX);
    for (int i = 0; i < 6; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(atomic_load(&room->released), 6);
    CHECK_EQ(fmp_condition_waiting(&room->condition), 0);
    CHECK_EQ(atomic_load(&room->condition.sleepers), 0);
}

CASE(a_notify_without_waiters_is_not_kept)
{
    struct room *room = new_room();
    notify(room, 5);
    struct waiter waiter = {room, 0, {0, 0}};
    lock(room);
    fmp_condition_arrive(&room->condition, &waiter.place, NULL);
    unlock(room);
    CHECK_EQ(wait_for(try_condition, &waiter, fmp_now() + FMP_SECOND / 5), FMP_TIMEOUT);
    lock(room);
    CHECK(!fmp_condition_leave(&room->condition, &waiter.place, NULL));
    unlock(room);
    CHECK_EQ(fmp_condition_waiting(&room->condition), 0);
    notify(room, 1); /* and one that has left is not counted as released */
}

CASE(killed_waiters_take_no_release_with_them)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    pid_t dead[3];
    for (uint32_t i = 0; i < 3; i++) {
        dead[i] = start_waiter(room, i);
    }
    pid_t alive = start_waiter(room, 9);
    for (int i = 0; i < 3; i++) {
        check_kill(dead[i]);
    }
    notify(room, 1); /* for the one that lives, though three have waited longer */
    check_reap(alive);
    CHECK_EQ(atomic_load(&room->order[0]), 9);
}

CASE(places_of_the_dead_are_used_again)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    for (int i = 0; i < FMP_CONDITION_PLACES + 10; i++) {
        check_kill(start_waiter(room, 1));
    }
    struct waiter waiter = {room, 0, {0, 0}};
    lock(room);
    fmp_condition_arrive(&room->condition, &waiter.place, NULL);
    CHECK(waiter.place.index >= 0 || atomic_load(&room->condition.crowd) > 0);
    fmp_condition_leave(&room->condition, &waiter.place, NULL);
    unlock(room);
}

static struct waiter newcomer;

static void
arrive_there(const char *name)
{
    if (strcmp(name, "condition: to bury") == 0) {
        at_point = NULL;
        fmp_condition_arrive(&newcomer.room->condition, &newcomer.place, NULL);
    }
}

/* Two find the same dead waiter; before the slower one frees its place, somebody has taken it. */
CASE(a_place_that_was_taken_again_is_not_freed)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    check_kill(start_waiter(room, 0));
    struct fmp_condition_place others[FMP_CONDITION_PLACES - 1];
    for (int i = 0; i < FMP_CONDITION_PLACES - 1; i++) {
        fmp_condition_arrive(&room->condition, &others[i], NULL);
    }
    newcomer = (struct waiter){.room = room};
    at_point = arrive_there;
    struct fmp_condition_place one;
    fmp_condition_arrive(&room->condition, &one,
                         NULL); /* finds the dead one, and so does newcomer */
    CHECK(at_point == NULL && newcomer.place.index >= 0);
    CHECK_EQ(atomic_load(&room->condition.word[newcomer.place.index]), newcomer.place.word);
    CHECK_EQ(one.index, -1);
    CHECK_EQ(fmp_condition_waiting(&room->condition), FMP_CONDITION_PLACES + 1);
}

CASE(more_waiters_than_places)
{
    struct room *room = new_room();
    enum { MANY = FMP_CONDITION_PLACES + 20 };
    pid_t pids[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        pids[i] = start_waiter(room, i);
    }
    CHECK_EQ(fmp_condition_waiting(&room->condition), MANY);
    notify(room, 1);
    until_released(room, 1);
    CHECK_EQ(atomic_load(&room->order[0]), 0);
    notify(room, UINT64_MAX);
    for (int i = 0; i < MANY; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(fmp_condition_waiting(&room->condition), 0);
}

static void
produce(void *arg)
{
    struct room *room = arg;
    for (int i = 0; i < 2000; i++) {
        lock(room);
        atomic_fetch_add(&room->arrived, 1); /* what is waited for */
        fmp_condition_notify(&room->condition, 1, NULL);
        unlock(room);
    }
}

static void
consume(void *arg)
{
    struct room *room = arg;
    for (int i = 0; i < 2000; i++) {
        lock(room);
        while (atomic_load(&room->arrived) == 0) {
            struct waiter waiter = {room, 0, {0, 0}};
            fmp_condition_arrive(&room->condition, &waiter.place, NULL);
            unlock(room);
            CHECK_EQ(wait_for(try_condition, &waiter, FMP_NEVER), FMP_OK);
            lock(room);
            CHECK(fmp_condition_leave(&room->condition, &waiter.place, NULL));
        }
        atomic_fetch_sub(&room->arrived, 1);
        unlock(room);
    }
}

CASE(no_release_is_lost_between_producers_and_consumers)
{
    struct room *room = new_room();
    pid_t pids[4] = {check_fork(consume, room), check_fork(consume, room),
                     check_fork(produce, room), check_fork(produce, room)};
    for (int i = 0; i < 4; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(atomic_load(&room->arrived), 0);
    CHECK_EQ(fmp_condition_waiting(&room->condition), 0);
}

/* --- events ---------------------------------------------------------------------------------- */

struct listener {
    struct room *room;
    uint32_t seen;
};

static int
try_event(void *arg, struct fmp_wait *w)
{
    struct listener *l = arg;
    return fmp_event_try(&l->room->event, l->seen, w);
}

static void
wait_for_event(void *arg)
{
    struct listener l = {arg, fmp_event_arrive(&((struct room *)arg)->event)};
    atomic_fetch_add(&l.room->arrived, 1);
    CHECK_EQ(wait_for(try_event, &l, FMP_NEVER), FMP_OK);
}

CASE(set_and_clear_at_once_release_everybody)
{
    struct room *room = new_room();
    pid_t pids[4];
    for (uint32_t i = 0; i < 4; i++) {
        pids[i] = check_fork(wait_for_event, room);
    }
    while (atomic_load(&room->arrived) < 4) {
        check_sleep_ms(1);
    }
    check_sleep_ms(20); /* asleep, most likely; if not they still must see it */
    fmp_event_set(&room->event);
    fmp_event_clear(&room->event);
    for (int i = 0; i < 4; i++) {
        check_reap(pids[i]);
    }
    CHECK(!fmp_event_is_set(&room->event));
}

CASE(a_set_event_lets_pass_and_a_clear_one_holds)
{
    struct room *room = new_room();
    struct listener l = {room, fmp_event_arrive(&room->event)};
    CHECK_EQ(wait_for(try_event, &l, fmp_now() + FMP_SECOND / 20), FMP_TIMEOUT);
    fmp_event_set(&room->event);
    fmp_event_set(&room->event); /* twice is once */
    CHECK(fmp_event_is_set(&room->event));
    l.seen = fmp_event_arrive(&room->event);
    CHECK_EQ(wait_for(try_event, &l, FMP_NEVER), FMP_OK);
    fmp_event_clear(&room->event);
    l.seen = fmp_event_arrive(&room->event);
    CHECK_EQ(wait_for(try_event, &l, fmp_now() + FMP_SECOND / 20), FMP_TIMEOUT);
}

CASE(a_killed_waiter_does_not_block_set)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    pid_t dead = check_fork(wait_for_event, room), alive = check_fork(wait_for_event, room);
    while (atomic_load(&room->arrived) < 2) {
        check_sleep_ms(1);
    }
    check_sleep_ms(20);
    check_kill(dead);
    fmp_event_set(&room->event);
    check_reap(alive);
}

CHECK_MAIN
