/* mailbox.h - a many-to-many queue of records: a ring, its sleepers, a doorbell, a task count.
 *
 * No call sleeps. FMP_AGAIN says what to wait for (struct fmp_wait), and bridge/wait.c does.
 * The doorbell is an eventfd that is readable exactly when records are there, for select and
 * asyncio; it is served only once somebody asked for it, since it costs system calls.
 */
#ifndef FMP_CHANNEL_MAILBOX_H
#define FMP_CHANNEL_MAILBOX_H

#include "channel/ring.h"

struct fmp_mailbox {
    struct fmp_ring ring;
    int bell; /* eventfd, shared by all holders */
};

/* max_items 0: any number. */
int fmp_mailbox_create(struct fmp_mailbox *m, uint32_t max_items);
/* Takes both descriptors over in every case. */
int fmp_mailbox_attach(struct fmp_mailbox *m, int ring_fd, int bell_fd);
void fmp_mailbox_close(struct fmp_mailbox *m);

/* Puts the whole batch or nothing. FMP_AGAIN: full. */
int fmp_mailbox_put(struct fmp_mailbox *m, const struct fmp_batch *batch, struct fmp_wait *w);

/* Takes 1 .. max_items records. When `claim` is given, the first eight bytes of the first record
 * are stored there before the commit, so that whoever outlives us knows what we took. FMP_AGAIN:
 * empty. */
int fmp_mailbox_take(struct fmp_mailbox *m, uint32_t max_items, struct fmp_buffer *out,
                     fmp_a64 *claim, struct fmp_wait *w);

/* Takes one record that there is no memory for, of which only the beginning is copied out: see
 * fmp_ring_read_cut(). */
int fmp_mailbox_take_cut(struct fmp_mailbox *m, struct fmp_buffer *out, fmp_a64 *claim,
                         struct fmp_wait *w);

/* FMP_OK: not empty. FMP_AGAIN: empty, wait as `w` says. */
int fmp_mailbox_poll(struct fmp_mailbox *m, struct fmp_wait *w);

/* From now on the bell is served. FMP_OK, or FMP_AGAIN: a lock was busy. */
int fmp_mailbox_arm_bell(struct fmp_mailbox *m, struct fmp_wait *w);

/* JoinableQueue's count: records put for which fmp_mailbox_task_done() was not called. */
uint32_t fmp_mailbox_unfinished(const struct fmp_mailbox *m);
/* FMP_OK, or FMP_OVER_RELEASE when no task is unfinished. */
int fmp_mailbox_task_done(struct fmp_mailbox *m);
/* FMP_OK: none unfinished. FMP_AGAIN: wait as `w` says. */
int fmp_mailbox_joined(struct fmp_mailbox *m, struct fmp_wait *w);

#endif
