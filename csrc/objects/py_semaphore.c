/* py_semaphore.c - _core.Semaphore: what SemLock is for Semaphore and BoundedSemaphore.
 *
 * The shared part is one struct fmp_semaphore_shm in a slot. Process-local and reset after fork: the
 * place there that says which units this process has by `with`; and, as in SemLock, how many units
 * it has taken and which thread did last, for repr and _is_mine() only.
 */
#include <Python.h>
#include <errno.h>
#include <stdbool.h>

#include "base/hot.h"
#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/slots.h"
#include "platform/clock.h"
#include "platform/process.h"
#include "sync/semaphore.h"

typedef struct {
    PyObject_HEAD
    struct fmp_slot slot;
    struct fmp_semaphore_shm *shm; /* in the slot */
    struct fmp_spin spin;
    unsigned long owner;
    uint32_t generation; /* of forks, of all that follows */
    int count;
    bool claimed;   /* a place was asked for ... */
    int place;      /* ... and this is it, or -1 */
    int64_t looked; /* when an acquire() that does not wait last looked for a dead holder */
} SemaphoreObject;

/* In the child of a fork: what the parent has is not ours. */
static inline void
refresh(SemaphoreObject *self)
{
    if (self->generation != fmp_fork_generation()) {
        self->generation = fmp_fork_generation();
        self->count = 0;
        self->claimed = false;
    }
}

/* --- acquire ------------------------------------------------------------------------------------ */

struct acquiring {
    SemaphoreObject *semaphore;
    int place; /* -1: not scoped */
    uint32_t dead;
};

static int
try_acquire(void *arg, struct fmp_wait *w)
{
    struct acquiring *a = arg;
    struct fmp_semaphore_shm *shm = a->semaphore->shm;
    return a->place >= 0 ? fmp_semaphore_try_scoped(shm, a->place, w) : fmp_semaphore_try(shm, w);
}

static int
try_recover(void *arg)
{
    struct acquiring *a = arg;
    (void)fmp_semaphore_recover(a->semaphore->shm, &a->dead);
    return FMP_AGAIN;
}

/* For those who poll: the dead are looked for, but not more often than at a tick. */
static int
recover_without_waiting(struct acquiring *a)
{
    int64_t now = fmp_now();
    if (now - a->semaphore->looked < FMP_TICK_NS) {
        return FMP_TIMEOUT;
    }
    struct fmp_wait w;
    a->semaphore->looked = now;
    (void)try_recover(a);
    return try_acquire(a, &w) == FMP_OK ? FMP_OK : FMP_TIMEOUT;
}

static int
acquire_slowly(struct acquiring *a, int64_t deadline)
{
    if (deadline == 0) {
        return recover_without_waiting(a);
    }
    struct fmp_waiter waiter = {.try_once = try_acquire,
                                .arg = a,
                                .tick = try_recover,
                                .spin = &a->semaphore->spin,
                                .deadline = deadline};
    return fmp_wait_for(&waiter);
}

static FMP_RARE int
refuse_release(SemaphoreObject *self)
{
    self->count++;
    PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    return -1;
}

static inline int
release(SemaphoreObject *self, bool scoped)
{
    refresh(self);
    self->count--;
    int rc = scoped && self->claimed && self->place >= 0
               ? fmp_semaphore_release_scoped(self->shm, self->place)
               : fmp_semaphore_release(self->shm);
    return rc == FMP_OK ? 0 : refuse_release(self);
}

/* A unit is held; some that a dead process held have been given back. */
static PyObject *
warn_of_the_dead(SemaphoreObject *self, const struct acquiring *a)
{
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "process %u died holding a semaphore; what it guards may be half-written",
                         a->dead)
        == 0) {
        Py_RETURN_TRUE;
    }
    struct fmp_deferred d = {NULL, 0};
    (void)fmp_defer(&d);
    if (release(self, a->place >= 0) < 0) {
        (void)fmp_defer(&d);
    }
    (void)fmp_raise_deferred(&d);
    return NULL;
}

static inline void
now_taken(SemaphoreObject *self)
{
    refresh(self);
    self->owner = fmp_thread_self();
    self->count++;
}

