/* typecodes.c - the table of plain C types; owns nothing but constants. */
#include "objects/typecodes.h"

#include <wchar.h>

/* An item as a raw word. The whole word is written: a processor that reads eight bytes where four have
 * just been written waits until those are in the cache. */
static inline uint64_t
as_raw(const void *item, size_t size)
{
    uint64_t raw = 0;
    memcpy(&raw, item, size);
    return raw;
}

#define RAW(item) as_raw(&(item), sizeof(item))

#define BOX(name, ctype, from)                                                                     \
    static PyObject *box_##name(uint64_t raw)                                                      \
    {                                                                                              \
        ctype item;                                                                                \
        memcpy(&item, &raw, sizeof(item));                                                         \
        return from(item);                                                                         \
    }

/* With the reading of an item inlined: what `make` makes of each `item`. `begin` stands before. */
#define FILL(name, ctype, begin, make)                                                             \
    static int fill_##name(const char *at, Py_ssize_t stride, PyObject *list,                      \
                           struct fmp_known_ints *known)                                           \
    {                                                                                              \
        Py_ssize_t n = PyList_GET_SIZE(list);                                                      \
        begin;                                                                                     \
        for (Py_ssize_t i = 0; i < n; i++, at += stride) {                                         \
            ctype item;                                                                            \
            memcpy(&item, at, sizeof(item));                                                       \
            PyObject *object = make;                                                               \
            if (object == NULL) {                                                                  \
                return -1;                                                                         \
            }                                                                                      \
            PyList_SET_ITEM(list, i, object);                                                      \
        }                                                                                          \
        return 0;                                                                                  \
    }

#define READ(name, ctype, from)                                                                    \
    BOX(name, ctype, from)                                                                         \
    FILL(name, ctype, (void)known, from(item))

/* Is the int looked for, by its 64 bits? Not if it is the interpreter's own anyway, or too large. */
static inline bool
is_looked_for(const struct fmp_recent_look *look, uint64_t bits, bool is_signed)
{
    return look->table != NULL && bits + 5 >= FMP_FIRST_KNOWN_INT + 5
        && (is_signed || bits <= INT64_MAX);
}

#define LOOK struct fmp_recent_look look = fmp_recent_look(&known->recent, n)
#define KNOWN_AT(item) fmp_known_int_place((uint64_t)(item))
#define FIND_OR(from, ctype, item)                                                                 \
    KNOWN_AT(item) < FMP_KNOWN_INTS ? fmp_known_int(known, KNOWN_AT(item))                         \
    : is_looked_for(&look, (uint64_t)(item), (ctype)-1 < (ctype)1)                                 \
        ? fmp_recent_int(&look, (int64_t)(item))                                                   \
        : from(item)

/* Integers wrap, as in ctypes. */
#define INTEGER(name, ctype, from)                                                                 \
    BOX(name, ctype, from)                                                                         \
    FILL(name, ctype, LOOK, FIND_OR(from, ctype, item))                                            \
    static enum fmp_unboxed unbox_##name(PyObject *value, uint64_t *raw)                           \
    {                                                                                              \
        if (!PyLong_Check(value)) {                                                                \
            return FMP_NOT_UNBOXED;                                                                \
        }                                                                                          \
        Py_ssize_t small;                                                                          \
        if (fmp_small_int(value, &small)) {                                                        \
            ctype item = (ctype)small;                                                             \
            *raw = RAW(item);                                                                      \
            bool same = (int64_t)item == small && (small >= 0 || (ctype)-1 < (ctype)1);            \
            return same && PyLong_CheckExact(value) ? FMP_UNBOXED_SAME : FMP_UNBOXED;              \
        }                                                                                          \
        ctype item = (ctype)PyLong_AsUnsignedLongLongMask(value);                                  \
        *raw = RAW(item);                                                                          \
        return FMP_UNBOXED;                                                                        \
    }

INTEGER(byte, signed char, PyLong_FromLong)
INTEGER(ubyte, unsigned char, PyLong_FromLong)
INTEGER(short, short, PyLong_FromLong)
INTEGER(ushort, unsigned short, PyLong_FromLong)
INTEGER(int, int, PyLong_FromLong)
INTEGER(uint, unsigned int, PyLong_FromUnsignedLong)
INTEGER(long, long, PyLong_FromLong)
INTEGER(ulong, unsigned long, PyLong_FromUnsignedLong)
INTEGER(longlong, long long, PyLong_FromLongLong)
INTEGER(ulonglong, unsigned long long, PyLong_FromUnsignedLongLong)

static bool
as_double(PyObject *value, double *out)
{
    if (PyFloat_Check(value)) {
        *out = PyFloat_AS_DOUBLE(value);
        return true;
    }
    if (!PyLong_CheckExact(value)) {
        return false;
    }
    int overflow;
    long long whole = PyLong_AsLongLongAndOverflow(value, &overflow);
    *out = (double)whole;
    return overflow == 0;
}

READ(float, float, PyFloat_FromDouble)

