/* taskboard.h - the jobs of a pool in shared memory: tasks out, results back, and who holds what.
 *
 * Two mailboxes and a page of workers. The parent puts tasks and takes results; workers take tasks
 * and put results. Every record begins with a tag {index, job}, outside the pickle, so that what
 * cannot be decoded still says whose it is.
 *
 * A worker writes the tag of what it takes into its slot (its claim) before it commits the take,
 * and clears it after its result is put. So the parent of a dead worker knows what that held:
 *   claim == 0                     nothing
 *   the task is still in the ring  it died before the commit: somebody else will get it
 *   another slot claims it too     the same, and somebody else has got it already
 *   its result has arrived         it died after the put
 *   otherwise                      the task is lost with its worker
 * The second and third are looked at under the lock that takes need, and the results only then: so
 * none of the cases can slip into another unseen.
 *
 * Who writes what:
 *   parent, n_workers          by the creator, once
 *   state                      by the parent
 *   collectors, wake_at        by whoever collects results (one thread of the parent at a time)
 *   feeders, feed_below        by those of the parent's threads that wait for room
 *   hungry_below               by a collector who has more tasks to give out; taken by a worker
 *   workers[i].who, state      by the parent while the worker is not running, then by the worker
 *   workers[i].claim, done, since   by the worker; by the parent after the worker's end
 *   workers[i].doomed          by the parent; parked by the worker
 *
 * To cancel a job, the parent makes its waiting tasks void and dooms the workers that hold others:
 * a doomed worker takes nothing more. Only then it looks at the claim again. Either the worker has
 * given that up, and is spared; or it can hold nothing else before it is killed, and the kill hits
 * this task alone.
 */
#ifndef FMP_CHANNEL_TASKBOARD_H
#define FMP_CHANNEL_TASKBOARD_H

#include "arena/slab.h"
#include "channel/mailbox.h"
#include "platform/process.h"

enum fmp_board_state {
    FMP_BOARD_OPEN,
    FMP_BOARD_DISMISSED, /* no task will come: a worker that finds none leaves */
    FMP_BOARD_STOPPED,   /* leave at once */
};

enum fmp_worker_state {
    FMP_WORKER_NONE,
    FMP_WORKER_STARTING, /* its process was started, or is about to be */
    FMP_WORKER_READY,    /* its initializer has returned */
    FMP_WORKER_LEAVING,  /* posts the result of its last task; its process is about to end */
    FMP_WORKER_FAILED,   /* its initializer has raised; its process is about to end */
};

/* How the payload of every task and of every result begins. */
struct fmp_task_tag {
    uint32_t index; /* of the task in its job, modulo 2^32 */
    uint32_t job;   /* 0: no task */
};

struct fmp_worker_shm {
    alignas(FMP_CACHE_LINE) fmp_a64 who; /* 0: nobody; the start time may be missing */
    fmp_a64 claim;                       /* a tag as one word, or 0 */
    fmp_a32 state;                       /* enum fmp_worker_state */
    fmp_a32 done;                        /* tasks done */
    fmp_a64 since;                       /* when it began a timed task (fmp_now), or 0 */
    fmp_a32 doomed;                      /* 0, or take nothing: this job is cancelled */
    fmp_a32 parked;                      /* sleeps on doomed */
};

struct fmp_taskboard_shm {
    uint64_t parent; /* fmp_who */
    uint32_t n_workers;
    fmp_a32 state; /* enum fmp_board_state */

    alignas(FMP_CACHE_LINE) fmp_a32 collectors; /* sleep on the results' tail */
    fmp_a32 wake_at;                            /* ... until so many results have been put */

    alignas(FMP_CACHE_LINE) fmp_a32 feeders; /* sleep on the tasks' head */
    fmp_a64 feed_below;                      /* ... until fewer bytes of tasks are waiting */
    fmp_a64 hungry_below; /* rouse the collector when fewer bytes of tasks are waiting; 0: not */

    struct fmp_worker_shm workers[];
};

struct fmp_taskboard {
    struct fmp_mailbox tasks;
    struct fmp_mailbox results;
    struct fmp_slot slot;
    struct fmp_taskboard_shm *shm; /* in the slot; NULL: closed */
    uint32_t n_workers;            /* as the slot has room for: not read again from it */
};

/* What another process needs to attach. */
struct fmp_taskboard_fds {
    int tasks_ring, tasks_bell, results_ring, results_bell;
    int slot;
    size_t slot_offset, slot_size;
};

int fmp_taskboard_create(struct fmp_taskboard *b, uint32_t n_workers);
void fmp_taskboard_share(struct fmp_taskboard *b, struct fmp_taskboard_fds *out);
/* Takes all descriptors over in every case. */
int fmp_taskboard_attach(struct fmp_taskboard *b, const struct fmp_taskboard_fds *fds);
void fmp_taskboard_close(struct fmp_taskboard *b);

/* --- the parent's side ------------------------------------------------------------------------ */

int fmp_taskboard_put(struct fmp_taskboard *b, const struct fmp_batch *batch, struct fmp_wait *w);

