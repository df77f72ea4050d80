/* poll.c - poll and eventfd; owns nothing, the descriptors belong to the callers. */
#include "platform/poll.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/status.h"
#include "platform/clock.h"

_Static_assert(FMP_POLL_IN == POLLIN && FMP_POLL_OUT == POLLOUT, "poll.h repeats <poll.h>");

int
fmp_poll_one(int fd, short events, int64_t ns)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec limit = fmp_timespec(ns);
    int n = ppoll(&p, 1, &limit, NULL);
    if (n < 0) {
        return -errno;
    }
    if (n == 0) {
        return FMP_TIMEOUT;
    }
    return p.revents & POLLNVAL ? -EBADF : FMP_OK;
}

int
fmp_poll_now(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n;
    do {
        n = poll(&p, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return p.revents & POLLNVAL ? -EBADF : p.revents;
}

_Static_assert(sizeof(struct fmp_polled) == sizeof(struct pollfd)
                   && offsetof(struct fmp_polled, events) == offsetof(struct pollfd, events)
                   && offsetof(struct fmp_polled, revents) == offsetof(struct pollfd, revents),
               "poll.h repeats <poll.h>");

int
fmp_poll_many(struct fmp_polled *all, unsigned n, int64_t ns)
{
    struct timespec limit = fmp_timespec(ns);
    int ready = ppoll((struct pollfd *)all, n, &limit, NULL);
    return ready > 0 ? FMP_OK : ready == 0 ? FMP_TIMEOUT : -errno;
}

int
fmp_eventfd_create(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

void
fmp_eventfd_signal(int fd)
{
    /* Fails only when the counter is full, and then the descriptor is readable already. */
    (void)!eventfd_write(fd, 1);
}

void
fmp_eventfd_clear(int fd)
{
    /* Made non-blocking, but others who have it may have changed that. */
    eventfd_t count;
    if (fmp_poll_now(fd, FMP_POLL_IN) > 0) {
        (void)!eventfd_read(fd, &count);
    }
}
