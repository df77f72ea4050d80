/* test_barrier.c - sync/barrier.c: rounds, breaking, and parties that are killed. */
#include <signal.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "support.h"
#include "sync/barrier.h"

struct room {
    struct fmp_barrier barrier; /* the children inherit the handle */
    fmp_a32 *passed;            /* shared: how often each round was passed */
    fmp_a32 *indices;           /* shared: which indices a round has given, as bits */
    fmp_a32 *inside;
    uint32_t rounds;
    bool has_action;
};

#define ROUNDS 500

static struct room *
new_room(uint32_t parties)
{
    struct room *room = shared_zeros(sizeof *room);
    struct fmp_barrier_shm *shm = shared_zeros(fmp_barrier_size(parties));
    CHECK_EQ(fmp_barrier_create(&room->barrier, shm, parties), FMP_OK);
    room->passed = shared_zeros(ROUNDS * sizeof(fmp_a32));
    room->indices = shared_zeros(ROUNDS * sizeof(fmp_a32));
    room->inside = shared_zeros(sizeof(fmp_a32));
    room->rounds = ROUNDS;
    return room;
}

struct call {
    struct room *room;
    struct fmp_party party;
};

static int
try_arrive(void *arg, struct fmp_wait *w)
{
    struct call *call = arg;
    return fmp_barrier_arrive(&call->room->barrier, &call->party, call->room->has_action, w);
}

static int
try_pass(void *arg, struct fmp_wait *w)
{
    struct call *call = arg;
    int rc = fmp_barrier_try(&call->room->barrier, &call->party, w);
#ifndef FMP_NO_TICK
    if (rc == FMP_AGAIN) {
        struct fmp_wait kept = *w;
        fmp_barrier_tick(&call->room->barrier, &call->party);
        *w = kept;
    }
#endif
    return rc;
}

static int
try_finish(void *arg, struct fmp_wait *w)
{
    struct call *call = arg;
    return fmp_barrier_finish(&call->room->barrier, &call->party, true, w);
}

static int
try_expire(void *arg, struct fmp_wait *w)
{
    struct call *call = arg;
    return fmp_barrier_expire(&call->room->barrier, &call->party, w);
}

static int
try_reset(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_reset(arg, w);
}

static int
try_abort(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_abort(arg, w);
}

/* One wait(), as objects/py_barrier.c does it. Sets *index. */
static int
wait_at(struct room *room, int64_t deadline, uint32_t *index)
{
    struct call call = {room, {.place = -1}};
    int rc = wait_for(try_arrive, &call, deadline);
    *index = call.party.index;
    if (rc == FMP_OK && call.party.acts) {
        return wait_for(try_finish, &call, FMP_NEVER);
    }
    if (rc == FMP_OK && call.party.place >= 0) {
        atomic_fetch_add(room->inside, 1);
        rc = wait_for(try_pass, &call, deadline);
        if (rc == FMP_TIMEOUT) {
            rc = wait_for(try_expire, &call, FMP_NEVER);
        }
    }
    return rc;
}

static void
pass_rounds(void *arg)
{
    struct room *room = arg;
    for (uint32_t round = 0; round < room->rounds; round++) {
        uint32_t index;
        CHECK_EQ(wait_at(room, FMP_NEVER, &index), FMP_OK);
        if (round > 0) { /* all have come, so all have passed the round before */
            CHECK_EQ(atomic_load(&room->passed[round - 1]), room->barrier.shm->parties);
        }
        atomic_fetch_add(&room->passed[round], 1);
        atomic_fetch_or(&room->indices[round], 1u << index);
    }
}

static void
run_rounds(uint32_t parties, bool has_action)
{
    struct room *room = new_room(parties);
    pid_t pids[8];
    room->has_action = has_action;
    for (uint32_t i = 0; i < parties; i++) {
        pids[i] = check_fork(pass_rounds, room);
    }
    for (uint32_t i = 0; i < parties; i++) {
        check_reap(pids[i]);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        CHECK_EQ(atomic_load(&room->passed[round]), parties);
        CHECK_EQ(atomic_load(&room->indices[round]), (1u << parties) - 1); /* each once */
    }
    CHECK_EQ(atomic_load(&room->barrier.shm->count), 0);
}

CASE(all_pass_together)
{
    run_rounds(4, false);
}

CASE(all_pass_together_with_an_action)
{
    run_rounds(3, true);
}

CASE(a_barrier_of_one_never_waits)
{
    struct room *room = new_room(1);
    uint32_t index;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(wait_at(room, fmp_now(), &index), FMP_OK);
        CHECK_EQ(index, 0);
    }
}

static void
wait_and_be_broken(void *arg)
{
    uint32_t index;
    CHECK_EQ(wait_at(arg, FMP_NEVER, &index), FMP_BROKEN);
}

static pid_t
start_waiter(struct room *room, void (*body)(void *))
{
    uint32_t before = atomic_load(room->inside);
    pid_t pid = check_fork(body, room);
    while (atomic_load(room->inside) == before) {
        check_sleep_ms(1);
    }
    return pid;
}

