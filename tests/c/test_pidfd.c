/* test_pidfd.c - exit status and signals of children, with a pidfd and with the pid alone. */
#include "check.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/status.h"
#include "platform/pidfd.h"
#include "platform/poll.h"

static pid_t
start(void (*body)(void))
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body();
        _exit(0);
    }
    return pid;
}

static void
exit_with_7(void)
{
    _exit(7);
}

static void
wait_for_a_signal(void)
{
    pause();
}

static int
status_when_over(pid_t pid, int pidfd, bool reap, int *exitcode)
{
    int rc;
    while ((rc = fmp_child_status(pid, pidfd, reap, exitcode)) == FMP_AGAIN) {
        check_sleep_ms(1);
    }
    return rc;
}

static void
check_life(bool with_pidfd)
{
    pid_t pid = start(wait_for_a_signal);
    int exitcode = 0, pidfd = with_pidfd ? fmp_pidfd_open(pid) : -1;
    CHECK(!with_pidfd || pidfd >= 0);
    CHECK_EQ(fmp_child_status(pid, pidfd, true, &exitcode), FMP_AGAIN);
    CHECK(!with_pidfd || fmp_poll_now(pidfd, FMP_POLL_IN) == 0);
    CHECK_EQ(with_pidfd ? fmp_pidfd_signal(pidfd, SIGTERM) : fmp_pid_signal(pid, SIGTERM), FMP_OK);
    CHECK_EQ(status_when_over(pid, pidfd, false, &exitcode), FMP_OK);
    CHECK_EQ(exitcode, -SIGTERM);
    CHECK(!with_pidfd || fmp_poll_now(pidfd, FMP_POLL_IN) > 0);
    /* A zombie takes signals, and keeps its pid. */
    CHECK_EQ(with_pidfd ? fmp_pidfd_signal(pidfd, SIGTERM) : fmp_pid_signal(pid, SIGTERM), FMP_OK);
    CHECK_EQ(fmp_child_status(pid, pidfd, true, &exitcode), FMP_OK);
    CHECK_EQ(fmp_child_status(pid, pidfd, true, &exitcode), -ECHILD);
    CHECK(!with_pidfd || fmp_pidfd_signal(pidfd, SIGTERM) == -ESRCH);
    CHECK(!with_pidfd || fmp_poll_now(pidfd, FMP_POLL_IN) > 0);
    if (with_pidfd) {
        close(pidfd);
    }
}

CASE(life_with_a_pidfd)
{
    check_life(true);
}

CASE(life_with_a_pid)
{
    check_life(false);
}

CASE(exit_codes)
{
    pid_t pid = start(exit_with_7);
    int exitcode = 0;
    CHECK_EQ(status_when_over(pid, -1, true, &exitcode), FMP_OK);
    CHECK_EQ(exitcode, 7);
    pid = start(abort);
    CHECK_EQ(status_when_over(pid, -1, true, &exitcode), FMP_OK);
    CHECK_EQ(exitcode, -SIGABRT);
}

CASE(no_such_process)
{
    pid_t pid = start(exit_with_7);
    int exitcode = 0;
    CHECK_EQ(status_when_over(pid, -1, true, &exitcode), FMP_OK);
    CHECK_EQ(fmp_pidfd_open(pid), -ESRCH);
    CHECK_EQ(fmp_pidfd_signal(-1, SIGTERM), -EBADF);
    CHECK_EQ(fmp_child_status(getpid(), -1, true, &exitcode), -ECHILD);
}

CASE(a_number_from_a_pipe)
{
    int fds[2];
    int64_t number = -4, got = 0;
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(write(fds[1], &number, sizeof(number)), 8);
    CHECK_EQ(fmp_read_number(fds[0], &got), FMP_OK);
    CHECK_EQ(got, -4);
    CHECK_EQ(write(fds[1], &number, 3), 3);
    close(fds[1]);
    CHECK_EQ(fmp_read_number(fds[0], &got), FMP_CLOSED);
    close(fds[0]);
    CHECK_EQ(fmp_read_number(fds[0], &got), -EBADF);
}

CHECK_MAIN
