/* child.h - _core.Child: what a child needs, made before the fork, and its first and last steps.
 *
 * An object is filled by the parent, for all the children to come, and read by each child in its own
 * copy: what it holds is what the child is going to need, and what the child puts something else in the
 * place of, so that nothing is freed. `is_taken` says that this process is such a child, and is the one
 * field that is written there. Nothing is shared; a kill ends the process that it is about.
 *
 *   py_child.c        the type
 *   py_child_steps.c  the steps
 */
#ifndef FMP_OBJECTS_CHILD_H
#define FMP_OBJECTS_CHILD_H

#include <Python.h>
#include <stdbool.h>

#include "module.h"

/* Names that the steps look up, as strings that are there. */
#define FMP_CHILD_NAMES(X)                                                                         \
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

enum fmp_child_name {
#define X(text) NAME_##text,
    FMP_CHILD_NAMES(X)
#undef X
        N_NAMES
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
} FmpChild;

bool fmp_child_check(const struct fmp_state *state, PyObject *object);

/* Runs `process`: its exit code, or NULL with an exception. `sentinel` is the descriptor that tells of the
 * parent's end, `known` what fastmp._child.prepare() has said of the process. */
PyObject *fmp_child_bootstrap(FmpChild *c, PyObject *process, PyObject *sentinel, PyObject *known);

/* Touches what the steps are going to touch, in a process that will be a child, and changes nothing. The
 * process's run(), or NULL with an exception. */
PyObject *fmp_child_rehearse(const FmpChild *c, PyObject *process);

/* Runs `process` in a forked child, and exits. */
_Noreturn void fmp_child_run(PyObject *child, PyObject *process, int sentinel, PyObject *known);

#endif
