/* eventcount.h - sleep until a committed word changes; how every wait of fmp is described.
 *
 * The protocol, in two halves that make a lost wake-up impossible:
 *   sleeper:  read the word (seen) while trying; count itself in *sleepers; sleep if word == seen
 *   changer:  store the word; then, if *sleepers != 0, wake
 * Both are sequentially consistent, so either the changer sees the sleeper or the kernel sees the
 * changed word. A sleeper that is killed leaves *sleepers one too high: that costs wake-ups that
 * reach nobody, never a lost one. No sleep is longer than a tick (invariant T), so what a killed
 * changer did not wake is found by then.
 */
#ifndef FMP_SYNC_EVENTCOUNT_H
#define FMP_SYNC_EVENTCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "platform/futex.h"
#include "platform/poll.h"

/* The tick. A build with FMP_NO_TICK sleeps for an hour instead, so that tests see lost wake-ups
 * which the tick would mend; tests that wait for many ticks are built with a short one. */
#ifdef FMP_NO_TICK
#define FMP_TICK_NS (INT64_C(3600) * 1000000000)
#elif !defined(FMP_TICK_NS)
#define FMP_TICK_NS (INT64_C(100) * 1000000)
#endif

/* A try-call gets this from its caller and, when it returns FMP_AGAIN, leaves in it what to wait
 * for before trying again. */
struct fmp_wait {
    int64_t budget_ns; /* in: how long the call may block on an internal lock; 0 with the GIL */
    fmp_a32 *word;     /* out: sleep until *word != seen; NULL: an internal lock was busy */
    uint32_t seen;
    fmp_a32 *sleepers;
    int64_t nap_ns; /* out: 0, or sleep on the word no longer than this, then try again */
    int fd;         /* out: >= 0: sleep in poll(fd) for `events` instead of on a word */
    short events;
    struct fmp_polled *many; /* out: not NULL: sleep in poll() for any of these instead */
    unsigned n_many;
};

static inline void
fmp_wait_on_word(struct fmp_wait *w, fmp_a32 *word, uint32_t seen, fmp_a32 *sleepers)
{
    w->word = word;
    w->seen = seen;
    w->sleepers = sleepers;
    w->nap_ns = 0;
    w->fd = -1;
    w->many = 0;
}

/* An internal lock was busy: just try again, there is nothing to sleep on. */
static inline void
fmp_wait_on_lock(struct fmp_wait *w)
{
    w->word = 0;
    w->fd = -1;
    w->many = 0;
}

static inline bool
fmp_wait_is_on_lock(const struct fmp_wait *w)
{
    return w->word == 0 && w->fd < 0 && w->many == 0;
}

static inline void
fmp_wait_on_fd(struct fmp_wait *w, int fd, short events)
{
    w->word = 0;
    w->fd = fd;
    w->events = events;
    w->many = 0;
}

static inline void
fmp_wait_on_many(struct fmp_wait *w, struct fmp_polled *many, unsigned n)
{
    w->word = 0;
    w->fd = -1;
    w->many = many;
    w->n_many = n;
}

/* Sleeps once, at most `ns`. FMP_OK, at a nap's end too; FMP_TIMEOUT, -EINTR, or -errno of a
 * descriptor's. */
int fmp_wait_sleep(const struct fmp_wait *w, int64_t ns);

/* Has what `w` waits for happened already? Cheap, for spinning. An fd is never polled here. */
static inline int
fmp_wait_changed(const struct fmp_wait *w)
{
    return w->word != 0 && atomic_load_explicit(w->word, memory_order_relaxed) != w->seen;
}

/* Called after the word was stored: wakes up to `count` of its sleepers. */
static inline void
fmp_wake(fmp_a32 *word, fmp_a32 *sleepers, int count)
{
    if (atomic_load(sleepers) != 0) {
        (void)fmp_futex_wake(word, count);
    }
}

#endif
