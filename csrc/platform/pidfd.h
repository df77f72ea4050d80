/* pidfd.h - a process by a descriptor, which cannot come to mean another one, and its exit status.
 *
 * A pid names a child only until somebody has waited for it; a pidfd names it for good. Where the
 * kernel has no pidfd, or a sandbox forbids it, the functions take -1 for one and use the pid.
 */
#ifndef FMP_PLATFORM_PIDFD_H
#define FMP_PLATFORM_PIDFD_H

#include <stdbool.h>
#include <stdint.h>

/* A close-on-exec descriptor that becomes readable when the process ends, or -errno: -ESRCH when
 * there is no such process, -ENOSYS when there are no pidfds to be had. */
int fmp_pidfd_open(int32_t pid);
int fmp_pidfd_of_self(void);

/* Sends a signal; FMP_OK or -errno. -ESRCH: it has ended and was waited for. */
int fmp_pidfd_signal(int pidfd, int signal);
int fmp_pid_signal(int32_t pid, int signal);

/* Whether a child of this process has ended; never blocks. FMP_OK with its exit code (negative: the
 * signal that ended it), FMP_AGAIN while it runs, -ECHILD when it is no child of ours or somebody
 * else has waited for it. With `reap` it is a zombie no more afterwards, and its pid may be
 * reused. */
int fmp_child_status(int32_t pid, int pidfd, bool reap, int *exitcode);

/* The 8 byte number that a fork server has written to a pipe; only called when the pipe is
 * readable. FMP_OK, FMP_CLOSED at its end, or -errno. */
int fmp_read_number(int fd, int64_t *number);

/* What stands in for a pidfd: a close-on-exec pipe, readable once all have closed ends[1]. */
int fmp_pipe_open(int ends[2]);

#endif
