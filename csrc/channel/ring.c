/* ring.c - the ring of records; see ring.h for the layout and who writes which field.
 *
 * A kill at any line leaves: before a commit, bytes past the commit that nobody reads; during
 * growth, a file that is larger than its capacity says, which the next growth reserves again;
 * inside a lock, FMP_OWNER_DIED for the next one, who has nothing to repair and wakes everybody.
 */
#include "channel/ring.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/check.h"
#include "base/points.h"
#include "base/status.h"
#include "channel/positions.h"
#include "channel/ring_view.h"
#include "platform/memory.h"

#define KEPT_CAPACITY UINT64_C(65536)    /* units: 1 MiB stay reserved in an empty ring */
#define KEPT_IF_USED (UINT64_C(1) << 24) /* units: up to 256 MiB stay while they are in use */
#define EMPTIES_BEFORE_SHRINK 64    /* so many times empty, with smaller records, before that */
#define READ_AT_A_TIME (256 * 1024) /* bytes after which a bulk read stops */

/* --- positions ----------------------------------------------------------------------------- */

uint32_t
fmp_ring_count(const struct fmp_ring *r)
{
    /* head first: a record that is put and taken in between cannot make the count negative. */
    uint32_t head = items_of(atomic_load(&r->shm->head));
    return items_of(atomic_load(&r->shm->tail)) - head;
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

/* --- growth and shrinking -------------------------------------------------------------------- */

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

/* With tail_lock held: room for `units` live units in all. */
static int
grow(struct fmp_ring *r, uint64_t units, struct fmp_wait *w)
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

/* With head_lock held and the ring empty, the last `taken` units having been taken at once: gives
 * memory back. Takes tail_lock against the usual order, so only by trying. */
static void
shrink(struct fmp_ring *r, uint32_t taken)
{
    struct fmp_ring_shm *shm = r->shm;
    uint64_t old = atomic_load_explicit(&shm->capacity, memory_order_relaxed);
    if (old <= KEPT_CAPACITY) {
        return;
    }
    /* What needs so much is likely to be followed by its like, for which these pages are warm. */
    shm->empties = taken > KEPT_CAPACITY ? 0 : shm->empties + 1;
    if (old <= KEPT_IF_USED && shm->empties < EMPTIES_BEFORE_SHRINK) {
        return;
    }
    struct fmp_wait now = {.budget_ns = 0};
    if (fmp_ring_lock_tail(r, &now) != FMP_OK) {
        return;
    }
    if (atomic_load(&shm->head) == atomic_load(&shm->tail)) {
        atomic_store(&shm->capacity, KEPT_CAPACITY);
        fmp_memory_release(r->fd, FMP_RING_DATA + KEPT_CAPACITY * FMP_UNIT,
                           (old - KEPT_CAPACITY) * FMP_UNIT);
        shm->empties = 0;
    }
    fmp_ring_unlock_tail(r);
}

static bool
too_much_with_gil(const struct fmp_wait *w, uint64_t bytes)
{
    return w->budget_ns == 0 && bytes > FMP_COPY_WITH_GIL;
}

/* --- put --------------------------------------------------------------------------------------- */

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
        bool units_fit = shm->max_units == 0 || *used == 0 || *used + units <= shm->max_units;
        if (items_fit && units_fit && (fresh || *used + units <= fitting)) {
            return true;
        }
    }
    return false;
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
    if (used + units > capacity) {
        if (used > capacity) {
            return FMP_CORRUPT;
        }
        rc = grow(r, used + units, w);
        FMP_POINT("ring: grown");
        if (rc == FMP_OK) {
            rc = fmp_ring_cover(r, &r->put, &r->take, &r->shm->head_lock, &capacity);
        }
        if (rc != FMP_OK) {
            return rc;
        }
        if (used + units > capacity) {
            return FMP_CORRUPT;
        }
    }
    FMP_POINT("ring: to write");
    uint64_t at = byte_at(tail, capacity);
    for (unsigned i = 0; i < batch->n_parts; i++) {
        copy_in(r->put.units, capacity, at, batch->parts[i].data, batch->parts[i].size);
        at = (at + batch->parts[i].size) & (capacity * FMP_UNIT - 1);
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
        if (f->items == 0) {
            f->header = header;
        }
        f->span += next;
        f->items++;
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

/* To where the caller wants it. */
static int
read_direct(struct fmp_ring *r, const struct first *f, struct fmp_buffer *out)
{
    if (f->header != out->header) {
        out->header = f->header;
        return FMP_DIRECT;
    }
    FMP_POINT("ring: measured");
    uint64_t at = byte_at(f->head, f->capacity) + FMP_RECORD_HEADER; /* within a unit */
    copy_out(r->take.units, f->capacity, at, out->into, fmp_record_length(f->header));
    return FMP_OK;
}

static int
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

int
fmp_ring_read(struct fmp_ring *r, uint32_t max_items, struct fmp_buffer *out, struct fmp_wait *w,
              uint64_t *commit, uint32_t *items)
{
    struct first f;
    int rc = look_at_first(r, max_items, w, &f);
    if (rc != FMP_OK) {
        return rc;
    }
    if (out->into == NULL && max_items == 1 && is_direct(out, f.header)) {
        out->header = f.header;
        return FMP_DIRECT;
    }
    if (too_much_with_gil(w, f.span * FMP_UNIT)) {
        fmp_wait_on_lock(w);
        return FMP_AGAIN;
    }
    rc = out->into != NULL ? read_direct(r, &f, out) : read_whole(r, &f, out);
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
    uint64_t tail = atomic_load(&shm->tail);
    if (items_of(tail) == items_of(commit)) {
        shrink(r, units_of(commit) - units_of(head));
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
