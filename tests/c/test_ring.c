/* test_ring.c - channel/ring.c: records through growth and wrap, limits, commits, damaged bytes. */
#include "channel/ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/mailbox.h"
#include "check.h"
#include "support.h"

static struct fmp_mailbox
new_box(uint32_t max_items)
{
    struct fmp_mailbox box;
    CHECK_EQ(fmp_mailbox_create(&box, max_items), FMP_OK);
    return box;
}

static void
expect_message(struct fmp_mailbox *box, uint32_t number, uint32_t length)
{
    struct message m;
    CHECK_EQ(take_message(box, &m, fmp_now()), FMP_OK);
    CHECK_EQ(m.number, number);
    CHECK_EQ(m.length, length);
}

static int
try_take_one(struct fmp_mailbox *box)
{
    uint8_t room[512];
    struct fmp_buffer out;
    struct fmp_wait w = {.fd = -1};
    fmp_buffer_init(&out, room, sizeof room);
    int rc = fmp_mailbox_take(box, 1, &out, NULL, &w);
    fmp_buffer_free(&out);
    return rc;
}

/* One raw record of `length` zero bytes. */
static int
put_raw(struct fmp_ring *r, uint64_t length, struct fmp_wait *w, bool commit_it)
{
    static const uint8_t zeros[1 << 16];
    uint64_t header = fmp_record_header(length, 1), commit;
    struct fmp_part parts[] = {{&header, sizeof header}, {zeros, length}};
    struct fmp_batch batch = {
        .parts = parts, .n_parts = 2, .bytes = sizeof header + length, .items = 1};
    *w = (struct fmp_wait){.fd = -1};
    CHECK(length <= sizeof zeros);
    CHECK_EQ(fmp_ring_lock_tail(r, w), FMP_OK);
    int rc = fmp_ring_write(r, &batch, w, &commit);
    if (rc == FMP_OK && commit_it) {
        fmp_ring_commit_put(r, commit, 1);
    }
    fmp_ring_unlock_tail(r);
    return rc;
}

/* --- growth and wrap ------------------------------------------------------------------------- */

CASE(every_length_comes_back)
{
    struct fmp_mailbox box = new_box(0);
    for (uint32_t length = 0; length < 700; length++) {
        put_message(&box, 1, length, length);
    }
    CHECK_EQ(fmp_ring_count(&box.ring), 700);
    for (uint32_t length = 0; length < 700; length++) {
        expect_message(&box, length, length);
    }
    CHECK_EQ(fmp_ring_count(&box.ring), 0);
    CHECK_EQ(try_take_one(&box), FMP_AGAIN);
    fmp_mailbox_close(&box);
}

/* Fills, takes a part so that the data wraps, and puts until the ring grows with wrapped data;
 * `skip` varies where the wrap lies. */
static void
grow_wrapped(uint32_t skip)
{
    struct fmp_mailbox box = new_box(0);
    uint32_t put = 0, taken = 0;
    uint64_t seed = skip, small = atomic_load(&box.ring.shm->capacity);
    while (put < skip) {
        put_message(&box, 2, put, 40);
        expect_message(&box, put, 40);
        put++, taken++;
    }
    uint32_t lengths[4000];
    while (atomic_load(&box.ring.shm->capacity) < 8 * small) {
        for (int i = 0; i < 3; i++) {
            lengths[put] = random_next(&seed) % 300;
            put_message(&box, 2, put, lengths[put]);
            put++;
        }
        expect_message(&box, taken, lengths[taken]);
        taken++;
        CHECK(put < 3990);
    }
    while (taken < put) {
        expect_message(&box, taken, lengths[taken]);
        taken++;
    }
    CHECK_EQ(try_take_one(&box), FMP_AGAIN);
    fmp_mailbox_close(&box);
}

CASE(growth_keeps_wrapped_data)
{
    for (uint32_t skip = 0; skip < 90; skip++) {
        grow_wrapped(skip);
    }
}

CASE(positions_wrap_at_32_bits)
{
    /* Everything passed before: 2^32 - 700 units, 2^32 - 50 records. */
    struct fmp_mailbox box = new_box(0);
    struct fmp_ring_shm *shm = box.ring.shm;
    uint64_t start = (uint64_t)(UINT32_MAX - 700) << 32 | (UINT32_MAX - 50);
    atomic_store(&shm->tail, start);
    atomic_store(&shm->head, start);
    shm->seen_head = shm->seen_tail = start;
    for (uint32_t round = 0; round < 5; round++) { /* grows while it wraps */
        for (uint32_t i = 0; i < 40; i++) {
            put_message(&box, 3, i, i * 17);
        }
        CHECK_EQ(fmp_ring_count(&box.ring), 40);
        for (uint32_t i = 0; i < 40; i++) {
            expect_message(&box, i, i * 17);
        }
    }
    CHECK(atomic_load(&shm->tail) < start); /* it did wrap */
    fmp_mailbox_close(&box);
}

