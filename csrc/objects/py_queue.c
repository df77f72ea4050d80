/* py_queue.c - _core.Queue: multiprocessing.Queue and JoinableQueue without a feeder thread.
 *
 * put() pickles in the caller and returns when the record is in shared memory; get() copies the
 * record out, frees its place and only then decodes, so that a slow or failing unpickle pins
 * nothing. Process-local: `closed`, `strict`, `spin`, the stash. A kill in put() leaves the message
 * absent or whole; in get(), redelivered before the commit and lost with the process after it.
 */
#include "objects/queue_object.h"

#include <frameobject.h>
#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/codec.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"
#include "platform/process.h"

/* --- putting --------------------------------------------------------------------------------- */

struct putting {
    FmpQueue *queue;
    const struct fmp_batch *batch;
};

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct putting *p = arg;
    return fmp_mailbox_put(&p->queue->mailbox, p->batch, w);
}

int
fmp_queue_put_batch(FmpQueue *self, const struct fmp_batch *batch, int64_t deadline)
{
    struct putting p = {self, batch};
    struct fmp_waiter waiter = {.try_once = try_put, .arg = &p, .deadline = deadline};
    int rc = fmp_wait_for(&waiter);
    if (rc == FMP_OK) {
        if (!self->used) { /* a store costs more */
            self->used = true;
        }
        return 0;
    }
    if (rc == FMP_TIMEOUT) {
        PyErr_SetNone(self->state->queue_full);
    }
    else {
        fmp_raise(rc, "put into a queue");
    }
    return -1;
}

/* Calls hook(error, object) while `error` is being handled, so that it may print the traceback. */
static PyObject *
call_while_handling(PyObject *hook, PyObject *type, PyObject *error, PyObject *traceback,
                    PyObject *object)
{
    PyObject *old_type, *old_error, *old_traceback;
    PyErr_GetExcInfo(&old_type, &old_error, &old_traceback);
    PyErr_SetExcInfo(Py_NewRef(type), Py_NewRef(error), Py_XNewRef(traceback));
    PyObject *result = PyObject_CallFunctionObjArgs(hook, error, object, NULL);
    PyErr_SetExcInfo(old_type, old_error, old_traceback);
    return result;
}

int
fmp_queue_report(FmpQueue *self, PyObject *object)
{
    /* The hook is for objects that cannot be pickled, whenever one tries. */
    if (self->strict || !PyErr_ExceptionMatches(PyExc_Exception)
        || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return -1;
    }
    PyFrameObject *caller = PyEval_GetFrame();
    if (caller != NULL) {
        PyTraceBack_Here(caller); /* so that what is printed names the line that put */
    }
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    PyObject *hook = PyObject_GetAttrString((PyObject *)self, "_on_queue_feeder_error");
    PyObject *result =
        hook != NULL ? call_while_handling(hook, type, error, traceback, object) : NULL;
    int rc = result != NULL ? 0 : -1;
    Py_XDECREF(result);
    Py_XDECREF(hook);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return rc;
}

int
fmp_queue_check_open(FmpQueue *self)
{
    if (self->closed) {
        PyErr_Format(PyExc_ValueError, "Queue %R is closed", self);
        return -1;
    }
    return 0;
}

