/* extent.c - extents: who may write to one, and when it is free again; see extent.h.
 *
 * Extent i lies at a place of its own in the ring's file, which is sparse: there is room for each to
 * grow, and no memory in it but what is reserved. The table in the ring's header page says, of each,
 *   reserved  how many bytes of it, from its begin, are surely backed by memory
 *   record    the number (the low half of a position) of the last record that referred to it
 *   pages     how much of that record lies in it
 * and `n_extents`, that those from this number on hold nothing. All are written under tail_lock only.
 * Nothing says whether an extent is in use: that follows from two things that cannot be stale.
 * It is in use
 *   - while a record that waits refers to it, that is, while head <= record < tail. The number is
 *     written before the commit of that record, when it equals tail; so until the commit, and if it
 *     never comes, the extent is free;
 *   - while the kernel knows a lease on it (platform/lease.c). A taker has its lease, or its copy, before
 *     it commits the take, and both under head_lock. Who looks for a free extent looks at head first,
 *     and asks for leases then. So there is no moment at which a taken extent seems free.
 * Only the taker of a record that waits comes by a lease, so what is found free under tail_lock stays
 * so until that is let go. Nobody but who holds it writes to an extent, and only to a free one: what a
 * view shows never changes but by its own process. The record carries the message's bytes in the
 * shared memory, so it does not matter whether its sender lives.
 *
 * A kill leaves: of a sender, an extent that is partly written, or written and named by a record that
 * does not exist: free (should another record get that number, in use until this is taken). Between
 * reserving memory and saying so, or the reverse when it is given back: memory that is not counted,
 * until the extent is used or the file goes. Of a taker, before the commit: the record waits for
 * another, who takes a lease of his own; after it: nothing, as leases go with their processes.
 *
 * Owns, in each process: a mapping of each extent that it copied to, touched under tail_lock, and one
 * of each that it copied from, under head_lock; kept, so that they stay warm. `mapped` is 0 while the
 * address changes, for forks.
 */
#include "channel/extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/layout.h"
#include "base/points.h"
#include "base/status.h"
#include "channel/positions.h"
#include "platform/copy.h"
#include "platform/memory.h"

#define LOOKS 8 /* so many leased ones are met before another is made */

/* --- which is free --------------------------------------------------------------------------- */

/* Does a record that waits refer to it? */
static bool
is_waited_for(struct fmp_ring *r, unsigned i)
{
    if (atomic_load(&r->shm->extents[i].reserved) == 0) {
        return false; /* it has never been written to, or holds nothing any more */
    }
    uint32_t record = atomic_load(&r->shm->extents[i].record);
    uint32_t head = items_of(atomic_load(&r->shm->head));
    return record - head < items_of(atomic_load(&r->shm->tail)) - head;
}

static unsigned
known_extents(struct fmp_ring *r)
{
    unsigned known = atomic_load(&r->shm->n_extents);
    return known < FMP_EXTENTS ? known : FMP_EXTENTS;
}

uint64_t
fmp_extents_waiting(struct fmp_ring *r)
{
    uint64_t pages = 0;
    for (unsigned i = 0, known = known_extents(r); i < known; i++) {
        pages += is_waited_for(r, i) ? atomic_load(&r->shm->extents[i].pages) : 0;
    }
    return pages * FMP_PAGE;
}

/* Asks the kernel. The order of the two looks matters: see above. */
static bool
is_free(struct fmp_ring *r, unsigned i)
{
    return !is_waited_for(r, i) && !fmp_lease_exists(r->fd, fmp_extent_begin(i));
}

/* How badly an extent suits: a large one is best used for its like, a small one has to grow. */
static uint64_t
cost(uint64_t reserved, uint64_t length)
{
    if (reserved < length) {
        return FMP_EXTENT_SPAN + length - reserved;
    }
    return reserved / 4 <= length ? reserved - length : UINT64_MAX;
}

/* The one that suits best, but for `leased`, among `among`; or -1. */
static int
best_of(struct fmp_ring *r, unsigned among, uint64_t length, const bool *leased)
{
    int best = -1;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < among; i++) {
        uint64_t reserved = atomic_load(&r->shm->extents[i].reserved);
        uint64_t badness = cost(reserved, length);
        if (badness < least && !leased[i] && !is_waited_for(r, i)) {
            best = (int)i;
            least = badness;
        }
    }
    return best;
}

