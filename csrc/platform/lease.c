/* lease.c - leases on pieces of a memfd; see lease.h.
 *
 * A lease is a lock of an open file description (F_OFD_SETLK, reading) on the piece's first byte. The
 * description is opened for it, mapped, and its descriptor closed: from then on nothing refers to it
 * but the mapping. The kernel releases such a lock with the last reference to its description. So
 * the lease lasts until the last process that has the mapping unmaps it, ends, is killed or executes
 * another program; a child of a fork holds it too; there is nothing to count, and nobody whose death
 * has to be noticed. Whether the kernel keeps this promise is looked at each time: a lease that is
 * not seen from outside once the descriptor is closed is none.
 *
 * The mapping is private: what its process writes goes to pages of its own, as does what the child
 * of a fork writes. The file is never written through it. What others write to the file may show
 * through, so they must not, while there is a lease.
 *
 * Owns one lock, which a fork takes, so that no child inherits the descriptor while it is open. A
 * kill at any line leaves nothing: descriptor, mapping and lock go with the process.
 */
#include "platform/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#define WARMED_AT_A_TIME ((size_t)16 << 20) /* a signal or a kill waits no longer */

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* reset after fork */

static void
before_fork(void)
{
    pthread_mutex_lock(&opening);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&opening);
}

static void
after_fork_child(void)
{
    pthread_mutex_init(&opening, NULL);
}

__attribute__((constructor(203))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static struct flock
first_byte(short type, uint64_t offset)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
}

bool
fmp_lease_exists(int fd, uint64_t offset)
{
    struct flock lock = first_byte(F_WRLCK, offset);
    return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* A description of its own, of the same file. */
static int
open_again(int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_RDONLY | O_CLOEXEC);
    return own >= 0 ? own : -errno;
}

static int
lock_and_map(int own, uint64_t offset, size_t length, void **out)
{
    struct flock lock = first_byte(F_RDLCK, offset);
    if (fcntl(own, F_OFD_SETLK, &lock) < 0) {
        return -errno;
    }
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, own, (off_t)offset);
    if (address == MAP_FAILED) {
        return -errno;
    }
    *out = address;
    return FMP_OK;
}

int
fmp_lease_take(int fd, uint64_t offset, size_t length, struct fmp_lease *out)
{
    *out = (struct fmp_lease){NULL, 0};
    void *address = NULL;
    pthread_mutex_lock(&opening);
    int own = open_again(fd);
    int rc = own >= 0 ? lock_and_map(own, offset, length, &address) : own;
    if (own >= 0) {
        close(own);
    }
    pthread_mutex_unlock(&opening);
    if (rc != FMP_OK) {
        return rc;
    }
    *out = (struct fmp_lease){address, length};
    struct flock lock = first_byte(F_WRLCK, offset);
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK) {
        fmp_lease_end(out);
        return FMP_CORRUPT;
    }
    return FMP_OK;
}

int
fmp_lease_warm(const struct fmp_lease *lease)
{
    for (size_t done = 0; done < lease->length;) {
        size_t left = lease->length - done;
        size_t n = left < WARMED_AT_A_TIME ? left : WARMED_AT_A_TIME;
        if (madvise((char *)lease->address + done, n, MADV_POPULATE_READ) == 0) {
            done += n;
        }
        else if (errno == EINVAL) { /* before Linux 5.14: they come one by one */
            return FMP_OK;
        }
        else if (errno != EINTR && errno != EAGAIN) {
            return errno == ENOMEM ? -ENOMEM : FMP_CORRUPT;
        }
    }
    return FMP_OK;
}

void
fmp_lease_end(struct fmp_lease *lease)
{
    if (lease->address != NULL) {
        munmap(lease->address, lease->length);
        *lease = (struct fmp_lease){NULL, 0};
    }
}
