/* failing.c - preloaded: lets one chosen call that fastmp._core makes of the C library fail.
 *
 * Calls that can fail for want of memory, descriptors or room are counted while armed; the one with
 * the chosen number fails as it does on a full machine. Only calls from between the addresses given
 * to failing_watch() count, so that the interpreter's own never fail. For one process at a time:
 * a forked child disarms itself by counting on its own copy, past the chosen number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static uintptr_t first, end;
static long chosen = -1, counted;
static const char *failed;

void
failing_watch(uintptr_t from, uintptr_t to)
{
    first = from;
    end = to;
}

void
failing_arm(long number)
{
    failed = NULL;
    counted = 0;
    chosen = number;
}

/* The call that failed; NULL: there were not so many. */
const char *
failing_disarm(void)
{
    chosen = -1;
    return failed;
}

static int
fails(void *caller, const char *name, int error)
{
    uintptr_t at = (uintptr_t)caller;
    if (chosen < 0 || at < first || at >= end
        || __atomic_fetch_add(&counted, 1, __ATOMIC_RELAXED) != chosen) {
        return 0;
    }
    failed = name;
    errno = error;
    return 1;
}

#define FAILS(name, error) fails(__builtin_return_address(0), name, error)
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void *
malloc(size_t size)
{
    return FAILS("malloc", ENOMEM) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
    return FAILS("calloc", ENOMEM) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *old, size_t size)
{
    return FAILS("realloc", ENOMEM) ? NULL : __libc_realloc(old, size);
}

void *
mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return FAILS("mmap", ENOMEM) ? MAP_FAILED
                                 : NEXT(mmap)(address, length, protection, flags, fd, offset);
}

int
memfd_create(const char *name, unsigned flags)
{
    return FAILS("memfd_create", EMFILE) ? -1 : NEXT(memfd_create)(name, flags);
}

int
fallocate(int fd, int mode, off_t offset, off_t length)
{
    /* Giving memory back is allowed to fail, and nobody hears of it. */
    return FAILS("fallocate", ENOSPC) ? -1 : NEXT(fallocate)(fd, mode, offset, length);
}

int
eventfd(unsigned count, int flags)
{
    return FAILS("eventfd", EMFILE) ? -1 : NEXT(eventfd)(count, flags);
}

int
socketpair(int domain, int type, int protocol, int fds[2])
{
    return FAILS("socketpair", EMFILE) ? -1 : NEXT(socketpair)(domain, type, protocol, fds);
}

int
pipe2(int fds[2], int flags)
{
    return FAILS("pipe2", EMFILE) ? -1 : NEXT(pipe2)(fds, flags);
}

int
fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_ADD_SEALS && FAILS("fcntl", ENOMEM)) {
        return -1;
    }
    return NEXT(fcntl)(fd, command, argument);
}