/* A free extent, the best for that length; or -1. */
static int
choose(struct fmp_ring *r, uint64_t length)
{
    bool leased[FMP_EXTENTS] = {false};
    unsigned known = known_extents(r);
    for (int looks = 0; looks < LOOKS; looks++) {
        int best = best_of(r, known, length, leased);
        if (best < 0) {
            break;
        }
        if (is_free(r, (unsigned)best)) {
            return best;
        }
        leased[best] = true;
    }
    for (unsigned i = 0; i < known; i++) { /* many are leased: one that holds nothing, then */
        leased[i] = leased[i] || atomic_load(&r->shm->extents[i].reserved) != 0;
    }
    int empty = best_of(r, known, length, leased);
    empty = empty < 0 && known < FMP_EXTENTS ? (int)known : empty;
    return empty >= 0 && is_free(r, (unsigned)empty) ? empty : -1;
}

/* --- memory and mappings --------------------------------------------------------------------- */

void
fmp_extents_trim(struct fmp_ring *r, uint64_t keep)
{
    struct fmp_ring_shm *shm = r->shm;
    uint64_t total = 0;
    uint32_t used = 0;
    for (unsigned i = 0; i < FMP_EXTENTS; i++) {
        total += atomic_load(&shm->extents[i].reserved);
    }
    for (unsigned i = 0; i < FMP_EXTENTS; i++) {
        uint64_t reserved = atomic_load(&shm->extents[i].reserved);
        if (reserved != 0 && total > keep && is_free(r, i)) {
            atomic_store(&shm->extents[i].reserved, 0); /* first: what is said to be there is */
            FMP_POINT("extent: to give back");
            fmp_memory_release(r->fd, fmp_extent_begin(i), reserved);
            total -= reserved;
        }
        else if (reserved != 0) {
            used = i + 1;
        }
    }
    atomic_store(&shm->n_extents, used);
}

static void
unmap(struct fmp_extent_view *v)
{
    uint64_t mapped = v->mapped;
    if (mapped != 0) {
        v->mapped = 0;
        atomic_signal_fence(memory_order_seq_cst);
        fmp_memory_unmap(v->bytes, mapped);
    }
}

static void
unmap_all(struct fmp_extent_view **views)
{
    for (unsigned i = 0; *views != NULL && i < FMP_EXTENTS; i++) {
        unmap(&(*views)[i]);
    }
    free(*views);
    *views = NULL;
}

void
fmp_extents_close(struct fmp_ring *r)
{
    unmap_all(&r->put_extents);
    unmap_all(&r->take_extents);
}

/* Maps an extent of which `length` bytes are reserved, and, as the table is not trusted, are within the
 * file; one of `views` is it then. */
static int
map(struct fmp_ring *r, struct fmp_extent_view **views, uint64_t i, uint64_t length)
{
    if (*views == NULL) {
        *views = calloc(FMP_EXTENTS, sizeof(**views));
    }
    if (*views == NULL) {
        return -ENOMEM;
    }
    struct fmp_extent_view *v = &(*views)[i];
    if (length <= v->mapped) {
        return FMP_OK;
    }
    int64_t size = fmp_memory_size(r->fd);
    if (size < 0 || (uint64_t)size < fmp_extent_begin(i) + length) {
        return size < 0 ? (int)size : FMP_CORRUPT;
    }
    void *address;
    unmap(v);
    int rc = fmp_memory_map(r->fd, fmp_extent_begin(i), length, &address);
    if (rc == FMP_OK) {
        (void)fmp_memory_warm(address, length); /* costs time alone: it is touched in any case */
        v->bytes = address;
        atomic_signal_fence(memory_order_seq_cst);
        v->mapped = length;
    }
    return rc;
}

/* --- writing --------------------------------------------------------------------------------- */

/* Through the descriptor: memory that the file does not have yet is made by that, in one pass, where
 * reserving it, mapping it and copying would be three. */
