/* py_queue_bulk.c - put_many() and get_many(): many objects for one lock, one commit, one wake.
 *
 * put_many() encodes objects into private memory until a batch is full, then puts it whole.
 * get_many() takes a batch and decodes it. When an object in the middle cannot be decoded, what
 * follows must not be lost with it: it is stashed, and handed out by the next calls of this
 * process. A kill loses what was taken, as it does for get().
 */
#include "objects/queue_object.h"

#include <string.h>

#include "base/layout.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"
#include "platform/process.h"

#define BATCH_BYTES (32 * 1024)
#define BATCH_ITEMS 1024

struct outgoing {
    FmpQueue *queue;
    int64_t deadline;
    uint8_t *data;
    size_t used;
    size_t room;
    uint32_t items;
    Py_ssize_t sent;
};

/* Counts what was put; Full says how much that was. */
static int
put_batch(struct outgoing *out, const struct fmp_batch *batch)
{
    PyObject *full = out->queue->state->queue_full;
    if (fmp_queue_put_batch(out->queue, batch, out->deadline) == 0) {
        out->sent += batch->items;
        return 0;
    }
    if (PyErr_ExceptionMatches(full)) {
        PyObject *sent = PyLong_FromSsize_t(out->sent);
        if (sent != NULL) {
            PyErr_SetObject(full, sent);
            Py_DECREF(sent);
        }
    }
    return -1;
}

/* Puts what has been gathered; with a limit on items, as many at a time as there is room for, but
 * never none. */
static int
flush(struct outgoing *out)
{
    size_t at = 0;
    while (out->items > 0) {
        uint32_t room = fmp_ring_room(&out->queue->mailbox.ring);
        uint32_t n = out->items < room ? out->items : room;
        size_t end = at, length;
        uint32_t counted = 0;
        uint8_t kind;
        const uint8_t *record;
        do {
            fmp_batch_next(out->data, out->used, &end, &kind, &record, &length);
            counted++;
        } while (counted < n);
        struct fmp_part part = {out->data + at, end - at};
        struct fmp_batch batch = {
            .parts = &part, .n_parts = 1, .bytes = end - at, .items = counted};
        if (put_batch(out, &batch) < 0) {
            out->items = 0; /* not to be tried again */
            return -1;
        }
        at = end;
        out->items -= counted;
    }
    out->used = 0;
    return 0;
}

static int
append(struct outgoing *out, const struct fmp_encoded *e)
{
    size_t span = fmp_round_up(e->batch.bytes, FMP_UNIT);
    if (out->used + span > out->room) {
        size_t room = (out->used + span) * 2;
        uint8_t *fresh = PyMem_RawRealloc(out->data, room);
        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        out->data = fresh;
        out->room = room;
    }
    uint8_t *at = out->data + out->used;
    for (unsigned i = 0; i < e->batch.n_parts; i++) {
        memcpy(at, e->parts[i].data, e->parts[i].size);
        at += e->parts[i].size;
    }
    memset(at, 0, (size_t)(out->data + out->used + span - at));
    out->used += span;
    out->items++;
    return 0;
}

/* A large record goes by itself, without being copied once more. */
static int
add_object(struct outgoing *out, PyObject *object)
{
    struct fmp_encoded e;
    if (fmp_encode(&out->queue->state->codec, &e, object, NULL, 0) < 0) {
        return fmp_queue_report(out->queue, object);
    }
    int rc;
    if (e.batch.bytes > BATCH_BYTES) {
        rc = flush(out);
        if (rc == 0) {
            rc = put_batch(out, &e.batch);
        }
    }
    else {
        rc = append(out, &e);
        if (rc == 0 && (out->used >= BATCH_BYTES || out->items >= BATCH_ITEMS)) {
            rc = flush(out);
        }
    }
    fmp_encoded_free(&e);
    return rc;
}

