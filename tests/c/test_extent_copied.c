/* test_extent_copied.c - channel/extent.c: records whose taker has their bytes copied out of the extent,
 * to a buffer or right to their place; what waits outside is counted; kills, limits, damage. */
#include "channel/extent.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/layout.h"
#include "large.h"

#define ROOM 8 /* bytes of the payload that lie inside, before those that do not */

static int
put_copied(struct fmp_mailbox *box, uint32_t number, uint64_t length)
{
    return put_marked(box, number, length, true);
}

CASE(a_copy_is_as_if_it_had_lain_inside)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(put_copied(&box, i, (1 + i) * MIB + 8 * i), FMP_OK);
    }
    CHECK(backed_bytes(box.ring.fd) >= 10 * MIB && backed_bytes(box.ring.fd) < 11 * MIB);
    for (uint32_t i = 0; i < 4; i++) {
        struct fmp_buffer taken;
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        CHECK(taken.lease.address == NULL);
        check_large(&taken, i, (1 + i) * MIB + 8 * i);
        fmp_buffer_free(&taken);
    }
    fmp_mailbox_close(&box);
}

/* Nothing is leased, so it is free at once: two messages that are never there together need one. */
CASE(its_extent_is_used_again)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(put_copied(&box, i, 2 * MIB), FMP_OK);
        expect_large(&box, i, 2 * MIB);
        CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 1);
        CHECK(!fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    }
    CHECK_EQ(put_large(&box, 5, 2 * MIB), FMP_OK); /* and by those that are leased */
    struct fmp_buffer kept;
    CHECK_EQ(take_large(&box, &kept), FMP_OK);
    CHECK_EQ(put_copied(&box, 6, 2 * MIB), FMP_OK);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 2);
    expect_large(&box, 6, 2 * MIB);
    check_large(&kept, 5, 2 * MIB);
    fmp_buffer_free(&kept);
    fmp_mailbox_close(&box);
}

/* Takes as who makes room for the payload does: 1, or 0 if another record is first by then. */
static int
take_direct(struct fmp_mailbox *box, uint32_t number, uint64_t length, bool overtaken)
{
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, NULL, 0);
    taken.direct = 1u << KIND;
    CHECK_EQ(fmp_mailbox_take(box, 1, &taken, NULL, &w), FMP_DIRECT);
    CHECK_EQ(taken.header, fmp_record_header(ROOM + length, KIND));
    if (overtaken) {
        expect_large(box, number, length);
    }
    uint8_t *place = malloc(ROOM + length);
    CHECK(place != NULL);
    taken.into = place;
    int rc = fmp_mailbox_take(box, 1, &taken, NULL, &w);
    if (rc == FMP_OK) {
        uint64_t found;
        memcpy(&found, place, sizeof found);
        CHECK_EQ(found, number);
        for (uint64_t i = 0; i < length / 8; i++) {
            memcpy(&found, place + ROOM + 8 * i, sizeof found);
            CHECK(found == word_at(number, i));
        }
    }
    free(place);
    fmp_buffer_free(&taken);
    return rc;
}

CASE(right_to_its_place)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    CHECK_EQ(put_copied(&box, 0, 3 * MIB), FMP_OK);
    CHECK_EQ(put_copied(&box, 1, MIB), FMP_OK);
    CHECK_EQ(put_copied(&box, 2, 2 * MIB), FMP_OK);
    CHECK_EQ(take_direct(&box, 0, 3 * MIB, false), FMP_OK);
    CHECK_EQ(take_direct(&box, 1, MIB, true), FMP_DIRECT); /* it was the other one's room */
    CHECK_EQ(fmp_ring_count(&box.ring), 1);
    CHECK_EQ(take_direct(&box, 2, 2 * MIB, false), FMP_OK);
    fmp_mailbox_close(&box);
}

CASE(what_waits_outside_is_counted)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    CHECK_EQ(fmp_extents_waiting(&box.ring), 0);
    CHECK_EQ(put_copied(&box, 0, 4 * MIB), FMP_OK);
    CHECK_EQ(put_large(&box, 1, 2 * MIB), FMP_OK);
    CHECK_EQ(put_copied(&box, 2, 16), FMP_OK);
    CHECK_EQ(fmp_extents_waiting(&box.ring), 6 * MIB);
    expect_large(&box, 0, 4 * MIB);
    CHECK_EQ(fmp_extents_waiting(&box.ring), 2 * MIB);
    CHECK_EQ(put_copied(&box, 3, MIB), FMP_OK); /* in an extent of four */
    CHECK_EQ(fmp_extents_waiting(&box.ring), 3 * MIB);
    expect_large(&box, 1, 2 * MIB);
    expect_large(&box, 2, 16);
    CHECK_EQ(fmp_extents_waiting(&box.ring), MIB);
    expect_large(&box, 3, MIB);
    CHECK_EQ(fmp_extents_waiting(&box.ring), 0);
    fmp_mailbox_close(&box);
}