static int
fill(struct fmp_ring *r, unsigned i, const struct fmp_batch *batch, uint64_t length)
{
    struct fmp_extent_shm *e = &r->shm->extents[i];
    uint64_t reserved = atomic_load(&e->reserved), begin = fmp_extent_begin(i), at = begin;
    if (i >= atomic_load(&r->shm->n_extents)) {
        atomic_store(&r->shm->n_extents, i + 1);
    }
    int rc = FMP_OK;
    for (unsigned part = batch->n_inside; part < batch->n_parts && rc == FMP_OK; part++) {
        rc = fmp_memory_fill(r->fd, at, batch->parts[part].data, batch->parts[part].size);
        at += batch->parts[part].size;
    }
    if (rc == FMP_OK && at < begin + length) { /* the rest of the page makes the file so long */
        rc = fmp_memory_reserve(r->fd, at, begin + length - at);
    }
    FMP_POINT("extent: filled");
    if (rc == FMP_OK && reserved < length) {
        atomic_store(&e->reserved, length);
    }
    else if (reserved < length) {
        fmp_memory_release(r->fd, begin + reserved, length - reserved);
    }
    return rc;
}

/* Through the mapping: faster where the memory is there. */
static int
copy_in(struct fmp_ring *r, unsigned i, const struct fmp_batch *batch, uint64_t length)
{
    int rc = map(r, &r->put_extents, i, length);
    if (rc != FMP_OK) {
        return rc;
    }
    uint8_t *at = r->put_extents[i].bytes;
    FMP_POINT("extent: to copy");
    for (unsigned part = batch->n_inside; part < batch->n_parts; part++) {
        fmp_copy(at, batch->parts[part].data, batch->parts[part].size);
        at += batch->parts[part].size;
    }
    return FMP_OK;
}

/* A free extent with the batch's outside parts in it; or -1. */
static int
place(struct fmp_ring *r, const struct fmp_batch *batch, uint64_t length)
{
    int i = choose(r, length);
    if (i < 0) {
        return -1;
    }
    bool is_backed = length <= atomic_load(&r->shm->extents[i].reserved);
    if (is_backed && copy_in(r, (unsigned)i, batch, length) == FMP_OK) {
        return i;
    }
    return fill(r, (unsigned)i, batch, length) == FMP_OK ? i : -1; /* RLIMIT_AS: no mapping */
}

bool
fmp_extent_write(struct fmp_ring *r, const struct fmp_batch *batch, struct fmp_extent_ref *ref)
{
    uint64_t length = fmp_round_up(batch->outside, FMP_PAGE);
    if (length > FMP_EXTENT_SPAN || fmp_memory_is_limited()) {
        return false;
    }
    int i = place(r, batch, length);
    if (i < 0) { /* perhaps there is memory in others */
        fmp_extents_trim(r, 0);
        i = place(r, batch, length);
    }
    if (i < 0) {
        return false;
    }
    atomic_store(&r->shm->extents[i].pages, (uint32_t)(length / FMP_PAGE));
    atomic_store(&r->shm->extents[i].record, items_of(atomic_load(&r->shm->tail)));
    FMP_POINT("extent: written");
    *ref = (struct fmp_extent_ref){(uint64_t)i, batch->outside};
    return true;
}

/* --- reading --------------------------------------------------------------------------------- */

int
fmp_extent_check(struct fmp_ring *r, const struct fmp_extent_ref *ref)
{
    if (ref->number >= FMP_EXTENTS || ref->length == 0 || ref->length > FMP_EXTENT_SPAN
        || ref->length > atomic_load(&r->shm->extents[ref->number].reserved)) {
        return FMP_CORRUPT;
    }
    int64_t size = fmp_memory_size(r->fd);
    if (size < 0) {
        return (int)size;
    }
    return fmp_extent_begin(ref->number) + ref->length <= (uint64_t)size ? FMP_OK : FMP_CORRUPT;
}

int
fmp_extent_lease(struct fmp_ring *r, const struct fmp_extent_ref *ref, struct fmp_lease *out)
{
    int rc = fmp_lease_take(r->fd, fmp_extent_begin(ref->number), ref->length, out);
    FMP_POINT("extent: leased");
    return rc == FMP_OK ? FMP_OK : FMP_AGAIN;
}

int
fmp_extent_copy(struct fmp_ring *r, const struct fmp_extent_ref *ref, void *out)
{
    int rc = map(r, &r->take_extents, ref->number, fmp_round_up(ref->length, FMP_PAGE));
    if (rc != FMP_OK) { /* RLIMIT_AS */
        return fmp_memory_read(r->fd, fmp_extent_begin(ref->number), out, ref->length);
    }
    memcpy(out, r->take_extents[ref->number].bytes, ref->length);
    return FMP_OK;
}
