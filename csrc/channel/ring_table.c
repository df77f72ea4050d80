/* ring_table.c - this process's table of rings; see ring_table.h.
 *
 * Why one handle: objects that are sent to a spawned process in one message share the descriptors
 * behind them, and two handles that own one descriptor would close it under each other.
 *
 * Owns a process-local list under a process-local lock; the lock is held across fork so that the
 * child finds the list whole. A kill leaves nothing.
 */
#include "channel/ring_table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

struct entry {
    struct fmp_ring ring; /* first: an entry is found from its ring */
    uint32_t references;  /* under known_lock */
    struct entry *next;
};

static struct entry *known; /* reset after fork: stays valid, mappings are inherited */
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER; /* reset after fork */

static void
before_fork(void)
{
    pthread_mutex_lock(&known_lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&known_lock);
}

static void
after_fork_child(void)
{
    pthread_mutex_init(&known_lock, NULL);
}

__attribute__((constructor(202))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static struct entry *
new_entry(void)
{
    struct entry *e = calloc(1, sizeof(*e));
    if (e != NULL) {
        e->references = 1;
    }
    return e;
}

/* Under known_lock. */
static void
add(struct entry *e)
{
    e->next = known;
    known = e;
}

static struct entry *
find(const struct fmp_header_shm *header)
{
    for (struct entry *e = known; e != NULL; e = e->next) {
        if (memcmp(e->ring.shm->header.id, header->id, sizeof(header->id)) == 0) {
            return e;
        }
    }
    return NULL;
}

int
fmp_ring_table_create(uint32_t max_items, uint64_t max_bytes, struct fmp_ring **out)
{
    struct entry *e = new_entry();
    if (e == NULL) {
        return -ENOMEM;
    }
    int rc = fmp_ring_create(&e->ring, max_items, max_bytes);
    if (rc != FMP_OK) {
        free(e);
        return rc;
    }
    pthread_mutex_lock(&known_lock);
    add(e);
    pthread_mutex_unlock(&known_lock);
    *out = &e->ring;
    return FMP_OK;
}

int
fmp_ring_table_attach(int fd, struct fmp_ring **out)
{
    struct entry *fresh = new_entry();
    if (fresh == NULL) {
        return -ENOMEM; /* `fd` may be a known ring's own: better left open than closed */
    }
    int rc = fmp_ring_attach(&fresh->ring, fd);
    if (rc != FMP_OK) {
        free(fresh);
        return rc;
    }
    pthread_mutex_lock(&known_lock);
    struct entry *same = find(&fresh->ring.shm->header);
    if (same != NULL) {
        same->references++;
    }
    else {
        add(fresh);
    }
    pthread_mutex_unlock(&known_lock);
    if (same == NULL) {
        *out = &fresh->ring;
        return FMP_OK;
    }
    if (same->ring.fd == fd) {
        fresh->ring.fd = -1; /* the known one's own: not to be closed */
    }
    fmp_ring_close(&fresh->ring);
    free(fresh);
    *out = &same->ring;
    return FMP_OK;
}

void
fmp_ring_table_retain(struct fmp_ring *ring)
{
    if (ring != NULL) {
        pthread_mutex_lock(&known_lock);
        ((struct entry *)ring)->references++;
        pthread_mutex_unlock(&known_lock);
    }
}

void
fmp_ring_table_release(struct fmp_ring *ring)
{
    struct entry *e = (struct entry *)ring;
    if (e == NULL) {
        return;
    }
    pthread_mutex_lock(&known_lock);
    bool last = --e->references == 0;
    if (last) {
        struct entry **at = &known;
        while (*at != e) {
            at = &(*at)->next;
        }
        *at = e->next;
    }
    pthread_mutex_unlock(&known_lock);
    if (last) {
        fmp_ring_close(&e->ring);
        free(e);
    }
}
