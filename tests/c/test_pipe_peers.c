/* test_pipe_peers.c - channel/pipe.c between processes: the bell of two that pace themselves at
 * random, several at one end, kills at any time and at each named point. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "channel/pipe.h"
#include "channel/ring_table.h"
#include "pipe_calls.h"
#include "support.h"

#define LONG_SPIN 100000

static void
pause_at_random(uint64_t *seed)
{
    uint32_t way = random_next(seed) % 16, n = random_next(seed) % 300;
    if (way == 0) {
        usleep(n);
    }
    else if (way < 8) {
        for (uint32_t i = 0; i < n * 4; i++) {
            fmp_pause();
        }
    }
}

/* --- two processes, with pauses at the protocol's points ------------------------------------- */

#define MESSAGES 10000
#define ROUNDS 2000

static _Thread_local uint64_t point_seed;

/* Widens the races: some points take a while, long enough for anything to happen elsewhere. */
static void
dawdle(const char *name)
{
    (void)name;
    uint32_t way = random_next(&point_seed) % 32;
    if (way == 0) {
        usleep(random_next(&point_seed) % 50);
    }
    else if (way < 5) {
        int64_t until = fmp_now() + random_next(&point_seed) % 20000;
        while (fmp_now() < until) {
            fmp_pause();
        }
    }
}

struct ends {
    struct fmp_pipe a, b;
    uint64_t seed;
};

/* What a child gets of both ends, to be dropped by it: a fork makes the copy, threads need one. */
static struct ends *
for_child(struct ends *e)
{
#ifdef CHECK_THREADS
    static struct ends copies[16];
    static unsigned n;
    CHECK(n < 16);
    struct ends *copy = &copies[n++];
    *copy = *e;
    copy->a.fd = another_fd(e->a.fd);
    copy->b.fd = another_fd(e->b.fd);
    struct fmp_ring *rings[] = {e->a.in, e->a.out, e->b.in, e->b.out};
    for (int i = 0; i < 4; i++) {
        fmp_ring_table_retain(rings[i]);
    }
    return copy;
#else
    return e;
#endif
}

/* One message by any of the ways there are. */
static int
receive_somehow(struct fmp_pipe *p, uint64_t *seed, uint32_t *number)
{
    switch (random_next(seed) % 5) {
    case 0:
        CHECK(is_readable(p, PATIENCE_MS)); /* the bell alone wakes us */
        return receive(p, 0, true, number);
    case 1:
        CHECK(is_readable(p, PATIENCE_MS));
        CHECK(has_something(p));
        return receive(p, 0, false, number);
    case 2:
        return receive(p, (int)(random_next(seed) % 300), false, number);
    case 3:
        return receive(p, LONG_SPIN, false, number);
    default:
        return receive(p, 0, false, number);
    }
}

static void
write_many(void *arg)
{
    struct ends *e = arg;
    drop(&e->b);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        CHECK_EQ(send_number(&e->a, i, 4 + random_next(&e->seed) % 60), FMP_OK);
        pause_at_random(&e->seed);
    }
}

static void
write_many_and_go(void *arg)
{
    struct ends *e = arg;
    write_many(e);
    drop(&e->a);
}

CASE(no_message_goes_unnoticed)
{
    struct ends e = {.seed = 7};
    at_point = dawdle;
    CHECK_EQ(fmp_pipe_create(&e.a, &e.b, true), FMP_OK);
    pid_t pid = check_fork(write_many_and_go, for_child(&e));
    drop(&e.a);
    uint64_t seed = 11;
    uint32_t number;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        CHECK_EQ(receive_somehow(&e.b, &seed, &number), FMP_OK);
        CHECK_EQ(number, i);
        pause_at_random(&seed);
    }
    CHECK_EQ(receive_somehow(&e.b, &seed, &number), FMP_CLOSED);
    check_reap(pid);
    drop(&e.b);
}

static void
echo(void *arg)
{
    struct ends *e = arg;
    uint32_t number;
    drop(&e->a);
    while (receive_somehow(&e->b, &e->seed, &number) == FMP_OK) {
        CHECK_EQ(send_number(&e->b, number + 1, 4), FMP_OK);
    }
}

/* One to three at a time, and then nothing until they are answered: a message that is not noticed
 * stays so. */
CASE(questions_and_answers)
{
    struct ends e = {.seed = 3};
    at_point = dawdle;
    CHECK_EQ(fmp_pipe_create(&e.a, &e.b, true), FMP_OK);
    pid_t pid = check_fork(echo, for_child(&e));
    drop(&e.b);
    uint64_t seed = 5;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t number, burst = 1 + random_next(&seed) % 3;
        for (uint32_t k = 0; k < burst; k++) {
            CHECK_EQ(send_number(&e.a, 3 * i + k, 4), FMP_OK);
        }
        for (uint32_t k = 0; k < burst; k++) {
            CHECK_EQ(receive_somehow(&e.a, &seed, &number), FMP_OK);
            CHECK_EQ(number, 3 * i + k + 1);
        }
        CHECK(!is_readable(&e.a, 0)); /* nothing more is under way: exactly silent */
    }
    drop(&e.a);
    check_reap(pid);
}

