/* semaphore.h - the word behind Semaphore and BoundedSemaphore: a count, and who sleeps for it. */
#ifndef FMP_SYNC_SEMAPHORE_H
#define FMP_SYNC_SEMAPHORE_H

#include <stdint.h>

#include "base/atomics.h"
#include "sync/eventcount.h"

struct fmp_semaphore_shm {
    fmp_a32 value;    /* by acquire (-1) and release (+1), anybody */
    fmp_a32 sleepers; /* by sleepers */
    uint32_t maximum; /* by the creator, once */
    uint32_t reserved[5];
};

/* FMP_OK: one unit taken. FMP_AGAIN: none left, wait as `w` says. */
int fmp_semaphore_try(struct fmp_semaphore_shm *s, struct fmp_wait *w);

/* FMP_OK, or FMP_OVER_RELEASE at the maximum. */
int fmp_semaphore_release(struct fmp_semaphore_shm *s);

#endif
