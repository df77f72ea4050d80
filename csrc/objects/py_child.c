/* py_child.c - _core.Child: the first and last steps of a child, around its process object's run().
 *
 * They are those of BaseProcess._bootstrap() and of popen_fork.Popen._launch(), in their order, where
 * these are known step by step (fastmp/_child.py). A page that the child writes to is copied first; a
 * reference count is a write, and so is what the interpreter counts in the code that it runs. In Python
 * these steps were two fifths of the life of a child that does nothing. Here modules are looked at
 * through borrowed references, which writes nothing, and what is rare is left to functions in
 * fastmp/_child.py, its `steps`.
 *
 * An object is filled before the fork by the parent, for all the children to come, and read by each
 * child in its own copy: what it holds is what the child is going to need, and what the child puts
 * something else in the place of, so that nothing is freed. `is_taken` says that this process is such a
 * child, and is the one thing that is written here. Nothing is shared; a kill ends the process that it
 * is about.
 */
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

#include "bridge/errors.h"
#include "module.h"
#include "objects/child.h"
#include "platform/process.h"

/* --- names ------------------------------------------------------------------------------------- */

#define NAMES(X)                                                                                   \
    X(_actual_context)                                                                             \
    X(_current_process)                                                                            \
    X(_parent_process)                                                                             \
    X(_process_counter)                                                                            \
    X(_children)                                                                                   \
    X(_sentinel)                                                                                   \
    X(_native_id)                                                                                  \
    X(_main_thread)                                                                                \
    X(_HAVE_THREAD_NATIVE_ID)                                                                      \
    X(_shutdown)                                                                                   \
    X(_active)                                                                                     \
    X(_limbo)                                                                                      \
    X(_threading_atexits)                                                                          \
    X(_util)                                                                                       \
    X(_logger)                                                                                     \
    X(_finalizer_registry)                                                                         \
    X(_exit_function)                                                                              \
    X(_exit)                                                                                       \
    X(_clear)                                                                                      \
    X(_ncallbacks)                                                                                 \
    X(_run_exitfuncs)                                                                              \
    X(_after_fork)                                                                                 \
    X(close)                                                                                       \
    X(code)                                                                                        \
    X(flush)                                                                                       \
    X(register)                                                                                    \
    X(run)                                                                                         \
    X(stdin)                                                                                       \
    X(stdout)                                                                                      \
    X(stderr)

enum name {
#define X(text) NAME_##text,
    NAMES(X)
#undef X
        N_NAMES
};

static const char *const texts[N_NAMES] = {
#define X(text) #text,
    NAMES(X)
#undef X
};

typedef struct {
    PyObject_HEAD
    PyObject *name[N_NAMES];
    bool is_taken;
    bool runs_atexit;         /* exit functions are called in forked children: since 3.13 */
    bool calls_exit_function; /* ... and before that, multiprocessing's own */
    /* Modules, as their dicts: */
    PyObject *steps; /* fastmp._child */
    PyObject *process, *threading, *atexit, *os, *sys;
    PyObject *default_context; /* multiprocessing.context's */
    /* What has not been put in the place of: */
    PyObject *shutdown;      /* threading's */
    PyObject *leave;         /* os._exit */
    PyObject *exit_function; /* multiprocessing.util's, if it is loaded; or None */
    PyObject *exit_handler;  /* what is called for it */
    PyObject *old_stdin;
    PyObject *close_stdin;   /* closes it */
    PyObject *replaced;      /* what the child has other objects for, kept */
    PyObject *after_forkers; /* multiprocessing.util's, a dict; or None */
    /* What the child has instead: */
    PyObject *counter, *children, *stdin;
} ChildObject;

