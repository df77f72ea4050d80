/* critical.h - Pythons without a GIL: what stands in for it, and what older ones lack.
 *
 * The floors below know nothing of the GIL: their calls run with and without it, in any thread. What
 * it guards is the process-local part of each object. There FMP_CRITICAL takes its place: a critical
 * section is left, as the GIL is let go, while its thread sleeps, and had back before it goes on. So
 * what is right with a GIL, which any Python code may let go, is right in a critical section of
 * what the fields belong to; other objects' are none of its business.
 */
#ifndef FMP_BRIDGE_CRITICAL_H
#define FMP_BRIDGE_CRITICAL_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

static inline void
fmp_critical_end(PyCriticalSection *section)
{
    PyCriticalSection_End(section);
}

/* From here to the end of the block no other thread is in a section of that object, but while
 * this one sleeps or waits for another section. May be nested, for the same object too. */
#define FMP_CRITICAL(object)                                                                       \
    __attribute__((cleanup(fmp_critical_end))) PyCriticalSection fmp_section;                      \
    PyCriticalSection_Begin(&fmp_section, (PyObject *)(object))

#else
#define FMP_CRITICAL(object) ((void)0)
#endif

/* A new reference to the value, or NULL: with an exception, or without one when there is none. */
static inline PyObject *
fmp_dict_get(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *value;
    (void)PyDict_GetItemRef(dict, key, &value);
    return value;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

#endif
