/* codec.c - encoding and decoding of plain values, and the choice between them and pickle.
 *
 * Owns the layout of the records' payloads (enum fmp_record_kind). Nothing shared: it works on
 * private memory, and believes no length it reads there.
 */
#include "bridge/codec.h"

#include <stdlib.h>
#include <string.h>

#include "base/layout.h"
#include "base/status.h"
#include "bridge/args.h"
#include "bridge/errors.h"
#include "bridge/memory_object.h"
#include "bridge/pickling.h"
#include "bridge/tree.h"
#include "channel/extent.h"
#include "platform/memory.h"

#define SEARCHED_ITEMS 16 /* so many items at most when strings are among them: see repeats() */

/* --- writing --------------------------------------------------------------------------------- */

void
fmp_encoded_init(struct fmp_encoded *e, const void *prefix, size_t n_prefix)
{
    e->parts = e->one;
    e->owner = NULL;
    e->views = NULL;
    e->n_views = 0;
    e->heap = NULL;
    if (n_prefix > 0) {
        memcpy(e->small + FMP_RECORD_HEADER, prefix, n_prefix);
    }
}

void
fmp_encoded_join(struct fmp_encoded *e, uint8_t kind, uint8_t *head, size_t n_head,
                 const void *tail, size_t n_tail)
{
    uint64_t header = fmp_record_header(n_head - FMP_RECORD_HEADER + n_tail, kind);
    memcpy(head, &header, sizeof(header));
    e->parts = e->one;
    e->one[0] = (struct fmp_part){head, n_head};
    e->one[1] = (struct fmp_part){tail, n_tail};
    e->batch = (struct fmp_batch){
        .parts = e->parts, .n_parts = n_tail > 0 ? 2 : 1, .bytes = n_head + n_tail, .items = 1};
    if (n_tail > FMP_EXTENT_LEAST) { /* but for what fills the last unit of the head */
        size_t filling = fmp_round_up(n_head, FMP_UNIT) - n_head;
        e->one[1].size = filling;
        e->one[2] = (struct fmp_part){(const char *)tail + filling, n_tail - filling};
        e->batch.n_parts = 3;
        e->batch.n_inside = 2;
        e->batch.outside = n_tail - filling;
        e->batch.copied = true;
    }
}

void
fmp_encoded_finish(struct fmp_encoded *e, const struct fmp_writer *w, uint8_t kind,
                   const void *tail, size_t n_tail)
{
    e->heap = w->heap;
    fmp_encoded_join(e, kind, w->data, w->used, tail, n_tail);
}

/* Does items[i] stand among the items before it? Then pickle would memoise it, and what is one
 * object here must be one object there. */
static bool
repeats(PyObject **items, Py_ssize_t i)
{
    for (Py_ssize_t j = 0; j < i; j++) {
        if (items[j] == items[i]) {
            return true;
        }
    }
    return false;
}

static bool
write_sequence(struct fmp_writer *w, PyObject **items, Py_ssize_t n)
{
    uint32_t count = (uint32_t)n;
    if (n > INT32_MAX || !fmp_write(w, &count, sizeof(count))) {
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        uint8_t kind = fmp_plain_kind(items[i]);
        if (kind == 0 || (fmp_plain_is_text(kind) && (n > SEARCHED_ITEMS || repeats(items, i)))
            || !fmp_write_item(w, items[i], kind)) {
            return false;
        }
    }
    return true;
}

static bool
write_flat(struct fmp_writer *w, PyObject *o, uint8_t *kind)
{
    if (PyTuple_CheckExact(o)) {
        *kind = FMP_REC_TUPLE;
        return write_sequence(w, &PyTuple_GET_ITEM(o, 0), PyTuple_GET_SIZE(o));
    }
    if (PyList_CheckExact(o)) {
        *kind = FMP_REC_LIST;
        return write_sequence(w, ((PyListObject *)o)->ob_item, PyList_GET_SIZE(o));
    }
    return false;
}

