/* test_arena.c - arena/: segments and the slots cut from them. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena/slab.h"
#include "base/layout.h"
#include "base/status.h"
#include "check.h"
#include "platform/available.h"
#include "platform/memory.h"
#include "support.h"

static struct fmp_slot
new_slot(size_t size)
{
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(size, &slot), FMP_OK);
    return slot;
}

CASE(slots_are_zeroed_aligned_and_apart)
{
    struct fmp_slot slots[300];
    for (int i = 0; i < 300; i++) {
        size_t size = (size_t)(i * 37) % 700;
        slots[i] = new_slot(size);
        uint8_t *bytes = fmp_slot_at(&slots[i]);
        CHECK_EQ((uintptr_t)bytes % FMP_CACHE_LINE, 0);
        for (size_t at = 0; at < size; at++) {
            CHECK_EQ(bytes[at], 0);
        }
        memset(bytes, i, size);
    }
    for (int i = 0; i < 300; i++) {
        size_t size = (size_t)(i * 37) % 700;
        uint8_t *bytes = fmp_slot_at(&slots[i]);
        for (size_t at = 0; at < size; at++) {
            CHECK_EQ(bytes[at], (uint8_t)i);
        }
        fmp_slot_free(&slots[i]);
        CHECK(slots[i].segment == NULL);
        fmp_slot_free(&slots[i]); /* freeing nothing is harmless */
    }
}

CASE(a_private_slot_is_used_again_and_comes_back_zeroed)
{
    struct fmp_slot first = new_slot(64);
    uint8_t *bytes = fmp_slot_at(&first);
    memset(bytes, 0xff, 64);
    fmp_slot_free(&first);
    struct fmp_slot second = new_slot(64);
    CHECK(fmp_slot_at(&second) == (void *)bytes);
    CHECK_EQ(bytes[0] | bytes[63], 0);
    fmp_slot_free(&second);
}

CASE(a_shared_slot_is_not_used_again)
{
    struct fmp_slot first = new_slot(64);
    void *bytes = fmp_slot_at(&first);
    fmp_slot_share(&first);
    fmp_slot_free(&first);
    struct fmp_slot second = new_slot(64);
    CHECK(fmp_slot_at(&second) != bytes);
    fmp_slot_free(&second);
}

static void
nothing(void *arg)
{
    (void)arg;
}

CASE(a_slot_that_a_fork_copied_is_not_used_again)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_slot before = new_slot(64), freed = new_slot(64);
    void *bytes = fmp_slot_at(&before), *freed_bytes = fmp_slot_at(&freed);
    fmp_slot_free(&freed); /* on the free list when the fork comes */
    check_reap(check_fork(nothing, NULL));
    fmp_slot_free(&before);
    for (int i = 0; i < 5; i++) {
        struct fmp_slot after = new_slot(64);
        CHECK(fmp_slot_at(&after) != bytes);
        CHECK(fmp_slot_at(&after) != freed_bytes);
    }
}

#define OWN 20

struct family {
    struct fmp_slot of_parent;
    fmp_a32 *stage; /* shared: 1 when the child has its slots, 2 when the parent has */
};

static void
child_slots(void *arg)
{
    struct family *f = arg;
    struct fmp_slot own[OWN];
    *(uint64_t *)fmp_slot_at(&f->of_parent) = 42; /* the same memory as the parent's */
    for (int i = 0; i < OWN; i++) {
        own[i] = new_slot(64);
        memset(fmp_slot_at(&own[i]), 0xcc, 64);
    }
    atomic_store(f->stage, 1);
    while (atomic_load(f->stage) != 2) {
        check_sleep_ms(1);
    }
    for (int i = 0; i < OWN; i++) {
        CHECK_EQ(*(uint8_t *)fmp_slot_at(&own[i]), 0xcc); /* not one of the parent's */
    }
}

CASE(a_child_shares_what_was_and_cuts_from_its_own_slab)
{
    CHECK_NEEDS_PROCESSES();
    struct family f = {.of_parent = new_slot(64), .stage = shared_zeros(sizeof(fmp_a32))};
    pid_t pid = check_fork(child_slots, &f);
    while (atomic_load(f.stage) != 1) {
        check_sleep_ms(1);
    }
    CHECK_EQ(*(uint64_t *)fmp_slot_at(&f.of_parent), 42);
    for (int i = 0; i < OWN; i++) {
        struct fmp_slot slot = new_slot(64);
        memset(fmp_slot_at(&slot), 0xee, 64);
    }
    atomic_store(f.stage, 2);
    check_reap(pid);
}

