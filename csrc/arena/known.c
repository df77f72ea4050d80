/* known.c - this process's list of open shared memory; see known.h.
 *
 * Owns a process-local list under a process-local lock; the lock is held across fork so that the
 * child finds the list whole. A kill leaves nothing: no names, no counts across processes.
 */
#include "arena/known.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"

static struct fmp_known *first; /* reset after fork: stays valid, mappings are inherited */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* reset after fork */

static void
before_fork(void)
{
    pthread_mutex_lock(&list_lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&list_lock);
}

static void
after_fork_child(void)
{
    pthread_mutex_init(&list_lock, NULL);
}

__attribute__((constructor(201))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

struct fmp_known *
fmp_known_by_fd(uint32_t kind, int fd)
{
    pthread_mutex_lock(&list_lock);
    struct fmp_known *k = first;
    while (k != NULL && (k->kind != kind || k->fd != fd)) {
        k = k->next;
    }
    if (k != NULL) {
        k->references++;
    }
    pthread_mutex_unlock(&list_lock);
    return k;
}

static struct fmp_known *
find_same(const struct fmp_known *fresh)
{
    struct fmp_known *k = first;
    while (k != NULL
           && (k->kind != fresh->kind
               || memcmp(k->header->id, fresh->header->id, sizeof(fresh->header->id)) != 0)) {
        k = k->next;
    }
    return k;
}

static void
add(struct fmp_known *k)
{
    k->references = 0;
    k->next = first;
    k->at = &first;
    if (first != NULL) {
        first->at = &k->next;
    }
    first = k;
}

struct fmp_known *
fmp_known_or_add(struct fmp_known *fresh)
{
    pthread_mutex_lock(&list_lock);
    struct fmp_known *k = find_same(fresh);
    if (k == NULL) {
        k = fresh;
        add(k);
    }
    k->references++;
    pthread_mutex_unlock(&list_lock);
    return k;
}

void
fmp_known_ref(struct fmp_known *k)
{
    pthread_mutex_lock(&list_lock);
    k->references++;
    pthread_mutex_unlock(&list_lock);
}

bool
fmp_known_unref(struct fmp_known *k)
{
    pthread_mutex_lock(&list_lock);
    FMP_CHECK(k->references > 0);
    bool last = --k->references == 0;
    if (last) {
        *k->at = k->next;
        if (k->next != NULL) {
            k->next->at = k->at;
        }
    }
    pthread_mutex_unlock(&list_lock);
    return last;
}