/* True: encoded. False: not a plain value; `e` is as it was. */
static bool
encode_plain(struct fmp_encoded *e, PyObject *o, size_t begin)
{
    struct fmp_writer w = {.data = e->small, .used = begin, .room = sizeof(e->small)};
    uint8_t kind = fmp_plain_kind(o);
    if (fmp_plain_is_text(kind)) {
        const char *data;
        Py_ssize_t size;
        if (!fmp_plain_text(o, kind, &data, &size)) {
            return false;
        }
        e->owner = Py_NewRef(o);
        fmp_encoded_finish(e, &w, kind, data, (size_t)size);
        return true;
    }
    bool done;
    if (kind != 0) {
        done = fmp_write_value(&w, o, kind);
    }
    else {
        done = write_flat(&w, o, &kind);
        if (!done) {
            kind = FMP_REC_TREE;
            w.used = begin;
            done = fmp_write_tree(&w, o);
        }
    }
    if (done) {
        fmp_encoded_finish(e, &w, kind, NULL, 0);
    }
    else {
        free(w.heap);
    }
    return done;
}

/* What is sent most, without the questions of encode_plain(). False: something else. */
static inline bool
encode_small_int(struct fmp_encoded *e, PyObject *o, size_t begin)
{
    Py_ssize_t small;
    if (!PyLong_CheckExact(o) || !fmp_small_int(o, &small)) {
        return false;
    }
    int64_t value = small;
    memcpy(e->small + begin, &value, sizeof(value));
    fmp_encoded_join(e, FMP_REC_INT, e->small, begin + sizeof(value), NULL, 0);
    return true;
}

int
fmp_encode(struct fmp_codec *codec, struct fmp_encoded *e, PyObject *object, const void *prefix,
           size_t n_prefix)
{
    size_t begin = FMP_RECORD_HEADER + n_prefix;
    fmp_encoded_init(e, prefix, n_prefix);
    if (encode_small_int(e, object, begin) || encode_plain(e, object, begin)) {
        return 0;
    }
    return fmp_encode_pickle(codec, e, object, begin);
}

void
fmp_encode_raw(struct fmp_encoded *e, uint8_t kind, const void *data, size_t size)
{
    fmp_encoded_init(e, NULL, 0);
    struct fmp_writer w = {.data = e->small, .used = FMP_RECORD_HEADER, .room = sizeof(e->small)};
    fmp_encoded_finish(e, &w, kind, data, size);
}

void
fmp_encoded_free(struct fmp_encoded *e)
{
    for (Py_ssize_t i = 0; i < e->n_views; i++) {
        PyBuffer_Release(&e->views[i]);
    }
    free(e->views);
    if (e->parts != e->one) {
        free(e->parts);
    }
    free(e->heap);
    Py_CLEAR(e->owner);
}

/* --- reading --------------------------------------------------------------------------------- */

static PyObject *
malformed(void)
{
    if (!PyErr_Occurred()) {
        fmp_raise(FMP_CORRUPT, "decode a message");
    }
    return NULL;
}

static PyObject *
read_sequence(const uint8_t *data, size_t size, uint8_t kind)
{
    struct fmp_reader r;
    uint32_t count;
    if (!fmp_flat_open(&r, data, size, &count)) {
        return malformed();
    }
    PyObject *sequence = kind == FMP_REC_TUPLE ? PyTuple_New(count) : fmp_list_new(count);
    struct fmp_ahead ahead = {0};
    for (uint32_t i = 0; sequence != NULL && i < count; i++) {
        PyObject *item = fmp_read_item(&r);
        if (item == NULL) {
            Py_DECREF(sequence);
            return malformed();
        }
        fmp_memory_ahead(&ahead, item);
        if (kind == FMP_REC_TUPLE) {
            PyTuple_SET_ITEM(sequence, i, item);
        }
        else {
            PyList_SET_ITEM(sequence, i, item);
        }
    }
    return sequence;
}

