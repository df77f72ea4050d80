/* ring.h - records in a ring of shared memory that grows; the storage under queues and pipes.
 *
 * A position is one 64 bit word, {units : 32, items : 32}: how many 16 byte units and how many
 * records have ever passed, both modulo 2^32. The put side commits by one store of `tail`, the
 * take side by one store of `head`; what lies past a commit is never read, so a record is absent
 * or whole (invariant C). The low half counts records and is what sleepers compare. Counts are
 * differences of positions, so they are exact and cannot go stale (invariant R).
 *
 * The unit at position p lies at index p % capacity. Capacity is a power of two and doubles in
 * place: with both locks held, the live units whose index differs under the new capacity are
 * copied into the new upper half, which nobody reads yet; then one store of `capacity` commits.
 *
 * A record is a 64 bit header (length, kind) and its bytes, padded to whole units. A batch is one
 * or more records back to back, as they lie in the ring: what is put and taken at a time.
 *
 * Who writes what:
 *   tail, seen_head    under tail_lock       head, seen_tail    under head_lock
 *   outsized, extents  under tail_lock       empties            under head_lock
 *   capacity           under both locks (tail_lock first)
 *   takers, putters    by those who sleep    limits, header     by the creator, once
 */
#ifndef FMP_CHANNEL_RING_H
#define FMP_CHANNEL_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/layout.h"
#include "platform/lease.h"
#include "sync/eventcount.h"
#include "sync/mutex.h"

#define FMP_UNIT 16
#define FMP_RECORD_HEADER 8
/* With the GIL held (budget_ns == 0) no more than this is copied: FMP_AGAIN, as if the lock were
 * busy, so that the call comes again without it. */
#define FMP_COPY_WITH_GIL (64 * 1024)
#define FMP_RING_DATA FMP_PAGE /* the units begin here; before it the header page */

struct fmp_extent_shm {
    fmp_a64 reserved; /* bytes */
    fmp_a32 record;
    fmp_a32 pages; /* of that record's, so many lie here */
};

#define FMP_EXTENTS 128

struct fmp_ring_shm {
    struct fmp_header_shm header;
    uint32_t max_items; /* 0: any number */
    uint32_t max_units; /* 0: any number; else more only for a single larger record */
    fmp_a32 extra[6];   /* words for the channel built on the ring: mailbox.c, pipe.c */

    alignas(FMP_CACHE_LINE) struct fmp_mutex_shm tail_lock;
    fmp_a64 tail;
    uint64_t seen_head;
    uint32_t outsized; /* 1 + number of the last record put, if it goes on outside */

    alignas(FMP_CACHE_LINE) struct fmp_mutex_shm head_lock;
    fmp_a64 head;
    uint64_t seen_tail;

    alignas(FMP_CACHE_LINE) fmp_a32 takers;   /* sleep on the low half of tail */
    fmp_a32 putters;                          /* sleep on the low half of head */
    alignas(FMP_CACHE_LINE) fmp_a64 capacity; /* units */
    fmp_a32 n_extents;                        /* under tail_lock, as the table is */
    uint32_t empties; /* under head_lock: how often it ran empty since all of it was needed */

    alignas(FMP_CACHE_LINE) struct fmp_extent_shm extents[FMP_EXTENTS];
};
_Static_assert(sizeof(struct fmp_ring_shm) <= FMP_RING_DATA, "the header page");

/* An extent, see extent.c, as one side of this process has mapped it. */
struct fmp_extent_view {
    uint8_t *bytes;
    uint64_t mapped; /* bytes */
};

/* One side's view of the units; only touched under that side's lock. */
struct fmp_ring_view {
    uint8_t *units;
    uint64_t mapped; /* units; 0 before `units` changes, so that a fork finds it consistent */
    uint64_t backed; /* of these, so many are known to lie within the file */
};

struct fmp_ring {
    struct fmp_ring_shm *shm; /* the header page, at one address for the handle's life */
    int fd;
    struct fmp_ring_view put;             /* under tail_lock */
    struct fmp_ring_view take;            /* under head_lock */
    struct fmp_extent_view *put_extents;  /* under tail_lock; NULL until one is copied to */
    struct fmp_extent_view *take_extents; /* under head_lock; NULL until one is copied from */
    bool outside;    /* under head_lock: the last record read was one of these */
    fmp_a32 readers; /* by pipe.c: open ends of this process that read from it */
};

/* A piece of a batch; a batch is gathered from several so that large buffers are copied once. */
struct fmp_part {
    const void *data;
    size_t size;
};

struct fmp_batch {
    const struct fmp_part *parts;
    unsigned n_parts;
    uint64_t bytes; /* of all parts, padding of the last record excluded */
    uint32_t items;
    /* A single record may have parts that need not lie in the ring: those from n_inside on, of so
     * many bytes. What is before them ends on a unit. outside 0: none. */
    unsigned n_inside;
    uint64_t outside;
    bool copied; /* who takes it wants its bytes elsewhere, not a view of them */
};

#define FMP_RECORD_OUTSIDE 0x80 /* in a record's kind: its last parts lie in an extent */
#define FMP_RECORD_COPIED 0x40  /* and are copied from there; else leased */

#define FMP_DIRECT_SIZE (16 * 1024) /* smaller payloads are not worth a second look */

