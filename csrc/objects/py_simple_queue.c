/* py_simple_queue.c - _core.SimpleQueue: put(), get(), empty() and nothing to wait with.
 *
 * The same mailbox as _core.Queue's. put() raises what pickling raises, as the stdlib's does.
 */
#include "base/status.h"
#include "bridge/codec.h"
#include "objects/queue_object.h"
#include "platform/clock.h"

static int
check_handle(FmpQueue *self)
{
    if (self->closed) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return -1;
    }
    return 0;
}

static PyObject *
simple_put(FmpQueue *self, PyObject *object)
{
    struct fmp_encoded e;
    if (check_handle(self) < 0 || fmp_encode(&self->state->codec, &e, object, NULL, 0) < 0) {
        return NULL;
    }
    int rc = fmp_queue_put_batch(self, &e.batch, FMP_NEVER);
    fmp_encoded_free(&e);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
simple_get(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    return check_handle(self) < 0 ? NULL : fmp_queue_get_one(self, FMP_NEVER);
}

static PyObject *
simple_empty(FmpQueue *self, PyObject *Py_UNUSED(ignored))
{
    if (check_handle(self) < 0) {
        return NULL;
    }
    return PyBool_FromLong(fmp_ring_count(&self->mailbox.ring) == 0
                           && fmp_queue_stashed(self) == 0);
}

static PyMethodDef simple_methods[] = {
    {"put", (PyCFunction)simple_put, METH_O, "put($self, obj)\n--\n\nPut an object."},
    {"get", (PyCFunction)simple_get, METH_NOARGS, "get($self)\n--\n\nWait for an object."},
    {"empty", (PyCFunction)simple_empty, METH_NOARGS, "empty($self)\n--\n\nIs nothing in it?"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot simple_slots[] = {
    {Py_tp_doc, "A queue of objects in shared memory, without timeouts."},
    {Py_tp_methods, simple_methods},
    {0, NULL},
};

static PyType_Spec simple_spec = {
    .name = "fastmp._core.SimpleQueue",
    .basicsize = sizeof(FmpQueue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = simple_slots,
};

int
fmp_add_simple_queue(PyObject *module)
{
    PyObject *queue = PyObject_GetAttrString(module, "Queue");
    PyTypeObject *type =
        queue != NULL ? fmp_add_type(module, &simple_spec, (PyTypeObject *)queue) : NULL;
    Py_XDECREF(queue);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
