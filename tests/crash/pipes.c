/* pipes.c - scenarios: send and receive over a pipe whose ends several processes hold, and the end
 * of a peer. Who waits sleeps in poll() of the end's descriptor, as the bridge has it. */
#include "messages.h"

#include "channel/pipe.h"
#include "platform/fd.h"

enum { RUNG, WATCHER }; /* of a pipe's extra words */

enum { WORLD, VICTIMS, OTHERS };

#define SMALL 20

static struct fmp_pipe a, b; /* a is written to, b read from */
static struct packed victims_batch, others_batch;
static uint32_t number;        /* of the record that was sent last */
static uint32_t passed_before; /* records, when the world began */

/* --- what the actors do --------------------------------------------------------------------------- */

static int
try_send(void *arg, struct fmp_wait *w)
{
    struct packed *p = arg;
    return fmp_pipe_send(&a, &p->batch, &number, w);
}

static void
send(struct packed *p)
{
    CHECK_EQ(wait_as_bridge(try_send, NULL, p), FMP_OK);
}

static int
try_taken(void *arg, struct fmp_wait *w)
{
    (void)arg;
    return fmp_pipe_taken(&a, number, w);
}

/* As the sender of a large message, which waits until it has been taken. */
static int
send_and_wait(struct packed *p)
{
    int rc = wait_as_bridge(try_send, NULL, p);
    return rc == FMP_OK ? wait_as_bridge(try_taken, NULL, NULL) : rc;
}

struct receiving {
    struct received *received;
    struct fmp_pipe_call call;
};

static int
try_receive(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_receive(&b, &r->call, &r->received->buffer, w);
}

static int
try_finish(void *arg, struct fmp_wait *w)
{
    struct receiving *r = arg;
    return fmp_pipe_finish(&b, &r->call, w);
}

static int
receive(struct received *into)
{
    struct receiving r = {.received = into};
    make_ready(into);
    int rc = wait_as_bridge(try_receive, NULL, &r);
    while (fmp_pipe_unfinished(&r.call)) {
        CHECK_EQ(wait_as_bridge(try_finish, NULL, &r), FMP_OK);
    }
    return rc;
}

static struct received received;

static struct message
receive_one(void)
{
    CHECK_EQ(receive(&received), FMP_OK);
    return note(&received);
}

static void
take_one(void)
{
    (void)receive_one();
}

static void
take_until_others(void)
{
    while (receive_one().sender != OTHERS) {
    }
}

static void
send_others(void)
{
    send(&others_batch);
}

static void
send_victims(void)
{
    send(&victims_batch);
}

/* --- making and judging --------------------------------------------------------------------------- */

static void
send_world(uint32_t number)
{
    static struct packed p;
    pack(&p, WORLD, number, 1, SMALL);
    send(&p);
}

static void
setup(void)
{
    CHECK_EQ(fmp_pipe_create(&a, &b, true), FMP_OK);
    send_world(31); /* maps both sides, in all that are forked */
    (void)receive_one();
    pack(&victims_batch, VICTIMS, 0, 1, SMALL);
    pack(&others_batch, OTHERS, 0, 1, SMALL);
    passed_before = (uint32_t)atomic_load(&b.in->shm->tail);
}

static void
setup_with_one(void)
{
    setup();
    send_world(0);
}

static void
close_end(struct fmp_pipe *p)
{
    if (p->fd >= 0) {
        fmp_pipe_hang_up(p, false);
        fmp_pipe_free(p);
        p->fd = -1;
    }
}

static void
close_ends(void)
{
    close_end(&a);
    close_end(&b);
}

static void
note_positions(void)
{
    atomic_store(&world->seen[0], (uint32_t)atomic_load(&b.in->shm->tail));
    atomic_store(&world->seen[1], (uint32_t)atomic_load(&b.in->shm->head));
}

/* Takes what is left; then the descriptor is silent. */
static void
drain(void)
{
    struct fmp_wait w;
    int rc;
    do {
        struct receiving r = {.received = &received, .call.at_once = true};
        w = (struct fmp_wait){.budget_ns = FMP_SECOND, .fd = -1};
        make_ready(&received);
        rc = try_receive(&r, &w);
        if (rc == FMP_OK) {
            (void)note(&received);
        }
    } while (rc == FMP_OK);
    CHECK_EQ(rc, FMP_AGAIN);
    CHECK_EQ(fmp_poll_now(b.fd, FMP_POLL_IN), 0);
}

