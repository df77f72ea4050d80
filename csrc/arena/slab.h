/* slab.h - shared slots: where the words of locks and the bytes of Values and Arrays lie.
 *
 * Small slots are cut from a slab segment by its creator; a large one is a segment of its own.
 * Slots are zeroed and aligned to a cache line. A slot is used again only when it cannot be
 * known to anybody else: no fork and no fmp_slot_share() since it was made. Otherwise it stays
 * unused until its segment goes.
 */
#ifndef FMP_ARENA_SLAB_H
#define FMP_ARENA_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena/segment.h"

struct fmp_slot {
    struct fmp_segment *segment; /* NULL: no slot */
    size_t offset;
    size_t size;
    uint32_t epoch; /* of forks, when it was made */
    bool shared;
};

/* -ENOMEM, -ENOSPC, -EFBIG, -EMFILE ... on a full machine. `size` may be 0. */
int fmp_slot_alloc(size_t size, struct fmp_slot *out);

/* A slot that another process made: `fd` is taken over. FMP_CORRUPT when offset and size do not
 * lie inside the segment. */
int fmp_slot_attach(int fd, size_t offset, size_t size, struct fmp_slot *out);

/* The descriptor of the slot's segment, to be passed to another process; from now on the slot is
 * never used again. */
int fmp_slot_share(struct fmp_slot *slot);

void fmp_slot_free(struct fmp_slot *slot);

static inline void *
fmp_slot_at(const struct fmp_slot *slot)
{
    return fmp_segment_at(slot->segment, slot->offset);
}

#endif