static enum fmp_unboxed
unbox_float(PyObject *value, uint64_t *raw)
{
    double exact;
    if (!as_double(value, &exact)) {
        return FMP_NOT_UNBOXED;
    }
    float item = (float)exact;
    *raw = RAW(item);
    return FMP_UNBOXED;
}

READ(double, double, PyFloat_FromDouble)

static enum fmp_unboxed
unbox_double(PyObject *value, uint64_t *raw)
{
    double item;
    if (!as_double(value, &item)) {
        return FMP_NOT_UNBOXED;
    }
    *raw = RAW(item);
    return PyFloat_CheckExact(value) ? FMP_UNBOXED_SAME : FMP_UNBOXED;
}

READ(truth, _Bool, PyBool_FromLong)

static enum fmp_unboxed
unbox_truth(PyObject *value, uint64_t *raw)
{
    if (!PyBool_Check(value)) {
        return FMP_NOT_UNBOXED;
    }
    char item = value == Py_True;
    *raw = RAW(item);
    return FMP_UNBOXED;
}

#define FROM_CHAR(item) PyBytes_FromStringAndSize(&(item), 1)
#define FROM_WCHAR(item) PyUnicode_FromWideChar(&(item), 1)
READ(char, char, FROM_CHAR)
READ(wchar, wchar_t, FROM_WCHAR)

static enum fmp_unboxed
unbox_char(PyObject *value, uint64_t *raw)
{
    if (!PyBytes_CheckExact(value) || PyBytes_GET_SIZE(value) != 1) {
        return FMP_NOT_UNBOXED;
    }
    char item = PyBytes_AS_STRING(value)[0];
    *raw = RAW(item);
    return FMP_UNBOXED;
}

static enum fmp_unboxed
unbox_wchar(PyObject *value, uint64_t *raw)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_Check(value) && !PyUnicode_IS_READY(value)) {
        return FMP_NOT_UNBOXED;
    }
#endif
    if (!PyUnicode_CheckExact(value) || PyUnicode_GET_LENGTH(value) != 1) {
        return FMP_NOT_UNBOXED;
    }
    wchar_t item = (wchar_t)PyUnicode_READ_CHAR(value, 0);
    *raw = RAW(item);
    return FMP_UNBOXED;
}

_Static_assert(sizeof(wchar_t) == 4, "a wchar_t holds any character here, and is 'w' in a buffer");

static const struct fmp_typecode table[] = {
    {'b', 'i', sizeof(char), "b", box_byte, fill_byte, unbox_byte},
    {'B', 'u', sizeof(char), "B", box_ubyte, fill_ubyte, unbox_ubyte},
    {'h', 'i', sizeof(short), "h", box_short, fill_short, unbox_short},
    {'H', 'u', sizeof(short), "H", box_ushort, fill_ushort, unbox_ushort},
    {'i', 'i', sizeof(int), "i", box_int, fill_int, unbox_int},
    {'I', 'u', sizeof(int), "I", box_uint, fill_uint, unbox_uint},
    {'l', 'i', sizeof(long), "l", box_long, fill_long, unbox_long},
    {'L', 'u', sizeof(long), "L", box_ulong, fill_ulong, unbox_ulong},
    {'q', 'i', sizeof(long long), "q", box_longlong, fill_longlong, unbox_longlong},
    {'Q', 'u', sizeof(long long), "Q", box_ulonglong, fill_ulonglong, unbox_ulonglong},
    {'f', 'f', sizeof(float), "f", box_float, fill_float, unbox_float},
    {'d', 'f', sizeof(double), "d", box_double, fill_double, unbox_double},
    {'?', '?', sizeof(_Bool), "?", box_truth, fill_truth, unbox_truth},
    {'c', 'c', sizeof(char), "c", box_char, fill_char, unbox_char},
    {'u', 'w', sizeof(wchar_t), "w", box_wchar, fill_wchar, unbox_wchar},
};

#define N_CODES (sizeof(table) / sizeof(table[0]))

const struct fmp_typecode *
fmp_typecode_find(int code)
{
    for (size_t i = 0; i < N_CODES; i++) {
        if (table[i].code == code) {
            return &table[i];
        }
    }
    return NULL;
}

static char
kind_of_format(char c)
{
    switch (c) {
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
    case 'n':
        return 'i';
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q':
    case 'N':
        return 'u';
    case 'f':
    case 'd':
        return 'f';
    case 'u':
    case 'w':
        return 'w';
    case 'c':
    case '?':
        return c;
    default:
        return 0;
    }
}

/* ctypes calls its items "<i" whatever their size in that notation, so the kind comes from the
 * letter and the size from the buffer. */
const struct fmp_typecode *
fmp_typecode_of_format(const char *format, Py_ssize_t size)
{
    if (format == NULL) {
        format = "B";
    }
    if (*format == '<' || *format == '=' || *format == '@') {
        format++;
    }
    char kind = kind_of_format(*format);
    if (kind == 0 || format[1] != '\0') {
        return NULL;
    }
    for (size_t i = 0; i < N_CODES; i++) {
        if (table[i].kind == kind && table[i].size == size) {
            return &table[i];
        }
    }
    return NULL;
}
