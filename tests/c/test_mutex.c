/* test_mutex.c - sync/mutex.c: exclusion, bounded waits, and owners that are killed inside. */
#include <signal.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "platform/clock.h"
#include "support.h"
#include "sync/mutex.h"

struct room {
    struct fmp_mutex_shm mutex;
    volatile long count; /* under the mutex, on purpose no atomic */
    fmp_a32 inside;
    fmp_a32 stop;
};

static struct room *
new_room(void)
{
    struct room *room = shared_zeros(sizeof *room);
    CHECK_EQ(fmp_mutex_init(&room->mutex), FMP_OK);
    return room;
}

static int
lock_patiently(struct room *room)
{
    for (int i = 0; i < 100; i++) {
        int rc = fmp_mutex_lock(&room->mutex, FMP_SECOND / 10);
        if (rc != FMP_AGAIN) {
            return rc;
        }
    }
    return FMP_AGAIN;
}

#define ROUNDS 20000

static void
count_up(void *arg)
{
    struct room *room = arg;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(lock_patiently(room), FMP_OK);
        room->count = room->count + 1;
        fmp_mutex_unlock(&room->mutex);
    }
}

CASE(one_at_a_time)
{
    struct room *room = new_room();
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = check_fork(count_up, room);
    }
    for (int i = 0; i < 4; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(room->count, 4 * ROUNDS);
}

static void
hold_for_ever(void *arg)
{
    struct room *room = arg;
    int rc = lock_patiently(room);
    CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
    atomic_store(&room->inside, 1);
    pause();
}

static pid_t
start_holder(struct room *room)
{
    atomic_store(&room->inside, 0);
    pid_t pid = check_fork(hold_for_ever, room);
    while (atomic_load(&room->inside) == 0) {
        check_sleep_ms(1);
    }
    return pid;
}

CASE(a_busy_lock_gives_up_in_time)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    pid_t pid = start_holder(room);
    long long before = check_now_ms();
    CHECK_EQ(fmp_mutex_lock(&room->mutex, 0), FMP_AGAIN);
    CHECK(check_now_ms() - before < 5000);
    before = check_now_ms();
    CHECK_EQ(fmp_mutex_lock(&room->mutex, FMP_SECOND / 5), FMP_AGAIN);
    CHECK(check_now_ms() - before >= 199);
    check_kill(pid);
}

CASE(a_killed_owner_is_noticed_once)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    check_kill(start_holder(room));
    CHECK_EQ(lock_patiently(room), FMP_OWNER_DIED);
    fmp_mutex_unlock(&room->mutex);
    CHECK_EQ(lock_patiently(room), FMP_OK);
    fmp_mutex_unlock(&room->mutex);
}

CASE(a_killed_repairer_is_noticed_too)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    check_kill(start_holder(room));
    check_kill(start_holder(room)); /* got FMP_OWNER_DIED, and dies inside as well */
    CHECK_EQ(lock_patiently(room), FMP_OWNER_DIED);
    fmp_mutex_unlock(&room->mutex);
}

static void
wait_for_lock(void *arg)
{
    struct room *room = arg;
    int rc = lock_patiently(room);
    CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
    if (rc == FMP_OWNER_DIED) {
        atomic_fetch_add(&room->stop, 1);
    }
    fmp_mutex_unlock(&room->mutex);
}

CASE(of_many_waiters_one_learns_of_the_death_and_all_go_on)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    pid_t owner = start_holder(room), waiters[5];
    for (int i = 0; i < 5; i++) {
        waiters[i] = check_fork(wait_for_lock, room);
    }
    check_sleep_ms(50);
    check_kill(owner);
    for (int i = 0; i < 5; i++) {
        check_reap(waiters[i]);
    }
    CHECK_EQ(atomic_load(&room->stop), 1);
}

static void
lock_and_unlock(void *arg)
{
    struct room *room = arg;
    while (atomic_load(&room->stop) == 0) {
        int rc = lock_patiently(room);
        CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
        room->count = room->count + 1;
        fmp_mutex_unlock(&room->mutex);
    }
}

CASE(survives_a_storm_of_kills)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room();
    uint64_t seed = 1;
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = check_fork(lock_and_unlock, room);
    }
    for (int kills = 0; kills < 150; kills++) {
        int victim = (int)(random_next(&seed) % 3);
        usleep(random_next(&seed) % 2000);
        check_kill(pids[victim]);
        long before = room->count;
        pids[victim] = check_fork(lock_and_unlock, room);
        long long start = check_now_ms();
        while (room->count == before) { /* nobody gets on: stranded */
            CHECK(check_now_ms() - start < 10000);
            check_sleep_ms(1);
        }
    }
    atomic_store(&room->stop, 1);
    for (int i = 0; i < 3; i++) {
        check_reap(pids[i]);
    }
}

/* Damaged words: the C library aborts over, or waits for ever in, what is none of our mutexes. */
CASE(damaged_bytes_are_corruption_or_a_lock_that_is_busy)
{
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        static struct fmp_mutex_shm mutex;
        CHECK_EQ(fmp_mutex_init(&mutex), FMP_OK);
        unsigned bit = random_next(&seed) % (8 * sizeof mutex);
        if (round % 2 == 0) {
            ((uint8_t *)&mutex)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        else {
            uint32_t word = random_next(&seed) >> random_next(&seed) % 32;
            memcpy((uint8_t *)&mutex + bit / 32 * 4, &word, sizeof word);
        }
        int rc = fmp_mutex_lock(&mutex, round % 5 == 0);
        CHECK(rc == FMP_OK || rc == FMP_AGAIN || rc == FMP_OWNER_DIED || rc == FMP_CORRUPT
              || rc == -ENOTRECOVERABLE);
        if (rc == FMP_OK || rc == FMP_OWNER_DIED) {
            fmp_mutex_unlock(&mutex);
        }
    }
}

CASE(another_kind_of_mutex_is_corruption)
{
    struct fmp_mutex_shm plain = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    CHECK_EQ(fmp_mutex_lock(&plain, 0), FMP_CORRUPT);
}

CHECK_MAIN
