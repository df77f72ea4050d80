/* pipe.c - a duplex connection over two rings and a socketpair; see pipe.h.
 *
 * Uses three of a ring's extra words:
 *   RUNG     under tail_lock: a bell byte for this ring lies in the reader's socket
 *   WATCHER  by readers: 0, or when one registered as watching (microseconds, odd)
 *   CLOSES   by readers, as they close: how often an end that reads this ring was closed
 *
 * The bell. Only a writer can make the reader's socket readable. It does so under tail_lock, before
 * the commit, when RUNG is 0: sends a byte, sets RUNG. Whoever takes the last record silences it,
 * under tail_lock too and only if the ring is empty there and then: clears RUNG, takes a byte. So
 * no put comes between the look and the silencing, and while a record is there, a byte is.
 *
 * The exemption, which spares two peers that answer each other at once the system calls of bells, and
 * the reader from being woken by a bell before there is anything to read: a reader watches the ring,
 * spinning at first and then asleep on its tail for a nap, before it turns to the socket. It is
 * registered in WATCHER, and a writer that finds the ring empty and a watcher need not ring. The
 * promise of a registered reader is to see the record, so:
 *   - it watches for what it saw of the ring before it registered;
 *   - when it takes a record, it deregisters before it commits the take. A writer who sees the ring
 *     empty after that take (it looks at head first) sees no watcher either;
 *   - when it gives up, it deregisters under tail_lock and looks at the ring again afterwards. A
 *     writer's look, commit and all are one section of that lock.
 * Another reader may take the watcher's record; then it goes on, still registered. Two watchers
 * may register; the first to leave deregisters both, which costs a needless ring.
 * A registration counts for LEASE_US only, so a killed or stopped watcher is not trusted.
 *
 * The peer. A bell that nobody can hear fails with EPIPE. Without ringing, a writer knows that a
 * reader lives from one that has registered within ALIVE_US, or has looked at the socket within PEER_GRACE_NS, or looks; and it
 * always looks when an end was closed (CLOSES) since. So a close is noticed at once, a death
 * at most that much later, sooner than anybody can be told of it.
 *
 * Back-pressure. The ring takes FMP_PIPE_BYTES at once, and a single larger message. Who sent such
 * a one to another process waits until it has been taken, as a writer of a pipe waits: a program may
 * rely upon it that its peer has not gone on. Where this process has the other end open too, the
 * taker may be the very thread that sends, and nobody waits. A kill of that sender loses nothing: the
 * message lies there whole.
 *
 * Closing while other threads of this process are inside. Who sends and sleeps is woken, and who
 * comes to the descriptor from then on finds it at its end. But a thread that is in a poll of the
 * socket holds it, and nothing but a peer can make that readable: it finds out at its tick, and only
 * then does the peer see the end. (In the stdlib it never does.)
 *
 * What a kill leaves: between send and RUNG, or RUNG cleared and the byte taken: a byte too many,
 * the bell rings over an empty ring until a receive or poll that finds it so takes it. After RUNG
 * and before the commit: the same. A record that was committed for a watcher who was then killed is
 * not announced to other readers of that end until the next one comes; who receives sees it at the
 * next tick. No record is ever half there (ring.c).
 */
#include "channel/pipe.h"

#include <errno.h>
#include <limits.h>

#include "base/points.h"
#include "base/status.h"
#include "channel/positions.h"
#include "channel/ring_table.h"
#include "platform/clock.h"
#include "platform/fd.h"
#include "platform/poll.h"
#include "platform/socket.h"

enum { RUNG, WATCHER, CLOSES };

enum {
    EMPTY = FMP_PIPE_FOREIGN + 1, /* besides enum fmp_status, within this file */
    RETRY,
};

/* No header of the wire format begins with it (objects/py_connection_wire.c), so foreign bytes are
 * told from bells. */
#define BELL 0xd1

#define NAP_NS 1000000
#ifndef LEASE_US      /* the stepper's victims take longer over an instruction */
#define LEASE_US 2000 /* a nap is shorter */
#endif
#define ALIVE_US 200 /* so long a reader that has registered needs not be looked for */
#define PEER_GRACE_NS 50000

static fmp_a32 *
word_of(struct fmp_ring *ring, int which)
{
    return &ring->shm->extra[which];
}