CASE(attaching_gives_the_same_memory_once)
{
    struct fmp_slot slot = new_slot(64), other;
    int fds = count_fds();
    int fd = another_fd(fmp_slot_share(&slot));
    CHECK_EQ(fmp_slot_attach(fd, slot.offset, slot.size, &other), FMP_OK);
    CHECK(fmp_slot_at(&other) == fmp_slot_at(&slot)); /* known: no second mapping */
    CHECK_EQ(count_fds(), fds);
    fmp_slot_free(&other);
    fmp_slot_free(&slot);
}

/* Objects of one message share a descriptor: the first makes it the segment's own. */
CASE(a_descriptor_that_is_known_needs_no_memory_to_be_attached)
{
    struct fmp_slot slot = new_slot(64), other;
    int fd = fmp_slot_share(&slot);
    struct rlimit all, none;
    CHECK_EQ(getrlimit(RLIMIT_AS, &all), 0);
    none = (struct rlimit){1, all.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    int rc = fmp_slot_attach(fd, slot.offset, slot.size, &other);
    CHECK_EQ(setrlimit(RLIMIT_AS, &all), 0);
    CHECK_EQ(rc, FMP_OK);
    CHECK(fmp_slot_at(&other) == fmp_slot_at(&slot));
    CHECK(fcntl(fd, F_GETFD) >= 0);
    fmp_slot_free(&other);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    fmp_slot_free(&slot);
}

static void
attach_bad(int fd, size_t offset, size_t size)
{
    struct fmp_slot slot;
    int fds = count_fds();
    CHECK_EQ(fmp_slot_attach(another_fd(fd), offset, size, &slot), FMP_CORRUPT);
    CHECK(slot.segment == NULL);
    CHECK_EQ(count_fds(), fds); /* the descriptor was taken over all the same */
}

CASE(slots_outside_their_segment_are_refused)
{
    struct fmp_slot slot = new_slot(64);
    int fd = fmp_slot_share(&slot);
    attach_bad(fd, 0, 64);                      /* the header */
    attach_bad(fd, slot.offset + 1, 64);        /* not aligned */
    attach_bad(fd, 1 << 30, 64);                /* beyond the end */
    attach_bad(fd, slot.offset, 1 << 30);       /* too long */
    attach_bad(fd, slot.offset, SIZE_MAX - 10); /* overflows */
    attach_bad(fd, SIZE_MAX - 63, 64);
}

CASE(a_segment_that_could_shrink_is_refused)
{
    struct fmp_slot slot = new_slot(64), other;
    CHECK(ftruncate(fmp_segment_fd(slot.segment), 4096) < 0);
    int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(ftruncate(fd, 8192), 0);
    struct fmp_header_shm header = {
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = FMP_KIND_SLAB, .size = 8192};
    CHECK_EQ(pwrite(fd, &header, sizeof header, 0), sizeof header);
    attach_bad(fd, 64, 64);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_EQ(fmp_slot_attach(another_fd(fd), 64, 64, &other), FMP_OK);
    fmp_slot_free(&other);
    fmp_slot_free(&slot);
}

CASE(what_is_no_segment_is_refused)
{
    int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    attach_bad(fd, 64, 64); /* empty */
    CHECK_EQ(ftruncate(fd, 8192), 0);
    attach_bad(fd, 64, 64); /* zeros */
    struct fmp_header_shm header = {
        .magic = FMP_MAGIC, .version = FMP_LAYOUT_VERSION, .kind = FMP_KIND_SLAB, .size = 8192};
    CHECK_EQ(pwrite(fd, &header, sizeof header, 0), sizeof header);
    struct fmp_slot slot, same; /* now it is one: mapped once however often it is attached */
    int fds = count_fds();
    CHECK_EQ(fmp_slot_attach(another_fd(fd), 64, 64, &slot), FMP_OK);
    CHECK_EQ(fmp_slot_attach(another_fd(fd), 64, 64, &same), FMP_OK);
    CHECK(fmp_slot_at(&same) == fmp_slot_at(&slot));
    CHECK_EQ(count_fds(), fds + 1);
    fmp_slot_free(&slot);
    *(uint8_t *)fmp_slot_at(&same) = 1; /* still mapped */
    fmp_slot_free(&same);
    CHECK_EQ(count_fds(), fds);
    header.version++;
    CHECK_EQ(pwrite(fd, &header, sizeof header, 0), sizeof header);
    attach_bad(fd, 64, 64);
    header.version--;
    header.size = 1 << 20; /* longer than the file */
    CHECK_EQ(pwrite(fd, &header, sizeof header, 0), sizeof header);
    attach_bad(fd, 64, 64);

    int rc = fmp_slot_attach(open("/dev/null", 0), 64, 64, &slot);
    CHECK(rc == FMP_CORRUPT || rc < 0);
    CHECK(fmp_slot_attach(-1, 64, 64, &slot) < 0);
}

#define MANY 10000

CASE(many_locks_take_few_descriptors)
{
    static struct fmp_slot slots[MANY];
    struct fmp_slot first = new_slot(64);
    int fds = count_fds();
    for (int i = 0; i < MANY; i++) {
        slots[i] = new_slot(64);
        fmp_slot_share(&slots[i]);
    }
    CHECK(count_fds() - fds <= 10);
    for (int i = 0; i < MANY; i++) {
        fmp_slot_free(&slots[i]);
    }
    fmp_slot_free(&first);
    CHECK(count_fds() <= fds); /* the open slab at most */
}

CASE(large_slots_are_segments_of_their_own)
{
    struct fmp_slot warm = new_slot(64);
    int fds = count_fds();
    struct fmp_slot slot = new_slot(3 << 20);
    CHECK_EQ(count_fds(), fds + 1);
    memset(fmp_slot_at(&slot), 1, 3 << 20);
    fmp_slot_free(&slot);
    CHECK_EQ(count_fds(), fds);
    fmp_slot_free(&warm);
}

CASE(what_cannot_be_had_is_an_error)
{
    /* Should the refusal be missing, the limit keeps the machine alive and the test fails. */
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {1 << 30, 1 << 30};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct fmp_slot slot;
    int fds = count_fds();
    CHECK_EQ(fmp_slot_alloc(SIZE_MAX, &slot), -ENOMEM);
    CHECK_EQ(fmp_slot_alloc((size_t)1 << 50, &slot), -ENOMEM);
    CHECK_EQ(fmp_slot_alloc(fmp_memory_available() + (1 << 20), &slot), -ENOMEM);
    CHECK_EQ(count_fds(), fds);

    CHECK_EQ(fmp_slot_alloc((size_t)1 << 30, &slot), -EFBIG);
    CHECK_EQ(count_fds(), fds);
    slot = new_slot(64); /* small ones still work */
    fmp_slot_free(&slot);
}

CASE(a_reservation_that_fails_gives_back_what_it_had)
{
    signal(SIGXFSZ, SIG_IGN);
    int fd = memfd_create("some", MFD_CLOEXEC);
    CHECK_EQ(fmp_memory_reserve(fd, 0, 4096), 0);
    struct rlimit limit = {6 << 20, 6 << 20};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_EQ(fmp_memory_reserve(fd, 4096, 8 << 20), -EFBIG);
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_blocks * 512, 4096);
    CHECK_EQ(fmp_memory_reserve(fd, 4096, (5 << 20) + 1), 0); /* ... and no page is left out */
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_blocks * 512, (5 << 20) + 2 * 4096);
}

CASE(available_memory_is_plausible)
{
    uint64_t left = fmp_memory_available();
    CHECK(left > (1 << 20) && left < (UINT64_C(1) << 46));
}

CASE(without_descriptors_there_is_an_error)
{
    struct rlimit limit = {64, 64};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    struct fmp_slot slot;
    CHECK_EQ(fmp_slot_alloc(64, &slot), -EMFILE);
    CHECK_EQ(fmp_slot_alloc(1 << 20, &slot), -EMFILE);
    for (int fd = 3; fd < 64; fd++) {
        close(fd); /* LeakSanitizer needs some at exit */
    }
}

CHECK_MAIN