static PyObject *
put_object(FmpQueue *self, PyObject *object, int64_t deadline)
{
    struct fmp_encoded e;
    if (fmp_queue_check_open(self) < 0) {
        return NULL;
    }
    if (fmp_encode(&self->state->codec, &e, object, NULL, 0) < 0) {
        if (fmp_queue_report(self, object) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    int rc = fmp_queue_put_batch(self, &e.batch, deadline);
    fmp_encoded_free(&e);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_put(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    static const char *const names[] = {"obj", "block", "timeout"};
    PyObject *given[3] = {NULL, NULL, NULL};
    int64_t deadline;
    if (n_args == 1 && kwnames == NULL) {
        return put_object(self, args[0], FMP_NEVER);
    }
    if (fmp_args("put", args, n_args, kwnames, names, 3, 1, 3, given) < 0
        || fmp_deadline(given[1], given[2], &deadline) < 0) {
        return NULL;
    }
    return put_object(self, given[0], deadline);
}

static PyObject *
queue_put_nowait(FmpQueue *self, PyObject *object)
{
    return put_object(self, object, 0);
}

/* --- getting --------------------------------------------------------------------------------- */

struct taking {
    FmpQueue *queue;
    struct fmp_buffer *out;
    uint32_t max_items;
};

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct taking *t = arg;
    return fmp_mailbox_take(&t->queue->mailbox, t->max_items, t->out, NULL, w);
}

/* What a take that has ended returns. */
static int
taken(FmpQueue *self, struct fmp_buffer *out, int rc)
{
    if (rc == FMP_OK) {
        return 0;
    }
    if (rc == FMP_TIMEOUT) {
        PyErr_SetNone(self->state->queue_empty);
    }
    else {
        fmp_raise(rc, "get from a queue");
    }
    fmp_buffer_free(out);
    return -1;
}

int
fmp_queue_take(FmpQueue *self, uint32_t max_items, struct fmp_buffer *out, int64_t deadline)
{
    struct taking t = {self, out, max_items};
    struct fmp_waiter waiter = {
        .try_once = try_take, .arg = &t, .spin = &self->spin, .gather = true, .deadline = deadline};
    return taken(self, out, fmp_wait_for(&waiter));
}

/* One record, or large bytes right as such. 0, or -1 with an exception. */
static int
take_message(FmpQueue *self, struct fmp_message *m, int64_t deadline)
{
    struct taking t = {self, &m->taken, 1};
    struct fmp_waiter waiter = {
        .try_once = try_take, .arg = &t, .spin = &self->spin, .gather = true, .deadline = deadline};
    int rc;
    do {
        rc = fmp_wait_for(&waiter);
        if (rc == FMP_DIRECT) {
            rc = fmp_take_bytes(m, try_take, &t);
        }
    } while (rc == FMP_AGAIN);
    return taken(self, &m->taken, rc);
}

static inline bool
has_stash(FmpQueue *self)
{
    FMP_CRITICAL(self);
    return self->stash.data != NULL;
}

PyObject *
fmp_queue_get_one(FmpQueue *self, int64_t deadline)
{
    if (has_stash(self)) {
        PyObject *object = fmp_queue_unstash(self);
        if (object != NULL || PyErr_Occurred()) {
            return object;
        }
    }
    uint8_t stack[FMP_QUEUE_STACK];
    struct fmp_message m;
    m.bytes = NULL;
    fmp_buffer_init(&m.taken, stack, sizeof(stack));
    m.taken.direct = 1u << FMP_REC_BYTES;
    if (take_message(self, &m, deadline) < 0) {
        return NULL;
    }
    return m.bytes != NULL ? m.bytes : fmp_decode_taken(&self->state->codec, &m.taken, 0);
}

static PyObject *
queue_get(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    static const char *const names[] = {"block", "timeout"};
    int64_t deadline = FMP_NEVER;
    if (n_args > 0 || kwnames != NULL) {
        PyObject *given[2] = {NULL, NULL};
        if (fmp_args("get", args, n_args, kwnames, names, 2, 0, 2, given) < 0
            || fmp_deadline(given[0], given[1], &deadline) < 0) {
            return NULL;
        }
    }
    return fmp_queue_check_open(self) < 0 ? NULL : fmp_queue_get_one(self, deadline);
}

static PyObject *
queue_get_nowait(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return fmp_queue_check_open(self) < 0 ? NULL : fmp_queue_get_one(self, 0);
}

/* --- looking at it ---------------------------------------------------------------------------- */

static PyObject *
queue_qsize(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong((unsigned long)fmp_ring_count(&self->mailbox.ring)
                                   + fmp_queue_stashed(self));
}

static PyObject *
queue_empty(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (self->closed && self->used) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    return PyBool_FromLong(fmp_ring_count(&self->mailbox.ring) == 0
                           && fmp_queue_stashed(self) == 0);
}

static PyObject *
queue_full(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(fmp_ring_room(&self->mailbox.ring) == 0);
}

static int
try_poll(void *arg, struct fmp_wait *w)
{
    return fmp_mailbox_poll(&((FmpQueue *)arg)->mailbox, w);
}

static PyObject *
queue_wait_nonempty(FmpQueue *self, PyObject *timeout)
{
    int64_t deadline;
    if (fmp_deadline(NULL, timeout, &deadline) < 0) {
        return NULL;
    }
    if (fmp_queue_stashed(self) > 0) {
        Py_RETURN_TRUE;
    }
    struct fmp_waiter waiter = {
        .try_once = try_poll, .arg = self, .spin = &self->spin, .deadline = deadline};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK && rc != FMP_TIMEOUT) {
        return fmp_raise(rc, "wait for a queue");
    }
    return PyBool_FromLong(rc == FMP_OK);
}

static int
try_arm_bell(void *arg, struct fmp_wait *w)
{
    return fmp_mailbox_arm_bell(&((FmpQueue *)arg)->mailbox, w);
}

static PyObject *
queue_fileno(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    struct fmp_waiter waiter = {.try_once = try_arm_bell, .arg = self, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    return rc != FMP_OK ? fmp_raise(rc, "make a queue selectable")
                        : PyLong_FromLong(self->mailbox.bell);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static PyObject *
queue_task_done(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (fmp_mailbox_task_done(&self->mailbox) != FMP_OK) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
try_join(void *arg, struct fmp_wait *w)
{
    return fmp_mailbox_joined(&((FmpQueue *)arg)->mailbox, w);
}

static PyObject *
queue_join_tasks(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    struct fmp_waiter waiter = {.try_once = try_join, .arg = self, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK) {
        return fmp_raise(rc, "join a queue");
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_unfinished(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(fmp_mailbox_unfinished(&self->mailbox));
}

/* --- making, passing on, ending ---------------------------------------------------------------- */

/* maxsize to a limit in items; 0: none. -1 with an exception. */
static int64_t
items_limit(PyObject *maxsize)
{
    int overflow;
    long long limit = PyLong_AsLongLongAndOverflow(maxsize, &overflow);
    if (limit == -1 && !overflow && PyErr_Occurred()) {
        return -1;
    }
    if (overflow > 0 || limit > FMP_SEM_VALUE_MAX) {
        PyErr_SetString(PyExc_ValueError, "maxsize is larger than SEM_VALUE_MAX");
        return -1;
    }
    return overflow < 0 || limit < 0 ? 0 : limit;
}

static int
open_mailbox(FmpQueue *self, PyObject *what)
{
    int rc;
    if (PyTuple_Check(what)) {
        int ring, bell;
        if (!PyArg_ParseTuple(what, "ii;expected (fd, fd)", &ring, &bell)) {
            return -1;
        }
        rc = fmp_mailbox_attach(&self->mailbox, ring, bell);
    }
    else {
        int64_t limit = items_limit(what);
        if (limit < 0) {
            return -1;
        }
        rc = fmp_mailbox_create(&self->mailbox, (uint32_t)limit);
    }
    if (rc != FMP_OK) {
        fmp_raise(rc, "create a queue");
        return -1;
    }
    return 0;
}

/* Imports queue for its exceptions, once: a program without queues does without it. */
static int
load_errors(struct fmp_state *state)
{
    FMP_CRITICAL(state->pool_gate);
    if (state->queue_full != NULL) {
        return 0;
    }
    PyObject *queue = PyImport_ImportModule("queue");
    PyObject *empty = queue != NULL ? PyObject_GetAttrString(queue, "Empty") : NULL;
    PyObject *full = empty != NULL ? PyObject_GetAttrString(queue, "Full") : NULL;
    Py_XDECREF(queue);
    if (full == NULL) {
        Py_XDECREF(empty);
        return -1;
    }
    Py_XSETREF(state->queue_empty, empty); /* an import lets other threads get here too */
    Py_XSETREF(state->queue_full, full);
    return 0;
}

PyObject *
fmp_queue_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *what;
    if (!PyArg_ParseTuple(args, "O:Queue", &what)) {
        return NULL;
    }
    FmpQueue *self = (FmpQueue *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = fmp_state_of_type(type);
    if (self->state == NULL || load_errors(self->state) < 0 || open_mailbox(self, what) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *
queue_share(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(ii)", self->mailbox.ring.fd, self->mailbox.bell);
}

void
fmp_queue_dealloc(FmpQueue *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmp_mailbox_close(&self->mailbox);
    PyMem_RawFree(self->stash.data);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"put", (PyCFunction)(void (*)(void))queue_put, METH_FASTCALL | METH_KEYWORDS,
     "put($self, obj, block=True, timeout=None)\n--\n\n"
     "Put an object; queue.Full when there is no room within `timeout` seconds."},
    {"put_nowait", (PyCFunction)queue_put_nowait, METH_O,
     "put_nowait($self, obj)\n--\n\nput() without waiting for room."},
    {"put_many", (PyCFunction)(void (*)(void))fmp_queue_put_many, METH_FASTCALL | METH_KEYWORDS,
     "put_many($self, iterable, block=True, timeout=None)\n--\n\n"
     "Put all objects, many at a time; returns how many. queue.Full, whose argument is how many\n"
     "were put, when there is no room for all within `timeout` seconds."},
    {"get", (PyCFunction)(void (*)(void))queue_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, block=True, timeout=None)\n--\n\n"
     "Take an object; queue.Empty when there is none within `timeout` seconds."},
    {"get_nowait", (PyCFunction)queue_get_nowait, METH_NOARGS,
     "get_nowait($self)\n--\n\nget() without waiting for an object."},
    {"get_many", (PyCFunction)(void (*)(void))fmp_queue_get_many, METH_FASTCALL | METH_KEYWORDS,
     "get_many($self, max_items, timeout=None)\n--\n\n"
     "Wait for one object and take up to `max_items` that are there: a list. queue.Empty when\n"
     "there is none within `timeout` seconds."},
    {"qsize", (PyCFunction)queue_qsize, METH_NOARGS, "qsize($self)\n--\n\nObjects in it; exact."},
    {"empty", (PyCFunction)queue_empty, METH_NOARGS,
     "empty($self)\n--\n\nIs nothing in it? Exact."},
    {"full", (PyCFunction)queue_full, METH_NOARGS, "full($self)\n--\n\nIs there no room? Exact."},
    {"_wait_nonempty", (PyCFunction)queue_wait_nonempty, METH_O, "Is something in it by then?"},
    {"_fileno", (PyCFunction)queue_fileno, METH_NOARGS, "Readable when something is in it."},
    {"_task_done", (PyCFunction)queue_task_done, METH_NOARGS, "JoinableQueue.task_done()."},
    {"_join_tasks", (PyCFunction)queue_join_tasks, METH_NOARGS, "JoinableQueue.join()."},
    {"_unfinished", (PyCFunction)queue_unfinished, METH_NOARGS, "Tasks put and not done."},
    {"_share", (PyCFunction)queue_share, METH_NOARGS, "(fd, fd) for another process."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef queue_members[] = {
    {"_closed", T_BOOL, offsetof(FmpQueue, closed), 0, "close() was called in this process."},
    {"_strict", T_BOOL, offsetof(FmpQueue, strict), 0, "put() raises what pickling raises."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "A queue of objects in shared memory."},
    {Py_tp_new, fmp_queue_new},
    {Py_tp_dealloc, fmp_queue_dealloc},
    {Py_tp_methods, queue_methods},
    {Py_tp_members, queue_members},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "fastmp._core.Queue",
    .basicsize = sizeof(FmpQueue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = queue_slots,
};

int
fmp_add_queue(PyObject *module)
{
    return fmp_publish_type(module, &queue_spec, NULL);
}
