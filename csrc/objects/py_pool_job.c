/* py_pool_job.c - _core.PoolResult and _core.PoolIterator: what apply_async(), map_async() and
 * imap() return.
 *
 * fastmp.pool derives its result classes from these and from the stdlib's, whose attributes they
 * answer. An unfinished job lies in its board's cache and keeps the workers' crew alive; a
 * finished one holds neither. See pool.h for the fields.
 */
#include "objects/pool.h"

#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"

/* --- making and ending ------------------------------------------------------------------------ */

static int
register_job(FmpJob *self, FmpBoard *b)
{
    if (fmp_pool_check_owner(b) < 0) {
        return -1;
    }
    PyObject *number = NULL;
    int known = 1;
    while (known == 1) { /* numbers come again after 2^32 jobs; 0 is none */
        b->last_job = b->last_job == UINT32_MAX ? 1 : b->last_job + 1;
        Py_XSETREF(number, PyLong_FromUnsignedLong(b->last_job));
        known = number != NULL ? PyDict_Contains(b->cache, number) : -1;
    }
    if (known == 0) {
        known = PyDict_SetItem(b->cache, number, (PyObject *)self);
    }
    Py_XDECREF(number);
    if (known < 0) {
        return -1;
    }
    self->number = b->last_job;
    self->board = (FmpBoard *)Py_NewRef((PyObject *)b);
    if (self->callback != NULL || self->error_callback != NULL) {
        b->callbacks++;
    }
    return 0;
}

/* A callback that is false counts as none, as in the stdlib. -1 with an exception. */
static int
set_callback(PyObject **field, PyObject *given)
{
    int yes = given != NULL && given != Py_None ? PyObject_IsTrue(given) : 0;
    if (yes > 0) {
        *field = Py_NewRef(given);
    }
    return yes < 0 ? -1 : 0;
}

static PyObject *
list_of_none(Py_ssize_t length)
{
    PyObject *list = fmp_list_new(length);
    for (Py_ssize_t i = 0; list != NULL && i < length; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
    }
    return list;
}

FmpJob *
fmp_job_create(FmpBoard *b, const struct fmp_job_plan *plan)
{
    if (!PyType_IsSubtype(plan->type, b->state->pool_job)) {
        PyErr_SetString(PyExc_TypeError, "expected a class of results");
        return NULL;
    }
    FmpJob *self = (FmpJob *)plan->type->tp_alloc(plan->type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = b->state;
    self->kind = (uint8_t)plan->kind;
    self->success = true;
    self->chunksize = plan->chunksize > 0 ? plan->chunksize : 1;
    self->length = plan->length;
    if (plan->kind == FMP_JOB_MAP) {
        self->value = list_of_none(plan->length);
    }
    if ((plan->kind == FMP_JOB_MAP && self->value == NULL)
        || set_callback(&self->callback, plan->callback) < 0
        || set_callback(&self->error_callback, plan->error_callback) < 0
        || (plan->chunksize > 0 && register_job(self, b) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    if (plan->chunksize > 0) {
        self->crew = Py_NewRef(plan->crew);
    }
    else { /* nothing to do, and no callback either, as in the stdlib */
        self->complete = true;
        self->finished = 1;
    }
    return self;
}

static PyObject *
job_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return PyErr_Format(PyExc_TypeError, "%s objects are made by a pool", type->tp_name);
}

static int
job_traverse(FmpJob *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)self->board);
    Py_VISIT(self->crew);
    Py_VISIT(self->callback);
    Py_VISIT(self->error_callback);
    Py_VISIT(self->function);
    Py_VISIT(self->value);
    Py_VISIT(self->feed.source);
    Py_VISIT(self->feed.function);
    Py_VISIT(self->feed.name);
    return fmp_job_visit_windows(self, visit, arg);
}

