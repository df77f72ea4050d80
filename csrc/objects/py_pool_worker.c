/* py_pool_worker.c - the loop of a pool's worker: take, decode, call, encode, post.
 *
 * Runs in the worker's process, in C but for the functions that are called. Whatever happens with
 * a task, a result is posted for it: the value, the exception with its traceback as text, or, when
 * the exception ends the worker (SystemExit), that. Only a kill leaves none; then the claim in the
 * worker's slot tells the parent what was lost.
 *
 * A function that came by name is kept for the next task of its job. Everything else of a task is
 * dropped before the next one is waited for.
 */
#include "objects/pool.h"

#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "base/status.h"
#include "bridge/args.h"
#include "bridge/errors.h"
#include "platform/clock.h"
#include "platform/cpus.h"

#define STACK_BYTES 4096
#define BYTES_TO_YIELD (32 << 10) /* of a result: reading them costs more than two switches */

struct worker {
    FmpBoard *board;
    uint32_t slot;
    long most; /* tasks after which it leaves; 0: never */
    long done;
    bool wrap;  /* exceptions carry their traceback as text */
    bool leave; /* after this task */
    enum fmp_worker_state last_state;
    struct fmp_spin spin;
    PyObject *function; /* of job `job`, by name; or NULL */
    uint32_t job;
    PyObject *signal; /* what a signal's handler raised while a result was being posted */
};

/* --- posting ---------------------------------------------------------------------------------- */

struct posting {
    struct worker *worker;
    const struct fmp_batch *batch;
};

static int
try_post(void *arg, struct fmp_wait *w)
{
    struct posting *p = arg;
    return fmp_taskboard_post(&p->worker->board->board, p->worker->slot, p->batch, w);
}

/* ^C concerns the parent: a worker that runs no task stays, as it has nothing to stop. Any other
 * exception of a signal's handler is kept for later. */
static void
keep_signal(struct worker *me)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear();
        return;
    }
    Py_XSETREF(me->signal, fmp_take_exception());
}

/* FMP_OK, or why not. A signal does not keep a result from its job. */
static int
post_batch(struct worker *me, const struct fmp_batch *batch)
{
    struct posting p = {me, batch};
    struct fmp_waiter waiter = {.try_once = try_post, .arg = &p, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    while (rc == FMP_PYERR) {
        keep_signal(me);
        rc = fmp_wait_for(&waiter);
    }
    return rc;
}

/* A collector that has not got round to what has come holds a map up, and may be waiting for the
 * processor that a worker has: who has more for it lets it go first. With more workers than processors
 * another of them would go. */
static bool
is_collector_late(const struct fmp_taskboard *b)
{
    return fmp_taskboard_has_results(b) && fmp_taskboard_ready(b) <= fmp_cpus_available();
}

/* Posts and frees a result behind `head`; 0, or -2 with the exception of a full machine. */
static int
post_encoded(struct worker *me, const struct fmp_result_head *head, struct fmp_encoded *e)
{
    if (head->leaving) { /* first: who reads the result then sees why */
        fmp_taskboard_set_state(&me->board->board, me->slot, me->last_state);
    }
    bool yields = e->batch.bytes >= BYTES_TO_YIELD && is_collector_late(&me->board->board);
    int rc = post_batch(me, &e->batch);
    fmp_encoded_free(e);
    if (yields) {
        fmp_cpu_yield();
    }
    if (rc != FMP_OK) {
        fmp_raise(rc, "send a result");
        return -2;
    }
    return 0;
}

/* Encodes and posts; 0, -1 with the exception of encoding, -2 with that of a full machine. */
static int
post_value(struct worker *me, const struct fmp_result_head *head, PyObject *value)
{
    struct fmp_encoded e;
    if (fmp_encode(&me->board->state->codec, &e, value, head, sizeof(*head)) < 0) {
        return -1;
    }
    return post_encoded(me, head, &e);
}

/* Posts the exception that is set as the task's result. When it is one that ends the worker, it is
 * set again: -1. */
static int
post_exception(struct worker *me, struct fmp_result_head *head)
{
    bool leave = !PyErr_ExceptionMatches(PyExc_Exception);
    PyObject *error = fmp_take_exception();
    bool exits = PyErr_GivenExceptionMatches(error, PyExc_SystemExit)
              || PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt);
    PyObject *value;
    if (exits) {
        value = fmp_pool_call_python("describe_exit", "(O)", error);
    }
    else {
        value = me->wrap ? fmp_pool_call_python("with_traceback", "(O)", error) : Py_NewRef(error);
    }
    head->status = exits ? FMP_RESULT_EXIT : FMP_RESULT_ERROR;
    head->leaving = leave || me->leave;
    int rc = value != NULL ? post_value(me, head, value) : -1;
    if (rc < 0) {
        /* The exception cannot be pickled: say so instead. */
        PyObject *why = fmp_take_exception();
        PyObject *instead =
            fmp_pool_call_python("encoding_error", "(OO)", why, value != NULL ? value : error);
        head->status = FMP_RESULT_ERROR;
        rc = instead != NULL ? post_value(me, head, instead) : -1;
        Py_XDECREF(instead);
        Py_XDECREF(why);
    }
    Py_XDECREF(value);
    if (leave && rc == 0) {
        return fmp_raise_again(error);
    }
    Py_DECREF(error);
    return rc;
}

