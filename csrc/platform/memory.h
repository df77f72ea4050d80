/* memory.h - anonymous shared memory: a memfd, mapped. The kernel frees it with its last user. */
#ifndef FMP_PLATFORM_MEMORY_H
#define FMP_PLATFORM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new memfd of `size` bytes, all of them reserved: touching them cannot fault for want of
 * memory. It can grow but never shrink (sealed, for good), so no peer can pull pages from under us. Returns
 * the descriptor (close-on-exec), or -errno: -ENOSPC or -ENOMEM on a full machine, -EFBIG under
 * RLIMIT_FSIZE, -EMFILE. */
int fmp_memory_create(size_t size);

/* Reserves bytes [offset, offset + length) of the file, growing it when needed. */
int fmp_memory_reserve(int fd, uint64_t offset, uint64_t length);

/* Writes to the file without mapping it; what it does not have yet is reserved by that. Upon failure
 * some of it may be, and written. */
int fmp_memory_fill(int fd, uint64_t offset, const void *data, size_t size);

/* Gives the pages of [offset, offset + length) back; they read as zero, and must be reserved
 * again before they are touched. */
void fmp_memory_release(int fd, uint64_t offset, uint64_t length);

/* Maps `length` bytes of the file from `offset`, shared, readable and writable. May be longer
 * than the file: then only what is within the file may be touched. */
int fmp_memory_map(int fd, uint64_t offset, size_t length, void **out);
void fmp_memory_unmap(void *address, size_t length);

/* Reads from the file without mapping it. FMP_CORRUPT: it ends before that. */
int fmp_memory_read(int fd, uint64_t offset, void *out, size_t size);

/* Size of the file in bytes, or -errno. */
int64_t fmp_memory_size(int fd);

/* The size of a file that another process made. FMP_CORRUPT when it could still be cut off under
 * our mapping: it is none of fmp_memory_create()'s. */
int fmp_memory_inspect(int fd, uint64_t *size);

/* Private memory that is about to be filled, whole: if it is large, the kernel may give it in huge
 * pages, which takes a fraction of the faults. */
void fmp_memory_prefer_huge(void *address, size_t length);

/* Makes a mapping's pages ready to be touched, all at once, which is faster than one by one.
 * FMP_CORRUPT, -ENOMEM: some are not there. */
int fmp_memory_warm(void *address, size_t length);

/* For who makes very many small objects, one after the other: while their allocator takes them from memory
 * that is new, at rising addresses, its pages come some at a time, in two thirds of the time that
 * their faults would take. Begins as {0}. */
#define FMP_AHEAD ((size_t)128 << 10) /* bytes at a time */
#define FMP_AHEAD_EVERY 2048 /* objects at least, so that it costs nothing where it is no use */
struct fmp_ahead {
    uintptr_t begin;  /* of what was made ready last */
    unsigned objects; /* since then */
};

void fmp_memory_look_ahead(struct fmp_ahead *a, const void *object);

/* After each object, with its address. */
static inline void
fmp_memory_ahead(struct fmp_ahead *a, const void *object)
{
    if (++a->objects >= FMP_AHEAD_EVERY && (uintptr_t)object - a->begin >= FMP_AHEAD) {
        fmp_memory_look_ahead(a, object);
    }
}

/* Is there a limit on the size of this process's files? Passing it would raise SIGXFSZ. */
bool fmp_memory_is_limited(void);

/* Fills with random bytes; never fails (falls back on clock and pid). */
void fmp_memory_random(void *out, size_t size);

#endif
