/* py_event.c - _core.Event: the native base of multiprocessing's Event.
 *
 * The shared part is one struct fmp_event_shm in a slot. Process-local: how many threads are inside.
 * A child of a fork has none of them; a count that is too high there costs it a slot at most.
 */
#include <Python.h>
#include <stdbool.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/slots.h"
#include "sync/event.h"

typedef struct {
    PyObject_HEAD
    struct fmp_slot slot;
    struct fmp_event_shm *shm; /* in the slot; NULL until _create() or _attach() */
    struct fmp_spin spin;
    int inside; /* threads in wait() */
} EventObject;

static bool
is_ready(EventObject *self)
{
    if (self->shm == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
        return false;
    }
    return true;
}

static PyObject *
event_is_set(EventObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? PyBool_FromLong(fmp_event_is_set(self->shm)) : NULL;
}

static PyObject *
event_set(EventObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    if (!is_ready(self)) {
        return NULL;
    }
    fmp_event_set(self->shm);
    Py_RETURN_NONE;
}

static PyObject *
event_clear(EventObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    if (!is_ready(self)) {
        return NULL;
    }
    fmp_event_clear(self->shm);
    Py_RETURN_NONE;
}

struct waiting {
    struct fmp_event_shm *event;
    uint32_t arrived;
};

static int
try_wait(void *arg, struct fmp_wait *w)
{
    struct waiting *a = arg;
    return fmp_event_try(a->event, a->arrived, w);
}

static PyObject *
event_wait(EventObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    int64_t deadline;
    if (!is_ready(self) || fmp_args("wait", args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0
        || fmp_deadline(NULL, timeout, &deadline) < 0) {
        return NULL;
    }
    struct waiting a = {.event = self->shm, .arrived = fmp_event_arrive(self->shm)};
    struct fmp_waiter waiter = {
        .try_once = try_wait, .arg = &a, .spin = &self->spin, .deadline = deadline};
    self->inside++;
    int rc = fmp_wait_for(&waiter);
    self->inside--;
    switch (rc) {
    case FMP_OK:
        Py_RETURN_TRUE;
    case FMP_TIMEOUT:
        Py_RETURN_FALSE;
    default:
        return fmp_raise(rc, "wait for an event");
    }
}

/* --- making, passing on, ending ---------------------------------------------------------------- */

static void
use_slot(EventObject *self, struct fmp_slot slot)
{
    fmp_slot_replace(&self->slot, &slot, self->inside > 0);
    self->shm = fmp_slot_at(&self->slot);
}

static PyObject *
event_create(EventObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    int rc = fmp_slot_alloc(sizeof(struct fmp_event_shm), &slot);
    if (rc != FMP_OK) {
        return fmp_raise(rc, "create an event");
    }
    use_slot(self, slot);
    Py_RETURN_NONE;
}

static PyObject *
event_share(EventObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return is_ready(self) ? fmp_slot_as_tuple(&self->slot) : NULL;
}

static PyObject *
event_attach(EventObject *self, PyObject *where)
{
    FMP_CRITICAL(self);
    struct fmp_slot slot;
    if (fmp_slot_from_tuple(where, sizeof(struct fmp_event_shm), &slot) < 0) {
        return NULL;
    }
    use_slot(self, slot);
    Py_RETURN_NONE;
}

static void
event_dealloc(EventObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef event_methods[] = {
    {"is_set", (PyCFunction)event_is_set, METH_NOARGS,
     "is_set($self, /)\n--\n\nWhether the flag is set."},
    {"set", (PyCFunction)event_set, METH_NOARGS,
     "set($self, /)\n--\n\nSet the flag and release everybody who waits."},
    {"clear", (PyCFunction)event_clear, METH_NOARGS, "clear($self, /)\n--\n\nClear the flag."},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until the flag is set; False when it was not within `timeout` seconds."},
    {"_create", (PyCFunction)event_create, METH_NOARGS, "Make a new shared event."},
    {"_share", (PyCFunction)event_share, METH_NOARGS, "(fd, offset, size) for another process."},
    {"_attach", (PyCFunction)event_attach, METH_O, "Become the event at (fd, offset, size)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, "A flag that processes share and wait for."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_methods, event_methods},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "fastmp._core.Event",
    .basicsize = sizeof(EventObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = event_slots,
};

int
fmp_add_event(PyObject *module)
{
    return fmp_publish_type(module, &event_spec, NULL);
}
