/* py_pool_collect.c - waiting for a pool's results, and dealing them out; see pool.h.
 *
 * The role of the collector is held only while its holder sleeps; a batch is dealt out without it,
 * because decoding runs any code. Whoever leaves hands the role to a thread that still waits, and
 * a waiter whose handover was missed finds the role free at its tick. Workers that ended are
 * noticed at a tick, or between batches when there is no quiet tick; supervise() then looks after
 * them, in the thread that waits.
 */
#include "objects/pool.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/status.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"

#define STACK_BYTES 4096
/* So many items may wait for a collector who needs them all anyway, in at most so many results. More
 * are dealt out while the workers go on. */
#define MOST_ITEMS_WANTED 1024
#define MOST_WANTED 64

PyObject *
fmp_pool_python(const char *name)
{
    PyObject *module = PyImport_ImportModule("fastmp._workers");
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return function;
}

PyObject *
fmp_pool_call_python(const char *name, const char *format, ...)
{
    PyObject *function = fmp_pool_python(name);
    PyObject *result = NULL;
    if (function != NULL) {
        va_list arguments;
        va_start(arguments, format);
        PyObject *args = Py_VaBuildValue(format, arguments);
        va_end(arguments);
        result = args != NULL ? PyObject_Call(function, args, NULL) : NULL;
        Py_XDECREF(args);
    }
    Py_XDECREF(function);
    return result;
}

int
fmp_pool_check_owner(const FmpBoard *b)
{
    if (b->generation == fmp_fork_generation()) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError, "this pool can only be used in the process that made it (%u)",
                 fmp_who_pid(b->board.shm->parent));
    return -1;
}

bool
fmp_pool_idle(const FmpBoard *b)
{
    return b->callbacks == 0 && PyList_GET_SIZE(b->feeds) == 0
        && !(b->closing && PyDict_GET_SIZE(b->cache) > 0);
}

/* Does another thread have the role? Ours may have it too, when we run in a signal's handler there:
 * then nothing is in hand, as it is between two tries. */
static bool
collected_elsewhere(const FmpBoard *b)
{
    return b->collector != NULL && b->collector_thread != fmp_thread_self();
}

/* --- wake-ups between threads ----------------------------------------------------------------- */

static void
poke(struct fmp_pool_waiter *w)
{
    atomic_store(&w->poked, 1);
    fmp_wake(&w->poked, &w->sleepers, 1);
}

void
fmp_pool_poke(FmpBoard *b)
{
    for (struct fmp_pool_waiter *w = b->waiters; w != NULL; w = w->next) {
        if (w->ready(b, w->job)) {
            poke(w);
        }
    }
    if (b->collector != NULL && b->collector->ready(b, b->collector->job)) {
        /* Once is enough, and more would keep fmp_pool_drain() busy with taking what we put. */
        bool poked = atomic_exchange(&b->collector->poked, 1);
        if (poked || !collected_elsewhere(b)) {
            return; /* or we run in its signal handler: it looks when we are done */
        }
        struct fmp_wait now = {.budget_ns = 0, .fd = -1};
        (void)fmp_taskboard_rouse(&b->board, &now); /* if not, then its tick */
    }
}

static int
try_poked(void *arg, struct fmp_wait *w)
{
    struct fmp_pool_waiter *me = arg;
    if (atomic_load(&me->poked)) {
        return FMP_OK;
    }
    fmp_wait_on_word(w, &me->poked, 0, &me->sleepers);
    return FMP_AGAIN;
}

struct turn {
    struct fmp_pool_waiter *me; /* first: what try_poked is given */
    FmpBoard *board;
};

static int
try_turn(void *arg, struct fmp_wait *w)
{
    return try_poked(((struct turn *)arg)->me, w);
}

static int
tick_turn(void *arg)
{
    const struct turn *t = arg;
    return atomic_load(&t->board->collecting) ? FMP_AGAIN : FMP_OK;
}

/* Sleeps until we are poked or the role is free. */
static int
wait_for_turn(FmpBoard *b, struct fmp_pool_waiter *me, int64_t deadline)
{
    struct turn t = {me, b};
    atomic_store(&me->poked, 0);
    me->next = b->waiters;
    b->waiters = me;
    fmp_taskboard_want_next(&b->board); /* the collector may be waiting for many at once */
    struct fmp_waiter waiter = {
        .try_once = try_turn, .arg = &t, .tick = tick_turn, .deadline = deadline};
    int rc = fmp_wait_for(&waiter);
    struct fmp_pool_waiter **at = &b->waiters;
    while (*at != me) {
        at = &(*at)->next;
    }
    *at = me->next;
    return rc;
}

