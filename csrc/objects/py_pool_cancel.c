/* py_pool_cancel.c - methods of _core.TaskBoard that end a job before its results are there.
 *
 * cancel() sees to it that no worker begins a task of the job any more, and names the workers that
 * are in one. Crew.cancel() in fastmp/_workers.py then decides: the job fails and these workers are
 * killed, or, when their results have come meanwhile, they are spared. See channel/taskboard.h for
 * why a kill can hit no other task.
 */
#include "objects/pool.h"

#include "base/status.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "platform/clock.h"

struct cancelling {
    FmpBoard *board;
    uint32_t job;
};

static int
try_cancel(void *arg, struct fmp_wait *w)
{
    struct cancelling *c = arg;
    return fmp_taskboard_cancel(&c->board->board, c->job, w);
}

/* The slots of those who are doomed for the job and hold a task of it; the others are spared. */
static PyObject *
condemned(FmpBoard *self, uint32_t job)
{
    PyObject *slots = PyList_New(0);
    for (uint32_t i = 0; slots != NULL && i < self->board.n_workers; i++) {
        if (!fmp_taskboard_condemned(&self->board, i, job)) {
            fmp_taskboard_spare(&self->board, i, job);
            continue;
        }
        PyObject *slot = PyLong_FromUnsignedLong(i);
        if (slot == NULL || PyList_Append(slots, slot) < 0) {
            Py_CLEAR(slots);
        }
        Py_XDECREF(slot);
    }
    return slots;
}

static void
spare_all(FmpBoard *self, uint32_t job)
{
    for (uint32_t i = 0; i < self->board.n_workers; i++) {
        fmp_taskboard_spare(&self->board, i, job);
    }
}

PyObject *
fmp_board_cancel(FmpBoard *self, PyObject *object)
{
    FMP_CRITICAL(self->state->pool_gate);
    FmpJob *job = fmp_pool_job_argument(self, object);
    if (job == NULL) {
        return NULL;
    }
    if (job->complete) {
        Py_RETURN_NONE;
    }
    fmp_job_end_feed(job);
    struct cancelling c = {self, job->number};
    int rc = fmp_run_unlocked(try_cancel, &c);
    PyObject *slots = rc == FMP_OK ? condemned(self, c.job) : NULL;
    if (slots == NULL) {
        spare_all(self, c.job);
    }
    return rc == FMP_OK || rc == FMP_PYERR ? slots : fmp_raise(rc, "cancel a task of a pool");
}

PyObject *
fmp_board_spare(FmpBoard *self, PyObject *object)
{
    FMP_CRITICAL(self->state->pool_gate);
    FmpJob *job = fmp_pool_job_argument(self, object);
    if (job == NULL) {
        return NULL;
    }
    spare_all(self, job->number);
    Py_RETURN_NONE;
}

PyObject *
fmp_board_fail_job(FmpBoard *self, PyObject *const *args, Py_ssize_t n_args)
{
    FMP_CRITICAL(self->state->pool_gate);
    if (n_args != 2 || !PyExceptionInstance_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "fail_job(result, exception)");
        return NULL;
    }
    FmpJob *job = fmp_pool_job_argument(self, args[0]);
    if (job == NULL || fmp_pool_drain(self) < 0) {
        return NULL;
    }
    if (job->complete) {
        Py_RETURN_FALSE;
    }
    fmp_job_fail(job, args[1]);
    Py_RETURN_TRUE;
}

PyObject *
fmp_board_running(FmpBoard *self, PyObject *object)
{
    FMP_CRITICAL(self->state->pool_gate);
    FmpJob *job = fmp_pool_job_argument(self, object);
    if (job == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < self->board.n_workers; i++) {
        int64_t began = fmp_taskboard_began(&self->board, i, job->number);
        if (began != 0) {
            return PyFloat_FromDouble((double)(fmp_now() - began) / 1e9);
        }
    }
    Py_RETURN_NONE;
}
