/* segment.c - this process's table of mapped segments; see segment.h.
 *
 * Owns a process-local list under a process-local lock; the lock is held across fork so that the
 * child finds the list whole. A kill leaves nothing: no names, no counts across processes.
 */
#include "arena/segment.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/layout.h"
#include "base/status.h"
#include "platform/memory.h"

struct fmp_segment {
    void *base;
    size_t size;
    int fd;
    uint32_t references;
    struct fmp_segment *next;
};

static struct fmp_segment *known; /* reset after fork: stays valid, mappings are inherited */
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

__attribute__((constructor(201))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void
add_known(struct fmp_segment *s)
{
    s->next = known;
    known = s;
}

static void
remove_known(struct fmp_segment *s)
{
    struct fmp_segment **at = &known;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
}

static const struct fmp_header_shm *
header_of(const struct fmp_segment *s)
{
    return s->base;
}

/* Maps fd; on success the segment owns it. */
static int
map_segment(int fd, size_t size, struct fmp_segment **out)
{
    struct fmp_segment *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return -ENOMEM;
    }
    int rc = fmp_memory_map(fd, 0, size, &s->base);
    if (rc < 0) {
        free(s);
        return rc;
    }
    s->size = size;
    s->fd = fd;
    s->references = 1;
    *out = s;
    return FMP_OK;
}

static void
unmap_segment(struct fmp_segment *s)
{
    fmp_memory_unmap(s->base, s->size);
    fmp_memory_close(s->fd);
    free(s);
}

int
fmp_segment_create(uint32_t kind, size_t size, struct fmp_segment **out)
{
    size = fmp_round_up(size, FMP_PAGE);
    int fd = fmp_memory_create(size);
    if (fd < 0) {
        return fd;
    }
    struct fmp_segment *s;
    int rc = map_segment(fd, size, &s);
    if (rc != FMP_OK) {
        fmp_memory_close(fd);
        return rc;
    }
    struct fmp_header_shm *h = s->base;
    *h = (struct fmp_header_shm){
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = kind, .size = size};
    fmp_memory_random(h->id, sizeof(h->id));
    pthread_mutex_lock(&known_lock);
    add_known(s);
    pthread_mutex_unlock(&known_lock);
    *out = s;
    return FMP_OK;
}

static struct fmp_segment *
find_known(const uint64_t id[2])
{
    for (struct fmp_segment *s = known; s != NULL; s = s->next) {
        if (memcmp(header_of(s)->id, id, sizeof(header_of(s)->id)) == 0) {
            return s;
        }
    }
    return NULL;
}

static int
map_foreign(int fd, struct fmp_segment **out)
{
    int64_t size = fmp_memory_size(fd);
    if (size < 0) {
        return (int)size;
    }
    if (size < FMP_PAGE) {
        return FMP_CORRUPT;
    }
    int rc = map_segment(fd, (size_t)size, out);
    if (rc != FMP_OK) {
        return rc;
    }
    const struct fmp_header_shm *h = header_of(*out);
    if (!fmp_header_check(h, FMP_KIND_SLAB, (uint64_t)size)
        && !fmp_header_check(h, FMP_KIND_BLOCK, (uint64_t)size)) {
        fmp_memory_unmap((*out)->base, (*out)->size);
        free(*out);
        return FMP_CORRUPT;
    }
    return FMP_OK;
}

int
fmp_segment_attach(int fd, struct fmp_segment **out)
{
    struct fmp_segment *s = NULL;
    int rc = map_foreign(fd, &s);
    if (rc != FMP_OK) {
        fmp_memory_close(fd);
        return rc;
    }
    pthread_mutex_lock(&known_lock);
    struct fmp_segment *same = find_known(header_of(s)->id);
    if (same != NULL) {
        same->references++;
    }
    else {
        add_known(s);
    }
    pthread_mutex_unlock(&known_lock);
    if (same != NULL) {
        /* Objects of one message share one descriptor: the first has made it the segment's own. */
        fmp_memory_unmap(s->base, s->size);
        if (same->fd != fd) {
            fmp_memory_close(fd);
        }
        free(s);
    }
    *out = same != NULL ? same : s;
    return FMP_OK;
}

void
fmp_segment_ref(struct fmp_segment *s)
{
    pthread_mutex_lock(&known_lock);
    s->references++;
    pthread_mutex_unlock(&known_lock);
}

void
fmp_segment_unref(struct fmp_segment *s)
{
    pthread_mutex_lock(&known_lock);
    FMP_CHECK(s->references > 0);
    int last = --s->references == 0;
    if (last) {
        remove_known(s);
    }
    pthread_mutex_unlock(&known_lock);
    if (last) {
        unmap_segment(s);
    }
}

int
fmp_segment_fd(const struct fmp_segment *s)
{
    return s->fd;
}

size_t
fmp_segment_size(const struct fmp_segment *s)
{
    return s->size;
}

void *
fmp_segment_at(const struct fmp_segment *s, size_t offset)
{
    return (char *)s->base + offset;
}