/* --- dealing out ------------------------------------------------------------------------------ */

PyObject *
fmp_pool_search(const FmpBoard *b, uint32_t number)
{
    PyObject *key, *job;
    Py_ssize_t at = 0;
    while (PyDict_Next(b->cache, &at, &key, &job)) {
        if (fmp_pool_job_check(b->state, job) && ((FmpJob *)job)->number == number) {
            return Py_NewRef(key);
        }
    }
    return NULL;
}

static FmpJob *
find_job(FmpBoard *b, uint32_t number)
{
    PyObject *key = PyLong_FromUnsignedLong(number);
    if (key == NULL) {
        PyErr_Clear();
        key = fmp_pool_search(b, number);
    }
    PyObject *job = key != NULL ? fmp_dict_get(b->cache, key) : NULL;
    Py_XDECREF(key);
    PyErr_Clear(); /* somebody has tampered with pool._cache */
    if (job == NULL || !fmp_pool_job_check(b->state, job)) {
        Py_CLEAR(job);
    }
    return (FmpJob *)job;
}

struct record {
    struct fmp_result_head head;
    uint8_t kind;
    const uint8_t *data;
    size_t size;
    struct fmp_buffer *only; /* the batch, when this is its only record */
    bool cut;                /* the record does not go on behind its head */
};

static PyObject *
decode(FmpBoard *b, const struct record *r)
{
    struct fmp_codec *codec = &b->state->codec;
    if (r->cut) {
        return fmp_raise(-ENOMEM, "take a result of a pool");
    }
    if (r->only != NULL) {
        return fmp_decode_taken(codec, r->only, sizeof(r->head));
    }
    return fmp_decode(codec, r->kind, r->data, r->size, NULL);
}

/* A result for a task that is waiting for one. 0, or -1 with an exception for our caller. */
static int
deliver(FmpBoard *b, FmpJob *job, const struct record *r)
{
    bool success = r->head.status == FMP_RESULT_OK;
    if (success && !r->cut && r->kind == FMP_REC_LIST
        && fmp_job_set_flat(job, r->head.tag.index, r->data, r->size)) {
        return 0;
    }
    PyObject *value = decode(b, r);
    if (value != NULL && r->head.status == FMP_RESULT_EXIT) {
        Py_SETREF(value, fmp_pool_call_python("worker_left", "(OkO)", job,
                                              (unsigned long)r->head.tag.index, value));
    }
    bool raise = false;
    if (value == NULL) {
        /* It cannot be decoded: that is this task's failure alone. */
        success = false;
        raise = !PyErr_ExceptionMatches(PyExc_Exception);
        value = fmp_take_exception();
    }
    else if (!success && !PyExceptionInstance_Check(value)) {
        Py_DECREF(value);
        fmp_raise(FMP_CORRUPT, "take a result of a pool");
        value = fmp_take_exception();
    }
    fmp_job_set(job, r->head.tag.index, success, Py_NewRef(value));
    if (raise) {
        return fmp_raise_again(value);
    }
    Py_DECREF(value);
    return 0;
}

static int
deal_out_one(FmpBoard *b, struct record *r)
{
    if (r->size < sizeof(r->head)) {
        return 0; /* a rouse */
    }
    memcpy(&r->head, r->data, sizeof(r->head));
    r->data += sizeof(r->head);
    r->size -= sizeof(r->head);
    b->alarm |= r->head.leaving != 0;
    if (r->head.status == FMP_RESULT_START_FAILED) {
        PyObject *error = decode(b, r);
        Py_XSETREF(b->start_error, error != NULL ? error : fmp_take_exception());
        b->alarm = true;
        return 0;
    }
    FmpJob *job = find_job(b, r->head.tag.job);
    uint64_t full;
    int rc = 0;
    if (job != NULL && fmp_job_pending(job, r->head.tag.index, &full)) {
        rc = deliver(b, job, r);
    }
    Py_XDECREF((PyObject *)job);
    return rc;
}