static int
add_all(struct outgoing *out, PyObject *iterable)
{
    PyObject *iterator = PyObject_GetIter(iterable);
    if (iterator == NULL) {
        return -1;
    }
    PyObject *object;
    int rc = 0;
    while (rc == 0 && (object = PyIter_Next(iterator)) != NULL) {
        rc = add_object(out, object);
        Py_DECREF(object);
    }
    Py_DECREF(iterator);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

/* Whatever ends it, what was given before has been promised. Should that fail too, its exception is
 * raised, with the first as its context. */
static int
put_all(struct outgoing *out, PyObject *iterable)
{
    struct fmp_deferred d = {NULL, 0};
    bool in_a_hurry = false;
    if (add_all(out, iterable) < 0) {
        in_a_hurry = !PyErr_ExceptionMatches(PyExc_Exception);
        (void)fmp_defer(&d);
    }
    if (in_a_hurry) {
        out->deadline = 0;
    }
    if (flush(out) < 0) {
        if (in_a_hurry && PyErr_ExceptionMatches(out->queue->state->queue_full)) {
            PyErr_Clear(); /* ^C, say, does not wait for room, and is what has to be told */
        }
        else {
            (void)fmp_defer(&d);
        }
    }
    return fmp_raise_deferred(&d);
}

PyObject *
fmp_queue_put_many(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    static const char *const names[] = {"iterable", "block", "timeout"};
    PyObject *given[3] = {NULL, NULL, NULL};
    struct outgoing out = {.queue = self};
    if (fmp_args("put_many", args, n_args, kwnames, names, 3, 1, 3, given) < 0
        || fmp_deadline(given[1], given[2], &out.deadline) < 0 || fmp_queue_check_open(self) < 0) {
        return NULL;
    }
    int rc = put_all(&out, given[0]);
    PyMem_RawFree(out.data);
    return rc == 0 ? PyLong_FromSsize_t(out.sent) : NULL;
}

/* --- get_many -------------------------------------------------------------------------------- */

static void
drop_stash(FmpQueue *self)
{
    PyMem_RawFree(self->stash.data);
    memset(&self->stash, 0, sizeof(self->stash));
}

uint32_t
fmp_queue_stashed(FmpQueue *self)
{
    FMP_CRITICAL(self);
    struct fmp_stash *s = &self->stash;
    if (s->data != NULL && (s->generation != fmp_fork_generation() || s->items == 0)) {
        drop_stash(self);
    }
    return s->items;
}

static uint32_t
count_records(const uint8_t *records, size_t size)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    uint32_t n = 0;
    while (fmp_batch_next(records, size, &offset, &kind, &data, &length)) {
        n++;
    }
    return n;
}

/* Puts records before those that are stashed: they were taken earlier, or by another thread. With no
 * memory they are lost, and an exception is set. */
static void
stash(FmpQueue *self, const uint8_t *records, size_t size)
{
    FMP_CRITICAL(self);
    struct fmp_stash *s = &self->stash;
    uint32_t behind = fmp_queue_stashed(self);
    size_t rest = s->size - s->offset, span = fmp_round_up(size, FMP_UNIT);
    if (size == 0) {
        return;
    }
    uint8_t *data = PyMem_RawCalloc(1, span + rest);
    if (data == NULL) {
        PyErr_NoMemory();
        return;
    }
    memcpy(data, records, size);
    if (rest > 0) {
        memcpy(data + span, s->data + s->offset, rest);
    }
    drop_stash(self);
    *s = (struct fmp_stash){.data = data,
                            .size = span + rest,
                            .items = count_records(records, size) + behind,
                            .generation = fmp_fork_generation()};
}

/* Moves up to `most` records out of the stash, as they lie there, so that decoding may come back
 * here: a bytes object. NULL: with an exception, or without one when there is none. */
static PyObject *
pop_records(FmpQueue *self, Py_ssize_t most)
{
    FMP_CRITICAL(self);
    uint32_t stashed = fmp_queue_stashed(self);
    struct fmp_stash *s = &self->stash;
    size_t end = s->offset, length;
    uint8_t kind;
    const uint8_t *data;
    uint32_t n = 0;
    while (n < stashed && n < most
           && fmp_batch_next(s->data, s->size, &end, &kind, &data, &length)) {
        n++;
    }
    if (n == 0) {
        return NULL;
    }
    PyObject *records =
        PyBytes_FromStringAndSize((const char *)s->data + s->offset, (Py_ssize_t)(end - s->offset));
    if (records != NULL) {
        s->offset = end;
        s->items -= n;
    }
    return records;
}

