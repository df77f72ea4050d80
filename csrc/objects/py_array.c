/* py_array.c - _core.Array and _core.CharArray: items and slices of a plain ctypes array, under
 * its lock, in C.
 *
 * Owns nothing beyond synced.h. One item is written by one store; of a slice, whoever is killed
 * inside leaves a first part written, and a lock that the next waiter recovers. What needs a
 * conversion or ends in an error is left to the ctypes object, under the same lock.
 */
#include "base/hot.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "module.h"
#include "objects/synced.h"

#include <structmember.h>

/* Does the index name an item? Sets *i to 0 .. length-1. */
static inline bool
is_within(struct fmp_synced *self, Py_ssize_t index, Py_ssize_t *i)
{
    *i = index < 0 ? index + self->items.length : index;
    return *i >= 0 && *i < self->items.length;
}

/* Is the key an int that names an item? Never raises. */
static bool
names_item(struct fmp_synced *self, PyObject *key, Py_ssize_t *i)
{
    if (!PyLong_CheckExact(key)) {
        return false;
    }
    int overflow;
    Py_ssize_t index = PyLong_AsLongAndOverflow(key, &overflow);
    return overflow == 0 && is_within(self, index, i);
}

/* The same without a call; false says only that one is needed. */
static inline bool
names_item_at_once(struct fmp_synced *self, PyObject *key, Py_ssize_t *i)
{
    Py_ssize_t index;
    return PyLong_CheckExact(key) && fmp_small_int(key, &index) && is_within(self, index, i);
}

static inline PyObject *
get_item(struct fmp_synced *self, Py_ssize_t i)
{
    return fmp_synced_get_item(self, fmp_item_at(&self->items, i));
}

/* --- slices ----------------------------------------------------------------------------------- */

static int
resolve_slice(struct fmp_synced *self, PyObject *slice, struct fmp_range *range)
{
    Py_ssize_t stop;
    if (PySlice_Unpack(slice, &range->start, &stop, &range->step) < 0) {
        return -1;
    }
    range->length = PySlice_AdjustIndices(self->items.length, &range->start, &stop, range->step);
    return 0;
}