static void
judge_send(void)
{
    drain();
    CHECK_EQ(noted(OTHERS, 32), 1);
    bool committed = !victim_killed() || atomic_load(&world->seen[0]) != passed_before;
    CHECK_EQ(noted(VICTIMS, 32), committed);
}

/* `in_all` were sent. */
static void
judge_receive(uint32_t in_all)
{
    drain();
    uint32_t got = noted(WORLD, 31) + noted(VICTIMS, 32) + noted(OTHERS, 32);
    CHECK_EQ((uint32_t)atomic_load(&b.in->shm->head) - passed_before, in_all);
    CHECK(got == in_all || (got + 1 == in_all && victim_killed()));
}

/* --- send ----------------------------------------------------------------------------------------- */

static void
send_victim(void)
{
    begin();
    send(&victims_batch);
    end();
}

/* Is a message there, first since `head`, which no reader watches for and the descriptor does not tell? */
static bool
unannounced(uint32_t head)
{
    return fmp_ring_count(b.in) > 0 && atomic_load(&b.in->shm->extra[WATCHER]) == 0
        && fmp_poll_now(b.fd, FMP_POLL_IN) != FMP_POLL_IN
        && (uint32_t)atomic_load(&b.in->shm->head) == head;
}

/* While a message is there, the descriptor says so, but for a moment in which somebody takes it. */
static void
look_at_descriptor(void)
{
    note_positions();
    uint32_t head = (uint32_t)atomic_load(&b.in->shm->head);
    while (unannounced(head)) {
        CHECK(!others_sleep() || !unannounced(head));
    }
}

SCENARIO(send_scenario) = {
    .name = "pipe-send",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup,
    .victim = send_victim,
    .look = look_at_descriptor,
    .judge = judge_send,
    .teardown = close_ends,
    .others = {{"receiver", EARLY, take_until_others}, {"sender", LATE, send_others}},
};

/* It is full: the victim sleeps until there is room. */
static void
setup_full(void)
{
    setup();
    send_world(0);
    a.out->shm->max_units = 4; /* one record of those */
}

static void
judge_send_full(void)
{
    drain();
    CHECK_EQ(noted(WORLD, 31), 1);
    CHECK_EQ(noted(OTHERS, 32), 1);
    CHECK(noted(VICTIMS, 32) == 1 || victim_killed());
}

SCENARIO(send_full_scenario) = {
    .name = "pipe-send-full",
    .judged = ALWAYS,
    .setup = setup_full,
    .victim = send_victim,
    .judge = judge_send_full,
    .teardown = close_ends,
    .others = {{"receiver", WAKER, take_one},
               {"sender", LATE, send_others},
               {"another receiver", LATE, take_one}},
};

/* --- receive -------------------------------------------------------------------------------------- */

static void
send_victims_and_wait(void)
{
    CHECK_EQ(send_and_wait(&victims_batch), FMP_OK);
}

static void
receive_victim(void)
{
    begin();
    CHECK_EQ(receive(&received), FMP_OK);
    end();
    (void)note(&received);
}

static void
judge_two(void)
{
    judge_receive(2);
}

SCENARIO(receive_scenario) = {
    .name = "pipe-receive",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup_with_one,
    .victim = receive_victim,
    .look = look_at_descriptor,
    .judge = judge_two,
    .teardown = close_ends,
    .others = {{"sender", LATE, send_others}, {"receiver", LATE, take_one}},
};

/* It finds nothing, spins, so to speak, sleeps, and is woken; another waits too. */
SCENARIO(receive_woken_scenario) = {
    .name = "pipe-receive-woken",
    .judged = ALWAYS,
    .setup = setup,
    .victim = receive_victim,
    .judge = judge_two,
    .teardown = close_ends,
    .others = {{"receiver", EARLY, take_one},
               {"sender", WAKER, send_victims},
               {"another sender", WAKER, send_others}},
};

/* Until the victim's message is taken, or never will be there. */
static void
take_for_victim(void)
{
    for (;;) {
        unsigned sender = receive_one().sender;
        if (sender == VICTIMS || (sender == OTHERS && victim_killed())) {
            return;
        }
    }
}

/* The victim sends and waits for the take. */
static void
send_awaiting_victim(void)
{
    begin();
    CHECK_EQ(send_and_wait(&victims_batch), FMP_OK);
    end();
}

SCENARIO(send_awaiting_scenario) = {
    .name = "pipe-send-awaiting",
    .judged = TICKS(KILL) | TICKS(PAUSE) | NO_TICKS(PAUSE), /* the receiver asks who was killed */
    .setup = setup,
    .victim = send_awaiting_victim,
    .look = note_positions,
    .judge = judge_send,
    .teardown = close_ends,
    .others = {{"receiver", WAKER, take_for_victim}, {"sender", LATE, send_others}},
};