/* Borrowed; NULL, without an exception, when there is none. */
static PyObject *
look(PyObject *dict, PyObject *key)
{
    PyObject *value =
        dict != NULL && PyDict_Check(dict) ? PyDict_GetItemWithError(dict, key) : NULL;
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

static PyObject *
look_for(const ChildObject *c, PyObject *dict, enum name name)
{
    return look(dict, c->name[name]);
}

/* A module's function, whatever it is now. A new reference. */
static PyObject *
call_now(const ChildObject *c, PyObject *dict, enum name name)
{
    PyObject *function = look_for(c, dict, name);
    if (function == NULL) {
        PyErr_SetObject(PyExc_AttributeError, c->name[name]);
        return NULL;
    }
    return PyObject_CallNoArgs(function);
}

/* 0, or -1 with an exception; drops the result. */
static int
done(PyObject *result)
{
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* One of the steps in Python; `arguments` is a tuple, which is stolen. A new reference. */
static PyObject *
step(const ChildObject *c, const char *name, PyObject *arguments)
{
    PyObject *function = arguments != NULL ? PyDict_GetItemString(c->steps, name) : NULL;
    PyObject *result = NULL;
    if (function != NULL) {
        result = PyObject_CallObject(function, arguments);
    }
    else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_AttributeError, name);
    }
    Py_XDECREF(arguments);
    return result;
}

/* --- what there is to do ----------------------------------------------------------------------- */

static bool
is_nothing(PyObject *object)
{
    return object == NULL || object == Py_None;
}

/* multiprocessing.util's dict; NULL when it is not loaded. Borrowed. */
static PyObject *
util_of(const ChildObject *c)
{
    PyObject *util = look_for(c, c->steps, NAME__util);
    return !is_nothing(util) && PyModule_Check(util) ? PyModule_GetDict(util) : NULL;
}

static bool
has_logger(const ChildObject *c, PyObject *util)
{
    return util != NULL && !is_nothing(look_for(c, util, NAME__logger));
}

static bool
is_empty_dict(PyObject *object)
{
    return object != NULL && PyDict_Check(object) && PyDict_GET_SIZE(object) == 0;
}

/* Would the exit function of multiprocessing.util find anything? */
static bool
util_has_nothing(const ChildObject *c)
{
    PyObject *util = util_of(c);
    PyObject *children = look_for(c, c->process, NAME__children);
    if (children == NULL || !PyAnySet_Check(children) || PySet_GET_SIZE(children) > 0) {
        return false;
    }
    return util == NULL
        || (!has_logger(c, util) && is_empty_dict(look_for(c, util, NAME__finalizer_registry))
            && look_for(c, util, NAME__exit_function) == c->exit_function);
}

/* Is there no exit function but that one, and nothing for it to do? */
static bool
has_nothing_at_exit(const ChildObject *c)
{
    if (!util_has_nothing(c)) {
        return false;
    }
    PyObject *number = call_now(c, c->atexit, NAME__ncallbacks);
    bool one = number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == 1;
    Py_XDECREF(number);
    PyErr_Clear();
    return one;
}

/* Is no thread to be waited for, and nothing to come after that could tell? */
static bool
has_nothing_to_shut_down(const ChildObject *c)
{
    PyObject *active = look_for(c, c->threading, NAME__active);
    PyObject *atexits = look_for(c, c->threading, NAME__threading_atexits);
    return look_for(c, c->threading, NAME__shutdown) == c->shutdown && active != NULL
        && PyDict_Check(active) && PyDict_GET_SIZE(active) == 1
        && is_empty_dict(look_for(c, c->threading, NAME__limbo)) && atexits != NULL
        && PyList_Check(atexits) && PyList_GET_SIZE(atexits) == 0 && has_nothing_at_exit(c);
}

/* --- before run() ------------------------------------------------------------------------------ */

static int
put(const ChildObject *c, enum name name, PyObject *value)
{
    return PyDict_SetItem(c->process, c->name[name], value);
}

static int
become_current(const ChildObject *c, PyObject *process, PyObject *parent, PyObject *sentinel)
{
    if (PyObject_SetAttr(parent, c->name[NAME__sentinel], sentinel) < 0
        || put(c, NAME__process_counter, c->counter) < 0 || put(c, NAME__children, c->children) < 0
        || put(c, NAME__current_process, process) < 0) {
        return -1;
    }
    return put(c, NAME__parent_process, parent);
}

