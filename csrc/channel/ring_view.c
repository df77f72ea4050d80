/* ring_view.c - a ring's file: made, attached, and mapped as far as each side needs; see ring.h.
 *
 * Owns the mappings of this process: the header page, for the handle's life, and one view of the
 * units a side, touched under that side's lock only. A view's `mapped` is 0 while its address is
 * changed, so that a fork in between finds it consistent. A kill leaves nothing: mappings go with
 * their process.
 */
#include "channel/ring_view.h"

#include <errno.h>

#include "base/points.h"
#include "base/status.h"
#include "channel/extent.h"
#include "platform/fd.h"
#include "platform/memory.h"

#define SMALLEST_VIEW UINT64_C(8192) /* units mapped at least: growth seldom remaps */

/* --- create, attach, map -------------------------------------------------------------------- */

static int
open_ring(struct fmp_ring *r, int fd)
{
    void *page;
    int rc = fmp_memory_map(fd, 0, FMP_RING_DATA, &page);
    if (rc < 0) {
        return rc;
    }
    *r = (struct fmp_ring){.shm = page, .fd = fd};
    return FMP_OK;
}

int
fmp_ring_create(struct fmp_ring *r, uint32_t max_items, uint64_t max_bytes)
{
    uint64_t size = FMP_RING_DATA + FMP_RING_SMALLEST * FMP_UNIT;
    int fd = fmp_memory_create(size);
    if (fd < 0) {
        return fd;
    }
    int rc = open_ring(r, fd);
    if (rc != FMP_OK) {
        fmp_fd_close(fd);
        return rc;
    }
    struct fmp_ring_shm *shm = r->shm;
    shm->header = (struct fmp_header_shm){
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = FMP_KIND_RING, .size = size};
    fmp_memory_random(shm->header.id, sizeof(shm->header.id));
    shm->max_items = max_items;
    shm->max_units = (uint32_t)(max_bytes / FMP_UNIT);
    atomic_store(&shm->capacity, FMP_RING_SMALLEST);
    rc = fmp_mutex_init(&shm->tail_lock);
    if (rc == FMP_OK) {
        rc = fmp_mutex_init(&shm->head_lock);
    }
    if (rc != FMP_OK) {
        fmp_ring_close(r);
    }
    return rc;
}

int
fmp_ring_attach(struct fmp_ring *r, int fd)
{
    uint64_t size = 0;
    int rc = fmp_memory_inspect(fd, &size);
    if (rc == FMP_OK) {
        rc = size < FMP_RING_DATA ? FMP_CORRUPT : open_ring(r, fd);
    }
    if (rc != FMP_OK) {
        fmp_fd_close(fd);
        return rc;
    }
    if (!fmp_header_check(&r->shm->header, FMP_KIND_RING, size)) {
        fmp_ring_close(r);
        return FMP_CORRUPT;
    }
    return FMP_OK;
}

void
fmp_ring_unmap(struct fmp_ring_view *v)
{
    uint64_t units = v->mapped;
    if (units != 0) {
        v->mapped = v->backed = 0;
        atomic_signal_fence(memory_order_seq_cst);
        FMP_POINT("ring: view given up");
        fmp_memory_unmap(v->units, units * FMP_UNIT);
    }
}

/* What a view keeps alive is the whole file: all else in it should not stay because of that. */
static void
give_extents_back(struct fmp_ring *r)
{
    struct fmp_wait now = {.budget_ns = 0};
    if (atomic_load(&r->shm->n_extents) != 0 && fmp_ring_lock_tail(r, &now) == FMP_OK) {
        fmp_extents_trim(r, 0);
        fmp_ring_unlock_tail(r);
    }
    fmp_extents_close(r);
    fmp_lease_forget(r->fd);
}

void
fmp_ring_close(struct fmp_ring *r)
{
    if (r->shm == NULL) {
        return;
    }
    give_extents_back(r);
    fmp_ring_unmap(&r->put);
    fmp_ring_unmap(&r->take);
    fmp_memory_unmap(r->shm, FMP_RING_DATA);
    fmp_fd_close(r->fd);
    r->shm = NULL;
    r->fd = -1;
}

/* Makes `v` longer. */
static int
map_more(struct fmp_ring *r, struct fmp_ring_view *v, uint64_t capacity)
{
    uint64_t units = capacity < SMALLEST_VIEW ? SMALLEST_VIEW : capacity;
    void *address;
    int rc = fmp_memory_map(r->fd, FMP_RING_DATA, units * FMP_UNIT, &address);
    if (rc < 0) {
        return rc;
    }
    uint64_t old_units = v->mapped;
    void *old = v->units;
    v->mapped = v->backed = 0;
    atomic_signal_fence(memory_order_seq_cst);
    v->units = address;
    atomic_signal_fence(memory_order_seq_cst);
    v->mapped = units;
    if (old_units != 0) {
        fmp_memory_unmap(old, old_units * FMP_UNIT);
    }
    return FMP_OK;
}

int
fmp_ring_map(struct fmp_ring *r, struct fmp_ring_view *v, uint64_t capacity)
{
    if (capacity <= v->backed) {
        return FMP_OK;
    }
    int64_t size = fmp_memory_size(r->fd);
    if (size < 0) {
        return (int)size;
    }
    if ((uint64_t)size < FMP_RING_DATA + capacity * FMP_UNIT) {
        return FMP_CORRUPT;
    }
    int rc = capacity <= v->mapped ? FMP_OK : map_more(r, v, capacity);
    if (rc == FMP_OK) {
        v->backed = capacity;
    }
    return rc;
}

int
fmp_ring_map_side(struct fmp_ring *r, struct fmp_ring_view *v, struct fmp_ring_view *other,
                  struct fmp_mutex_shm *others_lock, uint64_t capacity)
{
    int rc = fmp_ring_map(r, v, capacity);
    if (rc != -ENOMEM) {
        return rc;
    }
    /* RLIMIT_AS: let go of the other side's view until it is needed again. Its lock is only tried,
     * as this may be against the usual order. */
    int locked = fmp_mutex_lock(others_lock, 0);
    if (locked == FMP_OK || locked == FMP_OWNER_DIED) {
        fmp_ring_unmap(other);
        fmp_mutex_unlock(others_lock);
        if (locked == FMP_OWNER_DIED) {
            fmp_ring_wake_everybody(r);
        }
        rc = fmp_ring_map(r, v, capacity);
    }
    return rc;
}
