/* typecodes.h - the plain C types of Value and Array: what one item in memory is in Python.
 *
 * An item passes through a `raw` word (its bytes first), so that memory is touched by one aligned
 * load or store however long making or reading the Python object takes.
 */
#ifndef FMP_OBJECTS_TYPECODES_H
#define FMP_OBJECTS_TYPECODES_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "bridge/args.h"
#include "objects/known_ints.h"

/* How an object becomes an item. */
enum fmp_unboxed {
    FMP_NOT_UNBOXED, /* it is not of a type that needs no conversion: ctypes has those, and errors */
    FMP_UNBOXED,
    FMP_UNBOXED_SAME, /* and what is read then is equal to it, and of its type */
};

struct fmp_typecode {
    char code;          /* ctypes' _type_ */
    char kind;          /* 'i' signed, 'u' unsigned, 'f' float, 'c' char, 'w' wchar_t, '?' bool */
    uint8_t size;       /* 1, 2, 4 or 8 */
    const char *format; /* for the buffer protocol: native, as memoryview and numpy know it */
    PyObject *(*box)(uint64_t raw);
    /* Boxes the items at `at`, `at` + stride, ... into a new list's places. 0, or -1. */
    int (*fill)(const char *at, Py_ssize_t stride, PyObject *list, struct fmp_known_ints *known);
    /* See fmp_unbox(), which calls it for all but small ints. */
    enum fmp_unboxed (*unbox)(PyObject *value, uint64_t *raw);
};

/* NULL: no plain type. */
const struct fmp_typecode *fmp_typecode_find(int code);

/* The one for a buffer's item of this format ("<i", "i", NULL for bytes) and size, or NULL. */
const struct fmp_typecode *fmp_typecode_of_format(const char *format, Py_ssize_t size);

/* What counters hold takes no call: an int of one digit, for an item that has room for any such, which
 * is read as it was written. False: anything else. */
static inline bool
fmp_unbox_small(const struct fmp_typecode *type, PyObject *value, uint64_t *raw)
{
    Py_ssize_t small;
    if (type->kind != 'i' || type->size < sizeof(int32_t) || !PyLong_CheckExact(value)
        || !fmp_small_int(value, &small)) {
        return false;
    }
    *raw = type->size == sizeof(int32_t) ? (uint32_t)small : (uint64_t)small;
    return true;
}

/* What an object is as an item. Never raises, never runs Python. */
static inline enum fmp_unboxed
fmp_unbox(const struct fmp_typecode *type, PyObject *value, uint64_t *raw)
{
    return fmp_unbox_small(type, value, raw) ? FMP_UNBOXED_SAME : type->unbox(value, raw);
}

static inline uint64_t
fmp_item_load(const void *at, uint8_t size)
{
    uint64_t raw = 0;
    if (size == 8) {
        memcpy(&raw, at, 8);
    }
    else if (size == 4) {
        memcpy(&raw, at, 4);
    }
    else if (size == 2) {
        memcpy(&raw, at, 2);
    }
    else {
        memcpy(&raw, at, 1);
    }
    return raw;
}

static inline void
fmp_item_store(void *at, uint64_t raw, uint8_t size)
{
    if (size == 8) {
        memcpy(at, &raw, 8);
    }
    else if (size == 4) {
        memcpy(at, &raw, 4);
    }
    else if (size == 2) {
        memcpy(at, &raw, 2);
    }
    else {
        memcpy(at, &raw, 1);
    }
}

#endif
