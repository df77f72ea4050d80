/* test_extent.c - channel/extent.c: what is outside of a record comes back, and is never
 * written while anybody, a child of a fork too, has a view of it; kills on either side, limits, damage,
 * memory given back. */
#include "channel/extent.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/layout.h"
#include "channel/pipe.h"
#include "large.h"
#include "platform/memory.h"

/* --- what a taker gets ----------------------------------------------------------------------- */

CASE(outside_comes_back)
{
    CHECK_NEEDS_PROCESSES();
    static const uint64_t lengths[] = {MIB, MIB + 16, 3 * MIB, 10 * MIB + 4096 - 16, 9 * MIB, MIB};
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 6; i++) {
        CHECK_EQ(put_large(&box, i, lengths[i]), FMP_OK);
        CHECK(fmp_ring_count(&box.ring) == i + 1);
    }
    for (uint32_t i = 0; i < 6; i++) {
        struct fmp_buffer taken;
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        CHECK(taken.lease.address != NULL);
        check_large(&taken, i, lengths[i]);
        fmp_buffer_free(&taken);
    }
    CHECK_EQ(put_large(&box, 7, MIB - 16), FMP_OK); /* too small to lie outside */
    struct fmp_buffer taken;
    CHECK_EQ(take_large(&box, &taken), FMP_OK);
    CHECK(taken.lease.address == NULL);
    check_large(&taken, 7, MIB - 16);
    fmp_buffer_free(&taken);
    fmp_mailbox_close(&box);
}

CASE(extents_are_used_again)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    int fds = count_fds();
    for (uint32_t i = 0; i < 300; i++) {
        CHECK_EQ(put_large(&box, i, 2 * MIB), FMP_OK);
        expect_large(&box, i, 2 * MIB);
    }
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 1);
    CHECK(backed_bytes(box.ring.fd) < 3 * MIB);
    CHECK(count_fds() <= fds + 1);
    fmp_mailbox_close(&box);
}

/* More than there are extents wait, so that some lie inside. */
CASE(what_waits_is_not_written_over)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < FMP_EXTENTS + 10; i++) {
        CHECK_EQ(put_large(&box, i, MIB), FMP_OK);
    }
    for (uint32_t i = 0; i < FMP_EXTENTS + 10; i++) {
        expect_large(&box, i, MIB);
        CHECK_EQ(put_large(&box, 1000 + i, MIB), FMP_OK);
    }
    for (uint32_t i = 0; i < FMP_EXTENTS + 10; i++) {
        expect_large(&box, 1000 + i, MIB);
    }
    fmp_mailbox_close(&box);
}

CASE(what_is_leased_is_not_written_over)
{
    CHECK_NEEDS_PROCESSES();
    enum { N = 20 };
    struct fmp_mailbox box = new_box();
    struct fmp_buffer taken[N];
    for (uint32_t i = 0; i < N; i++) {
        CHECK_EQ(put_large(&box, i, MIB), FMP_OK);
        CHECK_EQ(take_large(&box, &taken[i]), FMP_OK);
        CHECK(taken[i].lease.address != NULL);
    }
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < N; i++) {
            CHECK_EQ(put_large(&box, 100 + i, MIB), FMP_OK);
        }
        for (uint32_t i = 0; i < N; i++) {
            expect_large(&box, 100 + i, MIB);
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        check_large(&taken[i], i, MIB);
        fmp_buffer_free(&taken[i]);
    }
    fmp_mailbox_close(&box);
}

/* --- forks and kills ------------------------------------------------------------------------- */

struct forked {
    struct fmp_mailbox *box;
    struct fmp_buffer *taken;
    fmp_a32 *step;
};

static void
await(fmp_a32 *step, uint32_t value)
{
    while (atomic_load(step) < value) {
        check_sleep_ms(1);
    }
}

static void
keep_view(void *arg)
{
    struct forked *f = arg;
    uint64_t *view = check_large(f->taken, 0, MIB);
    view[5] = 55; /* not to be seen by the parent */
    atomic_store(f->step, 1);
    await(f->step, 2); /* the parent has let go, and much has been put */
    CHECK_EQ(view[5], 55);
    view[5] = word_at(0, 5);
    check_large(f->taken, 0, MIB);
    fmp_buffer_free(f->taken);
}

