/* py_lock.c - _core.Lock and _core.RLock: what multiprocessing's SemLock is for Lock and RLock.
 *
 * The shared part is one struct fmp_userlock_shm in a slot. Process-local, per object and reset
 * after fork, as in SemLock: which thread holds it and how often. Those fields are written by the
 * holder only. A kill leaves the word held by a dead process: a scoped hold is taken over by the
 * next waiter at its tick, a bare acquire() stays, as it may have been handed over on purpose.
 */
#include "objects/lock.h"

#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/lock_access.h"
#include "objects/slots.h"
#include "platform/clock.h"
#include "sync/userlock.h"

typedef struct fmp_lock_object LockObject;

/* --- acquire -------------------------------------------------------------------------------- */

struct acquiring {
    LockObject *lock;
    uint64_t tag;
    uint32_t dead;
};

static int
try_acquire(void *arg, struct fmp_wait *w)
{
    struct acquiring *a = arg;
    return fmp_userlock_try(a->lock->shm, a->tag, w);
}

static int
try_recover(void *arg)
{
    struct acquiring *a = arg;
    return fmp_userlock_recover(a->lock->shm, a->tag, &a->dead);
}

static inline void
now_held(LockObject *self, unsigned long thread, int count)
{
    self->owner = thread;
    self->count = count;
    self->generation = fmp_fork_generation();
    self->abandoned = false;
}

/* For those who poll: a dead holder is looked for, but not more often than at a tick. */
static int
recover_without_waiting(struct acquiring *a)
{
    int64_t now = fmp_now();
    if (now - a->lock->looked < FMP_TICK_NS) {
        return FMP_TIMEOUT;
    }
    a->lock->looked = now;
    int rc = try_recover(a);
    return rc == FMP_AGAIN ? FMP_TIMEOUT : rc;
}

/* For a lock that was found `held`. */
static int
acquire_slowly(struct acquiring *a, int64_t deadline, uint64_t held)
{
    if (deadline == 0) {
        return held & FMP_USERLOCK_SCOPED ? recover_without_waiting(a) : FMP_TIMEOUT;
    }
    struct fmp_waiter waiter = {.try_once = try_acquire,
                                .arg = a,
                                .tick = try_recover,
                                .spin = &a->lock->spin,
                                .deadline = deadline};
    return fmp_wait_for(&waiter);
}

static int
warn_of_the_dead(LockObject *self, uint32_t pid)
{
    self->abandoned = true;
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                            "process %u died holding a lock; what the lock guards may be "
                            "half-written",
                            pid);
}

/* acquire() when another holds it. */
static FMP_APART int
acquire_busy(LockObject *self, uint64_t tag, int64_t deadline, uint64_t held)
{
    struct acquiring a = {.lock = self, .tag = tag};
    int rc = acquire_slowly(&a, deadline, held);
    switch (rc) {
    case FMP_OK:
        now_held(self, fmp_thread_self(), 1);
        return 1;
    case FMP_OWNER_DIED:
        now_held(self, fmp_thread_self(), 1);
        if (warn_of_the_dead(self, a.dead) < 0) {
            self->count = 0;
            (void)fmp_userlock_release(self->shm);
            return -1;
        }
        return 1;
    case FMP_TIMEOUT:
        return 0;
    default:
        fmp_raise(rc, "acquire a lock");
        return -1;
    }
}

/* 1: held, 0: not within the deadline, -1: exception. */
static inline int
acquire(LockObject *self, int64_t deadline, bool scoped)
{
    FMP_CRITICAL(self);
    unsigned long thread = fmp_thread_self();
    if (self->recursive && fmp_lock_owned_by(self, thread)) {
        self->count++;
        return 1;
    }
    uint64_t held, tag = fmp_userlock_tag(scoped || self->robust);
    if (!fmp_userlock_take(self->shm, tag, &held)) {
        return acquire_busy(self, tag, deadline, held);
    }
    now_held(self, thread, 1);
    return 1;
}

static inline PyObject *
as_bool(int held)
{
    if (held > 0) {
        Py_RETURN_TRUE;
    }
    return held < 0 ? NULL : Py_NewRef(Py_False);
}

static FMP_APART PyObject *
acquire_with(LockObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    int64_t deadline;
    if (fmp_acquire_args(args, n_args, kwnames, &deadline) < 0) {
        return NULL;
    }
    return as_bool(acquire(self, deadline, false));
}

static PyObject *
lock_acquire(LockObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    if (n_args > 0 || kwnames != NULL) {
        return acquire_with(self, args, n_args, kwnames);
    }
    return as_bool(acquire(self, FMP_NEVER, false));
}