CASE(a_timeout_breaks_it_for_all)
{
    struct room *room = new_room(3);
    pid_t pid = start_waiter(room, wait_and_be_broken);
    uint32_t index;
    long long before = check_now_ms();
    CHECK_EQ(wait_at(room, fmp_now() + FMP_SECOND / 10, &index), FMP_BROKEN);
    CHECK(check_now_ms() - before >= 99);
    check_reap(pid);
    CHECK_EQ(wait_at(room, FMP_NEVER, &index), FMP_BROKEN); /* and it stays broken */
    CHECK_EQ(wait_for(try_reset, &room->barrier, FMP_NEVER), FMP_OK);
    CHECK_EQ(atomic_load(&room->barrier.shm->state), FMP_BARRIER_FILLING);
}

CASE(abort_and_reset_release_who_waits)
{
    struct room *room = new_room(3);
    pid_t a = start_waiter(room, wait_and_be_broken), b = start_waiter(room, wait_and_be_broken);
    CHECK_EQ(wait_for(try_abort, &room->barrier, FMP_NEVER), FMP_OK);
    check_reap(a);
    check_reap(b);
    CHECK_EQ(atomic_load(&room->barrier.shm->state), FMP_BARRIER_BROKEN);
    CHECK_EQ(wait_for(try_reset, &room->barrier, FMP_NEVER), FMP_OK);
    pid_t c = start_waiter(room, wait_and_be_broken);
    CHECK_EQ(wait_for(try_reset, &room->barrier, FMP_NEVER), FMP_OK);
    check_reap(c);
    CHECK_EQ(atomic_load(&room->barrier.shm->state), FMP_BARRIER_FILLING); /* reset, not broken */
}

#ifndef FMP_NO_TICK
CASE(a_killed_party_breaks_it)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(3);
    pid_t dead = start_waiter(room, wait_and_be_broken);
    pid_t alive = start_waiter(room, wait_and_be_broken);
    check_kill(dead);
    check_reap(alive);
    CHECK_EQ(atomic_load(&room->barrier.shm->state), FMP_BARRIER_BROKEN);
}

static void
tell_one_and_die(void *arg)
{
    struct room *room = arg;
    CHECK_EQ(fmp_mutex_lock(&room->barrier.shm->mutex, FMP_SECOND), FMP_OK);
    atomic_store(&room->barrier.shm->place[0].outcome, FMP_PLACE_PASSED);
}

static void
wait_and_pass(void *arg)
{
    uint32_t index;
    CHECK_EQ(wait_at(arg, FMP_NEVER, &index), FMP_OK);
}

/* The last to come has no place, so it is nobody's neighbour. */
CASE(the_last_to_come_is_killed_after_it_told_one)
{
    struct room *room = new_room(3);
    pid_t told = start_waiter(room, wait_and_pass);
    pid_t other = start_waiter(room, wait_and_be_broken);
    check_reap(check_fork(tell_one_and_die, room));
    check_reap(told);
    check_reap(other);
    CHECK_EQ(atomic_load(&room->barrier.shm->state), FMP_BARRIER_BROKEN);
}

CASE(the_last_to_come_does_not_pass_with_the_dead)
{
    CHECK_NEEDS_PROCESSES();
    struct room *room = new_room(2);
    check_kill(start_waiter(room, wait_and_be_broken));
    check_sleep_ms(1700); /* so long silent that it is looked at */
    uint32_t index;
    CHECK_EQ(wait_at(room, FMP_NEVER, &index), FMP_BROKEN);
}
#endif

/* Rounds whose parties do not leave fill the table; the next has to wait for a place. */
CASE(who_leaves_early_makes_room)
{
    struct room *room = new_room(4); /* 14 places: three for each round */
    struct fmp_wait w = {.fd = -1};
    for (int i = 0; i < 4 * 4; i++) {
        struct fmp_party party = {.place = -1};
        CHECK_EQ(fmp_barrier_arrive(&room->barrier, &party, false, &w), FMP_OK);
    }
    struct fmp_party waiting[2] = {{.place = -1}, {.place = -1}}, starving = {.place = -1};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(fmp_barrier_arrive(&room->barrier, &waiting[i], false, &w), FMP_OK);
    }
    int rc;
    do {
        rc = fmp_barrier_arrive(&room->barrier, &starving, false, &w);
    } while (rc == FMP_AGAIN && fmp_wait_is_on_lock(&w));
    CHECK_EQ(rc, FMP_AGAIN);
    CHECK(!fmp_wait_changed(&w));
    struct fmp_wait other = {.fd = -1};
    CHECK_EQ(fmp_barrier_leave(&room->barrier, &waiting[0], &other), FMP_OK);
    CHECK(fmp_wait_changed(&w));
    CHECK_EQ(fmp_barrier_arrive(&room->barrier, &starving, false, &w), FMP_OK);
    CHECK_EQ(starving.index, 0); /* of the one that has left */
}

CASE(damaged_sizes_are_refused)
{
    struct room *room = new_room(3);
    struct fmp_barrier other;
    size_t size = fmp_barrier_size(3);
    struct fmp_barrier_shm *shm = room->barrier.shm;
    CHECK_EQ(fmp_barrier_attach(&other, shm, size), FMP_OK);
    CHECK_EQ(fmp_barrier_attach(&other, shm, size - 1), FMP_CORRUPT);
    CHECK_EQ(fmp_barrier_attach(&other, shm, 8), FMP_CORRUPT);
    shm->parties = 0;
    CHECK_EQ(fmp_barrier_attach(&other, shm, size), FMP_CORRUPT);
    shm->parties = UINT32_MAX;
    CHECK_EQ(fmp_barrier_attach(&other, shm, size), FMP_CORRUPT);
}

CHECK_MAIN
