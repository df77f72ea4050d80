/* fd.h - descriptors of any kind: reading, writing, closing. */
#ifndef FMP_PLATFORM_FD_H
#define FMP_PLATFORM_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* read() and write() of any descriptor, waiting as the descriptor does: the count or -errno.
 * `head` is written before `data`, in one call; the count is of both. */
int64_t fmp_fd_read(int fd, void *data, size_t size);
int64_t fmp_fd_write(int fd, const void *head, size_t n_head, const void *data, size_t n_data);

bool fmp_fd_nonblocking(int fd);

/* Whether the number is in the upper half of those this process may have: time to spare some. */
bool fmp_fd_is_scarce(int fd);

void fmp_fd_close(int fd);

/* Closes *fd, unless it is -1, which it then is. */
void fmp_close(int *fd);

/* Ends what `fd` stands for, yet keeps the number taken, so that a thread that still uses it meets
 * a dead descriptor and not a stranger's: at its end for reads and polls, no socket, not to be
 * written. Who is in a poll already stays there. fmp_fd_close() frees the number later. */
int fmp_fd_retire(int fd);

#endif