/* Posts a value, or in its place that it cannot be sent. */
static int
post_result(struct worker *me, struct fmp_result_head *head, PyObject *value)
{
    head->status = FMP_RESULT_OK;
    head->leaving = me->leave;
    int posted = post_value(me, head, value);
    if (posted == 0) {
        return 0;
    }
    /* Where there is no room for a result, there may be none for its repr() either. */
    if (posted == -2 || !PyErr_ExceptionMatches(PyExc_Exception)
        || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return post_exception(me, head);
    }
    PyObject *why = fmp_take_exception();
    PyObject *instead = fmp_pool_call_python("encoding_error", "(OO)", why, value);
    head->status = FMP_RESULT_ERROR;
    int rc = instead != NULL ? post_value(me, head, instead) : -1;
    Py_XDECREF(instead);
    Py_XDECREF(why);
    return rc;
}

/* Posts results that have been encoded, or in their place that they cannot be sent. */
static int
post_flat(struct worker *me, struct fmp_result_head *head, struct fmp_encoded *e)
{
    return post_encoded(me, head, e) == 0 ? 0 : post_exception(me, head);
}

/* --- running ---------------------------------------------------------------------------------- */

/* The function of a task that carries its name. Borrowed from `me`. */
static PyObject *
function_of(struct worker *me, const struct fmp_task_head *head, const uint8_t *name)
{
    if (me->function == NULL || me->job != head->tag.job) {
        Py_XSETREF(me->function, fmp_function_from_name((const char *)name, head->function));
        me->job = head->tag.job;
    }
    return me->function;
}

/* A task of which only the head is here. */
static int
refuse_task(struct worker *me, const struct fmp_buffer *taken)
{
    struct fmp_task_head head;
    memcpy(&head, taken->data + FMP_RECORD_HEADER, sizeof(head));
    struct fmp_result_head result = {.tag = head.tag};
    fmp_raise(-ENOMEM, "take a task of a pool");
    return post_exception(me, &result);
}

/* Where the argument begins in a task's payload: behind its head and the function's name. */
static size_t
argument_at(const struct fmp_task_head *head)
{
    return sizeof(*head) + fmp_round_up(head->function, FMP_UNIT);
}

/* Decodes a task and frees its memory. 0, or -1 with an exception. New references. */
static int
decode_task(struct worker *me, const struct fmp_task_head *head, struct fmp_buffer *taken,
            size_t length, PyObject **function, PyObject **argument)
{
    struct fmp_codec *codec = &me->board->state->codec;
    size_t begin = argument_at(head);
    *function = *argument = NULL;
    if (begin > length) {
        fmp_buffer_free(taken);
        fmp_raise(FMP_CORRUPT, "take a task of a pool");
        return -1;
    }
    if (head->function > 0) {
        *function =
            Py_XNewRef(function_of(me, head, taken->data + FMP_RECORD_HEADER + sizeof(*head)));
        if (*function == NULL) {
            fmp_buffer_free(taken);
            return -1;
        }
        *argument = fmp_decode_taken(codec, taken, begin);
        return *argument != NULL ? 0 : -1;
    }
    PyObject *both = fmp_decode_taken(codec, taken, begin);
    if (both != NULL && PyTuple_Check(both) && PyTuple_GET_SIZE(both) == 2) {
        *function = Py_NewRef(PyTuple_GET_ITEM(both, 0));
        *argument = Py_NewRef(PyTuple_GET_ITEM(both, 1));
    }
    else if (both != NULL) {
        fmp_raise(FMP_CORRUPT, "take a task of a pool");
    }
    Py_XDECREF(both);
    return *function != NULL ? 0 : -1;
}

/* Runs a chunk of plain items. 1: done, 0: it is none, -1: leave with the exception. Frees `taken`
 * unless it was none. */
static int
run_flat(struct worker *me, const struct fmp_task_head *head, struct fmp_buffer *taken,
         uint8_t kind, size_t length)
{
    const uint8_t *data = taken->data + FMP_RECORD_HEADER;
    size_t begin = argument_at(head);
    struct fmp_flat_call c;
    if (head->mode != FMP_TASK_MANY || head->function == 0 || begin > length
        || !fmp_chunk_open(&c.chunk, kind, data + begin, length - begin)) {
        return 0;
    }
    c.state = me->board->state;
    struct fmp_result_head result = {.tag = head->tag, .leaving = me->leave};
    struct fmp_encoded e;
    c.function = Py_XNewRef(function_of(me, head, data + sizeof(*head)));
    fmp_flat_begin(&c.results, &e, &result, sizeof(result));
    int rc = c.function != NULL ? fmp_pool_call_flat(&c) : -1;
    Py_XDECREF(c.function);
    fmp_buffer_free(taken);
    if (rc < 0) {
        rc = post_exception(me, &result);
    }
    else if (c.list != NULL) {
        rc = post_result(me, &result, c.list);
        Py_DECREF(c.list);
    }
    else {
        fmp_flat_end(&c.results, FMP_REC_LIST);
        rc = post_flat(me, &result, &e);
    }
    return rc < 0 ? -1 : 1;
}

