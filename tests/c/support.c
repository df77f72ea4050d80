/* support.c - see support.h. */
#include "support.h"

#include <dirent.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/points.h"
#include "base/status.h"

void *
shared_zeros(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

int
count_fds(void)
{
    int count = -3; /* ".", ".." and the directory itself */
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

int
another_fd(int fd)
{
    int copy = dup(fd);
    CHECK(copy >= 0);
    return copy;
}

uint32_t
random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

void (*at_point)(const char *name);

void
fmp_point(const char *name)
{
    if (at_point != NULL) {
        at_point(name);
    }
}

int
wait_for(try_fn try_once, void *arg, int64_t deadline)
{
    for (;;) {
        struct fmp_wait w = {.budget_ns = FMP_SECOND / 10, .fd = -1};
        int rc = try_once(arg, &w);
        if (rc != FMP_AGAIN) {
            return rc;
        }
        int64_t left = fmp_time_left(deadline);
        if (left == 0) {
            return FMP_TIMEOUT;
        }
        rc = fmp_wait_sleep(&w, left < FMP_TICK_NS ? left : FMP_TICK_NS);
        CHECK(rc == FMP_OK || rc == FMP_TIMEOUT || rc == -EINTR);
    }
}

uint8_t
message_byte(const struct message *m, uint32_t i)
{
    return (uint8_t)((m->sender * 31 + m->number) * 7 + i * 13 + (i >> 8));
}

struct put_args {
    struct fmp_mailbox *mailbox;
    struct fmp_batch *batch;
};

static int
try_put(void *arg, struct fmp_wait *w)
{
    struct put_args *a = arg;
    return fmp_mailbox_put(a->mailbox, a->batch, w);
}

void
put_message(struct fmp_mailbox *m, uint32_t sender, uint32_t number, uint32_t length)
{
    static _Thread_local uint8_t body[LONGEST_MESSAGE];
    struct message head = {sender, number, length};
    for (uint32_t i = 0; i < length; i++) {
        body[i] = message_byte(&head, i);
    }
    uint64_t total = sizeof head + length;
    uint64_t header = fmp_record_header(total, 1);
    struct fmp_part parts[] = {{&header, sizeof header}, {&head, sizeof head}, {body, length}};
    struct fmp_batch batch = {
        .parts = parts, .n_parts = 3, .bytes = sizeof header + total, .items = 1};
    struct put_args args = {m, &batch};
    CHECK_EQ(wait_for(try_put, &args, FMP_NEVER), FMP_OK);
}

bool
next_message(const struct fmp_buffer *batch, size_t *offset, struct message *out)
{
    uint8_t kind;
    const uint8_t *data;
    size_t length;
    if (!fmp_batch_next(batch->data, batch->size, offset, &kind, &data, &length)) {
        return false;
    }
    CHECK_EQ(kind, 1);
    CHECK(length >= sizeof *out);
    memcpy(out, data, sizeof *out);
    CHECK_EQ(length, sizeof *out + out->length);
    for (uint32_t i = 0; i < out->length; i++) {
        CHECK_EQ(data[sizeof *out + i], message_byte(out, i));
    }
    return true;
}

struct take_args {
    struct fmp_mailbox *mailbox;
    uint32_t max_items;
    struct fmp_buffer *out;
};

static int
try_take(void *arg, struct fmp_wait *w)
{
    struct take_args *a = arg;
    return fmp_mailbox_take(a->mailbox, a->max_items, a->out, NULL, w);
}

int
take_batch(struct fmp_mailbox *m, uint32_t max_items, struct fmp_buffer *out, int64_t deadline)
{
    struct take_args args = {m, max_items, out};
    return wait_for(try_take, &args, deadline);
}

int
take_message(struct fmp_mailbox *m, struct message *out, int64_t deadline)
{
    uint8_t room[1024];
    struct fmp_buffer buffer;
    fmp_buffer_init(&buffer, room, sizeof room);
    int rc = take_batch(m, 1, &buffer, deadline);
    if (rc == FMP_OK) {
        size_t offset = 0;
        CHECK(next_message(&buffer, &offset, out));
        CHECK_EQ(offset, buffer.size);
    }
    fmp_buffer_free(&buffer);
    return rc;
}
