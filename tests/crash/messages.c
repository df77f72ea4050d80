/* messages.c - see messages.h. */
#include "messages.h"

void
pack(struct packed *p, uint32_t sender, uint32_t first_number, uint32_t count, uint32_t length)
{
    uint8_t *at = p->bytes;
    memset(p->bytes, 0, sizeof p->bytes);
    for (uint32_t i = 0; i < count; i++) {
        struct message head = {sender, first_number + i, length};
        uint64_t header = fmp_record_header(sizeof head + length, 1);
        CHECK(at + fmp_record_span(sizeof head + length) <= p->bytes + sizeof p->bytes);
        memcpy(at, &header, sizeof header);
        memcpy(at + sizeof header, &head, sizeof head);
        for (uint32_t j = 0; j < length; j++) {
            at[sizeof header + sizeof head + j] = message_byte(&head, j);
        }
        at += fmp_record_span(sizeof head + length);
    }
    p->part = (struct fmp_part){p->bytes, (size_t)(at - p->bytes)};
    p->batch =
        (struct fmp_batch){.parts = &p->part, .n_parts = 1, .bytes = p->part.size, .items = count};
}

void
make_ready(struct received *r)
{
    fmp_buffer_init(&r->buffer, r->room, sizeof r->room);
}

struct message
note(const struct received *r)
{
    struct message m = {0};
    size_t offset = 0;
    CHECK(r->buffer.size > 0);
    while (next_message(&r->buffer, &offset, &m)) {
        CHECK(m.sender < 16 && m.number < 32);
        CHECK_EQ(atomic_fetch_add(&world->counts[m.sender][m.number], 1), 0);
    }
    CHECK_EQ(offset, r->buffer.size);
    return m;
}

uint32_t
noted(uint32_t sender, uint32_t numbers)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < numbers; i++) {
        sum += atomic_load(&world->counts[sender][i]);
    }
    return sum;
}
