/* fuzz_mailbox.c - channel/mailbox.c, two handles on one mailbox that is damaged: put, take with a
 * claim, the bell, the count of tasks. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/mailbox.h"
#include "fuzz.h"
#include "platform/poll.h"
#include "ring_victim.h"

#define OPERATIONS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
take_some(struct fmp_mailbox *m, struct input *in, struct fmp_wait *w)
{
    uint8_t room[128];
    struct fmp_buffer out;
    fmp_a64 claim = 0;
    uint32_t most = 1 + take_below(in, 80);
    fmp_buffer_init(&out, room, sizeof room);
    int rc = fmp_mailbox_take(m, most, &out, most == 1 ? &claim : NULL, w);
    check_result(rc);
    if (rc == FMP_OK) {
        look_at_records(&out);
    }
    fmp_buffer_free(&out);
}

static void
operate(struct fmp_mailbox *m, struct input *in, const struct victim *v)
{
    struct fmp_wait w = {.budget_ns = take_below(in, 2), .fd = -1};
    switch (take_below(in, 11)) {
    case 0:
    case 1:
    case 2:
        check_result(fmp_mailbox_put(m, take_batch_of_records(in), &w));
        break;
    case 3:
    case 4:
        take_some(m, in, &w);
        break;
    case 5:
        check_result(fmp_mailbox_poll(m, &w));
        break;
    case 6:
        check_result(fmp_mailbox_arm_bell(m, &w));
        (void)fmp_poll_now(m->bell, FMP_POLL_IN);
        break;
    case 7:
        (void)fmp_mailbox_unfinished(m);
        check_result(fmp_mailbox_task_done(m));
        break;
    case 8:
        check_result(fmp_mailbox_joined(m, &w));
        break;
    case 9:
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
    struct fmp_mailbox ends[2];
    if (fmp_mailbox_create(&ends[0], take_below(&in, 4)) != FMP_OK
        || fmp_mailbox_attach(&ends[1], fcntl(ends[0].ring.fd, F_DUPFD_CLOEXEC, 0),
                              fcntl(ends[0].bell, F_DUPFD_CLOEXEC, 0))
               != FMP_OK) {
        abort();
    }
    struct victim v = ring_victim(&ends[0].ring);
    for (int i = 0; i < OPERATIONS && in.left > 0; i++) {
        operate(&ends[take_below(&in, 2)], &in, &v);
    }
    damage_never();
    victim_close(&v);
    fmp_mailbox_close(&ends[0]);
    fmp_mailbox_close(&ends[1]);
    return 0;
}
