/* tree.c - small nested values: what most requests, replies and tasks look like.
 *
 * A node is an item (plain.h), or
 *   TUPLE, LIST   u32 count, nodes
 *   DICT          u32 count, pairs of an item or REF and a node
 *   REF           u8: the text that was written as the so manieth
 * What stands in it twice is one object on the other side, as pickle would have it: text is referred to
 * by its number, a container makes the whole a matter for pickle. So there are no circles either. Small
 * means few objects that could come again, since each is looked for among those before it.
 *
 * Without a GIL others may change what is being written, so there it is all pickle's.
 *
 * Owns that layout. Nothing shared: it works on private memory, and believes no length it reads there.
 * Writing runs no other code of Python's; nor does reading, but for the garbage collector's.
 */
#include "bridge/tree.h"

#include "bridge/codec.h"

#define MOST_KNOWN 24 /* objects that pickle would memoise */
#define MOST_ITEMS 64 /* in a container */
#define MOST_DEPTH 6

/* --- writing --------------------------------------------------------------------------------- */

struct tree {
    struct fmp_writer *w;
    unsigned depth;
    unsigned n_texts;
    unsigned n_containers;
    PyObject *texts[MOST_KNOWN]; /* borrowed */
    PyObject *containers[MOST_KNOWN];
};

static bool write_node(struct tree *t, PyObject *o);

static unsigned
find(PyObject *const *known, unsigned n, PyObject *o)
{
    unsigned i = 0;
    while (i < n && known[i] != o) {
        i++;
    }
    return i;
}

static bool
write_text(struct tree *t, PyObject *o, uint8_t kind)
{
    unsigned at = find(t->texts, t->n_texts, o);
    if (at < t->n_texts) {
        uint8_t ref[] = {FMP_REC_REF, (uint8_t)at};
        return fmp_write(t->w, ref, sizeof(ref));
    }
    if (t->n_texts == MOST_KNOWN) {
        return false;
    }
    t->texts[t->n_texts++] = o;
    return fmp_write_item(t->w, o, kind);
}

/* 0: it is no plain value. */
static bool
write_plain(struct tree *t, PyObject *o, uint8_t kind)
{
    return fmp_plain_is_text(kind) ? write_text(t, o, kind)
                                   : kind != 0 && fmp_write_item(t->w, o, kind);
}

static bool
write_pairs(struct tree *t, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (!write_plain(t, key, fmp_plain_kind(key)) || !write_node(t, value)) {
            return false;
        }
    }
    return true;
}

static bool
write_nodes(struct tree *t, PyObject *const *items, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!write_node(t, items[i])) {
            return false;
        }
    }
    return true;
}

static bool
enter(struct tree *t, PyObject *o, uint8_t kind, Py_ssize_t n)
{
    uint32_t count = (uint32_t)n;
    if (n > MOST_ITEMS || t->depth == MOST_DEPTH) {
        return false;
    }
    if (n > 0 || kind != FMP_REC_TUPLE) { /* there is but one empty tuple */
        if (t->n_containers == MOST_KNOWN
            || find(t->containers, t->n_containers, o) < t->n_containers) {
            return false;
        }
        t->containers[t->n_containers++] = o;
    }
    t->depth++;
    return fmp_write(t->w, &kind, 1) && fmp_write(t->w, &count, sizeof(count));
}

static bool
write_container(struct tree *t, PyObject *o)
{
    bool done;
    if (PyTuple_CheckExact(o)) {
        Py_ssize_t n = PyTuple_GET_SIZE(o);
        done = enter(t, o, FMP_REC_TUPLE, n) && write_nodes(t, &PyTuple_GET_ITEM(o, 0), n);
    }
    else if (PyList_CheckExact(o)) {
        Py_ssize_t n = PyList_GET_SIZE(o);
        done = enter(t, o, FMP_REC_LIST, n) && write_nodes(t, ((PyListObject *)o)->ob_item, n);
    }
    else if (PyDict_CheckExact(o)) {
        done = enter(t, o, FMP_REC_DICT, PyDict_GET_SIZE(o)) && write_pairs(t, o);
    }
    else {
        return false;
    }
    t->depth--;
    return done;
}

