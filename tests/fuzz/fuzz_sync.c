/* fuzz_sync.c - the user's locks (sync/): Lock, Semaphore, Condition, Event and Barrier in a page
 * that is damaged. What it says of other processes is made up, so recovery from the dead is in it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "fuzz.h"
#include "sync/barrier.h"
#include "sync/condition.h"
#include "sync/event.h"
#include "sync/semaphore.h"
#include "sync/userlock.h"

#define OPERATIONS 200
#define CALLERS 4 /* calls that are under way at once */
#define MOST_PARTIES 4
#define MAPPED ((size_t)8192)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct page {
    struct fmp_condition_shm condition;
    struct fmp_semaphore_shm semaphore;
    struct fmp_userlock_shm lock;
    struct fmp_event_shm event;
    struct fmp_barrier_shm barrier; /* last: its places follow, up to the end of the mapping */
};
#define PAGE_SIZE(parties)                                                                         \
    (offsetof(struct page, barrier) + sizeof(struct fmp_barrier_shm)                               \
     + (2 * (parties) + 6) * sizeof(struct fmp_barrier_place_shm))

static const struct field page_fields[] = {
    {offsetof(struct page, barrier), 4}, /* the mutex: lock, owner, kind */
    {offsetof(struct page, barrier) + 8, 4},
    {offsetof(struct page, barrier) + 16, 4},
    FIELD(struct page, barrier.parties),
    FIELD(struct page, barrier.state),
    FIELD(struct page, barrier.count),
    FIELD(struct page, barrier.left_early),
    FIELD(struct page, barrier.changes),
    FIELD(struct page, barrier.starving),
    FIELD(struct page, barrier.place[0].who),
    FIELD(struct page, barrier.place[0].outcome),
    FIELD(struct page, barrier.place[0].index),
    FIELD(struct page, barrier.place[0].beat),
    FIELD(struct page, barrier.place[1].who),
    FIELD(struct page, barrier.place[1].outcome),
    FIELD(struct page, condition.arrivals),
    FIELD(struct page, condition.crowd),
    FIELD(struct page, condition.generation),
    FIELD(struct page, condition.sleepers),
    FIELD(struct page, condition.word[0]),
    FIELD(struct page, condition.word[1]),
    FIELD(struct page, condition.who[0]),
    FIELD(struct page, condition.who[1]),
    FIELD(struct page, semaphore.word),
    FIELD(struct page, semaphore.maximum),
    FIELD(struct page, semaphore.place[0].who),
    FIELD(struct page, semaphore.place[0].state),
    FIELD(struct page, semaphore.place[1].who),
    FIELD(struct page, semaphore.place[1].state),
    FIELD(struct page, lock.word),
    FIELD(struct page, lock.sleepers),
    FIELD(struct page, event.word),
};

static const struct field page_spared[] = {FIELD(struct page, barrier.mutex)};

struct callers {
    struct fmp_barrier barrier;
    struct fmp_party parties[CALLERS];
    bool inside[CALLERS];
    struct fmp_condition_place places[CALLERS];
    bool waits[CALLERS];
    int semaphore_place;
};

static void
use_barrier(struct callers *c, int who, struct input *in, struct fmp_wait *w)
{
    struct fmp_party *party = &c->parties[who];
    int rc;
    if (!c->inside[who]) {
        *party = (struct fmp_party){.place = -1};
        rc = fmp_barrier_arrive(&c->barrier, party, take_below(in, 2), w);
        check_result(rc);
        fmp_barrier_tick(&c->barrier, party);
        if (rc == FMP_OK) {
            c->inside[who] = party->place >= 0;
        }
        else if (rc == FMP_AGAIN) {
            fmp_barrier_turn_away(&c->barrier, party);
        }
        return;
    }
    switch (take_below(in, 6)) {
    case 0:
        rc = fmp_barrier_expire(&c->barrier, party, w);
        break;
    case 1:
        rc = fmp_barrier_leave(&c->barrier, party, w);
        break;
    case 2:
        fmp_barrier_tick(&c->barrier, party);
        rc = FMP_AGAIN;
        break;
    case 3:
        rc = party->acts ? fmp_barrier_finish(&c->barrier, party, take_below(in, 2), w) : FMP_AGAIN;
        break;
    default:
        rc = fmp_barrier_try(&c->barrier, party, w);
        break;
    }
    check_result(rc);
    c->inside[who] = rc != FMP_OK && rc != FMP_BROKEN;
}

