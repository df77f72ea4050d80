/* child.h - what a forked child does in the place of the code that forked it; py_child.c. */
#ifndef FMP_OBJECTS_CHILD_H
#define FMP_OBJECTS_CHILD_H

#include <Python.h>
#include <stdbool.h>

#include "module.h"

bool fmp_child_check(const struct fmp_state *state, PyObject *object);

/* Runs `process` and exits. `child` is a _core.Child, `known` what fastmp._child.prepare() has said of
 * the process, `sentinel` the descriptor that tells of the parent's end. */
_Noreturn void fmp_child_run(PyObject *child, PyObject *process, int sentinel, PyObject *known);

#endif
