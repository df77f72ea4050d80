/* upgrade.c - offer, accept, switch; see upgrade.h for the protocol and what a kill leaves.
 *
 * Owns the rings of a struct fmp_upgrade until the pipe gets them. No shared memory of its own.
 */
#include "channel/upgrade.h"

#include <errno.h>

#include "base/status.h"
#include "channel/ring_table.h"
#include "platform/fd.h"
#include "platform/socket.h"

/* No header of the old format begins with it, nor is it a bell (pipe.c). */
#define FMP_SWITCH 0xd2

int
fmp_upgrade_offer(struct fmp_upgrade *u, int fds[FMP_UPGRADE_FDS])
{
    int rc = fmp_pipe_create_rings(true, &u->out, &u->in);
    if (rc != FMP_OK) {
        u->out = u->in = NULL;
        return rc;
    }
    if (fmp_fd_is_scarce(u->out->fd) || fmp_fd_is_scarce(u->in->fd)) {
        fmp_upgrade_free(u);
        return -EMFILE;
    }
    fds[0] = u->out->fd;
    fds[1] = u->in->fd;
    return FMP_OK;
}

int
fmp_upgrade_accept(struct fmp_upgrade *u, const int fds[FMP_UPGRADE_FDS])
{
    if (fmp_fd_is_scarce(fds[0]) || fmp_fd_is_scarce(fds[1])) {
        fmp_fd_close(fds[0]);
        fmp_fd_close(fds[1]);
        return -EMFILE;
    }
    struct fmp_pipe rings;
    int rc = fmp_pipe_attach(&rings, -1, fds[0], fds[1]);
    if (rc == FMP_OK) {
        *u = (struct fmp_upgrade){.in = rings.in, .out = rings.out, .agreed = true};
    }
    return rc;
}

void
fmp_upgrade_switch(struct fmp_upgrade *u, struct fmp_pipe *p)
{
    if (u->agreed && u->out != NULL && fmp_socket_send_byte(p->fd, FMP_SWITCH) == FMP_OK) {
        fmp_pipe_use(p, NULL, u->out);
        u->out = NULL;
    }
}

bool
fmp_upgrade_hear(struct fmp_upgrade *u, struct fmp_pipe *p, uint8_t byte)
{
    if (u->in == NULL || byte != FMP_SWITCH) {
        return false;
    }
    fmp_pipe_use(p, u->in, NULL);
    u->in = NULL;
    u->agreed = true;
    return true;
}

void
fmp_upgrade_follow(struct fmp_upgrade *u, struct fmp_pipe *p)
{
    uint8_t byte;
    if (fmp_socket_peek_byte(p->fd, &byte) == 1 && fmp_upgrade_hear(u, p, byte)) {
        (void)fmp_socket_take_byte(p->fd, &byte);
    }
}

void
fmp_upgrade_free(struct fmp_upgrade *u)
{
    fmp_ring_table_release(u->in);
    fmp_ring_table_release(u->out);
    *u = (struct fmp_upgrade){0};
}