static void
use_condition(struct callers *c, struct page *p, int who, struct input *in, struct fmp_wait *w)
{
    struct fmp_userlock_shm *lock = take_below(in, 2) ? &p->lock : NULL;
    struct fmp_condition_place *place = &c->places[who];
    switch (take_below(in, 6)) {
    case 0:
        fmp_condition_notify(&p->condition, take(in, 1), lock);
        break;
    case 1:
        fmp_condition_notify(&p->condition, UINT64_MAX, lock);
        break;
    case 2:
        fmp_condition_tick(&p->condition, lock);
        (void)fmp_condition_waiting(&p->condition);
        break;
    default:
        if (!c->waits[who]) {
            fmp_condition_arrive(&p->condition, place, lock);
            c->waits[who] = true;
        }
        else if (fmp_condition_try(&p->condition, place, w) == FMP_OK || take_below(in, 2)) {
            (void)fmp_condition_leave(&p->condition, place, lock);
            c->waits[who] = false;
        }
        break;
    }
}

static void
use_semaphore(struct callers *c, struct page *p, struct input *in, struct fmp_wait *w)
{
    struct fmp_semaphore_shm *s = &p->semaphore;
    uint32_t dead = 0;
    switch (take_below(in, 6)) {
    case 0:
        check_result(fmp_semaphore_try(s, w));
        break;
    case 1:
        check_result(fmp_semaphore_release(s));
        break;
    case 2:
        (void)fmp_semaphore_recover(s, &dead);
        break;
    case 3:
        if (c->semaphore_place >= 0) {
            fmp_semaphore_disclaim(s, c->semaphore_place);
            c->semaphore_place = -1;
        }
        break;
    default:
        if (c->semaphore_place < 0) {
            c->semaphore_place = fmp_semaphore_claim(s, &dead);
        }
        if (c->semaphore_place >= 0) {
            check_result(take_below(in, 2) ? fmp_semaphore_try_scoped(s, c->semaphore_place, w)
                                           : fmp_semaphore_release_scoped(s, c->semaphore_place));
        }
        break;
    }
}

static void
use_lock_and_event(struct page *p, struct input *in, struct fmp_wait *w)
{
    uint64_t tag = fmp_userlock_tag(take_below(in, 2));
    uint32_t dead = 0;
    switch (take_below(in, 6)) {
    case 0:
        check_result(fmp_userlock_try(&p->lock, tag, w));
        break;
    case 1:
        check_result(fmp_userlock_recover(&p->lock, tag, &dead));
        break;
    case 2:
        check_result(fmp_userlock_release(&p->lock));
        break;
    case 3:
        fmp_event_set(&p->event);
        break;
    case 4:
        fmp_event_clear(&p->event);
        break;
    default:
        check_result(fmp_event_try(&p->event, (uint32_t)take(in, 1), w));
        break;
    }
}

static void
operate(struct callers *c, struct page *p, struct input *in, const struct victim *v)
{
    struct fmp_wait w = {.budget_ns = take_below(in, 2), .fd = -1};
    int who = (int)take_below(in, CALLERS);
    switch (take_below(in, 9)) {
    case 0:
    case 1:
        use_barrier(c, who, in, &w);
        break;
    case 2:
        check_result(take_below(in, 2) ? fmp_barrier_reset(&c->barrier, &w)
                                       : fmp_barrier_abort(&c->barrier, &w));
        break;
    case 3:
    case 4:
        use_condition(c, p, who, in, &w);
        break;
    case 5:
        use_semaphore(c, p, in, &w);
        break;
    case 6:
        use_lock_and_event(p, in, &w);
        break;
    case 7:
        damage_later(in, v);
        break;
    default:
        damage(in, v);
        break;
    }
}

/* At the end of a mapping, so that what lies beyond it is inaccessible. */
static struct page *
new_page(size_t size)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("page", MFD_CLOEXEC);
        if (ftruncate(fd, MAPPED) < 0) {
            abort();
        }
    }
    uint8_t *base = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        abort();
    }
    memset(base, 0, MAPPED);
    return (struct page *)(base + MAPPED - size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct callers c = {.semaphore_place = -1};
    struct fmp_barrier made;
    uint32_t parties = 1 + take_below(&in, MOST_PARTIES);
    struct page *p = new_page(PAGE_SIZE(parties));
    if (fmp_barrier_create(&made, &p->barrier, parties) != FMP_OK
        || fmp_barrier_attach(&c.barrier, &p->barrier, fmp_barrier_size(parties)) != FMP_OK) {
        abort();
    }
    p->semaphore.maximum = 3;
    atomic_store(&p->semaphore.word, 1);
    struct victim v = {.base = (uint8_t *)p,
                       .size = PAGE_SIZE(parties),
                       .fields = page_fields,
                       .n_fields = sizeof page_fields / sizeof page_fields[0],
                       .spared = page_spared,
                       .n_spared = 1};
    for (int i = 0; i < OPERATIONS && in.left > 0; i++) {
        operate(&c, p, &in, &v);
    }
    damage_never();
    munmap((uint8_t *)p + PAGE_SIZE(parties) - MAPPED, MAPPED);
    return 0;
}
