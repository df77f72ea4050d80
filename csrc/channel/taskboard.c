/* taskboard.c - tasks, results and claims of a pool; see taskboard.h for who writes what.
 *
 * Sleepers of the parent sleep on the rings' committed words, but are counted here and not in the
 * ring: so a worker wakes them by the board's rules (a collector when as many results have come as
 * it wants, a feeder when room is worth while) and not at every record.
 *
 * A kill at any line leaves: in take, a claim that taskboard.h tells apart; in post, the result
 * absent or whole; between a commit and its wake, a sleeper that its tick wakes.
 */
#include "channel/taskboard.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/status.h"
#include "channel/extent.h"
#include "channel/positions.h"
#include "platform/clock.h"
#include "platform/futex.h"
#include "platform/memory.h"

#define COLLECTED_AT_A_TIME 64 /* records */

_Static_assert(sizeof(struct fmp_task_tag) == sizeof(uint64_t), "a tag is a claim");
_Static_assert(sizeof(struct fmp_worker_shm) == FMP_CACHE_LINE, "a line for each worker");

/* A record of no task: wakes, and is ignored. Its kind, 0, is no encoder's. */
static const uint64_t no_task_record[2] = {(uint64_t)sizeof(struct fmp_task_tag) << 8, 0};
static const struct fmp_part no_task = {no_task_record, sizeof(no_task_record)};

/* --- create, attach --------------------------------------------------------------------------- */

static size_t
page_size(uint32_t n_workers)
{
    return sizeof(struct fmp_taskboard_shm) + n_workers * sizeof(struct fmp_worker_shm);
}

int
fmp_taskboard_create(struct fmp_taskboard *b, uint32_t n_workers)
{
    *b = (struct fmp_taskboard){0};
    int rc = fmp_mailbox_create(&b->tasks, 0);
    if (rc == FMP_OK) {
        rc = fmp_mailbox_create(&b->results, 0);
    }
    if (rc == FMP_OK) {
        rc = fmp_slot_alloc(page_size(n_workers), &b->slot);
    }
    if (rc != FMP_OK) {
        fmp_taskboard_close(b);
        return rc;
    }
    b->shm = fmp_slot_at(&b->slot);
    b->shm->parent = fmp_who_am_i();
    b->shm->n_workers = b->n_workers = n_workers;
    return FMP_OK;
}

void
fmp_taskboard_share(struct fmp_taskboard *b, struct fmp_taskboard_fds *out)
{
    *out = (struct fmp_taskboard_fds){
        .tasks_ring = b->tasks.ring.fd,
        .tasks_bell = b->tasks.bell,
        .results_ring = b->results.ring.fd,
        .results_bell = b->results.bell,
        .slot = fmp_slot_share(&b->slot),
        .slot_offset = b->slot.offset,
        .slot_size = b->slot.size,
    };
}

/* The page of another process. */
static int
use_page(struct fmp_taskboard *b)
{
    struct fmp_taskboard_shm *shm = fmp_slot_at(&b->slot);
    if (b->slot.size < sizeof(*shm)) {
        return FMP_CORRUPT;
    }
    b->n_workers = *(volatile uint32_t *)&shm->n_workers;
    if (b->n_workers == 0 || page_size(b->n_workers) > b->slot.size) {
        return FMP_CORRUPT;
    }
    b->shm = shm;
    return FMP_OK;
}

int
fmp_taskboard_attach(struct fmp_taskboard *b, const struct fmp_taskboard_fds *fds)
{
    *b = (struct fmp_taskboard){0};
    int rc = fmp_mailbox_attach(&b->tasks, fds->tasks_ring, fds->tasks_bell);
    int other = fmp_mailbox_attach(&b->results, fds->results_ring, fds->results_bell);
    rc = rc != FMP_OK ? rc : other;
    other = fmp_slot_attach(fds->slot, fds->slot_offset, fds->slot_size, &b->slot);
    rc = rc != FMP_OK ? rc : other;
    if (rc == FMP_OK) {
        rc = use_page(b);
    }
    if (rc != FMP_OK) {
        fmp_taskboard_close(b);
    }
    return rc;
}

void
fmp_taskboard_close(struct fmp_taskboard *b)
{
    fmp_mailbox_close(&b->tasks);
    fmp_mailbox_close(&b->results);
    if (b->slot.segment != NULL) {
        fmp_slot_free(&b->slot);
    }
    b->slot.segment = NULL;
    b->shm = NULL;
}

/* --- tasks ------------------------------------------------------------------------------------ */

int
fmp_taskboard_put(struct fmp_taskboard *b, const struct fmp_batch *batch, struct fmp_wait *w)
{
    return fmp_mailbox_put(&b->tasks, batch, w);
}

