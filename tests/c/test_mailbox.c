/* test_mailbox.c - channel/mailbox.c between processes: order, wake-ups, kills, bell, tasks. */
#include "channel/mailbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/status.h"
#include "check.h"
#include "platform/poll.h"
#include "support.h"

#define SENDERS 3

/* What the processes of a case share besides the mailbox. */
struct board {
    fmp_a32 sent[SENDERS];     /* by each sender, after its put returned */
    fmp_a32 received[SENDERS]; /* messages of that sender that some taker got */
    fmp_a32 stop, serial;
    fmp_a64 claim;
    fmp_a32 got[SENDERS][200000]; /* how often each message was received */
};

struct player {
    struct fmp_mailbox *box;
    struct board *board;
    uint32_t id, count;
};

static struct fmp_mailbox
new_box(uint32_t max_items)
{
    struct fmp_mailbox box;
    CHECK_EQ(fmp_mailbox_create(&box, max_items), FMP_OK);
    return box;
}

static struct board *
new_board(void)
{
    return shared_zeros(sizeof(struct board));
}

/* Mostly short, now and then long enough to make the ring grow. */
static uint32_t
some_length(uint64_t *seed)
{
    uint32_t r = random_next(seed);
    return r % 100 == 0 ? r % 20000 : r % 150;
}

static void
send_many(void *arg)
{
    struct player *p = arg;
    uint64_t seed = p->id;
    for (uint32_t i = 0; i < p->count; i++) {
        put_message(p->box, p->id, i, some_length(&seed));
        atomic_store(&p->board->sent[p->id], i + 1);
    }
}

static void
note(struct board *board, const struct message *m, int64_t *last)
{
    CHECK(m->sender < SENDERS);
    CHECK((int64_t)m->number > last[m->sender]); /* FIFO per sender, for one taker */
    last[m->sender] = m->number;
    atomic_fetch_add(&board->got[m->sender][m->number], 1);
    atomic_fetch_add(&board->received[m->sender], 1);
}

/* Takes until `stop` is set and nothing is left. */
static void
receive_all(void *arg)
{
    struct player *p = arg;
    int64_t last[SENDERS] = {-1, -1, -1};
    for (;;) {
        struct message m;
        uint32_t stop = atomic_load(&p->board->stop);
        int rc = take_message(p->box, &m, fmp_now() + FMP_SECOND / 50);
        if (rc == FMP_OK) {
            note(p->board, &m, last);
        }
        else if (stop) {
            return;
        }
    }
}

/* --- between processes ----------------------------------------------------------------------- */

CASE(one_to_one_in_order)
{
    struct fmp_mailbox box = new_box(0);
    struct board *board = new_board();
    struct player p = {&box, board, 0, 60000};
    pid_t pid = check_fork(send_many, &p);
    for (uint32_t i = 0; i < p.count; i++) {
        struct message m;
        CHECK_EQ(take_message(&box, &m, FMP_NEVER), FMP_OK);
        CHECK_EQ(m.number, i);
    }
    check_reap(pid);
    CHECK_EQ(fmp_ring_count(&box.ring), 0);
    fmp_mailbox_close(&box);
}

/* max_items 0 or small: then senders sleep for room, and every wake-up counts. */
static void
many_to_many(uint32_t max_items, uint32_t count)
{
    struct fmp_mailbox box = new_box(max_items);
    struct board *board = new_board();
    struct player senders[SENDERS], taker = {&box, board, 0, 0};
    pid_t sending[SENDERS], taking[2];
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct player){&box, board, i, count};
        sending[i] = check_fork(send_many, &senders[i]);
    }
    for (int i = 0; i < 2; i++) {
        taking[i] = check_fork(receive_all, &taker);
    }
    for (int i = 0; i < SENDERS; i++) {
        check_reap(sending[i]);
    }
    atomic_store(&board->stop, 1);
    check_reap(taking[0]);
    check_reap(taking[1]);
    for (uint32_t i = 0; i < SENDERS; i++) {
        for (uint32_t n = 0; n < count; n++) {
            CHECK_EQ(atomic_load(&board->got[i][n]), 1); /* exactly once */
        }
    }
    CHECK_EQ(atomic_load(&box.ring.shm->takers), 0);
    CHECK_EQ(atomic_load(&box.ring.shm->putters), 0);
    fmp_mailbox_close(&box);
}

