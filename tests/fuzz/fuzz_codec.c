/* fuzz_codec.c - bridge/codec.c and pickling.c: any bytes as a record of any kind. What can be
 * decoded is encoded and decoded again, and has to be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/memory_object.h"
#include "fuzz.h"
#include "python/python.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The record of `e`, in memory of its own: 16 byte units, as it would lie in a ring. */
static struct fmp_buffer
as_taken(const struct fmp_encoded *e)
{
    size_t size = fmp_record_span(e->batch.bytes - FMP_RECORD_HEADER), at = 0;
    struct fmp_buffer b = {.data = calloc(1, size), .size = size, .room = size, .on_heap = true};
    for (unsigned i = 0; i < e->batch.n_parts; i++) {
        memcpy(b.data + at, e->parts[i].data, e->parts[i].size);
        at += e->parts[i].size;
    }
    return b;
}

static void
there_and_back(struct fmp_codec *codec, PyObject *object)
{
    struct fmp_encoded e;
    if (fmp_encode(codec, &e, object, "prefix", 6) < 0) {
        abort();
    }
    struct fmp_buffer taken = as_taken(&e);
    PyObject *back = fmp_decode_taken(codec, &taken, 6);
    fmp_encoded_free(&e);
    PyObject *left = back != NULL ? PyObject_Repr(object) : NULL;
    PyObject *right = left != NULL ? PyObject_Repr(back) : NULL;
    if (right == NULL || PyUnicode_Compare(left, right) != 0) {
        fprintf(stderr, "what came back is not the same\n");
        abort();
    }
    Py_DECREF(left);
    Py_DECREF(right);
    Py_DECREF(back);
}

/* Only what stays clear of pickle, which does nothing here: as codec.h lists them. */
static bool
is_native(PyObject *object)
{
    if (!PyTuple_CheckExact(object) && !PyList_CheckExact(object)) {
        return true;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(object);
    bool text = false, many = n > 16;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(object, i);
        text |= PyUnicode_CheckExact(item) || PyBytes_CheckExact(item);
        for (Py_ssize_t j = 0; text && !many && j < i; j++) {
            many |= PySequence_Fast_GET_ITEM(object, j) == item; /* interned: pickled */
        }
    }
    return !text || !many;
}

/* The bytes as one record's payload. */
static void
decode_one(struct fmp_state *state, uint8_t kind, const uint8_t *bytes, size_t size, bool keep)
{
    uint8_t *copy = malloc(size > 0 ? size : 1); /* no byte more: ASan sees what is read behind */
    memcpy(copy, bytes, size);
    PyObject *keeper = keep ? fmp_memory_own(state->codec.memory, copy, size) : NULL;
    PyObject *object = fmp_decode(&state->codec, kind, copy, size, keeper);
    if (keeper != NULL) {
        Py_DECREF(keeper); /* the object may still refer to it */
    }
    else {
        free(copy);
    }
    if (object != NULL && kind < FMP_REC_PICKLE && is_native(object)) {
        there_and_back(&state->codec, object);
    }
    check_object(object);
}

/* The bytes as what was taken from a ring. */
static void
decode_taken(struct fmp_state *state, const uint8_t *bytes, size_t size, size_t n_prefix)
{
    struct fmp_buffer taken = {.data = malloc(size > 0 ? size : 1), .size = size, .on_heap = true};
    taken.room = size;
    memcpy(taken.data, bytes, size);
    check_object(fmp_decode_taken(&state->codec, &taken, n_prefix));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct fmp_state *state = start_python();
    unsigned how = take_below(&in, 4);
    if (how == 0) {
        size_t n_prefix = take_below(&in, 33);
        decode_taken(state, in.at, in.left, n_prefix);
    }
    else {
        uint8_t kind = (uint8_t)take_below(&in, FMP_REC_USER + 3);
        decode_one(state, kind, in.at, in.left, how == 1);
    }
    return 0;
}