/* --- making and ending ----------------------------------------------------------------------- */

void
fmp_pipe_use(struct fmp_pipe *p, struct fmp_ring *in, struct fmp_ring *out)
{
    if (in != NULL) {
        p->in = in;
        atomic_fetch_add(&in->readers, 1);
    }
    if (out != NULL) {
        p->out = out;
        p->closes_seen = atomic_load(word_of(out, CLOSES));
    }
}

static void
init_end(struct fmp_pipe *p, int fd, struct fmp_ring *in, struct fmp_ring *out)
{
    *p = (struct fmp_pipe){.fd = fd};
    fmp_pipe_use(p, in, out);
}

int
fmp_pipe_create_rings(bool duplex, struct fmp_ring **forth, struct fmp_ring **back)
{
    *back = NULL;
    int rc = fmp_ring_table_create(0, FMP_PIPE_BYTES, forth);
    if (rc == FMP_OK && duplex) {
        rc = fmp_ring_table_create(0, FMP_PIPE_BYTES, back);
        if (rc != FMP_OK) {
            fmp_ring_table_release(*forth);
        }
    }
    return rc;
}

int
fmp_pipe_create(struct fmp_pipe *a, struct fmp_pipe *b, bool duplex)
{
    int fds[2];
    struct fmp_ring *forth, *back;
    int rc = fmp_socket_pair(fds);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = fmp_pipe_create_rings(duplex, &forth, &back);
    if (rc != FMP_OK) {
        fmp_fd_close(fds[0]);
        fmp_fd_close(fds[1]);
        return rc;
    }
    fmp_ring_table_retain(forth); /* each ring is held by both ends */
    fmp_ring_table_retain(back);
    init_end(a, fds[0], forth, back);
    init_end(b, fds[1], back, forth);
    return FMP_OK;
}

static int
attach_ring(int fd, struct fmp_ring **out)
{
    *out = NULL;
    return fd < 0 ? FMP_OK : fmp_ring_table_attach(fd, out);
}

int
fmp_pipe_attach(struct fmp_pipe *p, int fd, int in_fd, int out_fd)
{
    struct fmp_ring *in, *out;
    int rc = attach_ring(in_fd, &in);
    int also = attach_ring(out_fd, &out);
    rc = rc != FMP_OK ? rc : also;
    if (rc != FMP_OK) {
        fmp_ring_table_release(in);
        fmp_ring_table_release(out);
        return rc;
    }
    init_end(p, fd, in, out);
    return FMP_OK;
}

void
fmp_pipe_hang_up(struct fmp_pipe *p, bool in_use)
{
    atomic_store(&p->closed, 1);
    if (!in_use || fmp_fd_retire(p->fd) != FMP_OK) {
        fmp_fd_close(p->fd);
    }
    if (p->in != NULL) {
        /* After the close: who sees the count then finds the peer gone, if this was the last. */
        atomic_fetch_add(word_of(p->in, CLOSES), 1);
        atomic_fetch_sub(&p->in->readers, 1);
        fmp_wake(fmp_low_half(&p->in->shm->head), &p->in->shm->putters, INT_MAX);
    }
    if (p->out != NULL) {
        /* Who naps on it looks at the socket then. */
        fmp_wake(fmp_low_half(&p->out->shm->tail), &p->out->shm->takers, INT_MAX);
        if (in_use) {
            fmp_wake(fmp_low_half(&p->out->shm->head), &p->out->shm->putters, INT_MAX);
        }
    }
}

/* A system call that failed on a descriptor which another thread has closed says so. */
static int
explain(const struct fmp_pipe *p, int rc)
{
    return rc < 0 && atomic_load(&p->closed) ? -EBADF : rc;
}

void
fmp_pipe_free(struct fmp_pipe *p)
{
    if (p->in != NULL && !atomic_load(&p->closed)) {
        atomic_fetch_sub(&p->in->readers, 1);
    }
    fmp_ring_table_release(p->in);
    fmp_ring_table_release(p->out);
    p->in = p->out = NULL;
}

/* --- sending --------------------------------------------------------------------------------- */

static uint32_t
microseconds(void)
{
    return (uint32_t)(fmp_now() / 1000);
}

