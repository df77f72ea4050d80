/* py_pool_items.c - the plain items of a chunk, and an iterator over them for the loop that calls.
 *
 * Items are made as they are asked for, out of the task's record, or of a range of which only the ends
 * have travelled. They are read once.
 *
 * Ints on loan. To make an int and to free it takes a third of the time of a trivial call. So the
 * iterator keeps the last two ints that it gave out, of which the loop's own variable has the later one.
 * When nobody but the iterator has the earlier one any more, nobody can tell whether the next value comes
 * in a new object or in that one, and it is written there. Anybody who has kept it keeps it as it is.
 *
 * An iterator belongs to one call of a worker and is of no use behind it: who got hold of it (through
 * the loop's frame) finds it empty. Owns the two ints.
 */
#include "base/status.h"
#include "bridge/errors.h"
#include "objects/pool.h"

/* --- items ------------------------------------------------------------------------------------- */

bool
fmp_chunk_open(struct fmp_chunk *c, uint8_t kind, const uint8_t *data, size_t size)
{
    struct fmp_range_record range;
    *c = (struct fmp_chunk){.is_range = kind == FMP_TASK_RANGE};
    if (!c->is_range) {
        return kind == FMP_REC_TUPLE && fmp_flat_open(&c->items, data, size, &c->count);
    }
    struct fmp_reader r = {data, size};
    if (!fmp_read(&r, &range, sizeof(range)) || range.count > INT32_MAX) {
        return false;
    }
    c->next = range.first;
    c->step = range.step;
    c->count = (uint32_t)range.count;
    return true;
}

/* The next item, if it is an int. */
static bool
next_int(struct fmp_chunk *c, int64_t *value)
{
    if (!c->is_range) {
        return fmp_read_int_item(&c->items, value);
    }
    *value = c->next;
    c->next = fmp_range_after(c->next, c->step, 1);
    return true;
}

PyObject *
fmp_chunk_next(struct fmp_chunk *c)
{
    int64_t value;
    return next_int(c, &value) ? fmp_int_from(value) : fmp_flat_next(&c->items);
}

/* --- ints on loan ------------------------------------------------------------------------------ */

/* Below are those that the interpreter makes only once, with some to spare. */
#define LEAST_LENT 4096

struct fmp_pool_items {
    PyObject_HEAD
    struct fmp_chunk *chunk; /* the caller's */
    uint32_t left;           /* of the piece */
    unsigned at;             /* which of the two is the earlier */
    PyObject *lent[2];       /* positive ints of one digit; or NULL */
};

#if PY_VERSION_HEX >= 0x030c0000 && !defined(Py_GIL_DISABLED)
/* Without a GIL a count of one thread says nothing, and before 3.12 nobody calls for this. */
static bool
may_be_lent(int64_t value)
{
    return value >= LEAST_LENT && value <= (int64_t)PyLong_MASK;
}

static PyObject *
lend(struct fmp_pool_items *it, int64_t value)
{
    PyObject **mine = &it->lent[it->at];
    it->at ^= 1;
    if (!may_be_lent(value)) {
        return fmp_int_from(value);
    }
    if (*mine != NULL && Py_REFCNT(*mine) == 1) {
        ((PyLongObject *)*mine)->long_value.ob_digit[0] = (digit)value;
    }
    else {
        Py_XSETREF(*mine, fmp_int_from(value));
    }
    return Py_XNewRef(*mine);
}
#else
static PyObject *
lend(struct fmp_pool_items *it, int64_t value)
{
    (void)it;
    return fmp_int_from(value);
}
#endif

/* --- the iterator ------------------------------------------------------------------------------ */

static PyObject *
items_next(PyObject *self)
{
    struct fmp_pool_items *it = (struct fmp_pool_items *)self;
    int64_t value;
    if (it->left == 0) {
        return NULL;
    }
    it->left--;
    return next_int(it->chunk, &value) ? lend(it, value) : fmp_flat_next(&it->chunk->items);
}

static void
items_dealloc(PyObject *self)
{
    struct fmp_pool_items *it = (struct fmp_pool_items *)self;
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(it->lent[0]);
    Py_XDECREF(it->lent[1]);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot items_slots[] = {
    {Py_tp_doc, "The items of a chunk, for the loop that calls a pool's function."},
    {Py_tp_dealloc, items_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, items_next},
    {0, NULL},
};

static PyType_Spec items_spec = {
    .name = "fastmp._core.PoolItems",
    .basicsize = sizeof(struct fmp_pool_items),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = items_slots,
};

struct fmp_pool_items *
fmp_pool_items_new(struct fmp_state *state, struct fmp_chunk *chunk)
{
    struct fmp_pool_items *it = PyObject_New(struct fmp_pool_items, state->pool_items);
    if (it != NULL) {
        it->chunk = chunk;
        it->left = 0;
        it->at = 0;
        it->lent[0] = it->lent[1] = NULL;
    }
    return it;
}

void
fmp_pool_items_allow(struct fmp_pool_items *it, uint32_t n)
{
    it->left = n;
}

int
fmp_add_pool_items(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    state->pool_items = (PyTypeObject *)PyType_FromModuleAndSpec(module, &items_spec, NULL);
    return state->pool_items != NULL ? 0 : -1;
}
