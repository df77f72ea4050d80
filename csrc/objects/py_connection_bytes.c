/* py_connection_bytes.c - messages of bytes: send_bytes(), recv_bytes(), recv_bytes_into().
 *
 * In the rings such a message is a record of its own kind. What send() put can be received as the
 * bytes of its pickle, and the reverse, since in the stdlib there is no difference between the two.
 * Owns nothing.
 */
#include <string.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "objects/connection_object.h"

/* --- sending --------------------------------------------------------------------------------- */

/* A view of any bytes-like object, with memoryview()'s exceptions for what is none. */
static int
view_of(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) == 0) {
        return 0;
    }
    PyErr_Clear();
    PyObject *memory = PyMemoryView_FromObject(object);
    PyObject *bytes = NULL;
    if (memory != NULL && PyMemoryView_GET_BUFFER(memory)->itemsize > 1) {
#if PY_VERSION_HEX < 0x030B0000
        bytes = PyBytes_FromObject(memory);
#else
        bytes = PyObject_CallMethod(memory, "cast", "s", "B");
#endif
    }
    else {
        bytes = Py_XNewRef(memory);
    }
    int rc = bytes != NULL ? PyObject_GetBuffer(bytes, view, PyBUF_SIMPLE) : -1;
    if (rc < 0 && PyErr_ExceptionMatches(PyExc_BufferError)) { /* bytes with gaps */
        PyErr_SetString(PyExc_TypeError, "can't concat memoryview to bytes");
    }
    Py_XDECREF(bytes); /* the view holds what it needs */
    Py_XDECREF(memory);
    return rc;
}

