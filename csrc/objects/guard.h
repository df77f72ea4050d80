/* guard.h - the common base of Lock, RLock, Semaphore and Condition: what `with` calls. */
#ifndef FMP_OBJECTS_GUARD_H
#define FMP_OBJECTS_GUARD_H

#include <Python.h>

/* Bound methods of the lock inside, set by _bind(); NULL before that. */
struct fmp_guard {
    PyObject_HEAD
    PyObject *acquire;
    PyObject *release;
    PyObject *enter;
    PyObject *leave;
};

/* Takes them from the lock. 0, or -1 with an exception. */
int fmp_guard_bind(struct fmp_guard *self, PyObject *lock);

int fmp_guard_traverse(struct fmp_guard *self, visitproc visit, void *arg);
int fmp_guard_clear(struct fmp_guard *self);

/* The type _core.Guard of this module. A new reference, or NULL with an exception. */
PyTypeObject *fmp_guard_type(PyObject *module);

#endif
