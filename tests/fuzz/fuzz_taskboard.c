/* fuzz_taskboard.c - channel/taskboard.c: a pool's parent and its workers, over a damaged board. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/taskboard.h"
#include "fuzz.h"
#include "ring_victim.h"

#define OPERATIONS 200
#define MOST_WORKERS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORKER(i, name)                                                                            \
    {                                                                                              \
        sizeof(struct fmp_taskboard_shm) + (i) * sizeof(struct fmp_worker_shm)                     \
            + offsetof(struct fmp_worker_shm, name),                                               \
            sizeof(((struct fmp_worker_shm *)0)->name)                                             \
    }

static const struct field board_fields[] = {
    FIELD(struct fmp_taskboard_shm, parent),
    FIELD(struct fmp_taskboard_shm, n_workers),
    FIELD(struct fmp_taskboard_shm, state),
    FIELD(struct fmp_taskboard_shm, collectors),
    FIELD(struct fmp_taskboard_shm, wake_at),
    FIELD(struct fmp_taskboard_shm, feeders),
    FIELD(struct fmp_taskboard_shm, feed_below),
    FIELD(struct fmp_taskboard_shm, hungry_below),
    WORKER(0, who),
    WORKER(0, claim),
    WORKER(0, state),
};

static struct victim
board_victim(const struct fmp_taskboard *b)
{
    return (struct victim){
        .base = (uint8_t *)b->shm,
        .size = sizeof(*b->shm) + b->n_workers * sizeof(struct fmp_worker_shm),
        .fields = board_fields,
        .n_fields = sizeof board_fields / sizeof board_fields[0],
    };
}

static int
again(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int
attach(struct fmp_taskboard *b, struct fmp_taskboard *to)
{
    struct fmp_taskboard_fds fds;
    fmp_taskboard_share(to, &fds);
    fds.tasks_ring = again(fds.tasks_ring);
    fds.tasks_bell = again(fds.tasks_bell);
    fds.results_ring = again(fds.results_ring);
    fds.results_bell = again(fds.results_bell);
    fds.slot = again(fds.slot);
    return fmp_taskboard_attach(b, &fds);
}

static void
attach_again(struct fmp_taskboard *b)
{
    struct fmp_taskboard fresh;
    int rc = attach(&fresh, b);
    check_result(rc);
    if (rc == FMP_OK) {
        fmp_taskboard_close(b);
        *b = fresh;
    }
}

static void
give_out(struct fmp_taskboard *b, struct input *in, struct fmp_wait *w)
{
    switch (take_below(in, 8)) {
    case 0:
        check_result(fmp_taskboard_dismiss(b, w));
        break;
    case 1:
        check_result(fmp_taskboard_room(b, take(in, 2), w));
        break;
    case 2:
        (void)fmp_taskboard_hungry(b, take(in, 2));
        (void)fmp_taskboard_waiting(b);
        break;
    default:
        check_result(fmp_taskboard_put(b, take_batch_of_records(in), w));
        break;
    }
}

static void
collect(struct fmp_taskboard *b, struct input *in, struct fmp_wait *w)
{
    uint8_t room[128];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    int rc = fmp_taskboard_collect(b, take_below(in, 80), &out, w);
    check_result(rc);
    if (rc == FMP_OK) {
        look_at_records(&out);
    }
    fmp_buffer_free(&out);
}

static void
cancel(struct fmp_taskboard *b, uint32_t worker, struct input *in, struct fmp_wait *w)
{
    uint32_t what = take_below(in, 8), job = what / 4;
    switch (what % 4) {
    case 0:
        fmp_taskboard_want_next(b);
        break;
    case 1:
        check_result(fmp_taskboard_cancel(b, job, w));
        break;
    case 2:
        (void)fmp_taskboard_condemned(b, worker, job);
        fmp_taskboard_spare(b, worker, job);
        break;
    default:
        (void)fmp_taskboard_began(b, worker, job);
        break;
    }
}

static void
supervise(struct fmp_taskboard *b, uint32_t worker, struct input *in, struct fmp_wait *w)
{
    bool elsewhere;
    switch (take_below(in, 7)) {
    case 0:
        fmp_taskboard_hire(b, worker);
        break;
    case 1:
        fmp_taskboard_hired(b, worker, (uint32_t)take(in, 4));
        break;
    case 2:
        fmp_taskboard_vacate(b, worker);
        break;
    case 3:
        (void)fmp_taskboard_state(b, worker);
        (void)fmp_taskboard_all_alive(b);
        break;
    case 4:
        cancel(b, worker, in, w);
        break;
    case 5:
        check_result(fmp_taskboard_rouse(b, w));
        break;
    default:
        check_result(fmp_taskboard_claimed_elsewhere(b, worker, &elsewhere, w));
        break;
    }
}

static void
work(struct fmp_taskboard *b, uint32_t worker, struct input *in, struct fmp_wait *w)
{
    uint8_t room[128];
    struct fmp_buffer out;
    int rc;
    switch (take_below(in, 6)) {
    case 0:
        check_result(fmp_taskboard_enter(b, (uint32_t)take(in, 1)));
        break;
    case 1:
        fmp_taskboard_set_state(b, worker, take_below(in, 5));
        fmp_taskboard_begin_timed(b, worker);
        (void)fmp_taskboard_parent_alive(b);
        break;
    case 2:
    case 3:
        check_result(fmp_taskboard_post(b, worker, take_batch_of_records(in), w));
        break;
    default:
        fmp_buffer_init(&out, room, sizeof room);
        rc = fmp_taskboard_take(b, worker, &out, w);
        check_result(rc);
        if (rc == FMP_OK) {
            look_at_records(&out);
        }
        fmp_buffer_free(&out);
        break;
    }
}

static void
operate(struct fmp_taskboard *b, struct input *in, const struct victim *v)
{
    struct fmp_wait w = {.budget_ns = take_below(in, 2), .fd = -1};
    uint32_t worker = take_below(in, b->n_workers);
    switch (take_below(in, 9)) {
    case 0:
    case 1:
        give_out(b, in, &w);
        break;
    case 2:
        collect(b, in, &w);
        break;
    case 3:
        supervise(b, worker, in, &w);
        break;
    case 4:
    case 5:
        work(b, worker, in, &w);
        break;
    case 6:
        attach_again(b);
        break;
    case 7:
        damage_later(in, &v[take_below(in, 3)]);
        break;
    default:
        damage(in, &v[take_below(in, 3)]);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct fmp_taskboard ends[2], keeper; /* the damaged page stays mapped by the keeper */
    if (fmp_taskboard_create(&keeper, 1 + take_below(&in, MOST_WORKERS)) != FMP_OK
        || attach(&ends[0], &keeper) != FMP_OK || attach(&ends[1], &keeper) != FMP_OK) {
        abort();
    }
    struct victim victims[3] = {board_victim(&keeper), ring_victim(&keeper.tasks.ring),
                                ring_victim(&keeper.results.ring)};
    for (int i = 0; i < OPERATIONS && in.left > 0; i++) {
        operate(&ends[take_below(&in, 2)], &in, victims);
    }
    damage_never();
    victim_close(&victims[1]);
    victim_close(&victims[2]);
    fmp_taskboard_close(&ends[0]);
    fmp_taskboard_close(&ends[1]);
    fmp_taskboard_close(&keeper);
    return 0;
}
