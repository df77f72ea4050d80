/* module.h - the rooms of fastmp._core: each object's file adds its types to the module.
 *
 * The state belongs to one module object (one interpreter); exec fills it and nobody writes it
 * afterwards, but for what says so. To add an object: write objects/py_x.c with fmp_add_x(), declare
 * it here, and call it in module.c's list.
 */
#ifndef FMP_MODULE_H
#define FMP_MODULE_H

#include <Python.h>

#include "bridge/codec.h"
#include "objects/known_ints.h"

/* The greatest value of a semaphore and size of a queue: SEM_VALUE_MAX of the C library, published
 * under that name. */
#define FMP_SEM_VALUE_MAX 2147483647

struct fmp_state {
    struct fmp_codec codec;
    PyObject *queue_empty; /* queue.Empty and queue.Full: written once, before the first queue is */
    PyObject *queue_full;  /* made; NULL until then */
    PyObject *pool_gate;   /* an object to be critical on: objects/pool.h, py_queue.c */
    PyTypeObject *connection;
    PyTypeObject *array_iterator;
    PyTypeObject *pool_board;
    PyTypeObject *pool_job;
    PyTypeObject *pool_result;
    PyTypeObject *pool_items;
    PyTypeObject *child;
    struct fmp_known_ints known_ints; /* filled as they are asked for */
};

static inline struct fmp_state *
fmp_state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* The state, from a type of this module or a Python class derived from one: for tp_new, which
 * keeps the pointer in the object (the type keeps the module alive). NULL with SystemError when
 * `type` is neither. */
struct fmp_state *fmp_state_of_type(PyTypeObject *type);

/* Makes the type and adds it to the module under the last part of its name. A new reference. */
PyTypeObject *fmp_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

/* The same for a type that nothing more is done with. 0, or -1. */
int fmp_publish_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

int fmp_add_popen(PyObject *module);
int fmp_add_guard(PyObject *module);
int fmp_add_lock(PyObject *module);
int fmp_add_semaphore(PyObject *module);
int fmp_add_barrier(PyObject *module);
int fmp_add_condition(PyObject *module);
int fmp_add_event(PyObject *module);
int fmp_add_block(PyObject *module);
int fmp_add_synced(PyObject *module); /* and, on top of it, the next two */
int fmp_add_value(PyObject *module, PyTypeObject *synced);
int fmp_add_array(PyObject *module, PyTypeObject *synced);
int fmp_add_queue(PyObject *module);
int fmp_add_simple_queue(PyObject *module);
int fmp_add_connection(PyObject *module);
int fmp_add_pool_board(PyObject *module);
int fmp_add_pool_job(PyObject *module);
int fmp_add_pool_items(PyObject *module);
int fmp_add_child(PyObject *module);
int fmp_add_fork(PyObject *module);

#endif
