/* lease.c - leases on pieces of a memfd; see lease.h.
 *
 * A lease is a lock of an open file description (F_OFD_SETLK, reading) on the piece's first byte. The
 * description is opened for it and mapped, and the mapping keeps it. The kernel releases such a lock
 * with the last reference to its description. So the lease lasts until the last process that has the
 * mapping unmaps it, ends, is killed or executes another program; a child of a fork holds it too; there
 * is nothing to count, and nobody whose death has to be noticed. Whether the kernel keeps this promise
 * is looked at each time: a lease that is not seen from outside is none.
 *
 * The mapping is private: what its process writes goes to pages of its own, as does what the child
 * of a fork writes. The file is never written through it. What others write to the file may show
 * through, so they must not, while there is a lease.
 *
 * Kept views. Mapping much and unmapping it takes almost as long as copying it, so a few views are
 * kept when their lease ends: mapped, their description open, unlocked. One is used again for the same
 * piece of the same file, under a new lock. That is sound if
 *   - nothing of it is this process's own: a page that was written would hide what the file then has.
 *     The kernel says which are (/proc/self/pagemap); a view with such a page is unmapped. When the
 *     lease ends, only some pages of a large view are asked for, as all would take half a millisecond
 *     of 64 MiB, just when the next message has come. The rest is asked for when the process has
 *     nothing to do (fmp_lease_settle()), and before the view is used again at the latest: nobody
 *     writes to it any more, and pages of its own do not go away;
 *   - no other process has it: the description is shared with a child of a fork, whose lease would
 *     end with the lock. A view that was mapped before a fork is never unlocked, by neither side, but
 *     unmapped. The lock below is held across forks, so there is no doubt which came first. (A
 *     child made by clone() itself, past pthread_atfork(), has no lease of its own on a kept view.)
 *
 * Owns the kept views, and a lock around them and around the opening of a description, which a fork
 * takes: a child inherits no descriptor but those of kept views. A kill at any line leaves nothing:
 * descriptor, mapping and lock go with the process.
 */
#include "platform/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "platform/fd.h"
#include "platform/memory.h"
#include "platform/process.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#define KEPT 4
#define COPIES 15   /* after a view that was written over, so many are not given */
#define ENTRIES 512 /* of pagemap, at a time */
#define SAMPLE 32   /* pages of a view, when its lease ends */

struct kept_view {
    void *address; /* NULL: none */
    size_t length;
    int fd; /* of its description */
    dev_t device;
    ino_t inode;
    uint64_t offset;
    uint32_t epoch; /* of forks, when it was mapped */
    bool leased;
    bool unsettled; /* not leased, and it is not known whether all of it was left as it was */
    bool forgotten; /* not to be kept any longer than its lease */
};

static struct kept_view kept[KEPT];                      /* reset after fork, but what is leased */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* reset after fork */
static _Atomic unsigned copies_due;                      /* need not be reset after fork */
static _Atomic bool ever;                                /* need not be reset after fork */
static _Atomic bool some_unsettled;                      /* a hint; need not be reset after fork */

/* --- the lock on the first byte -------------------------------------------------------------- */

static struct flock
first_byte(short type, uint64_t offset)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
}

static int
set_lock(int own, short type, uint64_t offset)
{
    struct flock first = first_byte(type, offset);
    return fcntl(own, F_OFD_SETLK, &first) == 0 ? FMP_OK : -errno;
}

/* FMP_OK, FMP_AGAIN: nobody has one; -errno. */
static int
look_for_lock(int fd, uint64_t offset)
{
    struct flock first = first_byte(F_WRLCK, offset);
    if (fcntl(fd, F_OFD_GETLK, &first) < 0) {
        return -errno;
    }
    return first.l_type != F_UNLCK ? FMP_OK : FMP_AGAIN;
}

bool
fmp_lease_exists(int fd, uint64_t offset)
{
    return look_for_lock(fd, offset) != FMP_AGAIN;
}

/* --- kept views ------------------------------------------------------------------------------ */

static bool
is_same_file(const struct kept_view *v, const struct stat *st)
{
    return v->device == st->st_dev && v->inode == st->st_ino;
}

/* Somebody may close all descriptors that he did not open, and the number be another's then. */
static bool
has_its_descriptor(const struct kept_view *v)
{
    struct stat st;
    return fstat(v->fd, &st) == 0 && is_same_file(v, &st);
}

