/* ring_cut.c - taking, or looking at, a record that there is no memory for; see ring.h.
 *
 * Reads through the descriptor, as mapping the ring may be what fails. Owns nothing and writes
 * nothing shared; a kill leaves the record where it is, as the commit is the caller's.
 */
#include "base/status.h"
#include "channel/positions.h"
#include "channel/ring_view.h"
#include "platform/memory.h"

/* copy_out() without a mapping. */
static int
read_out(struct fmp_ring *r, uint64_t capacity, uint64_t at, uint8_t *out, uint64_t size)
{
    uint64_t ring = capacity * FMP_UNIT;
    uint64_t before_end = size < ring - at ? size : ring - at;
    int rc = fmp_memory_read(r->fd, FMP_RING_DATA + at, out, before_end);
    if (rc == FMP_OK && before_end < size) {
        rc = fmp_memory_read(r->fd, FMP_RING_DATA, out + before_end, size - before_end);
    }
    return rc;
}

int
fmp_ring_read_cut(struct fmp_ring *r, struct fmp_buffer *out, struct fmp_wait *w, uint64_t *commit)
{
    struct fmp_ring_shm *shm = r->shm;
    uint64_t head = atomic_load(&shm->head), tail = atomic_load(&shm->tail), header;
    uint64_t live = (uint32_t)(units_of(tail) - units_of(head));
    uint64_t capacity = atomic_load(&shm->capacity);
    if (items_of(head) == items_of(tail)) {
        fmp_wait_on_word(w, fmp_low_half(&shm->tail), items_of(tail), &shm->takers);
        return FMP_AGAIN;
    }
    if (!fmp_ring_valid_capacity(capacity) || live > capacity) {
        return FMP_CORRUPT;
    }
    uint64_t at = byte_at(head, capacity);
    int rc = read_out(r, capacity, at, (uint8_t *)&header, sizeof(header));
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t span = fmp_record_span(fmp_record_length(header));
    if (span / FMP_UNIT > live) {
        return FMP_CORRUPT;
    }
    bool outside = (fmp_record_kind(header) & FMP_RECORD_OUTSIDE) != 0;
    out->cut = span > out->room || outside;
    out->size = span > out->room ? out->room : span;
    *commit = advance(head, span / FMP_UNIT, 1);
    return read_out(r, capacity, at, out->data, out->size);
}
