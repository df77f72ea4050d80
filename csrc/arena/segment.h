/* segment.h - one memfd mapped whole: created, attached by descriptor, counted per process.
 *
 * The process keeps one mapping per segment however many objects lie in it: attaching a
 * descriptor of a segment that is known already gives the known one (told by the random id in the
 * header). It is unmapped, and its descriptor closed, with the last reference of this process;
 * the kernel frees the pages with the last process.
 */
#ifndef FMP_ARENA_SEGMENT_H
#define FMP_ARENA_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

struct fmp_segment;

/* A new segment of at least `size` bytes, header included, zeroed, with one reference. */
int fmp_segment_create(uint32_t kind, size_t size, struct fmp_segment **out);

/* The segment behind `fd`, with one reference more. Takes `fd` over in every case: it is kept as
 * the segment's own or closed. FMP_CORRUPT when it is no segment of this layout. */
int fmp_segment_attach(int fd, struct fmp_segment **out);

void fmp_segment_ref(struct fmp_segment *s);
void fmp_segment_unref(struct fmp_segment *s);

/* Stays owned by the segment. */
int fmp_segment_fd(const struct fmp_segment *s);
size_t fmp_segment_size(const struct fmp_segment *s);
void *fmp_segment_at(const struct fmp_segment *s, size_t offset);

#endif
