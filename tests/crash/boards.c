/* boards.c - scenarios: a worker of a pool takes a task and posts its result (channel/taskboard.c).
 *
 * The collector does as the pool's does: what a dead worker held fails, after a look at the ring, at
 * the others' claims, and then at all results. In world->counts: RESULTS and LOST of each task. */
#include "messages.h"

#include "channel/taskboard.h"

#define TASKS 3
#define JOB 7

enum { RESULTS, LOST };
enum { VICTIMS_SLOT, WORKERS_SLOT, SECONDS_SLOT, N_WORKERS };

static struct fmp_taskboard board;
static uint32_t first_slot = VICTIMS_SLOT; /* of those who may have been killed, up to: */
static uint32_t last_slot = VICTIMS_SLOT;

struct record {
    uint64_t header;
    struct fmp_task_tag tag;
    uint64_t body;
};

static struct fmp_batch
batch_of(struct record *r, struct fmp_part *part, uint32_t index)
{
    *r = (struct record){fmp_record_header(sizeof r->tag + sizeof r->body, 1),
                         {index, JOB},
                         index * UINT64_C(0x0101010101010101)};
    *part = (struct fmp_part){r, sizeof *r};
    return (struct fmp_batch){.parts = part, .n_parts = 1, .bytes = sizeof *r, .items = 1};
}

/* --- workers -------------------------------------------------------------------------------------- */

struct working {
    uint32_t slot;
    struct received *received;
    struct fmp_batch result;
};

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct working *a = arg;
    return fmp_taskboard_take(&board, a->slot, &a->received->buffer, w);
}

static int
try_post(void *arg, struct fmp_wait *w)
{
    struct working *a = arg;
    return fmp_taskboard_post(&board, a->slot, &a->result, w);
}

/* One task from begin to end. False: to leave. */
static bool
work(uint32_t slot, struct received *received)
{
    struct working a = {.slot = slot, .received = received};
    struct record task, result;
    struct fmp_part part;
    make_ready(received);
    int rc = wait_as_bridge(try_take, NULL, &a);
    if (rc == FMP_CLOSED) {
        return false;
    }
    CHECK_EQ(rc, FMP_OK);
    CHECK_EQ(received->buffer.size, fmp_record_span(sizeof task - sizeof task.header));
    memcpy(&task, received->buffer.data, sizeof task);
    CHECK(task.tag.job == JOB && task.tag.index < TASKS);
    CHECK_EQ(task.body, task.tag.index * UINT64_C(0x0101010101010101));
    if (slot == WORKERS_SLOT && victim_killed()) {
        check_sleep_ms(8); /* so that the burial comes before the result */
    }
    a.result = batch_of(&result, &part, task.tag.index);
    CHECK_EQ(wait_as_bridge(try_post, NULL, &a), FMP_OK);
    return true;
}

static void
enter(uint32_t slot)
{
    CHECK_EQ(fmp_taskboard_enter(&board, slot), FMP_OK);
    fmp_taskboard_set_state(&board, slot, FMP_WORKER_READY);
}

static struct received received;

static void
victim(void)
{
    enter(VICTIMS_SLOT);
    begin();
    (void)work(VICTIMS_SLOT, &received);
    end();
}

static void
second_victim(void)
{
    enter(SECONDS_SLOT);
    begin();
    (void)work(SECONDS_SLOT, &received);
    end();
}

static void
worker(void)
{
    enter(WORKERS_SLOT);
    while (work(WORKERS_SLOT, &received)) {
    }
}

/* --- the parent's side ----------------------------------------------------------------------------- */

static int
try_put(void *arg, struct fmp_wait *w)
{
    return fmp_taskboard_put(&board, arg, w);
}

static void
put_task(uint32_t index)
{
    struct record r;
    struct fmp_part part;
    struct fmp_batch batch = batch_of(&r, &part, index);
    CHECK_EQ(wait_as_bridge(try_put, NULL, &batch), FMP_OK);
}

static void
put_tasks(void)
{
    for (uint32_t i = 0; i < TASKS; i++) {
        put_task(i);
    }
}

static uint32_t
outcomes(void)
{
    return noted(RESULTS, TASKS) + noted(LOST, TASKS);
}

static void
deal(const struct fmp_buffer *results)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    while (fmp_batch_next(results->data, results->size, &offset, &kind, &data, &length)) {
        struct record r;
        memcpy(&r.tag, data, sizeof r.tag);
        if (r.tag.job == 0) {
            continue;
        }
        CHECK_EQ(length, sizeof r - sizeof r.header);
        memcpy(&r.body, data + sizeof r.tag, sizeof r.body);
        CHECK(r.tag.job == JOB && r.tag.index < TASKS);
        CHECK_EQ(r.body, r.tag.index * UINT64_C(0x0101010101010101));
        CHECK_EQ(atomic_fetch_add(&world->counts[RESULTS][r.tag.index], 1), 0);
        CHECK_EQ(atomic_load(&world->counts[LOST][r.tag.index]), 0);
    }
}

struct collecting {
    struct fmp_buffer out;
    uint32_t slot; /* of a dead worker */
    bool elsewhere;
};

static int
try_collect(void *arg, struct fmp_wait *w)
{
    struct collecting *c = arg;
    return fmp_taskboard_collect(&board, TASKS - outcomes(), &c->out, w);
}

