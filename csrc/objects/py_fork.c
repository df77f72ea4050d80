/* py_fork.c - _core.Fork: os.fork() for a process that has one thread; see fastmp/_fork.py.
 *
 * In C, so that there is no frame, code or function of ours that the child has to copy pages for on its
 * way back. Owns nothing of what it refers to. The hook's code is put back in the parent and in the
 * child, whatever os.fork() has raised; a kill takes it along.
 */
#include <Python.h>

#include <stdbool.h>

#include "bridge/errors.h"
#include "module.h"

typedef struct {
    PyObject_HEAD
    PyObject *name_fork, *name_code;
    PyObject *active, *limbo; /* names in threading's dict */
    /* Given by its maker: */
    PyObject *os, *threading; /* dicts of the modules */
    PyObject *is_alone;       /* called in the parent */
    PyObject *hook;           /* of threading, for the child */
    PyObject *nothing;        /* code that does nothing */
} ForkObject;

static PyObject *
os_fork(const ForkObject *f)
{
    PyObject *function = PyDict_GetItemWithError(f->os, f->name_fork); /* borrowed */
    if (function == NULL) {
        PyErr_SetString(PyExc_AttributeError, "os.fork");
        return NULL;
    }
    return PyObject_CallNoArgs(function);
}

/* The code comes back, and an exception that was set. 0, or -1 with an exception. */
static int
put_back(const ForkObject *f, PyObject *code)
{
    PyObject *error = fmp_take_exception();
    int rc = PyObject_SetAttr(f->hook, f->name_code, code);
    if (error != NULL) {
        PyErr_Clear();
        rc = fmp_raise_again(error);
    }
    return rc;
}

static bool
has_others(const ForkObject *f)
{
    PyObject *active = PyDict_GetItemWithError(f->threading, f->active);
    PyObject *limbo = PyDict_GetItemWithError(f->threading, f->limbo);
    PyErr_Clear();
    return active == NULL || PyObject_Size(active) != 1 || limbo == NULL
        || PyObject_Size(limbo) != 0;
}

static PyObject *
fork_alone(const ForkObject *f)
{
    PyObject *code = PyObject_GetAttr(f->hook, f->name_code);
    if (code == NULL) {
        return NULL;
    }
    PyObject *pid = NULL;
    if (PyObject_SetAttr(f->hook, f->name_code, f->nothing) == 0) {
        pid = os_fork(f);
        if (put_back(f, code) < 0) {
            Py_CLEAR(pid);
        }
    }
    Py_DECREF(code);
    if (pid != NULL && PyLong_Check(pid) && PyLong_AsLong(pid) == 0 && has_others(f)) {
        /* A signal's handler has started a thread just before the fork. */
        PyObject *hooked = PyObject_CallNoArgs(f->hook);
        if (hooked == NULL) {
            Py_CLEAR(pid);
        }
        Py_XDECREF(hooked);
    }
    return pid;
}

static PyObject *
fork_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    const ForkObject *f = (const ForkObject *)self;
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)
        || f->is_alone == NULL || f->os == NULL || f->threading == NULL) {
        PyErr_SetString(PyExc_TypeError, "fork()");
        return NULL;
    }
    PyObject *answer = PyObject_CallNoArgs(f->is_alone);
    int alone = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (alone < 0) {
        return NULL;
    }
    return alone ? fork_alone(f) : os_fork(f);
}

/* --- the type ---------------------------------------------------------------------------------- */

static PyObject *
fork_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"os", "threading", "is_alone", "hook", "nothing", NULL};
    PyObject *os, *threading, *is_alone, *hook, *nothing;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!OOO", (char **)names, &PyDict_Type, &os,
                                     &PyDict_Type, &threading, &is_alone, &hook, &nothing)) {
        return NULL;
    }
    ForkObject *f = (ForkObject *)type->tp_alloc(type, 0);
    if (f == NULL) {
        return NULL;
    }
    f->os = Py_NewRef(os);
    f->threading = Py_NewRef(threading);
    f->is_alone = Py_NewRef(is_alone);
    f->hook = Py_NewRef(hook);
    f->nothing = Py_NewRef(nothing);
    f->name_fork = PyUnicode_InternFromString("fork");
    f->name_code = PyUnicode_InternFromString("__code__");
    f->active = PyUnicode_InternFromString("_active");
    f->limbo = PyUnicode_InternFromString("_limbo");
    if (f->name_fork == NULL || f->name_code == NULL || f->active == NULL || f->limbo == NULL) {
        Py_DECREF(f);
        return NULL;
    }
    return (PyObject *)f;
}

static int
fork_traverse(PyObject *self, visitproc visit, void *arg)
{
    ForkObject *f = (ForkObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(f->os);
    Py_VISIT(f->threading);
    Py_VISIT(f->is_alone);
    Py_VISIT(f->hook);
    Py_VISIT(f->nothing);
    return 0;
}

static int
fork_clear(PyObject *self)
{
    ForkObject *f = (ForkObject *)self;
    Py_CLEAR(f->os);
    Py_CLEAR(f->threading);
    Py_CLEAR(f->is_alone);
    Py_CLEAR(f->hook);
    Py_CLEAR(f->nothing);
    return 0;
}

static void
fork_dealloc(PyObject *self)
{
    ForkObject *f = (ForkObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)fork_clear(self);
    Py_XDECREF(f->name_fork);
    Py_XDECREF(f->name_code);
    Py_XDECREF(f->active);
    Py_XDECREF(f->limbo);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot fork_slots[] = {
    {Py_tp_doc, "os.fork(), with the code of a hook replaced while is_alone() says so."},
    {Py_tp_new, fork_new},
    {Py_tp_call, fork_call},
    {Py_tp_dealloc, fork_dealloc},
    {Py_tp_traverse, fork_traverse},
    {Py_tp_clear, fork_clear},
    {0, NULL},
};

static PyType_Spec fork_spec = {
    .name = "fastmp._core.Fork",
    .basicsize = sizeof(ForkObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = fork_slots,
};

int
fmp_add_fork(PyObject *module)
{
    return fmp_publish_type(module, &fork_spec, NULL);
}
