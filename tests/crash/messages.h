/* messages.h - batches of messages that can be checked, and a ledger of who got which.
 *
 * Each message is {sender, number} with bytes that follow from both (tests/c/support.h). The ledger
 * is world->counts: how often each was received. */
#ifndef FMP_CRASH_MESSAGES_H
#define FMP_CRASH_MESSAGES_H

#include "channel/mailbox.h"
#include "stepper.h"

#define ROOM_FOR_BATCH (16 * 1024)

/* A batch, made before it is needed. */
struct packed {
    struct fmp_part part;
    struct fmp_batch batch;
    uint8_t bytes[ROOM_FOR_BATCH];
};

/* `count` messages of `length` bytes besides their head. */
void pack(struct packed *p, uint32_t sender, uint32_t first_number, uint32_t count,
          uint32_t length);

/* Private memory to receive into. */
struct received {
    struct fmp_buffer buffer;
    uint8_t room[ROOM_FOR_BATCH];
};
void make_ready(struct received *r);

/* Checks that what was received is whole, and enters it into the ledger; nobody else may have got
 * it. The last message. */
struct message note(const struct received *r);

/* Received, of the first `numbers` of that sender. */
uint32_t noted(uint32_t sender, uint32_t numbers);

#endif
