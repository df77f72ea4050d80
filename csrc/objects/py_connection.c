/* py_connection.c - _core.Connection: what multiprocessing.connection.Connection is, natively.
 *
 * An end of a Pipe() sends records through rings (channel/pipe.c); a connection on any other
 * descriptor speaks the stdlib's format (py_connection_wire.c). send() pickles before it takes any
 * lock and returns when the record is in shared memory; recv() copies the record out, frees its
 * place, and only then decodes. Process-local: all fields of the object. A kill in send() leaves
 * the message absent or whole; in recv(), there for others or lost with the process.
 */
#include "objects/connection_object.h"

#include <errno.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/codec.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"
#include "platform/fd.h"
#include "platform/process.h"

/* --- the handle's life ----------------------------------------------------------------------- */

static int
check_open(FmpConnection *self)
{
    if (!self->open) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return -1;
    }
    return 0;
}

int
fmp_connection_check_readable(FmpConnection *self)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (!self->readable) {
        PyErr_SetString(PyExc_OSError, "connection is write-only");
        return -1;
    }
    return 0;
}

int
fmp_connection_check_writable(FmpConnection *self)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (!self->writable) {
        PyErr_SetString(PyExc_OSError, "connection is read-only");
        return -1;
    }
    return 0;
}

static bool
in_use(const FmpConnection *self)
{
    return self->inside > 0 && self->generation == fmp_fork_generation();
}

void
fmp_connection_enter(FmpConnection *self)
{
    uint32_t generation = fmp_fork_generation();
    if (self->generation != generation) {
        self->generation = generation;
        self->inside = 0;
    }
    self->inside++;
}

void
fmp_connection_leave(FmpConnection *self)
{
    if (in_use(self) && --self->inside == 0 && self->retired) {
        self->retired = false;
        fmp_fd_close(self->pipe.fd);
    }
}

void
fmp_connection_close(FmpConnection *self)
{
    if (self->open) {
        self->open = false;
        self->retired = in_use(self);
        fmp_pipe_hang_up(&self->pipe, self->retired);
    }
}