CASE(many_to_many_exactly_once)
{
    many_to_many(0, 10000);
}

CASE(many_to_many_through_one_place)
{
    many_to_many(1, 2000);
}

CASE(many_to_many_through_few_places)
{
    many_to_many(7, 6000);
}

CASE(unbounded_put_needs_no_taker)
{
    struct fmp_mailbox box = new_box(0);
    for (uint32_t i = 0; i < 20000; i++) {
        put_message(&box, 1, i, 100);
    }
    CHECK_EQ(fmp_ring_count(&box.ring), 20000);
    fmp_mailbox_close(&box);
}

static void
put_later(void *arg)
{
    struct player *p = arg;
    for (uint32_t i = 0; i < p->count; i++) {
        check_sleep_ms(3);
        put_message(p->box, p->id, i, 10);
    }
}

CASE(a_sleeping_taker_is_woken_for_each_message)
{
    struct fmp_mailbox box = new_box(0);
    struct player p = {&box, new_board(), 1, 200};
    pid_t pid = check_fork(put_later, &p);
    for (uint32_t i = 0; i < p.count; i++) {
        struct message m;
        CHECK_EQ(take_message(&box, &m, FMP_NEVER), FMP_OK);
        CHECK_EQ(m.number, i);
    }
    check_reap(pid);
    fmp_mailbox_close(&box);
}

CASE(a_deadline_is_kept)
{
    struct fmp_mailbox box = new_box(1);
    struct message m;
    long long before = check_now_ms();
    CHECK_EQ(take_message(&box, &m, fmp_now() + FMP_SECOND / 5), FMP_TIMEOUT);
    long long took = check_now_ms() - before;
    CHECK(took >= 199 && took < 10000);
    fmp_mailbox_close(&box);
}

/* --- kills ----------------------------------------------------------------------------------- */

#ifndef FMP_NO_TICK

static void
send_for_ever(void *arg)
{
    struct player *p = arg;
    uint64_t seed = p->id + atomic_load(&p->board->serial);
    for (;;) { /* a successor goes on after what its predecessor is known to have sent */
        uint32_t next = atomic_load(&p->board->sent[p->id]);
        put_message(p->box, p->id, next, some_length(&seed));
        atomic_store(&p->board->sent[p->id], next + 1);
    }
}

/* A put that was killed between its commit and the count is sent again by the successor: a
 * message may come twice, but is always whole, and none is left out. */
CASE(killed_senders_leave_whole_messages_and_no_gaps)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box(50);
    struct board *board = new_board();
    struct player players[SENDERS];
    pid_t pids[SENDERS];
    uint64_t seed = 7;
    int64_t last[SENDERS] = {-1, -1, -1};
    int repeats = 0, kills = 0;
    for (uint32_t i = 0; i < SENDERS; i++) {
        players[i] = (struct player){&box, board, i, 0};
        pids[i] = check_fork(send_for_ever, &players[i]);
    }
    int64_t next_kill = 0;
    while (kills < 200) {
        struct message m;
        CHECK_EQ(take_message(&box, &m, fmp_now() + 20 * FMP_SECOND), FMP_OK);
        CHECK(m.sender < SENDERS);
        CHECK(m.number == last[m.sender] || m.number == last[m.sender] + 1);
        repeats += m.number == last[m.sender];
        last[m.sender] = m.number;
        if (fmp_now() >= next_kill) {
            uint32_t victim = random_next(&seed) % SENDERS;
            check_kill(pids[victim]);
            atomic_fetch_add(&board->serial, 1);
            pids[victim] = check_fork(send_for_ever, &players[victim]);
            next_kill = fmp_now() + random_next(&seed) % (3 * FMP_SECOND / 1000);
            kills++;
        }
    }
    for (int i = 0; i < SENDERS; i++) {
        check_kill(pids[i]);
    }
    CHECK(repeats <= kills);
    fmp_mailbox_close(&box);
}

