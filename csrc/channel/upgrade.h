/* upgrade.h - a connected socket gets rings in mid-stream, when both sides agree on it.
 *
 * A connection that speaks another format on its socket (objects/py_connection_wire.c) can go on as
 * a pipe (channel/pipe.h). One side offers: it makes two rings and attaches their descriptors to a
 * message of the old format, which is invisible to a peer that knows nothing of it (the kernel
 * closes them). The other accepts by attaching to them. From then on each side may switch its own
 * direction when it pleases: it sends one byte, FMP_SWITCH, and all that follows is in the ring.
 *
 *     offerer                          accepter
 *     message + {forth, back}   ->
 *                               <-     SWITCH, bells of `back`
 *     SWITCH, bells of `forth`  ->
 *
 * The byte stands in the stream between the last message of the old format and the first bell, so
 * the order of messages is kept. It never waits: when the socket is full, the old format goes on.
 * A peer that dies at any point is noticed by the socket, as before; rings nobody uses are freed
 * with the handle.
 */
#ifndef FMP_CHANNEL_UPGRADE_H
#define FMP_CHANNEL_UPGRADE_H

#include <stdbool.h>

#include "channel/pipe.h"

#define FMP_UPGRADE_FDS 2

/* What this end knows of an upgrade; zeroed: nothing. Process-local. */
struct fmp_upgrade {
    struct fmp_ring *in;  /* to be used once the peer has switched */
    struct fmp_ring *out; /* to be used once we have */
    bool agreed;          /* the peer has the rings too */
};

/* Makes the rings; `fds` are theirs, to be sent. They stay the rings' own. */
int fmp_upgrade_offer(struct fmp_upgrade *u, int fds[FMP_UPGRADE_FDS]);

/* Attaches to the rings of a peer's offer. Takes the descriptors over in every case. */
int fmp_upgrade_accept(struct fmp_upgrade *u, const int fds[FMP_UPGRADE_FDS]);

/* Switches our direction, if the peer agreed and its socket takes a byte. */
void fmp_upgrade_switch(struct fmp_upgrade *u, struct fmp_pipe *p);

/* Something is there to be read: takes the peer's FMP_SWITCH if it is that. */
void fmp_upgrade_follow(struct fmp_upgrade *u, struct fmp_pipe *p);

/* For who reads the socket himself: whether the byte that he read is the switch. */
bool fmp_upgrade_hear(struct fmp_upgrade *u, struct fmp_pipe *p, uint8_t byte);

void fmp_upgrade_free(struct fmp_upgrade *u);

#endif
