/* py_pool_board.c - _core.TaskBoard: what a pool's parent and its workers share; see pool.h.
 *
 * The parent makes it; a worker inherits it by fork, or attaches to what _share() gives. The policy
 * (when to start a worker, when to give up) is Python's, in fastmp/_workers.py.
 */
#include "objects/pool.h"

#include <structmember.h>

#include "base/status.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"

/* --- making and ending ------------------------------------------------------------------------ */

#define MOST_WORKERS 65536

static int
open_board(FmpBoard *self, PyObject *what)
{
    int rc;
    if (PyTuple_Check(what)) {
        struct fmp_taskboard_fds fds;
        Py_ssize_t offset, size;
        if (!PyArg_ParseTuple(what, "iiiiinn;expected what _share() gives", &fds.tasks_ring,
                              &fds.tasks_bell, &fds.results_ring, &fds.results_bell, &fds.slot,
                              &offset, &size)) {
            return -1;
        }
        fds.slot_offset = (size_t)offset;
        fds.slot_size = (size_t)size;
        rc = fmp_taskboard_attach(&self->board, &fds);
    }
    else {
        long n = PyLong_AsLong(what);
        if (n == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (n < 1 || n > MOST_WORKERS) {
            PyErr_Format(PyExc_ValueError, "a pool has 1 to %d workers", MOST_WORKERS / 2);
            return -1;
        }
        rc = fmp_taskboard_create(&self->board, (uint32_t)n);
    }
    if (rc != FMP_OK) {
        fmp_raise(rc, "create a pool");
        return -1;
    }
    return 0;
}

static PyObject *
board_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *what;
    if (!PyArg_ParseTuple(args, "O:TaskBoard", &what)) {
        return NULL;
    }
    FmpBoard *self = (FmpBoard *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = fmp_state_of_type(type);
    self->cache = PyDict_New();
    self->finished = PyList_New(0);
    self->feeds = PyList_New(0);
    self->generation = fmp_fork_generation();
    self->looked_at = fmp_now(); /* there is nobody yet who could have died */
    if (self->state == NULL || self->cache == NULL || self->finished == NULL || self->feeds == NULL
        || open_board(self, what) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
board_traverse(FmpBoard *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->cache);
    Py_VISIT(self->finished);
    Py_VISIT(self->feeds);
    Py_VISIT(self->supervise);
    Py_VISIT(self->start_error);
    Py_VISIT(self->ended);
    return 0;
}

static int
board_clear(FmpBoard *self)
{
    /* The containers stay for those who still look into them, but hold nothing. */
    if (self->cache != NULL) {
        PyDict_Clear(self->cache);
    }
    if (self->finished != NULL) {
        PyList_SetSlice(self->finished, 0, PY_SSIZE_T_MAX, NULL);
    }
    if (self->feeds != NULL) {
        PyList_SetSlice(self->feeds, 0, PY_SSIZE_T_MAX, NULL);
    }
    Py_CLEAR(self->supervise);
    Py_CLEAR(self->start_error);
    Py_CLEAR(self->ended);
    return 0;
}

static void
board_dealloc(FmpBoard *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    board_clear(self);
    Py_CLEAR(self->cache);
    Py_CLEAR(self->finished);
    Py_CLEAR(self->feeds);
    fmp_taskboard_close(&self->board);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
board_share(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    struct fmp_taskboard_fds fds;
    fmp_taskboard_share(&self->board, &fds);
    return Py_BuildValue("(iiiiinn)", fds.tasks_ring, fds.tasks_bell, fds.results_ring,
                         fds.results_bell, fds.slot, (Py_ssize_t)fds.slot_offset,
                         (Py_ssize_t)fds.slot_size);
}

/* --- giving out tasks ------------------------------------------------------------------------- */

static int
check_args(const char *name, Py_ssize_t n_args, Py_ssize_t expected)
{
    if (n_args != expected) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", name, expected,
                     n_args);
        return -1;
    }
    return 0;
}

FmpJob *
fmp_pool_job_argument(const FmpBoard *b, PyObject *object)
{
    if (!fmp_pool_job_check(b->state, object)) {
        PyErr_SetString(PyExc_TypeError, "expected a result of a pool");
        return NULL;
    }
    return fmp_pool_check_owner(b) < 0 ? NULL : (FmpJob *)object;
}

/* A job of one task, given out. */
static FmpJob *
new_call(FmpBoard *self, struct fmp_job_plan *plan, PyObject *function, PyObject *args,
         PyObject *kwargs, uint32_t timed)
{
    plan->kind = FMP_JOB_CALL;
    plan->chunksize = 1;
    FmpJob *job = fmp_job_create(self, plan);
    if (job == NULL) {
        return NULL;
    }
    if (self->ended != NULL) {
        fmp_job_abort(job, self->ended);
    }
    else if (fmp_feed_call(self, job, function, args, kwargs, timed) < 0) {
        Py_CLEAR(job);
    }
    return job;
}

static int
class_argument(PyObject *object, PyTypeObject **type)
{
    if (!PyType_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "expected a class");
        return -1;
    }
    *type = (PyTypeObject *)object;
    return 0;
}

