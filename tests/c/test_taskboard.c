/* test_taskboard.c - channel/taskboard.c: tasks, results, and claims of workers that are killed. */
#include "channel/taskboard.h"

#include <signal.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "support.h"

#define WORKERS 3

struct player {
    struct fmp_taskboard *board;
    uint32_t worker;
    fmp_a32 *flags; /* shared; what it means is the case's */
};

static struct fmp_taskboard
new_board(void)
{
    struct fmp_taskboard board;
    CHECK_EQ(fmp_taskboard_create(&board, WORKERS), FMP_OK);
    return board;
}

struct record {
    uint64_t words[3]; /* header, tag, payload */
    struct fmp_part part;
    struct fmp_batch batch;
};

static void
make_record(struct record *r, uint32_t index, uint32_t job)
{
    struct fmp_task_tag tag = {index, job};
    r->words[0] = fmp_record_header(16, 1);
    memcpy(&r->words[1], &tag, sizeof tag);
    r->words[2] = index * UINT64_C(2654435761);
    r->part = (struct fmp_part){r->words, sizeof r->words};
    r->batch =
        (struct fmp_batch){.parts = &r->part, .n_parts = 1, .bytes = sizeof r->words, .items = 1};
}

struct attempt {
    struct player *player;
    struct record *record;
    struct fmp_buffer *out;
};

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct attempt *a = arg;
    return fmp_taskboard_put(a->player->board, &a->record->batch, w);
}

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct attempt *a = arg;
    return fmp_taskboard_take(a->player->board, a->player->worker, a->out, w);
}

static int
try_post(void *arg, struct fmp_wait *w)
{
    struct attempt *a = arg;
    return fmp_taskboard_post(a->player->board, a->player->worker, &a->record->batch, w);
}

static int
try_collect(void *arg, struct fmp_wait *w)
{
    struct attempt *a = arg;
    return fmp_taskboard_collect(a->player->board, 1, a->out, w);
}

static int
try_dismiss(void *arg, struct fmp_wait *w)
{
    return fmp_taskboard_dismiss(arg, w);
}

static void
put_task(struct fmp_taskboard *board, uint32_t index)
{
    struct player parent = {board, 0, NULL};
    struct record record;
    make_record(&record, index, 1);
    struct attempt attempt = {&parent, &record, NULL};
    CHECK_EQ(wait_for(try_put, &attempt, FMP_NEVER), FMP_OK);
}

/* The index of one task taken, or -1 when the worker is to leave. */
static int64_t
take_task(struct player *p, int64_t deadline)
{
    uint8_t room[256];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    struct attempt attempt = {p, NULL, &out};
    int rc = wait_for(try_take, &attempt, deadline);
    CHECK(rc == FMP_OK || rc == FMP_CLOSED);
    struct fmp_task_tag tag = {0, 0};
    if (rc == FMP_OK) {
        uint64_t payload;
        memcpy(&tag, out.data + FMP_RECORD_HEADER, sizeof tag);
        memcpy(&payload, out.data + FMP_RECORD_HEADER + sizeof tag, sizeof payload);
        CHECK_EQ(payload, tag.index * UINT64_C(2654435761));
        CHECK_EQ(fmp_taskboard_claim(p->board, p->worker), tag.index | UINT64_C(1) << 32);
    }
    fmp_buffer_free(&out);
    return rc == FMP_OK ? (int64_t)tag.index : -1;
}

static void
post_result(struct player *p, uint32_t index)
{
    struct record record;
    make_record(&record, index, 1);
    struct attempt attempt = {p, &record, NULL};
    CHECK_EQ(wait_for(try_post, &attempt, FMP_NEVER), FMP_OK);
    CHECK_EQ(fmp_taskboard_claim(p->board, p->worker), 0);
}

/* Collects whatever has come by the deadline; counts each result's index in `seen`. */
static uint32_t
collect_results(struct fmp_taskboard *board, uint32_t *seen, int64_t deadline)
{
    struct player parent = {board, 0, NULL};
    struct fmp_buffer out;
    fmp_buffer_init(&out, NULL, 0);
    struct attempt attempt = {&parent, NULL, &out};
    uint32_t count = 0;
    if (wait_for(try_collect, &attempt, deadline) == FMP_OK) {
        size_t offset = 0, length;
        uint8_t kind;
        const uint8_t *data;
        while (fmp_batch_next(out.data, out.size, &offset, &kind, &data, &length)) {
            struct fmp_task_tag tag;
            memcpy(&tag, data, sizeof tag);
            if (tag.job != 0) {
                seen[tag.index]++;
                count++;
            }
        }
    }
    fmp_buffer_free(&out);
    return count;
}