CASE(a_child_has_the_lease_too)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    struct fmp_buffer taken;
    struct forked f = {&box, &taken, shared_zeros(4096)};
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    CHECK_EQ(take_large(&box, &taken), FMP_OK);
    pid_t child = check_fork(keep_view, &f);
    await(f.step, 1);
    check_large(&taken, 0, MIB);
    fmp_buffer_free(&taken);
    CHECK(fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    for (uint32_t i = 1; i < 6; i++) {
        CHECK_EQ(put_large(&box, i, MIB), FMP_OK);
        expect_large(&box, i, MIB);
    }
    atomic_store(f.step, 2);
    check_reap(child);
    CHECK(!fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    fmp_mailbox_close(&box);
}

static void
take_and_stay(void *arg)
{
    struct forked *f = arg;
    CHECK_EQ(take_large(f->box, f->taken), FMP_OK);
    check_large(f->taken, 0, MIB);
    atomic_store(f->step, 1);
    await(f->step, 2);
}

CASE(a_killed_takers_lease_ends)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    struct fmp_buffer taken;
    struct forked f = {&box, &taken, shared_zeros(4096)};
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    pid_t child = check_fork(take_and_stay, &f);
    await(f.step, 1);
    CHECK(fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    check_kill(child);
    CHECK(!fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    CHECK_EQ(put_large(&box, 1, MIB), FMP_OK);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 1);
    expect_large(&box, 1, MIB);
    fmp_mailbox_close(&box);
}

static const char *dies_at;

static void
die_at_point(const char *name)
{
    if (strcmp(name, dies_at) == 0) {
        kill(getpid(), SIGKILL);
    }
}

static void
put_and_die(void *arg)
{
    at_point = die_at_point;
    put_large(arg, 7, 2 * MIB);
}

static void
take_and_die(void *arg)
{
    struct fmp_buffer taken;
    at_point = die_at_point;
    take_large(arg, &taken);
}

static void
reap_killed(pid_t pid)
{
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Three extents: one leased, one of MIB, and one of twice that, which has no mapping yet. */
static void
make_warm(struct fmp_mailbox *box)
{
    struct fmp_buffer kept;
    CHECK_EQ(put_large(box, 0, MIB), FMP_OK);
    CHECK_EQ(take_large(box, &kept), FMP_OK);
    CHECK_EQ(put_large(box, 1, MIB), FMP_OK);
    CHECK_EQ(put_large(box, 2, 2 * MIB), FMP_OK);
    expect_large(box, 1, MIB);
    expect_large(box, 2, 2 * MIB);
    fmp_buffer_free(&kept);
}

CASE(a_killed_sender_leaves_nothing)
{
    CHECK_NEEDS_PROCESSES();
    static const struct {
        const char *point;
        bool warm;
    } deaths[] = {{"extent: filled", false}, {"extent: written", false}, {"ring: to write", false},
                  {"extent: to copy", true}, {"extent: written", true},  {"ring: to write", true}};
    for (unsigned i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
        struct fmp_mailbox box = new_box();
        struct fmp_buffer kept;
        if (deaths[i].warm) {
            make_warm(&box);
        }
        dies_at = deaths[i].point;
        CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
        CHECK_EQ(take_large(&box, &kept), FMP_OK);
        CHECK_EQ(put_large(&box, 1, MIB), FMP_OK);
        reap_killed(check_fork(put_and_die, &box));
        CHECK_EQ(fmp_ring_count(&box.ring), 1);
        CHECK_EQ(put_large(&box, 2, 2 * MIB), FMP_OK);
        check_large(&kept, 0, MIB);
        fmp_buffer_free(&kept);
        expect_large(&box, 1, MIB);
        expect_large(&box, 2, 2 * MIB);
        CHECK(atomic_load(&box.ring.shm->n_extents) <= 3);
        fmp_mailbox_close(&box);
    }
}

CASE(what_a_killed_taker_had_not_committed_is_anothers)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    dies_at = "extent: leased";
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    reap_killed(check_fork(take_and_die, &box));
    CHECK_EQ(put_large(&box, 1, MIB), FMP_OK);
    expect_large(&box, 0, MIB);
    expect_large(&box, 1, MIB);
    fmp_mailbox_close(&box);
}

static void
put_and_leave(void *arg)
{
    CHECK_EQ(put_large(arg, 3, 2 * MIB), FMP_OK);
}

CASE(a_message_does_not_need_its_sender)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    check_reap(check_fork(put_and_leave, &box));
    expect_large(&box, 3, 2 * MIB);
    fmp_mailbox_close(&box);
}

