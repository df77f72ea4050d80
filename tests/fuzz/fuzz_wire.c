/* fuzz_wire.c - _core.Connection with a hostile peer: any bytes in the stdlib's format, descriptors
 * with them that are rings, damaged rings or neither, and what may follow on both. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/mailbox.h"
#include "channel/pipe.h"
#include "fuzz.h"
#include "platform/socket.h"
#include "python/python.h"
#include "ring_victim.h"

#define CALLS 12
#define LARGEST 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
    int fd;
    struct fmp_mailbox rings[2]; /* their rings: forth is read by the connection */
    struct victim victims[2];
};

static void
start_peer(struct peer *p, int fd)
{
    p->fd = fd;
    for (int i = 0; i < 2; i++) {
        p->rings[i] = (struct fmp_mailbox){.bell = -1};
        if (fmp_ring_create(&p->rings[i].ring, 0, FMP_PIPE_BYTES) != FMP_OK) {
            abort();
        }
        p->victims[i] = ring_victim(&p->rings[i].ring);
        /* Who seems to hold a lock is waited for, in ticks. That is no crash, but takes for ever. */
        p->victims[i].spare_always = true;
    }
}

static void
end_peer(struct peer *p)
{
    for (int i = 0; i < 2; i++) {
        victim_close(&p->victims[i]);
        fmp_ring_close(&p->rings[i].ring);
    }
}

/* A message in the wire format: its length may be a lie. */
static void
write_message(struct peer *p, struct input *in, const int *fds, unsigned n_fds)
{
    uint8_t body[LARGEST], head[12] = {0xff, 0xff, 0xff, 0xff};
    size_t n = take(in, 1), n_head = 4, told = n;
    for (size_t i = 0; i < n; i++) {
        body[i] = (uint8_t)(i < 16 ? take(in, 1) : i);
    }
    switch (take_below(in, 6)) {
    case 0:
        told = take(in, 4);
        break;
    case 1:
        told = take(in, 8);
        n_head = 12;
        break;
    default:
        break;
    }
    for (size_t i = 0; i < (n_head == 4 ? 4u : 8u); i++) {
        head[n_head - 1 - i] = (uint8_t)(told >> 8 * i);
    }
    struct iovec parts[2] = {{head, n_head}, {body, n}};
    alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
    if (n_fds > 0) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){CMSG_LEN(n_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    (void)!sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
offer(struct peer *p, struct input *in)
{
    int fds[4], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    unsigned n = take_below(in, 4) == 0 ? take_below(in, 5) : 2;
    for (unsigned i = 0; i < n; i++) {
        unsigned which = take_below(in, 8);
        fds[i] = which == 7 ? null : which == 6 ? 0 : p->rings[(i ^ (which == 5)) & 1].ring.fd;
    }
    write_message(p, in, fds, n);
    close(null);
}

static void
put_records(struct peer *p, struct input *in)
{
    struct fmp_wait w = {.budget_ns = 1, .fd = -1};
    (void)fmp_mailbox_put(&p->rings[0], take_batch_of_records(in), &w);
}

/* What the peer does before the connection looks. */
static void
prepare(struct peer *p, struct input *in)
{
    for (unsigned n = 1 + take_below(in, 10); n > 0; n--) {
        switch (take_below(in, 8)) {
        case 0:
            write_message(p, in, NULL, 0);
            break;
        case 1:
        case 2:
            offer(p, in);
            break;
        case 3:
            (void)fmp_socket_send_byte(p->fd, 0xd2); /* the switch */
            break;
        case 4:
            (void)fmp_socket_send_byte(p->fd, (uint8_t)take(in, 1));
            break;
        case 5:
        case 6:
            put_records(p, in);
            (void)fmp_socket_send_byte(p->fd, 0xd1); /* the bell */
            break;
        default:
            damage(in, &p->victims[take_below(in, 2)]);
            break;
        }
    }
}

static void
call(PyObject *connection, struct peer *p, struct input *in)
{
    PyObject *buffer;
    switch (take_below(in, 9)) {
    case 0:
    case 1:
    case 2:
        check_object(PyObject_CallMethod(connection, "recv", NULL));
        break;
    case 3:
        check_object(PyObject_CallMethod(connection, "recv_bytes", NULL));
        break;
    case 4:
        check_object(PyObject_CallMethod(connection, "recv_bytes", "I", take_below(in, 300)));
        break;
    case 5:
        buffer = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)take_below(in, 300));
        check_object(PyObject_CallMethod(connection, "recv_bytes_into", "O", buffer));
        Py_DECREF(buffer);
        break;
    case 6:
        check_object(PyObject_CallMethod(connection, "poll", NULL));
        break;
    case 7:
        check_object(PyObject_CallMethod(connection, take_below(in, 2) ? "send" : "send_bytes",
                                         "y#", "some bytes", (Py_ssize_t)take_below(in, 10)));
        break;
    default:
        damage(in, &p->victims[take_below(in, 2)]);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PyObject *type;
    struct input in = {data, size};
    struct peer peer;
    int sockets[2];
    start_python();
    signal(SIGPIPE, SIG_IGN); /* as Python does */
    if (type == NULL) {
        type = fastmp_name("fastmp.connection", "Connection");
    }
    if (fmp_socket_pair(sockets) != FMP_OK) {
        abort();
    }
    start_peer(&peer, sockets[1]);
    PyObject *connection = PyObject_CallFunction(type, "i", sockets[0]);
    static const char *const roles[] = {"_accept_rings", "_accept_rings", "_offer_rings", "fileno"};
    check_object(PyObject_CallMethod(connection, roles[take_below(&in, 4)], NULL));
    prepare(&peer, &in);
    close(peer.fd); /* so that nothing waits: for more, or for room in what looks full */
    for (int i = 0; i < CALLS && in.left > 0; i++) {
        call(connection, &peer, &in);
    }
    PyObject *closed = PyObject_CallMethod(connection, "close", NULL);
    check_object(closed);
    Py_DECREF(connection);
    end_peer(&peer);
    return 0;
}
