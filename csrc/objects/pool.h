/* pool.h - the objects of a pool in its parent: the board, and a job for each call of a method.
 *
 * Everything here is process-local and touched with the GIL held, but for the words of type
 * fmp_a32, which sleeping threads look at without it. Without a GIL, pool_gate of the module's state
 * stands for it: one for all boards and jobs, since a job outlives what ties it to its board. A child
 * of a fork inherits the objects and may not use them: `generation` tells.
 *
 * Nobody collects results in the background. A thread that waits for something takes the role of
 * the collector when it is free, sleeps for results and deals them out; the others sleep until
 * what they wait for is there or the role is free. When a signal's handler waits in the thread that
 * has the role, it takes the role over until it is done.
 *
 *   py_pool_board.c    the board's type and most of its Python methods
 *   py_pool_slots.c    its methods for the slots of workers
 *   py_pool_job.c      a job's type: get(), wait(), next()
 *   py_pool_result.c   what a result does to its job
 *   py_pool_cancel.c   ending a job before its results are there
 *   py_pool_function.c functions by name
 *   py_pool_feed.c     objects to tasks
 *   py_pool_chunk.c    an iterable to the arguments of tasks
 *   py_pool_collect.c  waiting, the collector's role, results to objects, dead workers
 *   py_pool_worker.c   the worker's loop
 *   py_pool_call.c     ... and its calls
 *   py_pool_items.c    what they are called with, when that is plain
 */
#ifndef FMP_OBJECTS_POOL_H
#define FMP_OBJECTS_POOL_H

#include <Python.h>
#include <stdbool.h>

#include "bridge/codec.h"
#include "bridge/wait.h"
#include "channel/taskboard.h"
#include "module.h"

/* --- what tasks and results look like --------------------------------------------------------- */

enum fmp_task_mode {
    FMP_TASK_CALL,      /* args: function(*args) */
    FMP_TASK_CALL_KW,   /* (args, kwargs) */
    FMP_TASK_ONE,       /* x: function(x) */
    FMP_TASK_STAR,      /* xs: function(*xs) */
    FMP_TASK_MANY,      /* a tuple of x: a list of results */
    FMP_TASK_MANY_STAR, /* a tuple of xs: a list of results */
    FMP_TASK_MODES,
    FMP_TASK_TIMED = 0x100, /* a flag: the worker says when it begins */
};

/* The payload of a task: this, the function's name padded to whole units, the encoded argument.
 * With the record's header before it, the argument lies on the grid its encoder counts on. */
struct fmp_task_head {
    struct fmp_task_tag tag;
    uint32_t mode;
    uint32_t function; /* bytes; 0: the argument is (function, argument), pickled together */
};
_Static_assert(sizeof(struct fmp_task_head) == FMP_UNIT, "keeps the argument on its grid");

/* The argument of FMP_TASK_MANY in place of a tuple, as a record of a kind of its own: a piece of a
 * range, whose numbers the worker makes. */
enum { FMP_TASK_RANGE = FMP_REC_USER };
struct fmp_range_record {
    int64_t first;
    int64_t step;
    uint64_t count; /* at most INT32_MAX */
};

enum fmp_result_status {
    FMP_RESULT_OK,
    FMP_RESULT_ERROR,        /* an exception */
    FMP_RESULT_EXIT,         /* (pid, exception's name and text, traceback): the worker leaves */
    FMP_RESULT_START_FAILED, /* of no task: an exception of the initializer */
    FMP_RESULT_STATUSES,
};

struct fmp_result_head {
    struct fmp_task_tag tag;
    uint32_t status;
    uint32_t leaving; /* it was the worker's last */
};
_Static_assert(sizeof(struct fmp_result_head) == FMP_UNIT, "at most 32 bytes of prefix");

/* --- the board -------------------------------------------------------------------------------- */

struct fmp_pool_waiter;

