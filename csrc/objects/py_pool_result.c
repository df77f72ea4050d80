/* py_pool_result.c - what a result does to its job: marks, values in order, completion.
 *
 * Called with the GIL. Which tasks are done is kept apart from what they gave, so that a result
 * which comes twice (a worker was thought lost and was not), or for a task that does not exist
 * (damaged memory), is ignored. Owns the windows of a job.
 */
#include "objects/pool.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/errors.h"
#include "platform/memory.h"

#define FIRST_ROOM 16

/* --- marks ------------------------------------------------------------------------------------ */

static bool
is_marked(const struct fmp_marks *m, uint64_t at)
{
    if (at < m->base) {
        return true;
    }
    return at - m->base < m->room && m->cell[at & (m->room - 1)];
}

static int
mark(struct fmp_marks *m, uint64_t at)
{
    if (at - m->base >= m->room) {
        size_t room = m->room ? m->room * 2 : FIRST_ROOM;
        while (at - m->base >= room) {
            room *= 2;
        }
        uint8_t *cell = calloc(room, 1);
        if (cell == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < m->room; i++) {
            cell[(m->base + i) & (room - 1)] = m->cell[(m->base + i) & (m->room - 1)];
        }
        free(m->cell);
        m->cell = cell;
        m->room = room;
    }
    m->cell[at & (m->room - 1)] = 1;
    while (m->cell[m->base & (m->room - 1)]) {
        m->cell[m->base & (m->room - 1)] = 0;
        m->base++;
    }
    return 0;
}

bool
fmp_job_pending(const FmpJob *job, uint32_t index, uint64_t *full)
{
    /* The tag has the index modulo 2^32; fewer tasks than that are out at a time. */
    *full = job->marks.base + (uint32_t)(index - (uint32_t)job->marks.base);
    return *full < job->fed && !is_marked(&job->marks, *full);
}

/* --- items of imap ---------------------------------------------------------------------------- */

/* Steals `value`. */
static int
put_item(struct fmp_items *q, uint64_t at, bool success, PyObject *value)
{
    if (at - q->base >= q->room) {
        size_t room = q->room ? q->room * 2 : FIRST_ROOM;
        while (at - q->base >= room) {
            room *= 2;
        }
        struct fmp_item *cell = calloc(room, sizeof(*cell));
        if (cell == NULL) {
            Py_DECREF(value);
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < q->room; i++) {
            cell[(q->base + i) & (room - 1)] = q->cell[(q->base + i) & (q->room - 1)];
        }
        free(q->cell);
        q->cell = cell;
        q->room = room;
    }
    q->cell[at & (q->room - 1)] = (struct fmp_item){value, success};
    return 0;
}

bool
fmp_job_has_item(const FmpJob *job)
{
    const struct fmp_items *q = &job->items;
    return q->room != 0 && q->cell[q->base & (q->room - 1)].value != NULL;
}

bool
fmp_job_pop(FmpJob *job, struct fmp_item *out)
{
    if (!fmp_job_has_item(job)) {
        return false;
    }
    struct fmp_item *cell = &job->items.cell[job->items.base & (job->items.room - 1)];
    *out = *cell;
    cell->value = NULL;
    job->items.base++;
    job->handed_out++;
    return true;
}

void
fmp_job_free_windows(FmpJob *job)
{
    struct fmp_items items = job->items;
    job->items = (struct fmp_items){.base = items.base};
    for (size_t i = 0; i < items.room; i++) {
        Py_XDECREF(items.cell[i].value);
    }
    free(items.cell);
    free(job->marks.cell);
    job->marks.cell = NULL;
    job->marks.room = 0;
}