static int
close_stdin(const ChildObject *c)
{
    PyObject *file = Py_XNewRef(look_for(c, c->sys, NAME_stdin));
    if (is_nothing(file)) {
        Py_XDECREF(file);
        return 0;
    }
    int rc = PyDict_SetItem(c->sys, c->name[NAME_stdin], c->stdin);
    if (rc == 0) {
        rc = done(file == c->old_stdin ? PyObject_CallNoArgs(c->close_stdin)
                                       : PyObject_CallMethodNoArgs(file, c->name[NAME_close]));
    }
    if (rc < 0
        && (PyErr_ExceptionMatches(PyExc_OSError) || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        rc = 0;
    }
    Py_DECREF(file);
    return rc;
}

static int
set_native_id(const ChildObject *c)
{
    PyObject *has = look_for(c, c->threading, NAME__HAVE_THREAD_NATIVE_ID);
    PyObject *thread = look_for(c, c->threading, NAME__main_thread);
    if (has != Py_True || thread == NULL) {
        return 0;
    }
    int rc = -1;
#ifdef PY_HAVE_THREAD_NATIVE_ID
    PyObject *number = PyLong_FromUnsignedLong(PyThread_get_thread_native_id());
    if (number != NULL) {
        rc = PyObject_SetAttr(thread, c->name[NAME__native_id], number);
        Py_DECREF(number);
    }
#else
    rc = 0;
#endif
    return rc;
}

/* What multiprocessing.util has to do after a fork. `has_hook`: some of it was done by that. */
static int
begin_util(const ChildObject *c, PyObject *has_hook)
{
    PyObject *util = util_of(c);
    bool nothing = util == NULL
                || (!has_logger(c, util)
                    && (has_hook == Py_True
                        || (is_empty_dict(look_for(c, util, NAME__finalizer_registry))
                            && is_empty_dict(c->after_forkers))));
    return nothing ? 0 : done(step(c, "_begin_util", PyTuple_Pack(1, has_hook)));
}

/* The steps up to run(). 0, or -1 with an exception. */
static int
begin(const ChildObject *c, PyObject *process, PyObject *sentinel, PyObject *known)
{
    PyObject *has_hook = PyTuple_GET_ITEM(known, 0);
    PyObject *context = PyTuple_GET_ITEM(known, 1);
    if (context != Py_None
        && PyObject_SetAttr(c->default_context, c->name[NAME__actual_context], context) < 0) {
        return -1;
    }
    if (become_current(c, process, PyTuple_GET_ITEM(known, 2), sentinel) < 0 || close_stdin(c) < 0
        || set_native_id(c) < 0) {
        return -1;
    }
    if (has_hook == Py_True
        && done(PyObject_CallMethodNoArgs(process, c->name[NAME__after_fork])) < 0) {
        return -1;
    }
    return begin_util(c, has_hook);
}

/* --- after run() ------------------------------------------------------------------------------- */

static int
flush_stream(const ChildObject *c, enum name name)
{
    PyObject *stream = Py_XNewRef(look_for(c, c->sys, name));
    int rc = -1;
    if (stream != NULL) {
        rc = done(PyObject_CallMethodNoArgs(stream, c->name[NAME_flush]));
        Py_DECREF(stream);
    }
    if (rc < 0
        && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_AttributeError)
            || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        rc = 0;
    }
    return rc;
}

/* The steps after run(). 0, or -1 with an exception. */
static int
end(const ChildObject *c, PyObject *exitcode)
{
    if (!has_nothing_to_shut_down(c) && done(call_now(c, c->threading, NAME__shutdown)) < 0) {
        return -1;
    }
    if (has_logger(c, util_of(c)) && done(step(c, "_log_exit", PyTuple_Pack(1, exitcode))) < 0) {
        return -1;
    }
    return flush_stream(c, NAME_stdout) < 0 ? -1 : flush_stream(c, NAME_stderr);
}

