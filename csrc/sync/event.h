/* event.h - the word behind Event: a flag, and how often it has been set.
 *
 * One 32 bit word: bit 0 is the flag, the rest counts the times it went from clear to set. A waiter
 * remembers the word it saw and is released when the flag is set or the count has moved, so a
 * set() directly followed by clear() releases everybody who waited. There is no handshake: a dead
 * waiter blocks nobody.
 */
#ifndef FMP_SYNC_EVENT_H
#define FMP_SYNC_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"
#include "sync/eventcount.h"

struct fmp_event_shm {
    fmp_a32 word;     /* by set() and clear(), anybody */
    fmp_a32 sleepers; /* by sleepers */
};

static inline bool
fmp_event_is_set(struct fmp_event_shm *e)
{
    return atomic_load(&e->word) & 1;
}

/* For a waiter, as it arrives: what to hand to fmp_event_try(). */
static inline uint32_t
fmp_event_arrive(struct fmp_event_shm *e)
{
    return atomic_load(&e->word);
}

/* FMP_OK: set now, or at some time since `arrived`. FMP_AGAIN: wait as `w` says. */
static inline int
fmp_event_try(struct fmp_event_shm *e, uint32_t arrived, struct fmp_wait *w)
{
    uint32_t now = atomic_load(&e->word);
    if ((now & 1) || now >> 1 != arrived >> 1) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, &e->word, now, &e->sleepers);
    return FMP_AGAIN;
}

/* Sets the flag and wakes everybody who waits. */
void fmp_event_set(struct fmp_event_shm *e);
void fmp_event_clear(struct fmp_event_shm *e);

#endif
