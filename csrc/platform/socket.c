/* socket.c - socketpair, one-byte sends and receives, messages with descriptors.
 *
 * Owns nothing: descriptors belong to the callers. The one-byte calls never wait, and none raises
 * SIGPIPE.
 */
#include "platform/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
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

#define MOST_FDS 16 /* that one message brings or takes */

union control { /* room for the header and the descriptors, aligned as the kernel wants it */
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
};

int64_t
fmp_socket_write_fds(int fd, const void *head, size_t n_head, const void *data, size_t n_data,
                     const int *fds, unsigned n_fds)
{
    if (n_fds > MOST_FDS) {
        return -EINVAL;
    }
    struct iovec parts[2] = {{(void *)head, n_head}, {(void *)data, n_data}};
    union control control = {0};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = &control};
    m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
    ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
    return n >= 0 ? n : -errno;
}

/* Copies up to `room` of the descriptors that came and closes the others. */
static unsigned
take_fds(struct msghdr *m, int *fds, unsigned room)
{
    unsigned n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t came = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < came; i++) {
            int one;
            memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
            if (n < room) {
                fds[n++] = one;
            }
            else {
                close(one);
            }
        }
    }
    return n;
}

int64_t
fmp_socket_read_fds(int fd, void *data, size_t size, int *fds, unsigned room, unsigned *n_fds)
{
    struct iovec part = {data, size};
    union control control;
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
    m.msg_controllen = sizeof control;
    *n_fds = 0;
    ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    if (n < 0) {
        return -errno;
    }
    *n_fds = take_fds(&m, fds, room);
    return n;
}

bool
fmp_socket_is_local(int fd)
{
    int domain;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}
