/* pipe.h - one end of a two-way channel of records: a socket, and a ring for each direction.
 *
 * The socket is the end's identity: it can be selected on, passed on, closed; the kernel says when
 * the peer is gone. The rings carry the data. No call sleeps: FMP_AGAIN says what to wait for.
 *
 * The end's descriptor is readable exactly when a record is there (or the peer is gone), for
 * select, poll and asyncio; see pipe.c for how, and for what a kill leaves.
 */
#ifndef FMP_CHANNEL_PIPE_H
#define FMP_CHANNEL_PIPE_H

#include <stdbool.h>

#include "channel/ring.h"

/* Bytes in flight, padding included; a single larger record is let through, and its sender waits for
 * it to be taken. */
#define FMP_PIPE_BYTES (UINT64_C(1) << 20)

/* A result besides enum fmp_status: there are bytes in the socket that no fastmp process rang.
 * Somebody wrote to the descriptor itself. */
#define FMP_PIPE_FOREIGN 100

/* This process's handle of an end. `in` or `out` is NULL when the end does not read or write; both
 * are for a descriptor that is no fastmp pipe. */
struct fmp_pipe {
    int fd;
    struct fmp_ring *in;
    struct fmp_ring *out;
    bool exposed;   /* the descriptor was shown to others, who may make it non-blocking */
    fmp_a32 closed; /* by fmp_pipe_hang_up() */
    fmp_a32 reset;  /* the kernel has said ECONNRESET, and nobody was told yet */
    /* When the peer was last looked at, and out's CLOSES then; under out's tail_lock. */
    int64_t peer_seen;
    uint32_t closes_seen;
};

/* One call of receive or poll, over all its tries; zeroed by the caller but for the first field,
 * which it sets. */
struct fmp_pipe_call {
    bool at_once;     /* will not wait: look at the socket at the first try */
    bool nonblocking; /* found out: the descriptor is, so a receive fails instead of waiting */
    bool napped;      /* on the ring */
    bool slept;       /* on the socket */
    bool watching;    /* registered as such: fmp_pipe_finish() must follow */
    bool bell_rings;  /* took the last record but could not silence the bell: finish() does */
};

/* Two connected ends; `a` only reads and `b` only writes unless duplex. */
int fmp_pipe_create(struct fmp_pipe *a, struct fmp_pipe *b, bool duplex);
/* What two ends put between them: a ring forth and, if duplex, one back (else NULL). */
int fmp_pipe_create_rings(bool duplex, struct fmp_ring **forth, struct fmp_ring **back);
/* The end made of descriptors from another process (ring descriptors may be -1). Takes the rings'
 * descriptors over in every case, `fd` only on success. */
int fmp_pipe_attach(struct fmp_pipe *p, int fd, int in_fd, int out_fd);

/* Gives an end that has none a ring to read from, or to write to, or both; it takes them over. */
void fmp_pipe_use(struct fmp_pipe *p, struct fmp_ring *in, struct fmp_ring *out);

/* Closes the descriptor and tells the peer. When `in_use`, other threads of this process are
 * inside calls: the descriptor's number stays taken until fmp_fd_close(). */
void fmp_pipe_hang_up(struct fmp_pipe *p, bool in_use);
/* Gives the rings up. Nobody may be inside. */
void fmp_pipe_free(struct fmp_pipe *p);

/* Puts the batch whole; *number, if wanted, becomes how many records have been put by then.
 * FMP_AGAIN: full. -EPIPE: nobody reads any more. -EAGAIN: full, and the descriptor is
 * non-blocking. */
int fmp_pipe_send(struct fmp_pipe *p, const struct fmp_batch *batch, uint32_t *number,
                  struct fmp_wait *w);

/* Must the sender of this wait for fmp_pipe_taken()? */
bool fmp_pipe_outsized(const struct fmp_pipe *p, const struct fmp_batch *batch);

/* Have the first `number` records been taken? FMP_AGAIN: not yet. -EPIPE: nobody reads any more. A
 * non-blocking descriptor does not wait for it. */
int fmp_pipe_taken(struct fmp_pipe *p, uint32_t number, struct fmp_wait *w);

/* Takes one record. FMP_AGAIN: none there. FMP_CLOSED: none there, and the peer is gone
 * (-ECONNRESET when it left unread what we sent). FMP_DIRECT, FMP_PIPE_FOREIGN. */
int fmp_pipe_receive(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_buffer *out,
                     struct fmp_wait *w);

/* FMP_OK: a receive would not wait. FMP_AGAIN. */
int fmp_pipe_poll(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w);

/* What a call left undone because a lock was busy; FMP_AGAIN: it still is. */
static inline bool
fmp_pipe_unfinished(const struct fmp_pipe_call *call)
{
    return call->watching || call->bell_rings;
}
int fmp_pipe_finish(struct fmp_pipe *p, struct fmp_pipe_call *call, struct fmp_wait *w);

#endif
