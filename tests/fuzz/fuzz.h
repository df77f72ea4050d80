/* fuzz.h - what the fuzz targets share: reading the input, damaging shared memory, watching bounds.
 *
 * Each fuzz_<target>.c is one libFuzzer program. Its input is a program: each byte chooses an
 * operation of the code under test, or a piece of damage to the shared memory it works on, and the
 * bytes that follow are its arguments. Damage strikes between two operations, or in the middle of
 * the next one, at a named point (base/points.h) - as a hostile peer's would.
 *
 * The numbers of operations and fields are what the files of the corpus are made of: what is new goes
 * below an old number, or the corpus has to be found again.
 *
 * What is claimed: whatever the damage, an operation returns one of the results that it may return;
 * it neither crashes, nor goes on for ever, nor touches a byte outside the mappings. For the last,
 * every mapping of a descriptor lies between inaccessible pages here, and what lies beyond the end
 * of a file is SIGBUS.
 */
#ifndef FMP_TESTS_FUZZ_H
#define FMP_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at;
    size_t left;
};

/* Little-endian, 1 to 8 bytes; what is missing at the end is zero. */
uint64_t take(struct input *in, unsigned n_bytes);
/* A number below `end`, from one byte (or two, when it may be above 255). */
uint32_t take_below(struct input *in, uint32_t end);

/* A place that is worth damaging; size 1 to 8. */
struct field {
    size_t offset;
    unsigned size;
};

#define FIELD(type, name)                                                                          \
    {                                                                                              \
        offsetof(type, name), sizeof(((type *)0)->name)                                            \
    }

/* Memory that may be damaged: `fields` more often than the rest. */
struct victim {
    uint8_t *base;
    size_t size;
    const struct field *fields;
    unsigned n_fields;
    /* Not to be touched in the middle of an operation: the C library's mutexes, which trust the
     * pointers in them while they are held (docs/crash-safety.md). */
    const struct field *spared;
    unsigned n_spared;
    bool spare_always; /* nor between two */
};

/* Damages something of `v` now. */
void damage(struct input *in, const struct victim *v);
/* The same, but when the operation to come passes one of its next points. */
void damage_later(struct input *in, const struct victim *v);
/* No damage is waiting any more. */
void damage_never(void);

/* What the C floors may return, besides -errno; else abort(). */
void check_result(int rc);
/* Reads all of it: a sanitizer sees what is not ours. */
void look_at(const void *data, size_t size);

#endif
