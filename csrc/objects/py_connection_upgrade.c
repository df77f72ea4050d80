/* py_connection_upgrade.c - when a connection over a local socket moves to rings.
 *
 * channel/upgrade.h has the protocol; here is the policy. A connection must have been told that it
 * may (_offer_rings, _accept_rings), and it offers with its OFFER_AT'th object: one that is made for
 * a single request is not worth two rings. Offers go out with send() and are looked at by recv()
 * alone, never by recv_bytes(): who unpickles a peer's messages trusts it, while authentication,
 * which works with recv_bytes(), is not over yet. Owns FmpConnection.upgrade, role and sent.
 */
#include "base/status.h"
#include "bridge/critical.h"
#include "objects/connection_object.h"
#include "platform/fd.h"
#include "platform/socket.h"

#define OFFER_AT 4

static PyObject *
take_role(FmpConnection *self, enum fmp_upgrade_role role)
{
    if (self->open && self->pipe.in == NULL && self->pipe.out == NULL && self->readable
        && self->writable && fmp_socket_is_local(self->pipe.fd)) {
        self->role = role;
    }
    Py_RETURN_NONE;
}

PyObject *
fmp_connection_offer_rings(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return take_role(self, FMP_MAY_OFFER);
}

PyObject *
fmp_connection_accept_rings(FmpConnection *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    return take_role(self, FMP_MAY_ACCEPT);
}

void
fmp_connection_attach_offer(FmpConnection *self, struct fmp_wire_fds *offer)
{
    offer->n = 0;
    if (self->role == FMP_MAY_OFFER && ++self->sent == OFFER_AT) {
        self->role = FMP_NO_UPGRADE;
        /* No memory or descriptors to spare: the wire goes on. */
        if (fmp_upgrade_offer(&self->upgrade, offer->fds) == FMP_OK) {
            offer->n = FMP_UPGRADE_FDS;
        }
    }
}

PyObject *
fmp_connection_receive_pickle(FmpConnection *self)
{
    if (self->role != FMP_MAY_ACCEPT) {
        return fmp_wire_receive(self, UINT64_MAX, NULL);
    }
    struct fmp_wire_fds came = {.n = 0};
    PyObject *bytes = fmp_wire_receive(self, UINT64_MAX, &came);
    if (came.n == FMP_UPGRADE_FDS && bytes != NULL) {
        self->role = FMP_NO_UPGRADE;
        (void)fmp_upgrade_accept(&self->upgrade, came.fds); /* if it fails, the wire goes on */
        return bytes;
    }
    for (unsigned i = 0; i < came.n; i++) {
        fmp_fd_close(came.fds[i]);
    }
    return bytes;
}

int
fmp_connection_follow(FmpConnection *self, int64_t deadline)
{
    fmp_connection_enter(self);
    int rc = fmp_wire_poll(self, deadline);
    fmp_connection_leave(self);
    if (rc == FMP_OK && self->open && self->upgrade.in != NULL) {
        fmp_upgrade_follow(&self->upgrade, &self->pipe);
    }
    return rc;
}
