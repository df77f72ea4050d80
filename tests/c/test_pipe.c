/* test_pipe.c - channel/pipe.c with both ends in one process: what is readable when, the end of a
 * peer, what fills a pipe, bytes that somebody wrote to the descriptor. */
#include <fcntl.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/pipe.h"
#include "pipe_calls.h"
#include "platform/fd.h"
#include "platform/socket.h"
#include "support.h"

CASE(readable_exactly_while_a_record_is_there)
{
    struct fmp_pipe a, b;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    for (int round = 0; round < 3; round++) {
        CHECK(!is_readable(&a, 0) && !is_readable(&b, 0));
        CHECK_EQ(send_number(&a, 1, 4), FMP_OK);
        CHECK_EQ(send_number(&a, 2, 100), FMP_OK);
        CHECK(is_readable(&b, 0) && !is_readable(&a, 0));
        CHECK_EQ(receive(&b, 0, false, &number), FMP_OK);
        CHECK_EQ(number, 1);
        CHECK(is_readable(&b, 0));
        CHECK_EQ(receive(&b, 0, true, &number), FMP_OK);
        CHECK_EQ(number, 2);
        CHECK(!is_readable(&b, 0));
        CHECK_EQ(receive(&b, 0, true, &number), FMP_TIMEOUT);
    }
    drop(&a);
    drop(&b);
}

CASE(both_ends_of_one_process_share_the_rings)
{
    int before = count_fds();
    struct fmp_pipe a, b, again;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    CHECK_EQ(count_fds() - before, 4);
    CHECK_EQ(fmp_pipe_attach(&again, dup(a.fd), dup(a.in->fd), a.out->fd), FMP_OK);
    CHECK_EQ(count_fds() - before, 5);
    CHECK_EQ(send_number(&again, 5, 4), FMP_OK);
    drop(&again);
    CHECK_EQ(receive(&b, 0, false, &number), FMP_OK);
    CHECK_EQ(number, 5);
    drop(&a);
    drop(&b);
    CHECK_EQ(count_fds(), before);
}

CASE(what_was_sent_is_received_before_the_end)
{
    struct fmp_pipe a, b;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(send_number(&a, i, 10), FMP_OK);
    }
    drop(&a);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(has_something(&b));
        CHECK_EQ(receive(&b, 0, false, &number), FMP_OK);
        CHECK_EQ(number, i);
    }
    CHECK(has_something(&b) && is_readable(&b, 0));
    CHECK_EQ(receive(&b, 0, false, &number), FMP_CLOSED);
    CHECK_EQ(receive(&b, 0, true, &number), FMP_CLOSED);
    CHECK_EQ(send_number(&b, 1, 4), -EPIPE);
    drop(&b);
}

CASE(unread_data_resets_as_it_does_on_a_socket)
{
    struct fmp_pipe a, b;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    CHECK_EQ(send_number(&a, 1, 4), FMP_OK);
    CHECK_EQ(send_number(&b, 2, 4), FMP_OK);
    drop(&b);
    CHECK_EQ(receive(&a, 0, false, &number), FMP_OK);
    CHECK(has_something(&a));
    CHECK_EQ(receive(&a, 0, false, &number), -ECONNRESET);
    CHECK_EQ(receive(&a, 0, false, &number), FMP_CLOSED);
    CHECK_EQ(send_number(&a, 1, 4), -EPIPE);
    drop(&a);
}

CASE(a_close_is_noticed_by_the_next_send)
{
    for (int messages = 0; messages < 3; messages++) { /* 0: the bell is silent */
        struct fmp_pipe a, b;
        CHECK_EQ(fmp_pipe_create(&a, &b, false), FMP_OK);
        for (int i = 0; i < messages; i++) {
            CHECK_EQ(send_number(&b, 1, 4), FMP_OK);
        }
        drop(&a);
        CHECK_EQ(send_number(&b, 1, 4), -EPIPE);
        CHECK_EQ(send_number(&b, 1, 4), -EPIPE);
        drop(&b);
    }
}