CASE(a_batch_is_put_whole_and_taken_in_order)
{
    struct fmp_mailbox box = new_box(0);
    struct fmp_wait w = {.fd = -1};
    uint64_t units[20][2];
    for (uint64_t i = 0; i < 20; i++) {
        units[i][0] = fmp_record_header(8, 5);
        units[i][1] = i;
    }
    struct fmp_part part = {units, sizeof units};
    struct fmp_batch batch = {.parts = &part, .n_parts = 1, .bytes = sizeof units, .items = 20};
    CHECK_EQ(fmp_mailbox_put(&box, &batch, &w), FMP_OK);
    CHECK_EQ(fmp_ring_count(&box.ring), 20);

    uint8_t room[64];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    uint64_t next = 0;
    for (uint32_t most = 7; next < 20;) {
        CHECK_EQ(fmp_mailbox_take(&box, most, &out, NULL, &w), FMP_OK);
        size_t offset = 0, length;
        uint8_t kind;
        const uint8_t *data;
        uint32_t got = 0;
        while (fmp_batch_next(out.data, out.size, &offset, &kind, &data, &length)) {
            CHECK_EQ(kind, 5);
            CHECK_EQ(length, 8);
            CHECK(memcmp(data, &next, 8) == 0);
            next++, got++;
        }
        CHECK(got == most || next == 20);
    }
    fmp_buffer_free(&out);
    fmp_mailbox_close(&box);
}

CASE(memory_is_given_back)
{
    struct fmp_mailbox box = new_box(0);
    struct stat full, drained;
    uint32_t n = 600;
    for (uint32_t i = 0; i < n; i++) {
        put_message(&box, 4, i, LONGEST_MESSAGE);
    }
    CHECK_EQ(fstat(box.ring.fd, &full), 0);
    CHECK(full.st_blocks * 512LL >= (long long)n * LONGEST_MESSAGE);
    for (uint32_t i = 0; i < n; i++) {
        expect_message(&box, i, LONGEST_MESSAGE);
    }
    for (uint32_t i = 0; i < 200; i++) { /* ran empty often enough */
        put_message(&box, 4, i, 10);
        expect_message(&box, i, 10);
    }
    CHECK_EQ(fstat(box.ring.fd, &drained), 0);
    CHECK(drained.st_blocks * 512LL < 4 << 20);
    for (uint32_t i = 0; i < 50; i++) { /* and it grows again */
        put_message(&box, 4, i, LONGEST_MESSAGE);
    }
    for (uint32_t i = 0; i < 50; i++) {
        expect_message(&box, i, LONGEST_MESSAGE);
    }
    fmp_mailbox_close(&box);
}

/* --- limits and commits ---------------------------------------------------------------------- */

CASE(max_items_is_exact)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 3, 0), FMP_OK);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(fmp_ring_room(&r), 3 - i);
        CHECK_EQ(put_raw(&r, 10, &w, true), FMP_OK);
    }
    CHECK_EQ(fmp_ring_room(&r), 0);
    CHECK_EQ(put_raw(&r, 10, &w, true), FMP_AGAIN);
    CHECK(w.word == fmp_low_half(&r.shm->head) && w.seen == atomic_load(w.word));
    CHECK_EQ(fmp_ring_count(&r), 3);
    fmp_ring_close(&r);
}

static struct fmp_mailbox *passing;

static void
pass_one_on(const char *name)
{
    struct fmp_mailbox *box = passing;
    if (box != NULL && strcmp(name, "ring: head read") == 0) {
        passing = NULL;
        CHECK_EQ(try_take_one(box), FMP_OK);
        put_message(box, 6, 1, 10);
    }
}

CASE(the_count_is_of_one_moment)
{
    struct fmp_mailbox box = new_box(1);
    put_message(&box, 6, 0, 10);
    at_point = pass_one_on;
    passing = &box;
    CHECK_EQ(fmp_ring_count(&box.ring), 1);
    CHECK(passing == NULL);
    at_point = NULL;
    fmp_mailbox_close(&box);
}

