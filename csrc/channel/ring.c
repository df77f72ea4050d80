/* ring.c - the ring of records; see ring.h for the layout and who writes which field.
 *
 * A kill at any line leaves: before a commit, bytes past the commit that nobody reads; inside a lock,
 * FMP_OWNER_DIED for the next one, who has nothing to repair and wakes everybody.
 */
#include "channel/ring.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/check.h"
#include "base/points.h"
#include "base/status.h"
#include "channel/extent.h"
#include "channel/positions.h"
#include "channel/ring_view.h"
#include "platform/memory.h"

#define READ_AT_A_TIME (256 * 1024) /* bytes after which a bulk read stops */

/* --- positions ----------------------------------------------------------------------------- */

void
fmp_ring_positions(const struct fmp_ring *r, uint64_t *head, uint64_t *tail)
{
    uint64_t again = atomic_load(&r->shm->head);
    do {
        *head = again;
        FMP_POINT("ring: head read");
        *tail = atomic_load(&r->shm->tail);
        again = atomic_load(&r->shm->head);
    } while (again != *head); /* somebody took records: as often as that, not for ever */
}

uint32_t
fmp_ring_count(const struct fmp_ring *r)
{
    uint64_t head, tail;
    fmp_ring_positions(r, &head, &tail);
    return items_of(tail) - items_of(head);
}

uint32_t
fmp_ring_room(const struct fmp_ring *r)
{
    uint32_t limit = r->shm->max_items;
    uint32_t count = fmp_ring_count(r);
    if (limit == 0) {
        return UINT32_MAX;
    }
    return count < limit ? limit - count : 0;
}

/* --- locks ----------------------------------------------------------------------------------- */

void
fmp_ring_wake_everybody(struct fmp_ring *r)
{
    fmp_wake(fmp_low_half(&r->shm->tail), &r->shm->takers, INT_MAX);
    fmp_wake(fmp_low_half(&r->shm->head), &r->shm->putters, INT_MAX);
}

static int
lock_side(struct fmp_ring *r, struct fmp_mutex_shm *lock, struct fmp_wait *w)
{
    int rc = fmp_mutex_lock(lock, w->budget_ns);
    if (rc == FMP_OWNER_DIED) {
        fmp_ring_wake_everybody(r);
        return FMP_OK;
    }
    if (rc == FMP_AGAIN) {
        fmp_wait_on_lock(w);
    }
    return rc;
}

int
fmp_ring_lock_tail(struct fmp_ring *r, struct fmp_wait *w)
{
    return lock_side(r, &r->shm->tail_lock, w);
}

int
fmp_ring_lock_head(struct fmp_ring *r, struct fmp_wait *w)
{
    return lock_side(r, &r->shm->head_lock, w);
}

void
fmp_ring_unlock_tail(struct fmp_ring *r)
{
    fmp_mutex_unlock(&r->shm->tail_lock);
}

void
fmp_ring_unlock_head(struct fmp_ring *r)
{
    fmp_mutex_unlock(&r->shm->head_lock);
}

/* --- copying across the wrap ----------------------------------------------------------------- */

static void
copy_in(uint8_t *units, uint64_t capacity, uint64_t at, const void *data, size_t size)
{
    /* `at` is a byte offset from the ring's begin, already reduced modulo its size. */
    size_t until_wrap = capacity * FMP_UNIT - at;
    if (size <= until_wrap) {
        memcpy(units + at, data, size);
    }
    else {
        memcpy(units + at, data, until_wrap);
        memcpy(units, (const uint8_t *)data + until_wrap, size - until_wrap);
    }
}

static void
copy_out(const uint8_t *units, uint64_t capacity, uint64_t at, void *data, size_t size)
{
    size_t until_wrap = capacity * FMP_UNIT - at;
    if (size <= until_wrap) {
        memcpy(data, units + at, size);
    }
    else {
        memcpy(data, units + at, until_wrap);
        memcpy((uint8_t *)data + until_wrap, units, size - until_wrap);
    }
}

static bool
too_much_with_gil(const struct fmp_wait *w, uint64_t bytes)
{
    return w->budget_ns == 0 && bytes > FMP_COPY_WITH_GIL;
}

/* --- put --------------------------------------------------------------------------------------- */

/* Does a record wait, under a limit on bytes, that is beyond that limit by itself? Its extent is not
 * among the live units, so it is known by its number; it was put to an empty ring, so it is the first. */
static bool
is_overfull(const struct fmp_ring_shm *shm)
{
    return shm->max_units != 0 && shm->outsized != 0
        && shm->outsized == items_of(shm->seen_head) + 1;
}

