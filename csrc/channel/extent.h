/* extent.h - where the large buffers of messages lie: out of a ring's line, in its file.
 *
 * A batch says which of its parts may lie outside (struct fmp_batch). If they are large enough and an
 * extent can be had, they are copied there; what stays in the ring is the record without them, its
 * kind marked FMP_RECORD_OUTSIDE, with a struct fmp_extent_ref behind it. Who takes the record gets
 * the extent as a private view, under a lease (platform/lease.h), and copies nothing; or a copy, if
 * it is marked FMP_RECORD_COPIED too: text, bytes and pickles end up in memory of their own anyway, and
 * an extent needs no more memory than they have bytes, where a ring would have to double. Where there
 * is no extent, or no lease, records are copied whole, as small ones are. See extent.c for the
 * protocol.
 */
#ifndef FMP_CHANNEL_EXTENT_H
#define FMP_CHANNEL_EXTENT_H

#include "channel/ring.h"

#ifndef FMP_EXTENT_LEAST /* the stepper's victims take longer over a byte */
/* Bytes; less is copied in the time that a lease takes. */
#define FMP_EXTENT_LEAST (UINT64_C(1) << 20)
#endif
#define FMP_EXTENT_SPAN (UINT64_C(1) << 36) /* bytes of the file that each may grow to */

/* Behind an inside part, in a unit of its own. */
struct fmp_extent_ref {
    uint64_t number;
    uint64_t length;
};
_Static_assert(sizeof(struct fmp_extent_ref) == FMP_UNIT, "one unit");

/* Where an extent begins in the file: behind all that a ring can grow to. */
static inline uint64_t
fmp_extent_begin(uint64_t number)
{
    return (number + 1) * FMP_EXTENT_SPAN;
}

/* With tail_lock held: copies the batch's outside parts to an extent, which is the next record's if
 * that is committed. False: there is none to be had. */
bool fmp_extent_write(struct fmp_ring *r, const struct fmp_batch *batch,
                      struct fmp_extent_ref *ref);

/* FMP_CORRUPT: there is no such extent. */
int fmp_extent_check(struct fmp_ring *r, const struct fmp_extent_ref *ref);
/* With head_lock held, `ref` being of the first record, and checked: leases the extent. FMP_AGAIN: no
 * lease can be had; copy. */
int fmp_extent_lease(struct fmp_ring *r, const struct fmp_extent_ref *ref, struct fmp_lease *out);
/* The same, but copies ref->length bytes out. */
int fmp_extent_copy(struct fmp_ring *r, const struct fmp_extent_ref *ref, void *out);

/* How much of the records that wait lies in extents: bytes, to whole pages. */
uint64_t fmp_extents_waiting(struct fmp_ring *r);

/* With tail_lock held: gives memory back, of extents that nobody uses, until no more than `keep`
 * bytes are reserved. */
void fmp_extents_trim(struct fmp_ring *r, uint64_t keep);

/* This process's mappings go. Nobody may be inside. */
void fmp_extents_close(struct fmp_ring *r);

#endif
