/* test_extent_views.c - platform/lease.c: a view is its taker's own; one that is kept is used again only if
 * nothing of it was written to, wherever that was and whenever it is found out. */
#include "platform/lease.h"

#include <fcntl.h>
#include <unistd.h>

#include "channel/extent.h"
#include "large.h"
#include "platform/memory.h"

/* What the taker writes is nobody else's: not the file's, not the next message's. */
CASE(a_view_is_its_takers_own)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 10; i++) {
        struct fmp_buffer taken;
        CHECK_EQ(put_large(&box, i, 2 * MIB), FMP_OK);
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        uint64_t *view = check_large(&taken, i, 2 * MIB), seen;
        memset(view, 0xee, i % 2 ? MIB / 4 : 4096);
        CHECK_EQ(fmp_memory_read(box.ring.fd, fmp_extent_begin(0), &seen, sizeof seen), FMP_OK);
        CHECK(seen == word_at(i, 0));
        fmp_buffer_free(&taken);
    }
    fmp_mailbox_close(&box);
}

/* Who writes over all that he receives is better off with copies; now and then it is tried again. */
CASE(views_that_are_written_over_become_copies)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    uint32_t leased = 0;
    for (uint32_t i = 0; i < 48; i++) {
        struct fmp_buffer taken;
        CHECK_EQ(put_large(&box, i, MIB), FMP_OK);
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        memset(check_large(&taken, i, MIB), 0xee, MIB);
        leased += taken.lease.address != NULL;
        fmp_buffer_free(&taken);
    }
    CHECK_EQ(leased, 3);
    fmp_mailbox_close(&box);
}

static void
expect_fds(void *arg)
{
    CHECK_EQ(count_fds(), *(int *)arg);
}

/* Mapped once, as long as it need not be longer, nothing was written to it and nobody was forked. */
CASE(a_view_is_kept)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    int fds = count_fds();
    struct fmp_buffer taken;
    void *address = NULL;
    static const uint64_t lengths[] = {2 * MIB, MIB, 2 * MIB, MIB + 16};
    for (uint32_t i = 0; i < 12; i++) {
        CHECK_EQ(put_large(&box, i, lengths[i % 4]), FMP_OK);
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        check_large(&taken, i, lengths[i % 4]);
        CHECK(address == NULL || taken.lease.address == address);
        address = taken.lease.address;
        fmp_buffer_free(&taken);
        CHECK(!fmp_lease_exists(box.ring.fd, fmp_extent_begin(0)));
    }
    CHECK_EQ(count_fds(), fds + 1);
    check_reap(check_fork(expect_fds, &fds)); /* not by a child */
    CHECK_EQ(put_large(&box, 1, MIB), FMP_OK);
    CHECK_EQ(take_large(&box, &taken), FMP_OK);
    check_large(&taken, 1, MIB);
    CHECK(taken.lease.cold == false); /* read in by the take: it is another one */
    fmp_buffer_free(&taken);
    fmp_mailbox_close(&box);
}

/* Somebody closes all descriptors, as daemons do, and its number is another's: before the lease ends,
 * or after. */
static void
lose_descriptor(bool before)
{
    struct fmp_mailbox box = new_box();
    struct fmp_buffer taken;
    int lost = another_fd(box.ring.fd), another = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lost); /* what is opened next has this number */
    CHECK_EQ(put_large(&box, 0, MIB), FMP_OK);
    CHECK_EQ(take_large(&box, &taken), FMP_OK);
    CHECK(fcntl(lost, F_GETFD) >= 0);
    if (before) {
        CHECK_EQ(dup2(another, lost), lost);
    }
    check_large(&taken, 0, MIB);
    fmp_buffer_free(&taken);
    CHECK_EQ(dup2(another, lost), lost);
    for (uint32_t i = 1; i < 4; i++) {
        CHECK_EQ(put_large(&box, i, MIB), FMP_OK);
        CHECK_EQ(take_large(&box, &taken), FMP_OK);
        CHECK(taken.lease.address != NULL);
        check_large(&taken, i, MIB);
        fmp_buffer_free(&taken);
    }
    fmp_mailbox_close(&box);
    CHECK(fcntl(lost, F_GETFD) >= 0); /* it was not ours to close */
    close(lost);
    close(another);
}

CASE(a_kept_views_descriptor_may_be_lost)
{
    CHECK_NEEDS_PROCESSES();
    lose_descriptor(true);
    lose_descriptor(false);
}

/* --- one page that was written to, out of many ----------------------------------------------- */

#define LENGTH (8 * MIB)
#define PAGE 4096

/* Takes message `number` and writes to one page of it, unless `page` is 0. */
static void *
take_and_write(struct fmp_mailbox *box, uint32_t number, uint64_t page)
{
    struct fmp_buffer taken;
    CHECK_EQ(put_large(box, number, LENGTH), FMP_OK);
    CHECK_EQ(take_large(box, &taken), FMP_OK);
    CHECK(taken.lease.address != NULL);
    uint64_t *view = check_large(&taken, number, LENGTH);
    if (page > 0) {
        view[page * PAGE / sizeof *view + 7] = 0;
    }
    fmp_buffer_free(&taken);
    return view;
}

/* Whether or not there is time between two messages to look for it. */
static void
write_here_and_there(bool settle)
{
    struct fmp_mailbox box = new_box();
    for (uint32_t i = 0; i < 40; i++) {
        take_and_write(&box, i, 1 + i * 1741 % (LENGTH / PAGE - 1));
        if (settle) {
            fmp_lease_settle();
        }
    }
    fmp_mailbox_close(&box);
}

CASE(a_written_page_hides_nothing)
{
    CHECK_NEEDS_PROCESSES();
    write_here_and_there(false);
    write_here_and_there(true);
}

/* Whoever has nothing to do finds it out, and keeps no view for nothing. */
CASE(a_view_with_a_written_page_is_dropped_when_there_is_time)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    int fds = count_fds();
    take_and_write(&box, 0, 1); /* which is not one of those that are looked at at once */
    CHECK_EQ(count_fds(), fds + 1);
    struct fmp_wait w;
    fmp_a32 word = 0, sleepers = 0;
    fmp_wait_on_word(&w, &word, 0, &sleepers);
    CHECK_EQ(fmp_wait_sleep(&w, 1000), FMP_TIMEOUT);
    CHECK_EQ(count_fds(), fds);
    fmp_mailbox_close(&box);
}

CASE(a_view_that_was_not_written_to_is_kept)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box();
    void *first = take_and_write(&box, 0, 0);
    CHECK(take_and_write(&box, 1, 0) == first);
    fmp_lease_settle();
    CHECK(take_and_write(&box, 2, 0) == first);
    fmp_mailbox_close(&box);
}

CHECK_MAIN
