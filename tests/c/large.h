/* large.h - for the tests of channel/extent.c: messages that go on outside of their ring, put, taken
 * and checked. */
#ifndef FMP_TESTS_LARGE_H
#define FMP_TESTS_LARGE_H

#include <sys/stat.h>

#include "base/status.h"
#include "channel/mailbox.h"
#include "support.h"

#define KIND 13
#define MIB (UINT64_C(1) << 20)

static inline uint64_t
word_at(uint32_t number, uint64_t i)
{
    return (number + 1) * UINT64_C(0x9e3779b97f4a7c15) + i;
}

static inline struct fmp_mailbox
new_box(void)
{
    struct fmp_mailbox box;
    CHECK_EQ(fmp_mailbox_create(&box, 0), FMP_OK);
    return box;
}

/* A record of its number and, outside, `length` bytes that follow from it. */
struct large {
    struct {
        uint64_t header, number;
    } inside;
    uint64_t *outside;
    struct fmp_part parts[2];
    struct fmp_batch batch;
};

static inline void
make_large(struct large *l, uint32_t number, uint64_t length)
{
    l->outside = malloc(length);
    CHECK(l->outside != NULL);
    for (uint64_t i = 0; i < length / 8; i++) {
        l->outside[i] = word_at(number, i);
    }
    l->inside.header = fmp_record_header(8 + length, KIND);
    l->inside.number = number;
    l->parts[0] = (struct fmp_part){&l->inside, sizeof l->inside};
    l->parts[1] = (struct fmp_part){l->outside, length};
    l->batch = (struct fmp_batch){.parts = l->parts,
                                  .n_parts = 2,
                                  .bytes = sizeof l->inside + length,
                                  .items = 1,
                                  .n_inside = 1,
                                  .outside = length};
}

static inline int
put_marked(struct fmp_mailbox *box, uint32_t number, uint64_t length, bool copied)
{
    struct large l;
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    make_large(&l, number, length);
    l.batch.copied = copied;
    int rc = fmp_mailbox_put(box, &l.batch, &w);
    free(l.outside);
    return rc;
}

static inline int
put_large(struct fmp_mailbox *box, uint32_t number, uint64_t length)
{
    return put_marked(box, number, length, false);
}

static inline int
take_large(struct fmp_mailbox *box, struct fmp_buffer *out)
{
    struct fmp_wait w = {.budget_ns = FMP_SECOND, .fd = -1};
    fmp_buffer_init(out, NULL, 0);
    return fmp_mailbox_take(box, 1, out, NULL, &w);
}

/* Checks a taken record, wherever its bytes are, and returns them. */
static inline uint64_t *
check_large(const struct fmp_buffer *taken, uint32_t number, uint64_t length)
{
    size_t offset = 0, n;
    uint8_t kind;
    const uint8_t *data;
    uint64_t found;
    CHECK(fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &n));
    memcpy(&found, data, sizeof found);
    CHECK_EQ(found, number);
    uint64_t *outside = taken->lease.address;
    if (outside != NULL) {
        CHECK_EQ(kind, KIND | FMP_RECORD_OUTSIDE);
        CHECK_EQ(taken->lease.length, length);
    }
    else {
        CHECK_EQ(kind, KIND);
        CHECK_EQ(n, 8 + length);
        outside = (uint64_t *)(data + 8);
    }
    for (uint64_t i = 0; i < length / 8; i++) {
        if (outside[i] != word_at(number, i)) {
            CHECK_EQ(outside[i], word_at(number, i));
        }
    }
    return outside;
}

static inline void
expect_large(struct fmp_mailbox *box, uint32_t number, uint64_t length)
{
    struct fmp_buffer taken;
    CHECK_EQ(take_large(box, &taken), FMP_OK);
    check_large(&taken, number, length);
    fmp_buffer_free(&taken);
}

static inline uint64_t
backed_bytes(int fd)
{
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

#endif