uint64_t
fmp_taskboard_waiting(struct fmp_taskboard *b)
{
    uint64_t head, tail;
    fmp_ring_positions(&b->tasks.ring, &head, &tail);
    uint64_t inside = (uint64_t)(units_of(tail) - units_of(head)) * FMP_UNIT;
    return inside + fmp_extents_waiting(&b->tasks.ring);
}

bool
fmp_taskboard_has_results(const struct fmp_taskboard *b)
{
    return fmp_ring_count(&b->results.ring) > 0;
}

int
fmp_taskboard_room(struct fmp_taskboard *b, uint64_t below, struct fmp_wait *w)
{
    fmp_a32 *word = fmp_low_half(&b->tasks.ring.shm->head);
    uint32_t seen = atomic_load(word);
    atomic_store(&b->shm->feed_below, below);
    if (fmp_taskboard_waiting(b) < below) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, word, seen, &b->shm->feeders);
    return FMP_AGAIN;
}

bool
fmp_taskboard_hungry(struct fmp_taskboard *b, uint64_t below)
{
    atomic_store(&b->shm->hungry_below, below);
    return fmp_taskboard_waiting(b) >= below;
}

/* After a take: wakes those who have more tasks to give out. A feeder compares the word that the
 * take has committed; a collector sleeps on another and is roused by one worker. */
static void
wake_feeders(struct fmp_taskboard *b)
{
    struct fmp_taskboard_shm *shm = b->shm;
    if (atomic_load(&shm->feeders) != 0
        && fmp_taskboard_waiting(b) < atomic_load(&shm->feed_below)) {
        fmp_futex_wake(fmp_low_half(&b->tasks.ring.shm->head), INT_MAX);
    }
    uint64_t below = atomic_load(&shm->hungry_below);
    if (below != 0 && fmp_taskboard_waiting(b) < below
        && atomic_compare_exchange_strong(&shm->hungry_below, &below, 0)) {
        struct fmp_wait w = {.budget_ns = 0, .fd = -1};
        (void)fmp_taskboard_rouse(b, &w); /* when its lock is busy, a result is on its way */
    }
}

/* Kind 0 is what nobody is to run: a task made void, or a dismissal, whose tag is of no job. */
static bool
is_void(const struct fmp_buffer *record, bool *dismissal)
{
    uint64_t words[2];
    memcpy(words, record->data, sizeof(words));
    *dismissal = words[1] == 0;
    return fmp_record_kind(words[0]) == 0;
}

static int
take_one(struct fmp_taskboard *b, struct fmp_worker_shm *slot, struct fmp_buffer *out,
         struct fmp_wait *w)
{
    bool dismissal;
    for (;;) {
        int rc = fmp_mailbox_take(&b->tasks, 1, out, &slot->claim, w);
        if (rc == -ENOMEM) { /* left there, it would be every other worker's end too */
            rc = fmp_mailbox_take_cut(&b->tasks, out, &slot->claim, w);
        }
        if (rc != FMP_OK) {
            return rc;
        }
        wake_feeders(b);
        if (!is_void(out, &dismissal)) {
            return FMP_OK;
        }
        atomic_store(&slot->claim, 0);
        if (dismissal) {
            return FMP_CLOSED;
        }
    }
}

int
fmp_taskboard_take(struct fmp_taskboard *b, uint32_t worker, struct fmp_buffer *out,
                   struct fmp_wait *w)
{
    struct fmp_worker_shm *slot = &b->shm->workers[worker];
    uint32_t state = atomic_load(&b->shm->state);
    if (state == FMP_BOARD_STOPPED) {
        return FMP_CLOSED;
    }
    uint32_t doomed = atomic_load(&slot->doomed); /* after the claim was given up */
    if (doomed != 0) {
        fmp_wait_on_word(w, &slot->doomed, doomed, &slot->parked);
        return FMP_AGAIN;
    }
    int rc = take_one(b, slot, out, w);
    if (rc == FMP_AGAIN && w->word != NULL && state == FMP_BOARD_DISMISSED) {
        return FMP_CLOSED;
    }
    return rc;
}

int
fmp_taskboard_dismiss(struct fmp_taskboard *b, struct fmp_wait *w)
{
    atomic_store(&b->shm->state, FMP_BOARD_DISMISSED);
    /* The state is what counts; one record each is what wakes the workers that are asleep. */
    struct fmp_batch batch = {.parts = &no_task, .n_parts = 1, .bytes = no_task.size, .items = 1};
    for (uint32_t i = 0; i < b->n_workers; i++) {
        if (fmp_taskboard_state(b, i) == FMP_WORKER_NONE) {
            continue;
        }
        int rc = fmp_mailbox_put(&b->tasks, &batch, w);
        if (rc != FMP_OK) {
            return rc;
        }
    }
    return FMP_OK;
}

