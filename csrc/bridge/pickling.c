/* pickling.c - protocol 5 pickles through multiprocessing's reducers; see codec.h.
 *
 * A pickler gets `table` as its dispatch_table: the ChainMap over ForkingPickler._extra_reducers
 * and copyreg's table that ForkingPickler itself would use, so what anybody registers later counts.
 * Buffers that pickle would copy into its stream are taken beside it and gathered into the record.
 * Owns nothing shared.
 */
#include "bridge/pickling.h"

#include <stdlib.h>
#include <string.h>

#include "base/layout.h"
#include "base/status.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/memory_object.h"

static PyObject *
import_attribute(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from != NULL ? PyObject_GetAttrString(from, name) : NULL;
    Py_XDECREF(from);
    return found;
}

int
fmp_codec_init(struct fmp_codec *codec, PyObject *module)
{
    codec->bytes_io = import_attribute("io", "BytesIO");
    codec->keywords = Py_BuildValue("(s)", "buffer_callback");
    codec->memory = fmp_memory_type(module);
    return codec->bytes_io && codec->keywords && codec->memory ? 0 : -1;
}

int
fmp_codec_traverse(struct fmp_codec *codec, visitproc visit, void *arg)
{
    Py_VISIT(codec->pickler);
    Py_VISIT(codec->loads);
    Py_VISIT(codec->bytes_io);
    Py_VISIT(codec->reduction);
    Py_VISIT(codec->table);
    Py_VISIT(codec->keywords);
    Py_VISIT(codec->memory);
    return 0;
}

void
fmp_codec_clear(struct fmp_codec *codec)
{
    Py_CLEAR(codec->pickler);
    Py_CLEAR(codec->loads);
    Py_CLEAR(codec->bytes_io);
    Py_CLEAR(codec->reduction);
    Py_CLEAR(codec->table);
    Py_CLEAR(codec->keywords);
    Py_CLEAR(codec->memory);
}

/* Puts *value* where nobody has put one meanwhile: an import lets other threads run. */
static void
set_once(PyObject **place, PyObject *value)
{
    if (*place == NULL) {
        *place = value;
        return;
    }
    Py_XDECREF(value);
    PyErr_Clear(); /* this thread's import may have failed: another's has not */
}

/* pickle.loads, borrowed. Plain values do without pickle, whose import takes a tenth of a small
 * program's time. */
static PyObject *
load_unpickler(struct fmp_codec *codec)
{
    FMP_CRITICAL(codec->bytes_io);
    if (codec->loads == NULL) {
        set_once(&codec->loads, import_attribute("pickle", "loads"));
    }
    return codec->loads;
}

/* The dispatch_table, or NULL. */
static PyObject *
make_table(PyObject *reduction)
{
    PyObject *forking = PyObject_GetAttrString(reduction, "ForkingPickler");
    PyObject *extra = forking ? PyObject_GetAttrString(forking, "_extra_reducers") : NULL;
    PyObject *common = extra ? import_attribute("copyreg", "dispatch_table") : NULL;
    PyObject *chain_map = common ? import_attribute("collections", "ChainMap") : NULL;
    PyObject *table =
        chain_map ? PyObject_CallFunctionObjArgs(chain_map, extra, common, NULL) : NULL;
    Py_XDECREF(chain_map);
    Py_XDECREF(common);
    Py_XDECREF(extra);
    Py_XDECREF(forking);
    return table;
}

/* Imports pickle and multiprocessing.reduction and makes the table, once. */
static int
load_pickler(struct fmp_codec *codec)
{
    FMP_CRITICAL(codec->bytes_io);
    if (codec->table != NULL) {
        return 0;
    }
    if (codec->pickler == NULL) {
        set_once(&codec->pickler, import_attribute("pickle", "Pickler"));
    }
    if (codec->reduction == NULL) {
        set_once(&codec->reduction, PyImport_ImportModule("multiprocessing.reduction"));
    }
    if (codec->pickler != NULL && codec->reduction != NULL) {
        set_once(&codec->table, make_table(codec->reduction));
    }
    return codec->table != NULL ? 0 : -1;
}