/* Is there room for one more batch within the limits? Reads head only when the last one seen does
 * not suffice. Sets *used to the live units. */
static bool
within_limits(struct fmp_ring_shm *shm, uint64_t tail, uint64_t units, uint32_t items,
              uint64_t fitting, uint64_t *used)
{
    for (int fresh = 0; fresh < 2; fresh++) {
        if (fresh) {
            shm->seen_head = atomic_load(&shm->head);
        }
        *used = (uint32_t)(units_of(tail) - units_of(shm->seen_head));
        uint32_t count = items_of(tail) - items_of(shm->seen_head);
        bool items_fit = shm->max_items == 0 || count + (uint64_t)items <= shm->max_items;
        bool units_fit = shm->max_units == 0 || *used == 0
                      || (*used + units <= shm->max_units && !is_overfull(shm));
        if (items_fit && units_fit && (fresh || *used + units <= fitting)) {
            return true;
        }
    }
    return false;
}

/* Larger records than the limit on bytes go by themselves, so they do not add up unseen. */
static bool
may_lie_outside(const struct fmp_ring_shm *shm, const struct fmp_batch *batch, uint64_t units)
{
    return batch->outside >= FMP_EXTENT_LEAST && units > shm->max_units;
}

/* Copies a part to byte *at of the ring, and moves *at behind it. */
static void
write_part(struct fmp_ring *r, uint64_t capacity, uint64_t *at, const void *data, size_t size)
{
    copy_in(r->put.units, capacity, *at, data, size);
    *at = (*at + size) & (capacity * FMP_UNIT - 1);
}

/* What stays in the ring of a record that goes on outside. */
static uint64_t
inside_bytes(const struct fmp_batch *batch)
{
    return batch->bytes - batch->outside + sizeof(struct fmp_extent_ref);
}

static void
write_inside(struct fmp_ring *r, uint64_t capacity, uint64_t at, const struct fmp_batch *batch,
             const struct fmp_extent_ref *ref)
{
    uint64_t header;
    memcpy(&header, batch->parts[0].data, sizeof(header));
    uint8_t marks = batch->copied ? FMP_RECORD_OUTSIDE | FMP_RECORD_COPIED : FMP_RECORD_OUTSIDE;
    header =
        fmp_record_header(inside_bytes(batch) - FMP_RECORD_HEADER, fmp_record_kind(header) | marks);
    write_part(r, capacity, &at, &header, sizeof(header));
    for (unsigned i = 0; i < batch->n_inside; i++) {
        size_t skip = i == 0 ? FMP_RECORD_HEADER : 0;
        write_part(r, capacity, &at, (const uint8_t *)batch->parts[i].data + skip,
                   batch->parts[i].size - skip);
    }
    write_part(r, capacity, &at, ref, sizeof(*ref));
}

static void
write_whole(struct fmp_ring *r, uint64_t capacity, uint64_t at, const struct fmp_batch *batch)
{
    for (unsigned i = 0; i < batch->n_parts; i++) {
        write_part(r, capacity, &at, batch->parts[i].data, batch->parts[i].size);
    }
}

/* Room for `units` more; sets *capacity. */
static int
make_room(struct fmp_ring *r, uint64_t used, uint64_t units, struct fmp_wait *w, uint64_t *capacity)
{
    if (used + units <= *capacity) {
        return FMP_OK;
    }
    if (used > *capacity) {
        return FMP_CORRUPT;
    }
    int rc = fmp_ring_grow(r, used + units, w);
    FMP_POINT("ring: grown");
    if (rc == FMP_OK) {
        rc = fmp_ring_cover(r, &r->put, &r->take, &r->shm->head_lock, capacity);
    }
    return rc == FMP_OK && used + units > *capacity ? FMP_CORRUPT : rc;
}

