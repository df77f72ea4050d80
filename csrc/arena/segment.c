/* segment.c - mapping whole segments; see segment.h.
 *
 * Owns the mapping and the descriptor of each segment until its last reference (known.c). A kill
 * leaves nothing: no names, no counts across processes.
 */
#include "arena/segment.h"

#include <errno.h>
#include <stdlib.h>

#include "arena/known.h"
#include "base/layout.h"
#include "base/status.h"
#include "platform/fd.h"
#include "platform/memory.h"

struct fmp_segment {
    struct fmp_known known; /* first: a segment is found from it */
    void *base;
    size_t size;
};

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
    s->known = (struct fmp_known){.header = s->base, .kind = FMP_KIND_SLAB, .fd = fd};
    *out = s;
    return FMP_OK;
}

static void
unmap_segment(struct fmp_segment *s)
{
    fmp_memory_unmap(s->base, s->size);
    fmp_fd_close(s->known.fd);
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
        fmp_fd_close(fd);
        return rc;
    }
    struct fmp_header_shm *h = s->base;
    *h = (struct fmp_header_shm){
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = kind, .size = size};
    fmp_memory_random(h->id, sizeof(h->id));
    fmp_known_or_add(&s->known);
    *out = s;
    return FMP_OK;
}

static int
map_foreign(int fd, struct fmp_segment **out)
{
    uint64_t size = 0;
    int rc = fmp_memory_inspect(fd, &size);
    if (rc == FMP_OK) {
        rc = size < FMP_PAGE ? FMP_CORRUPT : map_segment(fd, size, out);
    }
    if (rc != FMP_OK) {
        fmp_fd_close(fd);
        return rc;
    }
    const struct fmp_header_shm *h = (*out)->known.header;
    if (!fmp_header_check(h, FMP_KIND_SLAB, size) && !fmp_header_check(h, FMP_KIND_BLOCK, size)) {
        unmap_segment(*out);
        return FMP_CORRUPT;
    }
    return FMP_OK;
}

int
fmp_segment_attach(int fd, struct fmp_segment **out)
{
    *out = (struct fmp_segment *)fmp_known_by_fd(FMP_KIND_SLAB, fd);
    if (*out != NULL) {
        return FMP_OK;
    }
    struct fmp_segment *fresh;
    int rc = map_foreign(fd, &fresh);
    if (rc != FMP_OK) {
        return rc;
    }
    *out = (struct fmp_segment *)fmp_known_or_add(&fresh->known);
    if (*out != fresh) {
        unmap_segment(fresh);
    }
    return FMP_OK;
}

void
fmp_segment_ref(struct fmp_segment *s)
{
    fmp_known_ref(&s->known);
}

void
fmp_segment_unref(struct fmp_segment *s)
{
    if (fmp_known_unref(&s->known)) {
        unmap_segment(s);
    }
}

int
fmp_segment_fd(const struct fmp_segment *s)
{
    return s->known.fd;
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
