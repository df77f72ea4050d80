/* memory.c - memfd, fallocate, mmap, madvise: the only place that makes or maps shared memory.
 *
 * Owns nothing itself: descriptors and mappings belong to the callers. There are no names, so a
 * kill at any line leaves nothing behind that the kernel does not collect.
 */
#include "platform/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/layout.h"
#include "base/status.h"
#include "platform/available.h"
#include "platform/clock.h"

#define CHECKED_SIZE (UINT64_C(4) << 20) /* so much is reserved between two looks */
#define LEAST_SPARE (UINT64_C(8) << 20)  /* stays free */
#define SLICE (UINT64_C(1) << 20)        /* reserved at a time */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#define WARMED_AT_A_TIME ((size_t)16 << 20) /* a signal or a kill waits no longer */
#define WORTH_HUGE ((size_t)4 << 20)        /* some huge pages, whatever the alignment */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int
fmp_memory_create(size_t size)
{
    int fd = memfd_create("fastmp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    int rc = fmp_memory_reserve(fd, 0, size);
    if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* Reserved by this process since it last looked. */
static _Atomic uint64_t unchecked; /* need not be reset after fork */

/* A memfd knows no limit but the machine: reserving more than there is wakes the OOM killer, who
 * kills others, before fallocate fails. So a large request is held against what is available, and
 * after many small ones there has to be room for as many again. Some is left to what we do not
 * see: private memory, and what others take meanwhile. */
static bool
is_available(uint64_t length)
{
    uint64_t needed = length < CHECKED_SIZE ? CHECKED_SIZE : length;
    if (length < CHECKED_SIZE
        && atomic_fetch_add_explicit(&unchecked, length, memory_order_relaxed) + length
               < CHECKED_SIZE) {
        return true;
    }
    uint64_t available = fmp_memory_available();
    uint64_t spare = available / 16 > LEAST_SPARE ? available / 16 : LEAST_SPARE;
    if (available < spare || needed >= available - spare) {
        return false; /* `unchecked` stays: the next one looks again */
    }
    atomic_store_explicit(&unchecked, 0, memory_order_relaxed);
    return true;
}

int
fmp_memory_reserve(int fd, uint64_t offset, uint64_t length)
{
    if (!is_available(length)) {
        return -ENOMEM;
    }
    /* In slices: many kernels let any signal interrupt fallocate, which then undoes its work, so that
     * a fast timer would never let a large one end. The last first: a limit on the file's size is met
     * before memory has been taken. */
    for (uint64_t left = length; left > 0;) {
        uint64_t n = left < SLICE ? left : SLICE;
        if (fallocate(fd, 0, (off_t)(offset + left - n), (off_t)n) == 0) {
            left -= n;
        }
        else if (errno != EINTR) {
            int rc = -errno;
            fmp_memory_release(fd, offset + left, length - left);
            return rc;
        }
    }
    return 0;
}

int
fmp_memory_fill(int fd, uint64_t offset, const void *data, size_t size)
{
    if (!is_available(size)) {
        return -ENOMEM;
    }
    while (size > 0) { /* no more than 2 GiB go at a time */
        ssize_t n = pwrite(fd, data, size, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data = (const char *)data + n;
            offset += (uint64_t)n;
            size -= (size_t)n;
        }
    }
    return 0;
}

void
fmp_memory_release(int fd, uint64_t offset, uint64_t length)
{
    /* Failure costs memory, not correctness. */
    (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
}

int
fmp_memory_map(int fd, uint64_t offset, size_t length, void **out)
{
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (address == MAP_FAILED) {
        return -errno;
    }
    *out = address;
    return 0;
}

int
fmp_memory_read(int fd, uint64_t offset, void *out, size_t size)
{
    while (size > 0) { /* no more than 2 GiB come at a time */
        ssize_t n = pread(fd, out, size, (off_t)offset);
        if (n <= 0) {
            return n < 0 ? -errno : FMP_CORRUPT;
        }
        out = (char *)out + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return FMP_OK;
}

void
fmp_memory_unmap(void *address, size_t length)
{
    munmap(address, length);
}

int64_t
fmp_memory_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (int64_t)st.st_size : -errno;
}

int
fmp_memory_inspect(int fd, uint64_t *size)
{
    int64_t bytes = fmp_memory_size(fd);
    if (bytes < 0) {
        return (int)bytes;
    }
    int seals = fcntl(fd, F_GET_SEALS); /* fails for what is no memfd */
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return FMP_CORRUPT;
    }
    *size = (uint64_t)bytes;
    return FMP_OK;
}

void
fmp_memory_prefer_huge(void *address, size_t length)
{
    if (length < WORTH_HUGE) {
        return;
    }
    uintptr_t begin = ((uintptr_t)address + FMP_PAGE - 1) / FMP_PAGE * FMP_PAGE;
    uintptr_t end = ((uintptr_t)address + length) / FMP_PAGE * FMP_PAGE;
    /* Failure costs time, not correctness. */
    (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

int
fmp_memory_warm(void *address, size_t length)
{
    /* Read in, they may be written too, in half the time of MADV_POPULATE_WRITE. */
    for (size_t done = 0; done < length;) {
        size_t left = length - done;
        size_t n = left < WARMED_AT_A_TIME ? left : WARMED_AT_A_TIME;
        if (madvise((char *)address + done, n, MADV_POPULATE_READ) == 0) {
            done += n;
        }
        else if (errno == EINVAL) { /* before Linux 5.14: they come one by one */
            break;
        }
        else if (errno != EINTR && errno != EAGAIN) {
            return errno == ENOMEM ? -ENOMEM : FMP_CORRUPT;
        }
    }
    return FMP_OK;
}

void
fmp_memory_look_ahead(struct fmp_ahead *a, const void *object)
{
    a->objects = 0;
    a->begin = (uintptr_t)object / FMP_PAGE * FMP_PAGE;
    /* What is behind the allocator's memory may be somebody else's, or nothing: of that at most FMP_AHEAD
     * is made ready too early, or the call fails. Neither changes what anybody finds there. */
    (void)madvise((void *)a->begin, FMP_AHEAD, MADV_POPULATE_WRITE);
}

bool
fmp_memory_is_limited(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur != RLIM_INFINITY;
}

void
fmp_memory_random(void *out, size_t size)
{
    if (getrandom(out, size, GRND_NONBLOCK) == (ssize_t)size) {
        return;
    }
    uint64_t seed = (uint64_t)fmp_now() ^ ((uint64_t)getpid() << 40);
    unsigned char *bytes = out;
    for (size_t i = 0; i < size; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (unsigned char)(seed >> 56);
    }
}