int
fmp_ring_write(struct fmp_ring *r, const struct fmp_batch *batch, struct fmp_wait *w,
               uint64_t *commit)
{
    struct fmp_ring_shm *shm = r->shm;
    uint64_t capacity, used;
    int rc = fmp_ring_cover(r, &r->put, &r->take, &r->shm->head_lock, &capacity);
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t units = (batch->bytes + FMP_UNIT - 1) / FMP_UNIT;
    if (units > FMP_RING_LARGEST) {
        return FMP_TOO_BIG;
    }
    uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_relaxed);
    if (!within_limits(shm, tail, units, batch->items, capacity, &used)) {
        fmp_wait_on_word(w, fmp_low_half(&shm->head), items_of(shm->seen_head), &shm->putters);
        return FMP_AGAIN;
    }
    if (too_much_with_gil(w, batch->bytes)) {
        fmp_wait_on_lock(w);
        return FMP_AGAIN;
    }
    struct fmp_extent_ref ref;
    bool outside = may_lie_outside(shm, batch, units) && fmp_extent_write(r, batch, &ref);
    if (outside) {
        units = inside_bytes(batch) / FMP_UNIT;
    }
    shm->outsized = outside ? items_of(tail) + 1 : 0;
    rc = make_room(r, used, units, w, &capacity);
    if (rc != FMP_OK) {
        return rc;
    }
    FMP_POINT("ring: to write");
    if (outside) {
        write_inside(r, capacity, byte_at(tail, capacity), batch, &ref);
    }
    else {
        write_whole(r, capacity, byte_at(tail, capacity), batch);
    }
    *commit = advance(tail, units, batch->items);
    return FMP_OK;
}

#ifdef FMP_DEBUG
/* For the checks below: no damage has brought the positions out of order. Those that each side has
 * seen of the other lie between, but may be changed by the other side while we look. */
static bool
in_order(const struct fmp_ring_shm *shm)
{
    uint64_t head = atomic_load(&shm->head), tail = atomic_load(&shm->tail);
    uint32_t live = units_of(tail) - units_of(head), count = items_of(tail) - items_of(head);
    return live <= atomic_load(&shm->capacity) && count <= live
        && (uint32_t)(units_of(tail) - units_of(shm->seen_tail)) <= live
        && (uint32_t)(units_of(tail) - units_of(shm->seen_head)) >= live;
}
#endif

void
fmp_ring_commit_put(struct fmp_ring *r, uint64_t commit, uint32_t items)
{
    struct fmp_ring_shm *shm = r->shm;
    FMP_CHECK(items_of(commit) - items_of(atomic_load(&shm->tail)) == items || !in_order(shm));
    FMP_CHECK((uint32_t)(units_of(commit) - units_of(atomic_load(&shm->head)))
                  <= atomic_load(&shm->capacity)
              || !in_order(shm));
    atomic_store(&shm->tail, commit); /* pairs with the load in fmp_ring_read */
    fmp_wake(fmp_low_half(&shm->tail), &shm->takers, items > INT_MAX ? INT_MAX : (int)items);
    /* A putter who leaves room wakes the next: it may itself have been the one that was woken. */
    if (atomic_load_explicit(&shm->putters, memory_order_relaxed) != 0 && fmp_ring_room(r) > 0) {
        fmp_wake(fmp_low_half(&shm->head), &shm->putters, 1);
    }
}

/* --- take -------------------------------------------------------------------------------------- */

/* What lies at head: how much is to be read. */
struct first {
    uint64_t head;
    uint64_t capacity;
    uint64_t header; /* of the first record: what span was measured by, should it change */
    uint64_t span;   /* units */
    uint32_t items;
    /* By look_outside(): */
    uint64_t whole; /* the header that the first record would have, if all of it lay in the ring */
    struct fmp_extent_ref outside;
};

/* How many units the first records at f->head span: up to max_items of them, and no more than
 * READ_AT_A_TIME bytes after the first. Every length is read once, and checked against what is
 * committed. */
static int
measure(const uint8_t *units, uint64_t tail, uint32_t max_items, struct first *f)
{
    uint64_t live = (uint32_t)(units_of(tail) - units_of(f->head));
    uint32_t count = items_of(tail) - items_of(f->head);
    if (live > f->capacity || count > live) {
        return FMP_CORRUPT;
    }
    f->span = 0;
    f->items = 0;
    while (f->items < max_items && f->items < count && f->span * FMP_UNIT < READ_AT_A_TIME) {
        uint64_t header;
        memcpy(&header, units + byte_at(advance(f->head, f->span, 0), f->capacity), sizeof(header));
        uint64_t next = fmp_record_span(fmp_record_length(header)) / FMP_UNIT;
        if (next > live - f->span) {
            return FMP_CORRUPT;
        }
        bool outside = (fmp_record_kind(header) & FMP_RECORD_OUTSIDE) != 0;
        if (f->items == 0) {
            f->header = header;
        }
        else if (outside) {
            break; /* goes by itself: a buffer has one lease */
        }
        f->span += next;
        f->items++;
        if (outside) {
            break;
        }
    }
    return FMP_OK;
}

