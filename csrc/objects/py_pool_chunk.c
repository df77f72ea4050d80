/* py_pool_chunk.c - what the next task of a map is about, out of the map's iterable.
 *
 * Plain items go from the iterator straight into the record; of a range, its ends alone. A chunk in
 * which there is anything else becomes a tuple, to be pickled. Runs the code of iterators, which may do
 * anything, but hold no lock and see no record.
 */
#include "objects/pool.h"

/* --- ranges ----------------------------------------------------------------------------------- */

/* A field of a range. False: it is none of 64 bits. */
static bool
range_field(PyObject *range, const char *name, int64_t *value)
{
    int overflow = 1;
    PyObject *field = PyObject_GetAttrString(range, name);
    if (field != NULL) {
        *value = PyLong_AsLongLongAndOverflow(field, &overflow);
    }
    Py_XDECREF(field);
    PyErr_Clear();
    return overflow == 0;
}

void
fmp_feed_look_at_range(struct fmp_range *r, PyObject *iterable)
{
    int64_t stop;
    Py_ssize_t length = PyRange_Check(iterable) ? PyObject_Size(iterable) : 0;
    PyErr_Clear();
    if (length > 0 && range_field(iterable, "start", &r->next)
        && range_field(iterable, "stop", &stop) && range_field(iterable, "step", &r->step)) {
        r->known = true;
        r->left = (uint64_t)length;
    }
}

/* --- any iterable ----------------------------------------------------------------------------- */

/* A chunk as a tuple: the items in `list`, which is stolen, then `item`, and what follows. NULL: with
 * the exception of the iterable; items before it are lost with it. */
static PyObject *
gather_chunk(PyObject *source, Py_ssize_t chunk, PyObject *list, PyObject *item)
{
    while (list != NULL && item != NULL) {
        int rc = PyList_Append(list, item);
        Py_CLEAR(item);
        if (rc < 0) {
            Py_CLEAR(list);
        }
        else if (PyList_GET_SIZE(list) < chunk) {
            item = PyIter_Next(source);
        }
    }
    Py_XDECREF(item);
    PyObject *tuple = list != NULL && !PyErr_Occurred() ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

static int
next_object(PyObject *source, Py_ssize_t chunk, struct fmp_argument *a)
{
    PyObject *item = PyIter_Next(source);
    if (item == NULL) {
        return 0;
    }
    a->items = 1;
    a->object = chunk > 0 ? gather_chunk(source, chunk, PyList_New(0), item) : item;
    if (chunk > 0 && a->object != NULL) {
        a->items = PyTuple_GET_SIZE(a->object);
    }
    return a->object != NULL;
}

/* The next chunk is encoded as it comes, while its items are plain; an object when one is not. */
static int
next_flat(PyObject *source, Py_ssize_t chunk, struct fmp_encoded *e, struct fmp_argument *a)
{
    struct fmp_flat flat;
    PyObject *item;
    fmp_flat_begin(&flat, e, NULL, 0);
    while (flat.count < chunk && (item = PyIter_Next(source)) != NULL) {
        if (!fmp_flat_add(&flat, item)) {
            a->object = gather_chunk(source, chunk, fmp_flat_take_back(&flat), item);
            a->items = a->object != NULL ? PyTuple_GET_SIZE(a->object) : 0;
            return a->object != NULL;
        }
        Py_DECREF(item);
    }
    if (flat.count == 0 || PyErr_Occurred()) {
        fmp_flat_drop(&flat);
        return 0;
    }
    a->items = flat.count;
    fmp_flat_end(&flat, FMP_REC_TUPLE);
    return 1;
}

/* Of a range, its next piece; more results than INT32_MAX would not be flat. */
static int
next_of_range(struct fmp_range *r, Py_ssize_t chunk, struct fmp_encoded *e, struct fmp_argument *a)
{
    uint64_t n = r->left < (uint64_t)chunk ? r->left : (uint64_t)chunk;
    if (n > INT32_MAX) {
        PyErr_NoMemory();
        return 0;
    }
    if (n == 0) {
        return 0;
    }
    a->piece = (struct fmp_range_record){.first = r->next, .step = r->step, .count = n};
    fmp_encode_raw(e, FMP_TASK_RANGE, &a->piece, sizeof(a->piece));
    a->items = (Py_ssize_t)n;
    r->next = fmp_range_after(r->next, r->step, n);
    r->left -= n;
    return 1;
}

int
fmp_feed_next(struct fmp_feed *f, struct fmp_encoded *e, struct fmp_argument *a)
{
    PyObject *source = Py_NewRef(f->source); /* its iterator may end the feed */
    Py_ssize_t chunk = f->chunk;
    *a = (struct fmp_argument){0};
    int found;
    if (f->range.known) {
        found = next_of_range(&f->range, chunk, e, a);
    }
    else if (chunk > 0 && f->name != NULL) {
        found = next_flat(source, chunk, e, a);
    }
    else {
        found = next_object(source, chunk, a);
    }
    Py_DECREF(source);
    return found;
}
