/* pipe_calls.h - for the tests of channel/pipe.c: its calls, each until it is done, with numbers as
 * messages. Waits as bridge/wait.c does. */
#ifndef FMP_TESTS_PIPE_CALLS_H
#define FMP_TESTS_PIPE_CALLS_H

#include <errno.h>
#include <poll.h>

#include "base/status.h"
#include "channel/pipe.h"
#include "support.h"

#define PATIENCE_MS 20000 /* a wake-up that takes so long was lost */

struct sending {
    struct fmp_pipe *pipe;
    struct fmp_batch batch;
};

static inline int
try_send(void *arg, struct fmp_wait *w)
{
    struct sending *s = arg;
    return fmp_pipe_send(s->pipe, &s->batch, NULL, w);
}

/* A record that holds `number` and, up to `length` bytes, bytes that follow from it. */
static inline int
send_number(struct fmp_pipe *p, uint32_t number, uint32_t length)
{
    static _Thread_local uint8_t body[LONGEST_MESSAGE];
    CHECK(length >= sizeof number && length <= sizeof body);
    memset(body, (int)(number * 7 + 1), length);
    memcpy(body, &number, sizeof number);
    uint64_t header = fmp_record_header(length, 1);
    struct fmp_part parts[] = {{&header, sizeof header}, {body, length}};
    struct sending s = {
        p, {.parts = parts, .n_parts = 2, .bytes = sizeof header + length, .items = 1}};
    return wait_for(try_send, &s, FMP_NEVER);
}

static inline uint32_t
number_of(const struct fmp_buffer *taken)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    uint32_t number;
    CHECK(fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length));
    CHECK_EQ(kind, 1);
    CHECK(length >= sizeof number);
    memcpy(&number, data, sizeof number);
    for (size_t i = sizeof number; i < length; i++) {
        CHECK_EQ(data[i], (uint8_t)(number * 7 + 1));
    }
    return number;
}

struct receiving {
    struct fmp_pipe *pipe;
    struct fmp_buffer out;
    struct fmp_pipe_call call;
    int spins; /* before it sleeps */
};

static inline int
try_receive(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_receive(r->pipe, &r->call, &r->out, w);
}

static inline int
try_finish(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_finish(r->pipe, &r->call, w);
}

/* As bridge/wait.c: once with the GIL held, spinning, then sleeping. */
static inline int
try_spin_sleep(struct receiving *r, int64_t deadline)
{
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    int rc = try_receive(r, &w);
    for (int i = 0; rc == FMP_AGAIN && w.word != NULL && i < r->spins; i++) {
        if (fmp_wait_changed(&w)) {
            rc = try_receive(r, &w);
        }
        fmp_pause();
    }
    return rc == FMP_AGAIN ? wait_for(try_receive, r, deadline) : rc;
}

/* Receives a number, or gives the result that is not FMP_OK. */
static inline int
receive(struct fmp_pipe *p, int spins, bool at_once, uint32_t *number)
{
    static _Thread_local uint8_t stack[64];
    struct receiving r = {.pipe = p, .spins = spins, .call.at_once = at_once};
    fmp_buffer_init(&r.out, stack, sizeof stack);
    int64_t limit = at_once ? 0 : fmp_now() + PATIENCE_MS * INT64_C(1000000);
    int rc = at_once ? wait_for(try_receive, &r, 0) : try_spin_sleep(&r, limit);
    if (fmp_pipe_unfinished(&r.call)) {
        CHECK_EQ(wait_for(try_finish, &r, FMP_NEVER), FMP_OK);
    }
    if (rc == FMP_OK) {
        *number = number_of(&r.out);
    }
    fmp_buffer_free(&r.out);
    return rc;
}

static inline bool
is_readable(struct fmp_pipe *p, int ms)
{
    struct pollfd one = {.fd = p->fd, .events = POLLIN};
    int n;
    do {
        n = poll(&one, 1, ms);
    } while (n < 0 && errno == EINTR);
    CHECK(n >= 0);
    return n > 0;
}

static inline int
try_poll(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_poll(r->pipe, &r->call, w);
}

static inline bool
has_something(struct fmp_pipe *p)
{
    struct receiving r = {.pipe = p, .call.at_once = true};
    int rc = wait_for(try_poll, &r, 0);
    CHECK(rc == FMP_OK || rc == FMP_TIMEOUT);
    return rc == FMP_OK;
}

static inline void
drop(struct fmp_pipe *p)
{
    fmp_pipe_hang_up(p, false);
    fmp_pipe_free(p);
}

#endif
