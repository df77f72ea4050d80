/* guard.h - what `with lock` and `with semaphore` need to know of the object inside the wrapper. */
#ifndef FMP_OBJECTS_GUARD_H
#define FMP_OBJECTS_GUARD_H

#include <Python.h>
#include <stdbool.h>

/* How the structs of _core.Lock, _core.RLock and _core.Semaphore begin. */
struct fmp_guarded {
    PyObject_HEAD
    PyObject *(*enter)(PyObject *self); /* __enter__() */
    PyObject *(*leave)(PyObject *self); /* __exit__() */
};

bool fmp_lock_check(PyObject *object);
bool fmp_semaphore_check(PyObject *object);

#endif