CASE(a_full_pipe_takes_one_large_record_when_it_is_empty)
{
    struct fmp_pipe a, b;
    uint32_t number, sent = 0;
    static _Thread_local uint8_t large[3 * FMP_PIPE_BYTES];
    uint64_t header = fmp_record_header(sizeof large, 2);
    struct fmp_part parts[] = {{&header, sizeof header}, {large, sizeof large}};
    struct fmp_batch batch = {
        .parts = parts, .n_parts = 2, .bytes = sizeof header + sizeof large, .items = 1};
    struct fmp_wait w = {.budget_ns = 1000000, .fd = -1};
    CHECK_EQ(fmp_pipe_create(&a, &b, false), FMP_OK);
    while (sent < 2000) {
        uint32_t body[250] = {sent};
        uint64_t small = fmp_record_header(sizeof body, 1);
        struct fmp_part two[] = {{&small, sizeof small}, {body, sizeof body}};
        struct fmp_batch one = {
            .parts = two, .n_parts = 2, .bytes = sizeof small + sizeof body, .items = 1};
        memset(body, (int)(sent * 7 + 1), sizeof body);
        memcpy(body, &sent, sizeof sent);
        if (fmp_pipe_send(&b, &one, NULL, &w) != FMP_OK) {
            break;
        }
        sent++;
    }
    CHECK_EQ(sent, FMP_PIPE_BYTES / 1008);
    CHECK_EQ(fmp_pipe_send(&b, &batch, NULL, &w), FMP_AGAIN);
    for (uint32_t i = 0; i < sent; i++) {
        CHECK_EQ(receive(&a, 0, false, &number), FMP_OK);
        CHECK_EQ(number, i);
    }
    CHECK_EQ(fmp_pipe_send(&b, &batch, NULL, &w), FMP_OK);
    CHECK_EQ(fmp_pipe_send(&b, &batch, NULL, &w), FMP_AGAIN);
    drop(&a);
    CHECK_EQ(fmp_pipe_send(&b, &batch, NULL, &w), -EPIPE);
    drop(&b);
}

CASE(a_sender_can_tell_whether_its_record_was_taken)
{
    struct fmp_pipe a, b;
    uint32_t number, first, second;
    uint8_t body[64];
    uint64_t header = fmp_record_header(sizeof body, 1);
    struct fmp_part parts[] = {{&header, sizeof header}, {body, sizeof body}};
    struct fmp_batch batch = {
        .parts = parts, .n_parts = 2, .bytes = sizeof header + sizeof body, .items = 1};
    struct fmp_wait at_once = {.fd = -1}, w = {.budget_ns = 1000, .fd = -1};
    memset(body, 1, sizeof body); /* as send_number() makes it for 0 */
    memset(body, 0, sizeof number);
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    CHECK_EQ(fmp_pipe_send(&b, &batch, &first, &w), FMP_OK);
    CHECK_EQ(fmp_pipe_send(&b, &batch, &second, &w), FMP_OK);
    CHECK_EQ(second, first + 1);
    CHECK_EQ(fmp_pipe_taken(&b, first, &at_once), FMP_AGAIN);
    CHECK_EQ(fmp_pipe_taken(&b, first, &w), FMP_AGAIN);
    CHECK_EQ(receive(&a, 0, true, &number), FMP_OK);
    CHECK_EQ(fmp_pipe_taken(&b, first, &at_once), FMP_OK);
    CHECK_EQ(fmp_pipe_taken(&b, second, &w), FMP_AGAIN);
    CHECK(fcntl(b.fd, F_SETFL, O_NONBLOCK) == 0);
    b.exposed = true;
    CHECK_EQ(fmp_pipe_taken(&b, second, &w), FMP_OK); /* it would not wait for it */
    b.exposed = false;
    drop(&a);
    CHECK_EQ(fmp_pipe_taken(&b, first, &w), FMP_OK);
    int rc = fmp_pipe_taken(&b, second, &w);
    CHECK(rc == -EPIPE || rc == -ECONNRESET);
    drop(&b);
}

CASE(the_sender_of_a_large_record_waits_for_another_process)
{
    struct fmp_pipe a, b;
    struct fmp_batch within = {.bytes = FMP_PIPE_BYTES}, beyond = {.bytes = FMP_PIPE_BYTES + 1};
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    CHECK(!fmp_pipe_outsized(&b, &within) && !fmp_pipe_outsized(&b, &beyond));
    drop(&a);
    CHECK(!fmp_pipe_outsized(&b, &within) && fmp_pipe_outsized(&b, &beyond));
    drop(&b);
}

