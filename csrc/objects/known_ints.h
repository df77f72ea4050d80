/* known_ints.h - ints that are made once: those beyond the interpreter's own small ones, up to 1024.
 *
 * Most of what a list of an array's items costs is making the ints, and freeing them again. The
 * interpreter keeps those up to 256 for ever; from 3.15 on, those up to 1024. So do we before: an int is
 * kept once an array's slice had it, 24 KiB for all of them. Owned by the module's state, so each
 * interpreter has its own; not used from 3.15 on, nor without a GIL, where two threads would fill the
 * same place.
 */
#ifndef FMP_OBJECTS_KNOWN_INTS_H
#define FMP_OBJECTS_KNOWN_INTS_H

#include <Python.h>
#include <stdint.h>

#include "objects/recent_ints.h"

#define FMP_FIRST_KNOWN_INT 257
#define FMP_KNOWN_INTS 768

struct fmp_known_ints {
    PyObject *ints[FMP_KNOWN_INTS]; /* or NULL: not asked for yet */
    struct fmp_recent_int *recent;  /* and of those beyond; NULL: none yet */
};

/* The place of a number; at or beyond FMP_KNOWN_INTS: it has none. */
static inline uint64_t
fmp_known_int_place(uint64_t number)
{
#if defined(Py_GIL_DISABLED) || PY_VERSION_HEX >= 0x030f0000
    (void)number;
    return FMP_KNOWN_INTS;
#else
    return number - FMP_FIRST_KNOWN_INT;
#endif
}

/* A new reference to the int at a place, or NULL with an exception. */
static inline PyObject *
fmp_known_int(struct fmp_known_ints *known, uint64_t place)
{
    PyObject **at = &known->ints[place];
    if (*at == NULL) {
        *at = PyLong_FromLong((long)place + FMP_FIRST_KNOWN_INT);
    }
    return Py_XNewRef(*at);
}

static inline void
fmp_known_ints_clear(struct fmp_known_ints *known)
{
    for (int i = 0; i < FMP_KNOWN_INTS; i++) {
        Py_CLEAR(known->ints[i]);
    }
    fmp_recent_ints_free(known->recent);
    known->recent = NULL;
}

#endif
