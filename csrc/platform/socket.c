/* socket.c - socketpair, one-byte sends and receives, read and write.
 *
 * Owns nothing: descriptors belong to the callers. The one-byte calls never wait, and no call
 * raises SIGPIPE but fmp_fd_write(), which is os.write()'s equal.
 */
#include "platform/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/status.h"

int
fmp_socket_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0 ? FMP_OK : -errno;
}

int
fmp_socket_send_byte(int fd, uint8_t byte)
{
    ssize_t n;
    do {
        n = send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == 1 ? FMP_OK : -errno;
}

static int
receive_byte(int fd, uint8_t *byte, int flags)
{
    ssize_t n;
    do {
        n = recv(fd, byte, 1, flags | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? (int)n : -errno;
}

int
fmp_socket_peek_byte(int fd, uint8_t *byte)
{
    return receive_byte(fd, byte, MSG_PEEK);
}

int
fmp_socket_take_byte(int fd, uint8_t *byte)
{
    return receive_byte(fd, byte, 0);
}

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

void
fmp_fd_close(int fd)
{
    close(fd);
}

int
fmp_fd_retire(int fd)
{
    int dead = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (dead < 0) {
        return -errno;
    }
    int rc = dup3(dead, fd, O_CLOEXEC) >= 0 ? FMP_OK : -errno;
    close(dead);
    return rc;
}
