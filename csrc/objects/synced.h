/* synced.h - what Value and Array have in common: a ctypes object, its memory, and its lock.
 *
 * Bound once, when made, and never changed: the object is of a plain ctypes type (or a plain array
 * of one), does not own its memory (so that ctypes.resize() cannot move it), and the lock is
 * _core.Lock or _core.RLock. For anything else fastmp.sharedctypes uses the stdlib's Python.
 */
#ifndef FMP_OBJECTS_SYNCED_H
#define FMP_OBJECTS_SYNCED_H

#include <Python.h>

#include "base/atomics.h"
#include "module.h"
#include "objects/guard.h"
#include "objects/items.h"
#include "objects/lock_access.h"

struct fmp_synced {
    struct fmp_guard guard; /* acquire, release and `with` are the lock's */
    struct fmp_state *state;
    PyObject *obj;                    /* the ctypes object; keeps the memory */
    PyObject *lock;                   /* fastmp.synchronize's, as get_lock() gives it */
    struct fmp_lock_object *native;   /* the one inside it */
    struct fmp_userlock_shm *glanced; /* its word, if a glance at it says enough; or NULL */
    struct fmp_items items;           /* the memory of obj; one item for a Value */
    PyObject *value_name;             /* "value", interned */
    PyObject *get_lock_name;          /* "get_lock", interned */
    PyObject *get_lock;               /* a function that gives the lock, bound to that: no circle */
    _Atomic bool other_get_lock;      /* a user has set the attribute: look it up */
    PyObject *last; /* of a Value: an exact int or float that was set here and not read; or NULL */
    uint64_t last_raw; /* and the item that it is; with the GIL only */
};

/* tp_new; the arguments are (obj, lock, the lock's native object, typecode). */
PyObject *fmp_synced_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* fmp_lock_leave() that keeps the exception which is set, unless the release raises. */
int fmp_synced_leave(struct fmp_synced *self);

/* obj.<name> and obj.<name> = value under the lock: ctypes does it, with its conversions and
 * errors. */
PyObject *fmp_synced_get(struct fmp_synced *self, const char *name);
int fmp_synced_set(struct fmp_synced *self, const char *name, PyObject *value);

/* Does it export a buffer that a lock guards? */
bool fmp_buffered_check(PyObject *object);

/* A hold of a few C statements: brief if the lock is free, else waited for. Each 0, or -1 with an
 * exception; what ends it keeps none that was set. */
struct fmp_synced_hold {
    enum fmp_brief brief;
    uint64_t tag;
};
int fmp_synced_begin(struct fmp_synced *self, struct fmp_synced_hold *hold);
int fmp_synced_end(struct fmp_synced *self, const struct fmp_synced_hold *hold);

/* One item, under the lock, whoever has it. 0, or -1 with an exception when it had to be waited for
 * and that failed. */
int fmp_synced_load(struct fmp_synced *self, const void *at, uint64_t *raw);
int fmp_synced_store(struct fmp_synced *self, void *at, uint64_t raw);

/* The same as an object, or NULL. */
PyObject *fmp_synced_box(struct fmp_synced *self, const void *at);

/* One item at a glance. False: the lock is not free, or not one of which a glance says enough. */
static inline bool
fmp_synced_glance(struct fmp_synced *self, const void *at, uint64_t *raw)
{
    uint64_t holds;
    if (self->glanced == NULL || !fmp_userlock_glance(self->glanced, &holds)) {
        return false;
    }
    *raw = fmp_item_load(at, self->items.type->size);
    return fmp_userlock_glanced(self->glanced, holds);
}

static inline PyObject *
fmp_synced_get_item(struct fmp_synced *self, const void *at)
{
    uint64_t raw;
    return fmp_synced_glance(self, at, &raw) ? self->items.type->box(raw)
                                             : fmp_synced_box(self, at);
}

/* The hold is brief if it can be had without a call, which is why a process that has yet to find out
 * who it is takes the long way. */
static inline int
fmp_synced_set_item(struct fmp_synced *self, void *at, uint64_t raw)
{
    fmp_who me = fmp_who_if_known();
    uint64_t tag = fmp_userlock_tag_of(me, true);
    if (me == 0 || !fmp_lock_brief_take(self->native, tag)) {
        return fmp_synced_store(self, at, raw);
    }
    fmp_item_store(at, raw, self->items.type->size);
    fmp_lock_brief_give(self->native, tag);
    return 0;
}

#endif