/* Pickles into a new BytesIO; large buffers are appended to `buffers`, unless it is NULL. */
static PyObject *
dump(struct fmp_codec *codec, PyObject *object, PyObject *buffers)
{
    if (load_pickler(codec) < 0) {
        return NULL;
    }
    PyObject *stream = PyObject_CallNoArgs(codec->bytes_io);
    PyObject *append = stream && buffers ? PyObject_GetAttrString(buffers, "append") : NULL;
    PyObject *protocol = PyLong_FromLong(5);
    PyObject *pickler = NULL;
    bool done = false;
    if (stream != NULL && protocol != NULL && (append != NULL || buffers == NULL)) {
        PyObject *args[] = {stream, protocol, append};
        pickler = PyObject_Vectorcall(codec->pickler, args, 2, append ? codec->keywords : NULL);
    }
    if (pickler != NULL && PyObject_SetAttrString(pickler, "dispatch_table", codec->table) == 0) {
        PyObject *name = PyUnicode_FromString("dump");
        PyObject *none = name != NULL ? PyObject_CallMethodOneArg(pickler, name, object) : NULL;
        done = none != NULL;
        Py_XDECREF(none);
        Py_XDECREF(name);
    }
    Py_XDECREF(pickler);
    Py_XDECREF(protocol);
    Py_XDECREF(append);
    if (!done) {
        Py_CLEAR(stream);
    }
    return stream;
}

/* Takes a view of each buffer. 1: done, 0: one is not contiguous, -1: exception. */
static int
view_buffers(struct fmp_encoded *e, PyObject *buffers)
{
    Py_ssize_t n = PyList_GET_SIZE(buffers);
    e->views = calloc((size_t)n + 1, sizeof(Py_buffer));
    if (e->views == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_buffer *view = &e->views[e->n_views];
        if (PyObject_GetBuffer(PyList_GET_ITEM(buffers, i), view, PyBUF_FULL_RO) < 0) {
            return -1;
        }
        e->n_views++;
        if (!PyBuffer_IsContiguous(view, 'A')) {
            return 0;
        }
    }
    return 1;
}

static void
drop_views(struct fmp_encoded *e)
{
    for (Py_ssize_t i = 0; i < e->n_views; i++) {
        PyBuffer_Release(&e->views[i]);
    }
    free(e->views);
    e->views = NULL;
    e->n_views = 0;
}

