/* py_connection_wire.c - the stdlib's message format on a plain descriptor.
 *
 * A message is its length, 4 bytes big-endian, and its bytes; a length above 2^31 - 1 is -1 and 8
 * bytes. Header and body are written together. Blocks as the descriptor does, without the GIL, and
 * goes on after a signal whose handler does not raise (PEP 475). Owns nothing; a kill in a send
 * leaves a truncated message, as it does in the stdlib: the format knows no better.
 */
#include <errno.h>

#include "base/status.h"
#include "objects/connection_object.h"
#include "platform/fd.h"
#include "platform/poll.h"
#include "platform/socket.h"

#define LONGEST_SHORT 0x7fffffff
#define TRUSTED (16 << 20) /* bytes that are reserved on a header's word; more come with the data */

struct transfer {
    int fd;
    const uint8_t *head;
    size_t n_head;
    uint8_t *data;
    size_t n_data;
    struct fmp_wire_fds *fds; /* to go with the first byte, or coming; or NULL */
    int64_t n;                /* out */
};

static int
try_read(void *arg, struct fmp_wait *Py_UNUSED(w))
{
    struct transfer *t = arg;
    if (t->fds != NULL && t->fds->n == 0) {
        t->n = fmp_socket_read_fds(t->fd, t->data, t->n_data, t->fds->fds, FMP_UPGRADE_FDS,
                                   &t->fds->n);
    }
    else {
        t->n = fmp_fd_read(t->fd, t->data, t->n_data);
    }
    return t->n < 0 ? (int)t->n : FMP_OK;
}

static int
try_write(void *arg, struct fmp_wait *Py_UNUSED(w))
{
    struct transfer *t = arg;
    if (t->fds != NULL && t->fds->n > 0) {
        t->n = fmp_socket_write_fds(t->fd, t->head, t->n_head, t->data, t->n_data, t->fds->fds,
                                    t->fds->n);
    }
    else {
        t->n = fmp_fd_write(t->fd, t->head, t->n_head, t->data, t->n_data);
    }
    return t->n < 0 ? (int)t->n : FMP_OK;
}

/* One system call, again after signals. 0, or -1 with an exception. */
static int
transfer(FmpConnection *self, fmp_try_fn call, struct transfer *t)
{
    int rc;
    t->fd = self->pipe.fd;
    fmp_connection_enter(self);
    do {
        rc = self->open ? fmp_run_unlocked(call, t) : -EBADF;
    } while (rc == -EINTR && PyErr_CheckSignals() == 0);
    fmp_connection_leave(self);
    if (rc != FMP_OK && !PyErr_Occurred()) {
        fmp_connection_raise(self, rc, "use a connection");
    }
    return rc == FMP_OK ? 0 : -1;
}

/* --- sending --------------------------------------------------------------------------------- */

static size_t
write_header(uint8_t *head, uint64_t size)
{
    uint64_t word = size;
    size_t n = 4, begin = 0;
    if (size > LONGEST_SHORT) {
        head[0] = head[1] = head[2] = head[3] = 0xff;
        begin = 4;
        n = 12;
    }
    for (size_t i = n; i > begin; i--) {
        head[i - 1] = (uint8_t)word;
        word >>= 8;
    }
    return n;
}

int
fmp_wire_send(FmpConnection *self, const void *data, size_t size, struct fmp_wire_fds *fds)
{
    uint8_t head[12];
    struct transfer t = {.head = head, .data = (uint8_t *)data, .n_data = size, .fds = fds};
    t.n_head = write_header(head, size);
    while (t.n_head + t.n_data > 0) {
        if (transfer(self, try_write, &t) < 0) {
            return -1;
        }
        t.fds = NULL;
        size_t n = (size_t)t.n, of_head = n < t.n_head ? n : t.n_head;
        t.head += of_head;
        t.n_head -= of_head;
        t.data += n - of_head;
        t.n_data -= n - of_head;
    }
    return 0;
}

/* --- receiving ------------------------------------------------------------------------------- */

/* `begun`: of what this is a part of, something has been read. */
static int
read_exactly(FmpConnection *self, void *data, size_t size, struct fmp_wire_fds *fds, bool begun)
{
    struct transfer t = {.data = data, .n_data = size, .fds = fds};
    while (t.n_data > 0) {
        if (transfer(self, try_read, &t) < 0) {
            return -1;
        }
        if (t.n == 0) {
            if (t.n_data == size && !begun) {
                PyErr_SetNone(PyExc_EOFError);
            }
            else {
                PyErr_SetString(PyExc_OSError, "got end of file during message");
            }
            return -1;
        }
        t.data += t.n;
        t.n_data -= (size_t)t.n;
    }
    return 0;
}

static uint64_t
big_endian(const uint8_t *bytes, int n)
{
    uint64_t word = 0;
    for (int i = 0; i < n; i++) {
        word = word << 8 | bytes[i];
    }
    return word;
}

/* The header's first 4 bytes. An offer that another thread makes while we wait here may be answered
 * by the peer's switch, so the first byte is read alone where that can be: 1: it was the switch. */
static int
read_header(FmpConnection *self, uint8_t *head, struct fmp_wire_fds *fds)
{
    size_t first = self->role == FMP_MAY_OFFER || self->upgrade.in != NULL ? 1 : 4;
    if (read_exactly(self, head, first, fds, false) < 0) {
        return -1;
    }
    if (first == 1 && fmp_upgrade_hear(&self->upgrade, &self->pipe, head[0])) {
        return 1;
    }
    return first == 4 ? 0 : read_exactly(self, head + 1, 3, NULL, true);
}

/* A peer may say any size: memory is taken as the bytes come. */
static PyObject *
read_body(FmpConnection *self, size_t size)
{
    size_t have = 0, room = size < TRUSTED ? size : TRUSTED;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    while (bytes != NULL) {
        if (read_exactly(self, PyBytes_AS_STRING(bytes) + have, room - have, NULL, have > 0) < 0) {
            Py_CLEAR(bytes);
        }
        else if (room == size) {
            break;
        }
        else {
            have = room;
            room = size - have < have ? size : 2 * have;
            (void)_PyBytes_Resize(&bytes, (Py_ssize_t)room); /* NULL when it fails */
        }
    }
    return bytes;
}

PyObject *
fmp_wire_receive(FmpConnection *self, uint64_t longest, struct fmp_wire_fds *fds)
{
    uint8_t head[8];
    if (read_header(self, head, fds) != 0) {
        return NULL;
    }
    int32_t short_size = (int32_t)big_endian(head, 4);
    uint64_t size = short_size > 0 ? (uint64_t)short_size : 0;
    if (short_size == -1) {
        if (read_exactly(self, head, 8, NULL, false) < 0) {
            return NULL;
        }
        size = big_endian(head, 8);
    }
    if (size > longest) {
        return NULL;
    }
    if (size > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    return read_body(self, (size_t)size);
}

/* --- poll ------------------------------------------------------------------------------------ */

static int
try_poll(void *arg, struct fmp_wait *w)
{
    int fd = *(int *)arg;
    int events = fmp_poll_now(fd, FMP_POLL_IN);
    if (events == 0) {
        fmp_wait_on_fd(w, fd, FMP_POLL_IN);
        return FMP_AGAIN;
    }
    return events > 0 ? FMP_OK : events;
}

int
fmp_wire_poll(FmpConnection *self, int64_t deadline)
{
    struct fmp_waiter waiter = {.try_once = try_poll, .arg = &self->pipe.fd, .deadline = deadline};
    return fmp_wait_for(&waiter);
}
