/* test_copy.c - platform/copy.c: every byte and no other, wherever source and target lie. */
#include "platform/copy.h"

#include "check.h"
#include "support.h"

#define LARGE ((size_t)9 << 20) /* goes around the caches */
#define MARGIN 200

static void
copy_and_compare(size_t size, size_t from, size_t to)
{
    uint8_t *source = malloc(size + from), *target = malloc(size + to + MARGIN);
    CHECK(source != NULL && target != NULL);
    uint64_t seed = size + from;
    for (size_t i = 0; i < size + from; i++) {
        source[i] = (uint8_t)random_next(&seed);
    }
    memset(target, 0xa5, size + to + MARGIN);
    fmp_copy(target + to, source + from, size);
    CHECK(memcmp(target + to, source + from, size) == 0);
    for (size_t i = 0; i < to; i++) {
        CHECK_EQ(target[i], 0xa5);
    }
    for (size_t i = 0; i < MARGIN; i++) {
        CHECK_EQ(target[to + size + i], 0xa5);
    }
    free(source);
    free(target);
}

CASE(every_byte_is_copied_and_no_other)
{
    static const size_t offsets[] = {0, 1, 16, 63};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned j = 0; j < 4; j++) {
            copy_and_compare(LARGE + 61 * i + j, offsets[i], offsets[j]);
        }
    }
    copy_and_compare(0, 3, 5);
    copy_and_compare(1000, 3, 5);
}

CHECK_MAIN