static PyObject *
board_call(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    FMP_CRITICAL(self->state->pool_gate);
    struct fmp_job_plan plan = {0};
    if (check_args("call", n_args, 8) < 0 || class_argument(args[0], &plan.type) < 0) {
        return NULL;
    }
    plan.crew = args[1];
    plan.callback = args[5];
    plan.error_callback = args[6];
    int timed = PyObject_IsTrue(args[7]);
    if (timed < 0) {
        return NULL;
    }
    return (PyObject *)new_call(self, &plan, args[2], args[3], args[4], timed ? FMP_TASK_TIMED : 0);
}

static PyObject *
board_apply(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    FMP_CRITICAL(self->state->pool_gate);
    if (check_args("apply", n_args, 4) < 0) {
        return NULL;
    }
    struct fmp_job_plan plan = {.type = self->state->pool_result, .crew = args[0]};
    FmpJob *job = new_call(self, &plan, args[1], args[2], args[3], 0);
    PyObject *result = job != NULL ? fmp_job_get(job, FMP_NEVER) : NULL;
    Py_XDECREF((PyObject *)job);
    return result;
}

/* How a job goes on to be fed, once start() has returned. */
enum { ALL_FED, FED_BY_WAITERS, FED_BY_THREAD };

/* Begins to feed a job. One of those, or -1 with an exception. */
static int
start_job(FmpBoard *self, FmpJob *job, PyObject *function, PyObject *iterable, bool star,
          Py_ssize_t limit)
{
    if (self->ended != NULL) {
        fmp_job_abort(job, self->ended);
        return ALL_FED;
    }
    Py_ssize_t chunk = job->chunksize > 1 ? job->chunksize : 0;
    int how = fmp_feed_begin(job, function, iterable, chunk, star, limit);
    if (how != 0) {
        return how < 0 ? -1 : FED_BY_THREAD;
    }
    int rc = fmp_feed_some(self, job);
    if (rc == 0 && limit == 0 && job->feed.source != NULL) {
        return PyList_Append(self->feeds, (PyObject *)job) < 0 ? -1 : FED_BY_WAITERS;
    }
    return rc < 0 ? -1 : ALL_FED;
}

static PyObject *
board_start(FmpBoard *self, PyObject *args)
{
    FMP_CRITICAL(self->state->pool_gate);
    struct fmp_job_plan plan = {0};
    PyObject *function, *iterable;
    int kind, star;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!OiOOpnnnOO:start", &PyType_Type, &plan.type, &plan.crew, &kind,
                          &function, &iterable, &star, &plan.chunksize, &plan.length, &limit,
                          &plan.callback, &plan.error_callback)) {
        return NULL;
    }
    plan.kind = (enum fmp_job_kind)kind;
    FmpJob *job = fmp_job_create(self, &plan);
    if (job == NULL) {
        return NULL;
    }
    int how = plan.chunksize > 0 ? start_job(self, job, function, iterable, star, limit) : ALL_FED;
    if (how < 0) {
        Py_DECREF(job);
        return NULL;
    }
    return Py_BuildValue("(Ni)", job, how);
}