static void
drop(struct kept_view *v)
{
    munmap(v->address, v->length);
    if (has_its_descriptor(v)) {
        close(v->fd);
    }
    v->address = NULL;
}

static size_t
page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Is the page this process's own, since it has written to it? By its entry in pagemap. */
static bool
is_own(uint64_t entry)
{
    enum {
        SOMEWHERE = 62,
        OF_FILE = 61
    }; /* bits, the first with the one above: proc(5), pagemap */
    return entry >> SOMEWHERE != 0 && (entry >> OF_FILE & 1) == 0;
}

/* How many of its pages this process has written to, of each `every`-th; SIZE_MAX: who knows. */
static size_t
count_written(const struct kept_view *v, size_t every)
{
    size_t page = page_size();
    uint64_t entries[ENTRIES];
    uint64_t at = (uintptr_t)v->address / page, end = at + (v->length + page - 1) / page;
    size_t written = 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    while (pagemap >= 0 && at < end) {
        size_t n = every > 1 ? 1 : end - at < ENTRIES ? end - at : ENTRIES;
        ssize_t bytes =
            pread(pagemap, entries, n * sizeof(entries[0]), (off_t)(at * sizeof(entries[0])));
        n = bytes > 0 ? (size_t)bytes / sizeof(entries[0]) : 0;
        if (n == 0) {
            break;
        }
        for (size_t i = 0; i < n; i++) {
            written += is_own(entries[i]);
        }
        at += n * every;
    }
    if (pagemap >= 0) {
        close(pagemap);
    }
    return at < end ? SIZE_MAX : written;
}

/* Has nobody written to it, as far as one sees at the lease's end? Remembers how it was. */
static bool
seems_untouched(struct kept_view *v)
{
    size_t pages = v->length / page_size(), every = pages > ENTRIES ? pages / SAMPLE : 1;
    size_t written = count_written(v, every);
    if (written != SIZE_MAX && written > pages / every / 4) {
        atomic_store_explicit(&copies_due, COPIES, memory_order_relaxed);
    }
    v->unsettled = every > 1;
    return written == 0;
}

/* Has nobody written to it? Asked again only if that is not known. */
static bool
is_untouched(struct kept_view *v)
{
    if (v->unsettled && count_written(v, 1) == 0) {
        v->unsettled = false;
    }
    return !v->unsettled;
}

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The child's leases are its own, and end as they do. The rest it has no use for. */
static void
after_fork_child(void)
{
    pthread_mutex_init(&lock, NULL);
    for (unsigned i = 0; i < KEPT; i++) {
        if (kept[i].address != NULL && !kept[i].leased) {
            drop(&kept[i]);
        }
    }
}

/* After process.c's: the parent's epoch has advanced when it unlocks. */
__attribute__((constructor(203))) static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static bool
may_be_locked_again(const struct kept_view *v)
{
    return v->epoch == fmp_fork_epoch() && !v->forgotten;
}

/* A kept view of that piece, locked; NULL: there is none. */
static struct kept_view *
use_again(const struct stat *st, uint64_t offset, size_t length)
{
    for (unsigned i = 0; i < KEPT; i++) {
        struct kept_view *v = &kept[i];
        if (v->address == NULL || v->leased || !is_same_file(v, st) || v->offset != offset) {
            continue;
        }
        if (v->length >= length && may_be_locked_again(v) && has_its_descriptor(v)
            && is_untouched(v) && set_lock(v->fd, F_RDLCK, offset) == FMP_OK) {
            return v;
        }
        drop(v); /* too small, or no longer sound */
    }
    return NULL;
}

/* A place for one more; NULL: all are leased. */
static struct kept_view *
find_place(void)
{
    static unsigned next; /* reset after fork: any value will do */
    for (unsigned i = 0; i < KEPT; i++) {
        if (kept[i].address == NULL) {
            return &kept[i];
        }
    }
    for (unsigned i = 0; i < KEPT; i++) {
        struct kept_view *v = &kept[next++ % KEPT];
        if (!v->leased) {
            drop(v);
            return v;
        }
    }
    return NULL;
}

void
fmp_lease_forget(int fd)
{
    struct stat st;
    if (!atomic_load_explicit(&ever, memory_order_relaxed) || fstat(fd, &st) < 0) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < KEPT; i++) {
        struct kept_view *v = &kept[i];
        if (v->address != NULL && is_same_file(v, &st)) {
            v->forgotten = true;
            if (!v->leased) {
                drop(v);
            }
        }
    }
    pthread_mutex_unlock(&lock);
}