/* Checks (offset, size) against the buffer's length, with the stdlib's messages. */
static int
choose(Py_ssize_t length, PyObject *offset_object, PyObject *size_object, Py_ssize_t *offset,
       Py_ssize_t *size)
{
    const char *error = NULL;
    *offset = 0;
    if (offset_object != NULL) {
        *offset = PyNumber_AsSsize_t(offset_object, PyExc_OverflowError);
        if (*offset == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (*offset < 0) {
        error = "offset is negative";
    }
    else if (length < *offset) {
        error = "buffer length < offset";
    }
    else if (size_object == NULL || size_object == Py_None) {
        *size = length - *offset;
    }
    else {
        *size = PyNumber_AsSsize_t(size_object, PyExc_OverflowError);
        if (*size == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (*size < 0) {
            error = "size is negative";
        }
        else if (*size > length - *offset) {
            error = "buffer length < offset + size";
        }
    }
    if (error != NULL) {
        PyErr_SetString(PyExc_ValueError, error);
        return -1;
    }
    return 0;
}

static int
send_raw(FmpConnection *self, const void *data, size_t size)
{
    fmp_upgrade_switch(&self->upgrade, &self->pipe);
    if (self->pipe.out == NULL) {
        return fmp_wire_send(self, data, size, NULL);
    }
    struct fmp_encoded e;
    fmp_encode_raw(&e, FMP_REC_RAW, data, size);
    int rc = fmp_connection_put(self, &e.batch);
    fmp_encoded_free(&e);
    return rc;
}

PyObject *
fmp_connection_send_bytes(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args,
                          PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"buf", "offset", "size"};
    PyObject *given[3] = {NULL, NULL, NULL};
    Py_buffer view;
    if (fmp_args("send_bytes", args, n_args, kwnames, names, 3, 1, 3, given) < 0
        || fmp_connection_check_writable(self) < 0 || view_of(given[0], &view) < 0) {
        return NULL;
    }
    Py_ssize_t offset, size;
    int rc = choose(view.len, given[1], given[2], &offset, &size);
    if (rc == 0) {
        rc = send_raw(self, (const char *)view.buf + offset, (size_t)size);
    }
    PyBuffer_Release(&view);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- receiving ------------------------------------------------------------------------------- */

static PyObject *
raise_bad_length(FmpConnection *self)
{
    if (self->writable) {
        self->readable = false;
    }
    else {
        fmp_connection_close(self);
    }
    PyErr_SetString(PyExc_OSError, "bad message length");
    return NULL;
}

/* A message as bytes, wherever they lie. */
struct view {
    const char *data;
    size_t size;
    struct fmp_message message; /* they lie in `taken` or in `bytes` */
};

static void
view_free(struct view *v)
{
    fmp_buffer_free(&v->message.taken);
    Py_CLEAR(v->message.bytes);
}

static int
view_bytes(struct view *v, PyObject *bytes)
{
    if (bytes == NULL) {
        return -1;
    }
    v->message.bytes = bytes;
    v->data = PyBytes_AS_STRING(bytes);
    v->size = (size_t)PyBytes_GET_SIZE(bytes);
    return 0;
}

/* The bytes of the object's pickle. */
static int
view_pickle(FmpConnection *self, struct view *v, PyObject *object)
{
    PyObject *pickle = object != NULL ? fmp_pickle(&self->state->codec, object) : NULL;
    int rc = view_bytes(v, pickle != NULL ? PyBytes_FromObject(pickle) : NULL);
    Py_XDECREF(pickle);
    Py_XDECREF(object);
    return rc;
}

/* The bytes that were sent, or those of the pickle of the object that was. */
static int
view_message(FmpConnection *self, struct view *v)
{
    struct fmp_message *m = &v->message;
    if (m->bytes != NULL) {
        PyObject *bytes = m->bytes;
        m->bytes = NULL;
        return fmp_message_kind(m) == FMP_REC_RAW ? view_bytes(v, bytes)
                                                  : view_pickle(self, v, bytes);
    }
    size_t offset = 0;
    uint8_t kind;
    const uint8_t *data;
    if (fmp_batch_next(m->taken.data, m->taken.size, &offset, &kind, &data, &v->size)
        && kind == FMP_REC_RAW) {
        v->data = (const char *)data;
        return 0;
    }
    return view_pickle(self, v, fmp_decode_taken(&self->state->codec, &m->taken, 0));
}

/* Receives the next message, whole. 0; -1 with an exception, or without one when a foreign message
 * is longer than `longest`. `stack` is FMP_CONNECTION_STACK bytes that outlive `v`. */
static int
receive(FmpConnection *self, struct view *v, uint8_t *stack, uint64_t longest)
{
    struct fmp_message *m = &v->message;
    *m = (struct fmp_message){0};
    bool on_wire = self->pipe.in == NULL;
    int rc = on_wire ? FMP_PIPE_FOREIGN : fmp_connection_take(self, m, stack);
    if (rc == FMP_OK) {
        rc = view_message(self, v);
    }
    else {
        rc = rc == FMP_PIPE_FOREIGN ? view_bytes(v, fmp_wire_receive(self, longest, NULL)) : -1;
    }
    if (rc < 0) {
        view_free(v);
        if (on_wire && self->pipe.in != NULL && !PyErr_Occurred()) {
            return receive(self, v, stack, longest); /* the peer has turned to the ring */
        }
    }
    return rc;
}

static int
parse_maxlength(PyObject *object, uint64_t *longest)
{
    *longest = UINT64_MAX;
    if (object == NULL || object == Py_None) {
        return 0;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(object, NULL);
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (n < 0) {
        PyErr_SetString(PyExc_ValueError, "negative maxlength");
        return -1;
    }
    *longest = (uint64_t)n;
    return 0;
}

PyObject *
fmp_connection_recv_bytes(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args,
                          PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"maxlength"};
    PyObject *maxlength = NULL;
    uint64_t longest;
    uint8_t stack[FMP_CONNECTION_STACK];
    struct view m;
    if (fmp_args("recv_bytes", args, n_args, kwnames, names, 1, 0, 1, &maxlength) < 0
        || fmp_connection_check_readable(self) < 0 || parse_maxlength(maxlength, &longest) < 0) {
        return NULL;
    }
    if (receive(self, &m, stack, longest) < 0) {
        return PyErr_Occurred() ? NULL : raise_bad_length(self);
    }
    PyObject *bytes;
    if (m.size > longest) {
        bytes = raise_bad_length(self);
    }
    else if (m.message.bytes != NULL) {
        bytes = Py_NewRef(m.message.bytes);
    }
    else {
        bytes = PyBytes_FromStringAndSize(m.data, (Py_ssize_t)m.size);
    }
    view_free(&m);
    return bytes;
}

static void
raise_too_short(const struct view *m)
{
    PyObject *bytes = PyBytes_FromStringAndSize(m->data, (Py_ssize_t)m->size);
    PyObject *context = bytes != NULL ? PyImport_ImportModule("multiprocessing.context") : NULL;
    PyObject *type = context != NULL ? PyObject_GetAttrString(context, "BufferTooShort") : NULL;
    if (type != NULL) {
        PyErr_SetObject(type, bytes);
    }
    Py_XDECREF(type);
    Py_XDECREF(context);
    Py_XDECREF(bytes);
}

/* memoryview(object), checked to be writable before a message is taken for it. */
static int
view_into(PyObject *object, PyObject *offset_object, Py_buffer *view, Py_ssize_t *offset)
{
    PyObject *memory = PyMemoryView_FromObject(object);
    if (memory == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(memory, view, PyBUF_SIMPLE | PyBUF_WRITABLE);
    Py_DECREF(memory);
    if (rc < 0) {
        PyErr_SetString(PyExc_TypeError,
                        "readinto() argument must be read-write bytes-like object, not memoryview");
        return -1;
    }
    *offset = 0;
    if (offset_object != NULL) {
        *offset = PyNumber_AsSsize_t(offset_object, PyExc_OverflowError);
    }
    if (*offset < 0 || *offset > view->len) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, *offset < 0 ? "negative offset" : "offset too large");
        }
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

PyObject *
fmp_connection_recv_bytes_into(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args,
                               PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"buf", "offset"};
    PyObject *given[2] = {NULL, NULL};
    uint8_t stack[FMP_CONNECTION_STACK];
    Py_buffer view;
    Py_ssize_t offset;
    if (fmp_args("recv_bytes_into", args, n_args, kwnames, names, 2, 1, 2, given) < 0
        || fmp_connection_check_readable(self) < 0
        || view_into(given[0], given[1], &view, &offset) < 0) {
        return NULL;
    }
    struct view m;
    PyObject *result = NULL;
    if (receive(self, &m, stack, UINT64_MAX) == 0) {
        if (m.size > (size_t)(view.len - offset)) {
            raise_too_short(&m);
        }
        else {
            memcpy((char *)view.buf + offset, m.data, m.size);
            result = PyLong_FromSize_t(m.size);
        }
        view_free(&m);
    }
    PyBuffer_Release(&view);
    return result;
}