/* fmp_batch_next(), but for a record that was cut off: it is the only one. */
static bool
next_record(const struct fmp_buffer *batch, size_t size, size_t *offset, struct record *r)
{
    r->cut = batch->cut;
    if (!r->cut) {
        return fmp_batch_next(batch->data, size, offset, &r->kind, &r->data, &r->size);
    }
    r->data = batch->data + FMP_RECORD_HEADER;
    r->size = size - FMP_RECORD_HEADER;
    *offset = size;
    return true;
}

/* Deals out a batch and frees it. All of it, whatever goes wrong with one: 0, or -1 with the last
 * exception for our caller. */
static int
deal_out(FmpBoard *b, struct fmp_buffer *batch)
{
    size_t offset = 0, size = batch->size;
    PyObject *error = NULL;
    struct record r = {.only = NULL};
    b->processing++;
    while (next_record(batch, size, &offset, &r)) {
        r.only = offset == size && r.data == batch->data + FMP_RECORD_HEADER ? batch : NULL;
        if (deal_out_one(b, &r) < 0) {
            Py_XSETREF(error, fmp_take_exception());
        }
        if (r.only != NULL) {
            break; /* its memory may be gone */
        }
    }
    b->processing--;
    fmp_buffer_free(batch);
    fmp_pool_poke(b);
    return error != NULL ? fmp_raise_again(error) : 0;
}

/* --- collecting ------------------------------------------------------------------------------- */

struct collecting {
    FmpBoard *board;
    uint32_t want;
    struct fmp_pool_waiter *me; /* as the collector; or NULL */
    bool feeds;                 /* there are tasks to be given out */
    struct fmp_buffer batch;
    uint8_t stack[STACK_BYTES];
};

static int
try_collect(void *arg, struct fmp_wait *w)
{
    struct collecting *c = arg;
    if (c->me != NULL && (atomic_load(&c->board->stopped) || atomic_load(&c->me->poked))) {
        return FMP_CLOSED;
    }
    return fmp_taskboard_collect(&c->board->board, c->want, &c->batch, w);
}

static int
tick_collect(void *arg)
{
    const struct collecting *c = arg;
    if (c->board->understaffed || !fmp_taskboard_all_alive(&c->board->board)) {
        return FMP_OWNER_DIED;
    }
    return c->feeds ? FMP_CLOSED : FMP_AGAIN; /* a worker may have died before it roused us */
}

/* After how many results is there something to do for us? */
static uint32_t
wanted(const FmpBoard *b, const FmpJob *job)
{
    if (job == NULL || job->kind != FMP_JOB_MAP || job->feed.source != NULL || b->waiters != NULL
        || !fmp_pool_idle(b)) {
        return 1;
    }
    uint64_t left = job->fed - job->received, most = MOST_ITEMS_WANTED / (uint64_t)job->chunksize;
    most = most > MOST_WANTED ? MOST_WANTED : most > 0 ? most : 1;
    return (uint32_t)(left < most ? left : most);
}

/* Takes a batch and deals it out; as the collector, when `me` is given. FMP_OK also when somebody
 * died: then b->alarm is set. */
static int
take_and_deal(FmpBoard *b, struct fmp_pool_waiter *me, int64_t deadline)
{
    struct collecting c;
    c.board = b;
    c.want = me != NULL ? wanted(b, me->job) : 1;
    c.me = me;
    c.feeds = PyList_GET_SIZE(b->feeds) > 0;
    fmp_buffer_init(&c.batch, c.stack, sizeof(c.stack));
    struct fmp_waiter waiter = {.try_once = try_collect,
                                .arg = &c,
                                .tick = me != NULL ? tick_collect : NULL,
                                .spin = &b->spin,
                                .deadline = deadline};
    struct fmp_pool_waiter *interrupted =
        b->collector; /* in this thread, if we are its successor */
    if (me != NULL) {
        atomic_store(&me->poked, 0);
        b->collector = me;
        b->collector_thread = fmp_thread_self();
        atomic_store(&b->collecting, 1);
    }
    int rc = fmp_wait_for(&waiter);
    if (me != NULL) {
        b->collector = interrupted;
        atomic_store(&b->collecting, interrupted != NULL);
    }
    if (rc == FMP_OK) {
        return deal_out(b, &c.batch) < 0 ? FMP_PYERR : FMP_OK;
    }
    fmp_buffer_free(&c.batch);
    if (rc == FMP_OWNER_DIED) {
        b->looked_at = fmp_now();
        b->alarm = true;
        return FMP_OK;
    }
    return rc;
}