static bool
write_node(struct tree *t, PyObject *o)
{
    uint8_t kind = fmp_plain_kind(o);
    return kind != 0 ? write_plain(t, o, kind) : write_container(t, o);
}

bool
fmp_write_tree(struct fmp_writer *w, PyObject *container)
{
#ifdef Py_GIL_DISABLED
    return false;
#endif
    struct tree t;
    t.w = w;
    t.depth = t.n_texts = t.n_containers = 0;
    return write_container(&t, container);
}

/* --- reading --------------------------------------------------------------------------------- */

struct tree_reader {
    struct fmp_reader *r;
    unsigned depth;
    unsigned n_texts;
    PyObject *texts[MOST_KNOWN]; /* ours: a pair that is damaged may have let go of them */
};

static PyObject *read_node(struct tree_reader *t);

static PyObject *
read_plain(struct tree_reader *t, uint8_t kind)
{
    uint8_t at;
    if (kind == FMP_REC_REF) {
        return fmp_read(t->r, &at, 1) && at < t->n_texts ? Py_NewRef(t->texts[at]) : NULL;
    }
    if (!fmp_plain_is_text(kind)) {
        return fmp_read_value(t->r, kind);
    }
    PyObject *text = t->n_texts < MOST_KNOWN ? fmp_read_text(t->r, kind) : NULL;
    if (text != NULL) {
        t->texts[t->n_texts++] = Py_NewRef(text);
    }
    return text;
}

static bool
fill(struct tree_reader *t, PyObject *sequence, bool tuple, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        PyObject *item = read_node(t);
        if (item == NULL) {
            return false;
        }
        if (tuple) {
            PyTuple_SET_ITEM(sequence, i, item);
        }
        else {
            PyList_SET_ITEM(sequence, i, item);
        }
    }
    return true;
}

static PyObject *
read_sequence(struct tree_reader *t, bool tuple, uint32_t count)
{
    PyObject *sequence = tuple ? PyTuple_New(count) : PyList_New(count);
    if (sequence == NULL || count == 0) {
        return sequence;
    }
    PyObject_GC_UnTrack(sequence); /* nobody is to find it half full */
    bool filled = fill(t, sequence, tuple, count);
    PyObject_GC_Track(sequence);
    if (!filled) {
        Py_CLEAR(sequence);
    }
    return sequence;
}

static PyObject *
read_dict(struct tree_reader *t, uint32_t count)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict != NULL && i < count; i++) {
        uint8_t kind;
        PyObject *key = fmp_read(t->r, &kind, 1) ? read_plain(t, kind) : NULL;
        PyObject *value = key != NULL ? read_node(t) : NULL;
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *
read_container(struct tree_reader *t, uint8_t kind)
{
    uint32_t count;
    /* Each item takes at least one byte. */
    if (!fmp_read(t->r, &count, sizeof(count)) || count > t->r->left || t->depth == MOST_DEPTH) {
        return NULL;
    }
    t->depth++;
    PyObject *o =
        kind == FMP_REC_DICT ? read_dict(t, count) : read_sequence(t, kind == FMP_REC_TUPLE, count);
    t->depth--;
    return o;
}

static PyObject *
read_node(struct tree_reader *t)
{
    uint8_t kind;
    if (!fmp_read(t->r, &kind, 1)) {
        return NULL;
    }
    if (kind == FMP_REC_TUPLE || kind == FMP_REC_LIST || kind == FMP_REC_DICT) {
        return read_container(t, kind);
    }
    return read_plain(t, kind);
}

PyObject *
fmp_read_tree(struct fmp_reader *r)
{
    struct tree_reader t;
    t.r = r;
    t.depth = t.n_texts = 0;
    PyObject *o = read_node(&t);
    while (t.n_texts > 0) {
        Py_DECREF(t.texts[--t.n_texts]);
    }
    return o;
}