/* --- limits ---------------------------------------------------------------------------------- */

CASE(without_a_lease_it_is_copied)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    CHECK_EQ(put_large(&box, 0, 2 * MIB), FMP_OK);
    struct rlimit all, none;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = (struct rlimit){0, all.rlim_max}; /* no descriptor, so none to take a lease by */
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct fmp_buffer taken;
    CHECK_EQ(take_large(&box, &taken), FMP_OK);
    CHECK(taken.lease.address == NULL);
    check_large(&taken, 0, 2 * MIB);
    fmp_buffer_free(&taken);
    CHECK_EQ(put_large(&box, 1, 2 * MIB), FMP_OK);
    expect_large(&box, 1, 2 * MIB);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &all), 0);
    fmp_mailbox_close(&box);
}

CASE(with_a_limit_on_files_all_lies_inside)
{
    CHECK_NEEDS_PROCESSES();
    struct rlimit limit = {64 * MIB, 64 * MIB};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct fmp_mailbox box = new_box();
    CHECK_EQ(put_large(&box, 0, 2 * MIB), FMP_OK);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 0);
    expect_large(&box, 0, 2 * MIB);
    fmp_mailbox_close(&box);
}

static int
send_large(struct fmp_pipe *pipe, uint32_t number, uint64_t length)
{
    struct large l;
    struct fmp_wait w = {.budget_ns = 1000, .fd = -1};
    make_large(&l, number, length);
    int rc = fmp_pipe_send(pipe, &l.batch, NULL, &w);
    free(l.outside);
    return rc;
}

static void
receive_large(struct fmp_pipe *pipe, uint32_t number, uint64_t length)
{
    struct fmp_buffer taken;
    struct fmp_pipe_call call = {.at_once = true};
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    fmp_buffer_init(&taken, NULL, 0);
    CHECK_EQ(fmp_pipe_receive(pipe, &call, &taken, &w), FMP_OK);
    check_large(&taken, number, length);
    fmp_buffer_free(&taken);
}

/* What lies outside counts: a pipe holds its bytes, or one larger message. */
CASE(a_pipe_is_full_with_one_large_message)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_pipe a, b;
    CHECK_EQ(fmp_pipe_create(&a, &b, false), FMP_OK);
    CHECK_EQ(send_large(&b, 0, 4 * MIB), FMP_OK);
    CHECK_EQ(atomic_load(&a.in->shm->n_extents), 1);
    CHECK_EQ(send_large(&b, 1, 4 * MIB), FMP_AGAIN);
    CHECK_EQ(send_large(&b, 1, 16), FMP_AGAIN);
    receive_large(&a, 0, 4 * MIB);
    CHECK_EQ(send_large(&b, 1, 16), FMP_OK);
    CHECK_EQ(send_large(&b, 2, 16), FMP_OK);
    CHECK_EQ(send_large(&b, 3, 4 * MIB), FMP_AGAIN);
    receive_large(&a, 1, 16);
    receive_large(&a, 2, 16);
    CHECK_EQ(send_large(&b, 3, 4 * MIB), FMP_OK);
    receive_large(&a, 3, 4 * MIB);
    fmp_pipe_hang_up(&a, false);
    fmp_pipe_hang_up(&b, false);
    fmp_pipe_free(&a);
    fmp_pipe_free(&b);
}

/* --- memory ---------------------------------------------------------------------------------- */