static PyObject *
lock_enter(LockObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t n_args)
{
    if (fmp_no_args("__enter__", n_args) < 0) {
        return NULL;
    }
    return as_bool(acquire(self, FMP_NEVER, true));
}

/* --- release -------------------------------------------------------------------------------- */

static FMP_RARE int
refuse(PyObject *exception, const char *message)
{
    PyErr_SetString(exception, message);
    return -1;
}

static inline int
release_wholly(LockObject *self)
{
    self->count = 0; /* first: once the word is free, another thread may write it */
    if (fmp_userlock_release(self->shm) != FMP_OK) {
        return refuse(PyExc_ValueError, "semaphore or lock released too many times");
    }
    return 0;
}

/* 0, or -1 with an exception. */
static inline int
release(LockObject *self)
{
    FMP_CRITICAL(self);
    if (self->recursive) {
        if (!fmp_lock_owned_by(self, fmp_thread_self())) {
            return refuse(PyExc_AssertionError,
                          "attempt to release recursive lock not owned by thread");
        }
        if (self->count > 1) {
            self->count--;
            return 0;
        }
    }
    return release_wholly(self);
}

static PyObject *
lock_exit(LockObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n_args))
{
    if (release(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
lock_release(LockObject *self, PyObject *const *args, Py_ssize_t n_args)
{
    return fmp_no_args("release", n_args) < 0 ? NULL : lock_exit(self, args, n_args);
}

int
fmp_lock_enter(struct fmp_lock_object *lock)
{
    return acquire(lock, FMP_NEVER, true) < 0 ? -1 : 0;
}

int
fmp_lock_leave(struct fmp_lock_object *lock)
{
    return release(lock);
}

/* --- for Condition ---------------------------------------------------------------------------- */

bool
fmp_lock_is_mine(PyObject *lock)
{
    FMP_CRITICAL(lock);
    /* A Lock may have been released, and acquired again, by others: the word knows. */
    LockObject *self = (LockObject *)lock;
    return fmp_lock_owned_by(self, fmp_thread_self())
        && fmp_userlock_held_as(self->shm, fmp_userlock_tag(true));
}

int
fmp_lock_put_down(PyObject *lock, struct fmp_lock_hold *hold)
{
    FMP_CRITICAL(lock);
    LockObject *self = (LockObject *)lock;
    hold->count = self->count;
    hold->scoped = (atomic_load(&self->shm->word) & FMP_USERLOCK_SCOPED) != 0;
    return release_wholly(self);
}

bool
fmp_lock_take_up(PyObject *lock, const struct fmp_lock_hold *hold, struct fmp_deferred *d)
{
    FMP_CRITICAL(lock);
    LockObject *self = (LockObject *)lock;
    struct acquiring a = {.lock = self, .tag = fmp_userlock_tag(hold->scoped)};
    uint64_t held;
    int rc = fmp_userlock_take(self->shm, a.tag, &held) ? FMP_OK : FMP_AGAIN;
    while (rc != FMP_OK && rc != FMP_OWNER_DIED) {
        rc = acquire_slowly(&a, FMP_NEVER, held);
        if (rc != FMP_OK && rc != FMP_OWNER_DIED) {
            fmp_raise(rc, "acquire a lock");
            if (!fmp_defer(d)) {
                return false;
            }
        }
    }
    now_held(self, fmp_thread_self(), hold->count);
    if (rc == FMP_OWNER_DIED && warn_of_the_dead(self, a.dead) < 0) {
        (void)fmp_defer(d);
    }
    return true;
}

/* --- looking at it --------------------------------------------------------------------------- */

static PyObject *
lock_locked(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(fmp_userlock_held(self->shm));
}

static PyObject *
lock_is_mine(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(fmp_lock_is_mine((PyObject *)self));
}

static PyObject *
lock_count(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return PyLong_FromLong(fmp_lock_count(self));
}

static PyObject *
lock_get_value(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(!fmp_userlock_held(self->shm));
}

static PyObject *
lock_after_fork(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    self->count = 0;
    Py_RETURN_NONE;
}

static PyObject *
lock_get_kind(LockObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->recursive ? 0 : 1); /* RECURSIVE_MUTEX, SEMAPHORE */
}

static PyObject *
lock_get_maxvalue(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(1);
}

static PyObject *
lock_get_name(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE; /* shared memory has no names here */
}

/* --- making, passing on, ending ---------------------------------------------------------------- */

static PyObject *
new_lock(PyTypeObject *type, bool recursive, bool robust)
{
    LockObject *self = (LockObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->recursive = recursive;
    self->robust = robust;
    int rc = fmp_slot_alloc(sizeof(struct fmp_userlock_shm), &self->slot);
    if (rc != FMP_OK) {
        Py_DECREF(self);
        return fmp_raise(rc, "create a lock");
    }
    self->shm = fmp_slot_at(&self->slot);
    self->shm->robust = robust;
    return (PyObject *)self;
}

static PyObject *
lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"robust", NULL};
    int robust = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:Lock", (char **)names, &robust)) {
        return NULL;
    }
    return new_lock(type, false, robust);
}

