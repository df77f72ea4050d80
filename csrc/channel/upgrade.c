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
    int rc = fmp_ring_table_create(0, FMP_PIPE_BYTES, &u->out);
    if (rc == FMP_OK) {
        rc = fmp_ring_table_create(0, FMP_PIPE_BYTES, &u->in);
    }
    if (rc == FMP_OK && (fmp_fd_is_scarce(u->out->fd) || fmp_fd_is_scarce(u->in->fd))) {
        rc = -EMFILE;
    }
    if (rc != FMP_OK) {
        fmp_upgrade_free(u);
        return rc;
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
    int rc = fmp_ring_table_attach(fds[0], &u->in);
    if (rc != FMP_OK) {
        fmp_fd_close(fds[1]);
        return rc;
    }
    rc = fmp_ring_table_attach(fds[1], &u->out);
    if (rc != FMP_OK) {
        fmp_upgrade_free(u);
        return rc;
    }
    u->agreed = true;
    return FMP_OK;
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
fmp_upgrade_is_switch(const struct fmp_upgrade *u, uint8_t byte)
{
    return u->in != NULL && byte == FMP_SWITCH;
}

void
fmp_upgrade_followed(struct fmp_upgrade *u, struct fmp_pipe *p)
{
    fmp_pipe_use(p, u->in, NULL);
    u->in = NULL;
    u->agreed = true;
}

void
fmp_upgrade_follow(struct fmp_upgrade *u, struct fmp_pipe *p)
{
    uint8_t byte;
    if (fmp_socket_peek_byte(p->fd, &byte) == 1 && fmp_upgrade_is_switch(u, byte)) {
        (void)fmp_socket_take_byte(p->fd, &byte);
        fmp_upgrade_followed(u, p);
    }
}

void
fmp_upgrade_free(struct fmp_upgrade *u)
{
    fmp_ring_table_release(u->in);
    fmp_ring_table_release(u->out);
    *u = (struct fmp_upgrade){0};
}
