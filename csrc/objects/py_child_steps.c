/* py_child_steps.c - the first and last steps of a child, around its process object's run().
 *
 * They are those of BaseProcess._bootstrap() and of popen_fork.Popen._launch(), in their order, where
 * these are known step by step (fastmp/_child.py). A page that the child writes to is copied first; a
 * reference count is a write, and so is what the interpreter counts in the code that it runs. In Python
 * these steps were two fifths of the life of a child that does nothing. Here modules are looked at
 * through borrowed references, which writes nothing, and what is rare is left to functions in
 * fastmp/_child.py, its `steps`. Owns nothing.
 */
#include <Python.h>

#include <stdbool.h>

#include "bridge/errors.h"
#include "objects/child.h"
#include "platform/process.h"

/* --- modules and steps in Python --------------------------------------------------------------- */

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
look_for(const FmpChild *c, PyObject *dict, enum fmp_child_name name)
{
    return look(dict, c->name[name]);
}

/* A module's function, whatever it is now. A new reference. */
static PyObject *
call_now(const FmpChild *c, PyObject *dict, enum fmp_child_name name)
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
step(const FmpChild *c, const char *name, PyObject *arguments)
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

/* Whether its maker has filled it; TypeError. */
static bool
is_filled(const FmpChild *c)
{
    PyObject *const dicts[] = {c->steps, c->process, c->threading, c->atexit, c->os, c->sys};
    PyObject *const objects[] = {c->default_context, c->exit_handler, c->close_stdin,
                                 c->counter,         c->children,     c->stdin};
    bool filled = true;
    for (size_t i = 0; i < sizeof(dicts) / sizeof(dicts[0]); i++) {
        filled = filled && dicts[i] != NULL && PyDict_Check(dicts[i]);
    }
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        filled = filled && objects[i] != NULL;
    }
    if (!filled) {
        PyErr_SetString(PyExc_TypeError, "a Child that fastmp._child has not filled");
    }
    return filled;
}

/* --- what there is to do ----------------------------------------------------------------------- */

static bool
is_nothing(PyObject *object)
{
    return object == NULL || object == Py_None;
}

/* multiprocessing.util's dict; NULL when it is not loaded. Borrowed. */
static PyObject *
util_of(const FmpChild *c)
{
    PyObject *util = look_for(c, c->steps, NAME__util);
    return !is_nothing(util) && PyModule_Check(util) ? PyModule_GetDict(util) : NULL;
}

static bool
has_logger(const FmpChild *c, PyObject *util)
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
util_has_nothing(const FmpChild *c)
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
has_nothing_at_exit(const FmpChild *c)
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
has_nothing_to_shut_down(const FmpChild *c)
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
put(const FmpChild *c, enum fmp_child_name name, PyObject *value)
{
    return PyDict_SetItem(c->process, c->name[name], value);
}

static int
become_current(const FmpChild *c, PyObject *process, PyObject *parent, PyObject *sentinel)
{
    if (PyObject_SetAttr(parent, c->name[NAME__sentinel], sentinel) < 0
        || put(c, NAME__process_counter, c->counter) < 0 || put(c, NAME__children, c->children) < 0
        || put(c, NAME__current_process, process) < 0) {
        return -1;
    }
    return put(c, NAME__parent_process, parent);
}

static int
close_stdin(const FmpChild *c)
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
set_native_id(const FmpChild *c)
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
begin_util(const FmpChild *c, PyObject *has_hook)
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
begin(const FmpChild *c, PyObject *process, PyObject *sentinel, PyObject *known)
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
flush_stream(const FmpChild *c, enum fmp_child_name name)
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
end(const FmpChild *c, PyObject *exitcode)
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
code_of_exception(const FmpChild *c, PyObject *process, bool has_run)
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

/* Up to 3.12 the exit function is called at the end of run(), whatever that ended with. 0, or -1 with
 * its exception or that of run(). */
static int
call_exit_function(const FmpChild *c)
{
    PyObject *error = fmp_take_exception();
    (void)done(step(c, "_exit_function", PyTuple_New(0)));
    return fmp_raise_again(error);
}

static PyObject *
be_the_process(FmpChild *c, PyObject *process, PyObject *sentinel, PyObject *known)
{
    c->is_taken = true;
    int rc = begin(c, process, sentinel, known);
    bool has_run = rc == 0;
    if (has_run) {
        rc = done(PyObject_CallMethodNoArgs(process, c->name[NAME_run]));
        if (c->calls_exit_function) {
            rc = call_exit_function(c);
        }
    }
    PyObject *code = rc == 0 ? PyLong_FromLong(0) : code_of_exception(c, process, has_run);
    PyObject *error = fmp_take_exception();
    (void)end(c, code != NULL ? code : Py_None);
    if (fmp_raise_again(error) < 0) {
        Py_CLEAR(code);
    }
    return code;
}

PyObject *
fmp_child_bootstrap(FmpChild *c, PyObject *process, PyObject *sentinel, PyObject *known)
{
    if (!is_filled(c)) {
        return NULL;
    }
    if (known == Py_None) { /* another _bootstrap() than the one that is known */
        return step(c, "_call_bootstrap", PyTuple_Pack(2, process, sentinel));
    }
    if (!PyTuple_Check(known) || PyTuple_GET_SIZE(known) != 3) {
        PyErr_SetString(PyExc_TypeError, "expected what prepare() has said");
        return NULL;
    }
    return be_the_process(c, process, sentinel, known);
}

/* --- rehearsal --------------------------------------------------------------------------------- */

/* Writes what is there. */
static int
put_again(const FmpChild *c, PyObject *dict, enum fmp_child_name name)
{
    PyObject *value = Py_XNewRef(look_for(c, dict, name));
    int rc = value != NULL ? PyDict_SetItem(dict, c->name[name], value) : 0;
    Py_XDECREF(value);
    return rc;
}

PyObject *
fmp_child_rehearse(const FmpChild *c, PyObject *process)
{
    if (!is_filled(c)) {
        return NULL;
    }
    static const enum fmp_child_name names[] = {NAME__process_counter, NAME__children,
                                                NAME__current_process, NAME__parent_process};
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

/* --- a forked child ---------------------------------------------------------------------------- */

/* The parent's exit functions are not the child's. */
static int
clear_exit_functions(const FmpChild *c)
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
leave(const FmpChild *c, int code)
{
    PyObject *function = look_for(c, c->os, NAME__exit);
    if (function != NULL && function != c->leave) { /* somebody wants to know */
        PyObject *number = PyLong_FromLong(code);
        Py_XDECREF(number != NULL ? PyObject_CallOneArg(function, number) : NULL);
    }
    fmp_process_leave(code);
}

_Noreturn void
fmp_child_run(PyObject *child, PyObject *process, int sentinel, PyObject *known)
{
    FmpChild *c = (FmpChild *)child;
    PyObject *fd = PyLong_FromLong(sentinel), *exitcode = NULL;
    int code = 1; /* whatever happens, the child must not go on in its parent's code */
    if (fd != NULL && is_filled(c) && (!c->runs_atexit || clear_exit_functions(c) == 0)) {
        exitcode = fmp_child_bootstrap(c, process, fd, known);
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