static int
look_at_first(struct fmp_ring *r, uint32_t max_items, struct fmp_wait *w, struct first *f)
{
    struct fmp_ring_shm *shm = r->shm;
    f->head = atomic_load_explicit(&shm->head, memory_order_relaxed);
    if (items_of(f->head) == items_of(shm->seen_tail) || max_items > 1) {
        shm->seen_tail = atomic_load(&shm->tail);
    }
    uint64_t tail = shm->seen_tail;
    if (items_of(f->head) == items_of(tail)) {
        fmp_wait_on_word(w, fmp_low_half(&shm->tail), items_of(tail), &shm->takers);
        return FMP_AGAIN;
    }
    FMP_POINT("ring: tail seen");
    int rc = fmp_ring_cover(r, &r->take, &r->put, &r->shm->tail_lock, &f->capacity);
    if (rc == FMP_OK) {
        FMP_POINT("ring: to measure");
        rc = measure(r->take.units, tail, max_items, f);
    }
    return rc;
}

static bool
is_direct(const struct fmp_buffer *out, uint64_t header)
{
    return fmp_record_length(header) >= FMP_DIRECT_SIZE && fmp_record_kind(header) < 32
        && (out->direct >> fmp_record_kind(header) & 1) != 0;
}

/* What lies in the ring of a record that goes on outside, without the reference to that. */
static uint64_t
bytes_inside(const struct first *f)
{
    return f->span * FMP_UNIT - sizeof(f->outside);
}

/* Where the first record goes on, if it does. */
static int
look_outside(struct fmp_ring *r, struct first *f)
{
    f->whole = f->header;
    if (!r->outside) {
        return FMP_OK;
    }
    uint64_t size = f->span * FMP_UNIT, ring = f->capacity * FMP_UNIT;
    if (size < FMP_UNIT + sizeof(f->outside)
        || fmp_record_length(f->header) + FMP_RECORD_HEADER != size) {
        return FMP_CORRUPT;
    }
    uint64_t at = byte_at(f->head, f->capacity) + bytes_inside(f);
    copy_out(r->take.units, f->capacity, at & (ring - 1), &f->outside, sizeof(f->outside));
    uint8_t marks = FMP_RECORD_OUTSIDE | FMP_RECORD_COPIED;
    f->whole = fmp_record_header(bytes_inside(f) + f->outside.length - FMP_RECORD_HEADER,
                                 (uint8_t)(fmp_record_kind(f->header) & ~marks));
    return fmp_extent_check(r, &f->outside);
}

/* To where the caller wants it. */
static int
read_direct(struct fmp_ring *r, const struct first *f, struct fmp_buffer *out)
{
    if (f->whole != out->header) {
        out->header = f->whole;
        return FMP_DIRECT;
    }
    FMP_POINT("ring: measured");
    uint64_t at = byte_at(f->head, f->capacity) + FMP_RECORD_HEADER; /* within a unit */
    if (!r->outside) {
        copy_out(r->take.units, f->capacity, at, out->into, fmp_record_length(f->header));
        return FMP_OK;
    }
    uint64_t inside = bytes_inside(f) - FMP_RECORD_HEADER;
    copy_out(r->take.units, f->capacity, at, out->into, inside);
    return fmp_extent_copy(r, &f->outside, (uint8_t *)out->into + inside);
}

static inline int
read_whole(struct fmp_ring *r, const struct first *f, struct fmp_buffer *out)
{
    int rc = fmp_buffer_reserve(out, f->span * FMP_UNIT);
    if (rc == FMP_OK) {
        FMP_POINT("ring: measured");
        out->size = f->span * FMP_UNIT;
        copy_out(r->take.units, f->capacity, byte_at(f->head, f->capacity), out->data, out->size);
    }
    return rc;
}

/* A record that goes on outside as one that does not. */
static int
copy_outside(struct fmp_ring *r, const struct first *f, struct fmp_buffer *out)
{
    uint64_t inside = bytes_inside(f);
    int rc = fmp_buffer_reserve(out, inside + f->outside.length);
    if (rc != FMP_OK) {
        return rc;
    }
    out->size = inside + f->outside.length;
    copy_out(r->take.units, f->capacity, byte_at(f->head, f->capacity), out->data, inside);
    memcpy(out->data, &f->whole, sizeof(f->whole));
    return fmp_extent_copy(r, &f->outside, out->data + inside);
}

static int
read_outside(struct fmp_ring *r, const struct first *f, struct fmp_buffer *out)
{
    bool copied = (fmp_record_kind(f->header) & FMP_RECORD_COPIED) != 0;
    int rc = copied ? FMP_AGAIN : fmp_extent_lease(r, &f->outside, &out->lease);
    if (rc == FMP_AGAIN) {
        return copy_outside(r, f, out);
    }
    rc = read_whole(r, f, out);
    if (rc != FMP_OK) {
        fmp_lease_end(&out->lease);
    }
    return rc;
}

