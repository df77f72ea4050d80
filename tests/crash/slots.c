/* slots.c - scenarios: slots and segments (arena) are made, attached, freed by a victim and by
 * others, all of them children of one process. Nothing here is shared but the slots themselves. */
#include "stepper.h"

#include "arena/slab.h"
#include "base/layout.h"

#define LARGE (16 * 1024)

static struct fmp_slot shared_slot; /* made by the world; each has a word there, by `me` */

/* Opens the slab that the next slots are cut from, which stays open. */
static void
open_slab(void)
{
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(64, &slot), FMP_OK);
    fmp_slot_free(&slot);
}

static void
setup(void)
{
    CHECK_EQ(fmp_slot_alloc(64, &shared_slot), FMP_OK);
}

static void
mark(const struct fmp_slot *slot, uint32_t what)
{
    ((fmp_a32 *)fmp_slot_at(slot))[0] = what;
}

/* A slot of one's own is zero, and nobody else writes to it. */
static void
use_own(size_t size)
{
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(size, &slot), FMP_OK);
    fmp_a32 *word = fmp_slot_at(&slot);
    CHECK_EQ(atomic_load(word), 0);
    mark(&slot, (uint32_t)me + 1);
    CHECK_EQ(atomic_load(word), me + 1);
    fmp_slot_free(&slot);
}

/* The world's, by a descriptor, as if it had come from afar: one mapping more, and it is gone. */
static void
use_shared(void)
{
    struct fmp_slot slot;
    int fd = another_fd(fmp_slot_share(&shared_slot));
    CHECK_EQ(fmp_slot_attach(fd, shared_slot.offset, shared_slot.size, &slot), FMP_OK);
    fmp_a32 *words = fmp_slot_at(&slot);
    atomic_fetch_add(&words[me], 1);
    CHECK_EQ(atomic_load(&words[me]), 1);
    fmp_slot_free(&slot);
}

static void
other(void)
{
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(64, &slot), FMP_OK); /* opens a slab of its own, which stays */
    fmp_a32 *word = fmp_slot_at(&slot);
    CHECK_EQ(atomic_exchange(word, (uint32_t)me + 1), 0);
    int fds = count_fds();
    use_shared();
    use_own(64);
    use_own(LARGE);
    use_own(FMP_CACHE_LINE * 2);
    CHECK_EQ(count_fds(), fds);
    CHECK_EQ(atomic_load(word), me + 1);
    fmp_slot_free(&slot);
}

/* The first slot of a new child, which must not cut from its parent's slab. */
static void
first_slot_victim(void)
{
    struct fmp_slot slot;
    begin();
    CHECK_EQ(fmp_slot_alloc(64, &slot), FMP_OK);
    fmp_a32 *word = fmp_slot_at(&slot);
    CHECK_EQ(atomic_exchange(word, (uint32_t)me + 1), 0);
    use_own(64);
    CHECK_EQ(atomic_load(word), me + 1);
    fmp_slot_free(&slot);
    end();
}

/* A segment is attached and let go, another made and ended. */
static void
segment_victim(void)
{
    begin();
    use_shared();
    use_own(LARGE);
    end();
}

static void
judge(void)
{
    fmp_a32 *words = fmp_slot_at(&shared_slot);
    CHECK(atomic_load(&words[0]) == 1 && atomic_load(&words[1]) == 1);
    CHECK(atomic_load(&words[VICTIM]) <= 1);
}

static void
teardown(void)
{
    fmp_slot_free(&shared_slot);
}

/* Nobody waits for anybody here: there is nothing to tell with ticks from without. */
SCENARIO(slot_scenario) = {
    .name = "slots",
    .judged = TICKS(KILL) | TICKS(PAUSE),
    .prepare = open_slab,
    .setup = setup,
    .victim = first_slot_victim,
    .judge = judge,
    .teardown = teardown,
    .others = {{"another", LATE, other}, {"a third", LATE, other}},
};

SCENARIO(segment_scenario) = {
    .name = "segments",
    .judged = TICKS(KILL) | TICKS(PAUSE),
    .prepare = open_slab,
    .setup = setup,
    .victim = segment_victim,
    .judge = judge,
    .teardown = teardown,
    .others = {{"another", LATE, other}, {"a third", LATE, other}},
};