static void
work(void *arg)
{
    struct player *p = arg;
    CHECK_EQ(fmp_taskboard_enter(p->board, p->worker), FMP_OK);
    fmp_taskboard_set_state(p->board, p->worker, FMP_WORKER_READY);
    int64_t index;
    while ((index = take_task(p, FMP_NEVER)) >= 0) {
        post_result(p, (uint32_t)index);
    }
}

static pid_t
hire(struct player *p, void (*body)(void *))
{
    fmp_taskboard_hire(p->board, p->worker);
    pid_t pid = check_fork(body, p);
    fmp_taskboard_hired(p->board, p->worker, (uint32_t)pid);
    return pid;
}

CASE(every_task_has_one_result)
{
    enum { TASKS = 20000 };
    static uint32_t seen[TASKS];
    struct fmp_taskboard board = new_board();
    struct player players[WORKERS];
    pid_t pids[WORKERS];
    for (uint32_t i = 0; i < WORKERS; i++) {
        players[i] = (struct player){&board, i, NULL};
        pids[i] = hire(&players[i], work);
    }
    for (uint32_t i = 0; i < TASKS; i++) {
        put_task(&board, i);
    }
    for (uint32_t got = 0; got < TASKS;) {
        got += collect_results(&board, seen, FMP_NEVER);
    }
    CHECK(fmp_taskboard_all_alive(&board));
    CHECK_EQ(wait_for(try_dismiss, &board, FMP_NEVER), FMP_OK);
    for (uint32_t i = 0; i < WORKERS; i++) {
        check_reap(pids[i]);
    }
    CHECK(!CHECK_HAS_PROCESSES || !fmp_taskboard_all_alive(&board));
    for (uint32_t i = 0; i < TASKS; i++) {
        CHECK_EQ(seen[i], 1);
    }
    fmp_taskboard_close(&board);
}

CASE(dismissed_workers_finish_what_is_there)
{
    static uint32_t seen[100];
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 0, NULL};
    for (uint32_t i = 0; i < 100; i++) {
        put_task(&board, i);
    }
    fmp_taskboard_hire(&board, 0);
    CHECK_EQ(wait_for(try_dismiss, &board, FMP_NEVER), FMP_OK);
    check_reap(hire(&player, work));
    for (uint32_t got = 0; got < 100;) {
        got += collect_results(&board, seen, FMP_NEVER);
    }
    fmp_taskboard_close(&board);
}

CASE(stopped_workers_leave_the_rest)
{
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 0, NULL};
    put_task(&board, 0);
    fmp_taskboard_stop(&board);
    check_reap(hire(&player, work));
    CHECK(fmp_taskboard_waiting(&board) > 0);
    fmp_taskboard_close(&board);
}

CASE(a_sleeping_worker_is_stopped)
{
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 0, NULL};
    pid_t pid = hire(&player, work);
    while (fmp_taskboard_state(&board, 0) != FMP_WORKER_READY) {
        check_sleep_ms(1);
    }
    check_sleep_ms(30);
    CHECK_EQ(wait_for(try_dismiss, &board, FMP_NEVER), FMP_OK);
    check_reap(pid);
    fmp_taskboard_close(&board);
}

/* --- claims ---------------------------------------------------------------------------------- */

static bool
is_elsewhere(struct fmp_taskboard *board, uint32_t worker)
{
    bool elsewhere = false;
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    CHECK_EQ(fmp_taskboard_claimed_elsewhere(board, worker, &elsewhere, &w), FMP_OK);
    return elsewhere;
}

static void
take_and_stay(void *arg)
{
    struct player *p = arg;
    CHECK_EQ(fmp_taskboard_enter(p->board, p->worker), FMP_OK);
    CHECK(take_task(p, FMP_NEVER) >= 0);
    atomic_store(p->flags, 1);
    pause();
}

CASE(a_worker_killed_in_its_task_has_lost_it)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 1, shared_zeros(sizeof(fmp_a32))};
    put_task(&board, 5);
    put_task(&board, 6);
    pid_t pid = hire(&player, take_and_stay);
    while (atomic_load(player.flags) == 0) {
        check_sleep_ms(1);
    }
    check_kill(pid);
    CHECK(!fmp_taskboard_all_alive(&board));
    CHECK_EQ(fmp_taskboard_claim(&board, 1), 5 | UINT64_C(1) << 32);
    CHECK(!is_elsewhere(&board, 1));
    fmp_taskboard_vacate(&board, 1);
    CHECK_EQ(fmp_taskboard_claim(&board, 1), 0);
    CHECK_EQ(fmp_taskboard_state(&board, 1), FMP_WORKER_NONE);
    fmp_taskboard_close(&board);
}

