/* ring_victim.c - see ring_victim.h. Owns the memory of the batches, and each victim's mapping. */
#include "ring_victim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RECORDS_AT_MOST 4
#define LONGEST_RECORD (96 * 1024)

static const struct field ring_fields[] = {
    FIELD(struct fmp_ring_shm, tail),
    FIELD(struct fmp_ring_shm, head),
    FIELD(struct fmp_ring_shm, capacity),
    FIELD(struct fmp_ring_shm, seen_head),
    FIELD(struct fmp_ring_shm, seen_tail),
    FIELD(struct fmp_ring_shm, max_items),
    FIELD(struct fmp_ring_shm, max_units),
    FIELD(struct fmp_ring_shm, empties),
    FIELD(struct fmp_ring_shm, takers),
    FIELD(struct fmp_ring_shm, putters),
    FIELD(struct fmp_ring_shm, outsized),
    FIELD(struct fmp_ring_shm, n_extents),
    FIELD(struct fmp_ring_shm, extents[0].reserved),
    FIELD(struct fmp_ring_shm, extents[0].record),
    {offsetof(struct fmp_ring_shm, extra), 4},
    {offsetof(struct fmp_ring_shm, extra) + 4, 4},
    {offsetof(struct fmp_ring_shm, extra) + 8, 4},
    FIELD(struct fmp_header_shm, magic),
    FIELD(struct fmp_header_shm, version),
    FIELD(struct fmp_header_shm, kind),
    FIELD(struct fmp_header_shm, size),
    {offsetof(struct fmp_header_shm, id), 8},
    /* glibc's mutex: lock, count, owner, users, kind, then pointers */
    {offsetof(struct fmp_ring_shm, tail_lock), 4},
    {offsetof(struct fmp_ring_shm, tail_lock) + 4, 4},
    {offsetof(struct fmp_ring_shm, tail_lock) + 8, 4},
    {offsetof(struct fmp_ring_shm, tail_lock) + 16, 4},
    {offsetof(struct fmp_ring_shm, tail_lock) + 24, 8},
    {offsetof(struct fmp_ring_shm, head_lock), 4},
    {offsetof(struct fmp_ring_shm, head_lock) + 8, 4},
    {offsetof(struct fmp_ring_shm, head_lock) + 16, 4},
    {offsetof(struct fmp_ring_shm, head_lock) + 32, 8},
    {FMP_RING_DATA, 8}, /* the first records' headers */
    {FMP_RING_DATA + FMP_UNIT, 8},
    {FMP_RING_DATA + 2 * FMP_UNIT, 8},
};

static const struct field ring_spared[] = {
    {offsetof(struct fmp_ring_shm, tail_lock), sizeof(struct fmp_mutex_shm)},
    {offsetof(struct fmp_ring_shm, head_lock), sizeof(struct fmp_mutex_shm)},
};

struct victim
ring_victim(const struct fmp_ring *r)
{
    struct victim v = {
        .size = FMP_RING_DATA + DAMAGED_UNITS * FMP_UNIT / 2, /* the first capacity: in the file */
        .fields = ring_fields,
        .n_fields = sizeof ring_fields / sizeof ring_fields[0],
        .spared = ring_spared,
        .n_spared = 2,
    };
    v.base = mmap(NULL, v.size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (v.base == MAP_FAILED) {
        abort();
    }
    return v;
}

void
victim_close(struct victim *v)
{
    munmap(v->base, v->size);
    v->base = NULL;
}

const struct fmp_batch *
take_batch_of_records(struct input *in)
{
    static uint8_t body[LONGEST_RECORD + FMP_UNIT];
    static uint64_t headers[RECORDS_AT_MOST];
    static struct fmp_part parts[2 * RECORDS_AT_MOST];
    static struct fmp_batch batch;
    unsigned n = 1 + take_below(in, RECORDS_AT_MOST);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t length = take(in, 1);
        if (length >= 200) { /* short ones come more often */
            length = (take(in, 1) << (length - 200) / 6) % LONGEST_RECORD;
        }
        uint64_t span = fmp_record_span(length);
        headers[i] = fmp_record_header(length, (uint8_t)(1 + length % 12));
        memset(body, (int)length, length < 64 ? length : 64);
        parts[2 * i] = (struct fmp_part){&headers[i], sizeof headers[i]};
        parts[2 * i + 1] = (struct fmp_part){body, span - sizeof headers[i]};
        bytes += span;
    }
    batch = (struct fmp_batch){.parts = parts, .n_parts = 2 * n, .bytes = bytes, .items = n};
    return &batch;
}

void
look_at_records(const struct fmp_buffer *taken)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    while (fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length)) {
        look_at(data, length);
    }
}