/* Private memory that records are copied out to. Begins on the caller's stack, moves to the heap
 * when it must grow.
 *
 * A large payload may have a place of its own instead. The caller says in `direct` of what kinds; a
 * read that finds such a record first leaves it, sets `header` and returns FMP_DIRECT; the caller
 * makes room for that payload, says where in `into`, and reads again. */
struct fmp_buffer {
    uint8_t *data;
    size_t size;
    size_t room;
    bool on_heap;
    bool cut;        /* holds the beginning of a record that there was no memory for */
    uint32_t direct; /* 1 << kind */
    void *into;
    uint64_t header;
    struct fmp_lease
        lease; /* what a record of kind FMP_RECORD_OUTSIDE goes on with, unless copied */
};

static inline uint64_t
fmp_record_header(uint64_t length, uint8_t kind)
{
    return length << 8 | kind;
}

static inline uint64_t
fmp_record_length(uint64_t header)
{
    return header >> 8;
}

static inline uint8_t
fmp_record_kind(uint64_t header)
{
    return (uint8_t)header;
}

/* Bytes that a record of `length` takes, padding included. */
static inline uint64_t
fmp_record_span(uint64_t length)
{
    return (length + FMP_RECORD_HEADER + FMP_UNIT - 1) / FMP_UNIT * FMP_UNIT;
}

void fmp_buffer_init(struct fmp_buffer *b, void *stack, size_t room);
void fmp_buffer_free(struct fmp_buffer *b);
/* Room for `size` bytes in all; contents are lost. -ENOMEM. */
int fmp_buffer_reserve(struct fmp_buffer *b, size_t size);
/* After a take, with no lock held: reads in what is leased. */
void fmp_buffer_warm_lease(struct fmp_buffer *b);
static inline void
fmp_buffer_warm(struct fmp_buffer *b)
{
    if (b->lease.address != NULL) {
        fmp_buffer_warm_lease(b);
    }
}

int fmp_ring_create(struct fmp_ring *r, uint32_t max_items, uint64_t max_bytes);
/* Takes `fd` over in every case. FMP_CORRUPT when it is no ring. */
int fmp_ring_attach(struct fmp_ring *r, int fd);
void fmp_ring_close(struct fmp_ring *r);

/* head and tail of one moment. */
void fmp_ring_positions(const struct fmp_ring *r, uint64_t *head, uint64_t *tail);

/* Records that were put and not taken: exact for the moment of the call. */
uint32_t fmp_ring_count(const struct fmp_ring *r);

/* How many records could be put now, as far as max_items goes; UINT32_MAX when unlimited. */
uint32_t fmp_ring_room(const struct fmp_ring *r);

/* Lock a side as `w` allows. FMP_AGAIN: busy. On an owner's death everybody is woken (invariant W)
 * and FMP_OK returned. */
int fmp_ring_lock_tail(struct fmp_ring *r, struct fmp_wait *w);
int fmp_ring_lock_head(struct fmp_ring *r, struct fmp_wait *w);
void fmp_ring_unlock_tail(struct fmp_ring *r);
void fmp_ring_unlock_head(struct fmp_ring *r);

/* With tail_lock held: writes the batch past the commit, growing the ring when it must, and sets
 * *commit to the position to be given to fmp_ring_commit_put(). FMP_AGAIN: full, or the other lock
 * was busy. FMP_TOO_BIG, FMP_CORRUPT, -ENOSPC and the like: nothing has changed. */
int fmp_ring_write(struct fmp_ring *r, const struct fmp_batch *batch, struct fmp_wait *w,
                   uint64_t *commit);
/* The commit; then wakes takers. */
void fmp_ring_commit_put(struct fmp_ring *r, uint64_t commit, uint32_t items);

/* With head_lock held: copies up to `max_items` records (fewer when they are large) out, and sets
 * *commit and *items. FMP_AGAIN: empty. FMP_DIRECT, if max_items is 1: see struct fmp_buffer; with
 * out->into, that another record is first now. */
int fmp_ring_read(struct fmp_ring *r, uint32_t max_items, struct fmp_buffer *out,
                  struct fmp_wait *w, uint64_t *commit, uint32_t *items);

/* For one record that there is no memory for, or to look at: copies out what fits into the room that
 * `out` has, and says in out->cut whether that is less than the whole. Needs no mapping. */
int fmp_ring_read_cut(struct fmp_ring *r, struct fmp_buffer *out, struct fmp_wait *w,
                      uint64_t *commit);

/* With head_lock held: gives kind 0 to the waiting records whose payload's first word, masked, is
 * `value`. What that means is the channel's. A kill leaves some of them so. */
int fmp_ring_void(struct fmp_ring *r, uint64_t mask, uint64_t value);

/* The commit; then wakes putters, and the next taker when records are left. Gives memory back
 * when the ring has run empty. */
void fmp_ring_commit_take(struct fmp_ring *r, uint64_t commit);

/* Walks the records of a batch in private memory: sets kind, data, length of the record at
 * *offset and moves *offset behind it. False at the end or when the batch is malformed. */
bool fmp_batch_next(const uint8_t *batch, size_t size, size_t *offset, uint8_t *kind,
                    const uint8_t **data, size_t *length);

#endif
