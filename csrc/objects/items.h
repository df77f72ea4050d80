/* items.h - a run of items of one plain C type in memory: to and from lists and buffers.
 *
 * Nothing here takes a lock; the caller holds what guards the memory.
 */
#ifndef FMP_OBJECTS_ITEMS_H
#define FMP_OBJECTS_ITEMS_H

#include <Python.h>
#include <stdbool.h>

#include "objects/typecodes.h"

struct fmp_items {
    const struct fmp_typecode *type;
    char *data;
    Py_ssize_t length; /* in items */
};

/* A slice of them, inside [0, length). */
struct fmp_range {
    Py_ssize_t start, step, length;
};

static inline char *
fmp_item_at(const struct fmp_items *items, Py_ssize_t i)
{
    return items->data + i * items->type->size;
}

/* A new list, or NULL with an exception. */
PyObject *fmp_items_list(const struct fmp_items *items, const struct fmp_range *range,
                         struct fmp_known_ints *known);

/* Stores item `done` and those after it of a list or tuple. Returns how many are stored then:
 * range->length, or less when the next one needs a conversion, or is gone. Never raises, runs no
 * Python. */
Py_ssize_t fmp_items_store(const struct fmp_items *items, const struct fmp_range *range,
                           Py_ssize_t done, PyObject *sequence);

/* Copies the memory of `buffer` if it is just what converting item by item would give and lies
 * apart. 1; 0: nothing was done; -1: the same, with an exception that is no Exception: from 3.12 on a
 * buffer may be Python's to give, and ^C comes there as anywhere. */
int fmp_items_copy(const struct fmp_items *items, const struct fmp_range *range, PyObject *buffer);

#endif