/* Is a reader registered that will see what is put now? Then for how long it has been. */
static bool
somebody_watches(struct fmp_ring *ring, uint32_t *age_us)
{
    /* head before WATCHER: see above. */
    if (fmp_ring_count(ring) != 0) {
        return false;
    }
    uint32_t since = atomic_load(word_of(ring, WATCHER));
    *age_us = microseconds() - (since & ~UINT32_C(1));
    return since != 0 && *age_us < LEASE_US;
}

/* Is anybody left to read? Asks the kernel. */
static int
look_for_peer(struct fmp_pipe *p)
{
    int events = fmp_poll_now(p->fd, 0);
    if (events <= 0) {
        return events;
    }
    /* HUP or ERR: let a send say which error it is; if it should succeed after all, a bell too
     * many does no harm. */
    int rc = fmp_socket_send_byte(p->fd, BELL);
    return rc == -ECONNRESET && p->in == NULL ? -EPIPE : rc;
}

/* Under tail_lock, when the bell rings already. */
static int
check_peer(struct fmp_pipe *p)
{
    uint32_t closes = atomic_load(word_of(p->out, CLOSES));
    int64_t now = fmp_now();
    if (closes == p->closes_seen && now - p->peer_seen < PEER_GRACE_NS) {
        return FMP_OK;
    }
    int rc = look_for_peer(p);
    if (rc == FMP_OK) {
        p->closes_seen = closes;
        p->peer_seen = now;
    }
    return rc;
}

/* Under tail_lock, before a commit. */
static int
announce(struct fmp_pipe *p)
{
    fmp_a32 *rung = word_of(p->out, RUNG);
    if (atomic_load_explicit(rung, memory_order_relaxed) != 0) {
        return check_peer(p);
    }
    uint32_t age_us;
    if (somebody_watches(p->out, &age_us)) {
        return age_us < ALIVE_US ? FMP_OK : check_peer(p);
    }
    FMP_POINT("pipe: before the bell");
    int rc = fmp_socket_send_byte(p->fd, BELL);
    FMP_POINT("pipe: bell sent");
    if (rc == FMP_OK) {
        atomic_store(rung, 1);
    }
    else if (rc == -EAGAIN) { /* foreign bytes fill the socket: it is readable */
        rc = check_peer(p);
    }
    return rc == -ECONNRESET && p->in == NULL ? -EPIPE : rc;
}

/* The ring is full and we are about to sleep. */
static int
may_wait(struct fmp_pipe *p)
{
    int rc = look_for_peer(p);
    if (rc == FMP_OK && p->exposed && fmp_fd_nonblocking(p->fd)) {
        rc = -EAGAIN;
    }
    return rc == FMP_OK ? FMP_AGAIN : rc;
}

int
fmp_pipe_send(struct fmp_pipe *p, const struct fmp_batch *batch, uint32_t *number,
              struct fmp_wait *w)
{
    if (atomic_load(&p->closed)) {
        return -EBADF;
    }
    int rc = fmp_ring_lock_tail(p->out, w);
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t commit;
    rc = fmp_ring_write(p->out, batch, w, &commit);
    bool full = rc == FMP_AGAIN && w->word != NULL;
    if (rc == FMP_OK) {
        rc = announce(p);
    }
    if (rc == FMP_OK) {
        FMP_POINT("pipe: announced");
        fmp_ring_commit_put(p->out, commit, batch->items);
        if (number != NULL) {
            *number = items_of(commit);
        }
        FMP_POINT("pipe: put");
    }
    fmp_ring_unlock_tail(p->out);
    return explain(p, full && w->budget_ns != 0 ? may_wait(p) : rc);
}

bool
fmp_pipe_outsized(const struct fmp_pipe *p, const struct fmp_batch *batch)
{
    return batch->bytes > FMP_PIPE_BYTES && atomic_load(&p->out->readers) == 0;
}

/* `w` gets the word that the next take will change. */
static bool
is_taken(struct fmp_pipe *p, uint32_t number, struct fmp_wait *w)
{
    struct fmp_ring_shm *shm = p->out->shm;
    uint32_t head = items_of(atomic_load(&shm->head));
    fmp_wait_on_word(w, fmp_low_half(&shm->head), head, &shm->putters);
    return (int32_t)(head - number) >= 0;
}

