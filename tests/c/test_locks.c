/* test_locks.c - the user locks, semaphores, the eventcount, and who is alive.
 *
 * With FMP_NO_TICK a sleeper that is not woken sleeps past the alarm, so no lost wake-up hides;
 * recovery from dead holders is the tick's work and is not tested in that variant.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "platform/futex.h"
#include "platform/process.h"
#include "support.h"
#include "sync/semaphore.h"
#include "sync/userlock.h"

struct room {
    struct fmp_userlock_shm lock;
    struct fmp_semaphore_shm semaphore;
    fmp_a32 word, sleepers;
    fmp_a32 inside, most_inside, recovered, stop;
    volatile long count;
};

static struct room *
new_room(uint32_t units)
{
    struct room *room = shared_zeros(sizeof *room);
    atomic_store(&room->semaphore.word, units);
    room->semaphore.maximum = units;
    return room;
}

static int
try_lock(void *arg, struct fmp_wait *w)
{
    struct room *room = arg;
    return fmp_userlock_try(&room->lock, fmp_userlock_tag(false), w);
}

static int
try_lock_scoped(void *arg, struct fmp_wait *w)
{
    struct room *room = arg;
    uint32_t dead;
    int rc = fmp_userlock_try(&room->lock, fmp_userlock_tag(true), w);
    if (rc == FMP_AGAIN) {
        rc = fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead);
    }
    return rc;
}

static int
try_unit(void *arg, struct fmp_wait *w)
{
    struct room *room = arg;
    return fmp_semaphore_try(&room->semaphore, w);
}

/* --- user locks ------------------------------------------------------------------------------ */

#define ROUNDS 3000

static void
count_up(void *arg)
{
    struct room *room = arg;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
        room->count = room->count + 1;
        CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
    }
}

CASE(userlock_excludes_and_wakes)
{
    struct room *room = new_room(0);
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = check_fork(count_up, room);
    }
    for (int i = 0; i < 4; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(room->count, 4 * ROUNDS);
    CHECK(!fmp_userlock_held(&room->lock));
    CHECK_EQ(atomic_load(&room->lock.sleepers), 0);
}

static void
release_it(void *arg)
{
    struct room *room = arg;
    check_sleep_ms(30);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
}

CASE(userlock_may_be_released_by_another_process)
{
    struct room *room = new_room(0);
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    pid_t pid = check_fork(release_it, room);
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    check_reap(pid);
}

CASE(userlock_over_release)
{
    struct room *room = new_room(0);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OVER_RELEASE);
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OVER_RELEASE);
}

CASE(userlock_deadline_is_kept)
{
    struct room *room = new_room(0);
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    long long before = check_now_ms();
    CHECK_EQ(wait_for(try_lock, room, fmp_now() + FMP_SECOND / 4), FMP_TIMEOUT);
    long long took = check_now_ms() - before;
    CHECK(took >= 249 && took < 10000);
}

static void
tag_in_child(void *arg)
{
    CHECK(fmp_userlock_tag(true) != *(uint64_t *)arg);
    CHECK_EQ(fmp_who_pid(fmp_who_am_i()), getpid());
}

CASE(userlock_tags_tell_processes_apart)
{
    CHECK_NEEDS_PROCESSES();
    uint64_t mine = fmp_userlock_tag(true);
    CHECK_EQ(mine & FMP_USERLOCK_PID, getpid());
    check_reap(check_fork(tag_in_child, &mine));
}

/* --- recovery -------------------------------------------------------------------------------- */

static void
hold_scoped(void *arg)
{
    struct room *room = arg;
    CHECK_EQ(wait_for(try_lock_scoped, room, FMP_NEVER), FMP_OK);
    atomic_store(&room->inside, 1);
    pause();
}

static void
hold_bare(void *arg)
{
    struct room *room = arg;
    CHECK_EQ(wait_for(try_lock, room, FMP_NEVER), FMP_OK);
    atomic_store(&room->inside, 1);
    pause();
}

static pid_t
start_holder(struct room *room, void (*body)(void *))
{
    pid_t pid = check_fork(body, room);
    while (atomic_load(&room->inside) == 0) {
        check_sleep_ms(1);
    }
    return pid;
}

CASE(a_dead_scoped_holder_is_succeeded)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    pid_t pid = start_holder(room, hold_scoped);
    uint32_t dead = 0;
    CHECK_EQ(fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead), FMP_AGAIN);
    check_kill(pid);
    CHECK_EQ(fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead), FMP_OWNER_DIED);
    CHECK_EQ(dead, pid);
    CHECK_EQ(atomic_load(&room->lock.word), fmp_userlock_tag(true));
}

