/* one_mapping.c - for ThreadSanitizer, which knows memory by its address: whoever maps the same
 * place of the same file gets the same address.
 *
 * Linked with --wrap=mmap,--wrap=munmap (tests/c/Makefile). Owns the list of mappings of files,
 * counted. Without it, a ring's two views (channel/ring.c) would be two memories to the sanitizer,
 * and no race between a put and a take one.
 */
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "check.h"

#define LENGTH ((size_t)8 << 20) /* mapped at least, so that a longer view is the same one */
#define MOST 256

static struct mapping {
    dev_t device;
    ino_t inode;
    off_t offset;
    uint8_t *at; /* NULL: free */
    size_t length;
    unsigned users;
} mappings[MOST];
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t length);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t length);

static struct mapping *
find(const struct stat *file, off_t offset, size_t length)
{
    struct mapping *unused = NULL;
    for (int i = 0; i < MOST; i++) {
        struct mapping *m = &mappings[i];
        if (m->at == NULL) {
            unused = m;
        }
        else if (m->inode == file->st_ino && m->device == file->st_dev && m->offset == offset
                 && m->length >= length) {
            return m;
        }
    }
    CHECK(unused != NULL);
    return unused;
}

void *
__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    struct stat file;
    if (fd < 0 || fstat(fd, &file) < 0) {
        return __real_mmap(address, length, protection, flags, fd, offset);
    }
    pthread_mutex_lock(&mappings_lock);
    struct mapping *m = find(&file, offset, length);
    void *at = m->at;
    if (at == NULL) {
        size_t all = length > LENGTH ? length : LENGTH;
        at = __real_mmap(address, all, protection, flags, fd, offset);
        if (at != MAP_FAILED) {
            *m = (struct mapping){file.st_dev, file.st_ino, offset, at, all, 0};
        }
    }
    if (at != MAP_FAILED) {
        m->users++;
    }
    pthread_mutex_unlock(&mappings_lock);
    return at;
}

int
__wrap_munmap(void *address, size_t length)
{
    pthread_mutex_lock(&mappings_lock);
    int i = 0;
    while (i < MOST && mappings[i].at != address) {
        i++;
    }
    int rc = 0;
    if (i == MOST) {
        rc = __real_munmap(address, length);
    }
    else if (--mappings[i].users == 0) {
        rc = __real_munmap(mappings[i].at, mappings[i].length);
        mappings[i].at = NULL;
    }
    pthread_mutex_unlock(&mappings_lock);
    return rc;
}
