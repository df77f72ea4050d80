/* pidfd.c - pidfds and the exit status of children; owns nothing.
 *
 * The descriptors and the zombies belong to the callers. A kill leaves no trace: the kernel closes
 * the ones and gives the others to init.
 */
#include "platform/pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"

/* Younger than the oldest C library this builds with; the numbers are the same on every machine. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#define WAIT_ON_PIDFD ((idtype_t)3) /* P_PIDFD */

int
fmp_pidfd_open(int32_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (fd >= 0) {
        return fd;
    }
    /* Sandboxes answer EPERM to calls that they do not know. */
    return errno == EPERM || errno == EINVAL || errno == ENODEV ? -ENOSYS : -errno;
}

int
fmp_pidfd_of_self(void)
{
    return fmp_pidfd_open((int32_t)getpid());
}

int
fmp_pidfd_signal(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0 ? FMP_OK : -errno;
}

int
fmp_pid_signal(int32_t pid, int signal)
{
    return kill((pid_t)pid, signal) == 0 ? FMP_OK : -errno;
}

int
fmp_child_status(int32_t pid, int pidfd, bool reap, int *exitcode)
{
    int options = WEXITED | WNOHANG | (reap ? 0 : WNOWAIT);
    siginfo_t info = {.si_pid = 0};
    int rc = -1;
    if (pidfd >= 0) {
        rc = waitid(WAIT_ON_PIDFD, (id_t)pidfd, &info, options);
    }
    if (pidfd < 0 || (rc < 0 && errno == EINVAL)) { /* Linux 5.3 opens them, 5.4 waits for them */
        rc = waitid(P_PID, (id_t)pid, &info, options);
    }
    if (rc < 0) {
        return -errno;
    }
    if (info.si_pid == 0) {
        return FMP_AGAIN;
    }
    *exitcode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return FMP_OK;
}

int
fmp_read_number(int fd, int64_t *number)
{
    size_t have = 0;
    while (have < sizeof(*number)) {
        /* The server writes the eight bytes at once, so a first byte means that all are there. */
        ssize_t n = read(fd, (char *)number + have, sizeof(*number) - have);
        if (n == 0) {
            return FMP_CLOSED;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    return FMP_OK;
}

int
fmp_pipe_open(int ends[2])
{
    return pipe2(ends, O_CLOEXEC) == 0 ? FMP_OK : -errno;
}