static PyObject *
get_slice(struct fmp_synced *self, PyObject *slice)
{
    struct fmp_range range;
    if (resolve_slice(self, slice, &range) < 0 || fmp_lock_enter(self->native) < 0) {
        return NULL;
    }
    PyObject *list = fmp_items_list(&self->items, &range, &self->state->known_ints);
    if (fmp_synced_leave(self) < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* Items that need a conversion are given to ctypes one by one. That may run Python, which may
 * shorten the list. */
static int
store_sequence(struct fmp_synced *self, const struct fmp_range *range, PyObject *sequence)
{
    for (Py_ssize_t j = 0;; j++) {
        j = fmp_items_store(&self->items, range, j, sequence);
        if (j == range->length) {
            return 0;
        }
        PyObject *item = PySequence_GetItem(sequence, j);
        int rc = item ? PySequence_SetItem(self->obj, range->start + j * range->step, item) : -1;
        Py_XDECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
}

static int
set_slice(struct fmp_synced *self, PyObject *slice, PyObject *value)
{
    struct fmp_range range;
    if (resolve_slice(self, slice, &range) < 0 || fmp_lock_enter(self->native) < 0) {
        return -1;
    }
    int rc = 0;
    if ((PyList_CheckExact(value) || PyTuple_CheckExact(value))
        && PySequence_Fast_GET_SIZE(value) == range.length) {
        rc = store_sequence(self, &range, value);
    }
    /* What a lock guards is read item by item, as each of its reads takes that lock. */
    else {
        int copied = fmp_buffered_check(value) ? 0 : fmp_items_copy(&self->items, &range, value);
        rc = copied == 0 ? PyObject_SetItem(self->obj, slice, value) : copied < 0 ? -1 : 0;
    }
    return fmp_synced_leave(self) < 0 ? -1 : rc;
}

/* --- the mapping protocol --------------------------------------------------------------------- */

static Py_ssize_t
array_length(struct fmp_synced *self)
{
    return self->items.length;
}

static FMP_APART PyObject *
get_any(struct fmp_synced *self, PyObject *key)
{
    Py_ssize_t i;
    if (names_item(self, key, &i)) {
        return get_item(self, i);
    }
    /* A slice of characters is bytes or str. */
    if (PySlice_Check(key) && self->items.type->kind != 'c' && self->items.type->kind != 'w') {
        return get_slice(self, key);
    }
    if (fmp_lock_enter(self->native) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_GetItem(self->obj, key);
    if (fmp_synced_leave(self) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
array_subscript(struct fmp_synced *self, PyObject *key)
{
    Py_ssize_t i;
    return names_item_at_once(self, key, &i) ? get_item(self, i) : get_any(self, key);
}

static FMP_APART int
set_any(struct fmp_synced *self, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "__delitem__"); /* as the stdlib's class lacks it */
        return -1;
    }
    Py_ssize_t i;
    uint64_t raw;
    if (names_item(self, key, &i) && fmp_unbox(self->items.type, value, &raw)) {
        return fmp_synced_set_item(self, fmp_item_at(&self->items, i), raw);
    }
    if (PySlice_Check(key)) {
        return set_slice(self, key, value);
    }
    if (fmp_lock_enter(self->native) < 0) {
        return -1;
    }
    int rc = PyObject_SetItem(self->obj, key, value);
    return fmp_synced_leave(self) < 0 ? -1 : rc;
}

static int
array_ass_subscript(struct fmp_synced *self, PyObject *key, PyObject *value)
{
    Py_ssize_t i;
    uint64_t raw;
    if (value == NULL || !names_item_at_once(self, key, &i)
        || !fmp_unbox_small(self->items.type, value, &raw)) {
        return set_any(self, key, value);
    }
    return fmp_synced_set_item(self, fmp_item_at(&self->items, i), raw);
}

/* --- iteration: like a sequence's, the lock is taken for each item ------------------------------ */

typedef struct {
    PyObject_HEAD
    struct fmp_synced *array; /* NULL at the end */
    Py_ssize_t next;
} IteratorObject;

static PyObject *
array_iter(struct fmp_synced *self)
{
    IteratorObject *it = PyObject_GC_New(IteratorObject, self->state->array_iterator);
    if (it != NULL) {
        it->array = (struct fmp_synced *)Py_NewRef((PyObject *)self);
        it->next = 0;
        PyObject_GC_Track(it);
    }
    return (PyObject *)it;
}

static PyObject *
iterator_next(IteratorObject *it)
{
    FMP_CRITICAL(it);
    if (it->array == NULL) {
        return NULL;
    }
    if (it->next >= it->array->items.length) {
        Py_CLEAR(it->array);
        return NULL;
    }
    /* Of our own: while we wait for the lock, another thread may come to the end. */
    struct fmp_synced *array = (struct fmp_synced *)Py_NewRef((PyObject *)it->array);
    PyObject *item = get_item(array, it->next++);
    Py_DECREF(array);
    return item;
}

static PyObject *
iterator_length_hint(IteratorObject *it, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(it);
    return PyLong_FromSsize_t(it->array != NULL ? it->array->items.length - it->next : 0);
}

static int
iterator_traverse(IteratorObject *it, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(it));
    Py_VISIT(it->array);
    return 0;
}

static void
iterator_dealloc(IteratorObject *it)
{
    PyTypeObject *type = Py_TYPE(it);
    PyObject_GC_UnTrack(it);
    Py_CLEAR(it->array);
    PyObject_GC_Del(it);
    Py_DECREF(type);
}

static PyMethodDef iterator_methods[] = {
    {"__length_hint__", (PyCFunction)iterator_length_hint, METH_NOARGS, "Items left."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_traverse, iterator_traverse}, {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_iter, PyObject_SelfIter},     {Py_tp_iternext, iterator_next},
    {Py_tp_methods, iterator_methods},   {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "fastmp._core.array_iterator",
    .basicsize = sizeof(IteratorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iterator_slots,
};

/* --- strings ---------------------------------------------------------------------------------- */

#define SHORT_STRING 256 /* is copied under a brief hold */

static PyObject *
short_bytes(struct fmp_synced *self, bool up_to_nul)
{
    char copy[SHORT_STRING];
    size_t size = (size_t)self->items.length;
    struct fmp_synced_hold hold;
    if (fmp_synced_begin(self, &hold) < 0) {
        return NULL;
    }
    memcpy(copy, self->items.data, size);
    if (fmp_synced_end(self, &hold) < 0) {
        return NULL;
    }
    return PyBytes_FromStringAndSize(copy, (Py_ssize_t)(up_to_nul ? strnlen(copy, size) : size));
}

static PyObject *
get_bytes(struct fmp_synced *self, bool up_to_nul)
{
    size_t size = (size_t)self->items.length;
    if (size <= SHORT_STRING) {
        return short_bytes(self, up_to_nul);
    }
    if (fmp_lock_enter(self->native) < 0) {
        return NULL;
    }
    if (up_to_nul) {
        size = strnlen(self->items.data, size);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(self->items.data, (Py_ssize_t)size);
    if (fmp_synced_leave(self) < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

static PyObject *
chars_get_value(struct fmp_synced *self, void *Py_UNUSED(closure))
{
    return get_bytes(self, true);
}

static PyObject *
chars_get_raw(struct fmp_synced *self, void *Py_UNUSED(closure))
{
    return get_bytes(self, false);
}

static int
chars_set_value(struct fmp_synced *self, PyObject *value, void *Py_UNUSED(closure))
{
    size_t room = (size_t)self->items.length;
    size_t size =
        value != NULL && PyBytes_CheckExact(value) ? (size_t)PyBytes_GET_SIZE(value) : room;
    uint64_t tag;
    enum fmp_brief brief = FMP_BRIEF_BUSY;
    if (size < room && size < SHORT_STRING) {
        brief = fmp_lock_brief_begin(self->native, &tag);
    }
    if (brief == FMP_BRIEF_BUSY) {
        return fmp_synced_set(self, "value", value);
    }
    memcpy(self->items.data, PyBytes_AS_STRING(value), size + 1); /* with its NUL */
    fmp_lock_brief_end(self->native, brief, tag);
    return 0;
}

static int
chars_set_raw(struct fmp_synced *self, PyObject *value, void *Py_UNUSED(closure))
{
    return fmp_synced_set(self, "raw", value);
}

static PyGetSetDef chars_getset[] = {
    {"value", (getter)chars_get_value, (setter)chars_set_value, "The bytes up to the first NUL.",
     NULL},
    {"raw", (getter)chars_get_raw, (setter)chars_set_raw, "All bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot chars_slots[] = {
    {Py_tp_doc, "A ctypes array of c_char in shared memory, and its lock."},
    {Py_tp_getset, chars_getset},
    {0, NULL},
};

static PyType_Spec chars_spec = {
    .name = "fastmp._core.CharArray",
    .basicsize = sizeof(struct fmp_synced),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* GC: inherited */
    .slots = chars_slots,
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, "A plain ctypes array in shared memory, and its lock."},
    {Py_tp_iter, array_iter},
    {Py_mp_length, array_length},
    {Py_mp_subscript, array_subscript},
    {Py_mp_ass_subscript, array_ass_subscript},
    {0, NULL},
};

static PyType_Spec array_spec = {
    .name = "fastmp._core.Array",
    .basicsize = sizeof(struct fmp_synced),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* GC: inherited */
    .slots = array_slots,
};

int
fmp_add_array(PyObject *module, PyTypeObject *synced)
{
    struct fmp_state *state = fmp_state_of(module);
    PyObject *iterator = PyType_FromModuleAndSpec(module, &iterator_spec, NULL);
    state->array_iterator = (PyTypeObject *)iterator;
    PyTypeObject *array = iterator != NULL ? fmp_add_type(module, &array_spec, synced) : NULL;
    PyTypeObject *chars = array != NULL ? fmp_add_type(module, &chars_spec, array) : NULL;
    Py_XDECREF(array);
    Py_XDECREF(chars);
    return chars != NULL ? 0 : -1;
}