static int
job_clear(FmpJob *self)
{
    PyObject *board = (PyObject *)self->board;
    self->board = NULL;
    atomic_store(&self->finished, 1); /* nobody can wait for it any more */
    Py_XDECREF(board);
    Py_CLEAR(self->crew);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->error_callback);
    Py_CLEAR(self->function);
    Py_CLEAR(self->value);
    Py_CLEAR(self->feed.source);
    Py_CLEAR(self->feed.function);
    Py_CLEAR(self->feed.name);
    fmp_job_free_windows(self);
    return 0;
}

static void
job_dealloc(FmpJob *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    job_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static bool
is_finished(const FmpBoard *Py_UNUSED(b), const FmpJob *job)
{
    return atomic_load(&job->finished) != 0;
}

static PyObject *
raise_timeout(void)
{
    PyObject *context = PyImport_ImportModule("fastmp.context");
    PyObject *type = context != NULL ? PyObject_GetAttrString(context, "TimeoutError") : NULL;
    if (type != NULL) {
        PyErr_SetNone(type);
    }
    Py_XDECREF(type);
    Py_XDECREF(context);
    return NULL;
}

/* As `raise` does it, anew for each get(): what is being handled where that is called becomes the
 * context. */
static PyObject *
raise_value(PyObject *value)
{
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    return NULL;
}

/* FMP_OK, FMP_TIMEOUT, FMP_PYERR. */
static int
wait_for_job(FmpJob *self, bool (*ready)(const FmpBoard *, const FmpJob *), int64_t deadline)
{
    if (ready(self->board, self)) {
        return FMP_OK;
    }
    FmpBoard *b = (FmpBoard *)Py_NewRef((PyObject *)self->board);
    struct fmp_pool_waiter me = {.ready = ready, .job = self};
    int rc = fmp_pool_check_owner(b) < 0 ? FMP_PYERR : fmp_pool_wait(b, &me, deadline);
    Py_DECREF(b);
    return rc;
}

static int
timeout_argument(const char *function, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames,
                 int64_t *deadline)
{
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    *deadline = FMP_NEVER;
    if (n_args == 0 && kwnames == NULL) {
        return 0;
    }
    if (fmp_args(function, args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0) {
        return -1;
    }
    return fmp_deadline(NULL, timeout, deadline);
}

static PyObject *
job_wait(FmpJob *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self->state->pool_gate);
    int64_t deadline;
    if (timeout_argument("wait", args, n_args, kwnames, &deadline) < 0
        || wait_for_job(self, is_finished, deadline) == FMP_PYERR) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
fmp_job_get(FmpJob *self, int64_t deadline)
{
    int rc = wait_for_job(self, is_finished, deadline);
    if (rc != FMP_OK) {
        return rc == FMP_TIMEOUT ? raise_timeout() : NULL;
    }
    if (self->value == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the garbage collector has cleared this result");
        return NULL;
    }
    return self->success ? Py_NewRef(self->value) : raise_value(self->value);
}

static PyObject *
job_get(FmpJob *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self->state->pool_gate);
    int64_t deadline;
    if (timeout_argument("get", args, n_args, kwnames, &deadline) < 0) {
        return NULL;
    }
    return fmp_job_get(self, deadline);
}

/* Is it finished, after a look at what has come? -1 with an exception. */
static int
look(FmpJob *self)
{
    if (!is_finished(self->board, self) && self->board->generation == fmp_fork_generation()) {
        FmpBoard *b = (FmpBoard *)Py_NewRef((PyObject *)self->board);
        int rc = fmp_pool_pump(b);
        Py_DECREF(b);
        if (rc < 0) {
            return -1;
        }
    }
    return is_finished(self->board, self);
}

static PyObject *
job_ready(FmpJob *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    int finished = look(self);
    return finished < 0 ? NULL : PyBool_FromLong(finished);
}

static PyObject *
job_successful(FmpJob *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    int finished = look(self);
    if (finished == 0) {
        PyErr_Format(PyExc_ValueError, "%R not ready", self);
    }
    return finished <= 0 ? NULL : PyBool_FromLong(self->success);
}

/* --- iterating -------------------------------------------------------------------------------- */

static bool
has_news(const FmpBoard *Py_UNUSED(b), const FmpJob *job)
{
    return fmp_job_has_item(job) || atomic_load(&job->finished) != 0;
}

/* The next result, or NULL with an exception: the task's, StopIteration, TimeoutError. */
static PyObject *
next_item(FmpJob *self, int64_t deadline)
{
    struct fmp_item item;
    while (!fmp_job_pop(self, &item)) {
        if (atomic_load(&self->finished)) {
            if (self->value != NULL) { /* the pool ended first */
                return raise_value(self->value);
            }
            PyErr_SetNone(PyExc_StopIteration);
            return NULL;
        }
        int rc = wait_for_job(self, has_news, deadline);
        if (rc != FMP_OK) {
            return rc == FMP_TIMEOUT ? raise_timeout() : NULL;
        }
    }
    if (self->feed.limit > 0 && self->board != NULL && fmp_feed_some(self->board, self) < 0) {
        Py_DECREF(item.value);
        return NULL;
    }
    if (item.success) {
        return item.value;
    }
    raise_value(item.value);
    Py_DECREF(item.value);
    return NULL;
}

static PyObject *
job_next(FmpJob *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self->state->pool_gate);
    int64_t deadline;
    if (timeout_argument("next", args, n_args, kwnames, &deadline) < 0) {
        return NULL;
    }
    return next_item(self, deadline);
}