PyObject *
fmp_queue_unstash(FmpQueue *self)
{
    PyObject *records = pop_records(self, 1), *object = NULL;
    if (records != NULL) {
        size_t offset = 0, length;
        uint8_t kind;
        const uint8_t *data;
        (void)fmp_batch_next((const uint8_t *)PyBytes_AS_STRING(records),
                             (size_t)PyBytes_GET_SIZE(records), &offset, &kind, &data, &length);
        object = fmp_decode(&self->state->codec, kind, data, length, NULL);
        Py_DECREF(records);
    }
    return object;
}

/* The record at [at, end) of a batch could not be decoded; those before it are in `list`. The first
 * is lost with its exception, as in get(). So is one whose exception is no Exception: ^C does not
 * wait. Any other ends the list before it, and fails again when its turn comes. All else is stashed.
 * The list, or NULL with an exception. */
static PyObject *
decoding_failed(FmpQueue *self, const uint8_t *records, size_t size, size_t at, size_t end,
                PyObject *list)
{
    if (PyList_GET_SIZE(list) > 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
        stash(self, records + at, size - at);
        if (!PyErr_Occurred()) {
            return list;
        }
    }
    else {
        PyObject *error = fmp_take_exception();
        stash(self, records + end, size - end); /* what is stashed later comes first */
        stash(self, records, at);
        (void)fmp_raise_again(error);
    }
    Py_DECREF(list);
    return NULL;
}

static PyObject *
decode_all(FmpQueue *self, const uint8_t *records, size_t size, PyObject *list)
{
    size_t at = 0, end = 0, length;
    uint8_t kind;
    const uint8_t *data;
    while (fmp_batch_next(records, size, &end, &kind, &data, &length)) {
        PyObject *object = fmp_decode(&self->state->codec, kind, data, length, NULL);
        int rc = object != NULL ? PyList_Append(list, object) : -1;
        Py_XDECREF(object);
        if (rc < 0) {
            return decoding_failed(self, records, size, at, end, list);
        }
        at = end;
    }
    return list;
}

/* The list with a new reference added, or NULL with an exception. */
static PyObject *
add_decoded(PyObject *object, PyObject *list)
{
    if (object == NULL || PyList_Append(list, object) < 0) {
        Py_CLEAR(list);
    }
    Py_XDECREF(object);
    return list;
}

PyObject *
fmp_queue_get_many(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    static const char *const names[] = {"max_items", "timeout"};
    PyObject *given[2] = {NULL, NULL};
    int64_t deadline;
    if (fmp_args("get_many", args, n_args, kwnames, names, 2, 1, 2, given) < 0
        || fmp_deadline(NULL, given[1], &deadline) < 0 || fmp_queue_check_open(self) < 0) {
        return NULL;
    }
    Py_ssize_t max_items = PyNumber_AsSsize_t(given[0], NULL);
    if (max_items == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (max_items < 1) {
        return PyErr_Format(PyExc_ValueError, "max_items must be at least 1, not %zd", max_items);
    }
    PyObject *list = PyList_New(0); /* before anything is taken */
    PyObject *stashed = list != NULL ? pop_records(self, max_items) : NULL;
    if (stashed != NULL) {
        list = decode_all(self, (const uint8_t *)PyBytes_AS_STRING(stashed),
                          (size_t)PyBytes_GET_SIZE(stashed), list);
        Py_DECREF(stashed);
        return list;
    }
    if (PyErr_Occurred()) {
        Py_XDECREF(list);
        return NULL;
    }
    uint8_t stack[FMP_QUEUE_STACK];
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, stack, sizeof(stack));
    uint32_t most = max_items < INT32_MAX ? (uint32_t)max_items : INT32_MAX;
    if (fmp_queue_take(self, most, &taken, deadline) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    if (taken.lease.address != NULL) { /* it came alone */
        return add_decoded(fmp_decode_taken(&self->state->codec, &taken, 0), list);
    }
    list = decode_all(self, taken.data, taken.size, list);
    fmp_buffer_free(&taken);
    return list;
}