/* --- looking after the workers ---------------------------------------------------------------- */

/* When results come so fast that no tick passes, somebody must look all the same. */
static void
look_around(FmpBoard *b)
{
    int64_t now = fmp_now();
    if (now - b->looked_at < FMP_TICK_NS || atomic_load(&b->stopped)) {
        return;
    }
    b->looked_at = now;
    if (b->understaffed || !fmp_taskboard_all_alive(&b->board)) {
        b->alarm = true;
    }
}

static int
supervise(FmpBoard *b)
{
    if (!b->alarm || b->supervising || b->supervise == NULL || b->supervise == Py_None
        || atomic_load(&b->stopped)) {
        return 0;
    }
    b->alarm = false;
    b->supervising = true;
    PyObject *supervise = Py_NewRef(b->supervise);
    PyObject *result = PyObject_CallNoArgs(supervise);
    b->supervising = false;
    Py_DECREF(supervise);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

struct burial {
    FmpBoard *board;
    uint32_t worker;
    bool elsewhere;
};

static int
try_elsewhere(void *arg, struct fmp_wait *w)
{
    struct burial *d = arg;
    return fmp_taskboard_claimed_elsewhere(&d->board->board, d->worker, &d->elsewhere, w);
}

FmpJob *
fmp_pool_bury(FmpBoard *b, uint32_t worker, uint32_t *index, bool *later)
{
    *later = false;
    uint64_t claim = fmp_taskboard_claim(&b->board, worker);
    if (claim == 0) {
        return NULL;
    }
    struct burial d = {.board = b, .worker = worker};
    int rc = fmp_run_unlocked(try_elsewhere, &d);
    if (rc == FMP_OK && d.elsewhere) {
        return NULL;
    }
    /* Only now the results; and all of them, those that another thread has in its hands too. */
    if (rc == FMP_PYERR || fmp_pool_drain(b) < 0) {
        *later = true;
        return NULL;
    }
    if (rc != FMP_OK || collected_elsewhere(b) || b->processing != 0) {
        *later = true;
        return NULL;
    }
    *index = (uint32_t)claim;
    FmpJob *job = find_job(b, (uint32_t)(claim >> 32));
    uint64_t full;
    if (job != NULL && !fmp_job_pending(job, *index, &full)) {
        Py_CLEAR(job);
    }
    return job;
}

/* --- waiting ---------------------------------------------------------------------------------- */

int
fmp_pool_drain(FmpBoard *b)
{
    int rc;
    do {
        rc = take_and_deal(b, NULL, 0);
    } while (rc == FMP_OK);
    if (rc != FMP_TIMEOUT && rc != FMP_CLOSED) {
        fmp_raise(rc, "take the results of a pool");
        return -1;
    }
    return 0;
}

int
fmp_pool_pump(FmpBoard *b)
{
    if (collected_elsewhere(b) || atomic_load(&b->stopped)) {
        return 0;
    }
    if (fmp_pool_drain(b) < 0 || fmp_feed_pending(b) < 0) {
        return -1;
    }
    look_around(b);
    return supervise(b);
}

static void
hand_over(FmpBoard *b)
{
    if (b->collector == NULL && b->waiters != NULL) {
        poke(b->waiters);
    }
}

static int
wait_once(FmpBoard *b, struct fmp_pool_waiter *me, int64_t deadline)
{
    if (fmp_feed_pending(b) < 0 || supervise(b) < 0) {
        return FMP_PYERR;
    }
    if (me->ready(b, me->job)) {
        return FMP_OK;
    }
    if (collected_elsewhere(b) || atomic_load(&b->stopped)) {
        return wait_for_turn(b, me, deadline);
    }
    int rc = take_and_deal(b, me, deadline);
    if (rc == FMP_OK) {
        look_around(b);
    }
    return rc == FMP_CLOSED ? FMP_OK : rc;
}

int
fmp_pool_wait(FmpBoard *b, struct fmp_pool_waiter *me, int64_t deadline)
{
    int rc = FMP_OK;
    while (rc == FMP_OK && !me->ready(b, me->job)) {
        rc = wait_once(b, me, deadline);
    }
    hand_over(b);
    if (rc != FMP_OK && rc != FMP_TIMEOUT && rc != FMP_PYERR) {
        fmp_raise(rc, "wait for a pool");
        rc = FMP_PYERR;
    }
    return rc;
}
