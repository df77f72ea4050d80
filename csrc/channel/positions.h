/* positions.h - how a ring's 64 bit positions are read; for what counts records.
 *
 * A position is units (of 16 bytes) in the high half and records in the low half, both modulo 2^32.
 * Values, no pointers: what they were read from is the caller's to check.
 */
#ifndef FMP_CHANNEL_POSITIONS_H
#define FMP_CHANNEL_POSITIONS_H

#include <stdint.h>

#include "channel/ring.h"

static inline uint32_t
units_of(uint64_t position)
{
    return (uint32_t)(position >> 32);
}

static inline uint32_t
items_of(uint64_t position)
{
    return (uint32_t)position;
}

static inline uint64_t
advance(uint64_t position, uint64_t units, uint32_t items)
{
    return (uint64_t)(uint32_t)(units_of(position) + units) << 32
         | (uint32_t)(items_of(position) + items);
}

static inline uint64_t
byte_at(uint64_t position, uint64_t capacity)
{
    return (units_of(position) & (capacity - 1)) * FMP_UNIT;
}

#endif