typedef struct {
    PyObject_HEAD
    struct fmp_state *state;
    struct fmp_taskboard board;
    struct fmp_spin spin;
    uint32_t generation; /* of forks: who may give out tasks and collect results */
    uint32_t last_job;

    PyObject *cache;       /* {number: unfinished job} */
    PyObject *finished;    /* [job]: complete, their callbacks are due */
    PyObject *feeds;       /* [job]: whoever waits goes on feeding them */
    PyObject *supervise;   /* called when a worker may have ended; or NULL */
    PyObject *start_error; /* what an initializer raised last, or NULL */
    PyObject *ended;       /* the exception that every job fails with from now on, or NULL */

    struct fmp_pool_waiter *waiters;   /* those who do not collect */
    struct fmp_pool_waiter *collector; /* who has the role, while it sleeps; or NULL */
    unsigned long collector_thread; /* ... and where: a signal's handler there may wait as well */
    fmp_a32 collecting;             /* the same for those without the GIL: 1 or 0 */
    fmp_a32 stopped;
    bool keep_serving;   /* the background thread is to stay */
    uint32_t processing; /* batches that were taken and are being dealt out */
    uint32_t callbacks;  /* unfinished jobs that have one */
    bool closing;        /* dismiss the workers when no job is left */
    bool dismissed;      /* ... which has been done */
    bool alarm;          /* supervise() is due */
    bool supervising;    /* ... and running */
    bool understaffed;   /* supervise() wants to be called at each tick */
    int64_t looked_at;   /* when the workers were last known to be alive */
} FmpBoard;

/* --- jobs ------------------------------------------------------------------------------------- */

enum fmp_job_kind { FMP_JOB_CALL, FMP_JOB_MAP, FMP_JOB_IMAP, FMP_JOB_IMAP_UNORDERED };

/* A window over an endless sequence of cells: [base, base + room). */
struct fmp_marks {
    uint64_t base; /* all before it are marked */
    uint8_t *cell;
    size_t room; /* a power of two, or 0 */
};

struct fmp_item {
    PyObject *value; /* NULL: not there yet */
    bool success;
};

struct fmp_items {
    uint64_t base; /* all before it have been handed out */
    struct fmp_item *cell;
    size_t room;
};

/* What is left of a range, in the place of its iterator. */
struct fmp_range {
    bool known; /* the source is a range of 64 bit integers */
    uint64_t left;
    int64_t next;
    int64_t step;
};

/* The number so many steps on. Wraps beyond the last, where nobody looks. */
static inline int64_t
fmp_range_after(int64_t value, int64_t step, uint64_t steps)
{
    return (int64_t)((uint64_t)value + (uint64_t)step * steps);
}

/* Where a job's tasks come from. */
struct fmp_feed {
    PyObject *source; /* iterator; NULL: nothing is left to feed */
    struct fmp_range range;
    PyObject *function; /* until the last task is out */
    PyObject *name;     /* the function's, in bytes; NULL: it goes with each task */
    Py_ssize_t chunk;   /* items for a task; 0: one, bare */
    Py_ssize_t limit;   /* tasks out whose results have not been handed out; 0: any number */
    uint64_t budget;    /* bytes of tasks that may be waiting */
    bool star;
    bool busy; /* somebody is feeding */
};

typedef struct {
    PyObject_HEAD
    struct fmp_state *state;
    FmpBoard *board; /* NULL when it is finished, as are crew, callbacks and function */
    PyObject *crew;
    PyObject *callback;
    PyObject *error_callback;
    PyObject *function; /* for messages */
    PyObject *value;    /* CALL, MAP: the result or the exception; IMAP: what ended it early */
    uint32_t number;
    uint8_t kind;
    bool success;
    bool complete;    /* all results are in; the callback may still be due */
    fmp_a32 finished; /* 1: get() returns */
    Py_ssize_t chunksize;
    Py_ssize_t length;    /* MAP: of the iterable, as it said */
    Py_ssize_t fed_items; /* ... as it turned out */
    uint64_t fed;         /* tasks that were given out */
    uint64_t received;    /* their results */
    uint64_t handed_out;  /* IMAP: results that next() returned */
    struct fmp_feed feed;
    struct fmp_marks marks; /* which tasks are done */
    struct fmp_items items; /* IMAP: results for next() */
} FmpJob;

/* What a new job is to be. */
struct fmp_job_plan {
    PyTypeObject *type;
    PyObject *crew;
    PyObject *callback, *error_callback; /* or NULL */
    enum fmp_job_kind kind;
    Py_ssize_t chunksize; /* 0 or less: there is nothing to do */
    Py_ssize_t length;
};

/* py_pool_job.c: a job that is in the board's cache; NULL with an exception. */
FmpJob *fmp_job_create(FmpBoard *b, const struct fmp_job_plan *plan);
/* Its result, before the deadline; NULL with an exception. */
PyObject *fmp_job_get(FmpJob *job, int64_t deadline);

/* py_pool_result.c. None of these raises: where there is no memory for a result, MemoryError is the
 * whole job's. */

