/* py_pool_feed.c - objects to tasks: pickle, gather, put; as much as there is room for.
 *
 * A function that travels by name lies in each task as that name; one that carries state is pickled
 * together with each argument, so that it is made anew for each task, as the stdlib does. What
 * cannot be pickled fails its own task only.
 *
 * Small tasks are gathered in a stage and put together, but never kept from workers who have
 * nothing to do. Feeding stops when a job's budget of waiting bytes is used up; it is taken up
 * again by whoever waits for results, or by a feeder thread. Owns job->feed and the count of tasks
 * given out, which is raised before the task is put: its result may come before put returns.
 */
#include "objects/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/layout.h"
#include "base/status.h"
#include "bridge/errors.h"
#include "platform/clock.h"

#define SEQUENCE_BUDGET (UINT64_C(32) << 20) /* bytes of a sequence's tasks that may be waiting */
#define ITERATOR_BUDGET (UINT64_C(64) << 10) /* of any other iterable's: a pipe's worth */
#define STAGE_BYTES 8192
#define STAGE_ITEMS 64

static const uint8_t zeros[FMP_UNIT];

/* --- one task as a batch ---------------------------------------------------------------------- */

#define BEFORE 3 /* parts of a task before its argument: head, function, padding */

struct task {
    struct {
        uint64_t record;
        struct fmp_task_head head;
    } begin;
    struct fmp_encoded argument;
    struct fmp_batch batch;
    struct fmp_part *parts; /* `few`, or on the heap */
    struct fmp_part few[BEFORE + 3];
    PyObject *name; /* of the function, in bytes, or NULL; the caller's */
};

/* `name` is the function's, or NULL when it is pickled with the argument. */
static void
begin_task(struct task *t, const FmpJob *job, PyObject *name, uint32_t mode, uint64_t index)
{
    t->begin.head =
        (struct fmp_task_head){.tag = {.index = (uint32_t)index, .job = job->number}, .mode = mode};
    t->name = name;
}

static void
free_task(struct task *t)
{
    if (t->parts != t->few) {
        free(t->parts);
    }
    fmp_encoded_free(&t->argument);
}

/* Puts head and function before the encoded argument, whose own record header is left out. 0; or -1
 * with an exception, and the task freed. */
static int
gather_task(struct task *t)
{
    const struct fmp_batch *argument = &t->argument.batch;
    size_t function = t->name != NULL ? (size_t)PyBytes_GET_SIZE(t->name) : 0;
    size_t padding = fmp_round_up(function, FMP_UNIT) - function;
    uint64_t record;
    memcpy(&record, argument->parts[0].data, sizeof(record));
    t->parts = t->few;
    if (argument->n_parts + BEFORE > sizeof(t->few) / sizeof(t->few[0])) {
        t->parts = malloc((argument->n_parts + BEFORE) * sizeof(struct fmp_part));
        if (t->parts == NULL) {
            t->parts = t->few;
            free_task(t);
            PyErr_NoMemory();
            return -1;
        }
    }
    t->parts[0] = (struct fmp_part){&t->begin, sizeof(t->begin)};
    t->parts[1] = (struct fmp_part){t->name != NULL ? PyBytes_AS_STRING(t->name) : NULL, function};
    t->parts[2] = (struct fmp_part){zeros, padding};
    for (unsigned i = 0; i < argument->n_parts; i++) {
        t->parts[BEFORE + i] = argument->parts[i];
    }
    t->parts[BEFORE].data = (const uint8_t *)t->parts[BEFORE].data + FMP_RECORD_HEADER;
    t->parts[BEFORE].size -= FMP_RECORD_HEADER;
    uint64_t bytes = sizeof(t->begin) + function + padding + argument->bytes - FMP_RECORD_HEADER;
    t->begin.record = fmp_record_header(bytes - FMP_RECORD_HEADER, fmp_record_kind(record));
    t->begin.head.function = (uint32_t)function;
    t->batch = (struct fmp_batch){.parts = t->parts,
                                  .n_parts = BEFORE + argument->n_parts,
                                  .bytes = bytes,
                                  .items = 1,
                                  .n_inside = BEFORE + argument->n_inside,
                                  .outside = argument->outside,
                                  .copied = argument->copied};
    return 0;
}

