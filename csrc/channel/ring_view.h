/* ring_view.h - what ring.c needs of a ring's file; see ring.h for the layout. */
#ifndef FMP_CHANNEL_RING_VIEW_H
#define FMP_CHANNEL_RING_VIEW_H

#include "base/status.h"
#include "channel/ring.h"

#define FMP_RING_SMALLEST UINT64_C(256)      /* units: 4 KiB */
#define FMP_RING_LARGEST (UINT64_C(1) << 31) /* units: positions are modulo 2^32 */

/* Makes `v` cover `capacity` units, with its side's lock held. A capacity is not trusted: what lies
 * beyond the end of the file must not be touched. FMP_CORRUPT; -ENOMEM and the like. */
int fmp_ring_map(struct fmp_ring *r, struct fmp_ring_view *v, uint64_t capacity);
void fmp_ring_unmap(struct fmp_ring_view *v);
/* The same; without address space for both sides, the other's view is given up if its lock is
 * free. */
int fmp_ring_map_side(struct fmp_ring *r, struct fmp_ring_view *v, struct fmp_ring_view *other,
                      struct fmp_mutex_shm *others_lock, uint64_t capacity);

static inline bool
fmp_ring_valid_capacity(uint64_t capacity)
{
    return capacity >= FMP_RING_SMALLEST && capacity <= FMP_RING_LARGEST
        && (capacity & (capacity - 1)) == 0;
}

/* Makes `v` cover the ring as it is now. */
static inline int
fmp_ring_cover(struct fmp_ring *r, struct fmp_ring_view *v, struct fmp_ring_view *other,
               struct fmp_mutex_shm *others_lock, uint64_t *capacity)
{
    *capacity = atomic_load_explicit(&r->shm->capacity, memory_order_relaxed);
    if (!fmp_ring_valid_capacity(*capacity)) {
        return FMP_CORRUPT;
    }
    return *capacity <= v->backed ? FMP_OK : fmp_ring_map_side(r, v, other, others_lock, *capacity);
}

/* ring_grow.c. With tail_lock held: room for `units` live units in all. FMP_TOO_BIG, FMP_CORRUPT,
 * -ENOSPC and the like: nothing has changed. */
int fmp_ring_grow(struct fmp_ring *r, uint64_t units, struct fmp_wait *w);
#define FMP_RING_KEPT UINT64_C(65536) /* units: 1 MiB stay reserved in an empty ring */

/* With head_lock held and the ring empty, the last `taken` units having been taken at once: gives
 * memory back if there is more than its use asks for. */
void fmp_ring_shrink_now(struct fmp_ring *r, uint32_t taken);
static inline void
fmp_ring_shrink(struct fmp_ring *r, uint32_t taken)
{
    if (atomic_load_explicit(&r->shm->capacity, memory_order_relaxed) > FMP_RING_KEPT
        || atomic_load_explicit(&r->shm->n_extents, memory_order_relaxed) != 0) {
        fmp_ring_shrink_now(r, taken);
    }
}

/* ring.c: whoever sleeps for the ring looks again (invariant W). */
void fmp_ring_wake_everybody(struct fmp_ring *r);

#endif
