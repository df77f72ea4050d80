/* known.h - the shared memory that this process has open, one handle for each.
 *
 * The same memory may be attached often: both ends of a pipe lie in one process, or one message
 * brings several objects of one segment. Each handle begins with a struct fmp_known; an attach that
 * finds one of the same memory (by the descriptor it owns, or by the random id in the header) takes
 * that and lets go of its own.
 */
#ifndef FMP_ARENA_KNOWN_H
#define FMP_ARENA_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/layout.h"

struct fmp_known {
    const struct fmp_header_shm
        *header;   /* by the owner, before the first call, like the next two */
    uint32_t kind; /* of handle: only the like are found */
    int fd;
    uint32_t references; /* these three by known.c */
    struct fmp_known *next;
    struct fmp_known **at; /* what points to this one */
};

/* The one that owns the descriptor `fd`, with a reference more, or NULL. */
struct fmp_known *fmp_known_by_fd(uint32_t kind, int fd);

/* The one of the same memory, with a reference more; or `fresh` itself, which is known from now on,
 * with one reference. */
struct fmp_known *fmp_known_or_add(struct fmp_known *fresh);

void fmp_known_ref(struct fmp_known *k);
/* True for the last reference: it is known no more, and the caller's to end. */
bool fmp_known_unref(struct fmp_known *k);

#endif