static int
try_elsewhere(void *arg, struct fmp_wait *w)
{
    struct collecting *c = arg;
    return fmp_taskboard_claimed_elsewhere(&board, c->slot, &c->elsewhere, w);
}

/* As fmp_pool_bury(). */
static void
bury(uint32_t slot)
{
    struct collecting c = {.slot = slot};
    uint64_t claim = fmp_taskboard_claim(&board, slot);
    if (claim != 0) {
        CHECK_EQ(wait_as_bridge(try_elsewhere, NULL, &c), FMP_OK);
        struct fmp_wait w = {.budget_ns = FMP_SECOND};
        uint8_t room[1024];
        fmp_buffer_init(&c.out, room, sizeof room);
        while (!c.elsewhere && fmp_taskboard_collect(&board, 1, &c.out, &w) == FMP_OK) {
            deal(&c.out);
        }
        CHECK_EQ(claim >> 32, JOB);
        if (!c.elsewhere && atomic_load(&world->counts[RESULTS][(uint32_t)claim]) == 0) {
            CHECK_EQ(atomic_fetch_add(&world->counts[LOST][(uint32_t)claim], 1), 0);
        }
    }
    fmp_taskboard_vacate(&board, slot);
}

static int
look_for_dead(void *arg)
{
    (void)arg;
    for (uint32_t slot = first_slot; slot <= last_slot; slot++) {
        fmp_who who = atomic_load(&board.shm->workers[slot].who);
        if (slot != WORKERS_SLOT && who != 0 && !fmp_who_alive(who)) {
            bury(slot);
        }
    }
    return outcomes() == TASKS ? FMP_TIMEOUT : FMP_AGAIN;
}

/* (Not stop(): a worker that is between its look and its sleep then notices at its tick only.) */
static int
try_dismiss(void *arg, struct fmp_wait *w)
{
    (void)arg;
    return fmp_taskboard_dismiss(&board, w);
}

static void
collect(void)
{
    uint8_t room[1024];
    struct collecting c;
    while (outcomes() < TASKS) {
        fmp_buffer_init(&c.out, room, sizeof room);
        int rc = wait_as_bridge(try_collect, look_for_dead, &c);
        if (rc == FMP_OK) {
            deal(&c.out);
        }
        else {
            CHECK_EQ(rc, FMP_TIMEOUT);
        }
    }
    CHECK_EQ(wait_as_bridge(try_dismiss, NULL, NULL), FMP_OK);
}

/* --- the scenarios -------------------------------------------------------------------------------- */

/* Opens the slab that the next slots are cut from, which stays open. */
static void
open_slab(void)
{
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(64, &slot), FMP_OK);
    fmp_slot_free(&slot);
}

static void
setup_without_tasks(void)
{
    CHECK_EQ(fmp_taskboard_create(&board, N_WORKERS), FMP_OK);
}

static void
setup(void)
{
    setup_without_tasks();
    put_tasks();
}

static void
setup_for_two(void)
{
    last_slot = SECONDS_SLOT;
    setup();
}

static void
close_board(void)
{
    fmp_taskboard_close(&board);
}

/* What the victim has taken and posted, standing still. */
static void
look(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&board.tasks.ring.shm->head));
    atomic_store(&world->seen[1], (uint32_t)atomic_load(&board.results.ring.shm->tail));
}

static void
judge_outcomes(uint32_t victims)
{
    for (int i = 0; i < TASKS; i++) {
        CHECK_EQ(atomic_load(&world->counts[RESULTS][i]) + atomic_load(&world->counts[LOST][i]), 1);
    }
    CHECK(noted(LOST, TASKS) <= victims);
}

static void
judge(void)
{
    judge_outcomes(victim_killed());
    if (victim_killed()) { /* it alone had worked when it was looked at */
        uint32_t in_hand = atomic_load(&world->seen[0]) - atomic_load(&world->seen[1]);
        CHECK_EQ(noted(LOST, TASKS), in_hand);
    }
}

SCENARIO(work_scenario) = {
    .name = "pool-work",
    .judged = ALWAYS,
    .prepare = open_slab,
    .setup = setup,
    .victim = victim,
    .look = look,
    .judge = judge,
    .teardown = close_board,
    .others = {{"worker", LATE, worker}, {"collector", LATE, collect}},
};

/* Worker, victim and collector sleep when the tasks come. */
static void
judge_woken(void)
{
    judge_outcomes(victim_killed());
}

SCENARIO(woken_scenario) = {
    .name = "pool-work-woken",
    .judged = ALWAYS,
    .prepare = open_slab,
    .setup = setup_without_tasks,
    .victim = victim,
    .judge = judge_woken,
    .teardown = close_board,
    .others = {{"worker", EARLY, worker},
               {"collector", EARLY, collect},
               {"feeder", WAKER, put_tasks}},
};

static void
judge_two(void)
{
    judge_outcomes(1 + victim_killed());
}

SCENARIO(twice_scenario) = {
    .name = "pool-work-twice",
    .judged = TICKS(KILL) | TICKS(PAUSE) | TICKS(QUEUE),
    .prepare = open_slab,
    .setup = setup_for_two,
    .victim = victim,
    .second = second_victim,
    .judge = judge_two,
    .teardown = close_board,
    .others = {{"worker", LATE, worker}, {"collector", LATE, collect}},
};
