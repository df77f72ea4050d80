/* items.c - runs of plain items; see items.h. Owns nothing. */
#include "objects/items.h"
#include "bridge/critical.h"

PyObject *
fmp_items_list(const struct fmp_items *items, const struct fmp_range *range,
               struct fmp_known_ints *known)
{
    PyObject *list = PyList_New(range->length);
    if (list == NULL) {
        return NULL;
    }
    const char *at = fmp_item_at(items, range->start);
    if (items->type->fill(at, range->step * items->type->size, list, known) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    return list;
}

Py_ssize_t
fmp_items_store(const struct fmp_items *items, const struct fmp_range *range, Py_ssize_t done,
                PyObject *sequence)
{
    FMP_CRITICAL(sequence);
    const struct fmp_typecode *type = items->type;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    PyObject **values = PySequence_Fast_ITEMS(sequence);
    for (; done < range->length && done < n; done++) {
        uint64_t raw;
        if (!fmp_unbox(type, values[done], &raw)) {
            break;
        }
        fmp_item_store(fmp_item_at(items, range->start + done * range->step), raw, type->size);
    }
    return done;
}

/* Would ctypes, converting item by item, come to the same bytes? */
static bool
same_bytes(const struct fmp_typecode *to, const struct fmp_typecode *from)
{
    if (from == NULL || from->size != to->size) {
        return false;
    }
    bool integers =
        (to->kind == 'i' || to->kind == 'u') && (from->kind == 'i' || from->kind == 'u');
    return integers || from->kind == to->kind || (to->kind == 'c' && from->code == 'B');
}

int
fmp_items_copy(const struct fmp_items *items, const struct fmp_range *range, PyObject *buffer)
{
    if (range->step != 1 || !PyObject_CheckBuffer(buffer)) {
        return 0;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_ND | PyBUF_FORMAT) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear(); /* not such a buffer, then */
        return 0;
    }
    const char *from = view.buf;
    bool fits = view.ndim == 1 && view.len == range->length * items->type->size
             && same_bytes(items->type, fmp_typecode_of_format(view.format, view.itemsize))
             && (from + view.len <= items->data || from >= fmp_item_at(items, items->length));
    if (fits && view.len > 0) {
        memcpy(fmp_item_at(items, range->start), from, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return fits;
}