static PyObject *
board_feed(FmpBoard *self, PyObject *object)
{
    FMP_CRITICAL(self->state->pool_gate);
    FmpJob *job = fmp_pool_job_argument(self, object);
    if (job == NULL) {
        return NULL;
    }
    int rc = fmp_feed_some(self, job);
    if (rc == 0 && fmp_feed_wait(self, job) < 0) {
        rc = -1;
    }
    return rc < 0 ? NULL : PyBool_FromLong(rc > 0 || atomic_load(&self->stopped));
}

/* --- serving ---------------------------------------------------------------------------------- */

static bool
has_duty(const FmpBoard *b, const FmpJob *Py_UNUSED(job))
{
    return PyList_GET_SIZE(b->finished) > 0 || atomic_load(&b->stopped)
        || (!b->keep_serving && fmp_pool_idle(b));
}

static PyObject *
board_serve(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    struct fmp_pool_waiter me = {.ready = has_duty};
    if (fmp_pool_check_owner(self) < 0 || fmp_pool_wait(self, &me, FMP_NEVER) == FMP_PYERR) {
        return NULL;
    }
    PyObject *jobs = PyList_GetSlice(self->finished, 0, PY_SSIZE_T_MAX);
    if (jobs != NULL && PyList_SetSlice(self->finished, 0, PyList_GET_SIZE(jobs), NULL) < 0) {
        Py_CLEAR(jobs);
    }
    return jobs;
}

static bool
is_drained(const FmpBoard *b, const FmpJob *Py_UNUSED(job))
{
    return PyDict_GET_SIZE(b->cache) == 0;
}

static PyObject *
board_wait_drained(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    struct fmp_pool_waiter me = {.ready = is_drained};
    if (fmp_pool_check_owner(self) < 0 || fmp_pool_wait(self, &me, FMP_NEVER) == FMP_PYERR) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
try_dismiss(void *arg, struct fmp_wait *w)
{
    return fmp_taskboard_dismiss(arg, w);
}

void
fmp_pool_job_gone(FmpBoard *b)
{
    if (b->closing && !b->dismissed && PyDict_GET_SIZE(b->cache) == 0
        && !atomic_load(&b->stopped)) {
        b->dismissed = true;
        struct fmp_wait now = {.budget_ns = 0, .fd = -1};
        if (fmp_taskboard_dismiss(&b->board, &now) != FMP_OK) {
            /* Whatever becomes of it: the workers see the board's state at their tick. */
            (void)fmp_run_unlocked(try_dismiss, &b->board);
        }
    }
}

/* Jobs whose tasks are given out as their results are taken would keep a closed pool for ever. */
static int
cut_feeds(FmpBoard *self)
{
    PyObject *jobs = PyDict_Values(self->cache);
    int rc = jobs != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(jobs); i++) {
        PyObject *job = PyList_GET_ITEM(jobs, i);
        if (fmp_pool_job_check(self->state, job)) {
            rc = fmp_feed_cut((FmpJob *)job);
        }
    }
    Py_XDECREF(jobs);
    return rc;
}

static PyObject *
board_close_later(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    self->closing = true;
    fmp_pool_job_gone(self);
    fmp_pool_poke(self);
    Py_RETURN_NONE;
}

static PyObject *
board_close(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    if (fmp_pool_check_owner(self) < 0 || cut_feeds(self) < 0) {
        return NULL;
    }
    return board_close_later(self, NULL);
}

static PyObject *
board_stop(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    atomic_store(&self->stopped, 1);
    fmp_taskboard_stop(&self->board);
    for (struct fmp_pool_waiter *w = self->waiters; w != NULL; w = w->next) {
        atomic_store(&w->poked, 1);
        fmp_wake(&w->poked, &w->sleepers, 1);
    }
    Py_RETURN_NONE;
}

