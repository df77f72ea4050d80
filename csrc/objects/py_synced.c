/* py_synced.c - _core.Buffered and _core.Synced, the bases of Value and Array; see synced.h.
 *
 * Buffered gives SynchronizedBase the buffer protocol: what it exports is the buffer of the ctypes
 * object in `_obj`, which then keeps the memory for as long as the view lives. Reading and writing
 * through a view takes no lock. Synced owns its references and a pointer that its `obj` keeps.
 */
#include "objects/synced.h"

#include <structmember.h>

#include "bridge/args.h"
#include "bridge/errors.h"
#include "objects/lock.h"

#define GET_LOCK_DOC "get_lock($self, /)\n--\n\nThe lock."

/* --- Buffered --------------------------------------------------------------------------------- */

static int
buffered_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    view->obj = NULL;
    PyObject *obj = PyObject_GetAttrString(self, "_obj");
    if (obj == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(obj, view, flags);
    Py_DECREF(obj);
    if (rc == 0 && view->format != NULL) {
        /* ctypes says "<i"; memoryview indexes native formats only, and numpy knows no 'u'. */
        const struct fmp_typecode *type = fmp_typecode_of_format(view->format, view->itemsize);
        if (type != NULL) {
            view->format = (char *)type->format;
        }
    }
    return rc;
}

bool
fmp_buffered_check(PyObject *object)
{
    PyBufferProcs *procs = Py_TYPE(object)->tp_as_buffer;
    return procs != NULL && procs->bf_getbuffer == buffered_getbuffer;
}

static PyType_Slot buffered_slots[] = {
    {Py_tp_doc, "Base of the synchronized objects: the buffer of the ctypes object in `_obj`."},
    {Py_bf_getbuffer, buffered_getbuffer},
    {0, NULL},
};

static PyType_Spec buffered_spec = {
    .name = "fastmp._core.Buffered",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = buffered_slots,
};

/* --- the lock --------------------------------------------------------------------------------- */

int
fmp_synced_leave(struct fmp_synced *self)
{
    PyObject *error = fmp_take_exception();
    int rc = fmp_lock_leave(self->native);
    if (error != NULL) {
        (void)fmp_raise_again(error);
    }
    return rc;
}

PyObject *
fmp_synced_get(struct fmp_synced *self, const char *name)
{
    if (fmp_lock_enter(self->native) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_GetAttrString(self->obj, name);
    if (fmp_synced_leave(self) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

int
fmp_synced_set(struct fmp_synced *self, const char *name, PyObject *value)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "can't delete attribute '%s'", name);
        return -1;
    }
    if (fmp_lock_enter(self->native) < 0) {
        return -1;
    }
    int rc = PyObject_SetAttrString(self->obj, name, value);
    return fmp_synced_leave(self) < 0 ? -1 : rc;
}

int
fmp_synced_begin(struct fmp_synced *self, struct fmp_synced_hold *hold)
{
    hold->brief = fmp_lock_brief_begin(self->native, &hold->tag);
    return hold->brief != FMP_BRIEF_BUSY ? 0 : fmp_lock_enter(self->native);
}

int
fmp_synced_end(struct fmp_synced *self, const struct fmp_synced_hold *hold)
{
    if (hold->brief == FMP_BRIEF_BUSY) {
        return fmp_lock_leave(self->native);
    }
    fmp_lock_brief_end(self->native, hold->brief, hold->tag);
    return 0;
}

int
fmp_synced_load(struct fmp_synced *self, const void *at, uint64_t *raw)
{
    struct fmp_synced_hold hold;
    if (fmp_synced_begin(self, &hold) < 0) {
        return -1;
    }
    *raw = fmp_item_load(at, self->items.type->size);
    return fmp_synced_end(self, &hold);
}

int
fmp_synced_store(struct fmp_synced *self, void *at, uint64_t raw)
{
    struct fmp_synced_hold hold;
    if (fmp_synced_begin(self, &hold) < 0) {
        return -1;
    }
    fmp_item_store(at, raw, self->items.type->size);
    return fmp_synced_end(self, &hold);
}

PyObject *
fmp_synced_box(struct fmp_synced *self, const void *at)
{
    uint64_t raw;
    return fmp_synced_load(self, at, &raw) == 0 ? self->items.type->box(raw) : NULL;
}

/* --- making and ending ------------------------------------------------------------------------ */

/* Where the items of `obj` lie. The pointer stays good without the view: see synced.h. */
static int
find_memory(struct fmp_synced *self, int code)
{
    self->items.type = fmp_typecode_find(code);
    if (self->items.type == NULL) {
        PyErr_Format(PyExc_TypeError, "'%c' is no plain typecode", code);
        return -1;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(self->obj, &view, PyBUF_WRITABLE) < 0) {
        return -1;
    }
    self->items.data = view.buf;
    self->items.length = view.len / self->items.type->size;
    bool fits = view.itemsize == self->items.type->size;
    PyBuffer_Release(&view);
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "the items of %R are not of type '%c'", self->obj, code);
        return -1;
    }
    return 0;
}

