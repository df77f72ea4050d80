/* fuzz_attach.c - what a handle that was unpickled is given to: descriptors, offsets and sizes that
 * need not fit what lies behind them. The files are rings, slabs and pool pages, damaged and cut
 * off, or none of these; what can be attached all the same is then used. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/pipe.h"
#include "channel/taskboard.h"
#include "fuzz.h"
#include "platform/fd.h"
#include "platform/poll.h"
#include "platform/socket.h"
#include "ring_victim.h"
#include "sync/barrier.h"

#define FILES 3
#define LONGEST_FILE 16384u
#define PLACE 256u /* of the slot in a slab file */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- files ------------------------------------------------------------------------------------- */

static void
make_ring(uint8_t *bytes)
{
    struct fmp_ring r;
    if (fmp_ring_create(&r, 0, 0) != FMP_OK || pread(r.fd, bytes, LONGEST_FILE, 0) <= 0) {
        abort();
    }
    fmp_ring_close(&r);
}

/* A slab whose slot is a pool's page, or a barrier. */
static void
make_slab(uint8_t *bytes, bool is_barrier)
{
    struct fmp_header_shm header = {.magic = FMP_MAGIC,
                                    .version = FMP_LAYOUT_VERSION,
                                    .kind = FMP_KIND_SLAB,
                                    .size = LONGEST_FILE};
    memcpy(bytes, &header, sizeof header);
    if (is_barrier) {
        struct fmp_barrier b;
        fmp_barrier_create(&b, (struct fmp_barrier_shm *)(bytes + PLACE), 2);
    }
    else {
        ((struct fmp_taskboard_shm *)(bytes + PLACE))->n_workers = 2;
    }
}

static const struct field file_fields[] = {
    FIELD(struct fmp_header_shm, magic),
    FIELD(struct fmp_header_shm, version),
    FIELD(struct fmp_header_shm, kind),
    FIELD(struct fmp_header_shm, size),
    FIELD(struct fmp_ring_shm, tail),
    FIELD(struct fmp_ring_shm, head),
    FIELD(struct fmp_ring_shm, capacity),
    {PLACE + offsetof(struct fmp_taskboard_shm, n_workers), 4},
    {PLACE + offsetof(struct fmp_taskboard_shm, state), 4},
    {PLACE + offsetof(struct fmp_barrier_shm, parties), 4},
    {PLACE + 16, 4}, /* the kind of the barrier's mutex */
};

static int
new_file(struct input *in)
{
    static alignas(64) uint8_t bytes[LONGEST_FILE];
    struct victim v = {.base = bytes,
                       .size = sizeof bytes,
                       .fields = file_fields,
                       .n_fields = sizeof file_fields / sizeof *file_fields};
    unsigned kind = take_below(in, 4);
    memset(bytes, 0, sizeof bytes);
    if (kind < 2) {
        make_ring(bytes);
    }
    else {
        make_slab(bytes, kind == 3);
    }
    for (unsigned n = take_below(in, 4); n > 0; n--) {
        damage(in, &v);
    }
    size_t length = take_below(in, 2) ? sizeof bytes : take(in, 2) % sizeof bytes;
    int fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)length) < 0
        || pwrite(fd, bytes, length, 0) != (ssize_t)length) {
        abort();
    }
    if (take_below(in, 8) > 0) {
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    }
    return fd;
}

/* A descriptor of its own: mostly of one of the files. */
static int
some_fd(const int *files, struct input *in)
{
    int sockets[2];
    unsigned which = take_below(in, FILES + 4);
    switch (which) {
    case FILES:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case FILES + 1:
        return fmp_eventfd_create();
    case FILES + 2:
        if (fmp_socket_pair(sockets) != FMP_OK) {
            abort();
        }
        close(sockets[1]);
        return sockets[0];
    case FILES + 3:
        return -1;
    default:
        return fcntl(files[which], F_DUPFD_CLOEXEC, 0);
    }
}

/* --- handles ----------------------------------------------------------------------------------- */

static size_t
some_size(struct input *in)
{
    static const size_t sizes[] = {0,   1,   64,   128,      192,          256,
                                   384, 512, 4096, SIZE_MAX, SIZE_MAX - 63};
    unsigned which = take_below(in, sizeof sizes / sizeof *sizes + 2);
    return which < sizeof sizes / sizeof *sizes ? sizes[which] : (size_t)take(in, 2);
}

static size_t
some_offset(struct input *in)
{
    return take_below(in, 2) ? PLACE : some_size(in);
}

static void
use_ring(struct fmp_ring *r, struct input *in)
{
    struct fmp_mailbox m = {.ring = *r, .bell = -1};
    struct fmp_buffer out;
    fmp_buffer_init(&out, NULL, 0);
    for (int i = 0; i < 4; i++) {
        struct fmp_wait w = {.budget_ns = 1, .fd = -1};
        check_result(fmp_mailbox_put(&m, take_batch_of_records(in), &w));
        int rc = fmp_mailbox_take(&m, 3, &out, NULL, &w);
        check_result(rc);
        if (rc == FMP_OK) {
            look_at_records(&out);
        }
    }
    fmp_buffer_free(&out);
    *r = m.ring;
}

