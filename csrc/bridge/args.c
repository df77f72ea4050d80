/* args.c - argument sorting for fast calls; owns nothing. */
#include "bridge/args.h"

#include <limits.h>
#include <math.h>

#include "base/hot.h"
#include "platform/clock.h"

static int
find_name(PyObject *key, const char *const *names, int n_names)
{
    for (int i = 0; i < n_names; i++) {
        if (PyUnicode_CompareWithASCIIString(key, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int
fmp_args(const char *function, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames,
         const char *const *names, int n_names, int required, int positional, PyObject **out)
{
    if (n_args > positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional argument%s (%zd given)",
                     function, positional, positional == 1 ? "" : "s", n_args);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n_args; i++) {
        out[i] = args[i];
    }
    Py_ssize_t n_keywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t k = 0; k < n_keywords; k++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, k);
        int i = find_name(key, names, n_names);
        if (i < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function,
                         key);
            return -1;
        }
        if (i < n_args) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", function,
                         names[i]);
            return -1;
        }
        out[i] = args[n_args + k];
    }
    for (int i = 0; i < required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", function,
                         names[i]);
            return -1;
        }
    }
    return 0;
}

FMP_RARE int
fmp_too_many_args(const char *function, Py_ssize_t n_args)
{
    PyErr_Format(PyExc_TypeError, "%s() takes no arguments (%zd given)", function, n_args);
    return -1;
}

int
fmp_int(PyObject *object, int *value)
{
    int overflow;
    long number = PyLong_AsLongAndOverflow(object, &overflow);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow != 0 || number > INT_MAX || number < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return -1;
    }
    *value = (int)number;
    return 0;
}

int
fmp_deadline(PyObject *block, PyObject *timeout, int64_t *deadline)
{
    if (block != NULL) {
        int yes = PyObject_IsTrue(block);
        if (yes < 0) {
            return -1;
        }
        if (!yes) {
            *deadline = 0;
            return 0;
        }
    }
    if (timeout == NULL || timeout == Py_None) {
        *deadline = FMP_NEVER;
        return 0;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -1;
    }
    if (seconds > 9e9) {
        *deadline = FMP_NEVER; /* centuries */
    }
    else {
        *deadline = seconds > 0 ? fmp_now() + (int64_t)(seconds * 1e9) : 0;
    }
    return 0;
}

int
fmp_acquire_args(PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames, int64_t *deadline)
{
    static const char *const names[] = {"block", "timeout"};
    PyObject *given[2] = {NULL, NULL};
    if (fmp_args("acquire", args, n_args, kwnames, names, 2, 0, 2, given) < 0) {
        return -1;
    }
    return fmp_deadline(given[0], given[1], deadline);
}