/* Encodes the argument of a task that was begun. 0, or -1 with an exception. */
static int
encode_task(FmpBoard *b, struct task *t, PyObject *function, PyObject *argument)
{
    struct fmp_codec *codec = &b->state->codec;
    int rc;
    if (t->name != NULL) {
        rc = fmp_encode(codec, &t->argument, argument, NULL, 0);
    }
    else {
        PyObject *both = PyTuple_Pack(2, function, argument);
        rc = both != NULL ? fmp_encode(codec, &t->argument, both, NULL, 0) : -1;
        Py_XDECREF(both);
    }
    return rc < 0 ? -1 : gather_task(t);
}

/* --- putting ---------------------------------------------------------------------------------- */

struct putting {
    FmpBoard *board;
    const struct fmp_batch *batch;
};

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct putting *p = arg;
    if (atomic_load(&p->board->stopped)) {
        return FMP_CLOSED;
    }
    return fmp_taskboard_put(&p->board->board, p->batch, w);
}

/* 0; -1 with an exception. A pool that was stopped takes everything and does nothing with it. */
static int
put_batch(FmpBoard *b, const struct fmp_batch *batch)
{
    struct putting p = {b, batch};
    struct fmp_waiter waiter = {.try_once = try_put, .arg = &p, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK && rc != FMP_CLOSED) {
        fmp_raise(rc, "give a task to a pool");
        return -1;
    }
    return 0;
}

/* Tasks that were counted and not given out: the exception that is set is their result. An
 * exception that is no Exception (KeyboardInterrupt) is for our caller too. 0, or -1 with an
 * exception. */
static int
fail_tasks(FmpJob *job, uint64_t first, uint32_t items)
{
    bool raise = !PyErr_ExceptionMatches(PyExc_Exception);
    PyObject *error = fmp_take_exception();
    for (uint32_t i = 0; i < items; i++) {
        fmp_job_set(job, (uint32_t)(first + i), false, Py_NewRef(error));
    }
    if (raise) {
        return fmp_raise_again(error);
    }
    Py_DECREF(error);
    return 0;
}

struct stage {
    FmpBoard *board;
    FmpJob *job;
    uint64_t first; /* index of the first task in it */
    uint32_t items;
    size_t used;
    uint8_t data[STAGE_BYTES];
};

static int
flush(struct stage *s)
{
    if (s->items == 0) {
        return 0;
    }
    struct fmp_part part = {s->data, s->used};
    struct fmp_batch batch = {.parts = &part, .n_parts = 1, .bytes = s->used, .items = s->items};
    uint64_t first = s->first;
    uint32_t items = s->items;
    s->items = 0;
    s->used = 0;
    return put_batch(s->board, &batch) < 0 ? fail_tasks(s->job, first, items) : 0;
}

/* Puts a task, or keeps it for the next flush when it is small and nobody waits for it. */
static int
stage_task(struct stage *s, const struct task *t, uint64_t index)
{
    size_t span = fmp_round_up(t->batch.bytes, FMP_UNIT);
    if (span > STAGE_BYTES - s->used && flush(s) < 0) {
        return -1;
    }
    if (span > STAGE_BYTES) {
        return put_batch(s->board, &t->batch) < 0 ? fail_tasks(s->job, index, 1) : 0;
    }
    if (s->items == 0) {
        s->first = index;
    }
    uint8_t *at = s->data + s->used;
    for (unsigned i = 0; i < t->batch.n_parts; i++) {
        if (t->parts[i].size > 0) {
            memcpy(at, t->parts[i].data, t->parts[i].size);
            at += t->parts[i].size;
        }
    }
    memset(at, 0, (size_t)(s->data + s->used + span - at));
    s->used += span;
    s->items++;
    if (s->items >= STAGE_ITEMS || fmp_ring_count(&s->board->board.tasks.ring) == 0) {
        return flush(s);
    }
    return 0;
}

/* --- a call ----------------------------------------------------------------------------------- */