/* --- several processes at one end ------------------------------------------------------------ */

struct tally {
    fmp_a32 seen[MESSAGES];
    fmp_a32 total;
};

struct sharers {
    struct ends ends;
    struct tally *tally;
    bool spins;
};

static void
take_a_share(void *arg)
{
    struct sharers *s = arg;
    struct fmp_pipe *p = &s->ends.b;
    drop(&s->ends.a);
    for (;;) {
        uint32_t number;
        int rc;
        if (s->spins) {
            rc = receive(p, LONG_SPIN, false, &number);
        }
        else {
            CHECK(is_readable(p, PATIENCE_MS));
            rc = receive(p, 0, true, &number);
        }
        if (rc == FMP_CLOSED) {
            return;
        }
        if (rc == FMP_OK) {
            CHECK_EQ(atomic_fetch_add(&s->tally->seen[number], 1), 0);
            atomic_fetch_add(&s->tally->total, 1);
        }
        else {
            CHECK_EQ(rc, FMP_TIMEOUT); /* the other was faster */
        }
    }
}

CASE(a_spinner_and_a_selector_share_an_end)
{
    struct sharers s = {.ends.seed = 13, .tally = shared_zeros(sizeof *s.tally)};
    at_point = dawdle;
    CHECK_EQ(fmp_pipe_create(&s.ends.a, &s.ends.b, true), FMP_OK);
    struct sharers spins = {*for_child(&s.ends), s.tally, true};
    struct sharers selects = {*for_child(&s.ends), s.tally, false};
    pid_t spinner = check_fork(take_a_share, &spins);
    pid_t selector = check_fork(take_a_share, &selects);
    write_many(&s.ends);
    drop(&s.ends.a);
    check_reap(spinner);
    check_reap(selector);
    CHECK_EQ(atomic_load(&s.tally->total), MESSAGES);
}

/* --- kills ----------------------------------------------------------------------------------- */

static void
write_for_ever(void *arg)
{
    struct ends *e = arg;
    drop(&e->b);
    for (uint32_t i = 0;; i++) {
        uint32_t length = random_next(&e->seed) % 8 == 0 ? 50000 : 20;
        CHECK_EQ(send_number(&e->a, i, length), FMP_OK);
        if (random_next(&e->seed) % 4 == 0) {
            pause_at_random(&e->seed);
        }
    }
}

CASE(of_a_killed_writer_every_message_is_whole)
{
    CHECK_NEEDS_PROCESSES();
    uint64_t seed = 17;
    for (int round = 0; round < 60; round++) {
        struct ends e = {.seed = random_next(&seed)};
        CHECK_EQ(fmp_pipe_create(&e.a, &e.b, round % 2), FMP_OK);
        struct ends writer = {.a = round % 2 ? e.a : e.b, .b = round % 2 ? e.b : e.a};
        pid_t pid = check_fork(write_for_ever, &writer);
        drop(&writer.a);
        uint32_t number, expected = 0, until = random_next(&seed) % 200;
        while (expected < until) {
            CHECK_EQ(receive_somehow(&writer.b, &seed, &number), FMP_OK);
            CHECK_EQ(number, expected++);
        }
        check_kill(pid);
        int rc;
        while ((rc = receive_somehow(&writer.b, &seed, &number)) == FMP_OK) {
            CHECK_EQ(number, expected++);
        }
        if (rc == FMP_TIMEOUT) { /* a bell over nothing; by now it is silent */
            rc = receive(&writer.b, 0, false, &number);
        }
        CHECK_EQ(rc, FMP_CLOSED);
        drop(&writer.b);
    }
}

static void
read_for_ever(void *arg)
{
    struct ends *e = arg;
    uint32_t number;
    for (;;) {
        int rc = receive_somehow(&e->b, &e->seed, &number);
        CHECK(rc == FMP_OK || rc == FMP_TIMEOUT);
    }
}

CASE(killed_readers_leave_the_end_usable)
{
    CHECK_NEEDS_PROCESSES();
    struct ends e = {.seed = 19};
    uint64_t seed = 23;
    uint32_t number;
    CHECK_EQ(fmp_pipe_create(&e.a, &e.b, true), FMP_OK);
    for (int round = 0; round < 100; round++) {
        e.seed = random_next(&seed);
        pid_t pid = check_fork(read_for_ever, &e);
        for (uint32_t i = random_next(&seed) % 200; i > 0; i--) {
            CHECK_EQ(send_number(&e.a, i, 20), FMP_OK);
            pause_at_random(&seed);
        }
        check_kill(pid);
        while (has_something(&e.b)) {
            CHECK_EQ(receive(&e.b, 0, false, &number), FMP_OK);
        }
        CHECK(!is_readable(&e.b, 0));
        CHECK_EQ(send_number(&e.a, 1, 20), FMP_OK);
        /* Its registration may still be trusted; the next message then rings. */
        if (!is_readable(&e.b, 0)) {
            CHECK_EQ(send_number(&e.a, 2, 20), FMP_OK);
        }
        CHECK(is_readable(&e.b, 0));
    }
    drop(&e.a);
    drop(&e.b);
}

