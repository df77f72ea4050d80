/* ring_table.c - rings by reference; see ring_table.h.
 *
 * Why one handle: objects that are sent to a spawned process in one message share the descriptors
 * behind them, and two handles that own one descriptor would close it under each other.
 *
 * Owns each ring until its last reference (arena/known.c). A kill leaves nothing.
 */
#include "channel/ring_table.h"

#include <errno.h>
#include <stdlib.h>

#include "arena/known.h"
#include "base/status.h"
#include "platform/fd.h"

struct entry {
    struct fmp_ring ring;   /* first: an entry is found from its ring */
    struct fmp_known known; /* and from this */
};

static struct entry *
entry_of(struct fmp_known *known)
{
    return (struct entry *)((char *)known - offsetof(struct entry, known));
}

static void
end(struct entry *e)
{
    fmp_ring_close(&e->ring);
    free(e);
}

/* Makes an open ring known, or ends it when it is already. */
static struct fmp_ring *
add(struct entry *fresh)
{
    fresh->known = (struct fmp_known){
        .header = &fresh->ring.shm->header, .kind = FMP_KIND_RING, .fd = fresh->ring.fd};
    struct entry *e = entry_of(fmp_known_or_add(&fresh->known));
    if (e != fresh) {
        end(fresh);
    }
    return &e->ring;
}

int
fmp_ring_table_create(uint32_t max_items, uint64_t max_bytes, struct fmp_ring **out)
{
    struct entry *fresh = calloc(1, sizeof(*fresh));
    int rc = fresh != NULL ? fmp_ring_create(&fresh->ring, max_items, max_bytes) : -ENOMEM;
    if (rc != FMP_OK) {
        free(fresh);
        return rc;
    }
    *out = add(fresh);
    return FMP_OK;
}

int
fmp_ring_table_attach(int fd, struct fmp_ring **out)
{
    struct fmp_known *known = fmp_known_by_fd(FMP_KIND_RING, fd);
    if (known != NULL) {
        *out = &entry_of(known)->ring;
        return FMP_OK;
    }
    struct entry *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL) {
        fmp_fd_close(fd);
        return -ENOMEM;
    }
    int rc = fmp_ring_attach(&fresh->ring, fd);
    if (rc != FMP_OK) {
        free(fresh);
        return rc;
    }
    *out = add(fresh);
    return FMP_OK;
}

void
fmp_ring_table_retain(struct fmp_ring *ring)
{
    if (ring != NULL) {
        fmp_known_ref(&((struct entry *)ring)->known);
    }
}

void
fmp_ring_table_release(struct fmp_ring *ring)
{
    struct entry *e = (struct entry *)ring;
    if (e != NULL && fmp_known_unref(&e->known)) {
        end(e);
    }
}
