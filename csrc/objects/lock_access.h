/* lock_access.h - the struct behind _core.Lock and _core.RLock, and holds of it from C.
 *
 * For the objects that a lock guards (Value, Array). Who writes each field: py_lock.c.
 *
 * A *brief* hold spans a few C statements that keep the GIL, run no Python and allocate nothing.
 * No other thread of this process can look meanwhile (without a GIL it sees that the lock is held,
 * by nobody it knows, and waits), so owner and count stay unwritten and the hold is two atomics. It
 * is scoped: if the process is killed inside, the next waiter takes over.
 */
#ifndef FMP_OBJECTS_LOCK_ACCESS_H
#define FMP_OBJECTS_LOCK_ACCESS_H

#include <Python.h>
#include <stdbool.h>

#include "arena/slab.h"
#include "base/hot.h"
#include "bridge/critical.h"
#include "bridge/wait.h"
#include "platform/process.h"
#include "sync/userlock.h"

struct fmp_lock_object {
    PyObject_HEAD
    struct fmp_slot slot;
    struct fmp_userlock_shm *shm; /* in the slot */
    struct fmp_spin spin;
    bool recursive;
    bool robust;         /* as in shm: every hold is scoped */
    bool abandoned;      /* the current hold was taken over from a dead process */
    unsigned long owner; /* thread that holds it, while count > 0 */
    uint32_t generation; /* of forks, when it was acquired: a child holds nothing */
    int count;
    int64_t looked; /* when an acquire() that does not wait last looked for a dead holder */
};

static inline int
fmp_lock_count(const struct fmp_lock_object *l)
{
    return l->generation == fmp_fork_generation() ? l->count : 0;
}

static inline bool
fmp_lock_owned_by(const struct fmp_lock_object *l, unsigned long thread)
{
    return fmp_lock_count(l) > 0 && l->owner == thread;
}

/* What `with lock` does, waiting for as long as it takes. Each 0, or -1 with an exception. */
int fmp_lock_enter(struct fmp_lock_object *lock);
int fmp_lock_leave(struct fmp_lock_object *lock);

enum fmp_brief { FMP_BRIEF_BUSY, FMP_BRIEF_TAKEN, FMP_BRIEF_NESTED };

/* FMP_BRIEF_BUSY: not held; call fmp_lock_enter(). Else end it with the result. */
static inline bool
fmp_lock_brief_take(struct fmp_lock_object *l, uint64_t tag)
{
    uint64_t held;
    return !fmp_userlock_held(l->shm) && fmp_userlock_take(l->shm, tag, &held);
}

/* Whether it is this thread's already, and may be taken once more. */
static inline bool
fmp_lock_brief_nested(struct fmp_lock_object *l)
{
    FMP_CRITICAL(l);
    return l->recursive && fmp_lock_owned_by(l, fmp_thread_self());
}

static inline enum fmp_brief
fmp_lock_brief_begin(struct fmp_lock_object *l, uint64_t *tag)
{
    *tag = fmp_userlock_tag(true);
    return fmp_lock_brief_take(l, *tag) ? FMP_BRIEF_TAKEN
         : fmp_lock_brief_nested(l)     ? FMP_BRIEF_NESTED
                                        : FMP_BRIEF_BUSY;
}

static inline void
fmp_lock_brief_give(struct fmp_lock_object *l, uint64_t tag)
{
    struct fmp_userlock_shm *shm = l->shm;
    /* Not a plain exchange: if somebody released a Lock that was not theirs, the word may by now
     * say that another process holds it. */
    if (atomic_compare_exchange_strong(&shm->word, &tag, 0)) {
        fmp_wake(fmp_low_half(&shm->word), &shm->sleepers, 1);
    }
}

static inline void
fmp_lock_brief_end(struct fmp_lock_object *l, enum fmp_brief brief, uint64_t tag)
{
    if (brief == FMP_BRIEF_TAKEN) {
        fmp_lock_brief_give(l, tag);
    }
}

#endif