CASE(a_holder_that_is_a_zombie_is_dead)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    pid_t pid = start_holder(room, hold_scoped);
    siginfo_t info;
    uint32_t dead;
    kill(pid, SIGKILL);
    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    CHECK_EQ(fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead), FMP_OWNER_DIED);
    waitpid(pid, NULL, 0);
}

CASE(a_glance_is_good_if_nobody_held_it)
{
    struct room *room = new_room(0);
    uint64_t holds, held, mine = fmp_userlock_tag(true);
    CHECK(fmp_userlock_glance(&room->lock, &holds));
    CHECK(fmp_userlock_glanced(&room->lock, holds));
    CHECK(fmp_userlock_take(&room->lock, mine, &held));
    CHECK(!fmp_userlock_glanced(&room->lock, holds));
    uint64_t inside;
    CHECK(!fmp_userlock_glance(&room->lock, &inside)); /* held */
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
    CHECK(!fmp_userlock_glanced(&room->lock, holds)); /* free again, but not all the time */
    CHECK(fmp_userlock_glance(&room->lock, &holds));
    CHECK(fmp_userlock_glanced(&room->lock, holds));
}

CASE(a_succession_is_a_hold)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    check_kill(start_holder(room, hold_scoped));
    uint64_t holds = atomic_load(&room->lock.holds);
    uint32_t dead;
    CHECK_EQ(fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead), FMP_OWNER_DIED);
    CHECK(!fmp_userlock_glanced(&room->lock, holds));
}

CASE(a_bare_hold_is_never_recovered)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    check_kill(start_holder(room, hold_bare));
    uint32_t dead;
    CHECK_EQ(fmp_userlock_recover(&room->lock, fmp_userlock_tag(true), &dead), FMP_AGAIN);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
}

#ifndef FMP_NO_TICK
static void
succeed(void *arg)
{
    struct room *room = arg;
    int rc = wait_for(try_lock_scoped, room, FMP_NEVER);
    CHECK(rc == FMP_OK || rc == FMP_OWNER_DIED);
    if (rc == FMP_OWNER_DIED) {
        atomic_fetch_add(&room->recovered, 1);
    }
    CHECK_EQ(atomic_fetch_add(&room->stop, 1), 0); /* alone inside */
    check_sleep_ms(2);
    atomic_fetch_sub(&room->stop, 1);
    CHECK_EQ(fmp_userlock_release(&room->lock), FMP_OK);
}

CASE(one_of_many_waiters_succeeds_a_dead_holder)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    pid_t holder = start_holder(room, hold_scoped), pids[5];
    for (int i = 0; i < 5; i++) {
        pids[i] = check_fork(succeed, room);
    }
    check_sleep_ms(30);
    check_kill(holder);
    for (int i = 0; i < 5; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(atomic_load(&room->recovered), 1);
}
#endif

/* --- semaphores ------------------------------------------------------------------------------ */

CASE(semaphore_counts_exactly)
{
    struct room *room = new_room(3);
    struct fmp_wait w;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fmp_semaphore_try(&room->semaphore, &w), FMP_OK);
    }
    CHECK_EQ(fmp_semaphore_try(&room->semaphore, &w), FMP_AGAIN);
    CHECK(w.word == fmp_low_half(&room->semaphore.word) && w.seen == 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fmp_semaphore_release(&room->semaphore), FMP_OK);
    }
    CHECK_EQ(fmp_semaphore_release(&room->semaphore), FMP_OVER_RELEASE);
    CHECK_EQ(fmp_semaphore_value(&room->semaphore), 3);
}

static void
pass_through(void *arg)
{
    struct room *room = arg;
    for (int i = 0; i < 2000; i++) {
        CHECK_EQ(wait_for(try_unit, room, FMP_NEVER), FMP_OK);
        uint32_t now = atomic_fetch_add(&room->inside, 1) + 1;
        CHECK(now <= 2);
        if (now > atomic_load(&room->most_inside)) {
            atomic_store(&room->most_inside, now);
        }
        atomic_fetch_sub(&room->inside, 1);
        CHECK_EQ(fmp_semaphore_release(&room->semaphore), FMP_OK);
    }
}

CASE(semaphore_lets_in_as_many_as_it_has_units)
{
    struct room *room = new_room(2);
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = check_fork(pass_through, room);
    }
    for (int i = 0; i < 4; i++) {
        check_reap(pids[i]);
    }
    CHECK_EQ(fmp_semaphore_value(&room->semaphore), 2);
    CHECK_EQ(atomic_load(&room->semaphore.sleepers), 0);
}

static void
release_unit(void *arg)
{
    struct room *room = arg;
    while (atomic_load(&room->semaphore.sleepers) == 0) {
        check_sleep_ms(1);
    }
    check_sleep_ms(20);
    CHECK_EQ(fmp_semaphore_release(&room->semaphore), FMP_OK);
}

