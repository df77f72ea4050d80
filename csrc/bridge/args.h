/* args.h - arguments of METH_FASTCALL | METH_KEYWORDS methods, and timeouts. */
#ifndef FMP_BRIDGE_ARGS_H
#define FMP_BRIDGE_ARGS_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* Sorts positional and keyword arguments into out[0 .. n_names), in the order of `names`; what was
 * not given stays as it was. The first `required` must be given, those from `positional` on are
 * keyword only. Raises TypeError as a Python function would. Returns 0, or -1. */
int fmp_args(const char *function, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames,
             const char *const *names, int n_names, int required, int positional, PyObject **out);

/* -1 with TypeError. */
int fmp_too_many_args(const char *function, Py_ssize_t n_args);

/* For METH_FASTCALL methods without arguments: the interpreter calls those faster than METH_NOARGS
 * ones. 0, or -1 with TypeError. */
static inline int
fmp_no_args(const char *function, Py_ssize_t n_args)
{
    return n_args == 0 ? 0 : fmp_too_many_args(function, n_args);
}

/* The value of an int (or of a subclass's object) when it is so small that no call is needed; false
 * says only that one is. */
static inline bool
fmp_small_int(PyObject *number, Py_ssize_t *value)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        *value = PyUnstable_Long_CompactValue((PyLongObject *)number);
        return true;
    }
#else
    (void)number;
    (void)value;
#endif
    return false;
}

/* An int of C. 0, or -1 with an exception: OverflowError for what does not fit. */
int fmp_int(PyObject *object, int *value);

/* (block, timeout) of acquire(), put() and get() to a deadline: 0 for not blocking, FMP_NEVER for a
 * timeout of None. A timeout is in seconds, an int or float; below zero it counts as zero. `block`
 * or `timeout` may be NULL for true and None. Returns 0, or -1 with TypeError, OverflowError, or
 * ValueError for NaN. */
int fmp_deadline(PyObject *block, PyObject *timeout, int64_t *deadline);

/* The arguments of acquire(block=True, timeout=None), to a deadline. 0, or -1 as the two above. */
int fmp_acquire_args(PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames,
                     int64_t *deadline);

#endif