CASE(max_bytes_admits_one_larger_record_when_empty)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 0, 1000), FMP_OK);
    CHECK_EQ(put_raw(&r, 50000, &w, true), FMP_OK);
    CHECK_EQ(put_raw(&r, 1, &w, true), FMP_AGAIN);
    fmp_ring_close(&r);

    CHECK_EQ(fmp_ring_create(&r, 0, 1000), FMP_OK);
    CHECK_EQ(put_raw(&r, 500, &w, true), FMP_OK);
    CHECK_EQ(put_raw(&r, 300, &w, true), FMP_OK);
    CHECK_EQ(put_raw(&r, 300, &w, true), FMP_AGAIN);
    fmp_ring_close(&r);
}

CASE(what_is_not_committed_is_not_there)
{
    struct fmp_mailbox box = new_box(0);
    struct fmp_wait w;
    put_message(&box, 5, 0, 100);
    CHECK_EQ(put_raw(&box.ring, 5000, &w, false), FMP_OK); /* grew, wrote, did not commit */
    CHECK_EQ(fmp_ring_count(&box.ring), 1);
    put_message(&box, 5, 1, 200); /* over it */
    expect_message(&box, 0, 100);
    expect_message(&box, 1, 200);
    CHECK_EQ(try_take_one(&box), FMP_AGAIN);
    fmp_mailbox_close(&box);
}

CASE(what_can_never_fit_is_refused)
{
    struct fmp_ring r;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    struct fmp_wait w = {.fd = -1};
    uint64_t commit;
    struct fmp_batch batch = {.parts = NULL, .n_parts = 0, .bytes = UINT64_C(1) << 40, .items = 1};
    CHECK_EQ(fmp_ring_lock_tail(&r, &w), FMP_OK);
    CHECK_EQ(fmp_ring_write(&r, &batch, &w, &commit), FMP_TOO_BIG);
    fmp_ring_unlock_tail(&r);
    CHECK_EQ(put_raw(&r, 10, &w, true), FMP_OK); /* nothing has changed */
    CHECK_EQ(fmp_ring_count(&r), 1);
    fmp_ring_close(&r);
}

/* --- attaching and damage -------------------------------------------------------------------- */

CASE(attached_twice_it_is_one_ring)
{
    struct fmp_mailbox a = new_box(0), b;
    int fds = count_fds();
    CHECK_EQ(fmp_mailbox_attach(&b, another_fd(a.ring.fd), another_fd(a.bell)), FMP_OK);
    for (uint32_t i = 0; i < 300; i++) { /* a grows it; b finds it grown */
        put_message(&a, 6, i, i);
    }
    for (uint32_t i = 0; i < 300; i++) {
        expect_message(&b, i, i);
    }
    put_message(&b, 6, 1000, 5);
    expect_message(&a, 1000, 5);
    fmp_mailbox_close(&b);
    CHECK_EQ(count_fds(), fds);
    fmp_mailbox_close(&a);
}

CASE(what_is_no_ring_is_refused)
{
    struct fmp_ring r;
    int fds = count_fds();
    CHECK(fmp_ring_attach(&r, -1) < 0);
    int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_EQ(fmp_ring_attach(&r, another_fd(fd)), FMP_CORRUPT);
    CHECK_EQ(ftruncate(fd, 1 << 20), 0);
    CHECK_EQ(fmp_ring_attach(&r, another_fd(fd)), FMP_CORRUPT);
    struct fmp_header_shm header = {
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = FMP_KIND_SLAB, .size = 4096};
    CHECK_EQ(pwrite(fd, &header, sizeof header, 0), sizeof header);
    CHECK_EQ(fmp_ring_attach(&r, another_fd(fd)), FMP_CORRUPT); /* another kind */
    CHECK_EQ(count_fds(), fds + 1);
}

/* Else a peer cuts the file off, and who looks at it gets SIGBUS. */
CASE(a_ring_that_could_shrink_is_refused)
{
    struct fmp_ring r, other;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    CHECK(ftruncate(r.fd, FMP_RING_DATA) < 0);
    int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(ftruncate(fd, 1 << 20), 0);
    CHECK_EQ(pwrite(fd, r.shm, FMP_RING_DATA, 0), FMP_RING_DATA);
    int fds = count_fds();
    CHECK_EQ(fmp_ring_attach(&other, another_fd(fd)), FMP_CORRUPT);
    CHECK_EQ(count_fds(), fds); /* the descriptor was taken over all the same */
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_EQ(fmp_ring_attach(&other, another_fd(fd)), FMP_OK);
    fmp_ring_close(&other);
    fmp_ring_close(&r);
}

