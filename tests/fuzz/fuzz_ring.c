/* fuzz_ring.c - channel/ring.c with two handles on one ring that is damaged: what is put and taken
 * step by step, growth, giving memory back, attaching. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/status.h"
#include "fuzz.h"
#include "ring_victim.h"

#define OPERATIONS 200
#define LARGEST_FILE (4 << 20) /* that a file is made to be; more comes from puts alone */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
put(struct fmp_ring *r, struct input *in, struct fmp_wait *w)
{
    const struct fmp_batch *batch = take_batch_of_records(in);
    uint64_t commit;
    int rc = fmp_ring_lock_tail(r, w);
    check_result(rc);
    if (rc != FMP_OK) {
        return;
    }
    rc = fmp_ring_write(r, batch, w, &commit);
    check_result(rc);
    if (rc == FMP_OK) {
        fmp_ring_commit_put(r, commit, batch->items);
    }
    fmp_ring_unlock_tail(r);
}

static void
take_some(struct fmp_ring *r, struct input *in, struct fmp_wait *w)
{
    uint8_t room[256];
    struct fmp_buffer out;
    uint64_t commit;
    uint32_t items, most = 1 + take_below(in, 20);
    fmp_buffer_init(&out, room, sizeof room);
    int rc = fmp_ring_lock_head(r, w);
    check_result(rc);
    if (rc == FMP_OK) {
        rc = fmp_ring_read(r, most, &out, w, &commit, &items);
        check_result(rc);
        if (rc == FMP_OK) {
            fmp_ring_commit_take(r, commit);
            look_at_records(&out);
        }
        fmp_ring_unlock_head(r);
    }
    fmp_buffer_free(&out);
}

static void
take_in_two_steps(struct fmp_ring *r, struct fmp_wait *w)
{
    uint8_t room[64];
    struct fmp_buffer out;
    uint64_t commit;
    uint32_t items;
    fmp_buffer_init(&out, room, sizeof room);
    out.direct = UINT32_MAX;
    int rc;
    do {
        if (out.header != 0) {
            out.into = malloc(fmp_record_length(out.header));
        }
        rc = fmp_ring_lock_head(r, w);
        check_result(rc);
        if (rc == FMP_OK) {
            rc = fmp_ring_read(r, 1, &out, w, &commit, &items);
            check_result(rc);
            if (rc == FMP_OK) {
                fmp_ring_commit_take(r, commit);
            }
            fmp_ring_unlock_head(r);
        }
        if (rc == FMP_OK && out.into != NULL) {
            look_at(out.into, fmp_record_length(out.header));
        }
        free(out.into);
        out.into = NULL;
    } while (rc == FMP_DIRECT);
    fmp_buffer_free(&out);
}

/* What is done with a record that there is no memory for. */
static void
take_its_beginning(struct fmp_ring *r, struct input *in, struct fmp_wait *w)
{
    uint8_t room[64];
    struct fmp_buffer out;
    uint64_t commit;
    fmp_buffer_init(&out, room, FMP_UNIT * (1 + take_below(in, 4)));
    int rc = fmp_ring_lock_head(r, w);
    check_result(rc);
    if (rc == FMP_OK) {
        rc = fmp_ring_read_cut(r, &out, w, &commit);
        check_result(rc);
        if (rc == FMP_OK) {
            fmp_ring_commit_take(r, commit);
            look_at(out.data, out.size);
        }
        fmp_ring_unlock_head(r);
    }
}

static void
make_void(struct fmp_ring *r, struct input *in, struct fmp_wait *w)
{
    uint64_t value = take(in, 1) * UINT64_C(0x0101010101010101); /* as the bodies are filled */
    int rc = fmp_ring_lock_head(r, w);
    check_result(rc);
    if (rc == FMP_OK) {
        check_result(fmp_ring_void(r, UINT64_C(0xff), value & 0xff));
        fmp_ring_unlock_head(r);
    }
}

/* Gives the handle up and makes another of the same memory, if that is still a ring. */
static void
attach_again(struct fmp_ring *r, int fd)
{
    struct fmp_ring fresh;
    int rc = fmp_ring_attach(&fresh, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    check_result(rc);
    if (rc == FMP_OK) {
        fmp_ring_close(r);
        *r = fresh;
    }
}

static void
seldom(struct fmp_ring *r, struct input *in, struct fmp_wait *w)
{
    uint32_t what = (uint32_t)take(in, 3);
    switch (what % 4) {
    case 0:
        take_its_beginning(r, in, w);
        break;
    case 1:
        make_void(r, in, w);
        break;
    default:
        (void)!ftruncate(r->fd, (off_t)(what % LARGEST_FILE)); /* shrinking is refused */
        break;
    }
}

static void
operate(struct fmp_ring *r, struct input *in, const struct victim *v)
{
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    switch (take_below(in, 12)) {
    case 0:
    case 1:
    case 2:
        put(r, in, &w);
        break;
    case 3:
        w.budget_ns = 1; /* without the GIL, so to speak: large copies are allowed */
        put(r, in, &w);
        break;
    case 4:
    case 5:
        take_some(r, in, &w);
        break;
    case 6:
        w.budget_ns = 1;
        take_some(r, in, &w);
        break;
    case 7:
        w.budget_ns = 1;
        take_in_two_steps(r, &w);
        break;
    case 8:
        (void)fmp_ring_count(r);
        (void)fmp_ring_room(r);
        attach_again(r, r->fd);
        break;
    case 9:
        seldom(r, in, &w);
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
    static const uint32_t max_items[] = {0, 0, 1, 5};
    static const uint64_t max_bytes[] = {0, 0, 1 << 12, 1 << 20};
    struct input in = {data, size};
    struct fmp_ring ends[2];
    unsigned limits = take_below(&in, 16);
    if (fmp_ring_create(&ends[0], max_items[limits % 4], max_bytes[limits / 4]) != FMP_OK
        || fmp_ring_attach(&ends[1], fcntl(ends[0].fd, F_DUPFD_CLOEXEC, 0)) != FMP_OK) {
        abort();
    }
    struct victim v = ring_victim(&ends[0]);
    for (int i = 0; i < OPERATIONS && in.left > 0; i++) {
        operate(&ends[take_below(&in, 2)], &in, &v);
    }
    damage_never();
    victim_close(&v);
    fmp_ring_close(&ends[0]);
    fmp_ring_close(&ends[1]);
    return 0;
}
