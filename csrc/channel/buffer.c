/* buffer.c - the private memory that records are copied out to, and walking them there; see ring.h.
 *
 * Owns the heap memory of a buffer that outgrew its caller's stack, and the lease of the extent that its
 * record goes on in. Nothing shared.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "channel/ring.h"
#include "platform/memory.h"

void
fmp_buffer_init(struct fmp_buffer *b, void *stack, size_t room)
{
    *b = (struct fmp_buffer){.data = stack, .room = room};
}

void
fmp_buffer_free(struct fmp_buffer *b)
{
    if (b->on_heap) {
        free(b->data);
    }
    if (b->lease.address != NULL) {
        fmp_lease_end(&b->lease);
    }
    b->data = NULL;
    b->size = b->room = 0;
    b->on_heap = false;
}

int
fmp_buffer_reserve(struct fmp_buffer *b, size_t size)
{
    if (size <= b->room) {
        return FMP_OK;
    }
    uint8_t *fresh = malloc(size);
    if (fresh == NULL) {
        return -ENOMEM;
    }
    fmp_memory_prefer_huge(fresh, size);
    if (b->on_heap) {
        free(b->data);
    }
    b->data = fresh;
    b->size = 0;
    b->room = size;
    b->on_heap = true;
    return FMP_OK;
}

void
fmp_buffer_warm_lease(struct fmp_buffer *b)
{
    if (fmp_lease_warm(&b->lease) != FMP_OK) {
        fmp_lease_end(&b->lease); /* damaged: the record cannot be decoded without it */
    }
}

bool
fmp_batch_next(const uint8_t *batch, size_t size, size_t *offset, uint8_t *kind,
               const uint8_t **data, size_t *length)
{
    if (size - *offset < FMP_RECORD_HEADER) {
        return false;
    }
    uint64_t header;
    memcpy(&header, batch + *offset, sizeof(header));
    uint64_t n = fmp_record_length(header);
    if (n > size - *offset - FMP_RECORD_HEADER) {
        return false;
    }
    *kind = fmp_record_kind(header);
    *data = batch + *offset + FMP_RECORD_HEADER;
    *length = n;
    uint64_t span = fmp_record_span(n);
    *offset = span <= size - *offset ? *offset + span : size;
    return true;
}