static PyObject *
job_iternext(FmpJob *self)
{
    FMP_CRITICAL(self->state->pool_gate);
    return next_item(self, FMP_NEVER);
}

/* --- the stdlib's attributes ------------------------------------------------------------------ */

static PyObject *
object_or_none(PyObject *object)
{
    return Py_NewRef(object != NULL ? object : Py_None);
}

static PyObject *
job_number_left(FmpJob *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    if (look(self) < 0) {
        return NULL;
    }
    uint64_t tasks =
        self->kind == FMP_JOB_MAP
            ? ((uint64_t)self->length + (uint64_t)self->chunksize - 1) / (uint64_t)self->chunksize
            : 1;
    tasks = self->fed > tasks ? self->fed : tasks;
    uint64_t left = atomic_load(&self->finished) ? 0 : tasks - self->received;
    return PyLong_FromUnsignedLongLong(left);
}

static PyObject *
job_get_cache(FmpJob *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    return object_or_none(self->board != NULL ? self->board->cache : NULL);
}

static PyObject *
job_get_success(FmpJob *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    return PyBool_FromLong(self->success);
}

static PyObject *
job_get_index(FmpJob *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    return PyLong_FromUnsignedLongLong(self->received);
}

static PyObject *
job_get_length(FmpJob *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self->state->pool_gate);
    bool known = self->feed.source == NULL && self->fed > 0;
    return known || self->complete ? PyLong_FromUnsignedLongLong(self->fed) : Py_NewRef(Py_None);
}

/* --- the rest of what fastmp.pool does -------------------------------------------------------- */

static PyObject *
job_end(FmpJob *self, PyObject *error)
{
    FMP_CRITICAL(self->state->pool_gate);
    if (error != Py_None && PyExceptionInstance_Check(error)) {
        self->success = false;
        Py_XSETREF(self->value, Py_NewRef(error));
    }
    fmp_job_finish(self);
    Py_RETURN_NONE;
}