static struct fmp_ring *damaged_ring;

static void
set_tail_far(const char *name)
{
    if (strcmp(name, "ring: to move") == 0) {
        at_point = NULL;
        atomic_store(&damaged_ring->shm->tail, UINT64_C(0xfffffff0) << 32 | 5);
    }
}

/* A peer sets the tail while we make the ring larger: not 64 GiB are moved. */
CASE(positions_that_cannot_be_stop_growth)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    damaged_ring = &r;
    at_point = set_tail_far;
    long long start = check_now_ms();
    CHECK_EQ(put_raw(&r, 60000, &w, true), FMP_CORRUPT);
    CHECK(at_point == NULL);
    CHECK(check_now_ms() - start < 1000);
    fmp_ring_close(&r);
}

static void
set_seen_tail_far(const char *name)
{
    if (strcmp(name, "ring: to void") == 0) {
        at_point = NULL;
        damaged_ring->shm->seen_tail = UINT64_C(0xfffffff0) << 32 | 5;
    }
}

/* The same while records are made void: not 2^32 units are looked through. */
CASE(positions_that_cannot_be_stop_the_voiding)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    CHECK_EQ(put_raw(&r, 10, &w, true), FMP_OK);
    damaged_ring = &r;
    at_point = set_seen_tail_far;
    CHECK_EQ(fmp_ring_lock_head(&r, &w), FMP_OK);
    CHECK_EQ(fmp_ring_void(&r, 0, 0), FMP_CORRUPT);
    fmp_ring_unlock_head(&r);
    CHECK(at_point == NULL);
    fmp_ring_close(&r);
}

static void
set_capacity_small(const char *name)
{
    if (strcmp(name, "ring: grown") == 0) {
        at_point = NULL;
        atomic_store(&damaged_ring->shm->capacity, 256);
    }
}

/* A peer undoes our growth before we write. */
CASE(a_capacity_that_shrinks_again_is_corruption)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    damaged_ring = &r;
    at_point = set_capacity_small;
    CHECK_EQ(put_raw(&r, 60000, &w, true), FMP_CORRUPT);
    CHECK(at_point == NULL);
    fmp_ring_close(&r);
}

static void
damage_record(struct fmp_mailbox *box, uint64_t header)
{
    int fd = box->ring.fd;
    CHECK_EQ(pwrite(fd, &header, sizeof header, FMP_RING_DATA), sizeof header);
}

CASE(a_length_out_of_bounds_is_corruption)
{
    const uint64_t lengths[] = {UINT64_MAX >> 8, 1 << 20, 1000, 120, (UINT64_C(1) << 32) - 8};
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct fmp_mailbox box = new_box(0);
        put_message(&box, 7, 0, 80); /* 8 + 12 + 80 bytes: 7 units */
        damage_record(&box, fmp_record_header(lengths[i], 1));
        CHECK_EQ(try_take_one(&box), FMP_CORRUPT);
        CHECK_EQ(try_take_one(&box), FMP_CORRUPT); /* and stays so; the lock was let go */
        CHECK_EQ(fmp_ring_count(&box.ring), 1);
        fmp_mailbox_close(&box);
    }
}

CASE(a_damaged_capacity_is_corruption)
{
    const uint64_t capacities[] = {
        0, 1, 255, 257, 1000, UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_MAX, UINT64_C(1) << 63};
    for (unsigned i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        struct fmp_mailbox box = new_box(0);
        struct fmp_wait w;
        put_message(&box, 8, 0, 80);
        atomic_store(&box.ring.shm->capacity, capacities[i]);
        CHECK_EQ(try_take_one(&box), FMP_CORRUPT);
        CHECK_EQ(put_raw(&box.ring, 10, &w, true), FMP_CORRUPT);
        fmp_mailbox_close(&box);
    }
}

CASE(a_damaged_capacity_within_the_view_is_corruption)
{
    struct fmp_mailbox box = new_box(0);
    struct fmp_wait w;
    put_message(&box, 8, 0, 80);
    expect_message(&box, 0, 80); /* both sides have their views, longer than the file */
    uint64_t position = UINT64_C(3000) << 32 | 7; /* whose place lies beyond the end of the file */
    atomic_store(&box.ring.shm->capacity, 4096);
    atomic_store(&box.ring.shm->head, position);
    atomic_store(&box.ring.shm->tail, position);
    CHECK_EQ(put_raw(&box.ring, 10, &w, true), FMP_CORRUPT);
    atomic_store(&box.ring.shm->tail, position + (UINT64_C(2) << 32 | 1));
    CHECK_EQ(try_take_one(&box), FMP_CORRUPT);
    fmp_mailbox_close(&box);
}

