/* ring.c - fastmp's queue without Python: what its C floors alone take for a message.
 *
 * Between this and a Queue's figures lie the interpreter's loop, a call, and the codec. The
 * receivers wait as the first floor with Python does, but always spin or always sleep.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "channel/mailbox.h"
#include "players.h"
#include "sync/eventcount.h"

#define FOREVER INT64_C(1000000000000000)

struct table {
    struct fmp_mailbox there, back;
    bool spin;
};

static bool
put_number(struct fmp_mailbox *box, uint64_t number)
{
    uint64_t record[2] = {fmp_record_header(sizeof(number), 1), number};
    struct fmp_part part = {record, sizeof(record)};
    struct fmp_batch batch = {.parts = &part, .n_parts = 1, .bytes = sizeof(record), .items = 1};
    struct fmp_wait w = {.budget_ns = FOREVER, .fd = -1};
    int rc;
    do {
        rc = fmp_mailbox_put(box, &batch, &w);
    } while (rc == FMP_AGAIN);
    return rc == FMP_OK;
}

static bool
take_number(struct fmp_mailbox *box, bool spin, uint64_t *number)
{
    uint64_t record[2];
    struct fmp_buffer out;
    fmp_buffer_init(&out, record, sizeof(record));
    struct fmp_wait w = {.budget_ns = FOREVER, .fd = -1};
    int rc;
    while ((rc = fmp_mailbox_take(box, 1, &out, NULL, &w)) == FMP_AGAIN) {
        if (spin) {
            while (w.word != NULL && !fmp_wait_changed(&w)) {
                fmp_pause();
            }
        }
        else {
            fmp_wait_sleep(&w, FMP_TICK_NS);
        }
        w.budget_ns = FOREVER;
    }
    *number = record[1];
    return rc == FMP_OK && out.size == sizeof(record);
}

static long
echo(void *arg, long n)
{
    struct table *table = arg;
    uint64_t number;
    for (long i = 0; i < n; i++) {
        if (!take_number(&table->there, table->spin, &number)
            || !put_number(&table->back, number)) {
            return i;
        }
    }
    return n;
}

static long
there_and_back(void *arg, long n)
{
    struct table *table = arg;
    for (long i = 0; i < n; i++) {
        uint64_t number = 0;
        if (!put_number(&table->there, (uint64_t)i)
            || !take_number(&table->back, table->spin, &number) || number != (uint64_t)i) {
            return i;
        }
    }
    return n;
}

static PyObject *
at_table(limits_player child, limits_player parent, long n, bool spin)
{
    struct table table = {.spin = spin};
    if (fmp_mailbox_create(&table.there, 0) != FMP_OK) {
        return PyErr_NoMemory();
    }
    if (fmp_mailbox_create(&table.back, 0) != FMP_OK) {
        fmp_mailbox_close(&table.there);
        return PyErr_NoMemory();
    }
    PyObject *seconds = limits_with_child(child, parent, &table, n);
    fmp_mailbox_close(&table.there);
    fmp_mailbox_close(&table.back);
    return seconds;
}

PyObject *
limits_ring_round_trips(PyObject *Py_UNUSED(module), PyObject *args)
{
    long n;
    int spin;
    if (!PyArg_ParseTuple(args, "lp:ring_round_trips", &n, &spin)) {
        return NULL;
    }
    return at_table(echo, there_and_back, n, spin != 0);
}

/* One way: the receiver takes all of a call's numbers and answers once. */
static long
receive(void *arg, long n)
{
    struct table *table = arg;
    uint64_t number = 0;
    for (long i = 0; i < n; i++) {
        if (!take_number(&table->there, table->spin, &number)) {
            return i;
        }
        if (number == UINT64_MAX && !put_number(&table->back, number)) {
            return i;
        }
    }
    return n;
}

static long
send_all(void *arg, long n)
{
    struct table *table = arg;
    uint64_t answer;
    for (long i = 0; i < n; i++) {
        if (!put_number(&table->there, i == n - 1 ? UINT64_MAX : (uint64_t)i)) {
            return i;
        }
    }
    return take_number(&table->back, table->spin, &answer) && answer == UINT64_MAX ? n : 0;
}

PyObject *
limits_ring_messages(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long n = limits_count(arg);
    return n < 0 ? NULL : at_table(receive, send_all, n, true);
}