static PyObject *
rlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":RLock", (char **)names)) {
        return NULL;
    }
    return new_lock(type, true, true);
}

static PyObject *
lock_share(LockObject *self, PyObject *Py_UNUSED(ignored))
{
    return fmp_slot_as_tuple(&self->slot);
}

static PyObject *
lock_attach(LockObject *self, PyObject *args)
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    if (fmp_slot_from_tuple(args, sizeof(struct fmp_userlock_shm), &slot) < 0) {
        return NULL;
    }
    fmp_slot_free(&self->slot);
    self->slot = slot;
    self->shm = fmp_slot_at(&slot);
    self->robust = self->shm->robust;
    Py_RETURN_NONE;
}

static void
lock_dealloc(LockObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, block=True, timeout=None)\n--\n\n"
     "Acquire the lock; False when it was not free within `timeout` seconds."},
    {"release", (PyCFunction)(void (*)(void))lock_release, METH_FASTCALL,
     "release($self, /)\n--\n\nRelease the lock. ValueError when it is free."},
    {"__enter__", (PyCFunction)(void (*)(void))lock_enter, METH_FASTCALL,
     "__enter__($self, /)\n--\n\nAcquire; recovered by others if this process is killed."},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nRelease."},
    {"locked", (PyCFunction)lock_locked, METH_NOARGS,
     "locked($self, /)\n--\n\nWhether anybody holds it."},
    {"_is_mine", (PyCFunction)lock_is_mine, METH_NOARGS, "Held by this thread?"},
    {"_count", (PyCFunction)lock_count, METH_NOARGS, "How often this process holds it."},
    {"_is_zero", (PyCFunction)lock_locked, METH_NOARGS, "Is the value 0, so held by anybody?"},
    {"_get_value", (PyCFunction)lock_get_value, METH_NOARGS, "1 when free, 0 when held."},
    {"_after_fork", (PyCFunction)lock_after_fork, METH_NOARGS, "A child holds nothing."},
    {"_share", (PyCFunction)lock_share, METH_NOARGS, "(fd, offset, size) for another process."},
    {"_attach", (PyCFunction)lock_attach, METH_O, "Become the lock at (fd, offset, size)."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lock_getset[] = {
    {"kind", (getter)lock_get_kind, NULL, "0 for a recursive lock, 1 for another.", NULL},
    {"maxvalue", lock_get_maxvalue, NULL, "1.", NULL},
    {"name", lock_get_name, NULL, "None: shared memory has no names here.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef lock_members[] = {
    {"abandoned", T_BOOL, offsetof(LockObject, abandoned), READONLY,
     "The current hold was taken over from a process that died holding it."},
    {"_robust", T_BOOL, offsetof(LockObject, robust), READONLY,
     "A hold by acquire() is taken over from a dead process too."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, "A lock that processes share; released by anybody."},
    {Py_tp_new, lock_new},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_methods, lock_methods},
    {Py_tp_getset, lock_getset},
    {Py_tp_members, lock_members},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "fastmp._core.Lock",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = lock_slots,
};

static PyType_Slot rlock_slots[] = {
    {Py_tp_doc, "A lock that processes share; its owner may acquire it again."},
    {Py_tp_new, rlock_new},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_methods, lock_methods},
    {Py_tp_getset, lock_getset},
    {Py_tp_members, lock_members},
    {0, NULL},
};

static PyType_Spec rlock_spec = {
    .name = "fastmp._core.RLock",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rlock_slots,
};

int
fmp_add_lock(PyObject *module)
{
    PyTypeObject *lock = fmp_add_type(module, &lock_spec, NULL);
    PyTypeObject *rlock = lock != NULL ? fmp_add_type(module, &rlock_spec, NULL) : NULL;
    Py_XDECREF(lock);
    Py_XDECREF(rlock);
    return rlock != NULL ? 0 : -1;
}

bool
fmp_lock_check(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)lock_dealloc;
}
