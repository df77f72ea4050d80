/* growth.c - scenarios: a ring that grows under a put, or gives memory back under a take. */
#include "messages.h"

enum { WORLD, VICTIMS, OTHERS };

#define LENGTH (160 - 8 - (uint32_t)sizeof(struct message)) /* ten units */
#define FILLED 25 /* of 256 units, 250: one more does not fit */

static struct fmp_mailbox queue;
static struct packed victims_batch, others_batch, seconds_batch;

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

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct received *r = arg;
    return fmp_mailbox_take(&queue, 1, &r->buffer, NULL, w);
}

static struct received received;

static struct message
take(void)
{
    make_ready(&received);
    CHECK_EQ(wait_as_bridge(try_take, NULL, &received), FMP_OK);
    return note(&received);
}

static void
put_others(void)
{
    put(&others_batch);
}

static void
take_all(void)
{
    while (take().sender != OTHERS) {
    }
}

static void
close_queue(void)
{
    fmp_mailbox_close(&queue);
}

static void
note_tail(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&queue.ring.shm->tail));
}

static uint32_t
drain(void)
{
    while (fmp_ring_count(&queue.ring) > 0) {
        (void)take();
    }
    return noted(WORLD, 32);
}

/* --- growth --------------------------------------------------------------------------------------- */

/* A small ring, full but for six units, whose first message lies at unit 10: so the last four units
 * lie at its begin, and move when it grows. */
static void
grow_setup(void)
{
    static struct packed p;
    CHECK_EQ(fmp_mailbox_create(&queue, 0), FMP_OK);
    for (uint32_t i = 0; i <= FILLED; i++) {
        pack(&p, WORLD, i, 1, LENGTH);
        put(&p);
        if (i == 0) {
            (void)take();
        }
    }
    pack(&victims_batch, VICTIMS, 0, 1, LENGTH);
    pack(&seconds_batch, VICTIMS, 1, 1, LENGTH);
    pack(&others_batch, OTHERS, 0, 1, LENGTH);
}

static void
grow_victim(void)
{
    begin();
    put(&victims_batch);
    end();
}

static void
judge_growth(void)
{
    CHECK_EQ(drain(), FILLED + 1);
    CHECK_EQ(noted(OTHERS, 32), 1);
    bool committed = !victim_killed() || atomic_load(&world->seen[0]) != FILLED + 1;
    CHECK_EQ(noted(VICTIMS, 32), committed);
    CHECK(atomic_load(&queue.ring.shm->takers) == 0);
}

SCENARIO(grow_scenario) = {
    .name = "ring-growth",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = grow_setup,
    .victim = grow_victim,
    .look = note_tail,
    .judge = judge_growth,
    .teardown = close_queue,
    .others = {{"taker", LATE, take_all}, {"putter", LATE, put_others}},
};

/* A taker is the victim. Its message lies across the ring's end; the putter makes the ring grow, and
 * what it puts reaches the places that the message's end is moved away from. */
static void
grow_beside_setup(void)
{
    static struct packed p;
    CHECK_EQ(fmp_mailbox_create(&queue, 0), FMP_OK);
    for (uint32_t i = 0; i <= FILLED; i++) {
        pack(&p, WORLD, i, 1, LENGTH);
        put(&p);
        if (i < FILLED) {
            (void)take();
        }
    }
    pack(&others_batch, OTHERS, 0, FILLED + 1, LENGTH);
}

static void
take_victim(void)
{
    begin();
    make_ready(&received);
    CHECK_EQ(wait_as_bridge(try_take, NULL, &received), FMP_OK);
    end();
    (void)note(&received);
}

static void
judge_take_beside_growth(void)
{
    uint32_t got = drain();
    CHECK_EQ(noted(OTHERS, 32), FILLED + 1);
    CHECK(got == FILLED + 1 || (got == FILLED && victim_killed()));
}

SCENARIO(grow_beside_scenario) = {
    .name = "ring-growth-beside",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = grow_beside_setup,
    .victim = take_victim,
    .judge = judge_take_beside_growth,
    .teardown = close_queue,
    .others = {{"putter", LATE, put_others}},
};

/* Two victims: the second repairs what the first has left, and grows the ring itself. */
static void
second_grow_victim(void)
{
    begin();
    put(&seconds_batch);
    end();
}

static void
judge_twice(void)
{
    CHECK_EQ(drain(), FILLED + 1);
    uint32_t n = noted(VICTIMS, 32);
    CHECK_EQ(noted(OTHERS, 32), 1);
    uint32_t committed = atomic_load(&world->seen[0]) - (FILLED + 1);
    if (victim_killed()) {
        CHECK_EQ(n, committed);
    }
    else { /* the second has put its own, before the look or after */
        CHECK_EQ(atomic_load(&world->counts[VICTIMS][1]), 1);
        CHECK(n == committed || n == committed + 1);
    }
}

SCENARIO(grow_twice_scenario) = {
    .name = "ring-growth-twice",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = grow_setup,
    .victim = grow_victim,
    .second = second_grow_victim,
    .look = note_tail,
    .judge = judge_twice,
    .teardown = close_queue,
    .others = {{"taker", LATE, take_all}, {"putter", LATE, put_others}},
};

/* --- giving memory back ---------------------------------------------------------------------------- */

#define HUGE_BYTES ((1 << 20) + (1 << 19)) /* makes it grow to 2 MiB */

/* Has been large and has run empty often; one message is left, behind the first MiB. */
static void
shrink_setup(void)
{
    static uint8_t body[HUGE_BYTES];
    CHECK_EQ(fmp_mailbox_create(&queue, 0), FMP_OK);
    uint64_t header = fmp_record_header(sizeof body, 1);
    struct fmp_part parts[] = {{&header, sizeof header}, {body, sizeof body}};
    struct fmp_batch batch = {
        .parts = parts, .n_parts = 2, .bytes = sizeof header + sizeof body, .items = 1};
    struct fmp_wait w = {.budget_ns = FMP_SECOND};
    CHECK_EQ(fmp_mailbox_put(&queue, &batch, &w), FMP_OK);
    struct fmp_buffer out;
    fmp_buffer_init(&out, NULL, 0);
    CHECK_EQ(fmp_mailbox_take(&queue, 1, &out, NULL, &w), FMP_OK);
    fmp_buffer_free(&out);
    pack(&victims_batch, WORLD, 0, 1, LENGTH);
    put(&victims_batch);
    pack(&others_batch, OTHERS, 0, 1, LENGTH);
    queue.ring.shm->empties = 1000;
}

static void
judge_shrunk(void)
{
    uint32_t got = drain();
    CHECK_EQ(noted(OTHERS, 32), 1);
    CHECK(got == 1 || (got == 0 && victim_killed()));
}

static void
take_one(void)
{
    (void)take();
}

SCENARIO(shrink_scenario) = {
    .name = "ring-shrink",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = shrink_setup,
    .victim = take_victim,
    .judge = judge_shrunk,
    .teardown = close_queue,
    .others = {{"putter", LATE, put_others}, {"taker", LATE, take_one}},
};
