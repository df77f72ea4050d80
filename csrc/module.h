/* module.h - the rooms of fastmp._core: each object's file adds its types to the module.
 *
 * The state belongs to one module object (one interpreter); exec fills it and nobody writes it
 * afterwards. To add an object: write objects/py_x.c with fmp_add_x(), declare it here, and call
 * it in module.c's list.
 */
#ifndef FMP_MODULE_H
#define FMP_MODULE_H

#include <Python.h>

struct fmp_state {
    PyObject *queue_empty; /* queue.Empty */
    PyObject *queue_full;  /* queue.Full */
};

static inline struct fmp_state *
fmp_state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* For METH_METHOD methods, which are given the class that defines them. */
static inline struct fmp_state *
fmp_state_of_class(PyTypeObject *defining_class)
{
    return PyType_GetModuleState(defining_class);
}

/* Makes the type and adds it to the module under the last part of its name. A new reference. */
PyTypeObject *fmp_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

int fmp_add_guard(PyObject *module);
int fmp_add_lock(PyObject *module);
int fmp_add_semaphore(PyObject *module);
int fmp_add_queue(PyObject *module);

#endif