/* --- a kill at each point -------------------------------------------------------------------- */

static const char *deadly_point;
static int deadly_count;

static void
die_there(const char *name)
{
    if (strcmp(name, deadly_point) == 0 && --deadly_count == 0) {
        kill(getpid(), SIGKILL);
    }
}

static pid_t
fork_to_die(void (*body)(void *), void *arg, const char *point, int count)
{
    deadly_point = point;
    deadly_count = count;
    at_point = die_there;
    pid_t pid = check_fork(body, arg);
    at_point = NULL;
    return pid;
}

static void
write_three(void *arg)
{
    struct ends *e = arg;
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(send_number(&e->a, i, 20), FMP_OK);
    }
}

/* Everything works: what is left is whole and in order, then the bell is exact again. */
static void
check_mended(struct ends *e, uint32_t at_most)
{
    uint32_t number, first = 0;
    bool any = false;
    while (has_something(&e->b)) {
        CHECK_EQ(receive(&e->b, 0, false, &number), FMP_OK);
        CHECK(!any || number == first + 1);
        CHECK(number < at_most);
        first = number;
        any = true;
    }
    CHECK(!is_readable(&e->b, 0));
    for (int i = 0; i < 3; i++) {
        check_sleep_ms(i == 0 ? 3 : 0); /* the lease of a dead spinner ends */
        CHECK_EQ(send_number(&e->a, 7, 20), FMP_OK);
        CHECK(is_readable(&e->b, 0));
        CHECK_EQ(receive(&e->b, 0, true, &number), FMP_OK);
        CHECK_EQ(number, 7);
        CHECK(!is_readable(&e->b, 0));
    }
}

CASE(a_writer_killed_at_any_point_leaves_nothing_half_done)
{
    CHECK_NEEDS_PROCESSES();
    static const char *const points[] = {"pipe: before the bell", "pipe: bell sent",
                                         "pipe: announced", "pipe: put"};
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (int count = 1; count <= 3; count++) {
            struct ends e = {.seed = 1};
            int status;
            CHECK_EQ(fmp_pipe_create(&e.a, &e.b, true), FMP_OK);
            pid_t pid = fork_to_die(write_three, &e, points[i], count);
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            CHECK(WIFSIGNALED(status) || (i < 2 && count > 1)); /* the bell rings once */
            check_mended(&e, 3);
            drop(&e.a);
            drop(&e.b);
        }
    }
}

static void
read_three(void *arg)
{
    struct ends *e = arg;
    uint32_t number;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(receive(&e->b, 1000, false, &number), FMP_OK);
    }
    (void)receive(&e->b, 1000, false, &number);
}

CASE(a_reader_killed_at_any_point_leaves_the_rest_to_others)
{
    CHECK_NEEDS_PROCESSES();
    static const char *const points[] = {"pipe: registered", "pipe: giving up",
                                         "pipe: to take",    "pipe: taken",
                                         "pipe: to silence", "pipe: bell to be taken"};
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (int late = 0; late < 2; late++) { /* messages before, or after it waits for them */
            struct ends e = {.seed = 1};
            int status;
            CHECK_EQ(fmp_pipe_create(&e.a, &e.b, true), FMP_OK);
            if (!late) {
                write_three(&e);
            }
            pid_t pid = fork_to_die(read_three, &e, points[i], 1);
            if (late) {
                check_sleep_ms(20);
                write_three(&e);
            }
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            CHECK(WIFSIGNALED(status));
            check_mended(&e, 3);
            drop(&e.a);
            drop(&e.b);
        }
    }
}

CASE(a_writer_that_waits_for_room_learns_of_the_end)
{
    CHECK_NEEDS_PROCESSES();
    struct ends e = {.seed = 29};
    CHECK_EQ(fmp_pipe_create(&e.b, &e.a, false), FMP_OK); /* b reads */
    signal(SIGPIPE, SIG_DFL);
    pid_t pid = check_fork(read_for_ever, &e);
    drop(&e.b);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQ(send_number(&e.a, i, 50000), FMP_OK);
    }
    CHECK_EQ(kill(pid, SIGSTOP), 0);
    while (atomic_load(&e.a.out->shm->putters) == 0) {
        struct fmp_wait w = {.budget_ns = 1000000, .fd = -1};
        static uint8_t body[50000];
        uint64_t header = fmp_record_header(sizeof body, 1);
        struct fmp_part parts[] = {{&header, sizeof header}, {body, sizeof body}};
        struct fmp_batch batch = {
            .parts = parts, .n_parts = 2, .bytes = sizeof header + sizeof body, .items = 1};
        if (fmp_pipe_send(&e.a, &batch, NULL, &w) == FMP_AGAIN) {
            break;
        }
    }
    check_kill(pid);
    CHECK_EQ(send_number(&e.a, 1, 50000), -EPIPE);
    drop(&e.a);
}

CHECK_MAIN