static PyObject *
acquire(struct acquiring *a, int64_t deadline)
{
    SemaphoreObject *self = a->semaphore;
    struct fmp_wait w;
    int rc = try_acquire(a, &w);
    if (rc != FMP_OK) {
        rc = acquire_slowly(a, deadline);
    }
    if (rc == FMP_TIMEOUT) {
        Py_RETURN_FALSE;
    }
    if (rc != FMP_OK) {
        return fmp_raise(rc, "acquire a semaphore");
    }
    now_taken(self);
    if (a->dead != 0) {
        return warn_of_the_dead(self, a);
    }
    Py_RETURN_TRUE;
}

static FMP_APART PyObject *
acquire_busy(SemaphoreObject *self, int place)
{
    struct acquiring a = {.semaphore = self, .place = place};
    return acquire(&a, FMP_NEVER);
}

static FMP_APART PyObject *
acquire_with(SemaphoreObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    int64_t deadline;
    if (fmp_acquire_args(args, n_args, kwnames, &deadline) < 0) {
        return NULL;
    }
    struct acquiring a = {.semaphore = self, .place = -1};
    return acquire(&a, deadline);
}

static PyObject *
semaphore_acquire(SemaphoreObject *self, PyObject *const *args, Py_ssize_t n_args,
                  PyObject *kwnames)
{
    FMP_CRITICAL(self);
    if (n_args > 0 || kwnames != NULL) {
        return acquire_with(self, args, n_args, kwnames);
    }
    if (!fmp_semaphore_take(self->shm)) {
        return acquire_busy(self, -1);
    }
    now_taken(self);
    Py_RETURN_TRUE;
}

/* The first time in this process. */
static FMP_APART PyObject *
enter_with_claim(SemaphoreObject *self)
{
    struct acquiring a = {.semaphore = self};
    a.place = self->place = fmp_semaphore_claim(self->shm, &a.dead);
    self->claimed = true;
    return acquire(&a, FMP_NEVER);
}

static PyObject *
semaphore_enter(SemaphoreObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t n_args)
{
    FMP_CRITICAL(self);
    if (fmp_no_args("__enter__", n_args) < 0) {
        return NULL;
    }
    refresh(self);
    if (!self->claimed) {
        return enter_with_claim(self);
    }
    if (self->place < 0 || !fmp_semaphore_take_scoped(self->shm, self->place)) {
        return acquire_busy(self, self->place);
    }
    now_taken(self);
    Py_RETURN_TRUE;
}

