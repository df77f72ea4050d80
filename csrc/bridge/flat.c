/* flat.c - flat sequences item by item, for those who would make them only to encode them.
 *
 * Owns nothing. What an item may be is a matter of sharing: pickle memoises text, so a str that
 * stands in a sequence twice is one object on the other side too. One that only our caller refers to
 * cannot come again, since the caller drops it; of all others nothing is known once they have been
 * written. Numbers and constants are never memoised.
 */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/codec.h"
#include "bridge/errors.h"

void
fmp_flat_begin(struct fmp_flat *f, struct fmp_encoded *e, const void *prefix, size_t n_prefix)
{
    fmp_encoded_init(e, prefix, n_prefix);
    f->e = e;
    f->begin = FMP_RECORD_HEADER + n_prefix;
    f->count = 0;
    f->w = (struct fmp_writer){
        .data = e->small, .used = f->begin + sizeof(f->count), .room = sizeof(e->small)};
}

/* Without a GIL, whether nobody else has it cannot be told by the count of one thread. */
static bool
is_ours_alone(PyObject *o)
{
#ifdef Py_GIL_DISABLED
    (void)o;
    return false;
#else
    return Py_REFCNT(o) == 1;
#endif
}

static bool
add_any(struct fmp_flat *f, PyObject *item)
{
    uint8_t kind = fmp_plain_kind(item);
    size_t before = f->w.used;
    if (kind == 0 || f->count == INT32_MAX || (fmp_plain_is_text(kind) && !is_ours_alone(item))) {
        return false;
    }
    if (!fmp_write_item(&f->w, item, kind)) {
        f->w.used = before;
        return false;
    }
    f->count++;
    return true;
}

static bool
add_int(struct fmp_flat *f, int64_t value)
{
    if (f->count == INT32_MAX || !fmp_write_int_item(&f->w, value)) {
        return false;
    }
    f->count++;
    return true;
}

bool
fmp_flat_add(struct fmp_flat *f, PyObject *item)
{
    Py_ssize_t small;
    if (PyLong_CheckExact(item) && fmp_small_int(item, &small)) {
        return add_int(f, small);
    }
    return add_any(f, item);
}

static void
write_count(struct fmp_flat *f)
{
    memcpy(f->w.data + f->begin, &f->count, sizeof(f->count));
}

void
fmp_flat_end(struct fmp_flat *f, uint8_t kind)
{
    write_count(f);
    fmp_encoded_finish(f->e, &f->w, kind, NULL, 0);
}

void
fmp_flat_drop(struct fmp_flat *f)
{
    free(f->w.heap);
    f->w.heap = NULL;
}

PyObject *
fmp_flat_take_back(struct fmp_flat *f)
{
    struct fmp_reader r = {f->w.data + f->begin + sizeof(f->count),
                           f->w.used - f->begin - sizeof(f->count)};
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < f->count; i++) {
        PyObject *item = fmp_flat_next(&r);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    fmp_flat_drop(f);
    return list;
}

/* --- reading --------------------------------------------------------------------------------- */

bool
fmp_flat_open(struct fmp_reader *r, const uint8_t *data, size_t size, uint32_t *count)
{
    *r = (struct fmp_reader){data, size};
    /* Each item takes at least one byte. */
    return fmp_read(r, count, sizeof(*count)) && *count <= r->left;
}

PyObject *
fmp_flat_next(struct fmp_reader *r)
{
    PyObject *item = fmp_read_item(r);
    if (item == NULL && !PyErr_Occurred()) {
        fmp_raise(FMP_CORRUPT, "decode a message");
    }
    return item;
}
