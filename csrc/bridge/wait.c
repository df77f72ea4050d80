/* wait.c - try, spin, release the GIL, sleep in ticks; see wait.h.
 *
 * Owns nothing. The order of things in the loop is what makes it right: the call is tried again
 * after every wake-up, signal and tick, and its whole condition with it (invariant T), so neither
 * a lost wake-up nor a spurious one can do more than cost time.
 */
#include "bridge/wait.h"

#include <errno.h>
#include <stdbool.h>

#include "base/status.h"
#include "platform/clock.h"
#include "platform/cpus.h"

#define SPIN_PAUSES 50 /* in a round */
#define SPIN_ROUNDS 40 /* at the highest level */
#define ROUNDS_WITH_GIL 2
#define PROBE_EVERY 32     /* a wait that does not spin any more tries again so often */
#define PROBE_RARELY 128   /* ... and less and less often */
#define SHORT_WAIT 12      /* pauses; a peer that answers needs longer */
#define STREAM 8           /* so many short waits in a row are one */
#define STREAM_AT_LAST 256 /* ... after it has been none several times */
#define GATHER_PAUSES 40
#define LOCK_GRACE FMP_SECOND
#define LATE (10 * FMP_TICK_NS) /* slept in vain */
#define CROWD 256               /* sleepers on one word */

/* How many rounds this wait may spin.
 *
 * Spinning pays when the other side is at it right now, which is likely when it paid the last
 * time. A peer that sleeps as we do answers late the first time, and early once both spin: so a
 * probe spins at full length, and one that pays brings spinning back at once. One that does not, as
 * when more threads want to run than there are processors, makes the next one rarer. */
static int
rounds_to_spin(struct fmp_spin *s)
{
    if (s == NULL || fmp_cpus_available() < 2) {
        return 0;
    }
    int level = s->level != 0 ? s->level : SPIN_ROUNDS / 2;
    if (level > 1) {
        return level;
    }
    uint16_t every = s->probe_every;
    if (++s->missed < every) {
        return 0;
    }
    s->missed = 0;
    s->probe_every = every < PROBE_RARELY ? every * 2 : PROBE_RARELY;
    return SPIN_ROUNDS;
}

static void
spinning_has_paid(struct fmp_spin *s)
{
    if (s->level != SPIN_ROUNDS) {
        s->level = SPIN_ROUNDS;
        s->probe_every = PROBE_EVERY;
    }
}

static void
spinning_was_vain(struct fmp_spin *s)
{
    int level = s->level != 0 ? s->level : SPIN_ROUNDS / 2;
    if (level > 1 && level / 2 <= 1) {
        s->missed = 0;
        s->probe_every = PROBE_EVERY;
    }
    s->level = (uint16_t)(level > 1 ? level / 2 : 1);
}

/* A taker that is as fast as the putter finds nothing each time, and by watching for the next record
 * slows both down: the line that it looks at is the one that each put writes. So when records come one
 * by one at short intervals, it looks away for a moment and takes those that have come meanwhile. A peer
 * that answers at once looks like a stream, but no second record comes before it has been answered: each
 * time that this is found, twice as many short waits have to come before it is tried again. */
static void
let_gather(const struct fmp_waiter *waiter, const struct fmp_wait *w)
{
    struct fmp_spin *s = waiter->spin;
    uint16_t from = s->gather_from != 0 ? s->gather_from : STREAM;
    if (!waiter->gather || s->stream < from) {
        return;
    }
    for (int i = 0; i < GATHER_PAUSES; i++) {
        fmp_pause();
    }
    if (atomic_load_explicit(w->word, memory_order_relaxed) - w->seen < 2) {
        s->stream = 0;
        s->gather_from = from < STREAM_AT_LAST ? from * 2 : from;
    }
    else if (from != STREAM) {
        s->gather_from = STREAM;
    }
}

static void
note_wait(struct fmp_spin *s, int looks)
{
    if (looks > SHORT_WAIT) {
        s->stream = 0;
    }
    else if (s->stream < STREAM_AT_LAST) {
        s->stream++;
    }
}

/* Watches the word, and tries when it changes. FMP_AGAIN: it has not, or there is nothing to watch. */
static int
spin(const struct fmp_waiter *waiter, struct fmp_wait *w, int from, int rounds)
{
    for (int i = from * SPIN_PAUSES; i < rounds * SPIN_PAUSES && w->word != NULL; i++) {
        if (fmp_wait_changed(w)) {
            int rc = waiter->try_once(waiter->arg, w);
            if (rc != FMP_AGAIN) {
                spinning_has_paid(waiter->spin);
                note_wait(waiter->spin, i);
                return rc;
            }
        }
        else {
            fmp_pause();
        }
    }
    return FMP_AGAIN;
}

