/* py_value.c - _core.Value: `.value` of a plain ctypes object, under its lock, in C.
 *
 * Owns nothing beyond synced.h. The item is written by one store under the lock: whoever is
 * killed at any line leaves the old or the new value, and a lock that the next waiter recovers.
 */
#include "base/hot.h"
#include "module.h"
#include "objects/synced.h"

/* `value += 1` makes an int and frees the one before. As the new one is kept, it needs not be made again
 * to be read, if the item is what it was then; it is handed on then, so that the addition frees it. */
static inline void
keep(struct fmp_synced *self, uint64_t raw, PyObject *value)
{
#ifdef Py_GIL_DISABLED
    (void)self, (void)raw, (void)value;
#else
    self->last_raw = raw;
    Py_XSETREF(self->last, Py_NewRef(value));
#endif
}

static inline PyObject *
box(struct fmp_synced *self, uint64_t raw)
{
    PyObject *last = self->last;
    if (last == NULL || self->last_raw != raw) {
        return self->items.type->box(raw);
    }
    self->last = NULL;
    return last;
}

static FMP_APART PyObject *
get_under_lock(struct fmp_synced *self)
{
    uint64_t raw;
    return fmp_synced_load(self, self->items.data, &raw) == 0 ? box(self, raw) : NULL;
}

static PyObject *
value_get(struct fmp_synced *self, void *Py_UNUSED(closure))
{
    uint64_t raw;
    return fmp_synced_glance(self, self->items.data, &raw) ? box(self, raw) : get_under_lock(self);
}

static FMP_APART int
set_any(struct fmp_synced *self, PyObject *value)
{
    uint64_t raw;
    enum fmp_unboxed unboxed =
        value != NULL ? fmp_unbox(self->items.type, value, &raw) : FMP_NOT_UNBOXED;
    if (unboxed == FMP_NOT_UNBOXED) {
        return fmp_synced_set(self, "value", value);
    }
    if (unboxed == FMP_UNBOXED_SAME) {
        keep(self, raw, value);
    }
    return fmp_synced_set_item(self, self->items.data, raw);
}

static int
value_set(struct fmp_synced *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t raw;
    if (self->last != NULL || value == NULL || !fmp_unbox_small(self->items.type, value, &raw)) {
        return set_any(self, value);
    }
    keep(self, raw, value);
    return fmp_synced_set_item(self, self->items.data, raw);
}

/* `value` by its interned name, before the general lookup, which would find the descriptor below and
 * cost more than the lock and the item together. get_lock() too: a type with a lookup of its own is
 * one whose methods the interpreter does not call without binding them first. */
static PyObject *
value_getattro(PyObject *object, PyObject *name)
{
    struct fmp_synced *self = (struct fmp_synced *)object;
    if (name == self->value_name) {
        return value_get(self, NULL);
    }
    if (name == self->get_lock_name
        && !atomic_load_explicit(&self->other_get_lock, memory_order_relaxed)) {
        return Py_NewRef(self->get_lock);
    }
    return PyObject_GenericGetAttr(object, name);
}

static int
value_setattro(PyObject *object, PyObject *name, PyObject *value)
{
    struct fmp_synced *self = (struct fmp_synced *)object;
    if (name == self->value_name) {
        return value_set(self, value, NULL);
    }
    if (name == self->get_lock_name) {
        atomic_store_explicit(&self->other_get_lock, true, memory_order_relaxed);
    }
    return PyObject_GenericSetAttr(object, name, value);
}

static PyObject *
value_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *self = fmp_synced_new(type, args, kwargs);
    if (self != NULL && ((struct fmp_synced *)self)->items.length != 1) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_TypeError, "a Value has one item");
        return NULL;
    }
    return self;
}

static PyGetSetDef value_getset[] = {
    {"value", (getter)value_get, (setter)value_set, "The value, read and written with the lock.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot value_slots[] = {
    {Py_tp_doc, "A plain ctypes object in shared memory, and its lock."},
    {Py_tp_new, value_new},
    {Py_tp_getset, value_getset},
    {Py_tp_getattro, value_getattro},
    {Py_tp_setattro, value_setattro},
    {0, NULL},
};

static PyType_Spec value_spec = {
    .name = "fastmp._core.Value",
    .basicsize = sizeof(struct fmp_synced),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* GC: inherited */
    .slots = value_slots,
};

int
fmp_add_value(PyObject *module, PyTypeObject *synced)
{
    return fmp_publish_type(module, &value_spec, synced);
}
