/* py_barrier.c - _core.Barrier: the native base of multiprocessing's Barrier.
 *
 * The shared part is one struct fmp_barrier_shm in a slot. Process-local: the action and the default
 * timeout, which each process may have of its own, as in the stdlib. Whoever is inside leaves before
 * an exception is raised; one that is killed inside breaks the barrier. A call goes on with the
 * barrier and the action that it began with, should another thread replace them.
 */
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/slots.h"
#include "platform/clock.h"
#include "sync/barrier.h"

typedef struct {
    PyObject_HEAD
    struct fmp_slot slot;
    struct fmp_barrier barrier; /* .shm in the slot; NULL until _create() or _attach() */
    struct fmp_spin spin;
    PyObject *action;  /* or NULL */
    PyObject *timeout; /* or NULL */
    int inside;        /* threads in calls that may wait */
} BarrierObject;

static bool
is_ready(BarrierObject *self)
{
    if (self->barrier.shm == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
        return false;
    }
    return true;
}

static PyObject *
raise_broken(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *type = threading ? PyObject_GetAttrString(threading, "BrokenBarrierError") : NULL;
    if (type != NULL) {
        PyErr_SetNone(type);
    }
    Py_XDECREF(type);
    Py_XDECREF(threading);
    return NULL;
}

/* --- calls of sync/barrier.c as fmp_wait_for() makes them ----------------------------------------- */

struct passing {
    struct fmp_barrier barrier;
    struct fmp_party party;
    PyObject *action; /* or NULL; a reference of its own */
    bool good;        /* the action's end */
};

static int
try_arrive(void *arg, struct fmp_wait *w)
{
    struct passing *a = arg;
    return fmp_barrier_arrive(&a->barrier, &a->party, a->action != NULL, w);
}

static int
try_pass(void *arg, struct fmp_wait *w)
{
    struct passing *a = arg;
    return fmp_barrier_try(&a->barrier, &a->party, w);
}

static int
try_expire(void *arg, struct fmp_wait *w)
{
    struct passing *a = arg;
    return fmp_barrier_expire(&a->barrier, &a->party, w);
}

static int
try_leave(void *arg, struct fmp_wait *w)
{
    struct passing *a = arg;
    return fmp_barrier_leave(&a->barrier, &a->party, w);
}

static int
try_finish(void *arg, struct fmp_wait *w)
{
    struct passing *a = arg;
    return fmp_barrier_finish(&a->barrier, &a->party, a->good, w);
}

static int
try_reset(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_reset(arg, w);
}

static int
try_abort(void *arg, struct fmp_wait *w)
{
    return fmp_barrier_abort(arg, w);
}

static int
look_around(void *arg)
{
    struct passing *a = arg;
    fmp_barrier_tick(&a->barrier, &a->party);
    return FMP_AGAIN;
}

/* For calls that wait for the mutex only, and have to be done whatever signals come: exceptions are
 * deferred. FMP_PYERR: given up. */
static int
insist(fmp_try_fn call, void *arg, struct fmp_deferred *d)
{
    for (;;) {
        struct fmp_waiter waiter = {.try_once = call, .arg = arg, .deadline = FMP_NEVER};
        int rc = fmp_wait_for(&waiter);
        if (rc != FMP_PYERR || !fmp_defer(d)) {
            return rc;
        }
    }
}

/* --- wait() ----------------------------------------------------------------------------------------- */

/* As the last one: the action, then the others are released. */
static int
act(struct passing *a)
{
    PyObject *result = PyObject_CallNoArgs(a->action);
    struct fmp_deferred d = {NULL, 0};
    a->good = result != NULL;
    if (result == NULL) {
        (void)fmp_defer(&d);
    }
    Py_XDECREF(result);
    int rc = insist(try_finish, a, &d);
    return fmp_raise_deferred(&d) < 0 ? FMP_PYERR : rc;
}

static int
leave_with_exception(struct passing *a)
{
    struct fmp_deferred d = {NULL, 0};
    (void)fmp_defer(&d);
    (void)insist(try_leave, a, &d);
    (void)fmp_raise_deferred(&d);
    return FMP_PYERR;
}

static int
time_is_over(struct passing *a)
{
    struct fmp_deferred d = {NULL, 0};
    int rc = insist(try_expire, a, &d);
    return fmp_raise_deferred(&d) < 0 ? FMP_PYERR : rc;
}

