/* barrier.h - a fixed number of parties that pass together, none before the last has come.
 *
 * A table of the parties inside; each has an outcome of its own. So a barrier does not drain, as
 * threading's does, before the next round can fill: who has passed may take its time to leave.
 *
 * A party that is killed inside - while it waits, runs the action, or has been released and not yet
 * left - breaks the barrier: each that waits looks at its neighbour in the table at its ticks, and
 * the last to come at those that have not ticked for long.
 *
 * The action runs outside the lock, in the last party to come. While it runs the round is full, and
 * later ones wait outside.
 *
 * Parties of one round get the indices 0, 1, ... in the order in which they came; where one has
 * left early, its index goes to the next.
 */
#ifndef FMP_SYNC_BARRIER_H
#define FMP_SYNC_BARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomics.h"
#include "sync/eventcount.h"
#include "sync/mutex.h"

#define FMP_BARRIER_PARTIES_MAX (1u << 20)

enum fmp_barrier_state {
    FMP_BARRIER_FILLING = 0,
    FMP_BARRIER_ACTING = 1, /* full; the action runs */
    FMP_BARRIER_BROKEN = -2,
};

enum fmp_barrier_outcome {
    FMP_PLACE_FREE = 0,
    FMP_PLACE_WAITS,
    FMP_PLACE_ACTS,
    FMP_PLACE_PASSED,   /* to be read by its owner; if that dies before, the next round breaks */
    FMP_PLACE_PARDONED, /* passed; the barrier has been broken or reset since: a death is no news */
    FMP_PLACE_BROKE,
};

/* Under the mutex, but for: outcome to FREE, by its owner once it is PASSED or later; beat. */
struct fmp_barrier_place_shm {
    fmp_a64 who;     /* owner, while not FREE */
    fmp_a32 outcome; /* enum fmp_barrier_outcome */
    uint32_t index;  /* in the round */
    fmp_a32 beat;    /* by its owner, at each tick: the time, in milliseconds */
    uint32_t reserved;
};

struct fmp_barrier_shm {
    struct fmp_mutex_shm mutex;
    uint32_t parties;      /* by the creator, once */
    _Atomic int32_t state; /* under the mutex, like all below */
    fmp_a32 count;         /* parties of this round that are inside */
    uint32_t left_early;   /* somebody of this round has left: indices have holes */
    fmp_a32 changes;       /* advanced when outcomes or state change: sleepers compare it */
    fmp_a32 sleepers;      /* by sleepers */
    fmp_a32 starving;      /* +1, -1 by who waits for a free place */
    uint32_t reserved[3];
    struct fmp_barrier_place_shm place[];
};

/* A process's handle: nothing in shared memory says how long the table is. */
struct fmp_barrier {
    struct fmp_barrier_shm *shm;
    uint32_t places;
};

/* One call of wait(), in its own memory; zeroed, with place = -1. */
struct fmp_party {
    int32_t place; /* -1: none (not yet inside, or passed as the last) */
    uint32_t index;
    bool acts; /* has to run the action and then to call fmp_barrier_finish() */
    bool starved;
};

/* Bytes for so many parties. */
size_t fmp_barrier_size(uint32_t parties);

/* `shm` is zeroed memory of fmp_barrier_size(). */
int fmp_barrier_create(struct fmp_barrier *b, struct fmp_barrier_shm *shm, uint32_t parties);

/* Memory of `size` bytes that another process made. FMP_CORRUPT when it is no barrier. */
int fmp_barrier_attach(struct fmp_barrier *b, struct fmp_barrier_shm *shm, size_t size);

/* All of these: FMP_AGAIN, wait as `w` says; -errno when the mutex is unusable. */

/* FMP_OK: inside, see `party`: a place to wait in, or the action to run, or neither: passed.
 * FMP_BROKEN: the barrier is. With `has_action` the last one to come runs it. */
int fmp_barrier_arrive(struct fmp_barrier *b, struct fmp_party *party, bool has_action,
                       struct fmp_wait *w);

/* After an arrival that ended otherwise than by fmp_barrier_arrive()'s own word. */
void fmp_barrier_turn_away(struct fmp_barrier *b, struct fmp_party *party);

/* FMP_OK: passed, and left. FMP_BROKEN: left too. */
int fmp_barrier_try(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w);

/* The time is over: FMP_OK or FMP_BROKEN (broken by this very call, most often), and left.
 * FMP_TIMEOUT: the action runs already, wait on. */
int fmp_barrier_expire(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w);

/* Leaves without breaking anything: FMP_OK. */
int fmp_barrier_leave(struct fmp_barrier *b, struct fmp_party *party, struct fmp_wait *w);

/* After the action: releases the others, or breaks the barrier when it failed. FMP_OK or
 * FMP_BROKEN, and left. */
int fmp_barrier_finish(struct fmp_barrier *b, struct fmp_party *party, bool good,
                       struct fmp_wait *w);

/* To an empty, or to the broken state; who waits gets FMP_BROKEN. */
int fmp_barrier_reset(struct fmp_barrier *b, struct fmp_wait *w);
int fmp_barrier_abort(struct fmp_barrier *b, struct fmp_wait *w);

/* At a tick: breaks the barrier if a neighbour is dead. `party` may have no place yet. */
void fmp_barrier_tick(struct fmp_barrier *b, const struct fmp_party *party);

#endif