/* --- the exit code ----------------------------------------------------------------------------- */

/* Of what run() raised; NULL with an exception. A new reference. */
static PyObject *
code_of_exception(const ChildObject *c, PyObject *process, bool has_run)
{
    PyObject *error = fmp_take_exception();
    PyObject *code = NULL;
    if (PyErr_GivenExceptionMatches(error, PyExc_SystemExit)) {
        code = PyObject_GetAttr(error, c->name[NAME_code]);
        if (code != NULL && code == Py_None) {
            Py_SETREF(code, PyLong_FromLong(0));
        }
        else if (code != NULL && !PyLong_Check(code)) {
            Py_CLEAR(code);
        }
        PyErr_Clear();
    }
    if (code == NULL) {
        code = step(c, "_report", PyTuple_Pack(3, process, error, has_run ? Py_True : Py_False));
    }
    Py_DECREF(error);
    return code;
}

/* Up to 3.12 the exit function is called at the end of run(), whatever that ended with. */
static int
call_exit_function(const ChildObject *c, int rc)
{
    PyObject *error = rc < 0 ? fmp_take_exception() : NULL;
    int called = done(step(c, "_exit_function", PyTuple_New(0)));
    if (error != NULL && called == 0) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(error);
    return called < 0 ? -1 : rc;
}

static PyObject *
be_the_process(ChildObject *c, PyObject *process, PyObject *sentinel, PyObject *known)
{
    c->is_taken = true;
    int rc = begin(c, process, sentinel, known);
    bool has_run = rc == 0;
    if (has_run) {
        rc = done(PyObject_CallMethodNoArgs(process, c->name[NAME_run]));
        if (c->calls_exit_function) {
            rc = call_exit_function(c, rc);
        }
    }
    PyObject *code = rc == 0 ? PyLong_FromLong(0) : code_of_exception(c, process, has_run);
    PyObject *error = code == NULL ? fmp_take_exception() : NULL;
    if (end(c, code != NULL ? code : Py_None) < 0) {
        Py_CLEAR(code);
    }
    else if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(error);
    return code;
}

/* The process's exit code; NULL with an exception. `known` is None for another _bootstrap(). */
static PyObject *
bootstrap(ChildObject *c, PyObject *process, PyObject *sentinel, PyObject *known)
{
    if (known == Py_None) {
        return step(c, "_call_bootstrap", PyTuple_Pack(2, process, sentinel));
    }
    if (!PyTuple_Check(known) || PyTuple_GET_SIZE(known) != 3 || c->steps == NULL) {
        PyErr_SetString(PyExc_TypeError, "expected what prepare() has said");
        return NULL;
    }
    return be_the_process(c, process, sentinel, known);
}

/* --- rehearsal --------------------------------------------------------------------------------- */

/* Writes what is there. */
static int
put_again(const ChildObject *c, PyObject *dict, enum name name)
{
    PyObject *value = Py_XNewRef(look_for(c, dict, name));
    int rc = value != NULL ? PyDict_SetItem(dict, c->name[name], value) : 0;
    Py_XDECREF(value);
    return rc;
}

/* Touches what the steps are going to touch, in a process that will be a child, and changes nothing. */
static PyObject *
child_rehearse(PyObject *self, PyObject *process)
{
    const ChildObject *c = (const ChildObject *)self;
    static const enum name names[] = {NAME__process_counter, NAME__children, NAME__current_process,
                                      NAME__parent_process};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (put_again(c, c->process, names[i]) < 0) {
            return NULL;
        }
    }
    (void)has_nothing_to_shut_down(c);
    if (put_again(c, c->sys, NAME_stdin) < 0 || set_native_id(c) < 0
        || flush_stream(c, NAME_stdout) < 0 || flush_stream(c, NAME_stderr) < 0) {
        return NULL;
    }
    return PyObject_GetAttr(process, c->name[NAME_run]);
}

