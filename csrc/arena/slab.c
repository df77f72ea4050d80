/* slab.c - cutting slots from slab segments; see slab.h.
 *
 * Owns, per process: the open slab (the one being cut) and, for each size, a list of free slots
 * of it; both under one process-local lock, both forgotten in the child of a fork, which must not
 * cut from its parent's slab. Nothing about it lies in shared memory, so a kill leaves at most
 * unused bytes that go with the segment.
 */
#include "arena/slab.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "base/layout.h"
#include "base/status.h"
#include "platform/process.h"

#define SLAB_SIZE (64 * 1024)
#define LARGEST_SMALL (8 * 1024)
#define FREE_SIZES 4 /* free lists for slots of 1 .. 4 cache lines; larger ones are not reused */
#define FREE_SLOTS 32

struct free_list {
    size_t offset[FREE_SLOTS];
    uint32_t epoch[FREE_SLOTS];
    unsigned count;
};

struct open_slab {
    struct fmp_segment *segment; /* holds a reference of its own while open */
    bool inherited;              /* the parent's: to be dropped, not cut from */
    size_t used;
    struct free_list free[FREE_SIZES];
};

static struct open_slab slab;                                 /* reset after fork */
static pthread_mutex_t slab_lock = PTHREAD_MUTEX_INITIALIZER; /* reset after fork */

static void
before_fork(void)
{
    pthread_mutex_lock(&slab_lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&slab_lock);
}

static void
after_fork_child(void)
{
    pthread_mutex_init(&slab_lock, NULL);
    slab.inherited = true;
}

/* After segment.c's (lower priority first), so that prepare takes slab_lock before known_lock. */
__attribute__((constructor(202))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static struct free_list *
free_list_for(size_t size)
{
    size_t lines = size / FMP_CACHE_LINE;
    return lines >= 1 && lines <= FREE_SIZES ? &slab.free[lines - 1] : NULL;
}

/* A free slot of the open slab that no fork has copied, or 0. */
static size_t
take_free(size_t size)
{
    struct free_list *list = free_list_for(size);
    while (list != NULL && list->count > 0) {
        list->count--;
        if (list->epoch[list->count] == fmp_fork_epoch()) {
            return list->offset[list->count];
        }
    }
    return 0;
}

static int
open_new_slab(void)
{
    struct fmp_segment *fresh;
    int rc = fmp_segment_create(FMP_KIND_SLAB, SLAB_SIZE, &fresh);
    if (rc != FMP_OK) {
        return rc;
    }
    if (slab.segment != NULL) {
        fmp_segment_unref(slab.segment);
    }
    memset(&slab, 0, sizeof(slab));
    slab.segment = fresh;
    slab.used = sizeof(struct fmp_header_shm);
    return FMP_OK;
}

static int
alloc_small(size_t size, struct fmp_slot *out)
{
    size_t offset = slab.inherited ? 0 : take_free(size);
    if (offset == 0) {
        if (slab.segment == NULL || slab.inherited || slab.used + size > SLAB_SIZE) {
            int rc = open_new_slab();
            if (rc != FMP_OK) {
                return rc;
            }
        }
        offset = slab.used;
        slab.used += size;
    }
    FMP_CHECK(offset % FMP_CACHE_LINE == 0 && offset + size <= slab.used);
    fmp_segment_ref(slab.segment);
    out->segment = slab.segment;
    out->offset = offset;
    memset(fmp_slot_at(out), 0, size);
    return FMP_OK;
}

static int
alloc_large(size_t size, struct fmp_slot *out)
{
    out->offset = sizeof(struct fmp_header_shm);
    return fmp_segment_create(FMP_KIND_BLOCK, out->offset + size, &out->segment);
}

int
fmp_slot_alloc(size_t size, struct fmp_slot *out)
{
    if (size > SIZE_MAX / 2) {
        return -ENOMEM;
    }
    size = fmp_round_up(size > 0 ? size : 1, FMP_CACHE_LINE);
    *out = (struct fmp_slot){.size = size, .epoch = fmp_fork_epoch()};
    if (size > LARGEST_SMALL) {
        return alloc_large(size, out);
    }
    pthread_mutex_lock(&slab_lock);
    int rc = alloc_small(size, out);
    pthread_mutex_unlock(&slab_lock);
    return rc;
}

int
fmp_slot_attach(int fd, size_t offset, size_t size, struct fmp_slot *out)
{
    *out = (struct fmp_slot){
        .offset = offset, .size = size, .epoch = fmp_fork_epoch(), .shared = true};
    int rc = fmp_segment_attach(fd, &out->segment);
    if (rc != FMP_OK) {
        out->segment = NULL;
        return rc;
    }
    size_t whole = fmp_segment_size(out->segment);
    if (offset < sizeof(struct fmp_header_shm) || offset % FMP_CACHE_LINE != 0 || offset > whole
        || size > whole - offset) {
        fmp_segment_unref(out->segment);
        out->segment = NULL;
        return FMP_CORRUPT;
    }
    return FMP_OK;
}

int
fmp_slot_share(struct fmp_slot *slot)
{
    slot->shared = true;
    return fmp_segment_fd(slot->segment);
}

void
fmp_slot_free(struct fmp_slot *slot)
{
    if (slot->segment == NULL) {
        return;
    }
    pthread_mutex_lock(&slab_lock);
    struct free_list *list = free_list_for(slot->size);
    if (slot->segment == slab.segment && !slot->shared && slot->epoch == fmp_fork_epoch()
        && list != NULL && list->count < FREE_SLOTS) {
        list->offset[list->count] = slot->offset;
        list->epoch[list->count] = slot->epoch;
        list->count++;
    }
    pthread_mutex_unlock(&slab_lock);
    fmp_segment_unref(slot->segment);
    slot->segment = NULL;
}