/* A tick is longer for who has slept long, and for one of many who sleep on the same word, so many
 * idle waiters cost little: a tick is 10 to 20 us of a processor, most of it the kernel's. In such a
 * crowd somebody has a tick all the time, and it is the sooner late; what has to be found by each of
 * them, the last finds after 4 s. Their count may be too high, or damaged: it makes a tick four times as
 * long at most. */
static int64_t
length_of_tick(const struct fmp_wait *w, int64_t slept)
{
    uint32_t crowds =
        w->word != NULL ? atomic_load_explicit(w->sleepers, memory_order_relaxed) / CROWD : 0;
    int64_t times = 1 + (crowds < 3 ? crowds : 3);
    return times * (slept * times < LATE ? FMP_TICK_NS : 10 * FMP_TICK_NS);
}

static int64_t
at_most_until(int64_t deadline, int64_t ns)
{
    int64_t left = fmp_time_left(deadline);
    return left < ns ? left : ns;
}

static int
handle_signals(PyThreadState **saved)
{
    PyEval_RestoreThread(*saved);
    int rc = PyErr_CheckSignals() < 0 ? FMP_PYERR : FMP_AGAIN;
    *saved = PyEval_SaveThread();
    return rc;
}

/* Without the GIL: sleeps and tries until something else than FMP_AGAIN comes. */
static int
sleep_and_try(const struct fmp_waiter *waiter, struct fmp_wait *w, int64_t deadline,
              PyThreadState **saved)
{
    int64_t slept = 0;
    for (;;) {
        /* Never 0: that would mean that we hold the GIL. */
        w->budget_ns = at_most_until(deadline, FMP_TICK_NS) + 1;
        int rc = waiter->try_once(waiter->arg, w);
        if (rc != FMP_AGAIN) {
            return rc;
        }
        int64_t ns = at_most_until(deadline, length_of_tick(w, slept));
        if (ns == 0) {
            return FMP_TIMEOUT;
        }
        /* With a lock busy the try itself has waited, as long as a tick. */
        bool lock_was_busy = fmp_wait_is_on_lock(w);
        rc = lock_was_busy ? FMP_TIMEOUT : fmp_wait_sleep(w, ns);
        if (rc == FMP_TIMEOUT) {
            slept += ns;
            if (waiter->tick != NULL) {
                rc = waiter->tick(waiter->arg);
                if (rc != FMP_AGAIN) {
                    return rc;
                }
            }
        }
        if (rc == -EINTR || rc == FMP_TIMEOUT || rc == FMP_AGAIN) {
            /* At ticks too: the signal may have been delivered to another thread. */
            rc = handle_signals(saved);
            if (rc != FMP_AGAIN) {
                return rc;
            }
        }
        else if (rc < 0) {
            return rc;
        }
    }
}

int
fmp_wait_for(const struct fmp_waiter *waiter)
{
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    int rc = waiter->try_once(waiter->arg, &w);
    if (rc != FMP_AGAIN) {
        return rc;
    }
    bool lock_was_busy = fmp_wait_is_on_lock(&w);
    int64_t deadline = waiter->deadline;
    if (deadline == 0) {
        if (!lock_was_busy) {
            return FMP_TIMEOUT;
        }
        return fmp_run_unlocked(waiter->try_once, waiter->arg);
    }
    int rounds = w.word != NULL ? rounds_to_spin(waiter->spin) : 0;
    if (rounds > 0) {
        let_gather(waiter, &w);
    }
    int with_gil = rounds < ROUNDS_WITH_GIL ? rounds : ROUNDS_WITH_GIL;
    rc = spin(waiter, &w, 0, with_gil);
    if (rc != FMP_AGAIN) {
        return rc;
    }
    PyThreadState *saved = PyEval_SaveThread();
    rc = spin(waiter, &w, with_gil, rounds); /* our other threads may be what has to answer */
    if (rc == FMP_AGAIN) {
        if (rounds > 0) {
            spinning_was_vain(waiter->spin);
        }
        rc = sleep_and_try(waiter, &w, deadline, &saved);
    }
    PyEval_RestoreThread(saved);
    return rc;
}

int
fmp_run_unlocked(fmp_try_fn try_once, void *arg)
{
    int64_t give_up = fmp_now() + LOCK_GRACE;
    struct fmp_wait w = {.fd = -1};
    int rc;
    PyThreadState *saved = PyEval_SaveThread();
    for (;;) {
        w.budget_ns = FMP_TICK_NS;
        rc = try_once(arg, &w);
        bool lock_was_busy = rc == FMP_AGAIN && fmp_wait_is_on_lock(&w);
        if (!lock_was_busy) {
            break;
        }
        if (fmp_now() >= give_up) {
            break;
        }
        rc = handle_signals(&saved);
        if (rc != FMP_AGAIN) {
            break;
        }
    }
    PyEval_RestoreThread(saved);
    return rc == FMP_AGAIN ? FMP_TIMEOUT : rc;
}
