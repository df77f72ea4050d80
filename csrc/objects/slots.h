/* slots.h - what every object that lies in a shared slot has in common: how it is passed on.
 *
 * An object is handed to a spawned process as (fd, offset, size): share() gives the three, attach()
 * takes them. Python sends the descriptor (fastmp/_handles.py).
 */
#ifndef FMP_OBJECTS_SLOTS_H
#define FMP_OBJECTS_SLOTS_H

#include <Python.h>
#include <stdbool.h>

#include "arena/slab.h"
#include "base/status.h"
#include "bridge/errors.h"
#include "platform/fd.h"

/* (fd, offset, size), or NULL. */
static inline PyObject *
fmp_slot_as_tuple(struct fmp_slot *slot)
{
    int fd = fmp_slot_share(slot);
    return Py_BuildValue("(inn)", fd, (Py_ssize_t)slot->offset, (Py_ssize_t)slot->size);
}

/* Attaches the slot that a tuple (fd, offset, size) names; it must have at least `size_needed`
 * bytes. 0, or -1 with an exception. Takes the descriptor over. */
static inline int
fmp_slot_from_tuple(PyObject *where, size_t size_needed, struct fmp_slot *slot)
{
    int fd;
    Py_ssize_t offset, size;
    if (!PyTuple_Check(where)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple (fd, offset, size)");
        return -1;
    }
    if (!PyArg_ParseTuple(where, "inn;expected (fd, offset, size)", &fd, &offset, &size)) {
        return -1;
    }
    int rc = FMP_CORRUPT;
    if (offset >= 0 && size >= 0 && (size_t)size >= size_needed) {
        rc = fmp_slot_attach(fd, (size_t)offset, (size_t)size, slot);
    }
    else {
        fmp_fd_close(fd);
    }
    if (rc != FMP_OK) {
        fmp_raise(rc, "attach to a shared object");
        return -1;
    }
    return 0;
}

/* An object that already lies in a slot moves to another. What waits in the old one, in another
 * thread, goes on looking at it: then its memory stays for as long as the process. */
static inline void
fmp_slot_replace(struct fmp_slot *old, const struct fmp_slot *fresh, bool in_use)
{
    if (!in_use) {
        fmp_slot_free(old);
    }
    *old = *fresh;
}

#endif