/* All but a short record that lies in the ring whole. */
static int
read_special(struct fmp_ring *r, struct first *f, struct fmp_buffer *out, struct fmp_wait *w)
{
    int rc = look_outside(r, f);
    if (rc != FMP_OK) {
        return rc;
    }
    if (out->into == NULL && f->items == 1 && is_direct(out, f->whole)) {
        out->header = f->whole;
        return FMP_DIRECT;
    }
    uint64_t bytes = r->outside ? UINT64_MAX : f->span * FMP_UNIT; /* a lease takes its time */
    if (too_much_with_gil(w, bytes)) {
        fmp_wait_on_lock(w);
        return FMP_AGAIN;
    }
    return out->into != NULL ? read_direct(r, f, out)
         : r->outside        ? read_outside(r, f, out)
                             : read_whole(r, f, out);
}

int
fmp_ring_read(struct fmp_ring *r, uint32_t max_items, struct fmp_buffer *out, struct fmp_wait *w,
              uint64_t *commit, uint32_t *items)
{
    struct first f;
    int rc = look_at_first(r, max_items, w, &f);
    if (rc != FMP_OK) {
        return rc;
    }
    r->outside = (fmp_record_kind(f.header) & FMP_RECORD_OUTSIDE) != 0;
    bool plain = f.span * FMP_UNIT < FMP_DIRECT_SIZE && !r->outside && out->into == NULL;
    rc = plain ? read_whole(r, &f, out) : read_special(r, &f, out, w);
    if (rc == FMP_OK) {
        *commit = advance(f.head, f.span, f.items);
        *items = f.items;
    }
    return rc;
}

void
fmp_ring_commit_take(struct fmp_ring *r, uint64_t commit)
{
    struct fmp_ring_shm *shm = r->shm;
    FMP_CHECK(
        (uint32_t)(units_of(commit) - units_of(atomic_load(&shm->head)))
            <= (uint32_t)(units_of(atomic_load(&shm->tail)) - units_of(atomic_load(&shm->head)))
        || !in_order(shm));
    FMP_CHECK((int32_t)(items_of(atomic_load(&shm->tail)) - items_of(commit)) >= 0
              || !in_order(shm));
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_relaxed);
    /* Release: the copy is complete before a putter may overwrite what was read. */
    atomic_store(&shm->head, commit);
    /* By bytes, the next sleeper may not fit where a later one does: wake them all. */
    fmp_wake(fmp_low_half(&shm->head), &shm->putters, shm->max_units != 0 ? INT_MAX : 1);
    /* The tail seen last will do while it leaves records: the putters write to the line of the other. */
    if (items_of(shm->seen_tail) == items_of(commit)
        && items_of(atomic_load(&shm->tail)) == items_of(commit)) {
        fmp_ring_shrink(r, units_of(commit) - units_of(head));
    }
    else if (atomic_load_explicit(&shm->takers, memory_order_relaxed) != 0) {
        fmp_wake(fmp_low_half(&shm->tail), &shm->takers, 1);
    }
}

/* --- records that wait -------------------------------------------------------------------------- */

int
fmp_ring_void(struct fmp_ring *r, uint64_t mask, uint64_t value)
{
    struct fmp_wait unused = {.budget_ns = 0};
    struct first f;
    int rc = look_at_first(r, UINT32_MAX, &unused, &f);
    if (rc != FMP_OK) {
        return rc == FMP_AGAIN ? FMP_OK : rc; /* it is empty */
    }
    FMP_POINT("ring: to void");
    uint64_t at = 0, live = (uint32_t)(units_of(r->shm->seen_tail) - units_of(f.head));
    if (live > f.capacity) {
        return FMP_CORRUPT;
    }
    while (at < live) {
        uint8_t *unit = r->take.units + byte_at(advance(f.head, at, 0), f.capacity);
        uint64_t words[2]; /* a record's header and its first word lie in one unit */
        memcpy(words, unit, sizeof(words));
        uint64_t span = fmp_record_span(fmp_record_length(words[0])) / FMP_UNIT;
        if (span > live - at) {
            return FMP_CORRUPT;
        }
        if ((words[1] & mask) == value && fmp_record_kind(words[0]) != 0) {
            /* The length stays: a reader of this record, after us, finds the next one. */
            words[0] = fmp_record_header(fmp_record_length(words[0]), 0);
            memcpy(unit, &words[0], sizeof(words[0]));
        }
        at += span;
    }
    return FMP_OK;
}
