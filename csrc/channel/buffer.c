/* buffer.c - the private memory that records are copied out to; see ring.h.
 *
 * Owns the heap memory of a buffer that outgrew its caller's stack. Nothing shared.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/status.h"
#include "channel/ring.h"

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
    *b = (struct fmp_buffer){0};
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
    fmp_buffer_free(b);
    *b = (struct fmp_buffer){.data = fresh, .room = size, .on_heap = true};
    return FMP_OK;
}
