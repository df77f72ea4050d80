/* codec.c - encoding and decoding of plain values, and the choice between them and pickle.
 *
 * Owns the layout of the records' payloads (enum fmp_record_kind). Nothing shared: it works on
 * private memory, and believes no length it reads there.
 */
#include "bridge/codec.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "bridge/errors.h"
#include "bridge/memory_object.h"
#include "bridge/pickling.h"
#include "channel/extent.h"
#include "platform/memory.h"

#define SEARCHED_ITEMS 16 /* so many items at most when strings are among them: see repeats() */

/* --- writing --------------------------------------------------------------------------------- */

struct writer {
    struct fmp_encoded *e;
    uint8_t *data;
    size_t used;
    size_t room;
};

static bool
make_room(struct writer *w, size_t more)
{
    size_t needed = w->used + more;
    if (needed <= w->room) {
        return true;
    }
    size_t room = needed * 2;
    uint8_t *fresh = realloc(w->e->heap, room);
    if (fresh == NULL) {
        return false;
    }
    if (w->e->heap == NULL) {
        memcpy(fresh, w->data, w->used);
    }
    w->e->heap = w->data = fresh;
    w->room = room;
    return true;
}

static bool
write_bytes(struct writer *w, const void *bytes, size_t n)
{
    if (!make_room(w, n)) {
        return false;
    }
    memcpy(w->data + w->used, bytes, n);
    w->used += n;
    return true;
}

/* Sets the record's header and makes `w`'s bytes the first part, `tail` the second. */
static void
finish(struct writer *w, uint8_t kind, const void *tail, size_t n_tail)
{
    struct fmp_encoded *e = w->e;
    uint64_t header = fmp_record_header(w->used - FMP_RECORD_HEADER + n_tail, kind);
    memcpy(w->data, &header, sizeof(header));
    e->parts = e->one;
    e->one[0] = (struct fmp_part){w->data, w->used};
    e->one[1] = (struct fmp_part){tail, n_tail};
    e->batch = (struct fmp_batch){
        .parts = e->parts, .n_parts = n_tail > 0 ? 2 : 1, .bytes = w->used + n_tail, .items = 1};
}

/* What an exact plain value is encoded as; 0 when it is none. */
static uint8_t
plain_kind(PyObject *o)
{
    if (PyLong_CheckExact(o)) {
        return FMP_REC_INT;
    }
    if (PyUnicode_CheckExact(o)) {
        return FMP_REC_STR;
    }
    if (PyFloat_CheckExact(o)) {
        return FMP_REC_FLOAT;
    }
    if (o == Py_None) {
        return FMP_REC_NONE;
    }
    if (PyBytes_CheckExact(o)) {
        return FMP_REC_BYTES;
    }
    if (o == Py_True) {
        return FMP_REC_TRUE;
    }
    return o == Py_False ? FMP_REC_FALSE : 0;
}