void
fmp_taskboard_stop(struct fmp_taskboard *b)
{
    atomic_store(&b->shm->state, FMP_BOARD_STOPPED);
    fmp_futex_wake(fmp_low_half(&b->tasks.ring.shm->tail), INT_MAX);
    fmp_futex_wake(fmp_low_half(&b->tasks.ring.shm->head), INT_MAX);
    fmp_futex_wake(fmp_low_half(&b->results.ring.shm->tail), INT_MAX);
}

/* --- results ---------------------------------------------------------------------------------- */

int
fmp_taskboard_post(struct fmp_taskboard *b, uint32_t worker, const struct fmp_batch *batch,
                   struct fmp_wait *w)
{
    int rc = fmp_mailbox_put(&b->results, batch, w);
    if (rc != FMP_OK) {
        return rc;
    }
    struct fmp_worker_shm *slot = &b->shm->workers[worker];
    atomic_store_explicit(&slot->since, 0, memory_order_relaxed);
    atomic_store(&slot->claim, 0);
    atomic_fetch_add_explicit(&slot->done, 1, memory_order_relaxed);
    if (atomic_load(&b->shm->collectors) != 0) {
        fmp_a32 *word = fmp_low_half(&b->results.ring.shm->tail);
        if ((int32_t)(atomic_load(word) - atomic_load(&b->shm->wake_at)) >= 0) {
            fmp_futex_wake(word, INT_MAX);
        }
    }
    return FMP_OK;
}

int
fmp_taskboard_collect(struct fmp_taskboard *b, uint32_t want, struct fmp_buffer *out,
                      struct fmp_wait *w)
{
    int rc = fmp_mailbox_take(&b->results, COLLECTED_AT_A_TIME, out, NULL, w);
    if (rc == -ENOMEM) {
        rc = fmp_mailbox_take(&b->results, 1, out, NULL, w);
    }
    if (rc == -ENOMEM) { /* left there, it would keep back all that come after it */
        rc = fmp_mailbox_take_cut(&b->results, out, NULL, w);
    }
    if (rc == FMP_AGAIN && w->word != NULL) {
        /* Before the sleeper counts itself: who sees the sleeper sees what it wants. */
        atomic_store(&b->shm->wake_at, w->seen + want);
        w->sleepers = &b->shm->collectors;
    }
    return rc;
}

static void
wake_collector(struct fmp_taskboard *b)
{
    fmp_wake(fmp_low_half(&b->results.ring.shm->tail), &b->shm->collectors, INT_MAX);
}

void
fmp_taskboard_want_next(struct fmp_taskboard *b)
{
    uint32_t put = (uint32_t)atomic_load(&b->results.ring.shm->tail);
    atomic_store(&b->shm->wake_at, put + 1);
    /* A result that came before that store was judged by the old mark. */
    if (fmp_ring_count(&b->results.ring) != 0) {
        wake_collector(b);
    }
}

int
fmp_taskboard_rouse(struct fmp_taskboard *b, struct fmp_wait *w)
{
    struct fmp_batch batch = {.parts = &no_task, .n_parts = 1, .bytes = no_task.size, .items = 1};
    int rc = fmp_mailbox_put(&b->results, &batch, w);
    wake_collector(b);
    return rc;
}

/* --- workers ---------------------------------------------------------------------------------- */

void
fmp_taskboard_vacate(struct fmp_taskboard *b, uint32_t worker)
{
    struct fmp_worker_shm *slot = &b->shm->workers[worker];
    atomic_store(&slot->claim, 0);
    atomic_store(&slot->state, FMP_WORKER_NONE);
    atomic_store(&slot->who, 0);
    atomic_store(&slot->done, 0);
    atomic_store(&slot->since, 0);
    atomic_store(&slot->doomed, 0);
    atomic_store(&slot->parked, 0);
}

void
fmp_taskboard_hire(struct fmp_taskboard *b, uint32_t worker)
{
    fmp_taskboard_vacate(b, worker);
    atomic_store(&b->shm->workers[worker].state, FMP_WORKER_STARTING);
}

void
fmp_taskboard_hired(struct fmp_taskboard *b, uint32_t worker, uint32_t pid)
{
    uint64_t nobody = 0; /* else the worker has said already who it is, and knows better */
    atomic_compare_exchange_strong(&b->shm->workers[worker].who, &nobody, pid);
}

int
fmp_taskboard_enter(struct fmp_taskboard *b, uint32_t worker)
{
    if (worker >= b->n_workers) {
        return FMP_CORRUPT;
    }
    atomic_store(&b->shm->workers[worker].who, fmp_who_am_i());
    return FMP_OK;
}

