/* plain.h - plain values as bytes: the native half of the codec.
 *
 * Plain are None, bools, floats, str, bytes and ints of 64 bits; exact types only. An *item* is such
 * a value within a flat sequence: a byte for its kind, then
 *   INT8 .. INT64   the integer in so few bytes as hold it
 *   FLOAT           double
 *   STR, BYTES      u32 length and bytes
 * None of what is here runs other code of Python's, nor lets go of the GIL.
 */
#ifndef FMP_BRIDGE_PLAIN_H
#define FMP_BRIDGE_PLAIN_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that are being written: on the caller's stack, in `heap` when they outgrow that. */
struct fmp_writer {
    uint8_t *data;
    size_t used;
    size_t room;
    uint8_t *heap; /* or NULL; the caller's to free */
};

struct fmp_reader {
    const uint8_t *data;
    size_t left;
};

/* The kind (enum fmp_record_kind) of a plain value; 0 when it is none. */
uint8_t fmp_plain_kind(PyObject *o);
bool fmp_plain_is_text(uint8_t kind);
/* The bytes of a str or bytes object. False: not encodable natively (a lone surrogate). */
bool fmp_plain_text(PyObject *o, uint8_t kind, const char **data, Py_ssize_t *size);

/* False: no memory. */
bool fmp_write(struct fmp_writer *w, const void *bytes, size_t n);
/* The payload of an int (8 bytes), float or constant. False: an int of more than 64 bits, or no
 * memory; pickle then says which. */
bool fmp_write_value(struct fmp_writer *w, PyObject *o, uint8_t kind);
/* The same of an item, with its kind before it; text too. */
bool fmp_write_item(struct fmp_writer *w, PyObject *o, uint8_t kind);
/* An item that is no object yet. False: no memory. */
bool fmp_write_int_item(struct fmp_writer *w, int64_t value);

/* Here, so that what is read is a load where the compiler knows `n`. */
static inline bool
fmp_read(struct fmp_reader *r, void *out, size_t n)
{
    if (n > r->left) {
        return false;
    }
    memcpy(out, r->data, n);
    r->data += n;
    r->left -= n;
    return true;
}

/* PyLong_FromLong() is the faster one up to Python 3.13. */
static inline PyObject *
fmp_int_from(int64_t value)
{
    return sizeof(long) == sizeof(value) ? PyLong_FromLong((long)value)
                                         : PyLong_FromLongLong(value);
}

/* A list and a bytes object to be filled. */
PyObject *fmp_list_new(Py_ssize_t length);
PyObject *fmp_bytes_new(size_t size);
PyObject *fmp_text_from(uint8_t kind, const uint8_t *data, size_t size);
/* A constant, int or float of fmp_write_value(), or an item; NULL, perhaps without an exception,
 * when it is malformed. */
PyObject *fmp_read_value(struct fmp_reader *r, uint8_t kind);
PyObject *fmp_read_text(struct fmp_reader *r, uint8_t kind);
PyObject *fmp_read_item(struct fmp_reader *r);
/* The value of an item that is an int. False: the next one is none, and has not been read. */
bool fmp_read_int_item(struct fmp_reader *r, int64_t *value);

#endif
