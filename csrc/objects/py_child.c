/* py_child.c - the type _core.Child; see child.h. Owns the names; the fields are its maker's. */
#include <Python.h>

#include <stddef.h>
#include <structmember.h>

#include "objects/child.h"

static const char *const texts[N_NAMES] = {
#define X(text) #text,
    FMP_CHILD_NAMES(X)
#undef X
};

bool
fmp_child_check(const struct fmp_state *state, PyObject *object)
{
    return PyObject_TypeCheck(object, state->child);
}

static PyObject *
child_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    FmpChild *self = (FmpChild *)type->tp_alloc(type, 0);
    for (int i = 0; self != NULL && i < N_NAMES; i++) {
        self->name[i] = PyUnicode_InternFromString(texts[i]);
        if (self->name[i] == NULL) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

#define OBJECTS(X)                                                                                 \
    X(steps)                                                                                       \
    X(process)                                                                                     \
    X(threading)                                                                                   \
    X(atexit)                                                                                      \
    X(os)                                                                                          \
    X(sys)                                                                                         \
    X(default_context)                                                                             \
    X(shutdown)                                                                                    \
    X(leave)                                                                                       \
    X(exit_function)                                                                               \
    X(exit_handler)                                                                                \
    X(old_stdin)                                                                                   \
    X(close_stdin)                                                                                 \
    X(replaced)                                                                                    \
    X(after_forkers)                                                                               \
    X(counter)                                                                                     \
    X(children)                                                                                    \
    X(stdin)

static int
child_traverse(PyObject *self, visitproc visit, void *arg)
{
    FmpChild *c = (FmpChild *)self;
    Py_VISIT(Py_TYPE(self));
#define X(field) Py_VISIT(c->field);
    OBJECTS(X)
#undef X
    return 0;
}

static int
child_clear(PyObject *self)
{
    FmpChild *c = (FmpChild *)self;
#define X(field) Py_CLEAR(c->field);
    OBJECTS(X)
#undef X
    return 0;
}

static void
child_dealloc(PyObject *self)
{
    FmpChild *c = (FmpChild *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)child_clear(self);
    for (int i = 0; i < N_NAMES; i++) {
        Py_CLEAR(c->name[i]);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- the type ---------------------------------------------------------------------------------- */

static PyObject *
child_bootstrap(PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
    if (n_args != 3) {
        PyErr_SetString(PyExc_TypeError, "bootstrap(process, sentinel, known)");
        return NULL;
    }
    return fmp_child_bootstrap((FmpChild *)self, args[0], args[1], args[2]);
}

static PyObject *
child_rehearse(PyObject *self, PyObject *process)
{
    return fmp_child_rehearse((const FmpChild *)self, process);
}

static PyMethodDef child_methods[] = {
    {"bootstrap", (PyCFunction)(void (*)(void))child_bootstrap, METH_FASTCALL,
     "bootstrap($self, process, sentinel, known, /)\n--\n\n"
     "Run the process object; its exit code. `known` is what prepare() has said of it."},
    {"rehearse", child_rehearse, METH_O,
     "rehearse($self, process, /)\n--\n\n"
     "Touch what bootstrap() will, in the process that is to run another; its run()."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef child_members[] = {
    {"is_taken", T_BOOL, offsetof(FmpChild, is_taken), READONLY, "This process is the child."},
    {"runs_atexit", T_BOOL, offsetof(FmpChild, runs_atexit), 0, NULL},
    {"calls_exit_function", T_BOOL, offsetof(FmpChild, calls_exit_function), 0, NULL},
#define X(field) {#field, T_OBJECT, offsetof(FmpChild, field), 0, NULL},
    OBJECTS(X)
#undef X
        {NULL, 0, 0, 0, NULL},
};

static PyType_Slot child_slots[] = {
    {Py_tp_doc, "What a child needs, made before the fork, and its first and last steps."},
    {Py_tp_new, child_new},
    {Py_tp_dealloc, child_dealloc},
    {Py_tp_traverse, child_traverse},
    {Py_tp_clear, child_clear},
    {Py_tp_methods, child_methods},
    {Py_tp_members, child_members},
    {0, NULL},
};

static PyType_Spec child_spec = {
    .name = "fastmp._core.Child",
    .basicsize = sizeof(FmpChild),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = child_slots,
};

int
fmp_add_child(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    state->child = fmp_add_type(module, &child_spec, NULL);
    return state->child != NULL ? 0 : -1;
}