/* The full index behind the one of a tag; false when there is no such task, or it is done. */
bool fmp_job_pending(const FmpJob *job, uint32_t index, uint64_t *full);
/* The result of a task; steals `value`. Ignored when the task is done already. */
void fmp_job_set(FmpJob *job, uint32_t index, bool success, PyObject *value);
/* The same of a chunk of a map, still as a record of FMP_REC_LIST: its items are made where they
 * belong. False: decode it, and take the other way. */
bool fmp_job_set_flat(FmpJob *job, uint32_t index, const uint8_t *data, size_t size);
/* Completes the job if its last result is in. */
void fmp_job_check(FmpJob *job);
/* An unfinished call or map fails as a whole, with its callback. */
void fmp_job_fail(FmpJob *job, PyObject *error);
/* Nothing will be fed any more. */
void fmp_job_end_feed(FmpJob *job);
/* get() returns from now on; forgets the board. */
void fmp_job_finish(FmpJob *job);
/* An unfinished job ends with an exception like that. */
void fmp_job_abort(FmpJob *job, PyObject *error);
void fmp_job_free_windows(FmpJob *job);
int fmp_job_visit_windows(FmpJob *job, visitproc visit, void *arg);
/* The next item for next(), moved into *out; false when there is none now. */
bool fmp_job_pop(FmpJob *job, struct fmp_item *out);
bool fmp_job_has_item(const FmpJob *job);

/* py_pool_function.c */

/* The name by which a function travels, in bytes; NULL, never with an exception, when it has to be
 * pickled. */
PyObject *fmp_function_to_name(PyObject *function);
/* The function of that name, imported if need be; NULL with the exception of unpickling. */
PyObject *fmp_function_from_name(const char *text, size_t size);

/* --- feeding, py_pool_feed.c ------------------------------------------------------------------ */

/* Gives out the one task of a call. `timed`: 0, or FMP_TASK_TIMED. What goes wrong is its result. 0;
 * -1 with an exception for the caller too (KeyboardInterrupt). */
int fmp_feed_call(FmpBoard *b, FmpJob *job, PyObject *function, PyObject *args, PyObject *kwargs,
                  uint32_t timed);
/* Makes `iterable` what the job is fed from. `chunk` 0: items one by one, bare; `limit`: tasks out
 * whose results have not been handed out, or 0. 0: anybody may feed it; 1: only a thread of its
 * own, since its iterator may block; -1 with an exception. */
int fmp_feed_begin(FmpJob *job, PyObject *function, PyObject *iterable, Py_ssize_t chunk, bool star,
                   Py_ssize_t limit);
/* Gives out tasks while there is room. 1: nothing left to feed, 0: no room, or somebody else is
 * feeding; -1 with an exception for the caller. */
int fmp_feed_some(FmpBoard *b, FmpJob *job);
/* Feeds the jobs in b->feeds. 0, or -1 with an exception. */
int fmp_feed_pending(FmpBoard *b);
/* A job that is fed as its results are taken gets no more: what comes last is ValueError. 0 or -1.
 */
int fmp_feed_cut(FmpJob *job);
/* Sleeps until there is room again for the job's tasks. 0, or -1 with an exception. */
int fmp_feed_wait(FmpBoard *b, FmpJob *job);

/* py_pool_chunk.c: what a task of a map is about. */
struct fmp_argument {
    Py_ssize_t items;
    PyObject *object;              /* or NULL: it is encoded already */
    struct fmp_range_record piece; /* of a range, for the encoding to point to */
};

/* The numbers of a range are known without its iterator, and need not be made at all. */
void fmp_feed_look_at_range(struct fmp_range *r, PyObject *iterable);
/* The argument of the next task, as an object or in `e`, which may point into `a`: that must live as
 * long, in its place. 1; 0 at the end, or with the exception of the iterable. */
int fmp_feed_next(struct fmp_feed *f, struct fmp_encoded *e, struct fmp_argument *a);

/* --- collecting, py_pool_collect.c ------------------------------------------------------------ */

struct fmp_pool_waiter {
    bool (*ready)(const FmpBoard *b, const FmpJob *job); /* with the GIL */
    FmpJob *job;
    struct fmp_pool_waiter *next;
    fmp_a32 poked; /* 1: look again */
    fmp_a32 sleepers;
};