static PyObject *
board_drain(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    if (fmp_pool_drain(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
board_end(FmpBoard *self, PyObject *error)
{
    FMP_CRITICAL(self->state->pool_gate);
    if (!PyExceptionInstance_Check(error)) {
        PyErr_SetString(PyExc_TypeError, "expected an exception");
        return NULL;
    }
    Py_XSETREF(self->ended, Py_NewRef(error));
    PyObject *jobs = PyDict_Values(self->cache);
    if (jobs == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(jobs); i++) {
        PyObject *job = PyList_GET_ITEM(jobs, i);
        if (fmp_pool_job_check(self->state, job)) {
            fmp_job_abort((FmpJob *)job, error);
        }
    }
    Py_DECREF(jobs);
    Py_RETURN_NONE;
}

static PyObject *
board_fail(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    FMP_CRITICAL(self->state->pool_gate);
    FmpJob *job = check_args("fail", n_args, 3) < 0 ? NULL : fmp_pool_job_argument(self, args[0]);
    if (job == NULL) {
        return NULL;
    }
    unsigned long index = PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    fmp_job_set(job, (uint32_t)index, false, Py_NewRef(args[2]));
    Py_RETURN_NONE;
}

static PyObject *
board_tasks_waiting(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(fmp_ring_count(&self->board.tasks.ring));
}

/* --- the type --------------------------------------------------------------------------------- */

static PyObject *
board_get_stopped(FmpBoard *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong((long)atomic_load(&self->stopped));
}

static PyObject *
board_get_idle(FmpBoard *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    return PyBool_FromLong(!self->keep_serving && fmp_pool_idle(self)
                           && PyList_GET_SIZE(self->finished) == 0);
}

static PyObject *
board_get_unfinished(FmpBoard *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    return PyLong_FromSsize_t(PyDict_GET_SIZE(self->cache));
}

static PyObject *
board_get_owned(FmpBoard *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->generation == fmp_fork_generation());
}

static PyMethodDef board_methods[] = {
    {"call", (PyCFunction)(void (*)(void))board_call, METH_FASTCALL,
     "call($self, cls, crew, function, args, kwargs, callback, error_callback, timed, /)\n--\n\n"
     "Give out one task; returns the result, of class `cls`. running() knows a timed one."},
    {"apply", (PyCFunction)(void (*)(void))board_apply, METH_FASTCALL,
     "apply($self, crew, function, args, kwargs, /)\n--\n\nGive out one task and wait for it."},
    {"start", (PyCFunction)board_start, METH_VARARGS,
     "start($self, cls, crew, kind, function, iterable, star, chunksize, length, limit, callback,\n"
     "      error_callback, /)\n--\n\n"
     "Give out what there is room for: (result, how). 0: all of it; 1: whoever waits gives out\n"
     "the rest; 2: nothing yet, a thread is to call feed()."},
    {"feed", (PyCFunction)board_feed, METH_O,
     "feed($self, result, /)\n--\n\nGive out what there is room for, then wait for room unless "
     "that was all, or the\npool was stopped: then True."},
    {"serve", (PyCFunction)board_serve, METH_NOARGS,
     "serve($self, /)\n--\n\nCollect until callbacks are due: a list of results. Empty: nothing to "
     "do."},
    {"wait_drained", (PyCFunction)board_wait_drained, METH_NOARGS, "Wait for all jobs."},
    {"close", (PyCFunction)board_close, METH_NOARGS, "Workers leave after the last job."},
    {"close_later", (PyCFunction)board_close_later, METH_NOARGS,
     "The same; jobs that are fed as their results are taken go on being fed."},
    {"stop", (PyCFunction)board_stop, METH_NOARGS, "Nobody is to wait for anything any more."},
    {"drain", (PyCFunction)board_drain, METH_NOARGS, "Deal out the results that are there."},
    {"end", (PyCFunction)board_end, METH_O, "Jobs fail with this exception, now and later."},
    {"fail", (PyCFunction)(void (*)(void))board_fail, METH_FASTCALL,
     "fail($self, result, index, exception, /)\n--\n\nA task of a result has failed."},
    {"fail_job", (PyCFunction)(void (*)(void))fmp_board_fail_job, METH_FASTCALL,
     "fail_job($self, result, exception, /)\n--\n\nA call or map fails as a whole; False when it "
     "is complete."},
    {"cancel", (PyCFunction)fmp_board_cancel, METH_O,
     "cancel($self, result, /)\n--\n\nNobody begins its tasks any more: the slots of the workers "
     "that are in one, each\nto be killed or spared. None when it is complete."},
    {"spare", (PyCFunction)fmp_board_spare, METH_O, "After cancel(): its workers may go on."},
    {"running", (PyCFunction)fmp_board_running, METH_O,
     "Seconds since a timed call's task was begun; None when no worker is in it."},
    {"hire", (PyCFunction)fmp_board_hire, METH_NOARGS, "Take a free slot, or -1."},
    {"hired", (PyCFunction)(void (*)(void))fmp_board_hired, METH_FASTCALL,
     "hired($self, slot, pid, /)\n--\n\nThe slot's worker has been started."},
    {"vacate", (PyCFunction)fmp_board_vacate, METH_O, "The slot's worker is gone."},
    {"worker_state", (PyCFunction)fmp_board_worker_state, METH_O,
     "0: none, 1: starting, 2: ready, 3: leaving, 4: its initializer has raised."},
    {"bury", (PyCFunction)fmp_board_bury, METH_O,
     "(result, index) of what the slot's dead worker held; None; or NotImplemented: ask later."},
    {"tasks_waiting", (PyCFunction)board_tasks_waiting, METH_NOARGS, "Tasks nobody has taken."},
    {"_enter", (PyCFunction)fmp_board_enter, METH_O, "This process is the slot's worker."},
    {"_ready", (PyCFunction)fmp_board_ready, METH_O, "Its initializer has returned."},
    {"_work", (PyCFunction)(void (*)(void))fmp_pool_work, METH_FASTCALL,
     "_work($self, slot, maxtasks, wrap_exception, /)\n--\n\nThe loop; returns the tasks done."},
    {"_report_start", (PyCFunction)(void (*)(void))fmp_pool_report_start, METH_FASTCALL,
     "_report_start($self, slot, exception, /)\n--\n\nThe initializer has raised."},
    {"_share", (PyCFunction)board_share, METH_NOARGS, "What another process needs to attach."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
board_get_cache(FmpBoard *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    if (self->generation == fmp_fork_generation() && fmp_pool_pump(self) < 0) {
        return NULL;
    }
    return Py_NewRef(self->cache);
}

static PyMemberDef board_members[] = {
    {"start_error", T_OBJECT, offsetof(FmpBoard, start_error), READONLY, "An initializer's."},
    {"ended", T_OBJECT, offsetof(FmpBoard, ended), READONLY, "What jobs fail with, or None."},
    {"supervise", T_OBJECT, offsetof(FmpBoard, supervise), 0, "Called when a worker has ended."},
    {"understaffed", T_BOOL, offsetof(FmpBoard, understaffed), 0, "... and at each tick."},
    {"keep_serving", T_BOOL, offsetof(FmpBoard, keep_serving), 0, "serve() waits when idle."},
    {"dismissed", T_BOOL, offsetof(FmpBoard, dismissed), READONLY, "The workers are leaving."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef board_getset[] = {
    {"cache", (getter)board_get_cache, NULL, "{number: unfinished result}, after a look.", NULL},
    {"stopped", (getter)board_get_stopped, NULL, "stop() was called.", NULL},
    {"idle", (getter)board_get_idle, NULL, "Is there nothing for serve() to do?", NULL},
    {"unfinished", (getter)board_get_unfinished, NULL, "How many results, without a look.", NULL},
    {"owned", (getter)board_get_owned, NULL, "Is this the process that made it?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot board_slots[] = {
    {Py_tp_doc, "A pool's tasks and results in shared memory."},
    {Py_tp_new, board_new},
    {Py_tp_dealloc, board_dealloc},
    {Py_tp_traverse, board_traverse},
    {Py_tp_clear, board_clear},
    {Py_tp_methods, board_methods},
    {Py_tp_members, board_members},
    {Py_tp_getset, board_getset},
    {0, NULL},
};

static PyType_Spec board_spec = {
    .name = "fastmp._core.TaskBoard",
    .basicsize = sizeof(FmpBoard),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = board_slots,
};

int
fmp_add_pool_board(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    state->pool_board = fmp_add_type(module, &board_spec, NULL);
    return state->pool_board != NULL ? 0 : -1;
}