static int
view_stream(struct fmp_encoded *e, PyObject *stream)
{
    PyObject *buffer = PyObject_CallMethod(stream, "getbuffer", NULL);
    if (buffer == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(buffer, &e->views[e->n_views], PyBUF_SIMPLE);
    if (rc == 0) {
        e->n_views++;
    }
    Py_DECREF(buffer);
    return rc;
}

static const uint8_t zeros[FMP_UNIT];

/* {data, then zeros up to a multiple of 16}: two parts. Returns the bytes they take. */
static size_t
add_padded(struct fmp_part *parts, const Py_buffer *view)
{
    size_t size = (size_t)view->len, padded = fmp_round_up(size, FMP_UNIT);
    parts[0] = (struct fmp_part){view->buf, size};
    parts[1] = (struct fmp_part){zeros, padded - size};
    return padded;
}

/* Head (record header, prefix, count and sizes of the buffers), pickle, buffers. The last view is the
 * pickle, those before it its buffers. The head is padded so that the pickle and each buffer begin at a
 * multiple of 16 bytes in the record: arrays are aligned. */
static int
gather(struct fmp_encoded *e, size_t begin)
{
    size_t n = (size_t)e->n_views - 1;
    const Py_buffer *pickle = &e->views[n];
    size_t head = fmp_round_up(begin + 16 + 8 * n, FMP_UNIT);
    uint8_t *at = e->heap = calloc(1, head);
    e->parts = malloc((2 * n + 3) * sizeof(struct fmp_part));
    if (at == NULL || e->parts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(at, e->small, begin);
    uint64_t words[2] = {n, (uint64_t)pickle->len};
    memcpy(at + begin, words, sizeof(words));
    for (size_t i = 0; i < n; i++) {
        uint64_t size = (uint64_t)e->views[i].len << 1 | (e->views[i].readonly ? 1 : 0);
        memcpy(at + begin + 16 + 8 * i, &size, sizeof(size));
    }
    unsigned used = 0;
    e->parts[used++] = (struct fmp_part){at, head};
    size_t inside = head + add_padded(&e->parts[used], pickle), outside = 0;
    used += 2;
    for (size_t i = 0; i < n; i++, used += 2) {
        outside += add_padded(&e->parts[used], &e->views[i]);
    }
    uint64_t header =
        fmp_record_header(inside + outside - FMP_RECORD_HEADER, FMP_REC_PICKLE_BUFFERS);
    memcpy(at, &header, sizeof(header));
    e->batch = (struct fmp_batch){.parts = e->parts,
                                  .n_parts = used,
                                  .bytes = inside + outside,
                                  .items = 1,
                                  .n_inside = 3,
                                  .outside = outside};
    return 0;
}

/* The record of a pickle that has no buffers. */
static void
join(struct fmp_encoded *e, size_t begin)
{
    const Py_buffer *pickle = &e->views[0];
    fmp_encoded_join(e, FMP_REC_PICKLE, e->small, begin, pickle->buf, (size_t)pickle->len);
}

int
fmp_encode_pickle(struct fmp_codec *codec, struct fmp_encoded *e, PyObject *object, size_t begin)
{
    PyObject *buffers = PyList_New(0);
    PyObject *stream = buffers != NULL ? dump(codec, object, buffers) : NULL;
    int rc = stream != NULL ? view_buffers(e, buffers) : -1;
    if (rc == 0) { /* not contiguous: let pickle copy it into its stream */
        drop_views(e);
        PyList_SetSlice(buffers, 0, PyList_GET_SIZE(buffers), NULL);
        Py_SETREF(stream, dump(codec, object, NULL));
        rc = stream != NULL ? view_buffers(e, buffers) : -1;
    }
    rc = rc > 0 ? view_stream(e, stream) : -1;
    if (rc == 0 && e->n_views > 1) {
        rc = gather(e, begin);
    }
    else if (rc == 0) {
        join(e, begin);
    }
    Py_XDECREF(stream);
    Py_XDECREF(buffers);
    if (rc < 0) {
        fmp_encoded_free(e);
        return -1;
    }
    return 0;
}

PyObject *
fmp_pickle(struct fmp_codec *codec, PyObject *object)
{
    if (load_pickler(codec) < 0) {
        return NULL;
    }
    PyObject *forking = PyObject_GetAttrString(codec->reduction, "ForkingPickler");
    PyObject *name = forking != NULL ? PyUnicode_FromString("dumps") : NULL;
    PyObject *pickled = name != NULL ? PyObject_CallMethodOneArg(forking, name, object) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(forking);
    return pickled;
}

/* --- reading --------------------------------------------------------------------------------- */

PyObject *
fmp_decode_pickle(struct fmp_codec *codec, const uint8_t *data, size_t size)
{
    PyObject *loads = load_unpickler(codec);
    PyObject *view =
        loads != NULL ? PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ) : NULL;
    PyObject *object = view != NULL ? PyObject_CallOneArg(loads, view) : NULL;
    Py_XDECREF(view);
    return object;
}

/* The part of `keeper`, or a copy when there is none. */
static PyObject *
one_buffer(struct fmp_codec *codec, PyObject *keeper, const uint8_t *data, size_t size,
           bool readonly)
{
    if (keeper != NULL) {
        return fmp_memory_part(codec->memory, keeper, data, size, readonly);
    }
    void *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(copy, data, size);
    PyObject *whole = fmp_memory_own(codec->memory, copy, size);
    if (whole == NULL) {
        free(copy);
        return NULL;
    }
    PyObject *part = fmp_memory_part(codec->memory, whole, copy, size, readonly);
    Py_DECREF(whole);
    return part;
}

/* A pickle and its buffers, as they lie in memory, each padded to the 16 byte grid. */
struct pickled {
    const uint8_t *sizes; /* of the buffers: a word each, see enum fmp_record_kind */
    uint64_t n;
    const uint8_t *pickle;
    uint64_t pickle_size;
    const uint8_t *buffers;
    PyObject *keeper; /* of them, or NULL */
};

static uint64_t
size_word(const struct pickled *p, uint64_t i)
{
    uint64_t word;
    memcpy(&word, p->sizes + 8 * i, sizeof(word));
    return word;
}

/* Reads a record's head. Sets *total to the bytes that its buffers take. False: no encoder writes
 * such a record, or one whose buffers take more than `room`. */
static bool
read_head(struct pickled *p, const uint8_t *data, size_t size, uint64_t room, uint64_t *total)
{
    uint64_t words[2] = {0, 0};
    if (size >= sizeof(words)) {
        memcpy(words, data, sizeof(words));
    }
    p->n = words[0];
    p->pickle_size = words[1];
    p->sizes = data + sizeof(words);
    *total = 0;
    if (p->n == 0 || p->n > size / 8 || p->pickle_size > size || size < 16 + 8 * p->n) {
        return false;
    }
    for (uint64_t i = 0; i < p->n; i++) {
        uint64_t length = size_word(p, i) >> 1;
        *total += length <= room ? fmp_round_up(length, FMP_UNIT) : room + 1;
        if (*total > room) {
            return false;
        }
    }
    return true;
}

/* The pickle and what follows it, `bytes` in all, are at the record's end: what precedes is padded so
 * that they are on the grid. Sets p->pickle; false as above. */
static bool
find_pickle(struct pickled *p, const uint8_t *data, size_t size, uint64_t bytes)
{
    if (bytes > size - 16 - 8 * p->n) {
        return false;
    }
    p->pickle = data + size - bytes;
    return true;
}

/* Buffers of any size come as memoryviews: who pickles in band gets bytes or a bytearray, so what is made
 * of them may want a length, or a slice. */
static PyObject *
views_of(struct fmp_codec *codec, const struct pickled *p)
{
    const uint8_t *at = p->buffers;
    PyObject *views = PyTuple_New((Py_ssize_t)p->n);
    for (uint64_t i = 0; views != NULL && i < p->n; i++) {
        uint64_t word = size_word(p, i);
        PyObject *memory = one_buffer(codec, p->keeper, at, word >> 1, word & 1);
        PyObject *view = memory != NULL ? PyMemoryView_FromObject(memory) : NULL;
        Py_XDECREF(memory);
        if (view == NULL) {
            Py_CLEAR(views);
            break;
        }
        PyTuple_SET_ITEM(views, (Py_ssize_t)i, view);
        at += fmp_round_up(word >> 1, FMP_UNIT);
    }
    return views;
}

static PyObject *
load(struct fmp_codec *codec, const struct pickled *p)
{
    PyObject *loads = load_unpickler(codec);
    PyObject *view = loads != NULL ? PyMemoryView_FromMemory((char *)p->pickle,
                                                             (Py_ssize_t)p->pickle_size, PyBUF_READ)
                                   : NULL;
    PyObject *buffers = view != NULL ? views_of(codec, p) : NULL;
    PyObject *object = NULL;
    if (buffers != NULL) {
        PyObject *kwargs = Py_BuildValue("{s:O}", "buffers", buffers);
        PyObject *args = PyTuple_Pack(1, view);
        object = kwargs && args ? PyObject_Call(loads, args, kwargs) : NULL;
        Py_XDECREF(args);
        Py_XDECREF(kwargs);
    }
    Py_XDECREF(buffers);
    Py_XDECREF(view);
    return object;
}

PyObject *
fmp_decode_pickle_buffers(struct fmp_codec *codec, const uint8_t *data, size_t size,
                          PyObject *keeper)
{
    struct pickled p = {.keeper = keeper};
    uint64_t total;
    if (!read_head(&p, data, size, size, &total)
        || !find_pickle(&p, data, size, total + fmp_round_up(p.pickle_size, FMP_UNIT))) {
        return fmp_raise(FMP_CORRUPT, "decode a message");
    }
    p.buffers = p.pickle + fmp_round_up(p.pickle_size, FMP_UNIT);
    return load(codec, &p);
}

PyObject *
fmp_decode_pickle_outside(struct fmp_codec *codec, const uint8_t *data, size_t size,
                          const struct fmp_lease *outside, PyObject *keeper)
{
    struct pickled p = {.buffers = outside->address, .keeper = keeper};
    uint64_t total;
    if (!read_head(&p, data, size, outside->length, &total)
        || !find_pickle(&p, data, size, fmp_round_up(p.pickle_size, FMP_UNIT))) {
        return fmp_raise(FMP_CORRUPT, "decode a message");
    }
    return load(codec, &p);
}
