/* fd.c - read, write, close, and what a closed descriptor becomes.
 *
 * Owns nothing: descriptors belong to the callers. fmp_fd_write() raises SIGPIPE as os.write() does.
 */
#include "platform/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/status.h"

int64_t
fmp_fd_read(int fd, void *data, size_t size)
{
    ssize_t n = read(fd, data, size);
    return n >= 0 ? n : -errno;
}

int64_t
fmp_fd_write(int fd, const void *head, size_t n_head, const void *data, size_t n_data)
{
    struct iovec parts[2] = {{(void *)head, n_head}, {(void *)data, n_data}};
    ssize_t n = n_data == 0 ? write(fd, head, n_head)
              : n_head == 0 ? write(fd, data, n_data)
                            : writev(fd, parts, 2);
    return n >= 0 ? n : -errno;
}

bool
fmp_fd_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

bool
fmp_fd_is_scarce(int fd)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur / 2;
}

void
fmp_fd_close(int fd)
{
    close(fd);
}

void
fmp_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

int
fmp_fd_retire(int fd)
{
    int dead[2];
    if (pipe2(dead, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    int rc = dup3(dead[0], fd, O_CLOEXEC) >= 0 ? FMP_OK : -errno;
    close(dead[0]);
    close(dead[1]);
    return rc;
}
