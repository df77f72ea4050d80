/* py_wait.c - _core.wait(): multiprocessing.connection.wait() as one poll().
 *
 * Takes whatever has a descriptor: connections, sentinels, sockets. For an end of a Pipe the
 * descriptor alone is not believed: the bell of a writer that was killed may ring over nothing
 * (channel/pipe.c), so its ring is looked at. Owns nothing.
 */
#include <stdlib.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "objects/connection_object.h"
#include "platform/clock.h"
#include "platform/poll.h"

#define SEARCHED 16 /* so many descriptors are compared with each other; more are sorted */

struct waiting {
    PyObject *objects; /* a list */
    struct fmp_polled *polled;
    unsigned n;
};

/* --- descriptors ----------------------------------------------------------------------------- */

/* As selectors does. -1 with ValueError, or what fileno() raises. */
static int
descriptor_of(PyObject *object)
{
    PyObject *number = NULL;
    if (PyLong_Check(object)) {
        number = Py_NewRef(object);
    }
    else {
        number = PyObject_CallMethod(object, "fileno", NULL);
        if (number != NULL && !PyLong_Check(number)) {
            Py_SETREF(number, PyNumber_Long(number));
        }
        if (number == NULL
            && (PyErr_ExceptionMatches(PyExc_AttributeError)
                || PyErr_ExceptionMatches(PyExc_TypeError)
                || PyErr_ExceptionMatches(PyExc_ValueError))) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", object);
        }
    }
    if (number == NULL) {
        return -1;
    }
    int fd = -1;
    if (fmp_int(number, &fd) == 0 && fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
        fd = -1;
    }
    Py_DECREF(number);
    return fd;
}

static int
compare(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    return (left > right) - (left < right);
}

/* The index of a descriptor that stands there before, or -1; -2: no memory. */
static int
find_repeated(const struct waiting *w)
{
    int repeated = -1;
    if (w->n <= SEARCHED) {
        for (unsigned i = 1; i < w->n && repeated < 0; i++) {
            for (unsigned j = 0; j < i && repeated < 0; j++) {
                repeated = w->polled[i].fd == w->polled[j].fd ? (int)i : -1;
            }
        }
        return repeated;
    }
    int *sorted = malloc(w->n * sizeof(int));
    if (sorted == NULL) {
        return -2;
    }
    for (unsigned i = 0; i < w->n; i++) {
        sorted[i] = w->polled[i].fd;
    }
    qsort(sorted, w->n, sizeof(int), compare);
    for (unsigned i = 1; i < w->n && repeated < 0; i++) {
        for (unsigned j = w->n; sorted[i] == sorted[i - 1] && repeated < 0; j--) {
            repeated = w->polled[j - 1].fd == sorted[i] ? (int)j - 1 : -1;
        }
    }
    free(sorted);
    return repeated;
}

static int
collect(struct waiting *w)
{
    w->n = (unsigned)PyList_GET_SIZE(w->objects);
    w->polled = calloc(w->n + 1, sizeof(*w->polled));
    if (w->polled == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (unsigned i = 0; i < w->n; i++) {
        int fd = descriptor_of(PyList_GET_ITEM(w->objects, i));
        if (fd < 0) {
            return -1;
        }
        w->polled[i] = (struct fmp_polled){.fd = fd, .events = FMP_POLL_IN};
    }
    int repeated = find_repeated(w);
    if (repeated == -2) {
        PyErr_NoMemory();
    }
    else if (repeated >= 0) {
        PyObject *text =
            PyUnicode_FromFormat("%R (FD %d) is already registered",
                                 PyList_GET_ITEM(w->objects, repeated), w->polled[repeated].fd);
        PyErr_SetObject(PyExc_KeyError, text);
        Py_XDECREF(text);
    }
    return repeated == -1 ? 0 : -1;
}

/* --- waiting --------------------------------------------------------------------------------- */

static int
try_wait(void *arg, struct fmp_wait *wait)
{
    struct waiting *w = arg;
    int rc = fmp_poll_many(w->polled, w->n, 0);
    if (rc == FMP_TIMEOUT || rc < 0) {
        fmp_wait_on_many(wait, w->polled, w->n);
        return rc < 0 ? rc : FMP_AGAIN;
    }
    return FMP_OK;
}

/* 1: something can be received, 0: nothing, -1: exception. */
static int
is_ready(PyTypeObject *connection, PyObject *object)
{
    FMP_CRITICAL(object);
    if (!PyObject_TypeCheck(object, connection)) {
        return 1;
    }
    FmpConnection *conn = (FmpConnection *)object;
    if (!conn->open || !conn->readable || conn->pipe.in == NULL) {
        return 1;
    }
    int rc = fmp_connection_poll(conn, 0);
    if (rc != FMP_OK && rc != FMP_TIMEOUT) {
        fmp_connection_raise(conn, rc, "wait for a connection");
        return -1;
    }
    return rc == FMP_OK;
}

static PyObject *
choose_ready(const struct waiting *w, PyTypeObject *connection)
{
    PyObject *ready = PyList_New(0);
    for (unsigned i = 0; ready != NULL && i < w->n; i++) {
        PyObject *object = PyList_GET_ITEM(w->objects, i);
        int yes = w->polled[i].revents != 0 ? is_ready(connection, object) : 0;
        if (yes < 0 || (yes > 0 && PyList_Append(ready, object) < 0)) {
            Py_CLEAR(ready);
        }
    }
    return ready;
}

static PyObject *
wait_for(struct waiting *w, PyTypeObject *connection, int64_t deadline)
{
    for (;;) {
        struct fmp_waiter waiter = {.try_once = try_wait, .arg = w, .deadline = deadline};
        int rc = fmp_wait_for(&waiter);
        if (rc == FMP_TIMEOUT) {
            return PyList_New(0);
        }
        if (rc != FMP_OK) {
            return fmp_raise(rc, "wait for connections");
        }
        PyObject *ready = choose_ready(w, connection);
        if (ready == NULL || PyList_GET_SIZE(ready) > 0) {
            return ready;
        }
        Py_DECREF(ready);
    }
}

PyObject *
fmp_connection_wait(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    static const char *const names[] = {"object_list", "timeout"};
    PyObject *given[2] = {NULL, NULL};
    int64_t deadline;
    if (fmp_args("wait", args, n_args, kwnames, names, 2, 1, 2, given) < 0
        || fmp_deadline(NULL, given[1], &deadline) < 0) {
        return NULL;
    }
    struct waiting w = {.objects = PySequence_List(given[0])};
    PyObject *ready = NULL;
    if (w.objects != NULL && collect(&w) == 0) {
        ready = wait_for(&w, fmp_state_of(module)->connection, deadline);
    }
    free(w.polled);
    Py_XDECREF(w.objects);
    return ready;
}