int
fmp_pipe_taken(struct fmp_pipe *p, uint32_t number, struct fmp_wait *w)
{
    if (is_taken(p, number, w)) {
        return FMP_OK;
    }
    if (atomic_load(&p->closed)) {
        return -EBADF;
    }
    if (w->budget_ns == 0) {
        return FMP_AGAIN;
    }
    int rc = may_wait(p);
    /* Without a peer: it may have taken the record before it went. Non-blocking: it is sent. */
    bool done = rc == -EAGAIN || (rc != FMP_AGAIN && is_taken(p, number, w));
    return done ? FMP_OK : explain(p, rc);
}

/* --- the reader's side of the bell ----------------------------------------------------------- */

/* Under tail_lock with the ring empty. */
static void
silence(struct fmp_pipe *p)
{
    fmp_a32 *rung = word_of(p->in, RUNG);
    uint8_t byte;
    if (atomic_load(rung) != 0) {
        atomic_store(rung, 0);
        FMP_POINT("pipe: bell to be taken");
        (void)fmp_socket_take_byte(p->fd, &byte);
    }
}

static int
silence_if_empty(struct fmp_pipe *p, struct fmp_wait *w)
{
    int rc = fmp_ring_lock_tail(p->in, w);
    if (rc == FMP_OK) {
        if (fmp_ring_count(p->in) == 0) {
            FMP_POINT("pipe: to silence");
            silence(p);
        }
        fmp_ring_unlock_tail(p->in);
    }
    return rc;
}

/* Having seen of the ring what `w` holds. */
static void
watch(struct fmp_pipe *p, struct fmp_pipe_call *call)
{
    atomic_store(word_of(p->in, WATCHER), microseconds() | 1);
    FMP_POINT("pipe: registered");
    call->watching = true;
}

static int
stop_watching(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w)
{
    FMP_POINT("pipe: giving up");
    int rc = fmp_ring_lock_tail(p->in, w);
    if (rc == FMP_OK) {
        atomic_store(word_of(p->in, WATCHER), 0);
        fmp_ring_unlock_tail(p->in);
        call->watching = false;
    }
    return rc;
}

/* The ring was empty and a byte in the socket: whose? RETRY, FMP_AGAIN (lock), FMP_PIPE_FOREIGN. */
static int
explain_byte(struct fmp_pipe *p, struct fmp_wait *w)
{
    int rc = fmp_ring_lock_tail(p->in, w);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = RETRY;
    if (fmp_ring_count(p->in) == 0) {
        /* No put is under way: what is there was left by a kill, or is foreign. */
        uint8_t byte;
        atomic_store(word_of(p->in, RUNG), 0);
        if (fmp_socket_peek_byte(p->fd, &byte) == 1) {
            if (byte == BELL) {
                (void)fmp_socket_take_byte(p->fd, &byte);
            }
            else {
                rc = FMP_PIPE_FOREIGN;
            }
        }
    }
    fmp_ring_unlock_tail(p->in);
    return rc;
}

/* The ring was empty. FMP_AGAIN: nothing there, wait as `w` says; FMP_CLOSED: no peer any more;
 * RETRY: the ring is no longer empty, or may not be. */
static int
look_at_socket(struct fmp_pipe *p, struct fmp_wait *w)
{
    uint8_t byte;
    int n = fmp_socket_peek_byte(p->fd, &byte);
    if (n == 1) {
        return explain_byte(p, w);
    }
    if (n == -EAGAIN) {
        fmp_wait_on_fd(w, p->fd, FMP_POLL_IN);
        return FMP_AGAIN;
    }
    if (n == -ECONNRESET) {
        atomic_store(&p->reset, 1);
    }
    else if (n < 0) {
        return n;
    }
    /* The peer is gone, and what it put before it went is in the ring by now. */
    return fmp_ring_count(p->in) != 0 ? RETRY : FMP_CLOSED;
}

/* --- receiving ------------------------------------------------------------------------------- */

/* EMPTY leaves in `w` the word that a put will change. */
static int
look_at_ring(struct fmp_pipe *p, struct fmp_wait *w)
{
    struct fmp_ring_shm *shm = p->in->shm;
    uint32_t head = (uint32_t)atomic_load(&shm->head);
    uint32_t tail = (uint32_t)atomic_load(&shm->tail);
    fmp_wait_on_word(w, fmp_low_half(&shm->tail), tail, &shm->takers);
    return tail != head ? FMP_OK : EMPTY;
}