/* Bytes of tasks that no worker has taken yet. */
uint64_t fmp_taskboard_waiting(struct fmp_taskboard *b);
/* FMP_OK: fewer than `below` bytes of tasks are waiting. FMP_AGAIN: wait as `w` says. */
int fmp_taskboard_room(struct fmp_taskboard *b, uint64_t below, struct fmp_wait *w);

/* The collector wants to be roused when fewer than `below` bytes of tasks are waiting. False: so it
 * is already. */
bool fmp_taskboard_hungry(struct fmp_taskboard *b, uint64_t below);

/* Takes results; with out->cut, the beginning of one that there is no memory for. FMP_AGAIN: none;
 * wait as `w` says, until `want` results have come. */
int fmp_taskboard_collect(struct fmp_taskboard *b, uint32_t want, struct fmp_buffer *out,
                          struct fmp_wait *w);
/* Have results been put that nobody has collected? */
bool fmp_taskboard_has_results(const struct fmp_taskboard *b);
/* Whoever sleeps in collect is to wake at the next result, and at once if there is one. */
void fmp_taskboard_want_next(struct fmp_taskboard *b);
/* Wakes whoever sleeps in collect, to look at something else, by a record of no task. FMP_AGAIN: a
 * lock was busy; the sleeper may notice at its tick only. */
int fmp_taskboard_rouse(struct fmp_taskboard *b, struct fmp_wait *w);

/* No task will come any more; wakes the workers. FMP_AGAIN: a lock was busy, call again. */
int fmp_taskboard_dismiss(struct fmp_taskboard *b, struct fmp_wait *w);
/* Workers are to leave, whatever is waiting. Takes no lock. */
void fmp_taskboard_stop(struct fmp_taskboard *b);

/* The slot is a new worker's, whose process is about to be started. */
void fmp_taskboard_hire(struct fmp_taskboard *b, uint32_t worker);
/* Its process has been started. */
void fmp_taskboard_hired(struct fmp_taskboard *b, uint32_t worker, uint32_t pid);
/* The slot is nobody's. */
void fmp_taskboard_vacate(struct fmp_taskboard *b, uint32_t worker);

enum fmp_worker_state fmp_taskboard_state(const struct fmp_taskboard *b, uint32_t worker);
/* How many workers take tasks. */
uint32_t fmp_taskboard_ready(const struct fmp_taskboard *b);
/* False when a worker of any slot has ended. Costs some system calls for each worker. */
bool fmp_taskboard_all_alive(const struct fmp_taskboard *b);

static inline uint64_t
fmp_taskboard_claim(const struct fmp_taskboard *b, uint32_t worker)
{
    return atomic_load(&b->shm->workers[worker].claim);
}

/* Makes the waiting tasks of a job void and dooms the workers that hold others. Each of these has to
 * be spared or killed afterwards. FMP_AGAIN: a lock was busy, call again. */
int fmp_taskboard_cancel(struct fmp_taskboard *b, uint32_t job, struct fmp_wait *w);
/* Does a doomed worker hold a task of that job, from which nothing but its end can part it? */
bool fmp_taskboard_condemned(const struct fmp_taskboard *b, uint32_t worker, uint32_t job);
/* A worker that was doomed for that job may take tasks again. */
void fmp_taskboard_spare(struct fmp_taskboard *b, uint32_t worker, uint32_t job);
/* When the worker began the timed task of that job that it holds (fmp_now); 0: it holds none. */
int64_t fmp_taskboard_began(const struct fmp_taskboard *b, uint32_t worker, uint32_t job);

/* Of a worker that has ended: may its claim be with somebody else, in the ring or in another slot?
 * Sets *elsewhere. FMP_AGAIN: a lock was busy, call again. */
int fmp_taskboard_claimed_elsewhere(struct fmp_taskboard *b, uint32_t worker, bool *elsewhere,
                                    struct fmp_wait *w);

/* --- a worker's side -------------------------------------------------------------------------- */

/* This process is the worker of that slot. FMP_CORRUPT: there is no such slot. */
int fmp_taskboard_enter(struct fmp_taskboard *b, uint32_t worker);
void fmp_taskboard_set_state(struct fmp_taskboard *b, uint32_t worker, enum fmp_worker_state state);

/* The task just taken is a timed one, and begins. */
void fmp_taskboard_begin_timed(struct fmp_taskboard *b, uint32_t worker);

/* Takes one task; with out->cut, only the beginning of one that there is no memory for. FMP_CLOSED:
 * leave. */
int fmp_taskboard_take(struct fmp_taskboard *b, uint32_t worker, struct fmp_buffer *out,
                       struct fmp_wait *w);
/* Puts a result, and gives up the claim. */
int fmp_taskboard_post(struct fmp_taskboard *b, uint32_t worker, const struct fmp_batch *batch,
                       struct fmp_wait *w);

static inline bool
fmp_taskboard_parent_alive(const struct fmp_taskboard *b)
{
    return fmp_who_alive(b->shm->parent);
}

#endif