/* Its sender waits until somebody has taken it. */
SCENARIO(receive_awaited_scenario) = {
    .name = "pipe-receive-awaited",
    .judged = ALWAYS,
    .setup = setup,
    .victim = receive_victim,
    .judge = judge_two,
    .teardown = close_ends,
    .others = {{"sender", EARLY, send_victims_and_wait},
               {"another sender", LATE, send_others},
               {"receiver", LATE, take_one}},
};

/* A message comes while the victim spins: nobody is told of it. */
static void
judge_one(void)
{
    judge_receive(1);
}

SCENARIO(receive_alone_scenario) = {
    .name = "pipe-receive-alone",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup,
    .victim = receive_victim,
    .judge = judge_one,
    .teardown = close_ends,
    .others = {{"sender", WAKER, send_others}},
};

/* Sends one, and another when the victim has had time to take the first. */
static void
send_twice(void)
{
    send_victims();
    for (int i = 0; i < 20 && !victim_ended() && !victim_killed(); i++) {
        check_sleep_ms(1);
    }
    send_others();
}

SCENARIO(receive_spinning_scenario) = {
    .name = "pipe-receive-spinning",
    .judged = ALWAYS,
    .setup = setup,
    .victim = receive_victim,
    .judge = judge_two,
    .teardown = close_ends,
    .others = {{"receiver", EARLY, take_one}, {"sender", WAKER, send_twice}},
};

/* --- the end of a peer ----------------------------------------------------------------------------- */

/* The victim alone holds the end that is written to. Two messages, and it closes. */
static void
last_words_victim(void)
{
    fmp_pipe_hang_up(&b, false);
    begin();
    send(&victims_batch);
    send(&others_batch);
    fmp_pipe_hang_up(&a, false);
    end();
}

static void
hear_all(void)
{
    close_end(&a);
    int rc;
    while ((rc = receive(&received)) == FMP_OK) {
        (void)note(&received);
    }
    CHECK(rc == FMP_CLOSED || rc == -ECONNRESET);
}

/* The world lets go of the end that is the victim's. */
static void
let_go_of_a(void)
{
    note_positions();
    close_end(&a);
}

static void
judge_last_words(void)
{
    uint32_t sent = victim_killed() ? atomic_load(&world->seen[0]) - passed_before : 2;
    CHECK_EQ(noted(VICTIMS, 32) + noted(OTHERS, 32), sent);
    CHECK(noted(OTHERS, 32) <= noted(VICTIMS, 32)); /* in their order */
}

SCENARIO(last_words_scenario) = {
    .name = "pipe-end-of-sender",
    .judged = ALWAYS_AND_KILLS_WITHOUT_TICKS,
    .setup = setup,
    .victim = last_words_victim,
    .look = let_go_of_a,
    .judge = judge_last_words,
    .teardown = close_ends,
    .others = {{"receiver", EARLY, hear_all}},
};

/* The victim alone holds the end that is read from. It takes one and closes; who sends is told. */
static void
leave_victim(void)
{
    fmp_pipe_hang_up(&a, false);
    begin();
    CHECK_EQ(receive(&received), FMP_OK);
    fmp_pipe_hang_up(&b, false);
    end();
}

static void
send_until_told(void)
{
    int rc;
    close_end(&b);
    while ((rc = wait_as_bridge(try_send, NULL, &others_batch)) == FMP_OK) {
    }
    CHECK(rc == -EPIPE || rc == -ECONNRESET);
}

static void
let_go_of_b(void)
{
    close_end(&b);
}

SCENARIO(leave_scenario) = {
    .name = "pipe-end-of-receiver",
    .judged = ALWAYS,
    .setup = setup_full,
    .victim = leave_victim,
    .look = let_go_of_b,
    .teardown = close_ends,
    .others = {{"sender", EARLY, send_until_told}},
};

static void
send_and_wait_until_told(void)
{
    int rc;
    close_end(&b);
    while ((rc = send_and_wait(&others_batch)) == FMP_OK) {
    }
    CHECK(rc == -EPIPE || rc == -ECONNRESET);
}

/* The sender waits for each message to be taken. */
SCENARIO(leave_awaited_scenario) = {
    .name = "pipe-end-of-taker",
    .judged = ALWAYS,
    .setup = setup,
    .victim = leave_victim,
    .look = let_go_of_b,
    .teardown = close_ends,
    .others = {{"sender", EARLY, send_and_wait_until_told}},
};