CASE(semaphore_wakes_who_sleeps)
{
    struct room *room = new_room(1);
    CHECK_EQ(wait_for(try_unit, room, FMP_NEVER), FMP_OK);
    pid_t pid = check_fork(release_unit, room);
    CHECK_EQ(wait_for(try_unit, room, FMP_NEVER), FMP_OK);
    check_reap(pid);
}

/* --- sleeping and waking --------------------------------------------------------------------- */

struct turn {
    struct room *room;
    uint32_t parity;
};

static int
try_turn(void *arg, struct fmp_wait *w)
{
    struct turn *turn = arg;
    uint32_t seen = atomic_load(&turn->room->word);
    if (seen % 2 == turn->parity) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, &turn->room->word, seen, &turn->room->sleepers);
    return FMP_AGAIN;
}

static void
play(struct room *room, uint32_t parity)
{
    struct turn turn = {room, parity};
    for (int i = 0; i < 20000; i++) {
        CHECK_EQ(wait_for(try_turn, &turn, FMP_NEVER), FMP_OK);
        atomic_fetch_add(&room->word, 1);
        fmp_wake(&room->word, &room->sleepers, 1);
    }
}

static void
play_odd(void *arg)
{
    play(arg, 1);
}

CASE(no_wake_up_is_lost_in_ping_pong)
{
    struct room *room = new_room(0);
    pid_t pid = check_fork(play_odd, room);
    play(room, 0);
    check_reap(pid);
    CHECK_EQ(atomic_load(&room->word), 40000);
}

CASE(a_sleep_ends_when_its_time_is_over)
{
    struct room *room = new_room(0);
    struct fmp_wait w;
    fmp_wait_on_word(&w, &room->word, 0, &room->sleepers);
    long long before = check_now_ms();
    CHECK_EQ(fmp_wait_sleep(&w, FMP_SECOND / 10), FMP_TIMEOUT);
    CHECK(check_now_ms() - before >= 99);
    CHECK_EQ(atomic_load(&room->sleepers), 0);
    fmp_wait_on_word(&w, &room->word, 7, &room->sleepers);
    CHECK_EQ(fmp_wait_sleep(&w, FMP_NEVER), FMP_OK); /* the word differs already */
}

static void
on_alarm(int signum)
{
    (void)signum;
}

static void
send_usr1(void *arg)
{
    struct room *room = arg;
    while (atomic_load(&room->sleepers) == 0) {
        check_sleep_ms(1);
    }
    check_sleep_ms(20);
    kill(getppid(), SIGUSR1);
}

CASE(a_signal_ends_a_sleep)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(0);
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    pid_t pid = check_fork(send_usr1, room);
    struct fmp_wait w;
    fmp_wait_on_word(&w, &room->word, 0, &room->sleepers);
    CHECK_EQ(fmp_wait_sleep(&w, 30 * FMP_SECOND), -EINTR);
    check_reap(pid);
}

/* --- who is alive ---------------------------------------------------------------------------- */

static void
sleep_for_ever(void *arg)
{
    (void)arg;
    pause();
}

CASE(who_is_alive)
{
    CHECK_NEEDS_PROCESSES();
    fmp_who me = fmp_who_am_i();
    CHECK(fmp_who_alive(me));
    CHECK(!fmp_who_alive(me ^ UINT64_C(1) << 40)); /* the same pid, another birth */
    pid_t pid = check_fork(sleep_for_ever, NULL);
    CHECK(fmp_who_alive((fmp_who)pid)); /* birth unknown: by pid alone */
    check_kill(pid);
    CHECK(!fmp_who_alive((fmp_who)pid));
}

static void *
sleep_in_thread(void *arg)
{
    pause();
    return arg;
}

static void
end_main_thread(void *who)
{
    pthread_t thread;
    atomic_store((fmp_a64 *)who, fmp_who_am_i());
    CHECK_EQ(pthread_create(&thread, NULL, sleep_in_thread, NULL), 0);
    pthread_exit(NULL); /* in /proc this is a zombie now */
}

CASE(a_process_lives_as_long_as_one_of_its_threads)
{
    CHECK_NEEDS_PROCESSES();
    fmp_a64 *who = shared_zeros(sizeof *who);
    pid_t pid = check_fork(end_main_thread, who);
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    while (strstr(text, ") Z ") == NULL) {
        check_sleep_ms(1);
        FILE *file = fopen(path, "r");
        CHECK(file != NULL && fgets(text, sizeof text, file) != NULL);
        fclose(file);
    }
    CHECK(fmp_who_alive(atomic_load(who)));
    CHECK(fmp_who_alive((fmp_who)pid));
    CHECK_EQ(kill(pid, SIGKILL), 0);
    while (fmp_who_alive(atomic_load(who))) { /* dead before anybody has waited for it */
        check_sleep_ms(1);
    }
    check_kill(pid);
}

CHECK_MAIN
