/* layout.h - what all shared memory of fastmp begins with, and the sizes it is laid out by.
 *
 * A header is written once by the creator, before anybody else can map the memory, and only read
 * afterwards. Everybody who maps memory calls fmp_header_check() first: a foreign or newer layout
 * is refused instead of being misread.
 */
#ifndef FMP_BASE_LAYOUT_H
#define FMP_BASE_LAYOUT_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FMP_CACHE_LINE 64
#define FMP_PAGE 4096
#define FMP_MAGIC UINT64_C(0x31706d7473616600) /* "\0fastmp1", little-endian */
#define FMP_LAYOUT_VERSION 1

enum fmp_layout_kind {
    FMP_KIND_SLAB = 1,  /* arena/slab.c */
    FMP_KIND_BLOCK = 2, /* arena/slab.c, one large slot */
    FMP_KIND_RING = 3,  /* channel/ring.c */
};

struct fmp_header_shm {
    uint64_t magic;
    uint32_t version;
    uint32_t kind;
    uint64_t size;  /* bytes of the file when it was made */
    uint64_t id[2]; /* random: tells whether two descriptors are the same memory */
    uint64_t reserved[3];
};
_Static_assert(sizeof(struct fmp_header_shm) == FMP_CACHE_LINE, "one line");

static inline bool
fmp_header_check(const struct fmp_header_shm *h, uint32_t kind, uint64_t file_size)
{
    return h->magic == FMP_MAGIC && h->version == FMP_LAYOUT_VERSION && h->kind == kind
        && h->size <= file_size;
}

static inline size_t
fmp_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

#endif
