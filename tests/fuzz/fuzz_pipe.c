/* fuzz_pipe.c - channel/pipe.c and upgrade.c: two ends over damaged rings, with foreign bytes in
 * their sockets, and offers of rings that are none. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/pipe.h"
#include "channel/upgrade.h"
#include "fuzz.h"
#include "platform/socket.h"
#include "ring_victim.h"

#define OPERATIONS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct end {
    struct fmp_pipe pipe;
    struct fmp_pipe_call call; /* the one that is under way */
    bool open;
};

static void
finish(struct end *e)
{
    struct fmp_wait w = {.budget_ns = 1, .fd = -1};
    if (fmp_pipe_unfinished(&e->call)) {
        check_result(fmp_pipe_finish(&e->pipe, &e->call, &w));
    }
    e->call = (struct fmp_pipe_call){0};
}

static void
receive(struct end *e, struct input *in, struct fmp_wait *w)
{
    uint8_t room[128];
    struct fmp_buffer out;
    unsigned how = take_below(in, 8);
    e->call.at_once = how & 1;
    fmp_buffer_init(&out, room, sizeof room);
    out.direct = how & 2 ? UINT32_MAX : 0;
    int rc = fmp_pipe_receive(&e->pipe, &e->call, &out, w);
    check_result(rc);
    if (rc == FMP_OK) {
        look_at_records(&out);
    }
    while (rc == FMP_DIRECT) {
        size_t length = fmp_record_length(out.header);
        out.into = malloc(length);
        rc = out.into != NULL ? fmp_pipe_receive(&e->pipe, &e->call, &out, w) : FMP_AGAIN;
        check_result(rc);
        if (rc == FMP_OK) {
            look_at(out.into, length);
        }
        free(out.into);
        out.into = NULL;
    }
    fmp_buffer_free(&out);
    if (rc != FMP_AGAIN) {
        finish(e);
    }
}

/* A peer writes to the descriptor itself: anything, bells and switches among it. */
static void
write_foreign(struct end *e, struct input *in)
{
    static const uint8_t special[] = {0xd1, 0xd2, 0x00, 0xff};
    unsigned n = 1 + take_below(in, 8);
    while (n-- > 0) {
        uint8_t byte = (uint8_t)take(in, 1);
        (void)fmp_socket_send_byte(e->pipe.fd, byte < 4 ? special[byte] : byte);
    }
}

static int
some_fd(const struct end *e, struct input *in)
{
    int fd;
    switch (take_below(in, 6)) {
    case 0:
        fd = e->pipe.fd;
        break;
    case 1:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 2:
        return memfd_create("foreign", MFD_CLOEXEC);
    case 3:
        fd = e->pipe.out != NULL ? e->pipe.out->fd : -1;
        break;
    case 4:
        fd = e->pipe.in != NULL ? e->pipe.in->fd : -1;
        break;
    default:
        return -1;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* Rings that this very connection uses, or none at all, are offered to a connection without. */
static void
accept_offer(const struct end *e, struct input *in)
{
    int sockets[2], fds[FMP_UPGRADE_FDS] = {some_fd(e, in), some_fd(e, in)};
    struct fmp_upgrade u = {0};
    if (fmp_socket_pair(sockets) != FMP_OK) {
        abort();
    }
    struct end fresh = {.pipe = {.fd = sockets[0]}, .open = true};
    int rc = fmp_upgrade_accept(&u, fds);
    check_result(rc);
    if (rc == FMP_OK) {
        uint8_t byte = (uint8_t)take(in, 1);
        (void)fmp_socket_send_byte(sockets[1], byte & 1 ? 0xd2 : byte);
        fmp_upgrade_follow(&u, &fresh.pipe);
        fmp_upgrade_switch(&u, &fresh.pipe);
        for (int i = 0; i < 3 && fresh.pipe.in != NULL; i++) {
            struct fmp_wait w = {.budget_ns = 1, .fd = -1};
            receive(&fresh, in, &w);
        }
    }
    finish(&fresh);
    fmp_pipe_hang_up(&fresh.pipe, false);
    fmp_pipe_free(&fresh.pipe);
    fmp_upgrade_free(&u);
    close(sockets[1]);
}

static void
operate(struct end *e, struct input *in, const struct victim *v)
{
    struct fmp_wait w = {.budget_ns = take_below(in, 2), .fd = -1};
    switch (e->open ? take_below(in, 12) : 10) {
    case 0:
    case 1:
    case 2:
        if (e->pipe.out != NULL) {
            check_result(fmp_pipe_send(&e->pipe, take_batch_of_records(in), NULL, &w));
        }
        break;
    case 3:
    case 4:
    case 5:
        if (e->pipe.in != NULL) {
            receive(e, in, &w);
        }
        break;
    case 6:
        if (e->pipe.in != NULL) {
            check_result(fmp_pipe_poll(&e->pipe, &e->call, &w));
        }
        break;
    case 7:
        write_foreign(e, in);
        break;
    case 8:
        accept_offer(e, in);
        break;
    case 9:
        if (take_below(in, 4) == 0) {
            finish(e);
            fmp_pipe_hang_up(&e->pipe, false);
            e->open = false;
        }
        break;
    case 10:
        damage_later(in, v);
        break;
    default:
        damage(in, v);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct end ends[2] = {{.open = true}, {.open = true}};
    if (fmp_pipe_create(&ends[0].pipe, &ends[1].pipe, take_below(&in, 4) > 0) != FMP_OK) {
        abort();
    }
    struct victim victims[2] = {ring_victim(ends[0].pipe.in), {0}};
    if (ends[1].pipe.in != NULL) {
        victims[1] = ring_victim(ends[1].pipe.in);
    }
    for (int i = 0; i < OPERATIONS && in.left > 0; i++) {
        operate(&ends[take_below(&in, 2)], &in, &victims[take_below(&in, 2)]);
    }
    damage_never();
    for (int i = 0; i < 2; i++) {
        if (ends[i].open) {
            finish(&ends[i]);
            fmp_pipe_hang_up(&ends[i].pipe, false);
        }
        fmp_pipe_free(&ends[i].pipe);
        if (victims[i].base != NULL) {
            victim_close(&victims[i]);
        }
    }
    return 0;
}