void
fmp_taskboard_set_state(struct fmp_taskboard *b, uint32_t worker, enum fmp_worker_state state)
{
    atomic_store(&b->shm->workers[worker].state, (uint32_t)state);
}

enum fmp_worker_state
fmp_taskboard_state(const struct fmp_taskboard *b, uint32_t worker)
{
    return (enum fmp_worker_state)atomic_load(&b->shm->workers[worker].state);
}

uint32_t
fmp_taskboard_ready(const struct fmp_taskboard *b)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < b->n_workers; i++) {
        ready += fmp_taskboard_state(b, i) == FMP_WORKER_READY;
    }
    return ready;
}

bool
fmp_taskboard_all_alive(const struct fmp_taskboard *b)
{
    for (uint32_t i = 0; i < b->n_workers; i++) {
        uint64_t who = atomic_load(&b->shm->workers[i].who);
        if (who != 0 && !fmp_who_alive(who)) {
            return false;
        }
    }
    return true;
}

static bool
another_claims(const struct fmp_taskboard *b, uint32_t worker, uint64_t claim)
{
    for (uint32_t i = 0; i < b->n_workers; i++) {
        if (i != worker && fmp_taskboard_claim(b, i) == claim) {
            return true;
        }
    }
    return false;
}

int
fmp_taskboard_claimed_elsewhere(struct fmp_taskboard *b, uint32_t worker, bool *elsewhere,
                                struct fmp_wait *w)
{
    uint64_t claim = fmp_taskboard_claim(b, worker);
    uint8_t beginning[FMP_RECORD_HEADER + sizeof(claim)];
    struct fmp_buffer first;
    fmp_buffer_init(&first, beginning, sizeof(beginning));
    int rc = fmp_ring_lock_head(&b->tasks.ring, w);
    if (rc != FMP_OK) {
        return rc;
    }
    /* Reads the first record and does not commit: a look at what the next take would get. */
    uint64_t commit;
    struct fmp_wait ignored = {.budget_ns = w->budget_ns};
    rc = fmp_ring_read_cut(&b->tasks.ring, &first, &ignored, &commit);
    uint64_t tag = 0;
    if (rc == FMP_OK) {
        memcpy(&tag, first.data + FMP_RECORD_HEADER, sizeof(tag));
    }
    *elsewhere = (rc == FMP_OK && tag == claim) || another_claims(b, worker, claim);
    fmp_ring_unlock_head(&b->tasks.ring);
    return rc == FMP_AGAIN ? FMP_OK : rc;
}

/* --- cancelling ------------------------------------------------------------------------------- */

static uint32_t
job_of(uint64_t claim)
{
    return (uint32_t)(claim >> 32);
}

int
fmp_taskboard_cancel(struct fmp_taskboard *b, uint32_t job, struct fmp_wait *w)
{
    /* Whoever takes has written its claim before it lets go of this lock: so each task is seen here
     * or there. */
    int rc = fmp_ring_lock_head(&b->tasks.ring, w);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = fmp_ring_void(&b->tasks.ring, UINT64_C(0xffffffff) << 32, (uint64_t)job << 32);
    for (uint32_t i = 0; i < b->n_workers; i++) {
        if (job_of(fmp_taskboard_claim(b, i)) == job) {
            atomic_store(&b->shm->workers[i].doomed, job);
        }
    }
    fmp_ring_unlock_head(&b->tasks.ring);
    return rc;
}

bool
fmp_taskboard_condemned(const struct fmp_taskboard *b, uint32_t worker, uint32_t job)
{
    /* In this order: the worker gives up its claim before it looks whether it is doomed. */
    return atomic_load(&b->shm->workers[worker].doomed) == job
        && job_of(fmp_taskboard_claim(b, worker)) == job;
}

void
fmp_taskboard_spare(struct fmp_taskboard *b, uint32_t worker, uint32_t job)
{
    struct fmp_worker_shm *slot = &b->shm->workers[worker];
    if (atomic_compare_exchange_strong(&slot->doomed, &job, 0)) {
        fmp_wake(&slot->doomed, &slot->parked, INT_MAX);
    }
}

void
fmp_taskboard_begin_timed(struct fmp_taskboard *b, uint32_t worker)
{
    atomic_store(&b->shm->workers[worker].since, (uint64_t)fmp_now());
}

int64_t
fmp_taskboard_began(const struct fmp_taskboard *b, uint32_t worker, uint32_t job)
{
    const struct fmp_worker_shm *slot = &b->shm->workers[worker];
    /* The time is cleared before the claim: with the claim before and after, it is this task's. */
    if (job_of(atomic_load(&slot->claim)) != job) {
        return 0;
    }
    int64_t since = (int64_t)atomic_load(&slot->since);
    return job_of(atomic_load(&slot->claim)) == job ? since : 0;
}
