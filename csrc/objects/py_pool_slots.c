/* py_pool_slots.c - methods of _core.TaskBoard for the slots of workers: hired, entered, buried.
 *
 * The parent hires a slot before it starts a worker and vacates it after the worker's end; in
 * between the slot is the worker's. See channel/taskboard.h for who writes what.
 */
#include "objects/pool.h"

#include "base/status.h"
#include "bridge/critical.h"
#include "bridge/errors.h"

int
fmp_pool_slot_argument(FmpBoard *self, PyObject *number, uint32_t *slot)
{
    unsigned long value = PyLong_AsUnsignedLong(number);
    if (value >= self->board.n_workers) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_IndexError, "no such worker");
        }
        return -1;
    }
    *slot = (uint32_t)value;
    return 0;
}

/* A free slot, from now on a new worker's; -1 when there is none. */
PyObject *
fmp_board_hire(FmpBoard *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self->state->pool_gate);
    for (uint32_t i = 0; i < self->board.n_workers; i++) {
        if (fmp_taskboard_state(&self->board, i) == FMP_WORKER_NONE) {
            fmp_taskboard_hire(&self->board, i);
            return PyLong_FromUnsignedLong(i);
        }
    }
    return PyLong_FromLong(-1);
}

PyObject *
fmp_board_hired(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot;
    if (n_args != 2) {
        PyErr_SetString(PyExc_TypeError, "hired(slot, pid)");
        return NULL;
    }
    if (fmp_pool_slot_argument(self, args[0], &slot) < 0) {
        return NULL;
    }
    unsigned long pid = PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    fmp_taskboard_hired(&self->board, slot, (uint32_t)pid);
    Py_RETURN_NONE;
}

PyObject *
fmp_board_vacate(FmpBoard *self, PyObject *number)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot;
    if (fmp_pool_slot_argument(self, number, &slot) < 0) {
        return NULL;
    }
    fmp_taskboard_vacate(&self->board, slot);
    Py_RETURN_NONE;
}

PyObject *
fmp_board_worker_state(FmpBoard *self, PyObject *number)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot;
    if (fmp_pool_slot_argument(self, number, &slot) < 0) {
        return NULL;
    }
    return PyLong_FromLong(fmp_taskboard_state(&self->board, slot));
}

PyObject *
fmp_board_bury(FmpBoard *self, PyObject *number)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot, index;
    bool later;
    if (fmp_pool_slot_argument(self, number, &slot) < 0) {
        return NULL;
    }
    FmpJob *job = fmp_pool_bury(self, slot, &index, &later);
    if (job != NULL) {
        return Py_BuildValue("(NI)", job, (unsigned)index);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    return Py_NewRef(later ? Py_NotImplemented : Py_None);
}

PyObject *
fmp_board_enter(FmpBoard *self, PyObject *number)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot;
    if (fmp_pool_slot_argument(self, number, &slot) < 0) {
        return NULL;
    }
    int rc = fmp_taskboard_enter(&self->board, slot);
    if (rc != FMP_OK) {
        return fmp_raise(rc, "become a worker of a pool");
    }
    Py_RETURN_NONE;
}

PyObject *
fmp_board_ready(FmpBoard *self, PyObject *number)
{
    FMP_CRITICAL(self->state->pool_gate);
    uint32_t slot;
    if (fmp_pool_slot_argument(self, number, &slot) < 0) {
        return NULL;
    }
    fmp_taskboard_set_state(&self->board, slot, FMP_WORKER_READY);
    Py_RETURN_NONE;
}
