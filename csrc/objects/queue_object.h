/* queue_object.h - the struct behind _core.Queue and _core.SimpleQueue, and what they share. */
#ifndef FMP_OBJECTS_QUEUE_OBJECT_H
#define FMP_OBJECTS_QUEUE_OBJECT_H

#include <Python.h>
#include <stdbool.h>

#include "bridge/wait.h"
#include "channel/mailbox.h"
#include "module.h"

/* Records that were taken in bulk behind one that could not be decoded: handed out before anything
 * else, in this process only (a child of a fork has no right to them). */
struct fmp_stash {
    uint8_t *data;
    size_t size;
    size_t offset;  /* of the next record */
    uint32_t items; /* from there on */
    uint32_t generation;
};

typedef struct {
    PyObject_HEAD
    struct fmp_state *state;
    struct fmp_mailbox mailbox;
    struct fmp_spin spin;
    struct fmp_stash stash;
    _Atomic bool closed; /* by close(): this process is done with it */
    /* by put(): then a closed queue does not tell whether it is empty, as the stdlib's */
    _Atomic bool used;
    bool strict; /* put() raises what pickling raises */
} FmpQueue;

#define FMP_QUEUE_STACK 512 /* records of this size need no heap */

/* tp_new: (maxsize,) makes a new mailbox, ((fd, fd),) attaches to what _share() gave; tp_dealloc. */
PyObject *fmp_queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
void fmp_queue_dealloc(FmpQueue *self);

/* -1 with ValueError when it is closed. */
int fmp_queue_check_open(FmpQueue *self);

/* Puts the batch before the deadline. 0; -1 with Full or another exception. */
int fmp_queue_put_batch(FmpQueue *self, const struct fmp_batch *batch, int64_t deadline);

/* Takes and decodes one object; NULL with Empty or another exception. */
PyObject *fmp_queue_get_one(FmpQueue *self, int64_t deadline);

/* Takes up to max_items records into `out` (initialised). 0, or -1 with Empty or another. */
int fmp_queue_take(FmpQueue *self, uint32_t max_items, struct fmp_buffer *out, int64_t deadline);

/* An object could not be pickled: gives the exception that is set to _on_queue_feeder_error, as
 * the stdlib's feeder thread does, or leaves it set when the queue is strict or it is no
 * Exception. 0, or -1 with an exception. */
int fmp_queue_report(FmpQueue *self, PyObject *object);

/* py_queue_bulk.c */
PyObject *fmp_queue_put_many(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args,
                             PyObject *kwnames);
PyObject *fmp_queue_get_many(FmpQueue *self, PyObject *const *args, Py_ssize_t n_args,
                             PyObject *kwnames);
/* How many objects this process has stashed. */
uint32_t fmp_queue_stashed(FmpQueue *self);
/* The next stashed object, or NULL: with an exception, or without one when there is none. */
PyObject *fmp_queue_unstash(FmpQueue *self);

#endif
