/* wait.h - the one place that sleeps on behalf of Python. */
#ifndef FMP_BRIDGE_WAIT_H
#define FMP_BRIDGE_WAIT_H

#include <Python.h>
#include <stdbool.h>

#include "sync/eventcount.h"

/* A call of a lower floor that may return FMP_AGAIN. Runs with and without the GIL, so it must not
 * touch Python. It may look at w->budget_ns. */
typedef int (*fmp_try_fn)(void *arg, struct fmp_wait *w);

/* Called at each tick without the GIL, for what no wake-up announces (a dead lock holder, a dead
 * parent). FMP_AGAIN: go on waiting; anything else ends the wait with that code. */
typedef int (*fmp_tick_fn)(void *arg);

/* How long spinning has paid off lately; one per object, starts as zero. Not shared. Threads may
 * spin on it at once: a mere hint. */
struct fmp_spin {
    _Atomic uint16_t level;  /* 0: not tried yet */
    _Atomic uint16_t missed; /* waits since the last probe that did not spin */
    _Atomic uint16_t probe_every;
    _Atomic uint16_t stream;      /* short waits in a row */
    _Atomic uint16_t gather_from; /* so many of them are a stream; 0: not tried yet */
};

struct fmp_waiter {
    fmp_try_fn try_once;
    void *arg;
    fmp_tick_fn tick;      /* or NULL */
    struct fmp_spin *spin; /* or NULL: do not spin */
    bool gather;           /* the word counts records, and one of them can wait for the next */
    int64_t deadline;      /* FMP_NEVER, or absolute on the monotonic clock; 0: do not wait */
};

/* Tries, spins briefly, then sleeps without the GIL in ticks until the call succeeds. Called with
 * the GIL. Returns what try_once or tick returned; FMP_TIMEOUT when the deadline passed (with
 * deadline 0, at once when the call has to wait for somebody else's action; an internal lock that
 * is merely busy is waited for all the same, up to a second); FMP_PYERR when a signal handler
 * raised. */
int fmp_wait_for(const struct fmp_waiter *waiter);

/* Runs try_once without the GIL until it no longer finds an internal lock busy: for calls that copy
 * much and never wait for anybody. */
int fmp_run_unlocked(fmp_try_fn try_once, void *arg);

#endif