CASE(a_claim_before_the_commit_is_elsewhere)
{
    struct fmp_taskboard board = new_board();
    put_task(&board, 5);
    atomic_store(&board.shm->workers[1].claim, 5 | UINT64_C(1) << 32); /* killed right here */
    CHECK(is_elsewhere(&board, 1));                                    /* still in the ring */
    struct player other = {&board, 2, NULL};
    CHECK_EQ(take_task(&other, FMP_NEVER), 5);
    CHECK(is_elsewhere(&board, 1)); /* the other has it */
    post_result(&other, 5);
    CHECK(!is_elsewhere(&board, 1));
    fmp_taskboard_close(&board);
}

#ifndef FMP_NO_TICK
/* The parent's rule, from taskboard.h: of what a dead worker claimed, is it lost? */
static bool
lost_with(struct fmp_taskboard *board, uint32_t worker, uint32_t *seen, uint32_t *collected)
{
    uint64_t claim = fmp_taskboard_claim(board, worker);
    if (claim == 0 || is_elsewhere(board, worker)) {
        return false;
    }
    *collected += collect_results(board, seen, fmp_now()); /* only now, see taskboard.h */
    while (fmp_ring_count(&board->results.ring) != 0) {
        *collected += collect_results(board, seen, fmp_now());
    }
    return seen[(uint32_t)claim] == 0;
}

CASE(killed_workers_lose_exactly_what_the_claims_say)
{
    CHECK_NEEDS_PROCESSES();
    enum { TASKS = 30000 };
    static uint32_t seen[TASKS], lost[TASKS];
    struct fmp_taskboard board = new_board();
    struct player players[WORKERS];
    pid_t pids[WORKERS];
    uint64_t seed = 3;
    uint32_t next = 0, collected = 0, n_lost = 0, kills = 0;
    for (uint32_t i = 0; i < WORKERS; i++) {
        players[i] = (struct player){&board, i, NULL};
        pids[i] = hire(&players[i], work);
    }
    while (collected + n_lost < TASKS) {
        while (next < TASKS && next < collected + n_lost + 50) {
            put_task(&board, next++);
        }
        collected += collect_results(&board, seen, fmp_now() + FMP_SECOND / 1000);
        if (random_next(&seed) % 4 == 0 && kills < 300) {
            uint32_t victim = random_next(&seed) % WORKERS;
            check_kill(pids[victim]);
            kills++;
            uint32_t index = (uint32_t)fmp_taskboard_claim(&board, victim);
            if (lost_with(&board, victim, seen, &collected)) {
                lost[index]++;
                n_lost++;
            }
            pids[victim] = hire(&players[victim], work);
        }
    }
    CHECK_EQ(wait_for(try_dismiss, &board, FMP_NEVER), FMP_OK);
    for (uint32_t i = 0; i < WORKERS; i++) {
        check_reap(pids[i]);
    }
    for (uint32_t i = 0; i < TASKS; i++) {
        CHECK_EQ(seen[i] + lost[i], 1); /* each once: a result, or known to be lost */
    }
    CHECK(kills >= 20 && n_lost <= kills);
    fmp_taskboard_close(&board);
}
#endif

/* --- cancelling ------------------------------------------------------------------------------ */

static int
try_cancel(void *arg, struct fmp_wait *w)
{
    return fmp_taskboard_cancel(arg, 1, w);
}

static void
put_task_of(struct fmp_taskboard *board, uint32_t index, uint32_t job)
{
    struct player parent = {board, 0, NULL};
    struct record record;
    make_record(&record, index, job);
    struct attempt attempt = {&parent, &record, NULL};
    CHECK_EQ(wait_for(try_put, &attempt, FMP_NEVER), FMP_OK);
}

/* The tag of what the next take gives, 0 when that is nothing. */
static uint64_t
take_tag(struct player *p)
{
    uint8_t room[256];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    struct attempt attempt = {p, NULL, &out};
    int rc = wait_for(try_take, &attempt, fmp_now());
    uint64_t tag = 0;
    if (rc == FMP_OK) {
        memcpy(&tag, out.data + FMP_RECORD_HEADER, sizeof tag);
    }
    fmp_buffer_free(&out);
    return tag;
}

CASE(waiting_tasks_of_a_cancelled_job_are_passed_over)
{
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 0, NULL};
    for (uint32_t i = 0; i < 3000; i++) { /* the ring grows, and has wrapped */
        put_task_of(&board, i, 1 + i % 3);
        if (i < 300) {
            CHECK_EQ(take_tag(&player), i | (uint64_t)(1 + i % 3) << 32);
        }
    }
    atomic_store(&board.shm->workers[0].claim, 0);
    CHECK_EQ(wait_for(try_cancel, &board, FMP_NEVER), FMP_OK);
    CHECK_EQ(fmp_ring_count(&board.tasks.ring), 2700);
    for (uint32_t i = 300; i < 3000; i++) {
        if (i % 3 != 0) {
            CHECK_EQ(take_tag(&player), i | (uint64_t)(1 + i % 3) << 32);
        }
    }
    CHECK_EQ(take_tag(&player), 0);
    CHECK_EQ(fmp_ring_count(&board.tasks.ring), 0);
    fmp_taskboard_close(&board);
}