static struct fmp_ring *forked_ring;

static void
put_in_child(void *ignored)
{
    (void)ignored;
    struct fmp_wait w;
    at_point = NULL;
    CHECK_EQ(put_raw(forked_ring, 10, &w, true), FMP_OK);
}

static void
fork_there(const char *name)
{
    if (strcmp(name, "ring: view given up") == 0) {
        at_point = NULL;
        check_reap(check_fork(put_in_child, NULL));
    }
}

/* As a fork in another thread does. */
CASE(a_fork_while_a_view_is_given_up)
{
    struct fmp_ring r;
    struct fmp_wait w;
    CHECK_EQ(fmp_ring_create(&r, 0, 0), FMP_OK);
    CHECK_EQ(put_raw(&r, 10, &w, true), FMP_OK);
    forked_ring = &r;
    at_point = fork_there;
    fmp_ring_close(&r);
    CHECK(at_point == NULL);
}

CASE(positions_that_cannot_be_are_corruption)
{
    struct fmp_mailbox box = new_box(0);
    struct fmp_wait w;
    put_message(&box, 9, 0, 80);
    uint64_t tail = atomic_load(&box.ring.shm->tail);
    atomic_store(&box.ring.shm->tail, UINT64_C(5000) << 32 | 5); /* more live than capacity */
    CHECK_EQ(try_take_one(&box), FMP_CORRUPT);
    CHECK_EQ(put_raw(&box.ring, 10, &w, true), FMP_CORRUPT);
    atomic_store(&box.ring.shm->tail, UINT64_C(7) << 32 | 200); /* more records than units */
    box.ring.shm->seen_tail = 0;
    CHECK_EQ(try_take_one(&box), FMP_CORRUPT);
    atomic_store(&box.ring.shm->tail, tail);
    box.ring.shm->seen_tail = tail;
    expect_message(&box, 0, 80); /* mended, it goes on */
    fmp_mailbox_close(&box);
}

/* Random damage to the positions and the records. Whatever comes back must be a status, within
 * the alarm, and what is delivered must lie within the buffer (ASan looks). */
CASE(random_damage_never_crashes)
{
    uint64_t seed = 12345;
    for (int round = 0; round < 3000; round++) {
        struct fmp_mailbox box = new_box(0);
        struct fmp_wait w;
        for (uint32_t i = 0; i < 6; i++) {
            put_message(&box, 10, i, random_next(&seed) % 200);
        }
        for (int i = 0; i < 4; i++) {
            uint64_t at = FMP_RING_DATA + random_next(&seed) % 1024 / 16 * 16;
            uint64_t junk = (uint64_t)random_next(&seed) << (random_next(&seed) % 33);
            if (random_next(&seed) % 4 == 0) {
                atomic_store(&box.ring.shm->tail, junk);
            }
            else {
                CHECK_EQ(pwrite(box.ring.fd, &junk, sizeof junk, (off_t)at), sizeof junk);
            }
        }
        for (int i = 0; i < 8; i++) {
            uint8_t room[64];
            struct fmp_buffer out;
            fmp_buffer_init(&out, room, sizeof room);
            w = (struct fmp_wait){.fd = -1};
            int rc = fmp_mailbox_take(&box, 1 + random_next(&seed) % 3, &out, NULL, &w);
            CHECK(rc == FMP_OK || rc == FMP_AGAIN || rc == FMP_CORRUPT);
            size_t offset = 0, length, sum = 0;
            uint8_t kind;
            const uint8_t *data;
            while (rc == FMP_OK
                   && fmp_batch_next(out.data, out.size, &offset, &kind, &data, &length)) {
                for (size_t at = 0; at < length; at++) {
                    sum += data[at];
                }
            }
            CHECK(sum < SIZE_MAX);
            fmp_buffer_free(&out);
            rc = put_raw(&box.ring, random_next(&seed) % 100, &w, true);
            CHECK(rc == FMP_OK || rc == FMP_AGAIN || rc == FMP_CORRUPT || rc == FMP_TOO_BIG);
        }
        fmp_mailbox_close(&box);
    }
}

CHECK_MAIN
