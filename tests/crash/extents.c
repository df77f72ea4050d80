/* extents.c - scenarios: messages that go on outside of their ring (channel/extent.c), put and taken.
 *
 * Whoever takes one keeps its view and looks at it again in the end: nobody may have written there. Or
 * it gets a copy, which has to be whole.
 * Senders: WORLD has put messages before the victim began; VICTIMS; OTHERS. */
#include "channel/extent.h"
#include "channel/mailbox.h"
#include "stepper.h"

enum { WORLD, VICTIMS, OTHERS };

#define WORDS (FMP_EXTENT_LEAST / 8)
#define OTHERS_PUT 3

/* --- messages ---------------------------------------------------------------------------------- */

struct large {
    uint64_t inside[2];
    uint64_t outside[WORDS];
    struct fmp_part parts[2];
    struct fmp_batch batch;
};

static struct fmp_mailbox queue;
static struct large victims_message, others_messages[OTHERS_PUT];
static bool copied;        /* all but the first */
static uint32_t put_first; /* messages, before the victim begins */

static uint64_t
name_of(uint32_t sender, uint32_t number)
{
    return (uint64_t)sender << 32 | number;
}

static void
make_large(struct large *l, uint32_t sender, uint32_t number)
{
    l->inside[0] = fmp_record_header(8 + sizeof l->outside, 1);
    l->inside[1] = name_of(sender, number);
    for (unsigned i = 0; i < WORDS; i++) {
        l->outside[i] = l->inside[1] * 1000 + i;
    }
    l->parts[0] = (struct fmp_part){l->inside, sizeof l->inside};
    l->parts[1] = (struct fmp_part){l->outside, sizeof l->outside};
    l->batch = (struct fmp_batch){.parts = l->parts,
                                  .n_parts = 2,
                                  .bytes = sizeof l->inside + sizeof l->outside,
                                  .items = 1,
                                  .n_inside = 1,
                                  .outside = sizeof l->outside,
                                  .copied = copied};
}

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct large *l = arg;
    return fmp_mailbox_put(&queue, &l->batch, w);
}

static void
put(struct large *l)
{
    CHECK_EQ(wait_as_bridge(try_put, NULL, l), FMP_OK);
}

static int
try_take(void *arg, struct fmp_wait *w)
{
    return fmp_mailbox_take(&queue, 1, arg, NULL, w);
}

#define KEPT_AT_MOST 8

struct kept {
    struct fmp_buffer taken[KEPT_AT_MOST];
    uint32_t count;
};

static void
take(struct kept *k)
{
    struct fmp_buffer *b = &k->taken[k->count++];
    CHECK(k->count <= KEPT_AT_MOST);
    fmp_buffer_init(b, NULL, 0);
    CHECK_EQ(wait_as_bridge(try_take, NULL, b), FMP_OK);
}

/* Checks that it is whole: its name. */
static uint64_t
look_at(const struct fmp_buffer *b)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    uint64_t name;
    CHECK(fmp_batch_next(b->data, b->size, &offset, &kind, &data, &length));
    memcpy(&name, data, sizeof name);
    const uint64_t *outside = b->lease.address;
    if (outside != NULL) {
        CHECK_EQ(kind, 1 | FMP_RECORD_OUTSIDE);
        CHECK_EQ(b->lease.length, sizeof((struct large *)0)->outside);
    }
    else {
        CHECK(copied);
        CHECK_EQ(kind, 1);
        CHECK_EQ(length, sizeof name + sizeof((struct large *)0)->outside);
        outside = (const uint64_t *)(data + sizeof name);
    }
    for (unsigned i = 0; i < WORDS; i++) {
        CHECK_EQ(outside[i], name * 1000 + i);
    }
    return name;
}

/* Enters the last one into the ledger; nobody else may have got it. */
static uint64_t
note(const struct kept *k)
{
    uint64_t name = look_at(&k->taken[k->count - 1]);
    CHECK_EQ(atomic_fetch_add(&world->counts[name >> 32][(uint32_t)name], 1), 0);
    return name;
}

static void
drop(struct kept *k)
{
    for (uint32_t i = 0; i < k->count; i++) {
        (void)look_at(&k->taken[i]);
        fmp_buffer_free(&k->taken[i]);
    }
    k->count = 0;
}

static uint32_t
noted(uint32_t sender)
{
    uint32_t sum = 0;
    for (int i = 0; i < 32; i++) {
        sum += atomic_load(&world->counts[sender][i]);
    }
    return sum;
}

/* --- what the actors do ------------------------------------------------------------------------ */

static void
put_others(void)
{
    for (int i = 0; i < OTHERS_PUT; i++) {
        put(&others_messages[i]);
    }
}

