/* mutex.h - the lock inside a shared structure: short sections of C, never held while Python runs.
 *
 * A robust process-shared pthread mutex. When its owner is killed inside, the next one gets it
 * together with FMP_OWNER_DIED and repairs what the section protects and wakes everybody, then
 * goes on. A kill during the repair gives the next one FMP_OWNER_DIED again.
 *
 * glibc's robust mutex can strand one waiter after an unlucky SIGKILL, so a wait for it is always
 * timed and repeated.
 *
 * A mutex that was damaged while nobody held it is found out, or is busy for ever. One that is
 * damaged while we hold it is beyond that: the C library links those it holds by pointers that lie
 * in them, and believes them.
 */
#ifndef FMP_SYNC_MUTEX_H
#define FMP_SYNC_MUTEX_H

#include <pthread.h>
#include <stdint.h>

struct fmp_mutex_shm {
    pthread_mutex_t mutex;
};

int fmp_mutex_init(struct fmp_mutex_shm *m);

/* FMP_OK or FMP_OWNER_DIED: held now. FMP_AGAIN: another holds it and `budget_ns` passed (0: a
 * brief spin only). FMP_CORRUPT, -errno: the mutex is unusable. */
int fmp_mutex_lock(struct fmp_mutex_shm *m, int64_t budget_ns);

void fmp_mutex_unlock(struct fmp_mutex_shm *m);

#endif
