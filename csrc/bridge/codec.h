/* codec.h - Python objects to records and back.
 *
 * None, bools, floats, str, bytes, ints of 64 bits, flat tuples and lists of them, and small nested
 * tuples, lists and dicts are encoded natively; exact types only, since a subclass has more to it. All
 * else is pickled, protocol 5,
 * through multiprocessing's ForkingPickler table, which is read at each call so that reducers may
 * be registered at any time. Large buffers (numpy arrays) go beside the pickle and are copied once
 * on either side.
 */
#ifndef FMP_BRIDGE_CODEC_H
#define FMP_BRIDGE_CODEC_H

#include <Python.h>

#include "bridge/plain.h"
#include "bridge/wait.h"
#include "channel/ring.h"

enum fmp_record_kind {
    FMP_REC_NONE = 1,
    FMP_REC_FALSE,
    FMP_REC_TRUE,
    FMP_REC_INT,   /* int64 */
    FMP_REC_FLOAT, /* double */
    FMP_REC_STR,   /* UTF-8 */
    FMP_REC_BYTES,
    FMP_REC_TUPLE, /* u32 count; items */
    FMP_REC_LIST,  /* the same */
    FMP_REC_PICKLE,
    FMP_REC_PICKLE_BUFFERS, /* u64 count, u64 pickle size, {u64 size << 1 | readonly} x count;
                               pickle; buffers, each padded to 16 bytes */
    FMP_REC_RAW,            /* Connection.send_bytes */
    FMP_REC_INT8,           /* of an item; see plain.h */
    FMP_REC_INT16,
    FMP_REC_INT32,
    FMP_REC_TREE, /* a node; see tree.c */
    FMP_REC_DICT, /* of a node */
    FMP_REC_REF,
    FMP_REC_USER, /* from here on: the channel's own */
};

#define FMP_ENCODED_INLINE 256

/* An encoded object: a batch of one record, gathered from parts. Holds what it points to until
 * fmp_encoded_free(). */
struct fmp_encoded {
    struct fmp_batch batch;
    struct fmp_part *parts; /* `one`, or on the heap */
    struct fmp_part one[3];
    PyObject *owner;  /* what a part lies in: str, bytes, or the pickle */
    Py_buffer *views; /* of the pickle and its buffers, or NULL */
    Py_ssize_t n_views;
    uint8_t small[FMP_ENCODED_INLINE];
    uint8_t *heap; /* instead of `small` */
};

/* What the codec needs of Python; lies in the module's state. `reduction` is imported at the first
 * pickle, when the package is complete; the rest by fmp_codec_init(). */
struct fmp_codec {
    PyObject *pickler;    /* pickle.Pickler */
    PyObject *loads;      /* pickle.loads */
    PyObject *bytes_io;   /* io.BytesIO */
    PyObject *reduction;  /* multiprocessing.reduction */
    PyObject *table;      /* the live view of ForkingPickler's reducers over copyreg's */
    PyObject *keywords;   /* ("buffer_callback",) */
    PyTypeObject *memory; /* bridge/memory_object.c */
};

/* A message that was taken: a record or, when it is large and nothing but bytes, a bytes object that
 * the payload was copied to from the ring. */
struct fmp_message {
    struct fmp_buffer taken;
    PyObject *bytes; /* or NULL */
};

int fmp_codec_init(struct fmp_codec *codec, PyObject *module);
int fmp_codec_traverse(struct fmp_codec *codec, visitproc visit, void *arg);
void fmp_codec_clear(struct fmp_codec *codec);

/* Encodes `object` behind `prefix` (n_prefix bytes, at most 32, which begin the record's payload;
 * 0 for none). Returns 0, or -1 with the exception of pickling. */
int fmp_encode(struct fmp_codec *codec, struct fmp_encoded *e, PyObject *object, const void *prefix,
               size_t n_prefix);

/* A record of the given kind that holds these bytes, which must live as long as `e`. */
void fmp_encode_raw(struct fmp_encoded *e, uint8_t kind, const void *data, size_t size);

void fmp_encoded_free(struct fmp_encoded *e);

/* For who encodes in parts: `e` with nothing but a prefix; then the record that `w` has written, whose
 * room began in e->small, as its first part and `tail` as its second. */
void fmp_encoded_init(struct fmp_encoded *e, const void *prefix, size_t n_prefix);
void fmp_encoded_finish(struct fmp_encoded *e, const struct fmp_writer *w, uint8_t kind,
                        const void *tail, size_t n_tail);
/* The record that is `head` and then `tail`; if it is large, it may lie outside of the ring. Writes the
 * record's header to `head`. */
void fmp_encoded_join(struct fmp_encoded *e, uint8_t kind, uint8_t *head, size_t n_head,
                      const void *tail, size_t n_tail);

/* --- item by item, flat.c --------------------------------------------------------------------- */

/* A flat sequence that is encoded and decoded item by item, so that it need never be there as an
 * object. Of text only what nobody else refers to: that cannot stand in the sequence twice, which
 * pickle would keep (flat.c). */
struct fmp_flat {
    struct fmp_encoded *e;
    struct fmp_writer w;
    size_t begin; /* of the payload behind the prefix */
    uint32_t count;
};

/* Begins a sequence behind `prefix`, as fmp_encode() does. One of the other three ends it. */
void fmp_flat_begin(struct fmp_flat *f, struct fmp_encoded *e, const void *prefix, size_t n_prefix);
/* False: not a plain value, or no memory; the sequence is as it was, to be taken back. */
bool fmp_flat_add(struct fmp_flat *f, PyObject *item);
/* What was begun becomes a record: FMP_REC_TUPLE or FMP_REC_LIST. */
void fmp_flat_end(struct fmp_flat *f, uint8_t kind);
/* The items as a new list, equal to those that were added; NULL with an exception. */
PyObject *fmp_flat_take_back(struct fmp_flat *f);
void fmp_flat_drop(struct fmp_flat *f);

/* A record of FMP_REC_TUPLE or FMP_REC_LIST, to be read item by item. False: malformed. */
bool fmp_flat_open(struct fmp_reader *r, const uint8_t *data, size_t size, uint32_t *count);
/* The next item; NULL with an exception. */
PyObject *fmp_flat_next(struct fmp_reader *r);

/* The object of a record. `keeper` is NULL, or an object that owns the memory `data` lies in:
 * then large buffers are not copied but refer to it. FMP_REC_RAW is unpickled. Returns NULL with
 * an exception: of unpickling, or CorruptionError for bytes that no encoder writes. */
PyObject *fmp_decode(struct fmp_codec *codec, uint8_t kind, const uint8_t *data, size_t size,
                     PyObject *keeper);

/* Decodes the one record of a batch that was taken; frees the buffer, or hands its memory over to
 * the object. `n_prefix` bytes of the payload are skipped. */
PyObject *fmp_decode_taken(struct fmp_codec *codec, struct fmp_buffer *taken, size_t n_prefix);

/* After a take that returned FMP_DIRECT: takes that record, without the GIL, right to a bytes object.
 * FMP_AGAIN: it was no longer the first. FMP_PYERR: no memory, or a signal handler raised. */
int fmp_take_bytes(struct fmp_message *m, fmp_try_fn try_once, void *arg);

static inline uint8_t
fmp_message_kind(const struct fmp_message *m)
{
    return fmp_record_kind(m->taken.header);
}

/* Pickles as the stdlib's Connection.send does, for its peers: a bytes-like object. */
PyObject *fmp_pickle(struct fmp_codec *codec, PyObject *object);

#endif
