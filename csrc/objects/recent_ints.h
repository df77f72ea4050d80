/* recent_ints.h - ints that slices of arrays had lately, so that the next slice may have them again.
 *
 * An array that is read again and again, as counters are, mostly has what it had before, and to find an
 * int takes a fifth of the time of making and freeing it. The table has a place for each number, by its
 * low bits; who comes later has it. A slice that finds little looks no further, and leaves the table
 * alone: what changes all the time is not slowed down by it, what stays is learnt within a few slices.
 *
 * Owned by the module's state, so each interpreter has its own: 64 KiB, made when a first long slice is
 * taken, and up to 128 of ints. None without a GIL, where two threads would fill the same place.
 */
#ifndef FMP_OBJECTS_RECENT_INTS_H
#define FMP_OBJECTS_RECENT_INTS_H

#include <Python.h>
#include <stdint.h>

#define FMP_RECENT_BITS 12
#define FMP_RECENT_INTS (1 << FMP_RECENT_BITS)
#define FMP_RECENT_LENGTH 64 /* a shorter slice is not worth it */
#define FMP_RECENT_MISSES 32 /* so many are allowed, and three for each int that was found */

struct fmp_recent_int {
    int64_t number;
    PyObject *object; /* or NULL */
};

/* What one slice looks with. */
struct fmp_recent_look {
    struct fmp_recent_int *table; /* or NULL: it does not */
    Py_ssize_t found, missed;
};

/* `table` may be made, if there is memory. */
static inline struct fmp_recent_look
fmp_recent_look(struct fmp_recent_int **table, Py_ssize_t length)
{
#ifndef Py_GIL_DISABLED
    if (length >= FMP_RECENT_LENGTH && *table == NULL) {
        *table = PyMem_Calloc(FMP_RECENT_INTS, sizeof(**table));
    }
#endif
    return (struct fmp_recent_look){.table = length >= FMP_RECENT_LENGTH ? *table : NULL};
}

/* A new reference to that int, found or made, or NULL with an exception. `look` has a table. */
static inline PyObject *
fmp_recent_int(struct fmp_recent_look *look, int64_t number)
{
    uint64_t bits = (uint64_t)number;
    struct fmp_recent_int *at =
        &look->table[(bits ^ bits >> FMP_RECENT_BITS) & (FMP_RECENT_INTS - 1)];
    if (at->number == number && at->object != NULL) {
        look->found++;
        return Py_NewRef(at->object);
    }
    PyObject *object = PyLong_FromLongLong(number);
    if (object != NULL) {
        at->number = number;
        Py_XSETREF(at->object, Py_NewRef(object));
    }
    if (++look->missed > FMP_RECENT_MISSES + 3 * look->found) {
        look->table = NULL;
    }
    return object;
}

static inline void
fmp_recent_ints_free(struct fmp_recent_int *table)
{
    for (int i = 0; table != NULL && i < FMP_RECENT_INTS; i++) {
        Py_XDECREF(table[i].object);
    }
    PyMem_Free(table);
}

#endif
