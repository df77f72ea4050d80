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
        if (fmp_queue_put_batch(out->queue, &batch, out->deadline) < 0) {
            return -1;
        }
        at = end;
        out->items -= counted;
        out->sent += counted;
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
            rc = fmp_queue_put_batch(out->queue, &e.batch, out->deadline);
            out->sent += rc == 0;
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
put_all(struct outgoing *out, PyObject *iterable)
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
    if (rc < 0) {
        return -1;
    }
    if (PyErr_Occurred()) { /* the iterable's own: what it gave before has been promised */
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (flush(out) < 0) {
            PyErr_Clear();
        }
        PyErr_Restore(type, error, traceback);
        return -1;
    }
    return flush(out);
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
    if (rc == 0) {
        return PyLong_FromSsize_t(out.sent);
    }
    if (PyErr_ExceptionMatches(self->state->queue_full)) {
        PyObject *sent = PyLong_FromSsize_t(out.sent);
        if (sent != NULL) {
            PyErr_SetObject(self->state->queue_full, sent);
            Py_DECREF(sent);
        }
    }
    return NULL;
}

/* --- get_many -------------------------------------------------------------------------------- */

static void
drop_stash(FmpQueue *self)
{
    PyMem_RawFree(self->stash.data);
    memset(&self->stash, 0, sizeof(self->stash));
}

static void
stash_rest(FmpQueue *self, const struct fmp_buffer *taken, size_t offset)
{
    size_t size = taken->size - offset;
    uint8_t *copy = PyMem_RawMalloc(size);
    if (copy == NULL) {
        PyErr_NoMemory();
        return;
    }
    memcpy(copy, taken->data + offset, size);
    drop_stash(self);
    self->stash =
        (struct fmp_stash){.data = copy, .size = size, .generation = fmp_fork_generation()};
}

PyObject *
fmp_queue_unstash(FmpQueue *self)
{
    struct fmp_stash *s = &self->stash;
    uint8_t kind;
    const uint8_t *data;
    size_t length;
    if (s->data == NULL) {
        return NULL;
    }
    if (s->generation != fmp_fork_generation()
        || !fmp_batch_next(s->data, s->size, &s->offset, &kind, &data, &length)) {
        drop_stash(self);
        return NULL;
    }
    /* Decoding may come back here: the record is moved out of the stash's reach first. */
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)length);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *object = fmp_decode(&self->state->codec, kind,
                                  (const uint8_t *)PyBytes_AS_STRING(bytes), length, NULL);
    Py_DECREF(bytes);
    return object;
}

/* Decodes the records of a batch into a list. When one fails: the first by its exception, a later
 * one by ending the list before it; what is left is stashed. */
static PyObject *
decode_all(FmpQueue *self, struct fmp_buffer *taken)
{
    PyObject *list = PyList_New(0);
    size_t offset = 0, before = 0, length;
    uint8_t kind;
    const uint8_t *data;
    while (list != NULL
           && fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length)) {
        PyObject *object = fmp_decode(&self->state->codec, kind, data, length, NULL);
        if (object == NULL && PyList_GET_SIZE(list) > 0) {
            PyErr_Clear(); /* it is decoded, and fails, again when its turn comes */
            stash_rest(self, taken, before);
            break;
        }
        if (object == NULL || PyList_Append(list, object) < 0) {
            Py_XDECREF(object);
            Py_CLEAR(list);
            if (offset < taken->size) {
                PyObject *type, *error, *traceback;
                PyErr_Fetch(&type, &error, &traceback);
                stash_rest(self, taken, offset);
                PyErr_Restore(type, error, traceback);
            }
            break;
        }
        Py_DECREF(object);
        before = offset;
    }
    return list;
}

static PyObject *
get_stashed(FmpQueue *self, Py_ssize_t max_items)
{
    PyObject *list = PyList_New(0), *object;
    while (list != NULL && PyList_GET_SIZE(list) < max_items
           && (object = fmp_queue_unstash(self)) != NULL) {
        if (PyList_Append(list, object) < 0) {
            Py_CLEAR(list);
        }
        Py_DECREF(object);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(list);
    }
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
    if (self->stash.data != NULL) {
        PyObject *list = get_stashed(self, max_items);
        if (list == NULL || PyList_GET_SIZE(list) > 0) {
            return list;
        }
        Py_DECREF(list);
    }
    uint8_t stack[FMP_QUEUE_STACK];
    struct fmp_buffer taken;
    fmp_buffer_init(&taken, stack, sizeof(stack));
    uint32_t most = max_items < INT32_MAX ? (uint32_t)max_items : INT32_MAX;
    if (fmp_queue_take(self, most, &taken, deadline) < 0) {
        return NULL;
    }
    PyObject *list = decode_all(self, &taken);
    fmp_buffer_free(&taken);
    return list;
}
