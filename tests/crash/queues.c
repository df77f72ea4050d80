/* queues.c - scenarios: put and get of a queue (channel/mailbox.c), one message or several, waited
 * for on its word or on its bell; the count of unfinished tasks.
 *
 * Senders: WORLD has put messages before the victim began; VICTIMS; OTHERS. */
#include "messages.h"

enum { WORLD, VICTIMS, OTHERS };

#define BIG (1024 - 8 - (uint32_t)sizeof(struct message)) /* four of them fill a small ring */
#define SMALL 20

static struct fmp_mailbox queue;
static struct packed victims_batch, others_batch;
static uint32_t heads_before; /* the positions when the world began, as counts */

/* --- what the actors do --------------------------------------------------------------------------- */

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct packed *p = arg;
    return fmp_mailbox_put(&queue, &p->batch, w);
}

static void
put(struct packed *p)
{
    CHECK_EQ(wait_as_bridge(try_put, NULL, p), FMP_OK);
}

struct taking {
    struct received *received;
    uint32_t most;
    bool by_bell;
};

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct taking *t = arg;
    int rc = fmp_mailbox_take(&queue, t->most, &t->received->buffer, NULL, w);
    if (rc == FMP_AGAIN && t->by_bell && !fmp_wait_is_on_lock(w)) {
        fmp_wait_on_fd(w, queue.bell, FMP_POLL_IN);
    }
    return rc;
}

static void
take(struct received *r, uint32_t most, bool by_bell)
{
    struct taking t = {r, most, by_bell};
    make_ready(r);
    CHECK_EQ(wait_as_bridge(try_take, NULL, &t), FMP_OK);
}

static void
take_one(void)
{
    static struct received r;
    take(&r, 1, false);
    (void)note(&r);
}

static void
take_some(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        take_one();
    }
}

/* Until what the others put, the last of it, has come. */
static void
take_until_others(bool by_bell)
{
    static struct received r;
    struct message last;
    do {
        take(&r, 1, by_bell);
        last = note(&r);
    } while (last.sender != OTHERS || last.number + 1 != others_batch.batch.items);
}

static void
take_all(void)
{
    take_until_others(false);
}

static void
take_all_by_bell(void)
{
    take_until_others(true);
}

static void
put_others(void)
{
    put(&others_batch);
}

/* --- making and judging --------------------------------------------------------------------------- */

static void
make_queue(uint32_t max_items)
{
    static struct packed p;
    static struct received r;
    CHECK_EQ(fmp_mailbox_create(&queue, max_items), FMP_OK);
    /* Both sides are mapped from here on, in all that are forked. */
    pack(&p, WORLD, 31, 1, 0);
    put(&p);
    take(&r, 1, false);
    heads_before = (uint32_t)atomic_load(&queue.ring.shm->head);
}

static void
close_queue(void)
{
    fmp_mailbox_close(&queue);
}

static void
put_world(uint32_t count, uint32_t length)
{
    static struct packed p;
    for (uint32_t i = 0; i < count; i++) {
        pack(&p, WORLD, i, 1, length);
        put(&p);
    }
}

static void
note_tail(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&queue.ring.shm->tail));
}

/* What is left in the end, and that nothing is left then. */
static void
drain(void)
{
    static struct received r;
    while (fmp_ring_count(&queue.ring) > 0) {
        take(&r, 1, false);
        (void)note(&r);
    }
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    CHECK_EQ(fmp_mailbox_poll(&queue, &w), FMP_AGAIN);
    CHECK(atomic_load(&queue.ring.shm->takers) <= victim_killed());
    CHECK(atomic_load(&queue.ring.shm->putters) <= victim_killed());
}

/* After a victim that puts: its batch is there whole if it committed, else not at all. */
static void
judge_put(void)
{
    drain();
    uint32_t n = victims_batch.batch.items;
    CHECK_EQ(noted(OTHERS, 32), others_batch.batch.items);
    bool committed = !victim_killed() || atomic_load(&world->seen[0]) != heads_before;
    CHECK_EQ(noted(VICTIMS, 32), committed ? n : 0);
}

/* After a victim that takes up to `most`: lost is what it had committed and not noted, at most. */
static void
judge_take(uint32_t put_in_all, uint32_t most)
{
    drain();
    uint32_t received = noted(WORLD, 31) + noted(OTHERS, 32);
    uint32_t gone = (uint32_t)atomic_load(&queue.ring.shm->head) - heads_before;
    CHECK_EQ(gone, put_in_all);
    CHECK(put_in_all - received <= (victim_killed() ? most : 0));
    if (victim_killed() && atomic_load(&world->seen[1]) == heads_before) {
        CHECK_EQ(received, put_in_all); /* it had not committed, and nobody else had taken */
    }
}