/* 0; -1 with the exception to leave with. Frees `taken`. */
static int
run_task(struct worker *me, struct fmp_buffer *taken)
{
    struct fmp_task_head head;
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    if (taken->cut) {
        return refuse_task(me, taken);
    }
    if (!fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length)
        || length < sizeof(head)) {
        fmp_buffer_free(taken);
        fmp_raise(FMP_CORRUPT, "take a task of a pool");
        return -1;
    }
    memcpy(&head, data, sizeof(head));
    struct fmp_result_head result = {.tag = head.tag};
    if (head.mode & FMP_TASK_TIMED) {
        fmp_taskboard_begin_timed(&me->board->board, me->slot);
        head.mode &= ~(uint32_t)FMP_TASK_TIMED;
    }
    int flat = run_flat(me, &head, taken, kind, length);
    if (flat != 0) {
        return flat < 0 ? -1 : 0;
    }
    PyObject *function, *argument, *value = NULL;
    if (decode_task(me, &head, taken, length, &function, &argument) == 0) {
        value = fmp_pool_call_task(head.mode, function, argument);
    }
    Py_XDECREF(argument);
    Py_XDECREF(function);
    if (value == NULL) {
        return post_exception(me, &result);
    }
    int rc = post_result(me, &result, value);
    Py_DECREF(value);
    return rc;
}

/* --- the loop --------------------------------------------------------------------------------- */

struct taking {
    struct worker *worker;
    struct fmp_buffer out;
    uint8_t stack[STACK_BYTES];
};

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct taking *t = arg;
    return fmp_taskboard_take(&t->worker->board->board, t->worker->slot, &t->out, w);
}

static int
tick_take(void *arg)
{
    const struct taking *t = arg;
    return fmp_taskboard_parent_alive(&t->worker->board->board) ? FMP_AGAIN : FMP_CLOSED;
}

/* What signals have left to be raised: -1 with it set. */
static int
check_signals(struct worker *me)
{
    if (PyErr_CheckSignals() < 0) { /* functions in C never look */
        keep_signal(me);
    }
    return me->signal != NULL ? fmp_raise_again(Py_NewRef(me->signal)) : 0;
}

/* 1: goes on, 0: leaves, -1: leaves with an exception. */
static int
take_and_run(struct worker *me)
{
    struct taking t;
    t.worker = me;
    fmp_buffer_init(&t.out, t.stack, sizeof(t.stack));
    struct fmp_waiter waiter = {.try_once = try_take,
                                .arg = &t,
                                .tick = tick_take,
                                .spin = &me->spin,
                                .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    if (rc == FMP_OK) {
        /* A signal that came while there was nothing to run is no task's. */
        if (PyErr_CheckSignals() < 0) {
            keep_signal(me);
        }
        me->done++;
        me->leave = me->most > 0 && me->done >= me->most;
        if (run_task(me, &t.out) < 0 || check_signals(me) < 0) {
            return -1;
        }
        return !me->leave;
    }
    fmp_buffer_free(&t.out);
    switch (rc) {
    case FMP_CLOSED:
        return 0;
    case FMP_PYERR:
        keep_signal(me);
        return check_signals(me) < 0 ? -1 : 1;
    default:
        fmp_raise(rc, "take a task of a pool");
        return -1;
    }
}

PyObject *
fmp_pool_work(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    struct worker me = {.board = self, .last_state = FMP_WORKER_LEAVING};
    if (n_args != 3) {
        PyErr_SetString(PyExc_TypeError, "_work(slot, maxtasks, wrap_exception)");
        return NULL;
    }
    if (fmp_pool_slot_argument(self, args[0], &me.slot) < 0) {
        return NULL;
    }
    if (args[1] != Py_None) {
        me.most = PyLong_AsLong(args[1]);
    }
    int wrap = PyObject_IsTrue(args[2]);
    if (wrap < 0 || PyErr_Occurred()) {
        return NULL;
    }
    me.wrap = wrap;
    int rc = 1;
    while (rc == 1) {
        rc = take_and_run(&me);
    }
    Py_XDECREF(me.function);
    Py_XDECREF(me.signal);
    fmp_taskboard_set_state(&self->board, me.slot, FMP_WORKER_LEAVING);
    return rc < 0 ? NULL : PyLong_FromLong(me.done);
}

PyObject *
fmp_pool_report_start(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    struct worker me = {.board = self, .last_state = FMP_WORKER_FAILED};
    if (n_args != 2) {
        PyErr_SetString(PyExc_TypeError, "_report_start(slot, exception)");
        return NULL;
    }
    if (fmp_pool_slot_argument(self, args[0], &me.slot) < 0) {
        return NULL;
    }
    struct fmp_result_head head = {.status = FMP_RESULT_START_FAILED, .leaving = 1};
    if (post_value(&me, &head, args[1]) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