int
fmp_feed_call(FmpBoard *b, FmpJob *job, PyObject *function, PyObject *args, PyObject *kwargs,
              uint32_t timed)
{
    bool plain =
        PyTuple_CheckExact(args) && PyDict_CheckExact(kwargs) && PyDict_GET_SIZE(kwargs) == 0;
    PyObject *argument = plain ? Py_NewRef(args) : PyTuple_Pack(2, args, kwargs);
    PyObject *name = fmp_function_to_name(function);
    int rc = argument != NULL ? 0 : -1;
    struct task t;
    Py_XSETREF(job->function, Py_NewRef(function));
    job->fed = 1;
    if (rc == 0) {
        begin_task(&t, job, name, (plain ? FMP_TASK_CALL : FMP_TASK_CALL_KW) | timed, 0);
        rc = encode_task(b, &t, function, argument);
    }
    if (rc == 0) {
        rc = put_batch(b, &t.batch);
        free_task(&t);
    }
    Py_XDECREF(name);
    Py_XDECREF(argument);
    return rc < 0 ? fail_tasks(job, 0, 1) : 0;
}

/* --- a map ------------------------------------------------------------------------------------ */

int
fmp_feed_begin(FmpJob *job, PyObject *function, PyObject *iterable, Py_ssize_t chunk, bool star,
               Py_ssize_t limit)
{
    struct fmp_feed *f = &job->feed;
    PyObject *source = PyObject_GetIter(iterable);
    if (source == NULL) { /* what the first task would have been, as in the stdlib */
        job->fed = 1;
        return fail_tasks(job, 0, 1);
    }
    /* What has a length is no generator, and what these give is there already. */
    bool sequence = job->kind == FMP_JOB_MAP || PyList_CheckExact(iterable)
                 || PyTuple_CheckExact(iterable) || PyRange_Check(iterable);
    Py_XSETREF(job->function, Py_NewRef(function));
    Py_XSETREF(f->function, Py_NewRef(function));
    Py_XSETREF(f->name, fmp_function_to_name(function));
    Py_XSETREF(f->source, source);
    f->chunk = chunk;
    f->range = (struct fmp_range){0};
    if (chunk > 0 && !star && f->name != NULL) {
        fmp_feed_look_at_range(&f->range, iterable);
    }
    f->star = star;
    f->limit = limit;
    f->budget = sequence || limit > 0 ? SEQUENCE_BUDGET : ITERATOR_BUDGET;
    return !sequence && limit == 0;
}

static bool
has_room(FmpBoard *b, const FmpJob *job, const struct stage *s)
{
    const struct fmp_feed *f = &job->feed;
    if (f->limit > 0 && job->fed - job->handed_out >= (uint64_t)f->limit) {
        return false;
    }
    uint64_t waiting = fmp_taskboard_waiting(&b->board) + s->used;
    if (waiting < f->budget) {
        return true;
    }
    /* However large tasks are: one for each worker, so that none has to wait for us. */
    return waiting < SEQUENCE_BUDGET
        && fmp_ring_count(&b->board.tasks.ring) + s->items < b->board.n_workers / 2;
}

/* The iterable has ended, or failed: the exception is the result of a task of its own. 0, or -1
 * with an exception for our caller. */
static int
source_ended(FmpJob *job)
{
    fmp_job_end_feed(job);
    if (!PyErr_Occurred()) {
        return 0;
    }
    uint64_t index = job->fed++;
    job->fed_items = PY_SSIZE_T_MAX; /* what is missing is not to be cut off */
    return fail_tasks(job, index, 1);
}

static enum fmp_task_mode
mode_of(const struct fmp_feed *f)
{
    if (f->chunk == 0) {
        return f->star ? FMP_TASK_STAR : FMP_TASK_ONE;
    }
    return f->star ? FMP_TASK_MANY_STAR : FMP_TASK_MANY;
}

static void
drop_argument(struct task *t, struct fmp_argument *a)
{
    if (a->object == NULL) {
        fmp_encoded_free(&t->argument);
    }
    Py_XDECREF(a->object);
}