PyObject *
fmp_connection_raise(FmpConnection *self, int rc, const char *what)
{
    if (rc == -EBADF && !self->open) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    if (rc < 0 && rc != -ENOMEM && rc != -ENOSPC) {
        errno = -rc;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return fmp_raise(rc, what);
}

/* --- objects --------------------------------------------------------------------------------- */

static int
send_pickle(FmpConnection *self, PyObject *object)
{
    PyObject *pickle = fmp_pickle(&self->state->codec, object);
    Py_buffer view;
    if (pickle == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(pickle, &view, PyBUF_SIMPLE);
    if (rc == 0) {
        struct fmp_wire_fds offer;
        fmp_connection_attach_offer(self, &offer);
        rc = fmp_wire_send(self, view.buf, (size_t)view.len, &offer);
        PyBuffer_Release(&view);
    }
    Py_DECREF(pickle);
    return rc;
}

static PyObject *
connection_send(FmpConnection *self, PyObject *object)
{
    FMP_CRITICAL(self);
    if (fmp_connection_check_writable(self) < 0) {
        return NULL;
    }
    int rc;
    fmp_upgrade_switch(&self->upgrade, &self->pipe);
    if (self->pipe.out == NULL) {
        rc = send_pickle(self, object);
    }
    else {
        struct fmp_encoded e;
        if (fmp_encode(&self->state->codec, &e, object, NULL, 0) < 0) {
            return NULL;
        }
        rc = fmp_connection_put(self, &e.batch);
        fmp_encoded_free(&e);
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
unpickle(FmpConnection *self, PyObject *bytes)
{
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *object =
        fmp_decode(&self->state->codec, FMP_REC_RAW, (const uint8_t *)PyBytes_AS_STRING(bytes),
                   (size_t)PyBytes_GET_SIZE(bytes), NULL);
    Py_DECREF(bytes);
    return object;
}

static PyObject *
connection_recv(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    if (fmp_connection_check_readable(self) < 0) {
        return NULL;
    }
    uint8_t stack[FMP_CONNECTION_STACK];
    struct fmp_message m;
    if (self->pipe.in == NULL) {
        PyObject *bytes = fmp_connection_receive_pickle(self);
        if (bytes != NULL || PyErr_Occurred()) {
            return unpickle(self, bytes);
        } /* else the peer has turned to the ring */
    }
    switch (fmp_connection_take(self, &m, stack)) {
    case FMP_OK:
        if (m.bytes == NULL) {
            return fmp_decode_taken(&self->state->codec, &m.taken, 0);
        }
        return fmp_message_kind(&m) == FMP_REC_BYTES ? m.bytes : unpickle(self, m.bytes);
    case FMP_PIPE_FOREIGN:
        return unpickle(self, fmp_wire_receive(self, UINT64_MAX, NULL));
    default:
        return NULL;
    }
}

/* --- poll ------------------------------------------------------------------------------------ */

static PyObject *
connection_poll(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    int64_t deadline = 0;
    if (fmp_args("poll", args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0
        || fmp_connection_check_readable(self) < 0
        || (timeout != NULL && fmp_deadline(NULL, timeout, &deadline) < 0)
        || check_open(self) < 0) { /* again: a timeout's __float__() may have closed it */
        return NULL;
    }
    int rc = fmp_connection_poll(self, deadline);
    if (rc != FMP_OK && rc != FMP_TIMEOUT) {
        return fmp_connection_raise(self, rc, "poll a connection");
    }
    return PyBool_FromLong(rc == FMP_OK);
}

/* --- the descriptor -------------------------------------------------------------------------- */

static PyObject *
connection_fileno(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    if (check_open(self) < 0) {
        return NULL;
    }
    self->pipe.exposed = true;
    return PyLong_FromLong(self->pipe.fd);
}

static PyObject *
connection_close(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    fmp_connection_close(self);
    Py_RETURN_NONE;
}

static PyObject *
get_handle(FmpConnection *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    if (!self->open) {
        Py_RETURN_NONE;
    }
    self->pipe.exposed = true;
    return PyLong_FromLong(self->pipe.fd);
}

/* None: the descriptor is somebody else's from now on, open as it is. */
static int
set_handle(FmpConnection *self, PyObject *value, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "_handle can only be set to None");
        return -1;
    }
    self->open = false;
    return 0;
}

static PyObject *
get_closed(FmpConnection *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    return PyBool_FromLong(!self->open);
}

static PyObject *
get_flag(FmpConnection *self, void *which)
{
    FMP_CRITICAL(self);
    return PyBool_FromLong(*(bool *)((char *)self + (size_t)which));
}

static int
set_flag(FmpConnection *self, PyObject *value, void *which)
{
    FMP_CRITICAL(self);
    int yes = value != NULL ? PyObject_IsTrue(value) : 0;
    if (yes >= 0) {
        *(bool *)((char *)self + (size_t)which) = yes;
    }
    return yes < 0 ? -1 : 0;
}

/* --- making and ending ----------------------------------------------------------------------- */

static FmpConnection *
new_connection(PyTypeObject *type)
{
    FmpConnection *self = (FmpConnection *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->pipe.fd = -1;
        self->state = fmp_state_of_type(type);
        if (self->state == NULL) {
            Py_CLEAR(self);
        }
    }
    return self;
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)new_connection(type);
}

static void
set_open(FmpConnection *self, bool readable, bool writable)
{
    self->open = true;
    self->readable = readable;
    self->writable = writable;
}

static int
connection_init(FmpConnection *self, PyObject *args, PyObject *kwargs)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"handle", "readable", "writable", NULL};
    PyObject *handle;
    int readable = 1, writable = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pp:Connection", (char **)names, &handle,
                                     &readable, &writable)) {
        return -1;
    }
    /* As the stdlib does: an AttributeError for what is no integer. */
    PyObject *index = PyObject_CallMethod(handle, "__index__", NULL);
    if (index == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(index);
    Py_DECREF(index);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0 || fd > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "invalid handle");
        return -1;
    }
    if (!readable && !writable) {
        PyErr_SetString(PyExc_ValueError, "at least one of `readable` and `writable` must be True");
        return -1;
    }
    if (self->open || self->retired || self->pipe.in != NULL || self->pipe.out != NULL) {
        PyErr_SetString(PyExc_ValueError, "the connection has a handle already");
        return -1;
    }
    fmp_pipe_attach(&self->pipe, (int)fd, -1, -1);
    set_open(self, readable, writable);
    return 0;
}

/* Pipe(): two connected ends of class `type`. */
static PyObject *
connection_pair(PyTypeObject *type, PyObject *duplex)
{
    int both = PyObject_IsTrue(duplex);
    FmpConnection *a = both >= 0 ? new_connection(type) : NULL;
    FmpConnection *b = a != NULL ? new_connection(type) : NULL;
    PyObject *pair = NULL;
    if (b != NULL) {
        int rc = fmp_pipe_create(&a->pipe, &b->pipe, both);
        if (rc == FMP_OK) {
            set_open(a, true, both);
            set_open(b, both, true);
            pair = PyTuple_Pack(2, a, b);
        }
        else {
            fmp_connection_raise(a, rc, "create a pipe");
        }
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return pair;
}

/* (fd, fd of the ring it reads or -1, of the ring it writes or -1) */
static PyObject *
connection_share(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    if (check_open(self) < 0) {
        return NULL;
    }
    if (self->upgrade.in != NULL || self->upgrade.out != NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "a connection that is moving to shared memory cannot be passed on");
        return NULL;
    }
    const struct fmp_pipe *p = &self->pipe;
    return Py_BuildValue("(iii)", p->fd, p->in != NULL ? p->in->fd : -1,
                         p->out != NULL ? p->out->fd : -1);
}

