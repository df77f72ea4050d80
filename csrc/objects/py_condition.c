/* py_condition.c - _core.Condition: the native base of multiprocessing's Condition.
 *
 * The shared part is one struct fmp_condition_shm in a slot. The lock may be any: a native one is
 * given up and had back in C, another through its acquire(), release() and `_semlock`, as the stdlib
 * does it. Whatever happens during wait(), the lock is had back and the place given back before an
 * exception is raised. A wait() holds what it began with, and the slot stays while anybody is
 * inside: all of the object may be made anew by another thread.
 */
#include <Python.h>
#include <limits.h>
#include <stdbool.h>
#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/guard.h"
#include "objects/lock.h"
#include "objects/lock_access.h"
#include "objects/slots.h"
#include "sync/condition.h"

typedef struct {
    struct fmp_guard guard;
    struct fmp_slot slot;
    struct fmp_condition_shm *shm; /* in the slot; NULL until _create() or _attach() */
    PyObject *lock;                /* `_lock`, or NULL */
    PyObject *native; /* its `_semlock`, if that is a _core.Lock or _core.RLock, else NULL */
    int inside;       /* threads in wait() */
} ConditionObject;

static bool
is_ready(ConditionObject *self)
{
    if (self->shm == NULL || self->lock == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
        return false;
    }
    return true;
}

static struct fmp_userlock_shm *
userlock(PyObject *native)
{
    return native != NULL ? ((struct fmp_lock_object *)native)->shm : NULL;
}

/* --- any lock ----------------------------------------------------------------------------------- */

/* lock._semlock.<name>(): a new reference, or NULL. */
static PyObject *
ask_semlock(ConditionObject *self, const char *name)
{
    PyObject *lock = Py_NewRef(self->lock);
    PyObject *semlock = PyObject_GetAttrString(lock, "_semlock");
    PyObject *answer = semlock != NULL ? PyObject_CallMethod(semlock, name, NULL) : NULL;
    Py_XDECREF(semlock);
    Py_DECREF(lock);
    return answer;
}

/* Raises unless this thread holds the lock. */
static bool
check_is_mine(ConditionObject *self, const char *complaint)
{
    int mine;
    if (self->native != NULL) {
        mine = fmp_lock_is_mine(self->native);
    }
    else {
        PyObject *answer = ask_semlock(self, "_is_mine");
        mine = answer != NULL ? PyObject_IsTrue(answer) : -1;
        Py_XDECREF(answer);
    }
    if (mine == 0) {
        PyErr_SetString(PyExc_AssertionError, complaint);
    }
    return mine > 0;
}

/* The lock as one wait() has put it down. References of its own. */
struct put_down {
    PyObject *native;            /* or NULL, and then: */
    PyObject *acquire, *release; /* methods of the lock */
    struct fmp_lock_hold hold;
};

static void
forget(struct put_down *p)
{
    Py_CLEAR(p->native);
    Py_CLEAR(p->acquire);
    Py_CLEAR(p->release);
}

/* Called until `times` calls were good. False when it was given up, with `d` set. */
static bool
call_repeatedly(PyObject *method, int times, struct fmp_deferred *d)
{
    while (times > 0) {
        PyObject *result = PyObject_CallNoArgs(method);
        if (result != NULL) {
            Py_DECREF(result);
            times--;
        }
        else if (!fmp_defer(d)) {
            return false;
        }
    }
    return true;
}

/* -1 with an exception: what was released of a foreign lock was acquired again. */
static int
put_down_foreign(ConditionObject *self, struct put_down *p)
{
    PyObject *answer = ask_semlock(self, "_count");
    long count = answer != NULL ? PyLong_AsLong(answer) : -1;
    Py_XDECREF(answer);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    p->acquire = Py_XNewRef(self->guard.acquire);
    p->release = Py_XNewRef(self->guard.release);
    if (p->acquire == NULL || p->release == NULL) {
        PyErr_SetString(PyExc_AttributeError, p->acquire == NULL ? "acquire" : "release");
        return -1;
    }
    p->hold.count = count < INT_MAX ? (int)count : INT_MAX;
    for (int released = 0; released < p->hold.count; released++) {
        PyObject *result = PyObject_CallNoArgs(p->release);
        if (result == NULL) {
            struct fmp_deferred d = {NULL, 0};
            (void)fmp_defer(&d);
            (void)call_repeatedly(p->acquire, released, &d);
            return fmp_raise_deferred(&d);
        }
        Py_DECREF(result);
    }
    return 0;
}