static PyObject *
give_lock(PyObject *lock, PyObject *const *Py_UNUSED(args), Py_ssize_t n_args)
{
    return fmp_no_args("get_lock", n_args) == 0 ? Py_NewRef(lock) : NULL;
}

/* Of the lock, not of the object as the method below. The interpreter makes no object to call it. */
static PyMethodDef get_lock_function = {"get_lock", (PyCFunction)(void (*)(void))give_lock,
                                        METH_FASTCALL, GET_LOCK_DOC};

PyObject *
fmp_synced_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *obj, *lock, *native;
    int code;
    if (!PyArg_ParseTuple(args, "OOOC", &obj, &lock, &native, &code)) {
        return NULL;
    }
    if (!fmp_lock_check(native)) {
        PyErr_SetString(PyExc_TypeError, "expected a fastmp._core Lock or RLock");
        return NULL;
    }
    struct fmp_synced *self = (struct fmp_synced *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->obj = Py_NewRef(obj);
    self->lock = Py_NewRef(lock);
    self->native = (struct fmp_lock_object *)Py_NewRef(native);
    self->glanced = self->native->recursive ? self->native->shm : NULL;
    self->state = fmp_state_of_type(type);
    self->value_name = PyUnicode_InternFromString("value");
    self->get_lock_name = PyUnicode_InternFromString("get_lock");
    self->get_lock = PyCFunction_New(&get_lock_function, lock);
    if (self->state == NULL || self->value_name == NULL || self->get_lock_name == NULL
        || self->get_lock == NULL || fmp_guard_bind(&self->guard, lock) < 0
        || find_memory(self, code) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* Made whole by __new__, whose arguments are not those of the class that Python sees. */
static int
synced_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

static int
synced_traverse(struct fmp_synced *self, visitproc visit, void *arg)
{
    Py_VISIT(self->obj);
    Py_VISIT(self->lock);
    Py_VISIT(self->get_lock);
    return fmp_guard_traverse(&self->guard, visit, arg);
}

/* Only what can be assigned: the rest stays whole for whoever still looks at the object. */
static int
synced_clear(struct fmp_synced *self)
{
    return fmp_guard_clear(&self->guard);
}

static void
synced_dealloc(struct fmp_synced *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)synced_clear(self);
    Py_CLEAR(self->obj);
    Py_CLEAR(self->lock);
    Py_CLEAR(self->native);
    Py_CLEAR(self->value_name);
    Py_CLEAR(self->get_lock_name);
    Py_CLEAR(self->get_lock);
    Py_CLEAR(self->last);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
synced_get_obj(struct fmp_synced *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->obj);
}

static PyObject *
synced_get_lock(struct fmp_synced *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->lock);
}

static PyMethodDef synced_methods[] = {
    {"get_obj", (PyCFunction)synced_get_obj, METH_NOARGS,
     "get_obj($self, /)\n--\n\nThe ctypes object on the same memory, without the lock."},
    {"get_lock", (PyCFunction)synced_get_lock, METH_NOARGS, GET_LOCK_DOC},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef synced_members[] = {
    {"_obj", T_OBJECT_EX, offsetof(struct fmp_synced, obj), READONLY, "The ctypes object."},
    {"_lock", T_OBJECT_EX, offsetof(struct fmp_synced, lock), READONLY, "The lock."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot synced_slots[] = {
    {Py_tp_doc, "A ctypes object in shared memory, and its lock."},
    {Py_tp_new, fmp_synced_new},
    {Py_tp_init, synced_init},
    {Py_tp_traverse, synced_traverse},
    {Py_tp_clear, synced_clear},
    {Py_tp_dealloc, synced_dealloc},
    {Py_tp_methods, synced_methods},
    {Py_tp_members, synced_members},
    {0, NULL},
};

static PyType_Spec synced_spec = {
    .name = "fastmp._core.Synced",
    .basicsize = sizeof(struct fmp_synced),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = synced_slots,
};

int
fmp_add_synced(PyObject *module)
{
    PyTypeObject *buffered = fmp_add_type(module, &buffered_spec, NULL);
    PyTypeObject *guard = buffered != NULL ? fmp_guard_type(module) : NULL;
    PyTypeObject *synced = guard != NULL ? fmp_add_type(module, &synced_spec, guard) : NULL;
    int rc = synced != NULL ? fmp_add_value(module, synced) : -1;
    if (rc == 0) {
        rc = fmp_add_array(module, synced);
    }
    Py_XDECREF(buffered);
    Py_XDECREF(guard);
    Py_XDECREF(synced);
    return rc;
}