CASE(killed_takers_lose_at_most_what_they_had_taken)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box(50);
    struct board *board = new_board();
    struct player sender = {&box, board, 0, 200000}, taker = {&box, board, 0, 0};
    pid_t sending = check_fork(send_many, &sender), takers[2];
    for (int i = 0; i < 2; i++) {
        takers[i] = check_fork(receive_all, &taker);
    }
    uint64_t seed = 99;
    uint32_t kills = 0;
    while (atomic_load(&board->sent[0]) < sender.count) {
        int victim = (int)(random_next(&seed) % 2);
        usleep(random_next(&seed) % 3000);
        check_kill(takers[victim]);
        takers[victim] = check_fork(receive_all, &taker);
        kills++;
    }
    check_reap(sending);
    atomic_store(&board->stop, 1);
    check_reap(takers[0]);
    check_reap(takers[1]);
    uint32_t lost = 0;
    for (uint32_t n = 0; n < sender.count; n++) {
        CHECK(atomic_load(&board->got[0][n]) <= 1); /* never delivered twice */
        lost += atomic_load(&board->got[0][n]) == 0;
    }
    CHECK(kills > 10);
    CHECK(lost <= kills);
    fmp_mailbox_close(&box);
}

CASE(killed_sleepers_strand_nobody)
{
    CHECK_NEEDS_PROCESSES();
    struct fmp_mailbox box = new_box(1);
    struct board *board = new_board();
    struct player taker = {&box, board, 0, 0}, sender = {&box, board, 0, 500};
    for (int i = 0; i < 20; i++) { /* each leaves the count of sleepers one too high */
        pid_t pid = check_fork(receive_all, &taker);
        check_sleep_ms(5);
        check_kill(pid);
    }
    pid_t taking = check_fork(receive_all, &taker), sending = check_fork(send_many, &sender);
    check_reap(sending);
    atomic_store(&board->stop, 1);
    check_reap(taking);
    CHECK_EQ(atomic_load(&board->received[0]), sender.count);
    fmp_mailbox_close(&box);
}

#endif

CASE(the_claim_is_written_before_the_commit)
{
    struct fmp_mailbox box = new_box(0);
    struct board *board = new_board();
    struct fmp_wait w = {.fd = -1};
    uint64_t record[] = {fmp_record_header(8, 1), UINT64_C(0x1122334455667788)};
    struct fmp_part part = {record, sizeof record};
    struct fmp_batch batch = {.parts = &part, .n_parts = 1, .bytes = sizeof record, .items = 1};
    CHECK_EQ(fmp_mailbox_put(&box, &batch, &w), FMP_OK);
    uint8_t room[64];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    CHECK_EQ(fmp_mailbox_take(&box, 1, &out, &board->claim, &w), FMP_OK);
    CHECK_EQ(atomic_load(&board->claim), record[1]);
    fmp_buffer_free(&out);
    fmp_mailbox_close(&box);
}

static int
try_poll(void *arg, struct fmp_wait *w)
{
    struct player *p = arg;
    return fmp_mailbox_poll(p->box, w);
}

static void
poll_once(void *arg)
{
    CHECK_EQ(wait_for(try_poll, arg, FMP_NEVER), FMP_OK);
}

static void
take_once(void *arg)
{
    struct player *p = arg;
    struct message m;
    CHECK_EQ(take_message(p->box, &m, FMP_NEVER), FMP_OK);
}

static void
until_asleep(struct fmp_mailbox *box, uint32_t count)
{
    while (atomic_load(&box->ring.shm->takers) < count) {
        check_sleep_ms(1);
    }
    check_sleep_ms(20); /* counted, and about to sleep */
}

/* The kernel wakes who has slept longest: those who only look, which must not be the end of it. */
CASE(who_polls_does_not_swallow_a_wake_up)
{
    struct fmp_mailbox box = new_box(0);
    struct player p = {&box, new_board(), 0, 0};
    pid_t pids[3];
    for (uint32_t i = 0; i < 3; i++) {
        pids[i] = check_fork(i < 2 ? poll_once : take_once, &p);
        until_asleep(&box, i + 1);
    }
    put_message(&box, 1, 0, 10);
    check_reap(pids[2]);
    put_message(&box, 1, 0, 10); /* should it have been faster than one that polls */
    check_reap(pids[0]);
    check_reap(pids[1]);
    fmp_mailbox_close(&box);
}