/* The bytes of a str or bytes object. False: not encodable natively (a lone surrogate). */
static bool
text_of(PyObject *o, uint8_t kind, const char **data, Py_ssize_t *size)
{
    if (kind == FMP_REC_BYTES) {
        *data = PyBytes_AS_STRING(o);
        *size = PyBytes_GET_SIZE(o);
        return true;
    }
    *data = PyUnicode_AsUTF8AndSize(o, size);
    if (*data == NULL) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* The payload of an int, float or constant. False: an int of more than 64 bits, or no memory;
 * pickle then says which. */
static bool
write_number(struct writer *w, PyObject *o, uint8_t kind)
{
    if (kind == FMP_REC_INT) {
        int overflow;
        int64_t value = PyLong_AsLongLongAndOverflow(o, &overflow);
        return !overflow && write_bytes(w, &value, sizeof(value));
    }
    if (kind == FMP_REC_FLOAT) {
        double value = PyFloat_AS_DOUBLE(o);
        return write_bytes(w, &value, sizeof(value));
    }
    return true;
}

static bool
is_text(uint8_t kind)
{
    return kind == FMP_REC_STR || kind == FMP_REC_BYTES;
}

static bool
write_item(struct writer *w, PyObject *item, uint8_t kind)
{
    if (!write_bytes(w, &kind, 1)) {
        return false;
    }
    if (!is_text(kind)) {
        return write_number(w, item, kind);
    }
    const char *data;
    Py_ssize_t size;
    if (!text_of(item, kind, &data, &size) || size > INT32_MAX) {
        return false;
    }
    uint32_t length = (uint32_t)size;
    return write_bytes(w, &length, sizeof(length)) && write_bytes(w, data, length);
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
write_sequence(struct writer *w, PyObject **items, Py_ssize_t n)
{
    uint32_t count = (uint32_t)n;
    if (n > INT32_MAX || !write_bytes(w, &count, sizeof(count))) {
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        uint8_t kind = plain_kind(items[i]);
        if (kind == 0 || (is_text(kind) && (n > SEARCHED_ITEMS || repeats(items, i)))
            || !write_item(w, items[i], kind)) {
            return false;
        }
    }
    return true;
}

/* True: encoded. False: not a plain value; `e` is as it was. */
static bool
encode_plain(struct fmp_encoded *e, PyObject *o, size_t begin)
{
    struct writer w = {.e = e, .data = e->small, .used = begin, .room = sizeof(e->small)};
    uint8_t kind = plain_kind(o);
    if (is_text(kind)) {
        const char *data;
        Py_ssize_t size;
        if (!text_of(o, kind, &data, &size)) {
            return false;
        }
        e->owner = Py_NewRef(o);
        finish(&w, kind, data, (size_t)size);
        return true;
    }
    bool done;
    if (kind != 0) {
        done = write_number(&w, o, kind);
    }
    else if (PyTuple_CheckExact(o)) {
        kind = FMP_REC_TUPLE;
        done = write_sequence(&w, &PyTuple_GET_ITEM(o, 0), PyTuple_GET_SIZE(o));
    }
    else if (PyList_CheckExact(o)) {
        kind = FMP_REC_LIST;
        done = write_sequence(&w, ((PyListObject *)o)->ob_item, PyList_GET_SIZE(o));
    }
    else {
        done = false;
    }
    if (done) {
        finish(&w, kind, NULL, 0);
    }
    else {
        free(e->heap);
        e->heap = NULL;
    }
    return done;
}

int
fmp_encode(struct fmp_codec *codec, struct fmp_encoded *e, PyObject *object, const void *prefix,
           size_t n_prefix)
{
    e->parts = e->one;
    e->owner = NULL;
    e->views = NULL;
    e->n_views = 0;
    e->heap = NULL;
    if (n_prefix > 0) {
        memcpy(e->small + FMP_RECORD_HEADER, prefix, n_prefix);
    }
    if (encode_plain(e, object, FMP_RECORD_HEADER + n_prefix)) {
        return 0;
    }
    return fmp_encode_pickle(codec, e, object, FMP_RECORD_HEADER + n_prefix);
}

void
fmp_encode_raw(struct fmp_encoded *e, uint8_t kind, const void *data, size_t size)
{
    e->owner = NULL;
    e->views = NULL;
    e->n_views = 0;
    e->heap = NULL;
    struct writer w = {
        .e = e, .data = e->small, .used = FMP_RECORD_HEADER, .room = sizeof(e->small)};
    finish(&w, kind, data, size);
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

struct reader {
    const uint8_t *data;
    size_t left;
};

static bool
read_bytes(struct reader *r, void *out, size_t n)
{
    if (n > r->left) {
        return false;
    }
    memcpy(out, r->data, n);
    r->data += n;
    r->left -= n;
    return true;
}

static PyObject *
malformed(void)
{
    if (!PyErr_Occurred()) {
        fmp_raise(FMP_CORRUPT, "decode a message");
    }
    return NULL;
}

/* A bytes object to be filled. */
static PyObject *
new_bytes(size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes != NULL) {
        fmp_memory_prefer_huge(PyBytes_AS_STRING(bytes), size);
    }
    return bytes;
}

static PyObject *
bytes_from(const uint8_t *data, size_t size)
{
    if (size < FMP_DIRECT_SIZE) {
        return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    }
    PyObject *bytes = new_bytes(size);
    if (bytes != NULL) {
        memcpy(PyBytes_AS_STRING(bytes), data, size);
    }
    return bytes;
}

static PyObject *
text_from(uint8_t kind, const uint8_t *data, size_t size)
{
    return kind == FMP_REC_BYTES ? bytes_from(data, size)
                                 : PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
}

/* A constant, int or float; NULL without an exception when it is malformed. */
static PyObject *
read_number(struct reader *r, uint8_t kind)
{
    int64_t integer;
    double real;
    switch (kind) {
    case FMP_REC_NONE:
        return Py_NewRef(Py_None);
    case FMP_REC_FALSE:
        return Py_NewRef(Py_False);
    case FMP_REC_TRUE:
        return Py_NewRef(Py_True);
    case FMP_REC_INT:
        return read_bytes(r, &integer, sizeof(integer)) ? PyLong_FromLongLong(integer) : NULL;
    case FMP_REC_FLOAT:
        return read_bytes(r, &real, sizeof(real)) ? PyFloat_FromDouble(real) : NULL;
    default:
        return NULL;
    }
}

static PyObject *
read_item(struct reader *r)
{
    uint8_t kind;
    if (!read_bytes(r, &kind, 1)) {
        return NULL;
    }
    if (!is_text(kind)) {
        return read_number(r, kind);
    }
    uint32_t length;
    if (!read_bytes(r, &length, sizeof(length)) || length > r->left) {
        return NULL;
    }
    PyObject *text = text_from(kind, r->data, length);
    r->data += length;
    r->left -= length;
    return text;
}

static PyObject *
read_sequence(struct reader *r, uint8_t kind)
{
    uint32_t count;
    if (!read_bytes(r, &count, sizeof(count)) || count > r->left) {
        return malformed(); /* each item takes at least one byte */
    }
    PyObject *sequence = kind == FMP_REC_TUPLE ? PyTuple_New(count) : PyList_New(count);
    for (uint32_t i = 0; sequence != NULL && i < count; i++) {
        PyObject *item = read_item(r);
        if (item == NULL) {
            Py_DECREF(sequence);
            return malformed();
        }
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
    struct reader r = {data, size};
    PyObject *object;
    switch (kind) {
    case FMP_REC_STR:
    case FMP_REC_BYTES:
        return text_from(kind, data, size);
    case FMP_REC_TUPLE:
    case FMP_REC_LIST:
        return read_sequence(&r, kind);
    case FMP_REC_PICKLE:
    case FMP_REC_RAW:
        return fmp_decode_pickle(codec, data, size);
    case FMP_REC_PICKLE_BUFFERS:
        return fmp_decode_pickle_buffers(codec, data, size, keeper);
    default:
        object = read_number(&r, kind);
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

PyObject *
fmp_decode_taken(struct fmp_codec *codec, struct fmp_buffer *taken, size_t n_prefix)
{
    size_t offset = 0, length;
    uint8_t kind;
    const uint8_t *data;
    PyObject *object = NULL, *keeper = NULL;
    if (!fmp_batch_next(taken->data, taken->size, &offset, &kind, &data, &length)
        || length < n_prefix) {
        malformed();
    }
    else if (kind == (FMP_REC_PICKLE_BUFFERS | FMP_RECORD_OUTSIDE)) {
        object = decode_outside(codec, taken, data + n_prefix, length - n_prefix);
    }
    else {
        if (kind == FMP_REC_PICKLE_BUFFERS && taken->on_heap) {
            keeper = fmp_memory_own(codec->memory, taken->data, taken->size);
            taken->on_heap = keeper == NULL; /* its memory is the keeper's now */
        }
        if (!PyErr_Occurred()) {
            object = fmp_decode(codec, kind, data + n_prefix, length - n_prefix, keeper);
        }
    }
    Py_XDECREF(keeper);
    fmp_buffer_free(taken);
    return object;
}

int
fmp_take_bytes(struct fmp_message *m, fmp_try_fn try_once, void *arg)
{
    m->bytes = new_bytes(fmp_record_length(m->taken.header));
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
