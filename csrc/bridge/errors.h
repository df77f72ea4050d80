/* errors.h - the one function that turns a result code into an exception. */
#ifndef FMP_BRIDGE_ERRORS_H
#define FMP_BRIDGE_ERRORS_H

#include <Python.h>

/* Raises what `rc` stands for; `what` says what was being done ("create a Queue"). -ENOMEM and
 * -ENOSPC of shared memory become MemoryError and OSError; FMP_CORRUPT fastmp.CorruptionError;
 * FMP_PYERR leaves the exception that is set. Always returns NULL. */
PyObject *fmp_raise(int rc, const char *what);

#endif
