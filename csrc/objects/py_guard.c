/* py_guard.c - _core.Guard: the `with` statement of fastmp.synchronize's classes.
 *
 * The wrapper classes hold a native lock in `_semlock`, as the stdlib's do, or any lock in `_lock`
 * (Condition). Its bound methods are kept here: acquire and release as plain attributes, __enter__
 * and __exit__, which the interpreter looks up on the type, behind a descriptor that gives the
 * bound one. So `with lock:` makes no object and calls the lock's own C function. Owns those
 * references, set by _bind(); nothing shared.
 */
#include "objects/guard.h"

#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

#include "base/hot.h"
#include "module.h"

/* --- __enter__ and __exit__, as they stand in the type ------------------------------------------ */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *owner; /* _core.Guard */
    PyTypeObject *met;   /* the type of guard that was here last, most likely the next one's too */
    Py_ssize_t offset;   /* of the bound method in struct fmp_guard */
    const char *name;
    const char *doc;
} MethodObject;

/* Has the type ours as a base in the sense of layout? Remembers one that has. */
static FMP_RARE bool
meet(MethodObject *self, PyTypeObject *type)
{
    const PyTypeObject *base = type;
    while (base != NULL && base != self->owner) {
        base = base->tp_base;
    }
#ifndef Py_GIL_DISABLED
    if (base != NULL) {
        Py_XSETREF(self->met, (PyTypeObject *)Py_NewRef((PyObject *)type));
    }
#endif
    return base != NULL;
}

/* Is it a struct fmp_guard? */
static inline bool
is_guard(MethodObject *self, PyObject *object)
{
    return Py_TYPE(object) == self->met || meet(self, Py_TYPE(object));
}

static FMP_RARE PyObject *
refuse(const MethodObject *self, PyObject *object)
{
    return PyErr_Format(PyExc_AttributeError, "the lock of this %s has no %s()",
                        Py_TYPE(object)->tp_name, self->name);
}

static PyObject *
method_get(MethodObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (object != NULL && is_guard(self, object)) {
        PyObject *bound = *(PyObject **)((char *)object + self->offset);
        return bound != NULL ? Py_NewRef(bound) : refuse(self, object);
    }
    if (object == NULL || object == Py_None) {
        return Py_NewRef((PyObject *)self);
    }
    return PyErr_Format(PyExc_TypeError, "%s() needs a %s, not a %s", self->name,
                        self->owner->tp_name, Py_TYPE(object)->tp_name);
}

/* type(lock).__enter__(lock), as contextlib.ExitStack does it */
static PyObject *
method_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    MethodObject *self = (MethodObject *)callable;
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    if (n < 1) {
        return PyErr_Format(PyExc_TypeError, "%s() needs an argument", self->name);
    }
    PyObject *bound = method_get(self, args[0], NULL);
    if (bound == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(bound, args + 1, (size_t)(n - 1), kwnames);
    Py_DECREF(bound);
    return result;
}

static PyObject *
method_get_name(MethodObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(self->name);
}

static PyObject *
method_get_doc(MethodObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(self->doc);
}

/* No tp_clear: the circles of types and method are broken in the types' dictionaries and bases. */
static int
method_traverse(MethodObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    Py_VISIT(self->met);
    return 0;
}

static void
method_dealloc(MethodObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->met);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(MethodObject, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef method_getset[] = {
    {"__name__", (getter)method_get_name, NULL, NULL, NULL},
    {"__doc__", (getter)method_get_doc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_traverse, method_traverse},
    {Py_tp_descr_get, method_get},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, method_members},
    {Py_tp_getset, method_getset},
    {0, NULL},
};

