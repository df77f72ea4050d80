/* lock.h - what Condition needs of the native locks: to give one up whole, and to have it back. */
#ifndef FMP_OBJECTS_LOCK_H
#define FMP_OBJECTS_LOCK_H

#include <Python.h>
#include <stdbool.h>

#include "bridge/errors.h"

struct fmp_lock_hold {
    int count;
    bool scoped;
};

/* Whether the object is a _core.Lock or _core.RLock. */
bool fmp_lock_check(PyObject *object);

/* Whether this thread holds it. */
bool fmp_lock_is_mine(PyObject *lock);

/* Releases it, however often this thread has acquired it. 0, or -1 with an exception. */
int fmp_lock_put_down(PyObject *lock, struct fmp_lock_hold *hold);

/* Has it back as it was, waiting for as long as it takes. Exceptions (of signal handlers, or a
 * warning that the last holder died) are deferred. False when it was given up for that: not held. */
bool fmp_lock_take_up(PyObject *lock, const struct fmp_lock_hold *hold, struct fmp_deferred *d);

#endif