/* From its place: FMP_OK, FMP_BROKEN, FMP_PYERR; out of it in every case. */
static int
wait_in_place(BarrierObject *self, struct passing *a, int64_t deadline)
{
    struct fmp_waiter waiter = {.try_once = try_pass,
                                .arg = a,
                                .tick = look_around,
                                .spin = &self->spin,
                                .deadline = deadline};
    for (;;) {
        int rc = fmp_wait_for(&waiter);
        if (rc == FMP_TIMEOUT) {
            rc = time_is_over(a);
            if (rc == FMP_TIMEOUT) {
                waiter.deadline = FMP_NEVER; /* everybody has come: now it is up to the action */
                continue;
            }
            return rc;
        }
        return rc == FMP_PYERR ? leave_with_exception(a) : rc;
    }
}

static int
pass(BarrierObject *self, struct passing *a, int64_t deadline)
{
    int64_t time = deadline != 0 && deadline != FMP_NEVER ? deadline - fmp_now() : 0;
    struct fmp_waiter waiter = {
        .try_once = try_arrive, .arg = a, .tick = look_around, .deadline = FMP_NEVER};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK) {
        fmp_barrier_turn_away(&a->barrier, &a->party);
        return rc;
    }
    if (a->party.acts) {
        return act(a);
    }
    if (a->party.place < 0) {
        return FMP_OK;
    }
    /* The time counts from here: waiting for the last round's action is not waiting inside. */
    return wait_in_place(self, a, time != 0 ? fmp_now() + time : deadline);
}

/* The action, if there is one that is true; a new reference. 0, or -1 with an exception. */
static int
take_action(BarrierObject *self, PyObject **action)
{
    *action = Py_XNewRef(self->action);
    int yes = *action != NULL ? PyObject_IsTrue(*action) : 0;
    if (yes <= 0) {
        Py_CLEAR(*action);
    }
    return yes < 0 ? -1 : 0;
}

static int
deadline_of(BarrierObject *self, PyObject *timeout, int64_t *deadline)
{
    timeout = Py_XNewRef(timeout != NULL && timeout != Py_None ? timeout : self->timeout);
    int rc = fmp_deadline(NULL, timeout, deadline);
    Py_XDECREF(timeout);
    return rc;
}

static PyObject *
barrier_wait(BarrierObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    int64_t deadline;
    struct passing a = {.party = {.place = -1}};
    if (!is_ready(self) || fmp_args("wait", args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0
        || deadline_of(self, timeout, &deadline) < 0 || take_action(self, &a.action) < 0) {
        return NULL;
    }
    a.barrier = self->barrier;
    self->inside++;
    int rc = pass(self, &a, deadline);
    self->inside--;
    Py_CLEAR(a.action);
    switch (rc) {
    case FMP_OK:
        return PyLong_FromUnsignedLong(a.party.index);
    case FMP_BROKEN:
        return raise_broken();
    default:
        return fmp_raise(rc, "wait at a barrier");
    }
}

/* --- the rest ----------------------------------------------------------------------------------------- */

static PyObject *
call_insistently(BarrierObject *self, fmp_try_fn call, const char *what)
{
    if (!is_ready(self)) {
        return NULL;
    }
    struct fmp_deferred d = {NULL, 0};
    struct fmp_barrier barrier = self->barrier;
    self->inside++;
    int rc = insist(call, &barrier, &d);
    self->inside--;
    if (fmp_raise_deferred(&d) < 0) {
        return NULL;
    }
    return rc == FMP_OK ? Py_NewRef(Py_None) : fmp_raise(rc, what);
}

static PyObject *
barrier_reset(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return call_insistently(self, try_reset, "reset a barrier");
}

static PyObject *
barrier_abort(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return call_insistently(self, try_abort, "abort a barrier");
}

static PyObject *
barrier_get_parties(BarrierObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? PyLong_FromUnsignedLong(self->barrier.shm->parties) : NULL;
}

static PyObject *
barrier_get_waiting(BarrierObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? PyLong_FromUnsignedLong(atomic_load(&self->barrier.shm->count)) : NULL;
}

static PyObject *
barrier_get_broken(BarrierObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    if (!is_ready(self)) {
        return NULL;
    }
    return PyBool_FromLong(atomic_load(&self->barrier.shm->state) == FMP_BARRIER_BROKEN);
}

static PyObject *
barrier_get_state(BarrierObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? PyLong_FromLong(atomic_load(&self->barrier.shm->state)) : NULL;
}

/* --- making, passing on, ending ------------------------------------------------------------------------ */

static void
use_slot(BarrierObject *self, struct fmp_slot slot, struct fmp_barrier barrier)
{
    fmp_slot_replace(&self->slot, &slot, self->inside > 0);
    self->barrier = barrier;
}

static PyObject *
barrier_create(BarrierObject *self, PyObject *arg)
{
    FMP_CRITICAL(self);
    PyObject *number = PyNumber_Index(arg);
    int overflow = 0;
    long long parties = number != NULL ? PyLong_AsLongLongAndOverflow(number, &overflow) : -1;
    Py_XDECREF(number);
    if (parties == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (overflow > 0 || parties > FMP_BARRIER_PARTIES_MAX) {
        return PyErr_Format(PyExc_ValueError, "parties must be <= %u", FMP_BARRIER_PARTIES_MAX);
    }
    if (parties < 1) {
        PyErr_SetString(PyExc_ValueError, "parties must be > 0");
        return NULL;
    }
    struct fmp_slot slot;
    struct fmp_barrier barrier;
    int rc = fmp_slot_alloc(fmp_barrier_size((uint32_t)parties), &slot);
    if (rc == FMP_OK) {
        rc = fmp_barrier_create(&barrier, fmp_slot_at(&slot), (uint32_t)parties);
        if (rc == FMP_OK) {
            use_slot(self, slot, barrier);
            Py_RETURN_NONE;
        }
        fmp_slot_free(&slot);
    }
    return fmp_raise(rc, "create a barrier");
}

static PyObject *
barrier_share(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? fmp_slot_as_tuple(&self->slot) : NULL;
}

static PyObject *
barrier_attach(BarrierObject *self, PyObject *where)
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    if (fmp_slot_from_tuple(where, sizeof(struct fmp_barrier_shm), &slot) < 0) {
        return NULL;
    }
    struct fmp_barrier barrier;
    int rc = fmp_barrier_attach(&barrier, fmp_slot_at(&slot), slot.size);
    if (rc != FMP_OK) {
        fmp_slot_free(&slot);
        return fmp_raise(rc, "attach to a barrier");
    }
    use_slot(self, slot, barrier);
    Py_RETURN_NONE;
}

static int
barrier_traverse(BarrierObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->action);
    Py_VISIT(self->timeout);
    return 0;
}