CASE(memory_comes_back)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 40; i++) {
        CHECK_EQ(put_large(&box, i, 10 * MIB), FMP_OK);
    }
    CHECK(backed_bytes(box.ring.fd) >= 400 * MIB);
    struct fmp_buffer kept;
    CHECK_EQ(take_large(&box, &kept), FMP_OK);
    for (uint32_t i = 1; i < 40; i++) {
        expect_large(&box, i, 10 * MIB);
    }
    CHECK(backed_bytes(box.ring.fd) <= 257 * MIB); /* at once: what is beyond use */
    for (uint32_t i = 0; i < 70; i++) {
        CHECK_EQ(put_large(&box, i, 16), FMP_OK);
        expect_large(&box, i, 16);
    }
    CHECK(backed_bytes(box.ring.fd) <= 11 * MIB); /* after a while all but what is leased */
    check_large(&kept, 0, 10 * MIB);
    fmp_buffer_free(&kept);
    for (uint32_t i = 0; i < 70; i++) {
        CHECK_EQ(put_large(&box, i, 16), FMP_OK);
        expect_large(&box, i, 16);
    }
    CHECK(backed_bytes(box.ring.fd) <= MIB);
    CHECK_EQ(atomic_load(&box.ring.shm->n_extents), 0);
    CHECK_EQ(put_large(&box, 1, 3 * MIB), FMP_OK); /* and it goes on */
    expect_large(&box, 1, 3 * MIB);
    fmp_mailbox_close(&box);
}

/* A view keeps its file alive, but no more of it than it needs. */
CASE(closing_gives_back_what_nobody_uses)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    struct fmp_buffer kept;
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    CHECK_EQ(take_large(&box, &kept), FMP_OK);
    CHECK_EQ(put_large(&box, 1, 30 * MIB), FMP_OK);
    expect_large(&box, 1, 30 * MIB);
    int fd = another_fd(box.ring.fd);
    CHECK(backed_bytes(fd) >= 31 * MIB);
    fmp_mailbox_close(&box);
    CHECK(backed_bytes(fd) <= 2 * MIB);
    check_large(&kept, 0, MIB);
    fmp_buffer_free(&kept);
}

/* --- damage ---------------------------------------------------------------------------------- */

static int
take_damaged(uint64_t number, uint64_t length)
{
    struct fmp_mailbox box = new_box();
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    uint64_t words[2] = {number, length};
    CHECK_EQ(pwrite(box.ring.fd, words, sizeof words, FMP_RING_DATA + 16), sizeof words);
    struct fmp_buffer taken;
    int rc = take_large(&box, &taken);
    fmp_buffer_free(&taken);
    fmp_mailbox_close(&box);
    return rc;
}

CASE(damaged_references_are_refused)
{
    CHECK_NEEDS_PROCESSES();
    CHECK_EQ(take_damaged(0, MIB), FMP_OK);
    CHECK_EQ(take_damaged(0, 0), FMP_CORRUPT);
    CHECK_EQ(take_damaged(0, MIB + 4096), FMP_CORRUPT);
    CHECK_EQ(take_damaged(0, UINT64_MAX), FMP_CORRUPT);
    CHECK_EQ(take_damaged(1, MIB), FMP_CORRUPT);
    CHECK_EQ(take_damaged(FMP_EXTENTS, MIB), FMP_CORRUPT);
    CHECK_EQ(take_damaged(UINT64_MAX, MIB), FMP_CORRUPT);
}

CASE(a_damaged_table_is_survived)
{
    CHECK_NEEDS_PROCESSES();
    static const uint64_t words[] = {0, 1, MIB, 1 << 30, FMP_EXTENT_SPAN, UINT64_MAX};
    uint64_t seed = 1;
    for (int i = 0; i < 200; i++) {
        struct fmp_mailbox box = new_box();
        CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
        for (unsigned e = 0; e < FMP_EXTENTS; e++) {
            struct fmp_extent_shm *extent = &box.ring.shm->extents[e];
            atomic_store(&extent->reserved, words[random_next(&seed) % 6]);
            atomic_store(&extent->record, random_next(&seed) % 3);
        }
        atomic_store(&box.ring.shm->n_extents, random_next(&seed));
        int rc = put_large(&box, 1, MIB);
        CHECK(rc == FMP_OK || rc == FMP_CORRUPT || rc == -ENOMEM);
        struct fmp_buffer taken;
        rc = take_large(&box, &taken);
        CHECK(rc == FMP_OK || rc == FMP_CORRUPT);
        fmp_buffer_free(&taken);
        fmp_mailbox_close(&box);
    }
}

CHECK_MAIN