static PyObject *
semaphore_release(SemaphoreObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t n_args)
{
    FMP_CRITICAL(self);
    if (fmp_no_args("release", n_args) < 0 || release(self, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
semaphore_exit(SemaphoreObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    FMP_CRITICAL(self);
    if (release(self, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- looking at it --------------------------------------------------------------------------- */

static int
count_of(const SemaphoreObject *self)
{
    return self->generation == fmp_fork_generation() ? self->count : 0;
}

static uint32_t
value_of(const SemaphoreObject *self)
{
    return fmp_semaphore_value(self->shm);
}

static PyObject *
semaphore_get_value(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(value_of(self));
}

static PyObject *
semaphore_is_zero(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(value_of(self) == 0);
}

static PyObject *
semaphore_is_mine(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return PyBool_FromLong(count_of(self) > 0 && self->owner == fmp_thread_self());
}

static PyObject *
semaphore_count(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return PyLong_FromLong(count_of(self));
}

static PyObject *
semaphore_after_fork(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    self->count = 0;
    Py_RETURN_NONE;
}

static PyObject *
semaphore_get_kind(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(1); /* SEMAPHORE */
}

static PyObject *
semaphore_get_maxvalue(SemaphoreObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->shm->maximum);
}

static PyObject *
semaphore_get_name(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE; /* shared memory has no names here */
}

/* --- making, passing on, ending ---------------------------------------------------------------- */

static int
parse_values(PyObject *args, PyObject *kwargs, uint32_t *value, uint32_t *maximum)
{
    static const char *const names[] = {"value", "maxvalue", NULL};
    int v = 0, m = FMP_SEM_VALUE_MAX; /* ints, as in SemLock: more is an OverflowError */
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ii:Semaphore", (char **)names, &v, &m)) {
        return -1;
    }
    if (v < 0 || v > m) {
        errno = EINVAL;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *value = (uint32_t)v;
    *maximum = (uint32_t)m;
    return 0;
}

static PyObject *
semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    uint32_t value, maximum;
    if (parse_values(args, kwargs, &value, &maximum) < 0) {
        return NULL;
    }
    SemaphoreObject *self = (SemaphoreObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    int rc = fmp_slot_alloc(sizeof(struct fmp_semaphore_shm), &self->slot);
    if (rc != FMP_OK) {
        Py_DECREF(self);
        return fmp_raise(rc, "create a semaphore");
    }
    self->shm = fmp_slot_at(&self->slot);
    atomic_store(&self->shm->word, value);
    self->shm->maximum = maximum;
    return (PyObject *)self;
}

static PyObject *
semaphore_share(SemaphoreObject *self, PyObject *Py_UNUSED(ignored))
{
    return fmp_slot_as_tuple(&self->slot);
}

static void
give_place_back(SemaphoreObject *self)
{
    if (self->claimed && self->place >= 0 && self->generation == fmp_fork_generation()) {
        fmp_semaphore_disclaim(self->shm, self->place);
    }
    self->claimed = false;
}

static PyObject *
semaphore_attach(SemaphoreObject *self, PyObject *where)
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    if (fmp_slot_from_tuple(where, sizeof(struct fmp_semaphore_shm), &slot) < 0) {
        return NULL;
    }
    give_place_back(self);
    fmp_slot_free(&self->slot);
    self->slot = slot;
    self->shm = fmp_slot_at(&slot);
    Py_RETURN_NONE;
}

static void
semaphore_dealloc(SemaphoreObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    give_place_back(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, block=True, timeout=None)\n--\n\n"
     "Take one unit; False when there was none within `timeout` seconds."},
    {"release", (PyCFunction)(void (*)(void))semaphore_release, METH_FASTCALL,
     "release($self, /)\n--\n\nGive one unit. ValueError beyond the maximum."},
    {"__enter__", (PyCFunction)(void (*)(void))semaphore_enter, METH_FASTCALL, "Take one unit."},
    {"__exit__", (PyCFunction)(void (*)(void))semaphore_exit, METH_FASTCALL, "Give it back."},
    {"get_value", (PyCFunction)semaphore_get_value, METH_NOARGS,
     "get_value($self, /)\n--\n\nUnits left."},
    {"locked", (PyCFunction)semaphore_is_zero, METH_NOARGS,
     "locked($self, /)\n--\n\nWhether acquire() would have to wait."},
    {"_get_value", (PyCFunction)semaphore_get_value, METH_NOARGS, "Units left."},
    {"_is_zero", (PyCFunction)semaphore_is_zero, METH_NOARGS, "Is no unit left?"},
    {"_is_mine", (PyCFunction)semaphore_is_mine, METH_NOARGS, "Did this thread take one last?"},
    {"_count", (PyCFunction)semaphore_count, METH_NOARGS, "Taken less given, by this process."},
    {"_after_fork", (PyCFunction)semaphore_after_fork, METH_NOARGS, "A child has taken nothing."},
    {"_share", (PyCFunction)semaphore_share, METH_NOARGS,
     "(fd, offset, size) for another process."},
    {"_attach", (PyCFunction)semaphore_attach, METH_O, "Become the one at (fd, offset, size)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"kind", semaphore_get_kind, NULL, "1: not recursive.", NULL},
    {"maxvalue", (getter)semaphore_get_maxvalue, NULL, "The most it can count to.", NULL},
    {"name", semaphore_get_name, NULL, "None: shared memory has no names here.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, "A counting semaphore that processes share."},
    {Py_tp_new, semaphore_new},
    {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_getset, semaphore_getset},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "fastmp._core.Semaphore",
    .basicsize = sizeof(SemaphoreObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = semaphore_slots,
};

int
fmp_add_semaphore(PyObject *module)
{
    return PyModule_AddIntConstant(module, "SEM_VALUE_MAX", FMP_SEM_VALUE_MAX) == 0
             ? fmp_publish_type(module, &semaphore_spec, NULL)
             : -1;
}
