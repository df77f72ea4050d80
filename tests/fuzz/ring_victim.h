/* ring_victim.h - a ring as the victim of damage, and batches to be put into rings. */
#ifndef FMP_TESTS_FUZZ_RING_VICTIM_H
#define FMP_TESTS_FUZZ_RING_VICTIM_H

#include "channel/ring.h"
#include "fuzz.h"

#define DAMAGED_UNITS 512 /* of the ring's begin, besides its header page */

/* The header page and the first units of `r`'s file, mapped; victim_close() unmaps. */
struct victim ring_victim(const struct fmp_ring *r);
void victim_close(struct victim *v);

/* A batch of 1 to 4 records with lengths from the input, in memory of this file's. */
const struct fmp_batch *take_batch_of_records(struct input *in);

/* Looks at every record of a batch that was taken. */
void look_at_records(const struct fmp_buffer *taken);

#endif