static void
take_and_die(void *arg)
{
    struct fmp_mailbox *box = arg;
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    uint64_t commit;
    uint32_t items;
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, NULL, 0);
    CHECK_EQ(fmp_ring_lock_head(&box->ring, &w), FMP_OK);
    CHECK_EQ(fmp_ring_read(&box->ring, 1, &taken, &w, &commit, &items), FMP_OK);
    check_large(&taken, 0, MIB);
    kill(getpid(), SIGKILL); /* copied, not committed */
}

CASE(what_a_killed_taker_had_copied_is_anothers)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    int status;
    CHECK_EQ(put_copied(&box, 0, MIB), FMP_OK);
    pid_t child = check_fork(take_and_die, &box);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_EQ(put_copied(&box, 1, MIB), FMP_OK);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 2);
    expect_large(&box, 0, MIB);
    expect_large(&box, 1, MIB);
    fmp_mailbox_close(&box);
}

static struct rlimit
without_more_room(void)
{
    struct rlimit all, none;
    CHECK_EQ(getrlimit(RLIMIT_AS, &all), 0);
    none = (struct rlimit){4096, all.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    return all;
}

CASE(it_is_put_and_taken_without_a_mapping)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    struct large warm, l;
    make_large(&warm, 0, 2 * MIB);
    make_large(&l, 1, 2 * MIB);
    warm.batch.copied = l.batch.copied = true;
    uint8_t *place = malloc(ROOM + 2 * MIB);
    CHECK(place != NULL);
    CHECK_EQ(fmp_mailbox_put(&box, &warm.batch, &w), FMP_OK);
    expect_large(&box, 0, 2 * MIB);
    fmp_extents_close(&box.ring); /* as if in another process: reserved, and not mapped here */
    struct rlimit all = without_more_room();
    CHECK_EQ(fmp_mailbox_put(&box, &l.batch, &w), FMP_OK);
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, NULL, 0);
    taken.direct = 1u << KIND;
    CHECK_EQ(fmp_mailbox_take(&box, 1, &taken, NULL, &w), FMP_DIRECT);
    taken.into = place;
    CHECK_EQ(fmp_mailbox_take(&box, 1, &taken, NULL, &w), FMP_OK);
    CHECK_EQ(setrlimit(RLIMIT_AS, &all), 0);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 1);
    CHECK(memcmp(place + ROOM, l.outside, 2 * MIB) == 0);
    free(place);
    free(warm.outside);
    free(l.outside);
    fmp_mailbox_close(&box);
}

static int
take_damaged(uint64_t number, uint64_t length, bool direct)
{
    struct fmp_mailbox box = new_box();
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    CHECK_EQ(put_copied(&box, 0, MIB), FMP_OK);
    uint64_t words[2] = {number, length};
    CHECK_EQ(pwrite(box.ring.fd, words, sizeof words, FMP_RING_DATA + 16), sizeof words);
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, NULL, 0);
    taken.direct = direct ? 1u << KIND : 0;
    int rc = fmp_mailbox_take(&box, 1, &taken, NULL, &w);
    fmp_buffer_free(&taken);
    fmp_mailbox_close(&box);
    return rc;
}

CASE(damaged_references_are_refused)
{
    CHECK_NEEDS_PROCESSES();
    for (int direct = 0; direct < 2; direct++) {
        CHECK_EQ(take_damaged(0, MIB, direct), direct ? FMP_DIRECT : FMP_OK);
        CHECK_EQ(take_damaged(0, 0, direct), FMP_CORRUPT);
        CHECK_EQ(take_damaged(0, MIB + 4096, direct), FMP_CORRUPT);
        CHECK_EQ(take_damaged(0, UINT64_MAX, direct), FMP_CORRUPT);
        CHECK_EQ(take_damaged(1, MIB, direct), FMP_CORRUPT);
        CHECK_EQ(take_damaged(FMP_EXTENTS, MIB, direct), FMP_CORRUPT);
        CHECK_EQ(take_damaged(UINT64_MAX, MIB, direct), FMP_CORRUPT);
    }
}

CHECK_MAIN
