/* plain.c - plain values to bytes and back; see plain.h for the layout.
 *
 * Owns the layout of an item. Nothing shared: it works on private memory, and believes no length it
 * reads there.
 */
#include "bridge/plain.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/args.h"
#include "bridge/codec.h"
#include "platform/memory.h"

#define LONGEST_NUMBER 9 /* an item's kind and 8 bytes */

uint8_t
fmp_plain_kind(PyObject *o)
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

bool
fmp_plain_is_text(uint8_t kind)
{
    return kind == FMP_REC_STR || kind == FMP_REC_BYTES;
}

bool
fmp_plain_text(PyObject *o, uint8_t kind, const char **data, Py_ssize_t *size)
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

/* --- writing --------------------------------------------------------------------------------- */

static bool
grow(struct fmp_writer *w, size_t needed)
{
    size_t room = needed * 2;
    uint8_t *fresh = realloc(w->heap, room);
    if (fresh == NULL) {
        return false;
    }
    if (w->heap == NULL) {
        memcpy(fresh, w->data, w->used);
    }
    w->heap = w->data = fresh;
    w->room = room;
    return true;
}

static inline bool
make_room(struct fmp_writer *w, size_t more)
{
    return more <= w->room - w->used || grow(w, w->used + more);
}

bool
fmp_write(struct fmp_writer *w, const void *bytes, size_t n)
{
    if (!make_room(w, n)) {
        return false;
    }
    memcpy(w->data + w->used, bytes, n);
    w->used += n;
    return true;
}

/* False: it takes more than 64 bits. */
static inline bool
as_int64(PyObject *o, int64_t *value)
{
    Py_ssize_t small;
    int overflow = 0;
    *value = fmp_small_int(o, &small) ? small : PyLong_AsLongLongAndOverflow(o, &overflow);
    return overflow == 0;
}

bool
fmp_write_value(struct fmp_writer *w, PyObject *o, uint8_t kind)
{
    if (kind == FMP_REC_INT) {
        int64_t value;
        return as_int64(o, &value) && fmp_write(w, &value, sizeof(value));
    }
    if (kind == FMP_REC_FLOAT) {
        double value = PyFloat_AS_DOUBLE(o);
        return fmp_write(w, &value, sizeof(value));
    }
    return true;
}

/* In so few bytes as hold it. Returns how many it took, of the LONGEST_NUMBER that are free. */
static size_t
put_int(uint8_t *at, int64_t value)
{
    int8_t tiny = (int8_t)value;
    int16_t small = (int16_t)value;
    int32_t middling = (int32_t)value;
    if (value == tiny) {
        at[0] = FMP_REC_INT8;
        memcpy(at + 1, &tiny, sizeof(tiny));
        return 1 + sizeof(tiny);
    }
    if (value == small) {
        at[0] = FMP_REC_INT16;
        memcpy(at + 1, &small, sizeof(small));
        return 1 + sizeof(small);
    }
    if (value == middling) {
        at[0] = FMP_REC_INT32;
        memcpy(at + 1, &middling, sizeof(middling));
        return 1 + sizeof(middling);
    }
    at[0] = FMP_REC_INT;
    memcpy(at + 1, &value, sizeof(value));
    return 1 + sizeof(value);
}

bool
fmp_write_int_item(struct fmp_writer *w, int64_t value)
{
    if (!make_room(w, LONGEST_NUMBER)) {
        return false;
    }
    w->used += put_int(w->data + w->used, value);
    return true;
}

static bool
write_text_item(struct fmp_writer *w, PyObject *o, uint8_t kind)
{
    const char *data;
    Py_ssize_t size;
    if (!fmp_plain_text(o, kind, &data, &size) || size > INT32_MAX) {
        return false;
    }
    uint32_t length = (uint32_t)size;
    return fmp_write(w, &kind, 1) && fmp_write(w, &length, sizeof(length))
        && fmp_write(w, data, length);
}

bool
fmp_write_item(struct fmp_writer *w, PyObject *o, uint8_t kind)
{
    if (fmp_plain_is_text(kind)) {
        return write_text_item(w, o, kind);
    }
    if (kind == FMP_REC_INT) {
        int64_t value;
        return as_int64(o, &value) && fmp_write_int_item(w, value);
    }
    return fmp_write(w, &kind, 1) && fmp_write_value(w, o, kind);
}

/* --- reading --------------------------------------------------------------------------------- */

PyObject *
fmp_list_new(Py_ssize_t length)
{
    PyObject *list = PyList_New(length);
    if (list != NULL) {
        fmp_memory_prefer_huge(((PyListObject *)list)->ob_item,
                               (size_t)length * sizeof(PyObject *));
    }
    return list;
}

PyObject *
fmp_bytes_new(size_t size)
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
    PyObject *bytes = fmp_bytes_new(size);
    if (bytes != NULL) {
        memcpy(PyBytes_AS_STRING(bytes), data, size);
    }
    return bytes;
}

PyObject *
fmp_text_from(uint8_t kind, const uint8_t *data, size_t size)
{
    return kind == FMP_REC_BYTES ? bytes_from(data, size)
                                 : PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
}

/* False: not of such a kind, or cut off. */
static inline bool
read_int(struct fmp_reader *r, uint8_t kind, int64_t *value)
{
    int8_t tiny;
    int16_t small;
    int32_t middling;
    bool read;
    switch (kind) {
    case FMP_REC_INT8:
        read = fmp_read(r, &tiny, sizeof(tiny));
        *value = read ? tiny : 0;
        return read;
    case FMP_REC_INT16:
        read = fmp_read(r, &small, sizeof(small));
        *value = read ? small : 0;
        return read;
    case FMP_REC_INT32:
        read = fmp_read(r, &middling, sizeof(middling));
        *value = read ? middling : 0;
        return read;
    case FMP_REC_INT:
        return fmp_read(r, value, sizeof(*value));
    default:
        return false;
    }
}

bool
fmp_read_int_item(struct fmp_reader *r, int64_t *value)
{
    struct fmp_reader ahead = *r;
    uint8_t kind;
    if (!fmp_read(&ahead, &kind, 1) || !read_int(&ahead, kind, value)) {
        return false;
    }
    *r = ahead;
    return true;
}

PyObject *
fmp_read_value(struct fmp_reader *r, uint8_t kind)
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
    case FMP_REC_FLOAT:
        return fmp_read(r, &real, sizeof(real)) ? PyFloat_FromDouble(real) : NULL;
    default:
        return read_int(r, kind, &integer) ? fmp_int_from(integer) : NULL;
    }
}

PyObject *
fmp_read_text(struct fmp_reader *r, uint8_t kind)
{
    uint32_t length;
    if (!fmp_read(r, &length, sizeof(length)) || length > r->left) {
        return NULL;
    }
    PyObject *text = fmp_text_from(kind, r->data, length);
    r->data += length;
    r->left -= length;
    return text;
}

PyObject *
fmp_read_item(struct fmp_reader *r)
{
    uint8_t kind;
    if (!fmp_read(r, &kind, 1)) {
        return NULL;
    }
    return fmp_plain_is_text(kind) ? fmp_read_text(r, kind) : fmp_read_value(r, kind);
}
