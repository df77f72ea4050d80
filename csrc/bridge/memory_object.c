/* memory_object.c - _core.Memory: bytes from malloc, or under a lease, or a part of such, behind the
 * buffer protocol.
 *
 * Owns its bytes, or a lease, or a reference to the object that does. Process-private: what is written
 * to a lease's view stays in this process, so the bytes may be written by whoever received them.
 */
#include "bridge/memory_object.h"

#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    PyObject *whole; /* NULL: `data` is ours to free, or the lease to end */
    struct fmp_lease lease;
    void *data;
    Py_ssize_t size;
    bool readonly;
} MemoryObject;

static MemoryObject *
new_memory(PyTypeObject *type, void *data, size_t size)
{
    MemoryObject *self = PyObject_New(MemoryObject, type);
    if (self != NULL) {
        self->whole = NULL;
        self->lease = (struct fmp_lease){.address = NULL};
        self->data = data;
        self->size = (Py_ssize_t)size;
        self->readonly = false;
    }
    return self;
}

PyObject *
fmp_memory_own(PyTypeObject *type, void *data, size_t size)
{
    return (PyObject *)new_memory(type, data, size);
}

PyObject *
fmp_memory_leased(PyTypeObject *type, const struct fmp_lease *lease)
{
    MemoryObject *self = new_memory(type, lease->address, lease->length);
    if (self != NULL) {
        self->lease = *lease;
    }
    return (PyObject *)self;
}

PyObject *
fmp_memory_part(PyTypeObject *type, PyObject *whole, const void *data, size_t size, bool readonly)
{
    MemoryObject *self = new_memory(type, (void *)data, size);
    if (self != NULL) {
        self->whole = Py_NewRef(whole);
        self->readonly = readonly;
    }
    return (PyObject *)self;
}

static int
memory_getbuffer(MemoryObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, self->readonly, flags);
}

static void
memory_dealloc(MemoryObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->lease.address != NULL) {
        fmp_lease_end(&self->lease);
    }
    else if (self->whole == NULL) {
        free(self->data);
    }
    Py_CLEAR(self->whole);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "Bytes that came through shared memory; a buffer."},
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_getbuffer},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "fastmp._core.Memory",
    .basicsize = sizeof(MemoryObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = memory_slots,
};

PyTypeObject *
fmp_memory_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &memory_spec, NULL);
}
