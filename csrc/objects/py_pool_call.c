/* py_pool_call.c - a pool's worker calls the function of a task, for one item or for many.
 *
 * Owns nothing. What the function raises is for the worker's loop to report.
 *
 * Many items are called by a loop in Python, `fastmp._workers.call_each()`, where that is the faster
 * one: from 3.12 on the interpreter calls a Python function from Python without leaving its own loop,
 * in 37 ns where a call from C takes 60. It is called for a block of items at a time, so that their
 * results do not leave the cache before they are done with; plain items come from an iterator
 * (py_pool_items.c).
 */
#include <stdbool.h>

#include "base/status.h"
#include "bridge/errors.h"
#include "objects/pool.h"

#define WORTH_A_LOOP 64 /* items; looking the loop up costs as much as 40 calls of it save */
#define BLOCK 256

/* --- the loop in Python ----------------------------------------------------------------------- */

/* The loop for so many items; NULL, without an exception, where C's is as good. A new reference. */
static PyObject *
loop_for(Py_ssize_t items)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyObject *loop = items >= WORTH_A_LOOP ? fmp_pool_python("call_each") : NULL;
    if (loop != NULL && !PyFunction_Check(loop)) {
        Py_CLEAR(loop);
    }
    PyErr_Clear();
    return loop;
#else
    (void)items;
    return NULL;
#endif
}

/* The loop is no more a part of a traceback than a loop in C would be. */
static void
hide_from_traceback(PyObject *loop)
{
    PyObject *error = fmp_take_exception();
    PyObject *traceback = PyException_GetTraceback(error);
    if (traceback != NULL) {
        PyTracebackObject *first = (PyTracebackObject *)traceback;
        PyCodeObject *code = PyFrame_GetCode(first->tb_frame);
        if ((PyObject *)code == PyFunction_GET_CODE(loop)) {
            PyObject *rest = (PyObject *)first->tb_next;
            (void)PyException_SetTraceback(error, rest != NULL ? rest : Py_None);
        }
        Py_DECREF(code);
        Py_DECREF(traceback);
    }
    (void)fmp_raise_again(error);
}

/* A list of what the function returns for each of `n` items. */
static PyObject *
call_by_loop(PyObject *loop, PyObject *function, PyObject *items, Py_ssize_t n)
{
    PyObject *results = PyObject_CallFunctionObjArgs(loop, function, items, NULL);
    if (results == NULL) {
        hide_from_traceback(loop);
    }
    else if (!PyList_CheckExact(results) || PyList_GET_SIZE(results) != n) {
        Py_CLEAR(results);
        PyErr_SetString(PyExc_RuntimeError, "fastmp._workers.call_each() has been changed");
    }
    return results;
}

/* --- items as objects ------------------------------------------------------------------------- */

static PyObject *
call_star(PyObject *function, PyObject *arguments)
{
    PyObject *tuple = PySequence_Tuple(arguments);
    PyObject *result = tuple != NULL ? PyObject_Call(function, tuple, NULL) : NULL;
    Py_XDECREF(tuple);
    return result;
}

static PyObject *
call_many(PyObject *function, PyObject *chunk, bool star)
{
    if (!PyTuple_Check(chunk)) {
        return fmp_raise(FMP_CORRUPT, "take a task of a pool");
    }
    Py_ssize_t n = PyTuple_GET_SIZE(chunk);
    PyObject *loop = star ? NULL : loop_for(n);
    if (loop != NULL) {
        PyObject *by_loop = call_by_loop(loop, function, chunk, n);
        Py_DECREF(loop);
        return by_loop;
    }
    PyObject *results = PyList_New(n);
    if (results != NULL) {
        PyObject_GC_UnTrack(results); /* nobody is to find it half full */
    }
    for (Py_ssize_t i = 0; results != NULL && i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(chunk, i);
        PyObject *one = star ? call_star(function, item) : PyObject_CallOneArg(function, item);
        if (one == NULL) {
            Py_CLEAR(results);
            break;
        }
        PyList_SET_ITEM(results, i, one);
    }
    if (results != NULL) {
        PyObject_GC_Track(results);
    }
    return results;
}

PyObject *
fmp_pool_call_task(uint32_t mode, PyObject *function, PyObject *argument)
{
    switch (mode) {
    case FMP_TASK_ONE:
        return PyObject_CallOneArg(function, argument);
    case FMP_TASK_CALL:
        return PyTuple_Check(argument) ? PyObject_Call(function, argument, NULL)
                                       : fmp_raise(FMP_CORRUPT, "take a task of a pool");
    case FMP_TASK_CALL_KW:
        return fmp_pool_call_python("call", "(OO)", function, argument);
    case FMP_TASK_STAR:
        return call_star(function, argument);
    case FMP_TASK_MANY:
    case FMP_TASK_MANY_STAR:
        return call_many(function, argument, mode == FMP_TASK_MANY_STAR);
    default:
        return fmp_raise(FMP_CORRUPT, "take a task of a pool");
    }
}

/* --- plain items ------------------------------------------------------------------------------ */

/* Looks at how many others refer to it, see flat.c. 0, or -1 with an exception. */
static int
keep_result(struct fmp_flat_call *c, PyObject *one)
{
    if (c->list == NULL && !fmp_flat_add(&c->results, one)) {
        c->list = fmp_flat_take_back(&c->results);
        if (c->list == NULL) {
            return -1;
        }
    }
    return c->list != NULL ? PyList_Append(c->list, one) : 0;
}

static int
call_next(struct fmp_flat_call *c)
{
    PyObject *item = fmp_chunk_next(&c->chunk);
    PyObject *one = item != NULL ? PyObject_CallOneArg(c->function, item) : NULL;
    Py_XDECREF(item); /* before the result is looked at, which may be the same object */
    int rc = one != NULL ? keep_result(c, one) : -1;
    Py_XDECREF(one);
    return rc;
}

static int
call_block(struct fmp_flat_call *c, PyObject *loop, struct fmp_pool_items *items, uint32_t n)
{
    fmp_pool_items_allow(items, n);
    PyObject *results = call_by_loop(loop, c->function, (PyObject *)items, n);
    int rc = results != NULL ? 0 : -1;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = keep_result(c, PyList_GET_ITEM(results, (Py_ssize_t)i));
    }
    Py_XDECREF(results);
    return rc;
}

/* All of them, by the loop. */
static int
call_in_blocks(struct fmp_flat_call *c, PyObject *loop)
{
    struct fmp_pool_items *items = fmp_pool_items_new(c->state, &c->chunk);
    int rc = items != NULL ? 0 : -1;
    for (uint32_t left = c->chunk.count, n; rc == 0 && left > 0; left -= n) {
        n = left < BLOCK ? left : BLOCK;
        rc = call_block(c, loop, items, n);
    }
    if (items != NULL) {
        fmp_pool_items_allow(items, 0);
        Py_DECREF((PyObject *)items);
    }
    return rc;
}

int
fmp_pool_call_flat(struct fmp_flat_call *c)
{
    PyObject *loop = loop_for((Py_ssize_t)c->chunk.count);
    int rc = 0;
    c->list = NULL;
    if (loop != NULL) {
        rc = call_in_blocks(c, loop);
        Py_DECREF(loop);
    }
    else {
        for (uint32_t left = c->chunk.count; rc == 0 && left > 0; left--) {
            rc = call_next(c);
        }
    }
    if (rc < 0) {
        if (c->list == NULL) {
            fmp_flat_drop(&c->results);
        }
        Py_CLEAR(c->list);
    }
    return rc;
}
