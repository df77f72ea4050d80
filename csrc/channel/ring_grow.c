/* ring_grow.c - a ring that grows in place, and gives memory back; see ring.h.
 *
 * Writes `capacity`, under both locks, and `empties`, under head_lock. A kill leaves: during growth, a
 * file that is larger than its capacity says, which the next growth reserves again, and copies in
 * the upper half that nobody reads; during shrinking, memory that is not counted, until then too.
 */
#include <errno.h>
#include <string.h>

#include "base/points.h"
#include "base/status.h"
#include "channel/extent.h"
#include "channel/positions.h"
#include "channel/ring_view.h"
#include "platform/memory.h"

#define KEPT_IF_USED (UINT64_C(1) << 24) /* units: up to 256 MiB stay while they are in use */
#define EMPTIES_BEFORE_SHRINK 64 /* so many times empty, with smaller records, before that */

/* Copies the live units whose place differs under the larger capacity. */
static void
move_live(uint8_t *units, uint32_t from, uint32_t to, uint64_t old, uint64_t new)
{
    for (uint32_t p = from; p != to;) {
        uint64_t old_at = p & (old - 1), new_at = p & (new - 1);
        uint64_t n = to - p; /* modulo 2^32 */
        if (n > old - old_at) {
            n = old - old_at;
        }
        if (old_at != new_at) {
            memcpy(units + new_at * FMP_UNIT, units + old_at * FMP_UNIT, n * FMP_UNIT);
        }
        p += (uint32_t)n;
    }
}

static uint64_t
capacity_for(uint64_t units, uint64_t at_least)
{
    while (at_least < units && at_least < FMP_RING_LARGEST) {
        at_least *= 2;
    }
    return at_least >= units ? at_least : 0;
}

/* With both locks held. */
static int
grow_locked(struct fmp_ring *r, uint64_t old, uint64_t new)
{
    uint64_t offset = FMP_RING_DATA + old * FMP_UNIT, length = (new - old) * FMP_UNIT;
    int rc = fmp_memory_reserve(r->fd, offset, length);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = fmp_ring_map(r, &r->put, new);
    if (rc == -ENOMEM) { /* RLIMIT_AS: do without the other view, until it is needed again */
        fmp_ring_unmap(&r->take);
        rc = fmp_ring_map(r, &r->put, new);
    }
    if (rc != FMP_OK) {
        fmp_memory_release(r->fd, offset, length);
        return rc;
    }
    FMP_POINT("ring: to move");
    uint32_t head = units_of(atomic_load(&r->shm->head));
    uint32_t tail = units_of(atomic_load(&r->shm->tail));
    if (tail - head > old) {
        return FMP_CORRUPT;
    }
    move_live(r->put.units, head, tail, old, new);
    atomic_store(&r->shm->capacity, new);
    return FMP_OK;
}

int
fmp_ring_grow(struct fmp_ring *r, uint64_t units, struct fmp_wait *w)
{
    uint64_t old = atomic_load(&r->shm->capacity);
    if (!fmp_ring_valid_capacity(old)) {
        return FMP_CORRUPT;
    }
    uint64_t new = capacity_for(units, old);
    if (new == 0) {
        return FMP_TOO_BIG;
    }
    int rc = fmp_ring_lock_head(r, w);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = grow_locked(r, old, new);
    fmp_ring_unlock_head(r);
    return rc;
}

/* With both locks held and the ring empty. */
static void
give_back(struct fmp_ring *r, uint64_t old)
{
    if (old > FMP_RING_KEPT) {
        atomic_store(&r->shm->capacity, FMP_RING_KEPT);
        fmp_memory_release(r->fd, FMP_RING_DATA + FMP_RING_KEPT * FMP_UNIT,
                           (old - FMP_RING_KEPT) * FMP_UNIT);
    }
}

/* Takes tail_lock against the usual order, so only by trying. */
void
fmp_ring_shrink_now(struct fmp_ring *r, uint32_t taken)
{
    struct fmp_ring_shm *shm = r->shm;
    uint64_t old = atomic_load_explicit(&shm->capacity, memory_order_relaxed);
    bool extents = atomic_load_explicit(&shm->n_extents, memory_order_relaxed) != 0;
    /* What needs so much is likely to be followed by its like, for which these pages are warm. */
    shm->empties = taken > FMP_RING_KEPT || r->outside ? 0 : shm->empties + 1;
    bool unused = shm->empties >= EMPTIES_BEFORE_SHRINK;
    if (old <= KEPT_IF_USED && !unused && !(extents && r->outside)) {
        return;
    }
    struct fmp_wait now = {.budget_ns = 0};
    if (fmp_ring_lock_tail(r, &now) != FMP_OK) {
        return;
    }
    if (atomic_load(&shm->head) == atomic_load(&shm->tail)) {
        if (old > KEPT_IF_USED || unused) {
            give_back(r, old);
        }
        if (extents) {
            fmp_extents_trim(r, unused ? 0 : KEPT_IF_USED * FMP_UNIT);
        }
        shm->empties = unused ? 0 : shm->empties;
    }
    fmp_ring_unlock_tail(r);
}