static PyObject *
job_cut(FmpJob *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    if (fmp_feed_cut(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMemberDef job_members[] = {
    {"_crew", T_OBJECT, offsetof(FmpJob, crew), READONLY, "Its workers, until it is finished."},
    {"_callback", T_OBJECT, offsetof(FmpJob, callback), READONLY, NULL},
    {"_error_callback", T_OBJECT, offsetof(FmpJob, error_callback), READONLY, NULL},
    {"_function", T_OBJECT, offsetof(FmpJob, function), READONLY, "What its tasks call."},
    {"_value", T_OBJECT, offsetof(FmpJob, value), READONLY, "The result, or the exception."},
    {"_kind", T_UBYTE, offsetof(FmpJob, kind), READONLY, "0 for the result of one call."},
    {"_job", T_UINT, offsetof(FmpJob, number), READONLY, "Its number in pool._cache."},
    {"_chunksize", T_PYSSIZET, offsetof(FmpJob, chunksize), READONLY, "Items for a task."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef job_getset[] = {
    {"_cache", (getter)job_get_cache, NULL, "The unfinished jobs of its pool.", NULL},
    {"_success", (getter)job_get_success, NULL, "Has no task failed so far?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef job_methods[] = {
    {"_end", (PyCFunction)job_end, METH_O, "Its callback has been run: None, or what it raised."},
    {"_cut", (PyCFunction)job_cut, METH_NOARGS, "Nobody takes its results any more."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "What a pool has been asked to do."},
    {Py_tp_new, job_new},
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_traverse, job_traverse},
    {Py_tp_clear, job_clear},
    {Py_tp_members, job_members},
    {Py_tp_getset, job_getset},
    {Py_tp_methods, job_methods},
    {0, NULL},
};

static PyMethodDef result_methods[] = {
    {"get", (PyCFunction)(void (*)(void))job_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, /, timeout=None)\n--\n\n"
     "The result, or the exception that the function raised. TimeoutError when it is not there\n"
     "within `timeout` seconds."},
    {"wait", (PyCFunction)(void (*)(void))job_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\nWait for the result, at most `timeout` seconds."},
    {"ready", (PyCFunction)job_ready, METH_NOARGS, "ready($self, /)\n--\n\nIs the result there?"},
    {"successful", (PyCFunction)job_successful, METH_NOARGS,
     "successful($self, /)\n--\n\n"
     "Whether the call ended without an exception. ValueError when it has not ended."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef result_getset[] = {
    {"_number_left", (getter)job_number_left, NULL, "Tasks that are not done.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_doc, "The result of a call that a pool works on."},
    {Py_tp_methods, result_methods},
    {Py_tp_getset, result_getset},
    {0, NULL},
};

static PyMethodDef iterator_methods[] = {
    {"next", (PyCFunction)(void (*)(void))job_next, METH_FASTCALL | METH_KEYWORDS,
     "next($self, /, timeout=None)\n--\n\n"
     "The next result, or the exception that the function raised; StopIteration at the end.\n"
     "TimeoutError when it is not there within `timeout` seconds."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef iterator_getset[] = {
    {"_index", (getter)job_get_index, NULL, "Results that have come.", NULL},
    {"_length", (getter)job_get_length, NULL, "Tasks in all, when that is known; or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, "The results of a pool's imap()."},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, job_iternext},
    {Py_tp_methods, iterator_methods},
    {Py_tp_getset, iterator_getset},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "fastmp._core.PoolJob",
    .basicsize = sizeof(FmpJob),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = job_slots,
};

static PyType_Spec result_spec = {
    .name = "fastmp._core.PoolResult",
    .basicsize = sizeof(FmpJob),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* GC is inherited */
    .slots = result_slots,
};

static PyType_Spec iterator_spec = {
    .name = "fastmp._core.PoolIterator",
    .basicsize = sizeof(FmpJob),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* GC is inherited */
    .slots = iterator_slots,
};

int
fmp_add_pool_job(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    state->pool_job = fmp_add_type(module, &job_spec, NULL);
    if (state->pool_job == NULL) {
        return -1;
    }
    state->pool_result = fmp_add_type(module, &result_spec, state->pool_job);
    PyTypeObject *iterator = fmp_add_type(module, &iterator_spec, state->pool_job);
    int rc = state->pool_result != NULL && iterator != NULL ? 0 : -1;
    Py_XDECREF(iterator);
    return rc;
}