static int
barrier_clear(BarrierObject *self)
{
    Py_CLEAR(self->action);
    Py_CLEAR(self->timeout);
    return 0;
}

static void
barrier_dealloc(BarrierObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)barrier_clear(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until all parties have come; an index from 0 to parties - 1, different for each.\n"
     "BrokenBarrierError when it is or gets broken: by abort(), reset(), the timeout of one\n"
     "party, an exception of the action, or the death of a party that waited."},
    {"reset", (PyCFunction)barrier_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nTo the empty state; who waits gets BrokenBarrierError."},
    {"abort", (PyCFunction)barrier_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nTo the broken state; who waits gets BrokenBarrierError."},
    {"_create", (PyCFunction)barrier_create, METH_O, "Make a new barrier for so many parties."},
    {"_share", (PyCFunction)barrier_share, METH_NOARGS, "(fd, offset, size) for another process."},
    {"_attach", (PyCFunction)barrier_attach, METH_O, "Become the barrier at (fd, offset, size)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    {"parties", (getter)barrier_get_parties, NULL, "How many it takes to pass.", NULL},
    {"n_waiting", (getter)barrier_get_waiting, NULL, "How many wait now.", NULL},
    {"broken", (getter)barrier_get_broken, NULL, "Whether it is broken.", NULL},
    {"_parties", (getter)barrier_get_parties, NULL, "How many it takes to pass.", NULL},
    {"_count", (getter)barrier_get_waiting, NULL, "How many wait now.", NULL},
    {"_state", (getter)barrier_get_state, NULL, "0 filling, 1 the action runs, -2 broken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef barrier_members[] = {
    {"_action", T_OBJECT, offsetof(BarrierObject, action), 0, "Called by the last to come."},
    {"_timeout", T_OBJECT, offsetof(BarrierObject, timeout), 0, "Of wait(), if it gives none."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, "Where a fixed number of parties wait for each other."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, barrier_dealloc},
    {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {Py_tp_members, barrier_members},
    {0, NULL},
};

static PyType_Spec barrier_spec = {
    .name = "fastmp._core.Barrier",
    .basicsize = sizeof(BarrierObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = barrier_slots,
};

int
fmp_add_barrier(PyObject *module)
{
    return fmp_publish_type(module, &barrier_spec, NULL);
}