/* Waits until `ready` says so, collecting as need be. FMP_OK, FMP_TIMEOUT, FMP_PYERR. */
int fmp_pool_wait(FmpBoard *b, struct fmp_pool_waiter *me, int64_t deadline);
/* Deals out what is there, if nobody else does. 0, or -1 with an exception. */
int fmp_pool_pump(FmpBoard *b);
/* Deals out what is there, whoever else does. */
int fmp_pool_drain(FmpBoard *b);
/* Wakes the waiters for which something has changed. */
void fmp_pool_poke(FmpBoard *b);
/* The key of a job in the board's cache, found without memory; NULL, never with an exception. A new
 * reference. */
PyObject *fmp_pool_search(const FmpBoard *b, uint32_t number);
/* After a job has gone: lets the workers go when it was the last of a closed pool. */
void fmp_pool_job_gone(FmpBoard *b);
/* Is there nothing for a background thread to do? */
bool fmp_pool_idle(const FmpBoard *b);
/* What a worker that has ended held: a job whose task is lost, with its index; NULL for nothing,
 * with *later set when it cannot be told now (perhaps with an exception). A new reference. */
FmpJob *fmp_pool_bury(FmpBoard *b, uint32_t worker, uint32_t *index, bool *later);
/* The result of this process's pool that a method was given; NULL with an exception. Borrowed. */
FmpJob *fmp_pool_job_argument(const FmpBoard *b, PyObject *object);
/* -1 with RuntimeError in a process that only inherited the pool. */
int fmp_pool_check_owner(const FmpBoard *b);
/* A function of fastmp._workers, and what it returns. New references. For what is rare. */
PyObject *fmp_pool_python(const char *name);
PyObject *fmp_pool_call_python(const char *name, const char *format, ...);

/* py_pool_cancel.c: methods. */
PyObject *fmp_board_cancel(FmpBoard *self, PyObject *object);
PyObject *fmp_board_spare(FmpBoard *self, PyObject *object);
PyObject *fmp_board_fail_job(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args);
PyObject *fmp_board_running(FmpBoard *self, PyObject *object);

/* py_pool_worker.c */
PyObject *fmp_pool_work(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args);
PyObject *fmp_pool_report_start(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args);

/* py_pool_items.c: the items of a chunk that are plain, still in its record. */
struct fmp_chunk {
    uint32_t count; /* in all */
    bool is_range;
    struct fmp_reader items; /* what has not been read; or: */
    int64_t next;
    int64_t step;
};

/* The argument of FMP_TASK_MANY. False: it is of another kind, or malformed. */
bool fmp_chunk_open(struct fmp_chunk *c, uint8_t kind, const uint8_t *data, size_t size);
/* The next of its items; NULL with an exception. At most `count` times. */
PyObject *fmp_chunk_next(struct fmp_chunk *c);

/* An iterator over a chunk, empty until it is allowed `n` more items. It reads the chunk: allow 0 when
 * that goes. NULL with an exception. */
struct fmp_pool_items *fmp_pool_items_new(struct fmp_state *state, struct fmp_chunk *chunk);
void fmp_pool_items_allow(struct fmp_pool_items *it, uint32_t n);

/* py_pool_call.c: calls that a worker makes. The result, or NULL with an exception. */
PyObject *fmp_pool_call_task(uint32_t mode, PyObject *function, PyObject *argument);

/* A chunk of plain items is called for as it lies in the record, and its results are encoded as they
 * come, so that neither is ever there as an object. From the first result on that has to be pickled,
 * they are gathered in a list. */
struct fmp_flat_call {
    struct fmp_state *state;
    PyObject *function;
    struct fmp_chunk chunk;
    struct fmp_flat results; /* begun by the caller */
    PyObject *list;          /* out: instead of `results`; or NULL */
};

/* 0; or -1 with an exception, and nothing to be freed. */
int fmp_pool_call_flat(struct fmp_flat_call *c);

/* py_pool_slots.c: the number of a slot. 0, or -1 with an exception. The rest are methods. */
int fmp_pool_slot_argument(FmpBoard *self, PyObject *number, uint32_t *slot);
PyObject *fmp_board_hire(FmpBoard *self, PyObject *ignored);
PyObject *fmp_board_hired(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args);
PyObject *fmp_board_vacate(FmpBoard *self, PyObject *number);
PyObject *fmp_board_worker_state(FmpBoard *self, PyObject *number);
PyObject *fmp_board_bury(FmpBoard *self, PyObject *number);
PyObject *fmp_board_enter(FmpBoard *self, PyObject *number);
PyObject *fmp_board_ready(FmpBoard *self, PyObject *number);

static inline bool
fmp_pool_job_check(struct fmp_state *state, PyObject *object)
{
    return PyObject_TypeCheck(object, state->pool_job);
}

#endif