/* Gives out a task with the argument, which is dropped. */
static int
feed_argument(struct stage *s, struct task *t, struct fmp_argument *a)
{
    FmpBoard *b = s->board;
    FmpJob *job = s->job;
    struct fmp_feed *f = &job->feed;
    uint64_t index = job->fed++;
    job->fed_items += a->items;
    PyObject *function = Py_NewRef(f->function); /* pickling may end the feed */
    PyObject *name = Py_XNewRef(f->name);
    begin_task(t, job, name, mode_of(f), index);
    int rc = a->object != NULL ? encode_task(b, t, function, a->object) : gather_task(t);
    if (rc == 0) {
        rc = stage_task(s, t, index);
        free_task(t);
    }
    else {
        rc = fail_tasks(job, index, 1);
    }
    Py_DECREF(function);
    Py_XDECREF(name);
    Py_XDECREF(a->object);
    return rc;
}

static int
feed_while_room(struct stage *s)
{
    FmpJob *job = s->job;
    while (job->feed.source != NULL) {
        if (atomic_load(&s->board->stopped)) {
            return 0; /* what becomes of the job is for who stopped it to say */
        }
        if (!has_room(s->board, job, s)) {
            return 0;
        }
        struct task t;
        struct fmp_argument a;
        int found = fmp_feed_next(&job->feed, &t.argument, &a);
        if (found && job->feed.source == NULL) {
            drop_argument(&t, &a);
        }
        if (!found || job->feed.source == NULL) {
            return source_ended(job);
        }
        if (feed_argument(s, &t, &a) < 0) {
            fmp_job_end_feed(job);
            return -1;
        }
    }
    return 0;
}

int
fmp_feed_some(FmpBoard *b, FmpJob *job)
{
    if (job->feed.source == NULL) {
        return 1;
    }
    if (job->feed.busy) {
        return 0;
    }
    struct stage s; /* the data behind is written as it is used */
    s.board = (FmpBoard *)Py_NewRef((PyObject *)b);
    s.job = (FmpJob *)Py_NewRef((PyObject *)job);
    s.items = 0;
    s.used = 0;
    job->feed.busy = true;
    int rc = feed_while_room(&s);
    PyObject *error = fmp_take_exception();
    int flushed = flush(&s);
    job->feed.busy = false;
    bool ended = job->feed.source == NULL;
    fmp_job_check(job);
    if (error != NULL) {
        PyErr_Clear();
        (void)fmp_raise_again(error);
    }
    Py_DECREF(s.job);
    Py_DECREF(s.board);
    return rc < 0 || flushed < 0 ? -1 : ended;
}

/* When so few bytes are waiting that it is worth while to give out more: not for every single
 * task, but before the workers have nothing to do. */
static uint64_t
worth_while(FmpBoard *b, const FmpJob *job)
{
    uint64_t half = fmp_taskboard_waiting(&b->board) / 2 + 1;
    return half > job->feed.budget / 2 ? half : job->feed.budget / 2;
}

int
fmp_feed_pending(FmpBoard *b)
{
    while (PyList_GET_SIZE(b->feeds) > 0 && !atomic_load(&b->stopped)) {
        FmpJob *job = (FmpJob *)Py_NewRef(PyList_GET_ITEM(b->feeds, 0));
        int rc = fmp_feed_some(b, job); /* takes it off the list when it has ended */
        bool later =
            rc == 0 && (job->feed.busy || fmp_taskboard_hungry(&b->board, worth_while(b, job)));
        Py_DECREF(job);
        if (rc < 0 || later) {
            return rc;
        }
    }
    return 0;
}

int
fmp_feed_cut(FmpJob *job)
{
    if (job->feed.source == NULL || job->feed.limit == 0) {
        return 0;
    }
    fmp_job_end_feed(job);
    uint64_t index = job->fed++;
    PyErr_SetString(PyExc_ValueError, "Pool not running");
    return fail_tasks(job, index, 1);
}

/* --- waiting for room ------------------------------------------------------------------------- */

struct room {
    FmpBoard *board;
    uint64_t below;
};

static int
try_room(void *arg, struct fmp_wait *w)
{
    struct room *r = arg;
    if (atomic_load(&r->board->stopped)) {
        return FMP_OK;
    }
    return fmp_taskboard_room(&r->board->board, r->below, w);
}

int
fmp_feed_wait(FmpBoard *b, FmpJob *job)
{
    struct room r = {b, worth_while(b, job)};
    struct fmp_waiter waiter = {.try_once = try_room, .arg = &r, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK) {
        fmp_raise(rc, "feed a pool");
        return -1;
    }
    return 0;
}