CASE(a_doomed_worker_takes_nothing_until_it_is_spared)
{
    struct fmp_taskboard board = new_board();
    struct player player = {&board, 0, NULL}, other = {&board, 1, NULL};
    put_task_of(&board, 0, 1);
    put_task_of(&board, 0, 2);
    put_task_of(&board, 1, 2);
    CHECK_EQ(take_tag(&player), UINT64_C(1) << 32);
    CHECK_EQ(wait_for(try_cancel, &board, FMP_NEVER), FMP_OK);
    CHECK(fmp_taskboard_condemned(&board, 0, 1));
    CHECK(!fmp_taskboard_condemned(&board, 0, 2) && !fmp_taskboard_condemned(&board, 1, 1));
    CHECK_EQ(take_tag(&other), UINT64_C(2) << 32);
    post_result(&player, 0);
    CHECK(!fmp_taskboard_condemned(&board, 0, 1));
    CHECK_EQ(take_tag(&player), 0);
    fmp_taskboard_spare(&board, 0, 2); /* not what it was doomed for */
    CHECK_EQ(take_tag(&player), 0);
    fmp_taskboard_spare(&board, 0, 1);
    CHECK_EQ(take_tag(&player), 1 | UINT64_C(2) << 32);
    fmp_taskboard_close(&board);
}

/* Works until it is stopped; says in flags[0] that it holds a task of job 2. */
static void
work_for_two(void *arg)
{
    struct player *p = arg;
    struct record record;
    make_record(&record, 0, 1);
    for (;;) {
        uint64_t tag = take_tag(p);
        if (tag >> 32 == 2) {
            atomic_store(&p->flags[0], 1);
            for (;;) {
                pause();
            }
        }
        if (tag != 0) {
            struct attempt attempt = {p, &record, NULL};
            CHECK_EQ(wait_for(try_post, &attempt, FMP_NEVER), FMP_OK);
        }
    }
}

CASE(who_is_condemned_holds_nothing_else)
{
    static uint32_t seen[1];
    fmp_a32 *flags = shared_zeros(sizeof *flags);
    int condemned = 0;
    for (int round = 0; round < 400; round++) {
        struct fmp_taskboard board = new_board();
        struct player player = {&board, 0, flags};
        atomic_store(flags, 0);
        pid_t pid = hire(&player, work_for_two);
        put_task_of(&board, 0, 1);
        put_task_of(&board, 0, 2);
        for (volatile int spin = 0; spin < round * 40 || fmp_ring_count(&board.tasks.ring) == 2;) {
            spin++;
        }
        CHECK_EQ(wait_for(try_cancel, &board, FMP_NEVER), FMP_OK);
        bool hit = fmp_taskboard_condemned(&board, 0, 1);
        for (volatile int spin = 0; hit && spin < 2000; spin++) {
        }
        condemned += hit;
        CHECK(!hit || atomic_load(flags) == 0); /* nor does it come to the other task */
        check_kill(pid);
        collect_results(&board, seen, fmp_now());
        fmp_taskboard_close(&board);
    }
    CHECK(condemned > 0);
}

/* --- attaching ------------------------------------------------------------------------------- */

CASE(attaching_takes_all_descriptors_over)
{
    struct fmp_taskboard board = new_board(), other;
    struct fmp_taskboard_fds fds, copies;
    fmp_taskboard_share(&board, &fds);
    int open_before = count_fds();
    for (int bad = 0; bad < 2; bad++) {
        copies = fds;
        copies.tasks_ring = another_fd(fds.tasks_ring);
        copies.tasks_bell = another_fd(fds.tasks_bell);
        copies.results_ring = another_fd(bad ? fds.slot : fds.results_ring);
        copies.results_bell = another_fd(fds.results_bell);
        copies.slot = another_fd(fds.slot);
        int rc = fmp_taskboard_attach(&other, &copies);
        CHECK_EQ(rc, bad ? FMP_CORRUPT : FMP_OK);
        if (!bad) {
            put_task(&board, 3);
            struct player player = {&other, 0, NULL};
            CHECK_EQ(take_task(&player, FMP_NEVER), 3);
            CHECK_EQ(fmp_taskboard_enter(&other, WORKERS), FMP_CORRUPT); /* no such slot */
            fmp_taskboard_close(&other);
        }
        CHECK_EQ(count_fds(), open_before);
    }
    fmp_taskboard_close(&board);
    fmp_taskboard_close(&board); /* twice is harmless */
}

CHECK_MAIN
