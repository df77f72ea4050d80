/* socket.h - a pair of connected sockets, single bytes on them, and descriptors. */
#ifndef FMP_PLATFORM_SOCKET_H
#define FMP_PLATFORM_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two connected AF_UNIX stream sockets, close-on-exec. FMP_OK or -errno. */
int fmp_socket_pair(int fds[2]);

/* One byte, never waiting. FMP_OK; -EAGAIN: the buffer is full; -EPIPE, -ECONNRESET: no peer. */
int fmp_socket_send_byte(int fd, uint8_t byte);

/* Looks at the next byte (peek) or takes it, never waiting: 1 and *byte; 0: the peer is gone and
 * nothing is left; -EAGAIN: nothing there; -ECONNRESET once, when the peer left unread data. */
int fmp_socket_peek_byte(int fd, uint8_t *byte);
int fmp_socket_take_byte(int fd, uint8_t *byte);

/* As fmp_fd_write() and fmp_fd_read(), for a local socket, with descriptors attached: the peer gets
 * `n_fds` copies of `fds` with the first byte. A read takes the descriptors that come with what it
 * reads, up to `room`, and sets *n_fds; any more are closed. */
int64_t fmp_socket_write_fds(int fd, const void *head, size_t n_head, const void *data,
                             size_t n_data, const int *fds, unsigned n_fds);
int64_t fmp_socket_read_fds(int fd, void *data, size_t size, int *fds, unsigned room,
                            unsigned *n_fds);

/* Whether it is a socket of AF_UNIX, which can carry descriptors. */
bool fmp_socket_is_local(int fd);

#endif