static int
take(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_buffer *out, struct fmp_wait *w)
{
    int rc = look_at_ring(p, w);
    if (rc == FMP_OK) {
        rc = fmp_ring_lock_head(p->in, w);
    }
    if (rc != FMP_OK) {
        return rc;
    }
    uint64_t commit;
    uint32_t items;
    rc = fmp_ring_read(p->in, 1, out, w, &commit, &items);
    if (rc == FMP_OK) {
        if (call->watching) {
            atomic_store(word_of(p->in, WATCHER), 0);
            call->watching = false;
        }
        FMP_POINT("pipe: to take");
        fmp_ring_commit_take(p->in, commit);
        FMP_POINT("pipe: taken");
    }
    fmp_ring_unlock_head(p->in);
    fmp_buffer_warm(out);
    if (rc == FMP_AGAIN && w->word != NULL) {
        return EMPTY; /* another reader was faster */
    }
    if (rc == FMP_OK && atomic_load(word_of(p->in, RUNG)) != 0 && fmp_ring_count(p->in) == 0) {
        call->bell_rings = silence_if_empty(p, w) != FMP_OK;
    }
    return rc;
}

/* The ring is empty. FMP_AGAIN: wait as `w` says, watching it while the GIL is held and then asleep for
 * a nap, at last on the socket. RETRY: look at it again. EMPTY: look at the socket. */
static int
wait_for_record(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w)
{
    if (!call->at_once && w->budget_ns == 0) {
        if (!call->watching) {
            watch(p, call);
        }
        return FMP_AGAIN; /* `w` holds what we saw before registering */
    }
    call->nonblocking = !call->at_once && p->exposed && fmp_fd_nonblocking(p->fd);
    bool may_sleep = !call->at_once && !call->nonblocking;
    if (may_sleep && !call->napped) {
        call->napped = true;
        watch(p, call); /* anew */
        w->nap_ns = NAP_NS;
        return FMP_AGAIN;
    }
    if (call->watching) {
        int rc = stop_watching(p, call, w);
        return rc == FMP_OK ? RETRY : rc;
    }
    if (may_sleep && !call->slept) {
        call->slept = true;
        fmp_wait_on_fd(w, p->fd, FMP_POLL_IN);
        return FMP_AGAIN;
    }
    return EMPTY;
}

int
fmp_pipe_receive(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_buffer *out,
                 struct fmp_wait *w)
{
    for (;;) {
        if (atomic_load(&p->closed)) {
            return -EBADF;
        }
        int rc = take(p, call, out, w);
        if (rc == EMPTY) {
            rc = wait_for_record(p, call, w);
        }
        if (rc == RETRY) {
            continue;
        }
        if (rc != EMPTY) {
            return rc;
        }
        rc = look_at_socket(p, w);
        if (rc == FMP_AGAIN && w->fd >= 0 && call->nonblocking) {
            return -EAGAIN;
        }
        if (rc == FMP_CLOSED && atomic_exchange(&p->reset, 0) && p->out != NULL) {
            return -ECONNRESET;
        }
        if (rc != RETRY) {
            return explain(p, rc);
        }
    }
}

int
fmp_pipe_poll(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w)
{
    for (;;) {
        if (atomic_load(&p->closed)) {
            return -EBADF;
        }
        if (look_at_ring(p, w) == FMP_OK) {
            return FMP_OK;
        }
        if (w->budget_ns == 0 && !call->at_once) {
            return FMP_AGAIN;
        }
        int rc = look_at_socket(p, w);
        if (rc == FMP_CLOSED || rc == FMP_PIPE_FOREIGN) {
            return FMP_OK;
        }
        if (rc != RETRY) {
            return explain(p, rc);
        }
    }
}

int
fmp_pipe_finish(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w)
{
    int rc = FMP_OK;
    if (call->watching) {
        rc = stop_watching(p, call, w);
    }
    if (rc == FMP_OK && call->bell_rings) {
        rc = silence_if_empty(p, w);
        call->bell_rings = rc != FMP_OK;
    }
    return rc;
}
