/* py_pool_call.c - a pool's worker calls the function of a task, for one item or for many.
 *
 * Owns nothing. What the function raises is for the worker's loop to report.
 */
#include "base/status.h"
#include "bridge/errors.h"
#include "objects/pool.h"

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

/* Steals `one`. 0, or -1 with an exception. */
static int
keep_result(struct fmp_flat_call *c, PyObject *one)
{
    if (c->list == NULL && !fmp_flat_add(&c->results, one)) {
        c->list = fmp_flat_take_back(&c->results);
        if (c->list == NULL) {
            Py_DECREF(one);
            return -1;
        }
    }
    int rc = c->list != NULL ? PyList_Append(c->list, one) : 0;
    Py_DECREF(one);
    return rc;
}

int
fmp_pool_call_flat(struct fmp_flat_call *c)
{
    c->list = NULL;
    for (uint32_t i = 0; i < c->count; i++) {
        PyObject *item = fmp_flat_next(&c->items);
        PyObject *one = item != NULL ? PyObject_CallOneArg(c->function, item) : NULL;
        Py_XDECREF(item); /* before the result is looked at, which may be the same object */
        if (one == NULL || keep_result(c, one) < 0) {
            if (c->list == NULL) {
                fmp_flat_drop(&c->results);
            }
            Py_CLEAR(c->list);
            return -1;
        }
    }
    return 0;
}