static PyObject *
connection_attach(PyTypeObject *type, PyObject *args)
{
    int fd, in, out, readable, writable;
    if (!PyArg_ParseTuple(args, "iiipp:_attach", &fd, &in, &out, &readable, &writable)) {
        return NULL;
    }
    FmpConnection *self = new_connection(type);
    if (self == NULL) {
        return NULL;
    }
    int rc = fmp_pipe_attach(&self->pipe, fd, in, out);
    if (rc != FMP_OK) {
        fmp_connection_raise(self, rc, "attach to a pipe");
        fmp_fd_close(fd); /* the rings' have been closed */
        Py_DECREF(self);
        return NULL;
    }
    set_open(self, readable, writable);
    return (PyObject *)self;
}

/* In the place of the stdlib's __del__. */
static void
connection_finalize(FmpConnection *self)
{
    fmp_connection_close(self);
}

static void
connection_dealloc(FmpConnection *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmp_connection_close(self);
    fmp_pipe_free(&self->pipe);
    fmp_upgrade_free(&self->upgrade);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef connection_methods[] = {
    {"send", (PyCFunction)connection_send, METH_O, "send($self, obj)\n--\n\nSend an object."},
    {"recv", (PyCFunction)connection_recv, METH_NOARGS,
     "recv($self)\n--\n\nReceive an object. EOFError when the other end is closed."},
    {"send_bytes", (PyCFunction)(void (*)(void))fmp_connection_send_bytes,
     METH_FASTCALL | METH_KEYWORDS,
     "send_bytes($self, buf, offset=0, size=None)\n--\n\nSend a bytes-like object's bytes."},
    {"recv_bytes", (PyCFunction)(void (*)(void))fmp_connection_recv_bytes,
     METH_FASTCALL | METH_KEYWORDS,
     "recv_bytes($self, maxlength=None)\n--\n\n"
     "Receive a message as bytes. OSError when it is longer than `maxlength`; nothing can be\n"
     "received any more then."},
    {"recv_bytes_into", (PyCFunction)(void (*)(void))fmp_connection_recv_bytes_into,
     METH_FASTCALL | METH_KEYWORDS,
     "recv_bytes_into($self, buf, offset=0)\n--\n\n"
     "Receive a message into a writable bytes-like object; returns its length. BufferTooShort,\n"
     "whose argument is the message, when it does not fit."},
    {"poll", (PyCFunction)(void (*)(void))connection_poll, METH_FASTCALL | METH_KEYWORDS,
     "poll($self, timeout=0.0)\n--\n\n"
     "Whether something can be received, or can be within `timeout` seconds (None: ever)."},
    {"fileno", (PyCFunction)connection_fileno, METH_NOARGS,
     "fileno($self)\n--\n\nThe descriptor: readable when something can be received."},
    {"close", (PyCFunction)connection_close, METH_NOARGS,
     "close($self)\n--\n\nClose this process's handle."},
    {"_pair", (PyCFunction)connection_pair, METH_O | METH_CLASS, "Two connected ends."},
    {"_share", (PyCFunction)connection_share, METH_NOARGS, "(fd, fd or -1, fd or -1)"},
    {"_attach", (PyCFunction)connection_attach, METH_VARARGS | METH_CLASS,
     "An end from (fd, fd or -1, fd or -1, readable, writable)."},
    {"_offer_rings", (PyCFunction)fmp_connection_offer_rings, METH_NOARGS,
     "Offer the peer rings, some messages from now, if this is a local socket."},
    {"_accept_rings", (PyCFunction)fmp_connection_accept_rings, METH_NOARGS,
     "Accept rings that the peer offers with an object."},
    {NULL, NULL, 0, NULL},
};

#define FLAG(field) (void *)offsetof(FmpConnection, field)

static PyGetSetDef connection_getset[] = {
    {"closed", (getter)get_closed, NULL, "True if the connection is closed.", NULL},
    {"readable", (getter)get_flag, NULL, "True if the connection is readable.", FLAG(readable)},
    {"writable", (getter)get_flag, NULL, "True if the connection is writable.", FLAG(writable)},
    {"_handle", (getter)get_handle, (setter)set_handle, "The descriptor, or None.", NULL},
    {"_readable", (getter)get_flag, (setter)set_flag, NULL, FLAG(readable)},
    {"_writable", (getter)get_flag, (setter)set_flag, NULL, FLAG(writable)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, "Connection(handle, readable=True, writable=True)\n--\n\n"
                "A connection to another process."},
    {Py_tp_new, connection_new},
    {Py_tp_init, connection_init},
    {Py_tp_finalize, connection_finalize},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_methods, connection_methods},
    {Py_tp_getset, connection_getset},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "fastmp._core.Connection",
    .basicsize = sizeof(FmpConnection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = connection_slots,
};

static PyMethodDef connection_functions[] = {
    {"wait", (PyCFunction)(void (*)(void))fmp_connection_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($module, object_list, timeout=None)\n--\n\n"
     "Those of the objects that are ready, once one is; [] when none is within `timeout` seconds."},
    {NULL, NULL, 0, NULL},
};

int
fmp_add_connection(PyObject *module)
{
    PyTypeObject *type = fmp_add_type(module, &connection_spec, NULL);
    fmp_state_of(module)->connection = type;
    return type != NULL ? PyModule_AddFunctions(module, connection_functions) : -1;
}
