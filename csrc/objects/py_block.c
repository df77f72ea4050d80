/* py_block.c - _core.Block: bytes in shared memory, behind Value and Array.
 *
 * Owns one fmp_slot; who writes the bytes is the users' affair. Whoever exports the buffer (a
 * memoryview, a ctypes object, a numpy array) holds a reference to the Block, so the memory lives
 * as long as anything looks at it. A kill leaves nothing: the kernel frees what nobody maps.
 */
#include "base/status.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/items.h"
#include "objects/slots.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    struct fmp_slot slot;
    Py_ssize_t size; /* asked for; the slot may be larger */
} BlockObject;

#define LARGE (1024 * 1024) /* takes so long to reserve that other threads should run meanwhile */

struct allocation {
    size_t size;
    struct fmp_slot *slot;
};

static int
allocate(void *arg, struct fmp_wait *Py_UNUSED(w))
{
    struct allocation *a = arg;
    return fmp_slot_alloc(a->size, a->slot);
}

static PyObject *
block_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n:Block", &size)) {
        return NULL;
    }
    if (size < 0) {
        return PyErr_Format(PyExc_ValueError, "Size %zd out of range", size);
    }
    BlockObject *self = (BlockObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    struct allocation a = {(size_t)size, &self->slot};
    int rc = size < LARGE ? allocate(&a, NULL) : fmp_run_unlocked(allocate, &a);
    if (rc != FMP_OK) {
        Py_DECREF(self);
        return fmp_raise(rc, "create shared memory");
    }
    self->size = size;
    return (PyObject *)self;
}

static PyObject *
block_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *where;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On:_attach", &where, &size)) {
        return NULL;
    }
    BlockObject *self = (BlockObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    if (fmp_slot_from_tuple(where, (size_t)size, &self->slot) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->size = size;
    return (PyObject *)self;
}

static PyObject *
block_share(BlockObject *self, PyObject *Py_UNUSED(ignored))
{
    return fmp_slot_as_tuple(&self->slot);
}

/* Fills a new block from a list, a tuple or a buffer of plain items: true, or false when some of it
 * needs ctypes' conversions or errors. */
static PyObject *
block_fill(BlockObject *self, PyObject *args)
{
    int code;
    PyObject *from;
    if (!PyArg_ParseTuple(args, "CO:_fill", &code, &from)) {
        return NULL;
    }
    struct fmp_items items = {fmp_typecode_find(code), fmp_slot_at(&self->slot), 0};
    if (items.type == NULL) {
        return PyErr_Format(PyExc_TypeError, "'%c' is no plain typecode", code);
    }
    items.length = self->size / items.type->size;
    struct fmp_range all = {0, 1, items.length};
    int filled = 0;
    if (PyList_CheckExact(from) || PyTuple_CheckExact(from)) {
        filled = PySequence_Fast_GET_SIZE(from) == items.length
              && fmp_items_store(&items, &all, 0, from) == items.length;
    }
    else {
        filled = fmp_items_copy(&items, &all, from);
    }
    return filled < 0 ? NULL : PyBool_FromLong(filled);
}

static int
block_getbuffer(BlockObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, fmp_slot_at(&self->slot), self->size, 0,
                             flags);
}

static void
block_dealloc(BlockObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmp_slot_free(&self->slot);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef block_methods[] = {
    {"_share", (PyCFunction)block_share, METH_NOARGS, "(fd, offset, size) for another process."},
    {"_fill", (PyCFunction)block_fill, METH_VARARGS, "Take over plain items, if they all are."},
    {"_attach", (PyCFunction)block_attach, METH_VARARGS | METH_CLASS,
     "The block of `size` bytes at (fd, offset, slot's size)."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef block_members[] = {
    {"size", T_PYSSIZET, offsetof(BlockObject, size), READONLY, "Its number of bytes."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_doc, "Block(size)\n--\n\nZeroed bytes that processes share; a writable buffer."},
    {Py_tp_new, block_new},
    {Py_tp_dealloc, block_dealloc},
    {Py_tp_methods, block_methods},
    {Py_tp_members, block_members},
    {Py_bf_getbuffer, block_getbuffer},
    {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "fastmp._core.Block",
    .basicsize = sizeof(BlockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = block_slots,
};

int
fmp_add_block(PyObject *module)
{
    return fmp_publish_type(module, &block_spec, NULL);
}
