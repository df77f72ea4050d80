/* connection_object.h - the struct behind _core.Connection, and what its files share. */
#ifndef FMP_OBJECTS_CONNECTION_OBJECT_H
#define FMP_OBJECTS_CONNECTION_OBJECT_H

#include <Python.h>
#include <stdbool.h>

#include "bridge/codec.h"
#include "channel/pipe.h"
#include "channel/upgrade.h"
#include "module.h"

/* What a connection without rings may do to get some. */
enum fmp_upgrade_role { FMP_NO_UPGRADE, FMP_MAY_OFFER, FMP_MAY_ACCEPT };

typedef struct {
    PyObject_HEAD
    struct fmp_state *state;
    struct fmp_pipe pipe; /* without rings: a foreign descriptor, which speaks the wire format */
    struct fmp_spin receive_spin;
    struct fmp_spin send_spin;
    bool open;    /* the handle is ours: not closed, not detached */
    bool retired; /* closed while threads were inside: the last of them frees the number */
    bool readable;
    bool writable;
    int inside;                 /* calls that use the descriptor, which may have let the GIL go */
    uint32_t generation;        /* of forks, for `inside`: a child has no thread inside */
    struct fmp_upgrade upgrade; /* py_connection_upgrade.c, as the two below */
    uint8_t role;               /* enum fmp_upgrade_role */
    uint8_t sent;               /* objects, by who may offer */
} FmpConnection;

#define FMP_CONNECTION_STACK 512 /* records of this size need no heap */

/* 0, or -1 with the stdlib's OSError. */
int fmp_connection_check_readable(FmpConnection *self);
int fmp_connection_check_writable(FmpConnection *self);

/* Around every use of the descriptor that may let the GIL go. */
void fmp_connection_enter(FmpConnection *self);
void fmp_connection_leave(FmpConnection *self);

/* As `_handle = None` after closing. */
void fmp_connection_close(FmpConnection *self);

/* The exception for a result of the pipe or a system call; always NULL. */
PyObject *fmp_connection_raise(FmpConnection *self, int rc, const char *what);

/* Sends a batch through the ring. 0 or -1. */
int fmp_connection_put(FmpConnection *self, const struct fmp_batch *batch);
/* Takes a message from the ring; `stack` is FMP_CONNECTION_STACK bytes that outlive it. FMP_OK, and
 * what is in `m` is the caller's; FMP_PIPE_FOREIGN: read the descriptor itself; FMP_PYERR:
 * exception. */
int fmp_connection_take(FmpConnection *self, struct fmp_message *m, uint8_t *stack);

/* Whether something can be received before the deadline: FMP_OK, FMP_TIMEOUT, or another result. */
int fmp_connection_poll(FmpConnection *self, int64_t deadline);

/* Descriptors that travel with a message. */
struct fmp_wire_fds {
    int fds[FMP_UPGRADE_FDS];
    unsigned n;
};

/* py_connection_wire.c: the stdlib's format on the descriptor itself. Sends: 0 or -1. Receives: a
 * bytes object; NULL with an exception, or without one when the length, which has been read then,
 * is above `longest`, or when the peer has turned to the ring instead (pipe.in is there). `fds` are
 * sent along, or come along and are the caller's; NULL: none. */
int fmp_wire_send(FmpConnection *self, const void *data, size_t size, struct fmp_wire_fds *fds);
PyObject *fmp_wire_receive(FmpConnection *self, uint64_t longest, struct fmp_wire_fds *fds);
/* FMP_OK, FMP_TIMEOUT, or another result. */
int fmp_wire_poll(FmpConnection *self, int64_t deadline);

/* py_connection_bytes.c */
PyObject *fmp_connection_send_bytes(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args,
                                    PyObject *kwnames);
PyObject *fmp_connection_recv_bytes(FmpConnection *self, PyObject *const *args, Py_ssize_t n_args,
                                    PyObject *kwnames);
PyObject *fmp_connection_recv_bytes_into(FmpConnection *self, PyObject *const *args,
                                         Py_ssize_t n_args, PyObject *kwnames);

/* py_connection_upgrade.c */
PyObject *fmp_connection_offer_rings(FmpConnection *self, PyObject *ignored);
PyObject *fmp_connection_accept_rings(FmpConnection *self, PyObject *ignored);
/* What is to be sent along with the object that comes next on the wire. */
void fmp_connection_attach_offer(FmpConnection *self, struct fmp_wire_fds *offer);
/* A pickle from the wire; rings that are offered with it are accepted. As fmp_wire_receive(). */
PyObject *fmp_connection_receive_pickle(FmpConnection *self);
/* Waits for input, and turns to the ring when the peer has: while upgrade.in is there, before a
 * poll. FMP_OK, FMP_TIMEOUT, or another result. */
int fmp_connection_follow(FmpConnection *self, int64_t deadline);

/* py_wait.c */
PyObject *fmp_connection_wait(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                              PyObject *kwnames);

#endif