/* --- taking and ending ----------------------------------------------------------------------- */

/* A description of its own, of the same file, locked. */
static int
open_again(int fd, uint64_t offset)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_RDONLY | O_CLOEXEC);
    if (own < 0) {
        return -errno;
    }
    int rc = set_lock(own, F_RDLCK, offset);
    if (rc != FMP_OK) {
        close(own);
        return rc;
    }
    return own;
}

static int
map_anew(int fd, const struct stat *st, uint64_t offset, size_t length, struct fmp_lease *out)
{
    int own = open_again(fd, offset);
    if (own < 0) {
        return own;
    }
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, own, (off_t)offset);
    if (address == MAP_FAILED) {
        int rc = -errno;
        close(own);
        return rc;
    }
    *out = (struct fmp_lease){.address = address, .length = length, .cold = true};
    struct kept_view *v = fmp_fd_is_scarce(own) ? NULL : find_place();
    if (v == NULL) {
        close(own);
        return FMP_OK;
    }
    *v = (struct kept_view){.address = address,
                            .length = length,
                            .fd = own,
                            .device = st->st_dev,
                            .inode = st->st_ino,
                            .offset = offset,
                            .epoch = fmp_fork_epoch(),
                            .leased = true};
    atomic_store_explicit(&ever, true, memory_order_relaxed);
    out->kept = 1 + (unsigned)(v - kept);
    return FMP_OK;
}

/* Has what was received been written over, lately? Then a copy to huge pages costs less than a view,
 * where each page is copied when it is first written. */
static bool
is_copy_due(void)
{
    unsigned due = atomic_load_explicit(&copies_due, memory_order_relaxed);
    if (due > 0) { /* a mere hint: threads may count amiss */
        atomic_store_explicit(&copies_due, due - 1, memory_order_relaxed);
    }
    return due > 0;
}

int
fmp_lease_take(int fd, uint64_t offset, size_t length, struct fmp_lease *out)
{
    struct stat st;
    int rc = FMP_OK;
    *out = (struct fmp_lease){.address = NULL};
    if (is_copy_due() || fstat(fd, &st) < 0) {
        return -EAGAIN;
    }
    pthread_mutex_lock(&lock);
    struct kept_view *v = use_again(&st, offset, length);
    if (v != NULL) {
        v->leased = true;
        *out = (struct fmp_lease){
            .address = v->address, .length = length, .kept = 1 + (unsigned)(v - kept)};
    }
    else {
        rc = map_anew(fd, &st, offset, length, out);
    }
    pthread_mutex_unlock(&lock);
    if (rc == FMP_OK && look_for_lock(fd, offset) != FMP_OK) {
        fmp_lease_end(out);
        rc = FMP_CORRUPT;
    }
    return rc;
}

int
fmp_lease_warm(struct fmp_lease *lease)
{
    int rc = lease->cold ? fmp_memory_warm(lease->address, lease->length) : FMP_OK;
    if (rc == FMP_OK) {
        lease->cold = false;
    }
    return rc;
}

/* Unlocks the view for later, or drops it. */
static void
keep_or_drop(struct kept_view *v)
{
    v->leased = false;
    if (!may_be_locked_again(v) || !has_its_descriptor(v) || !seems_untouched(v)
        || set_lock(v->fd, F_UNLCK, v->offset) != FMP_OK) {
        drop(v);
    }
    else if (v->unsettled) {
        atomic_store_explicit(&some_unsettled, true, memory_order_relaxed);
    }
}

void
fmp_lease_end(struct fmp_lease *lease)
{
    if (lease->address == NULL) {
        return;
    }
    if (lease->kept == 0) {
        munmap(lease->address, lease->length);
    }
    else {
        pthread_mutex_lock(&lock);
        keep_or_drop(&kept[lease->kept - 1]);
        pthread_mutex_unlock(&lock);
    }
    *lease = (struct fmp_lease){.address = NULL};
}

/* A view that becomes unsettled meanwhile is settled the next time, or when it is used again. */
void
fmp_lease_settle(void)
{
    if (!atomic_load_explicit(&some_unsettled, memory_order_relaxed)) {
        return;
    }
    atomic_store_explicit(&some_unsettled, false, memory_order_relaxed);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < KEPT; i++) {
        struct kept_view *v = &kept[i];
        if (v->address != NULL && !v->leased && !is_untouched(v)) {
            drop(v);
        }
    }
    pthread_mutex_unlock(&lock);
}