/* --- the bell -------------------------------------------------------------------------------- */

static bool
rings(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int
try_arm(void *arg, struct fmp_wait *w)
{
    return fmp_mailbox_arm_bell(arg, w);
}

static int
arm(struct fmp_mailbox *box)
{
    CHECK_EQ(wait_for(try_arm, box, FMP_NEVER), FMP_OK);
    return box->bell;
}

CASE(the_bell_rings_exactly_while_there_are_messages)
{
    struct fmp_mailbox box = new_box(0);
    struct message m;
    put_message(&box, 1, 0, 10); /* before anybody asked for the bell */
    int bell = arm(&box);
    CHECK(rings(bell));
    CHECK_EQ(take_message(&box, &m, FMP_NEVER), FMP_OK);
    CHECK(!rings(bell));
    for (uint32_t i = 0; i < 3; i++) {
        put_message(&box, 1, i, 10);
        CHECK(rings(bell));
    }
    for (int i = 3; i > 0; i--) {
        CHECK(rings(bell));
        CHECK_EQ(take_message(&box, &m, FMP_NEVER), FMP_OK);
    }
    CHECK(!rings(bell));
    CHECK_EQ(arm(&box), bell);
    fmp_mailbox_close(&box);
}

static int
take_at_once(struct fmp_mailbox *box, struct fmp_wait *w)
{
    uint8_t room[64];
    struct fmp_buffer out;
    fmp_buffer_init(&out, room, sizeof room);
    *w = (struct fmp_wait){.fd = -1};
    int rc = fmp_mailbox_take(box, 1, &out, NULL, w);
    fmp_buffer_free(&out);
    return rc;
}

/* A killed taker, or a putter that failed, has left it ringing: a select() loop must not spin. */
CASE(a_bell_over_an_empty_mailbox_is_silenced_by_who_finds_it_so)
{
    struct fmp_mailbox box = new_box(0);
    struct fmp_wait w;
    fmp_eventfd_signal(arm(&box));
    CHECK(rings(box.bell));
    CHECK_EQ(take_at_once(&box, &w), FMP_AGAIN);
    CHECK(w.word != NULL && !rings(box.bell));
    fmp_mailbox_close(&box);
}

static void
hold_tail_lock(void *arg)
{
    struct player *p = arg;
    struct fmp_wait w = {.fd = -1};
    CHECK_EQ(fmp_ring_lock_tail(&p->box->ring, &w), FMP_OK);
    atomic_store(&p->board->serial, 1);
    while (atomic_load(&p->board->stop) == 0) {
        check_sleep_ms(1);
    }
    fmp_ring_unlock_tail(&p->box->ring);
}

CASE(with_the_gil_the_bell_waits_for_no_lock)
{
    struct fmp_mailbox box = new_box(0);
    struct player p = {&box, new_board(), 0, 0};
    struct fmp_wait w;
    put_message(&box, 1, 0, 10);
    pid_t pid = check_fork(hold_tail_lock, &p);
    while (atomic_load(&p.board->serial) == 0) {
        check_sleep_ms(1);
    }
    w = (struct fmp_wait){.fd = -1};
    CHECK_EQ(fmp_mailbox_arm_bell(&box, &w), FMP_AGAIN);
    CHECK(fmp_wait_is_on_lock(&w));
    atomic_store(&box.ring.shm->extra[2], 1); /* armed all the same */
    fmp_eventfd_signal(box.bell);
    CHECK_EQ(take_at_once(&box, &w), FMP_OK); /* the last: and does not wait to silence it */
    CHECK(rings(box.bell));
    atomic_store(&p.board->stop, 1);
    check_reap(pid);
    CHECK_EQ(take_at_once(&box, &w), FMP_AGAIN);
    CHECK(!rings(box.bell));
    fmp_mailbox_close(&box);
}

CASE(a_taker_that_only_listens_to_the_bell_misses_nothing)
{
    struct fmp_mailbox box = new_box(0);
    struct board *board = new_board();
    struct player senders[2] = {{&box, board, 0, 5000}, {&box, board, 1, 5000}};
    int bell = arm(&box);
    pid_t pids[2] = {check_fork(send_many, &senders[0]), check_fork(send_many, &senders[1])};
    int64_t last[SENDERS] = {-1, -1, -1};
    for (int taken = 0; taken < 10000; taken++) {
        struct pollfd p = {.fd = bell, .events = POLLIN};
        CHECK_EQ(poll(&p, 1, 20000), 1);
        struct message m;
        /* Readable means that it is there, or about to be committed. */
        CHECK_EQ(take_message(&box, &m, fmp_now() + 20 * FMP_SECOND), FMP_OK);
        note(board, &m, last);
    }
    check_reap(pids[0]);
    check_reap(pids[1]);
    CHECK(!rings(bell));
    fmp_mailbox_close(&box);
}

/* --- tasks ----------------------------------------------------------------------------------- */

static int
try_joined(void *arg, struct fmp_wait *w)
{
    struct player *p = arg;
    return fmp_mailbox_joined(p->box, w);
}

static void
join_tasks(void *arg)
{
    struct player *p = arg;
    CHECK_EQ(wait_for(try_joined, p, FMP_NEVER), FMP_OK);
    CHECK_EQ(fmp_mailbox_unfinished(p->box), 0);
}

CASE(join_waits_for_all_tasks)
{
    struct fmp_mailbox box = new_box(0);
    struct player p = {&box, new_board(), 0, 0};
    struct fmp_wait w = {.fd = -1};
    CHECK_EQ(fmp_mailbox_joined(&box, &w), FMP_OK); /* nothing was put */
    CHECK_EQ(fmp_mailbox_task_done(&box), FMP_OVER_RELEASE);
    for (uint32_t i = 0; i < 5; i++) {
        put_message(&box, 1, i, 10);
    }
    pid_t joiners[3];
    for (int i = 0; i < 3; i++) {
        joiners[i] = check_fork(join_tasks, &p);
    }
    for (uint32_t i = 5; i > 0; i--) {
        struct message m;
        CHECK_EQ(fmp_mailbox_unfinished(&box), i);
        CHECK_EQ(fmp_mailbox_joined(&box, &w), FMP_AGAIN);
        CHECK_EQ(take_message(&box, &m, FMP_NEVER), FMP_OK);
        CHECK_EQ(fmp_mailbox_unfinished(&box), i); /* taken is not done */
        check_sleep_ms(10);
        CHECK_EQ(fmp_mailbox_task_done(&box), FMP_OK);
    }
    for (int i = 0; i < 3; i++) {
        check_reap(joiners[i]);
    }
    CHECK_EQ(fmp_mailbox_task_done(&box), FMP_OVER_RELEASE);
    fmp_mailbox_close(&box);
}

CASE(attaching_what_is_no_mailbox_closes_both_descriptors)
{
    struct fmp_mailbox box = new_box(0), other;
    int fds = count_fds();
    CHECK_EQ(fmp_mailbox_attach(&other, another_fd(box.bell), another_fd(box.bell)), FMP_CORRUPT);
    CHECK_EQ(count_fds(), fds);
    fmp_mailbox_close(&box);
    fmp_mailbox_close(&box); /* twice is harmless */
}

/* The flag is the descriptor's, and whoever has it may set it: os.set_blocking(queue._reader...). */
CASE(a_bell_that_blocks_stops_nobody)
{
    struct fmp_mailbox m;
    struct message got;
    CHECK_EQ(fmp_mailbox_create(&m, 0), FMP_OK);
    CHECK_EQ(fcntl(m.bell, F_SETFL, fcntl(m.bell, F_GETFL) & ~O_NONBLOCK), 0);
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    CHECK_EQ(fmp_mailbox_arm_bell(&m, &w), FMP_OK);
    CHECK_EQ(take_message(&m, &got, 0), FMP_TIMEOUT); /* silences what does not ring */
    put_message(&m, 1, 1, 10);
    CHECK(fmp_poll_now(m.bell, FMP_POLL_IN) > 0);
    CHECK_EQ(take_message(&m, &got, 0), FMP_OK);
    CHECK_EQ(fmp_poll_now(m.bell, FMP_POLL_IN), 0);
    fmp_mailbox_close(&m);
}

CHECK_MAIN
