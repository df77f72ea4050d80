/* ring_table.h - the rings that this process has open, one handle for each however often it is
 * attached: both ends of a pipe may lie in one process, or be sent to one in one message. */
#ifndef FMP_CHANNEL_RING_TABLE_H
#define FMP_CHANNEL_RING_TABLE_H

#include "channel/ring.h"

/* A new ring, with one reference. */
int fmp_ring_table_create(uint32_t max_items, uint64_t max_bytes, struct fmp_ring **out);

/* The ring behind `fd`, with one reference more. Takes `fd` over in every case: it is kept as the
 * ring's own or closed. FMP_CORRUPT when it is no ring. */
int fmp_ring_table_attach(int fd, struct fmp_ring **out);

/* One reference more, and one given back: the ring is closed with the last. NULL is allowed. */
void fmp_ring_table_retain(struct fmp_ring *ring);
void fmp_ring_table_release(struct fmp_ring *ring);

#endif
