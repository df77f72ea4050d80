/* lease.h - a private view of a piece of a memfd, and the kernel's word that it exists.
 *
 * As long as any process has the view mapped, fmp_lease_exists() says so, whatever became of the
 * process that took it. What is written to the view stays with its process.
 */
#ifndef FMP_PLATFORM_LEASE_H
#define FMP_PLATFORM_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fmp_lease {
    void *address; /* NULL: none */
    size_t length;
    unsigned kept; /* by lease.c: 0, or 1 + the number of the kept view that it is of */
    bool cold;     /* its pages have not been read in */
};

/* Maps [offset, offset + length) of the file behind `fd`, private and writable, under a lease on that
 * offset. -errno, or FMP_CORRUPT, when this kernel, this sandbox or this process's limits do not let
 * it, or -EAGAIN when views have been written over lately, so that a copy is better: then nothing is
 * mapped, and nothing is leased. */
int fmp_lease_take(int fd, uint64_t offset, size_t length, struct fmp_lease *out);

/* Reads the whole view's pages in, at one go. FMP_CORRUPT, -ENOMEM: some are not there. */
int fmp_lease_warm(struct fmp_lease *lease);

/* Gives up this process's view; the lease ends with the last. */
void fmp_lease_end(struct fmp_lease *lease);

/* This process has nothing to do: time to see which of the views whose leases have ended can be used
 * again, which takes about 7 us for each MiB, and to unmap the others. */
void fmp_lease_settle(void);

/* Is the offset leased to anybody, in any process? True also when that cannot be known. */
bool fmp_lease_exists(int fd, uint64_t offset);

/* This process is done with that file: no view of it is kept for later. */
void fmp_lease_forget(int fd);

#endif
