/* errors.c - result codes to exceptions; owns nothing. */
#include "bridge/errors.h"

#include <errno.h>
#include <string.h>

#include "base/status.h"
#include "platform/clock.h"

static PyObject *
raise_corruption(const char *what)
{
    PyObject *errors = PyImport_ImportModule("fastmp.errors");
    PyObject *type = errors ? PyObject_GetAttrString(errors, "CorruptionError") : NULL;
    if (type != NULL) {
        PyErr_Format(type, "cannot %s: the shared memory holds what no fastmp process writes",
                     what);
    }
    Py_XDECREF(type);
    Py_XDECREF(errors);
    return NULL;
}

static PyObject *
raise_errno(int number, const char *what)
{
    if (number == ENOMEM) {
        return PyErr_Format(PyExc_MemoryError, "cannot %s: out of memory", what);
    }
    PyObject *text = PyUnicode_FromFormat("cannot %s: %s", what, strerror(number));
    PyObject *args = text ? Py_BuildValue("(iN)", number, text) : NULL;
    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args);
        Py_DECREF(args);
    }
    return NULL;
}

PyObject *
fmp_raise(int rc, const char *what)
{
    if (rc < 0) {
        return raise_errno(-rc, what);
    }
    switch (rc) {
    case FMP_PYERR:
        return NULL;
    case FMP_CORRUPT:
        return raise_corruption(what);
    case FMP_TOO_BIG:
        return PyErr_Format(PyExc_MemoryError, "cannot %s: it is larger than 32 GiB", what);
    case FMP_CLOSED:
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    case FMP_BROKEN:
        return raise_errno(EPIPE, what);
    default:
        return PyErr_Format(PyExc_SystemError, "cannot %s: unexpected result %d", what, rc);
    }
}

PyObject *
fmp_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

int
fmp_raise_again(PyObject *error)
{
    if (error == NULL || PyErr_Occurred()) {
        Py_XDECREF(error);
        return PyErr_Occurred() ? -1 : 0;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
    return -1;
}

bool
fmp_defer(struct fmp_deferred *d)
{
    PyObject *now = fmp_take_exception();
    if (d->exception == NULL) {
        d->exception = now;
        d->since = fmp_now();
        return true;
    }
    if (now == d->exception) {
        Py_DECREF(now); /* a handler that raises the same object again */
    }
    else {
        PyException_SetContext(now, d->exception);
        d->exception = now;
    }
    return fmp_now() - d->since < FMP_SECOND;
}

int
fmp_raise_deferred(struct fmp_deferred *d)
{
    PyObject *exception = d->exception;
    d->exception = NULL;
    return exception != NULL ? fmp_raise_again(exception) : 0;
}
