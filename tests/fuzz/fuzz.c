/* fuzz.c - see fuzz.h.
 *
 * Linked with --wrap=mmap,--wrap=munmap, so that what is mapped from a descriptor gets inaccessible
 * pages on both sides, and with FMP_POINTS, so that fmp_point() below is called.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "base/points.h"
#include "base/status.h"
#include "channel/pipe.h"

/* --- input ----------------------------------------------------------------------------------- */

uint64_t
take(struct input *in, unsigned n_bytes)
{
    uint64_t value = 0;
    size_t n = n_bytes < in->left ? n_bytes : in->left;
    memcpy(&value, in->at, n);
    in->at += n;
    in->left -= n;
    return value;
}

uint32_t
take_below(struct input *in, uint32_t end)
{
    return (uint32_t)take(in, end > 256 ? 2 : 1) % end;
}

/* --- damage ---------------------------------------------------------------------------------- */

static const uint64_t interesting[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    17,
    63,
    64,
    255,
    256,
    257,
    511,
    512,
    1024,
    4095,
    4096,
    8192,
    65535,
    65536,
    1 << 20,
    INT32_MAX,
    UINT64_C(1) << 31,
    UINT32_MAX - 1,
    UINT32_MAX,
    UINT64_C(1) << 32,
    UINT64_C(1) << 40,
    UINT64_C(1) << 48,
    INT64_MAX,
    UINT64_C(1) << 63,
    UINT64_MAX - 15,
    UINT64_MAX,
};
#define N_INTERESTING (sizeof interesting / sizeof interesting[0])

static struct field
choose_field(struct input *in, const struct victim *v)
{
    unsigned which = take_below(in, v->n_fields + 2);
    if (which < v->n_fields) {
        return v->fields[which];
    }
    unsigned size = 1u << take_below(in, 4);
    size_t offset = (which == v->n_fields ? take(in, 2) : take(in, 4)) % v->size;
    offset -= offset % size;
    return (struct field){offset, size <= v->size - offset ? size : 1};
}

static uint64_t
new_value(struct input *in, uint64_t old, unsigned size)
{
    switch (take_below(in, 6)) {
    case 0:
        return interesting[take_below(in, N_INTERESTING)];
    case 1:
        return old ^ UINT64_C(1) << take_below(in, 8 * size);
    case 2:
        return old + (uint64_t)(int8_t)take(in, 1);
    case 3: /* of the high half */
        return old + ((uint64_t)(int16_t)take(in, 2) << 32);
    case 4: /* both halves of a position */
        return interesting[take_below(in, N_INTERESTING)] << 32
             | (uint32_t)interesting[take_below(in, N_INTERESTING)];
    default:
        return take(in, size);
    }
}

static bool
is_spared(const struct victim *v, struct field f)
{
    for (unsigned i = 0; i < v->n_spared; i++) {
        if (f.offset < v->spared[i].offset + v->spared[i].size
            && v->spared[i].offset < f.offset + f.size) {
            return true;
        }
    }
    return false;
}

static void
strike(struct input *in, const struct victim *v, bool inside)
{
    if (v->size == 0) {
        return;
    }
    struct field f = choose_field(in, v);
    uint64_t value = 0;
    memcpy(&value, v->base + f.offset, f.size);
    value = new_value(in, value, f.size);
    if (!(inside || v->spare_always) || !is_spared(v, f)) {
        memcpy(v->base + f.offset, &value, f.size);
    }
}

void
damage(struct input *in, const struct victim *v)
{
    strike(in, v, false);
}

#define LATER_BYTES 16

static struct {
    unsigned points; /* until it strikes; 0: never */
    uint8_t bytes[LATER_BYTES];
    struct victim victim;
} later;

void
damage_later(struct input *in, const struct victim *v)
{
    later.points = 1 + take_below(in, 6);
    later.victim = *v;
    memset(later.bytes, 0, sizeof later.bytes);
    size_t n = in->left < LATER_BYTES ? in->left : LATER_BYTES;
    memcpy(later.bytes, in->at, n);
    in->at += n;
    in->left -= n;
}

void
damage_never(void)
{
    later.points = 0;
}

void
fmp_point(const char *name)
{
    (void)name;
    if (later.points > 0 && --later.points == 0) {
        struct input in = {later.bytes, sizeof later.bytes};
        strike(&in, &later.victim, true);
    }
}

/* --- checks ---------------------------------------------------------------------------------- */

void
check_result(int rc)
{
    if (rc > FMP_CORRUPT && rc != FMP_PIPE_FOREIGN) {
        fprintf(stderr, "no result of the C floors: %d\n", rc);
        abort();
    }
}

void
look_at(const void *data, size_t size)
{
    const volatile uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        (void)bytes[i];
    }
}

/* --- guarded mappings ------------------------------------------------------------------------ */

#define GUARD ((size_t)1 << 20)

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t length);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t length);

static size_t
whole_pages(size_t length)
{
    return (length + 4095) & ~(size_t)4095;
}

void *
__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0 || length > SIZE_MAX / 2) {
        return __real_mmap(address, length, protection, flags, fd, offset);
    }
    size_t pages = whole_pages(length);
    uint8_t *guarded = __real_mmap(NULL, pages + 2 * GUARD, PROT_NONE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guarded == MAP_FAILED) {
        return MAP_FAILED;
    }
    void *mapped = __real_mmap(guarded + GUARD, length, protection, flags | MAP_FIXED, fd, offset);
    if (mapped == MAP_FAILED) {
        __real_munmap(guarded, pages + 2 * GUARD);
    }
    return mapped;
}

int
__wrap_munmap(void *address, size_t length)
{
    return __real_munmap((uint8_t *)address - GUARD, whole_pages(length) + 2 * GUARD);
}