PyObject *
fmp_decode(struct fmp_codec *codec, uint8_t kind, const uint8_t *data, size_t size,
           PyObject *keeper)
{
    struct fmp_reader r = {data, size};
    PyObject *object;
    switch (kind) {
    case FMP_REC_STR:
    case FMP_REC_BYTES:
        return fmp_text_from(kind, data, size);
    case FMP_REC_TUPLE:
    case FMP_REC_LIST:
        return read_sequence(data, size, kind);
    case FMP_REC_TREE:
        object = fmp_read_tree(&r);
        return object != NULL ? object : malformed();
    case FMP_REC_PICKLE:
    case FMP_REC_RAW:
        return fmp_decode_pickle(codec, data, size);
    case FMP_REC_PICKLE_BUFFERS:
        return fmp_decode_pickle_buffers(codec, data, size, keeper);
    default:
        object = fmp_read_value(&r, kind);
        return object != NULL ? object : malformed();
    }
}

/* A record that goes on under a lease, which is the object's from now on. */
static PyObject *
decode_outside(struct fmp_codec *codec, struct fmp_buffer *taken, const uint8_t *data, size_t size)
{
    struct fmp_lease lease = taken->lease;
    PyObject *keeper = lease.address != NULL && size >= sizeof(struct fmp_extent_ref)
                         ? fmp_memory_leased(codec->memory, &lease)
                         : malformed();
    if (keeper == NULL) {
        return NULL;
    }
    taken->lease = (struct fmp_lease){.address = NULL};
    PyObject *object = fmp_decode_pickle_outside(codec, data, size - sizeof(struct fmp_extent_ref),
                                                 &lease, keeper);
    Py_DECREF(keeper);
    return object;
}

/* A record in memory of its own, which large buffers of the object refer to instead of being copied. */
static PyObject *
decode_in_place(struct fmp_codec *codec, struct fmp_buffer *taken, const uint8_t *data, size_t size)
{
    PyObject *keeper = fmp_memory_own(codec->memory, taken->data, taken->size);
    if (keeper == NULL) {
        return NULL;
    }
    taken->on_heap = false; /* the memory is the keeper's now */
    PyObject *object = fmp_decode(codec, FMP_REC_PICKLE_BUFFERS, data, size, keeper);
    Py_DECREF(keeper);
    return object;
}

PyObject *
fmp_decode_taken(struct fmp_codec *codec, struct fmp_buffer *taken, size_t n_prefix)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    int64_t value;
    PyObject *object;
    if (!fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length)
        || length < n_prefix) {
        object = malformed();
    }
    else if (kind == FMP_REC_INT && length == n_prefix + sizeof(value)) { /* the commonest */
        memcpy(&value, data + n_prefix, sizeof(value));
        object = fmp_int_from(value);
    }
    else if (kind == (FMP_REC_PICKLE_BUFFERS | FMP_RECORD_OUTSIDE)) {
        object = decode_outside(codec, taken, data + n_prefix, length - n_prefix);
    }
    else if (kind == FMP_REC_PICKLE_BUFFERS && taken->on_heap) {
        object = decode_in_place(codec, taken, data + n_prefix, length - n_prefix);
    }
    else {
        object = fmp_decode(codec, kind, data + n_prefix, length - n_prefix, NULL);
    }
    fmp_buffer_free(taken);
    return object;
}

int
fmp_take_bytes(struct fmp_message *m, fmp_try_fn try_once, void *arg)
{
    m->bytes = fmp_bytes_new(fmp_record_length(m->taken.header));
    if (m->bytes == NULL) {
        return FMP_PYERR;
    }
    m->taken.into = PyBytes_AS_STRING(m->bytes);
    int rc = fmp_run_unlocked(try_once, arg);
    m->taken.into = NULL;
    if (rc != FMP_OK) {
        Py_CLEAR(m->bytes);
    }
    /* FMP_TIMEOUT: another has taken it, and no other is there, or a lock is still busy. */
    return rc == FMP_DIRECT || rc == FMP_TIMEOUT ? FMP_AGAIN : rc;
}