static void
attach_ring(const int *files, struct input *in)
{
    struct fmp_ring r;
    int rc = fmp_ring_attach(&r, some_fd(files, in));
    check_result(rc);
    if (rc == FMP_OK) {
        use_ring(&r, in);
        fmp_ring_close(&r);
    }
}

static void
attach_slot(const int *files, struct input *in)
{
    struct fmp_slot slot;
    size_t offset = some_offset(in);
    int rc = fmp_slot_attach(some_fd(files, in), offset, some_size(in), &slot);
    check_result(rc);
    if (rc == FMP_OK) {
        look_at(fmp_slot_at(&slot), slot.size);
        memset(fmp_slot_at(&slot), 0x55, slot.size);
        fmp_slot_free(&slot);
    }
}

static void
attach_barrier(const int *files, struct input *in)
{
    struct fmp_slot slot;
    size_t offset = some_offset(in);
    int rc = fmp_slot_attach(some_fd(files, in), offset, some_size(in), &slot);
    check_result(rc);
    if (rc != FMP_OK) {
        return;
    }
    struct fmp_barrier b;
    rc = fmp_barrier_attach(&b, fmp_slot_at(&slot), slot.size);
    check_result(rc);
    for (int i = 0; i < 3 && rc == FMP_OK; i++) {
        struct fmp_wait w = {.budget_ns = 1, .fd = -1};
        struct fmp_party party = {.place = -1};
        rc = fmp_barrier_arrive(&b, &party, i & 1, &w);
        check_result(rc);
        fmp_barrier_tick(&b, &party);
    }
    fmp_slot_free(&slot);
}

static void
attach_taskboard(const int *files, struct input *in)
{
    struct fmp_taskboard b;
    struct fmp_taskboard_fds fds = {
        .tasks_ring = some_fd(files, in),
        .tasks_bell = some_fd(files, in),
        .results_ring = some_fd(files, in),
        .results_bell = some_fd(files, in),
        .slot = some_fd(files, in),
        .slot_offset = some_offset(in),
        .slot_size = some_size(in),
    };
    int rc = fmp_taskboard_attach(&b, &fds);
    check_result(rc);
    if (rc != FMP_OK) {
        return;
    }
    struct fmp_buffer out;
    fmp_buffer_init(&out, NULL, 0);
    for (uint32_t worker = 0; worker < 4; worker++) {
        struct fmp_wait w = {.budget_ns = 1, .fd = -1};
        check_result(fmp_taskboard_put(&b, take_batch_of_records(in), &w));
        if (fmp_taskboard_enter(&b, worker) == FMP_OK) {
            check_result(fmp_taskboard_take(&b, worker, &out, &w));
            check_result(fmp_taskboard_post(&b, worker, take_batch_of_records(in), &w));
        }
        check_result(fmp_taskboard_collect(&b, 1, &out, &w));
        (void)fmp_taskboard_all_alive(&b);
    }
    fmp_buffer_free(&out);
    fmp_taskboard_close(&b);
}

static void
attach_pipe(const int *files, struct input *in)
{
    struct fmp_pipe p;
    int fd = some_fd(files, in), in_fd = some_fd(files, in), out_fd = some_fd(files, in);
    int rc = fmp_pipe_attach(&p, fd, in_fd, out_fd);
    check_result(rc);
    if (rc != FMP_OK) {
        fmp_close(&fd); /* not taken over */
        return;
    }
    struct fmp_buffer out;
    fmp_buffer_init(&out, NULL, 0);
    for (int i = 0; i < 3; i++) {
        struct fmp_wait w = {.budget_ns = 1, .fd = -1};
        struct fmp_pipe_call call = {.at_once = true};
        if (p.out != NULL) {
            check_result(fmp_pipe_send(&p, take_batch_of_records(in), NULL, &w));
        }
        if (p.in != NULL) {
            check_result(fmp_pipe_receive(&p, &call, &out, &w));
            (void)fmp_pipe_finish(&p, &call, &w);
        }
    }
    fmp_buffer_free(&out);
    fmp_pipe_hang_up(&p, false);
    fmp_pipe_free(&p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const attach[])(const int *, struct input *) = {
        attach_ring, attach_slot, attach_barrier, attach_taskboard, attach_pipe};
    struct input in = {data, size};
    int files[FILES];
    signal(SIGPIPE, SIG_IGN); /* as Python does: a bell may be a socket without a peer */
    for (int i = 0; i < FILES; i++) {
        files[i] = new_file(&in);
    }
    for (int i = 0; i < 4 && in.left > 0; i++) {
        attach[take_below(&in, 5)](files, &in);
    }
    for (int i = 0; i < FILES; i++) {
        close(files[i]);
    }
    return 0;
}