static PyType_Spec method_spec = {
    .name = "fastmp._core.GuardMethod",
    .basicsize = sizeof(MethodObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = method_slots,
};

static int
add_method(PyTypeObject *guard, PyTypeObject *type, Py_ssize_t offset, const char *name,
           const char *doc)
{
    MethodObject *method = (MethodObject *)type->tp_alloc(type, 0);
    if (method == NULL) {
        return -1;
    }
    method->vectorcall = method_vectorcall;
    method->owner = (PyTypeObject *)Py_NewRef((PyObject *)guard);
    method->offset = offset;
    method->name = name;
    method->doc = doc;
    int rc = PyObject_SetAttrString((PyObject *)guard, name, (PyObject *)method);
    Py_DECREF(method);
    return rc;
}

/* --- the base class ------------------------------------------------------------------------------ */

/* 0, or -1; without `required` a missing attribute is none. */
static int
take_attribute(PyObject *lock, const char *name, bool required, PyObject **to)
{
    PyObject *found = PyObject_GetAttrString(lock, name);
    if (found == NULL) {
        if (required || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    Py_XSETREF(*to, found);
    return 0;
}

/* Calls a METH_FASTCALL function, whose own business the number of arguments is. Before 3.14 `with`
 * calls __enter__ by the general way, where a builtin's call costs as much as taking a lock. */
static PyObject *
call_plainly(PyObject *function, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) != 0) {
        return PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments",
                            ((PyCFunctionObject *)function)->m_ml->ml_name);
    }
    _PyCFunctionFast call = (_PyCFunctionFast)(void (*)(void))PyCFunction_GET_FUNCTION(function);
    return call(PyCFunction_GET_SELF(function), args, PyVectorcall_NARGS(nargsf));
}

static void
let_call_plainly(PyObject *function)
{
    if (function != NULL && PyCFunction_CheckExact(function)
        && PyCFunction_GET_FLAGS(function) == METH_FASTCALL) {
        ((PyCFunctionObject *)function)->vectorcall = call_plainly;
    }
}

int
fmp_guard_bind(struct fmp_guard *self, PyObject *lock)
{
    if (take_attribute(lock, "acquire", true, &self->acquire) < 0
        || take_attribute(lock, "release", true, &self->release) < 0
        || take_attribute(lock, "__enter__", false, &self->enter) < 0
        || take_attribute(lock, "__exit__", false, &self->leave) < 0) {
        return -1;
    }
    let_call_plainly(self->enter);
    return 0;
}

static PyObject *
guard_bind(struct fmp_guard *self, PyObject *lock)
{
    return fmp_guard_bind(self, lock) == 0 ? Py_NewRef(Py_None) : NULL;
}

int
fmp_guard_traverse(struct fmp_guard *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->acquire);
    Py_VISIT(self->release);
    Py_VISIT(self->enter);
    Py_VISIT(self->leave);
    return 0;
}

int
fmp_guard_clear(struct fmp_guard *self)
{
    Py_CLEAR(self->acquire);
    Py_CLEAR(self->release);
    Py_CLEAR(self->enter);
    Py_CLEAR(self->leave);
    return 0;
}

static void
guard_dealloc(struct fmp_guard *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)fmp_guard_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef guard_methods[] = {
    {"_bind", (PyCFunction)guard_bind, METH_O,
     "Let acquire(), release() and `with` be those of this lock."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef guard_members[] = {
    {"acquire", T_OBJECT_EX, offsetof(struct fmp_guard, acquire), 0, NULL},
    {"release", T_OBJECT_EX, offsetof(struct fmp_guard, release), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot guard_slots[] = {
    {Py_tp_doc, "Base of the lock classes: `with` in C."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_traverse, fmp_guard_traverse},
    {Py_tp_clear, fmp_guard_clear},
    {Py_tp_methods, guard_methods},
    {Py_tp_members, guard_members},
    {0, NULL},
};

static PyType_Spec guard_spec = {
    .name = "fastmp._core.Guard",
    .basicsize = sizeof(struct fmp_guard),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = guard_slots,
};

PyTypeObject *
fmp_guard_type(PyObject *module)
{
    return (PyTypeObject *)PyObject_GetAttrString(module, "Guard");
}

int
fmp_add_guard(PyObject *module)
{
    PyTypeObject *guard = fmp_add_type(module, &guard_spec, NULL);
    PyTypeObject *method = (PyTypeObject *)PyType_FromModuleAndSpec(module, &method_spec, NULL);
    int rc = -1;
    if (guard != NULL && method != NULL) {
        rc = add_method(guard, method, offsetof(struct fmp_guard, enter), "__enter__", "Acquire.");
        if (rc == 0) {
            rc = add_method(guard, method, offsetof(struct fmp_guard, leave), "__exit__",
                            "Release.");
        }
    }
    Py_XDECREF(guard);
    Py_XDECREF(method);
    return rc;
}
