/* py_guard.c - _core.Guard: the `with` statement of fastmp.synchronize's classes.
 *
 * The wrapper classes hold their native object in `_semlock`, as the stdlib's do, and its bound
 * acquire and release as attributes: the interpreter calls those fastest. `__enter__` and
 * `__exit__` are looked up on the type, so here they are, in C. Owns one reference, set by the
 * wrapper's __init__; nothing shared.
 */
#include "objects/guard.h"

#include <structmember.h>

#include "module.h"

typedef struct {
    PyObject_HEAD
    PyObject *semlock; /* begins with struct fmp_guarded, or NULL */
    PyObject *acquire; /* its bound methods, or NULL */
    PyObject *release;
} GuardObject;

static struct fmp_guarded *
guarded(GuardObject *self)
{
    if (self->semlock == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
    }
    return (struct fmp_guarded *)self->semlock;
}

static PyObject *
guard_enter(GuardObject *self, PyObject *Py_UNUSED(ignored))
{
    struct fmp_guarded *inner = guarded(self);
    return inner != NULL ? inner->enter((PyObject *)inner) : NULL;
}

static PyObject *
guard_exit(GuardObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n_args))
{
    struct fmp_guarded *inner = guarded(self);
    return inner != NULL ? inner->leave((PyObject *)inner) : NULL;
}

static PyObject *
guard_get_semlock(GuardObject *self, void *Py_UNUSED(closure))
{
    if (self->semlock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_semlock");
        return NULL;
    }
    return Py_NewRef(self->semlock);
}

static int
guard_set_semlock(GuardObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !(fmp_lock_check(value) || fmp_semaphore_check(value))) {
        PyErr_SetString(PyExc_TypeError, "_semlock must be a fastmp._core lock or semaphore");
        return -1;
    }
    Py_XSETREF(self->semlock, Py_NewRef(value));
    return 0;
}

static void
guard_dealloc(GuardObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_CLEAR(self->semlock);
    Py_CLEAR(self->acquire);
    Py_CLEAR(self->release);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef guard_methods[] = {
    {"__enter__", (PyCFunction)guard_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nAcquire."},
    {"__exit__", (PyCFunction)(void (*)(void))guard_exit, METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nRelease."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef guard_getset[] = {
    {"_semlock", (getter)guard_get_semlock, (setter)guard_set_semlock, "The native object.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef guard_members[] = {
    {"acquire", T_OBJECT_EX, offsetof(GuardObject, acquire), 0, NULL},
    {"release", T_OBJECT_EX, offsetof(GuardObject, release), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot guard_slots[] = {
    {Py_tp_doc, "Base of the lock classes: `with` in C."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_methods, guard_methods},
    {Py_tp_getset, guard_getset},
    {Py_tp_members, guard_members},
    {0, NULL},
};

static PyType_Spec guard_spec = {
    .name = "fastmp._core.Guard",
    .basicsize = sizeof(GuardObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = guard_slots,
};

int
fmp_add_guard(PyObject *module)
{
    PyTypeObject *type = fmp_add_type(module, &guard_spec, NULL);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
