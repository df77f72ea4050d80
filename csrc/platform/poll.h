/* poll.h - bounded waits on one descriptor, and the eventfd used as a doorbell. */
#ifndef FMP_PLATFORM_POLL_H
#define FMP_PLATFORM_POLL_H

#include <stdint.h>

/* poll's events, for the floors above, which do not include <poll.h>. */
#define FMP_POLL_IN 1
#define FMP_POLL_OUT 4

/* Waits until one of `events` (or HUP, ERR) holds for fd, at most `ns`. FMP_OK, FMP_TIMEOUT,
 * -EINTR, or -errno (-EBADF for a closed descriptor). */
int fmp_poll_one(int fd, short events, int64_t ns);

/* What holds right now, as poll's revents: 0 for nothing, or -errno. */
int fmp_poll_now(int fd, short events);

/* One of many: poll's own struct. */
struct fmp_polled {
    int fd;
    short events;
    short revents; /* out; 0: nothing */
};

/* Waits until something holds for one of them (a closed descriptor too), at most `ns`. FMP_OK,
 * FMP_TIMEOUT, or -errno. */
int fmp_poll_many(struct fmp_polled *all, unsigned n, int64_t ns);

/* A non-blocking, close-on-exec eventfd, or -errno. */
int fmp_eventfd_create(void);
void fmp_eventfd_signal(int fd);
void fmp_eventfd_clear(int fd);

#endif
