/* py_connection_ring.c - how a connection's calls wait for the rings of its pipe.
 *
 * Runs channel/pipe.c's calls through bridge/wait.c. Large messages that are nothing but bytes are
 * copied once, from the ring to the bytes object. Owns nothing.
 */
#include <errno.h>

#include "base/status.h"
#include "bridge/errors.h"
#include "objects/connection_object.h"
#include "platform/clock.h"

/* --- sending --------------------------------------------------------------------------------- */

struct sending {
    struct fmp_pipe *pipe;
    const struct fmp_batch *batch;
    uint32_t number;
};

static int
try_send(void *arg, struct fmp_wait *w)
{
    struct sending *s = arg;
    return fmp_pipe_send(s->pipe, s->batch, &s->number, w);
}

static int
try_taken(void *arg, struct fmp_wait *w)
{
    struct sending *s = arg;
    return fmp_pipe_taken(s->pipe, s->number, w);
}

int
fmp_connection_put(FmpConnection *self, const struct fmp_batch *batch)
{
    struct sending s = {.pipe = &self->pipe, .batch = batch};
    struct fmp_waiter waiter = {
        .try_once = try_send, .arg = &s, .spin = &self->send_spin, .deadline = FMP_NEVER};
    fmp_connection_enter(self);
    int rc = fmp_wait_for(&waiter);
    if (rc == FMP_OK && fmp_pipe_outsized(&self->pipe, batch)) {
        waiter.try_once = try_taken;
        waiter.spin = NULL; /* somebody has to copy it first */
        rc = fmp_wait_for(&waiter);
    }
    fmp_connection_leave(self);
    if (rc != FMP_OK) {
        fmp_connection_raise(self, rc, "send a message");
        return -1;
    }
    return 0;
}

/* --- receiving ------------------------------------------------------------------------------- */

struct receiving {
    struct fmp_pipe *pipe;
    struct fmp_buffer *out;
    struct fmp_pipe_call call;
};

static int
try_receive(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_receive(r->pipe, &r->call, r->out, w);
}

static int
try_finish(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_finish(r->pipe, &r->call, w);
}

/* A lock was busy at the end of the call. Should it stay so for a second, the pipe mends itself
 * (pipe.c: the lease, the next receive). */
static int
finish(struct receiving *r, int rc)
{
    PyObject *error = fmp_take_exception();
    int also = fmp_run_unlocked(try_finish, r);
    (void)fmp_raise_again(error);
    return also == FMP_PYERR ? FMP_PYERR : rc;
}

static int
take_any(struct receiving *r, struct fmp_message *m, struct fmp_spin *spin)
{
    struct fmp_waiter waiter = {
        .try_once = try_receive, .arg = r, .spin = spin, .deadline = FMP_NEVER};
    int rc;
    do {
        rc = fmp_wait_for(&waiter);
        if (rc == FMP_DIRECT) {
            r->call.at_once = true;
            rc = fmp_take_bytes(m, try_receive, r);
            r->call.at_once = false;
        }
    } while (rc == FMP_AGAIN);
    return rc;
}

int
fmp_connection_take(FmpConnection *self, struct fmp_message *m, uint8_t *stack)
{
    struct receiving r = {.pipe = &self->pipe, .out = &m->taken};
    m->bytes = NULL;
    fmp_buffer_init(&m->taken, stack, FMP_CONNECTION_STACK);
    m->taken.direct = 1u << FMP_REC_BYTES | 1u << FMP_REC_RAW;
    fmp_connection_enter(self);
    int rc = take_any(&r, m, &self->receive_spin);
    if (fmp_pipe_unfinished(&r.call)) {
        rc = finish(&r, rc);
    }
    fmp_connection_leave(self);
    if (rc != FMP_OK) {
        fmp_buffer_free(&m->taken);
        Py_CLEAR(m->bytes);
        if (rc != FMP_PIPE_FOREIGN) {
            fmp_connection_raise(self, rc, "receive a message");
            rc = FMP_PYERR;
        }
    }
    return rc;
}

/* --- poll ------------------------------------------------------------------------------------ */

static int
try_poll(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_poll(r->pipe, &r->call, w);
}

int
fmp_connection_poll(FmpConnection *self, int64_t deadline)
{
    if (self->upgrade.in != NULL) {
        int rc = fmp_connection_follow(self, deadline);
        if (rc != FMP_OK || self->pipe.in == NULL) {
            return rc;
        }
    }
    struct receiving r = {.pipe = &self->pipe, .call.at_once = deadline == 0};
    struct fmp_waiter waiter = {
        .try_once = try_poll, .arg = &r, .spin = &self->receive_spin, .deadline = deadline};
    fmp_connection_enter(self);
    int rc = self->pipe.in != NULL ? fmp_wait_for(&waiter) : fmp_wire_poll(self, deadline);
    fmp_connection_leave(self);
    return rc;
}