static int
put_down(ConditionObject *self, struct put_down *p)
{
    return p->native != NULL ? fmp_lock_put_down(p->native, &p->hold) : put_down_foreign(self, p);
}

static void
take_up(const struct put_down *p, struct fmp_deferred *d)
{
    if (p->native != NULL) {
        (void)fmp_lock_take_up(p->native, &p->hold, d);
    }
    else {
        (void)call_repeatedly(p->acquire, p->hold.count, d);
    }
}

/* --- waiting and notifying ---------------------------------------------------------------------- */

struct waiting {
    struct fmp_condition_shm *condition;
    struct fmp_userlock_shm *lock; /* or NULL */
    struct fmp_condition_place place;
};

static int
try_wait(void *arg, struct fmp_wait *w)
{
    struct waiting *a = arg;
    return fmp_condition_try(a->condition, &a->place, w);
}

static int
look_around(void *arg)
{
    struct waiting *a = arg;
    fmp_condition_tick(a->condition, a->lock);
    return FMP_AGAIN;
}

/* With the lock put down: until notified, or the deadline, or an exception, which is deferred. */
static void
sleep_in_place(struct waiting *a, int64_t deadline, struct fmp_deferred *d)
{
    /* No spinning: who is to notify needs the lock first, and then must find us asleep. */
    struct fmp_waiter waiter = {
        .try_once = try_wait, .arg = a, .tick = look_around, .deadline = deadline};
    int rc = fmp_wait_for(&waiter);
    if (rc != FMP_OK && rc != FMP_TIMEOUT) {
        fmp_raise(rc, "wait for a condition");
        (void)fmp_defer(d);
    }
}

static PyObject *
wait_with(ConditionObject *self, struct put_down *p, int64_t deadline)
{
    struct waiting a = {.condition = self->shm, .lock = userlock(p->native)};
    struct fmp_deferred d = {NULL, 0};
    fmp_condition_arrive(a.condition, &a.place, a.lock);
    if (put_down(self, p) < 0) {
        (void)fmp_condition_leave(a.condition, &a.place, a.lock);
        return NULL;
    }
    sleep_in_place(&a, deadline, &d);
    take_up(p, &d);
    bool notified = fmp_condition_leave(a.condition, &a.place, a.lock);
    if (fmp_raise_deferred(&d) < 0) {
        if (notified) {
            fmp_condition_notify(a.condition, 1, a.lock); /* not lost: the next one gets it */
        }
        return NULL;
    }
    return PyBool_FromLong(notified);
}

static PyObject *
wait_until(ConditionObject *self, int64_t deadline)
{
    struct put_down p = {.native = Py_XNewRef(self->native)};
    self->inside++;
    PyObject *result = wait_with(self, &p, deadline);
    self->inside--;
    forget(&p);
    return result;
}

