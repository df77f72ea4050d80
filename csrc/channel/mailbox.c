/* mailbox.c - many producers, many consumers over one ring; see mailbox.h.
 *
 * Uses three of the ring's extra words:
 *   DONE       by task_done(): how many tasks are done, modulo 2^32. How many are unfinished is the
 *              difference to the records ever put, so the two cannot disagree after a kill.
 *   JOINERS    by those who sleep in join() on DONE
 *   BELL_ARMED by arm_bell(), once
 *
 * The bell. A putter rings it under tail_lock, before its commit. Whoever empties the mailbox
 * silences it under tail_lock too, and only when the mailbox is empty there and then: no put can
 * come between the look and the silencing, so a bell is never silent over a record. A kill, or a
 * tail_lock that is busy, leaves at worst a bell that rings over an empty mailbox, until the next
 * who would take.
 */
#include "channel/mailbox.h"

#include <limits.h>
#include <string.h>

#include "base/status.h"
#include "platform/fd.h"
#include "platform/poll.h"

enum { DONE, JOINERS, BELL_ARMED };

int
fmp_mailbox_create(struct fmp_mailbox *m, uint32_t max_items)
{
    int bell = fmp_eventfd_create();
    if (bell < 0) {
        return bell;
    }
    int rc = fmp_ring_create(&m->ring, max_items, 0);
    if (rc != FMP_OK) {
        fmp_fd_close(bell);
        return rc;
    }
    m->bell = bell;
    return FMP_OK;
}

int
fmp_mailbox_attach(struct fmp_mailbox *m, int ring_fd, int bell_fd)
{
    int rc = fmp_ring_attach(&m->ring, ring_fd);
    if (rc != FMP_OK) {
        fmp_fd_close(bell_fd);
        return rc;
    }
    m->bell = bell_fd;
    return FMP_OK;
}

void
fmp_mailbox_close(struct fmp_mailbox *m)
{
    if (m->ring.shm != NULL) {
        fmp_ring_close(&m->ring);
        fmp_fd_close(m->bell);
        m->bell = -1;
    }
}

static bool
bell_is_armed(const struct fmp_mailbox *m)
{
    return atomic_load(&m->ring.shm->extra[BELL_ARMED]) != 0;
}

int
fmp_mailbox_put(struct fmp_mailbox *m, const struct fmp_batch *batch, struct fmp_wait *w)
{
    int rc = fmp_ring_lock_tail(&m->ring, w);
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t commit;
    rc = fmp_ring_write(&m->ring, batch, w, &commit);
    if (rc == FMP_OK) {
        if (bell_is_armed(m)) {
            fmp_eventfd_signal(m->bell);
        }
        fmp_ring_commit_put(&m->ring, commit, batch->items);
    }
    fmp_ring_unlock_tail(&m->ring);
    return rc;
}

/* When nothing is left, or nothing was there. */
static void
silence_bell_if_empty(struct fmp_mailbox *m, int64_t budget_ns)
{
    struct fmp_wait w = {.budget_ns = budget_ns};
    if (fmp_ring_count(&m->ring) != 0 || fmp_ring_lock_tail(&m->ring, &w) != FMP_OK) {
        return;
    }
    if (fmp_ring_count(&m->ring) == 0) {
        fmp_eventfd_clear(m->bell);
    }
    fmp_ring_unlock_tail(&m->ring);
}

static void
write_claim(fmp_a64 *claim, const struct fmp_buffer *out)
{
    uint64_t tag;
    memcpy(&tag, out->data + FMP_RECORD_HEADER, sizeof(tag));
    atomic_store(claim, tag);
}

/* max_items 0: one, and only its beginning. */
static int
take(struct fmp_mailbox *m, uint32_t max_items, struct fmp_buffer *out, fmp_a64 *claim,
     struct fmp_wait *w)
{
    int rc = fmp_ring_lock_head(&m->ring, w);
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t commit;
    uint32_t items;
    rc = max_items > 0 ? fmp_ring_read(&m->ring, max_items, out, w, &commit, &items)
                       : fmp_ring_read_cut(&m->ring, out, w, &commit);
    if (rc == FMP_OK) {
        if (claim != NULL) {
            write_claim(claim, out);
        }
        fmp_ring_commit_take(&m->ring, commit);
    }
    fmp_ring_unlock_head(&m->ring);
    fmp_buffer_warm(out);
    bool empty = rc == FMP_AGAIN && w->word != NULL;
    if ((rc == FMP_OK || empty) && bell_is_armed(m)) {
        silence_bell_if_empty(m, w->budget_ns);
    }
    return rc;
}

int
fmp_mailbox_take(struct fmp_mailbox *m, uint32_t max_items, struct fmp_buffer *out, fmp_a64 *claim,
                 struct fmp_wait *w)
{
    return take(m, max_items, out, claim, w);
}

int
fmp_mailbox_take_cut(struct fmp_mailbox *m, struct fmp_buffer *out, fmp_a64 *claim,
                     struct fmp_wait *w)
{
    return take(m, 0, out, claim, w);
}

int
fmp_mailbox_poll(struct fmp_mailbox *m, struct fmp_wait *w)
{
    struct fmp_ring_shm *shm = m->ring.shm;
    uint64_t head, tail;
    fmp_ring_positions(&m->ring, &head, &tail);
    if (tail != head) {
        /* The wake-up that brought us here may have been a taker's. */
        fmp_wake(fmp_low_half(&shm->tail), &shm->takers, 1);
        return FMP_OK;
    }
    fmp_wait_on_word(w, fmp_low_half(&shm->tail), (uint32_t)tail, &shm->takers);
    return FMP_AGAIN;
}

int
fmp_mailbox_arm_bell(struct fmp_mailbox *m, struct fmp_wait *w)
{
    if (bell_is_armed(m)) {
        return FMP_OK;
    }
    /* Under tail_lock, so that a put is either seen here or sees the arming. */
    int rc = fmp_ring_lock_tail(&m->ring, w);
    if (rc == FMP_OK) {
        atomic_store(&m->ring.shm->extra[BELL_ARMED], 1);
        if (fmp_ring_count(&m->ring) != 0) {
            fmp_eventfd_signal(m->bell);
        }
        fmp_ring_unlock_tail(&m->ring);
    }
    return rc;
}

static uint32_t
tasks_put(const struct fmp_mailbox *m)
{
    return (uint32_t)atomic_load(&m->ring.shm->tail);
}

uint32_t
fmp_mailbox_unfinished(const struct fmp_mailbox *m)
{
    uint32_t done = atomic_load(&m->ring.shm->extra[DONE]);
    return tasks_put(m) - done;
}

int
fmp_mailbox_task_done(struct fmp_mailbox *m)
{
    fmp_a32 *done = &m->ring.shm->extra[DONE];
    uint32_t before = atomic_load(done);
    do {
        if (before == tasks_put(m)) {
            return FMP_OVER_RELEASE;
        }
    } while (!atomic_compare_exchange_weak(done, &before, before + 1));
    if (before + 1 == tasks_put(m)) {
        fmp_wake(done, &m->ring.shm->extra[JOINERS], INT_MAX);
    }
    return FMP_OK;
}

int
fmp_mailbox_joined(struct fmp_mailbox *m, struct fmp_wait *w)
{
    fmp_a32 *done = &m->ring.shm->extra[DONE];
    uint32_t seen = atomic_load(done);
    if (seen == tasks_put(m)) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, done, seen, &m->ring.shm->extra[JOINERS]);
    return FMP_AGAIN;
}