static void
note_head(void)
{
    atomic_store(&world->seen[1], (uint32_t)atomic_load(&queue.ring.shm->head));
}

/* --- put ------------------------------------------------------------------------------------------ */

static void
put_setup(void)
{
    make_queue(0);
    pack(&victims_batch, VICTIMS, 0, 1, SMALL);
    pack(&others_batch, OTHERS, 0, 1, SMALL);
}

static void
put_victim(void)
{
    begin();
    put(&victims_batch);
    end();
}

SCENARIO(put_scenario) = {
    .name = "queue-put",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = put_setup,
    .victim = put_victim,
    .look = note_tail,
    .judge = judge_put,
    .teardown = close_queue,
    .others = {{"taker", EARLY, take_all}, {"putter", LATE, put_others}},
};

/* A bounded one: the victim sleeps until there is room. */
static void
put_bounded_setup(void)
{
    make_queue(1);
    put_world(1, SMALL);
    pack(&victims_batch, VICTIMS, 0, 1, SMALL);
    pack(&others_batch, OTHERS, 0, 1, SMALL);
}

static void
judge_put_bounded(void)
{
    judge_put();
    CHECK_EQ(noted(WORLD, 31), 1);
}

static void
note_tail_bounded(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&queue.ring.shm->tail) - 1);
}

static void
put_bounded_victim(void)
{
    begin();
    put(&victims_batch);
    end();
}

SCENARIO(put_bounded_scenario) = {
    .name = "queue-put-full",
    .judged = ALWAYS,
    .setup = put_bounded_setup,
    .victim = put_bounded_victim,
    .look = note_tail_bounded,
    .judge = judge_put_bounded,
    .teardown = close_queue,
    .others = {{"taker", WAKER, take_one},
               {"putter", LATE, put_others},
               {"another taker", LATE, take_one}},
};

/* --- put_many ------------------------------------------------------------------------------------- */

static void
put_many_setup(void)
{
    make_queue(0);
    pack(&victims_batch, VICTIMS, 0, 3, SMALL);
    pack(&others_batch, OTHERS, 0, 3, SMALL);
}

SCENARIO(put_many_scenario) = {
    .name = "queue-put-many",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = put_many_setup,
    .victim = put_victim,
    .look = note_tail,
    .judge = judge_put,
    .teardown = close_queue,
    .others = {{"taker", EARLY, take_one},
               {"another taker", EARLY, take_one},
               {"putter", LATE, put_others}},
};

/* --- get ------------------------------------------------------------------------------------------ */

/* Full, by count and by bytes: a place that is given free too early is written to at once. */
static void
get_setup(void)
{
    make_queue(4);
    put_world(4, BIG);
    pack(&others_batch, OTHERS, 0, 1, BIG);
}

static struct received victims;

static void
get_victim(void)
{
    begin();
    take(&victims, 1, false);
    end();
    (void)note(&victims);
}

static void
judge_get(void)
{
    judge_take(5, 1);
}

static void
take_four(void)
{
    take_some(4); /* and leave the victim one */
}

SCENARIO(get_scenario) = {
    .name = "queue-get",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = get_setup,
    .victim = get_victim,
    .look = note_head,
    .judge = judge_get,
    .teardown = close_queue,
    .others = {{"putter", EARLY, put_others}, {"taker", LATE, take_four}},
};

/* The last message of a full queue: who comes next finds nothing to take, but a dead owner, and
 * has to wake the putter that one owed it. */
static void
get_last_setup(void)
{
    make_queue(1);
    put_world(1, SMALL);
    pack(&others_batch, OTHERS, 0, 1, SMALL);
}

static void
judge_get_last(void)
{
    judge_take(2, 1);
}

SCENARIO(get_last_scenario) = {
    .name = "queue-get-last",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = get_last_setup,
    .victim = get_victim,
    .look = note_head,
    .judge = judge_get_last,
    .teardown = close_queue,
    .others = {{"putter", EARLY, put_others}, {"taker", LATE, take_one}},
};

static void
get_many_setup(void)
{
    make_queue(6);
    put_world(6, SMALL);
    pack(&others_batch, OTHERS, 0, 2, SMALL);
}

static void
get_many_victim(void)
{
    begin();
    take(&victims, 3, false);
    end();
    (void)note(&victims);
}

static void
judge_get_many(void)
{
    judge_take(8, 3);
}

static void
take_five(void)
{
    take_some(5);
}

SCENARIO(get_many_scenario) = {
    .name = "queue-get-many",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = get_many_setup,
    .victim = get_many_victim,
    .look = note_head,
    .judge = judge_get_many,
    .teardown = close_queue,
    .others = {{"putter", EARLY, put_others}, {"taker", LATE, take_five}},
};

/* The victim sleeps for a message, and so does another. */
static void
get_woken_setup(void)
{
    make_queue(0);
    pack(&victims_batch, VICTIMS, 0, 1, SMALL); /* put by a waker, for the victim or another */
    pack(&others_batch, OTHERS, 0, 1, SMALL);
}