int
fmp_job_visit_windows(FmpJob *job, visitproc visit, void *arg)
{
    for (size_t i = 0; i < job->items.room; i++) {
        Py_VISIT(job->items.cell[i].value);
    }
    return 0;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Puts a chunk's list of results where it belongs in the job's list; steals `chunk`. */
static int
put_chunk(FmpJob *job, uint64_t index, PyObject *chunk)
{
    Py_ssize_t at = (Py_ssize_t)index * job->chunksize;
    int rc = 0;
    while (rc == 0 && PyList_GET_SIZE(job->value) < at) {
        rc = PyList_Append(job->value, Py_None); /* the iterable is longer than it said */
    }
    if (rc == 0 && job->feed.chunk == 0) { /* tasks of one item: the result is bare */
        if (at < PyList_GET_SIZE(job->value)) {
            return PyList_SetItem(job->value, at, chunk);
        }
        rc = PyList_Append(job->value, chunk);
    }
    else if (rc == 0) {
        rc = PyList_SetSlice(job->value, at, at + job->chunksize, chunk);
    }
    Py_DECREF(chunk);
    return rc;
}

/* Steals `value`. */
static int
put_value(FmpJob *job, uint64_t index, bool success, PyObject *value)
{
    switch (job->kind) {
    case FMP_JOB_IMAP:
        return put_item(&job->items, index, success, value);
    case FMP_JOB_IMAP_UNORDERED:
        return put_item(&job->items, job->received, success, value);
    case FMP_JOB_MAP:
        if (success && job->success) {
            return put_chunk(job, index, value);
        }
        if (!success && job->success) { /* the first error that comes is the job's */
            job->success = false;
            Py_XSETREF(job->value, value);
            return 0;
        }
        Py_DECREF(value);
        return 0;
    default:
        job->success = success;
        Py_XSETREF(job->value, value);
        return 0;
    }
}

/* There is no memory for a result: the exception that is set becomes that of the whole job, so that
 * nobody waits for what cannot come. */
static void
give_up(FmpJob *job)
{
    PyObject *error = fmp_take_exception();
    if (job->kind == FMP_JOB_CALL || job->kind == FMP_JOB_MAP) {
        fmp_job_fail(job, error);
    }
    else {
        fmp_job_abort(job, error);
    }
    Py_DECREF(error);
}

void
fmp_job_set(FmpJob *job, uint32_t index, bool success, PyObject *value)
{
    uint64_t full;
    if (job->complete || !fmp_job_pending(job, index, &full)) {
        Py_DECREF(value);
    }
    else if (mark(&job->marks, full) < 0) {
        Py_DECREF(value);
        give_up(job);
    }
    else if (put_value(job, full, success, value) < 0) {
        give_up(job);
    }
    else {
        job->received++;
        fmp_job_check(job);
    }
}

/* Replaces so many items of the job's list. -1: it is malformed, or there is no memory, and the
 * exception is not worth telling: who decodes it all meets it again. Nobody else has the list: the
 * results so far are what `_value` shows, but in a Python without a GIL. */
static int
read_items(PyObject *list, Py_ssize_t at, struct fmp_reader *r, uint32_t count)
{
    struct fmp_ahead ahead = {0};
    for (Py_ssize_t i = at; i < at + (Py_ssize_t)count; i++) {
        PyObject *item = fmp_flat_next(r);
        if (item == NULL) {
            PyErr_Clear();
            return -1;
        }
        fmp_memory_ahead(&ahead, item);
        PyObject *before = PyList_GET_ITEM(list, i);
        PyList_SET_ITEM(list, i, item);
        Py_XDECREF(before);
    }
    return 0;
}

bool
fmp_job_set_flat(FmpJob *job, uint32_t index, const uint8_t *data, size_t size)
{
    uint64_t full;
    struct fmp_reader r;
    uint32_t count;
    if (job->kind != FMP_JOB_MAP || job->feed.chunk == 0 || !job->success || job->complete
        || !fmp_job_pending(job, index, &full) || !fmp_flat_open(&r, data, size, &count)) {
        return false;
    }
    Py_ssize_t at = (Py_ssize_t)full * job->chunksize, room = PyList_GET_SIZE(job->value) - at;
    if (count > job->chunksize || (Py_ssize_t)count > room
        || (count < job->chunksize && (Py_ssize_t)count != room)
        || read_items(job->value, at, &r, count) < 0) {
        return false;
    }
    if (mark(&job->marks, full) < 0) {
        give_up(job);
        return true;
    }
    job->received++;
    fmp_job_check(job);
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

void
fmp_job_end_feed(FmpJob *job)
{
    Py_CLEAR(job->feed.source);
    Py_CLEAR(job->feed.function);
    Py_CLEAR(job->feed.name);
    FmpBoard *b = job->board;
    if (b != NULL && b->feeds != NULL) {
        for (Py_ssize_t i = PyList_GET_SIZE(b->feeds) - 1; i >= 0; i--) {
            if (PyList_GET_ITEM(b->feeds, i) == (PyObject *)job) {
                PyList_SetSlice(b->feeds, i, i + 1, NULL);
            }
        }
    }
}

static bool
has_callback(const FmpJob *job)
{
    return (job->success ? job->callback : job->error_callback) != NULL;
}

/* The exception that is set becomes the outcome. */
static void
end_with_exception(FmpJob *job)
{
    job->success = false;
    Py_XSETREF(job->value, fmp_take_exception());
}

/* The outcome is known: its callback is due, or get() returns. */
static void
complete(FmpJob *job)
{
    job->complete = true;
    if (has_callback(job) && job->board != NULL) {
        /* get() returns after the callback, which is run elsewhere. */
        if (PyList_Append(job->board->finished, (PyObject *)job) == 0) {
            fmp_pool_poke(job->board);
            return;
        }
        end_with_exception(job);
    }
    fmp_job_finish(job);
}

void
fmp_job_check(FmpJob *job)
{
    if (job->complete || job->feed.source != NULL || job->received != job->fed) {
        return;
    }
    if (job->kind == FMP_JOB_MAP && job->success && job->fed_items < PyList_GET_SIZE(job->value)
        && PyList_SetSlice(job->value, job->fed_items, PY_SSIZE_T_MAX, NULL) < 0) {
        /* The iterable was shorter than it said, and what is too much cannot be cut off. */
        end_with_exception(job);
    }
    complete(job);
}

void
fmp_job_fail(FmpJob *job, PyObject *error)
{
    fmp_job_end_feed(job);
    job->success = false;
    Py_XSETREF(job->value, Py_NewRef(error));
    complete(job);
}

/* Takes the job out of the board's cache, without memory for a key if there is none. */
static void
forget_number(FmpBoard *b, FmpJob *job)
{
    PyObject *number = PyLong_FromUnsignedLong(job->number);
    if (number == NULL || PyDict_DelItem(b->cache, number) < 0) {
        PyErr_Clear();
        Py_XDECREF(number);
        number = fmp_pool_search(b, job->number);
        if (number != NULL && PyDict_DelItem(b->cache, number) < 0) {
            PyErr_Clear(); /* somebody has tampered with pool._cache */
        }
    }
    Py_XDECREF(number);
}

void
fmp_job_finish(FmpJob *job)
{
    FmpBoard *b = job->board;
    if (b == NULL) {
        return;
    }
    Py_INCREF(job);
    fmp_job_end_feed(job);
    job->complete = true;
    job->board = NULL; /* we hold its reference */
    atomic_store(&job->finished, 1);
    if (job->callback != NULL || job->error_callback != NULL) {
        b->callbacks--;
    }
    forget_number(b, job);
    fmp_pool_poke(b);
    fmp_pool_job_gone(b);
    Py_DECREF(b);
    Py_CLEAR(job->callback);
    Py_CLEAR(job->error_callback);
    Py_CLEAR(job->function);
    Py_CLEAR(job->crew);
    Py_DECREF(job);
}

/* A new exception like `error`. Raising collects a traceback, and with it whoever waited: the board
 * must not hold those through its own. NULL with an exception. */
static PyObject *
another(PyObject *error)
{
    PyObject *args = PyObject_GetAttrString(error, "args");
    PyObject *copy = args != NULL ? PyObject_CallObject((PyObject *)Py_TYPE(error), args) : NULL;
    Py_XDECREF(args);
    if (copy != NULL && PyExceptionInstance_Check(copy)) {
        PyException_SetCause(copy, PyException_GetCause(error));
    }
    return copy;
}

void
fmp_job_abort(FmpJob *job, PyObject *error)
{
    if (job->board == NULL) {
        return;
    }
    fmp_job_end_feed(job);
    if (!job->complete) {
        PyObject *own = another(error);
        if (own == NULL) {
            PyErr_WriteUnraisable((PyObject *)Py_TYPE(error)); /* `error` itself will do */
            own = Py_NewRef(error);
        }
        job->success = false;
        Py_XSETREF(job->value, own);
    }
    fmp_job_finish(job);
}
