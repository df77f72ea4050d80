/* memory_object.h - memory as a Python buffer: what received arrays lie in. */
#ifndef FMP_BRIDGE_MEMORY_OBJECT_H
#define FMP_BRIDGE_MEMORY_OBJECT_H

#include <Python.h>
#include <stdbool.h>

#include "platform/lease.h"

PyTypeObject *fmp_memory_type(PyObject *module);

/* An object that owns `data` (from malloc) and frees it; on failure `data` stays the caller's. */
PyObject *fmp_memory_own(PyTypeObject *type, void *data, size_t size);

/* An object that owns the lease and ends it; on failure it stays the caller's. */
PyObject *fmp_memory_leased(PyTypeObject *type, const struct fmp_lease *lease);

/* A part of another memory object's data, which it keeps alive. */
PyObject *fmp_memory_part(PyTypeObject *type, PyObject *whole, const void *data, size_t size,
                          bool readonly);

#endif