static PyObject *
condition_wait(ConditionObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    int64_t deadline;
    if (!is_ready(self) || fmp_args("wait", args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0
        || fmp_deadline(NULL, timeout, &deadline) < 0
        || !check_is_mine(self, "must acquire() condition before using wait()")) {
        return NULL;
    }
    return wait_until(self, deadline);
}

/* 0, or -1 with an exception; anything below zero counts as zero. */
static int
parse_count(PyObject *n, uint64_t *count)
{
    int overflow = 0;
    long long value = PyLong_AsLongLongAndOverflow(n, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    *count = overflow > 0 ? UINT64_MAX : value > 0 ? (uint64_t)value : 0;
    return 0;
}

static PyObject *
condition_notify(ConditionObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"n"};
    PyObject *n = NULL;
    uint64_t count = 1;
    if (!is_ready(self) || fmp_args("notify", args, n_args, kwnames, names, 1, 0, 1, &n) < 0
        || (n != NULL && parse_count(n, &count) < 0) || !check_is_mine(self, "lock is not owned")) {
        return NULL;
    }
    fmp_condition_notify(self->shm, count, userlock(self->native));
    Py_RETURN_NONE;
}

static PyObject *
condition_waiting(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? PyLong_FromUnsignedLong(fmp_condition_waiting(self->shm)) : NULL;
}

/* --- making, passing on, ending ------------------------------------------------------------------ */

static PyObject *
condition_get_lock(ConditionObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    if (self->lock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_lock");
        return NULL;
    }
    return Py_NewRef(self->lock);
}

static int
condition_set_lock(ConditionObject *self, PyObject *lock, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    PyObject *native = NULL;
    if (lock != NULL) {
        native = PyObject_GetAttrString(lock, "_semlock");
        if (native == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
                return -1;
            }
            PyErr_Clear(); /* wait() and notify() will ask again, and complain */
        }
        else if (!fmp_lock_check(native)) {
            Py_CLEAR(native);
        }
    }
    Py_XSETREF(self->lock, Py_XNewRef(lock));
    Py_XSETREF(self->native, native);
    return 0;
}

static void
use_slot(ConditionObject *self, struct fmp_slot slot)
{
    fmp_slot_replace(&self->slot, &slot, self->inside > 0);
    self->shm = fmp_slot_at(&self->slot);
}

static PyObject *
condition_create(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    int rc = fmp_slot_alloc(sizeof(struct fmp_condition_shm), &slot);
    if (rc != FMP_OK) {
        return fmp_raise(rc, "create a condition");
    }
    use_slot(self, slot);
    Py_RETURN_NONE;
}

static PyObject *
condition_share(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? fmp_slot_as_tuple(&self->slot) : NULL;
}

static PyObject *
condition_attach(ConditionObject *self, PyObject *where)
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    if (fmp_slot_from_tuple(where, sizeof(struct fmp_condition_shm), &slot) < 0) {
        return NULL;
    }
    use_slot(self, slot);
    Py_RETURN_NONE;
}

static int
condition_traverse(ConditionObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->lock);
    Py_VISIT(self->native);
    return fmp_guard_traverse(&self->guard, visit, arg);
}

static int
condition_clear(ConditionObject *self)
{
    Py_CLEAR(self->lock);
    Py_CLEAR(self->native);
    return fmp_guard_clear(&self->guard);
}

static void
condition_dealloc(ConditionObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)condition_clear(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef condition_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Release the lock, wait to be notified, acquire it again; False when that took longer than\n"
     "`timeout` seconds. AssertionError unless this thread holds the lock."},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_FASTCALL | METH_KEYWORDS,
     "notify($self, /, n=1)\n--\n\n"
     "Wake the n that have waited longest; more, when more than 64 wait. AssertionError unless\n"
     "this thread holds the lock."},
    {"_waiting", (PyCFunction)condition_waiting, METH_NOARGS, "How many wait to be notified."},
    {"_create", (PyCFunction)condition_create, METH_NOARGS, "Make a new shared condition."},
    {"_share", (PyCFunction)condition_share, METH_NOARGS,
     "(fd, offset, size) for another process."},
    {"_attach", (PyCFunction)condition_attach, METH_O, "Become the one at (fd, offset, size)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef condition_getset[] = {
    {"_lock", (getter)condition_get_lock, (setter)condition_set_lock, "The lock.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, "What processes wait for, and notify each other of, under a lock."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, condition_dealloc},
    {Py_tp_traverse, condition_traverse},
    {Py_tp_clear, condition_clear},
    {Py_tp_methods, condition_methods},
    {Py_tp_getset, condition_getset},
    {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "fastmp._core.Condition",
    .basicsize = sizeof(ConditionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = condition_slots,
};

int
fmp_add_condition(PyObject *module)
{
    PyTypeObject *guard = fmp_guard_type(module);
    PyTypeObject *type = guard != NULL ? fmp_add_type(module, &condition_spec, guard) : NULL;
    Py_XDECREF(guard);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