CASE(bytes_of_others_are_left_alone)
{
    struct fmp_pipe a, b;
    uint32_t number;
    char byte;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    CHECK_EQ(write(a.fd, "x", 1), 1);
    CHECK(has_something(&b));
    CHECK_EQ(receive(&b, 0, false, &number), FMP_PIPE_FOREIGN);
    CHECK_EQ(receive(&b, 1000, false, &number), FMP_PIPE_FOREIGN);
    CHECK_EQ(read(b.fd, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    CHECK(!has_something(&b) && !is_readable(&b, 0));
    /* After a message that was received, the next byte is theirs. */
    CHECK_EQ(send_number(&a, 3, 4), FMP_OK);
    CHECK_EQ(write(a.fd, "y", 1), 1);
    CHECK_EQ(receive(&b, 0, false, &number), FMP_OK);
    CHECK_EQ(read(b.fd, &byte, 1), 1);
    CHECK_EQ(byte, 'y');
    drop(&a);
    drop(&b);
}

CASE(a_bell_too_many_is_silenced_by_who_looks)
{
    /* As a writer leaves it that is killed just before, or just after, it has set RUNG. */
    for (uint32_t rung = 0; rung < 2; rung++) {
        struct fmp_pipe a, b;
        uint32_t number;
        CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
        CHECK_EQ(fmp_socket_send_byte(a.fd, 0xd1), FMP_OK);
        atomic_store(&b.in->shm->extra[0], rung);
        CHECK(is_readable(&b, 0));
        CHECK(!has_something(&b));
        CHECK(!is_readable(&b, 0));
        CHECK_EQ(send_number(&a, 1, 4), FMP_OK);
        CHECK(is_readable(&b, 0));
        CHECK_EQ(receive(&b, 0, true, &number), FMP_OK);
        CHECK(!is_readable(&b, 0));
        drop(&a);
        drop(&b);
    }
}

CASE(a_dead_spinner_is_not_trusted)
{
    struct fmp_pipe a, b;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    struct receiving r = {.pipe = &b};
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    CHECK_EQ(try_receive(&r, &w), FMP_AGAIN); /* registers, and never comes back */
    CHECK(r.call.watching);
    check_sleep_ms(5);
    CHECK_EQ(send_number(&a, 1, 4), FMP_OK);
    CHECK(is_readable(&b, 0));
    drop(&a);
    drop(&b);
}

/* A reader naps on the ring before it turns to the socket; both ends of that are seen. */
CASE(who_naps_is_woken_by_a_record_and_by_the_end)
{
    struct fmp_pipe a, b;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    struct receiving r = {.pipe = &b};
    struct fmp_wait w = {.budget_ns = FMP_SECOND / 10, .fd = -1};
    CHECK_EQ(try_receive(&r, &w), FMP_AGAIN);
    CHECK(r.call.watching && w.word != NULL && w.nap_ns > 0);
    CHECK_EQ(send_number(&a, 1, 4), FMP_OK);
    CHECK(!is_readable(&b, 0)); /* no bell for who watches */
    CHECK_EQ(fmp_wait_sleep(&w, FMP_SECOND), FMP_OK);
    uint8_t stack[64];
    fmp_buffer_init(&r.out, stack, sizeof stack);
    CHECK_EQ(try_receive(&r, &w), FMP_OK);
    CHECK(!fmp_pipe_unfinished(&r.call));
    CHECK_EQ(number_of(&r.out), 1);
    fmp_buffer_free(&r.out);

    struct receiving again = {.pipe = &b};
    w = (struct fmp_wait){.budget_ns = FMP_SECOND / 10, .fd = -1};
    CHECK_EQ(try_receive(&again, &w), FMP_AGAIN);
    CHECK_EQ(fmp_wait_sleep(&w, FMP_SECOND), FMP_OK); /* the nap is over */
    CHECK_EQ(try_receive(&again, &w), FMP_AGAIN);
    CHECK(!again.call.watching && w.fd == b.fd);
    CHECK_EQ(send_number(&a, 2, 4), FMP_OK);
    CHECK(is_readable(&b, 0));
    drop(&a);
    uint32_t number;
    CHECK_EQ(receive(&b, 0, false, &number), FMP_OK);
    CHECK_EQ(receive(&b, 0, false, &number), FMP_CLOSED);
    drop(&b);
}

CASE(a_closed_descriptor_in_use_stays_taken)
{
    struct fmp_pipe a, b;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    int fd = b.fd;
    fmp_pipe_hang_up(&b, true);
    CHECK_EQ(receive(&a, 0, false, &number), FMP_CLOSED);
    CHECK_EQ(receive(&b, 0, false, &number), -EBADF);
    int other = dup(0);
    CHECK(other != fd);
    close(other);
    fmp_fd_close(fd);
    fmp_pipe_free(&b);
    drop(&a);
}

CHECK_MAIN
