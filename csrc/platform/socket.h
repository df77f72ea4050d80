/* socket.h - a pair of connected sockets, single bytes on them, and plain descriptor transfers. */
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

/* read() and write() of any descriptor, waiting as the descriptor does: the count or -errno.
 * `head` is written before `data`, in one call; *written counts both. */
int64_t fmp_fd_read(int fd, void *data, size_t size);
int64_t fmp_fd_write(int fd, const void *head, size_t n_head, const void *data, size_t n_data);

bool fmp_fd_nonblocking(int fd);
void fmp_fd_close(int fd);

/* Ends what `fd` stands for, yet keeps the number taken, so that a thread that still uses it meets
 * a dead descriptor and not a stranger's. fmp_fd_close() frees the number later. */
int fmp_fd_retire(int fd);

#endif
