/* mutex.c - robust mutex with a bounded wait; see mutex.h.
 *
 * Owns nothing; the mutex's words belong to the C library and the kernel's robust list.
 */
#include "sync/mutex.h"

#include <errno.h>
#include <stdbool.h>

#include "base/atomics.h"
#include "base/check.h"
#include "base/status.h"
#include "platform/clock.h"

#define SPINS 100

/* ThreadSanitizer knows pthread_mutex_timedlock() only. */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 30) && !defined(FMP_TSAN)
#define HAS_CLOCKLOCK 1
#endif

/* The C library believes the mutex what kind it is: it aborts over some, and waits for ever for
 * others. So whatever is not what fmp_mutex_init() makes is not given to it. */
static inline bool
is_ours(const struct fmp_mutex_shm *m)
{
#ifdef __GLIBC__
    enum { ROBUST = 16, SHARED = 128 };
    return *(const volatile int *)&m->mutex.__data.__kind == (ROBUST | SHARED);
#else
    (void)m;
    return true;
#endif
}

int
fmp_mutex_init(struct fmp_mutex_shm *m)
{
    pthread_mutexattr_t attr;
    int rc = pthread_mutexattr_init(&attr);
    if (rc != 0) {
        return -rc;
    }
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    rc = pthread_mutex_init(&m->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    FMP_CHECK(rc != 0 || is_ours(m));
    return -rc;
}

static int
taken(struct fmp_mutex_shm *m, int rc)
{
    if (rc == EOWNERDEAD) {
        /* At once, not after the repair: a repairer that dies leaves EOWNERDEAD again. */
        pthread_mutex_consistent(&m->mutex);
        return FMP_OWNER_DIED;
    }
    return rc == 0 ? FMP_OK : -rc;
}

static int
timed_lock(struct fmp_mutex_shm *m, int64_t ns)
{
#ifdef HAS_CLOCKLOCK
    struct timespec until = fmp_timespec(fmp_now() + ns);
    return pthread_mutex_clocklock(&m->mutex, CLOCK_MONOTONIC, &until);
#else
    struct timespec wall; /* a clock that is set back only lengthens one slice */
    clock_gettime(CLOCK_REALTIME, &wall);
    struct timespec until = fmp_timespec((int64_t)wall.tv_sec * FMP_SECOND + wall.tv_nsec + ns);
    return pthread_mutex_timedlock(&m->mutex, &until);
#endif
}

int
fmp_mutex_lock(struct fmp_mutex_shm *m, int64_t budget_ns)
{
    if (!is_ours(m)) {
        return FMP_CORRUPT;
    }
    int rc = pthread_mutex_trylock(&m->mutex);
    if (rc != EBUSY) {
        return taken(m, rc);
    }
    for (int i = 0; i < SPINS; i++) {
        fmp_pause();
        rc = pthread_mutex_trylock(&m->mutex);
        if (rc != EBUSY) {
            return taken(m, rc);
        }
    }
    if (budget_ns > 0) {
        rc = timed_lock(m, budget_ns);
        if (rc != ETIMEDOUT) {
            return taken(m, rc);
        }
    }
    return FMP_AGAIN;
}

void
fmp_mutex_unlock(struct fmp_mutex_shm *m)
{
    pthread_mutex_unlock(&m->mutex);
}