static void
put_victims(void)
{
    put(&victims_batch);
}

static void
judge_get_woken(void)
{
    drain();
    uint32_t received = noted(VICTIMS, 32) + noted(OTHERS, 32);
    CHECK_EQ((uint32_t)atomic_load(&queue.ring.shm->head) - heads_before, 2);
    CHECK(received == 2 || (received == 1 && victim_killed()));
}

SCENARIO(get_woken_scenario) = {
    .name = "queue-get-woken",
    .judged = ALWAYS,
    .setup = get_woken_setup,
    .victim = get_victim,
    .judge = judge_get_woken,
    .teardown = close_queue,
    .others = {{"taker", EARLY, take_one},
               {"putter", WAKER, put_victims},
               {"another putter", WAKER, put_others}},
};

/* --- the bell ------------------------------------------------------------------------------------- */

static void
arm(void)
{
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    CHECK_EQ(fmp_mailbox_arm_bell(&queue, &w), FMP_OK);
}

static void
bell_put_setup(void)
{
    put_setup();
    arm();
}

/* While a message is there, the bell rings. */
static void
look_at_bell(void)
{
    note_tail();
    note_head();
    if (fmp_ring_count(&queue.ring) > 0) {
        CHECK_EQ(fmp_poll_now(queue.bell, FMP_POLL_IN), FMP_POLL_IN);
    }
}

/* Nobody rings over an empty queue for long. */
static void
judge_silence(void)
{
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    static struct received r;
    struct taking t = {.received = &r, .most = 1};
    make_ready(&r);
    CHECK_EQ(try_take(&t, &w), FMP_AGAIN);
    CHECK_EQ(fmp_poll_now(queue.bell, FMP_POLL_IN), 0);
}

static void
judge_bell_put(void)
{
    judge_put();
    judge_silence();
}

SCENARIO(bell_put_scenario) = {
    .name = "queue-put-bell",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = bell_put_setup,
    .victim = put_victim,
    .look = look_at_bell,
    .judge = judge_bell_put,
    .teardown = close_queue,
    .others = {{"taker", EARLY, take_all_by_bell}, {"putter", LATE, put_others}},
};

static void
take_one_by_bell(void)
{
    static struct received r;
    take(&r, 1, true);
    (void)note(&r);
}

/* The victim takes the last message and silences the bell, while a message comes. */
static void
bell_get_setup(void)
{
    make_queue(0);
    put_world(1, SMALL);
    pack(&others_batch, OTHERS, 0, 1, SMALL);
    arm();
}

static void
judge_bell_get(void)
{
    judge_take(2, 1);
    judge_silence();
}

SCENARIO(bell_get_scenario) = {
    .name = "queue-get-bell",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = bell_get_setup,
    .victim = get_victim,
    .look = look_at_bell,
    .judge = judge_bell_get,
    .teardown = close_queue,
    .others = {{"putter", LATE, put_others}, {"taker", LATE, take_one_by_bell}},
};

/* --- unfinished tasks ------------------------------------------------------------------------------ */

static int
try_joined(void *arg, struct fmp_wait *w)
{
    (void)arg;
    return fmp_mailbox_joined(&queue, w);
}

static void
join(void)
{
    CHECK_EQ(wait_as_bridge(try_joined, NULL, NULL), FMP_OK);
}

static void
done_setup(void)
{
    make_queue(0);
    CHECK_EQ(fmp_mailbox_task_done(&queue), FMP_OK); /* what make_queue() put */
    put_world(2, SMALL);
}

static void
done_victim(void)
{
    begin();
    CHECK_EQ(fmp_mailbox_task_done(&queue), FMP_OK);
    end();
}

/* The other task; and the victim's, should it not have done it. */
static void
do_the_rest(void)
{
    int rest = victim_killed() && fmp_mailbox_unfinished(&queue) == 2 ? 2 : 1;
    for (int i = 0; i < rest; i++) {
        int rc = fmp_mailbox_task_done(&queue);
        CHECK(rc == FMP_OK || (rc == FMP_OVER_RELEASE && victim_killed()));
    }
}

static void
judge_done(void)
{
    CHECK_EQ(fmp_mailbox_unfinished(&queue), 0);
    CHECK_EQ(fmp_mailbox_task_done(&queue), FMP_OVER_RELEASE);
}

SCENARIO(done_scenario) = {
    .name = "queue-task-done",
    .judged = TICKS(KILL) | TICKS(PAUSE) | NO_TICKS(PAUSE),
    .setup = done_setup,
    .victim = done_victim,
    .judge = judge_done,
    .teardown = close_queue,
    .others = {{"joiner", EARLY, join}, {"the other", LATE, do_the_rest}},
};