/* --- methods ----------------------------------------------------------------------------------- */

static PyObject *
child_bootstrap(PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
    if (n_args != 3) {
        PyErr_SetString(PyExc_TypeError, "bootstrap(process, sentinel, known)");
        return NULL;
    }
    return bootstrap((ChildObject *)self, args[0], args[1], args[2]);
}

/* --- a forked child ---------------------------------------------------------------------------- */

/* The parent's exit functions are not the child's. */
static int
clear_exit_functions(const ChildObject *c)
{
    PyObject *util = util_of(c);
    bool is_its_own = util == NULL || look_for(c, util, NAME__exit_function) == c->exit_function;
    PyObject *handler =
        is_its_own ? Py_NewRef(c->exit_handler) : step(c, "_chosen_handler", PyTuple_New(0));
    PyObject *enter = look_for(c, c->atexit, NAME_register);
    int rc = handler != NULL && enter != NULL ? done(call_now(c, c->atexit, NAME__clear)) : -1;
    if (rc == 0) {
        rc = done(PyObject_CallOneArg(enter, handler));
    }
    Py_XDECREF(handler);
    return rc;
}

static _Noreturn void
leave(const ChildObject *c, int code)
{
    PyObject *function = look_for(c, c->os, NAME__exit);
    if (function != NULL && function != c->leave) { /* somebody wants to know */
        PyObject *number = PyLong_FromLong(code);
        Py_XDECREF(number != NULL ? PyObject_CallOneArg(function, number) : NULL);
    }
    fmp_process_leave(code);
}

bool
fmp_child_check(const struct fmp_state *state, PyObject *object)
{
    return PyObject_TypeCheck(object, state->child);
}

_Noreturn void
fmp_child_run(PyObject *child, PyObject *process, int sentinel, PyObject *known)
{
    ChildObject *c = (ChildObject *)child;
    PyObject *fd = PyLong_FromLong(sentinel), *exitcode = NULL;
    int code = 1; /* whatever happens, the child must not go on in its parent's code */
    if (fd != NULL && (!c->runs_atexit || clear_exit_functions(c) == 0)) {
        exitcode = bootstrap(c, process, fd, known);
    }
    if (exitcode != NULL && PyLong_Check(exitcode)) {
        code = (int)PyLong_AsUnsignedLongMask(exitcode);
    }
    PyErr_Clear();
    if (c->runs_atexit && !has_nothing_at_exit(c)) {
        (void)done(call_now(c, c->atexit, NAME__run_exitfuncs));
    }
    leave(c, code);
}

/* --- the type ---------------------------------------------------------------------------------- */

static PyObject *
child_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ChildObject *self = (ChildObject *)type->tp_alloc(type, 0);
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
    ChildObject *c = (ChildObject *)self;
    Py_VISIT(Py_TYPE(self));
#define X(field) Py_VISIT(c->field);
    OBJECTS(X)
#undef X
    return 0;
}

static int
child_clear(PyObject *self)
{
    ChildObject *c = (ChildObject *)self;
#define X(field) Py_CLEAR(c->field);
    OBJECTS(X)
#undef X
    return 0;
}

static void
child_dealloc(PyObject *self)
{
    ChildObject *c = (ChildObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)child_clear(self);
    for (int i = 0; i < N_NAMES; i++) {
        Py_CLEAR(c->name[i]);
    }
    type->tp_free(self);
    Py_DECREF(type);
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
    {"is_taken", T_BOOL, offsetof(ChildObject, is_taken), READONLY, "This process is the child."},
    {"runs_atexit", T_BOOL, offsetof(ChildObject, runs_atexit), 0, NULL},
    {"calls_exit_function", T_BOOL, offsetof(ChildObject, calls_exit_function), 0, NULL},
#define X(field) {#field, T_OBJECT, offsetof(ChildObject, field), 0, NULL},
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
    .basicsize = sizeof(ChildObject),
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
