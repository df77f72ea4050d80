/* errors.h - the one function that turns a result code into an exception. */
#ifndef FMP_BRIDGE_ERRORS_H
#define FMP_BRIDGE_ERRORS_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* Raises what `rc` stands for; `what` says what was being done ("create a Queue"). -ENOMEM and
 * -ENOSPC of shared memory become MemoryError and OSError; FMP_CORRUPT fastmp.CorruptionError;
 * FMP_PYERR leaves the exception that is set. Always returns NULL. */
PyObject *fmp_raise(int rc, const char *what);

/* The exception that is set, as an object with its traceback; none is set any more. NULL: none was. */
PyObject *fmp_take_exception(void);

/* Sets an exception again that was taken, as it was: PyErr_SetObject() would replace its context by what
 * is being handled here. One that has come since stays instead. Steals `error`, which may be NULL. -1
 * when an exception is set now, or 0. */
int fmp_raise_again(PyObject *error);

/* An exception that has to wait until something is put in order: zeroed at first. */
struct fmp_deferred {
    PyObject *exception;
    int64_t since; /* when the first one came */
};

/* Takes the exception that is set; one that was deferred before becomes its __context__. True while
 * there is still time to put things in order: a second exception, later than a moment after the
 * first, says that the user wants out. */
bool fmp_defer(struct fmp_deferred *d);

/* Raises what was deferred: -1, or 0 when there is nothing. */
int fmp_raise_deferred(struct fmp_deferred *d);

#endif