static void
take_all(void)
{
    static struct kept k;
    do {
        take(&k);
    } while (note(&k) != name_of(OTHERS, OTHERS_PUT - 1));
    drop(&k);
}

static void
take_four(void) /* and leave the victim one */
{
    static struct kept k;
    for (int i = 0; i < 4; i++) {
        take(&k);
        (void)note(&k);
    }
    drop(&k);
}

/* --- making and judging ------------------------------------------------------------------------- */

static struct kept worlds; /* taken before anybody was forked: all have these views */

/* Extents that hold memory, in which no record lies any more. */
static void
warm_up(struct large *l, unsigned extents)
{
    static struct kept k;
    for (unsigned i = 0; i < extents; i++) {
        put(l);
    }
    for (unsigned i = 0; i < extents; i++) {
        take(&k);
    }
    drop(&k);
}

static void
setup_as(bool copies, unsigned warm)
{
    static struct large l;
    CHECK_EQ(fmp_mailbox_create(&queue, 0), FMP_OK);
    make_large(&l, WORLD, 0);
    put(&l);
    take(&worlds);
    (void)note(&worlds);
    warm_up(&l, warm);
    copied = copies;
    put_first = warm + 3;
    for (uint32_t i = 1; i < 3; i++) {
        make_large(&l, WORLD, i);
        put(&l);
    }
    make_large(&victims_message, VICTIMS, 0);
    for (uint32_t i = 0; i < OTHERS_PUT; i++) {
        make_large(&others_messages[i], OTHERS, i);
    }
}

static void
setup(void)
{
    setup_as(false, 0);
}

static void
setup_warm(void)
{
    setup_as(false, 3); /* two for the world, one for the victim */
}

static void
setup_copied(void)
{
    setup_as(true, 0);
}

static void
teardown(void)
{
    drop(&worlds);
    fmp_mailbox_close(&queue);
}

static void
drain(void)
{
    static struct kept k;
    while (fmp_ring_count(&queue.ring) > 0) {
        take(&k);
        (void)note(&k);
    }
    drop(&k);
    (void)look_at(&worlds.taken[0]);
    /* All but the world's can be used: the dead have no leases, and nothing waits. */
    for (uint64_t i = 1; i < FMP_EXTENTS; i++) {
        CHECK(!fmp_lease_exists(queue.ring.fd, fmp_extent_begin(i)));
    }
}

/* --- put ---------------------------------------------------------------------------------------- */

static void
put_victim(void)
{
    begin();
    put(&victims_message);
    end();
}

static void
note_tail(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&queue.ring.shm->tail));
}

static void
judge_put(void)
{
    drain();
    CHECK_EQ(noted(WORLD), 3);
    CHECK_EQ(noted(OTHERS), OTHERS_PUT);
    CHECK_EQ(noted(VICTIMS), !victim_killed() || atomic_load(&world->seen[0]) != put_first);
}

SCENARIO(put_scenario) = {
    .name = "extent-put",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup,
    .victim = put_victim,
    .look = note_tail,
    .judge = judge_put,
    .teardown = teardown,
    .others = {{"taker", EARLY, take_all}, {"putter", LATE, put_others}},
};

SCENARIO(put_warm_scenario) = {
    .name = "extent-put-warm",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup_warm,
    .victim = put_victim,
    .look = note_tail,
    .judge = judge_put,
    .teardown = teardown,
    .others = {{"taker", EARLY, take_all}, {"putter", LATE, put_others}},
};

/* --- get ---------------------------------------------------------------------------------------- */

static void
get_victim(void)
{
    static struct kept k;
    begin();
    take(&k);
    end();
    (void)note(&k);
    drop(&k);
}

static void
note_head(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&queue.ring.shm->head));
}

/* Lost is at most what a killed victim had committed and not noted. */
static void
judge_get(void)
{
    drain();
    uint32_t received = noted(WORLD) + noted(OTHERS), all = 3 + OTHERS_PUT;
    bool committed = atomic_load(&world->seen[0]) != 1;
    CHECK(received == all || (victim_killed() && committed && received == all - 1));
}

SCENARIO(get_scenario) = {
    .name = "extent-get",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup,
    .victim = get_victim,
    .look = note_head,
    .judge = judge_get,
    .teardown = teardown,
    .others = {{"putter", LATE, put_others}, {"taker", LATE, take_four}},
};

SCENARIO(get_copied_scenario) = {
    .name = "extent-get-copied",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup_copied,
    .victim = get_victim,
    .look = note_head,
    .judge = judge_get,
    .teardown = teardown,
    .others = {{"putter", LATE, put_others}, {"taker", LATE, take_four}},
};
