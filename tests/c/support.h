/* support.h - what the C tests share beyond check.h: shared memory, waiting, messages. */
#ifndef FMP_TESTS_SUPPORT_H
#define FMP_TESTS_SUPPORT_H

#include "channel/mailbox.h"
#include "check.h"
#include "platform/clock.h"
#include "sync/eventcount.h"

/* Zeroed memory that children share. */
void *shared_zeros(size_t size);
/* Open descriptors of this process. */
int count_fds(void);
/* A duplicate. */
int another_fd(int fd);
/* A small random generator, good enough to vary tests and the same on every run. */
uint32_t random_next(uint64_t *state);

/* What happens at each named point of the code (base/points.h); NULL: nothing. */
extern void (*at_point)(const char *name);

/* Tries until something else than FMP_AGAIN comes or `deadline` passes, as bridge/wait.c does. */
typedef int (*try_fn)(void *arg, struct fmp_wait *w);
int wait_for(try_fn try_once, void *arg, int64_t deadline);

/* A message that can be checked: who sent it, its number, and bytes that follow from both. */
struct message {
    uint32_t sender;
    uint32_t number;
    uint32_t length; /* of the bytes that follow */
};
#define LONGEST_MESSAGE 200000
uint8_t message_byte(const struct message *m, uint32_t i);

/* Puts one message, waiting while the mailbox is full. */
void put_message(struct fmp_mailbox *m, uint32_t sender, uint32_t number, uint32_t length);
/* Reads the message at *offset of a batch, checks that it is whole, and moves *offset on. False
 * at the end of the batch. */
bool next_message(const struct fmp_buffer *batch, size_t *offset, struct message *out);
/* Takes up to max_items messages, waiting while there are none. FMP_OK or FMP_TIMEOUT. */
int take_batch(struct fmp_mailbox *m, uint32_t max_items, struct fmp_buffer *out, int64_t deadline);
/* Takes one message and checks that it is whole. */
int take_message(struct fmp_mailbox *m, struct message *out, int64_t deadline);

#endif
