/* py_popen.c - _core.Popen: the handle on a started process, behind the stdlib's Popen interface.
 *
 * The launcher (_fork() here, or Python: fastmp/launch_*.py) writes `pid`, `sentinel`, `pidfd` and
 * `_is_served` once. Descriptors that _fork() opened are closed by close() or with the handle, those
 * of the other launchers by their util.Finalize. `returncode` and `ended` are written with the GIL,
 * by whoever collects the exit status; sleepers read `ended` without it. Nothing is shared: after
 * fork the copy in the child stands for a sibling, of which it learns nothing but whom it may still
 * signal, and it leaves the descriptors alone.
 *
 * The exit status is looked at without the GIL but taken with it, so two threads that wait for one
 * process both get its exit code: the kernel gives it once, and it is stored before the next one
 * asks.
 */
#include <Python.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

#include "base/status.h"
#include "bridge/args.h"
#include "bridge/critical.h"
#include "bridge/errors.h"
#include "bridge/wait.h"
#include "module.h"
#include "objects/child.h"
#include "platform/clock.h"
#include "platform/fd.h"
#include "platform/pidfd.h"
#include "platform/poll.h"
#include "platform/process.h"

#define SIGNAL_INTERRUPT 2
#define SIGNAL_KILL 9
#define SIGNAL_TERMINATE 15
#define NO_EXIT_CODE 255 /* the fork server died and cannot tell it */

typedef struct {
    PyObject_HEAD
    int pid;             /* 0 before the launch */
    int sentinel;        /* readable once the process has ended; -1 before the launch */
    int pidfd;           /* often the sentinel; -1: the kernel has none */
    int lifeline;        /* the child watches its other end when there are no pidfds; else -1 */
    bool is_owner;       /* of sentinel and lifeline */
    char is_served;      /* a fork server's child: the exit code comes through the sentinel */
    uint32_t generation; /* of forks, when this was made */
    int returncode;      /* once ended */
    fmp_a32 ended;
    fmp_a32 sleepers; /* on `ended` */
} PopenObject;

/* --- waiting -------------------------------------------------------------------------------- */

static int
is_over(const PopenObject *self)
{
    int exitcode;
    if (self->is_served) {
        int events = fmp_poll_now(self->sentinel, FMP_POLL_IN);
        return events < 0 ? events : events > 0 ? FMP_OK : FMP_AGAIN;
    }
    int rc = fmp_child_status(self->pid, self->pidfd, false, &exitcode);
    /* Not ours to wait for, or not any more: there is nothing to wait for. */
    return rc == -ECHILD ? FMP_OK : rc;
}

static int
try_end(void *arg, struct fmp_wait *w)
{
    PopenObject *self = arg;
    if (atomic_load(&self->ended)) {
        return FMP_OK;
    }
    int rc = is_over(self);
    if (rc != FMP_AGAIN) {
        return rc < 0 && atomic_load(&self->ended) ? FMP_OK : rc; /* closed meanwhile */
    }
    if (self->sentinel >= 0 && fmp_poll_now(self->sentinel, FMP_POLL_IN) == 0) {
        fmp_wait_on_fd(w, self->sentinel, FMP_POLL_IN);
    }
    else {
        /* Readable before its time: a pipe whose end the process closed, or a process held by a
         * debugger while it exits. Ticks will do. */
        fmp_wait_on_word(w, &self->ended, 0, &self->sleepers);
    }
    return FMP_AGAIN;
}

/* With the GIL: takes the exit status if there is one. FMP_OK: returncode is known. */
static int
collect(PopenObject *self)
{
    if (atomic_load(&self->ended)) {
        return FMP_OK;
    }
    int rc, exitcode = NO_EXIT_CODE;
    if (!self->is_served) {
        rc = fmp_child_status(self->pid, self->pidfd, true, &exitcode);
    }
    else if (self->generation != fmp_fork_generation()) {
        return FMP_AGAIN; /* the pipe is shared with our parent, and the news in it is for him */
    }
    else {
        rc = is_over(self);
        int64_t number;
        if (rc == FMP_OK && fmp_read_number(self->sentinel, &number) == FMP_OK) {
            exitcode = (int)number;
        }
    }
    if (rc != FMP_OK) {
        return FMP_AGAIN;
    }
    self->returncode = exitcode;
    atomic_store(&self->ended, 1);
    return FMP_OK;
}

static PyObject *
popen_get_returncode(PopenObject *self, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    if (!atomic_load(&self->ended)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(self->returncode);
}

static int
popen_set_returncode(PopenObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    FMP_CRITICAL(self);
    int code = 0;
    if (value != NULL && value != Py_None && fmp_int(value, &code) < 0) {
        return -1;
    }
    self->returncode = code;
    atomic_store(&self->ended, value != NULL && value != Py_None);
    return 0;
}

static PyObject *
wait_until(PopenObject *self, int64_t deadline)
{
    struct fmp_waiter waiter = {.try_once = try_end, .arg = self, .deadline = deadline};
    int rc = fmp_wait_for(&waiter);
    if (rc == FMP_OK) {
        (void)collect(self); /* nothing to collect: somebody else has waited for it */
    }
    else if (rc != FMP_TIMEOUT) {
        return fmp_raise(rc, "wait for a process");
    }
    return popen_get_returncode(self, NULL);
}

static PyObject *
popen_wait(PopenObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    int64_t deadline;
    if (fmp_args("wait", args, n_args, kwnames, names, 1, 0, 1, &timeout) < 0
        || fmp_deadline(NULL, timeout, &deadline) < 0) {
        return NULL;
    }
    return wait_until(self, deadline);
}

static PyObject *
popen_poll(PopenObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    FMP_CRITICAL(self);
    static const char *const names[] = {"flag"};
    PyObject *flag = NULL;
    if (fmp_args("poll", args, n_args, kwnames, names, 1, 0, 1, &flag) < 0) {
        return NULL;
    }
    int no_hang = flag == NULL ? 1 : PyObject_IsTrue(flag);
    if (no_hang < 0) {
        return NULL;
    }
    if (!no_hang) {
        return wait_until(self, FMP_NEVER);
    }
    (void)collect(self);
    return popen_get_returncode(self, NULL);
}

/* --- signals -------------------------------------------------------------------------------- */

/* Whether the pid may have been given to another process, because ours has been waited for. */
static bool
is_stale(const PopenObject *self)
{
    int exitcode;
    if (self->generation != fmp_fork_generation()) {
        return false; /* not ours to know */
    }
    if (self->is_served) { /* a number is there; at a mere end of file only the server has ended */
        int events = fmp_poll_now(self->sentinel, FMP_POLL_IN);
        return events > 0 && (events & FMP_POLL_IN) != 0;
    }
    return fmp_child_status(self->pid, -1, false, &exitcode) == -ECHILD;
}

/* FMP_OK, also when the process has ended; -errno. */
static int
deliver(PopenObject *self, int number)
{
    if (self->pidfd >= 0) {
        int rc = fmp_pidfd_signal(self->pidfd, number);
        if (rc != -ENOSYS && rc != -EPERM) {
            return rc == -ESRCH ? FMP_OK : rc;
        }
    }
    if (is_stale(self)) {
        return FMP_OK;
    }
    int rc = fmp_pid_signal(self->pid, number);
    return rc == -ESRCH ? FMP_OK : rc;
}

static PyObject *
send_signal(PopenObject *self, int number)
{
    FMP_CRITICAL(self);
    if (self->pid <= 0) {
        PyErr_SetString(PyExc_AttributeError, "pid");
        return NULL;
    }
    if (atomic_load(&self->ended)) {
        Py_RETURN_NONE;
    }
    int rc = deliver(self, number);
    if (rc == FMP_OK) {
        Py_RETURN_NONE;
    }
    /* Not allowed to: fine if it is ending anyway, as the stdlib has it. */
    PyObject *ended = wait_until(self, fmp_now() + FMP_SECOND / 10);
    if (ended == Py_None) {
        Py_DECREF(ended);
        return fmp_raise(rc, "send a signal to a process");
    }
    Py_XDECREF(ended);
    return ended != NULL ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
popen_send_signal(PopenObject *self, PyObject *number)
{
    int value;
    if (fmp_int(number, &value) < 0) {
        return NULL;
    }
    return send_signal(self, value);
}

static PyObject *
popen_interrupt(PopenObject *self, PyObject *Py_UNUSED(ignored))
{
    return send_signal(self, SIGNAL_INTERRUPT);
}

static PyObject *
popen_terminate(PopenObject *self, PyObject *Py_UNUSED(ignored))
{
    return send_signal(self, SIGNAL_TERMINATE);
}

static PyObject *
popen_kill(PopenObject *self, PyObject *Py_UNUSED(ignored))
{
    return send_signal(self, SIGNAL_KILL);
}

/* --- fork ----------------------------------------------------------------------------------- */

/* The descriptors through which parent and child learn of each other's end, opened before the fork.
 * With pidfds there is only `parent`; the child's can be opened once there is a child. */
struct ends {
    int parent;   /* for the child: readable when the parent ends */
    int lifeline; /* for the parent: the other end of `parent`, a pipe */
    int child;    /* for the parent: readable when the child ends, a pipe */
    int held;     /* for the child: the other end of `child` */
};

static int
open_ends(struct ends *ends)
{
    *ends = (struct ends){fmp_pidfd_of_self(), -1, -1, -1};
    if (ends->parent != -ENOSYS) {
        return ends->parent >= 0 ? FMP_OK : ends->parent;
    }
    int up[2], down[2];
    int rc = fmp_pipe_open(up);
    if (rc != FMP_OK) {
        return rc;
    }
    rc = fmp_pipe_open(down);
    if (rc != FMP_OK) {
        fmp_close(&up[0]);
        fmp_close(&up[1]);
        return rc;
    }
    *ends = (struct ends){down[0], down[1], up[0], up[1]};
    return FMP_OK;
}

static void
close_ends(struct ends *ends)
{
    fmp_close(&ends->parent);
    fmp_close(&ends->lifeline);
    fmp_close(&ends->child);
    fmp_close(&ends->held);
}

/* In the parent, of a child that runs. */
static int
watch_child(PopenObject *self, struct ends *ends)
{
    self->is_owner = true;
    self->sentinel = ends->child;
    self->lifeline = ends->lifeline;
    fmp_close(&ends->parent);
    fmp_close(&ends->held);
    if (self->sentinel >= 0) {
        return FMP_OK;
    }
    int fd = fmp_pidfd_open(self->pid);
    if (fd == -ESRCH) {
        /* It has ended and was waited for: SIGCHLD is ignored, or has such a handler. */
        int over[2];
        int rc = fmp_pipe_open(over);
        if (rc != FMP_OK) {
            return rc;
        }
        fmp_close(&over[1]);
        self->sentinel = over[0];
        return FMP_OK;
    }
    if (fd < 0) {
        return fd;
    }
    self->sentinel = self->pidfd = fd;
    return FMP_OK;
}

static PyObject *
popen_fork(PopenObject *self, PyTypeObject *base, PyObject *const *args, Py_ssize_t n_args,
           PyObject *kwnames)
{
    struct ends ends;
    if (n_args != 4 || kwnames != NULL || !fmp_child_check(PyType_GetModuleState(base), args[1])) {
        PyErr_SetString(PyExc_TypeError, "_fork(os_fork, child, process, known)");
        return NULL;
    }
    int rc = open_ends(&ends);
    if (rc != FMP_OK) {
        return fmp_raise(rc, "start a process");
    }
    PyObject *result = PyObject_CallNoArgs(args[0]);
    int pid = -1;
    if (result == NULL && fmp_fork_generation() != self->generation) {
        PyErr_WriteUnraisable(args[2]); /* the child must not go on in its parent's code */
        fmp_process_leave(1);
    }
    if (result == NULL || fmp_int(result, &pid) < 0 || pid < 0) {
        close_ends(&ends);
        Py_XDECREF(result);
        return PyErr_Occurred() ? NULL : fmp_raise(-EINVAL, "start a process");
    }
    if (pid == 0) {
        fmp_close(&ends.child);
        fmp_close(&ends.lifeline);
        self->sentinel = ends.parent;
        fmp_child_run(args[1], args[2], ends.parent, args[3]);
    }
    self->pid = pid;
    rc = watch_child(self, &ends);
    if (rc != FMP_OK) {
        /* No descriptor left to watch it with: it must not run unwatched. */
        Py_DECREF(result);
        (void)fmp_pid_signal(self->pid, SIGNAL_KILL);
        Py_XDECREF(wait_until(self, FMP_NEVER));
        return PyErr_Occurred() ? NULL : fmp_raise(rc, "start a process");
    }
    return result;
}

static void
close_owned(PopenObject *self)
{
    if (!self->is_owner || self->generation != fmp_fork_generation()) {
        return;
    }
    self->is_owner = false;
    self->pidfd = -1; /* is the sentinel, or -1 already */
    fmp_close(&self->sentinel);
    fmp_close(&self->lifeline);
}

static PyObject *
popen_close(PopenObject *self, PyObject *Py_UNUSED(ignored))
{
    FMP_CRITICAL(self);
    close_owned(self);
    Py_RETURN_NONE;
}

/* --- the type ------------------------------------------------------------------------------- */

static PyObject *
popen_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PopenObject *self = (PopenObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->sentinel = self->pidfd = self->lifeline = -1;
        self->generation = fmp_fork_generation();
    }
    return (PyObject *)self;
}

static void
popen_dealloc(PopenObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    close_owned(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef popen_methods[] = {
    {"poll", (PyCFunction)(void (*)(void))popen_poll, METH_FASTCALL | METH_KEYWORDS,
     "poll($self, /, flag=1)\n--\n\n"
     "The exit code, or None while it is not known; with a flag of 0, wait for it."},
    {"wait", (PyCFunction)(void (*)(void))popen_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until the process ends, `timeout` seconds at most; the exit code, or None."},
    {"_send_signal", (PyCFunction)popen_send_signal, METH_O,
     "_send_signal($self, sig, /)\n--\n\nSend a signal, unless the process has ended."},
    {"interrupt", (PyCFunction)popen_interrupt, METH_NOARGS,
     "interrupt($self, /)\n--\n\nSend SIGINT."},
    {"terminate", (PyCFunction)popen_terminate, METH_NOARGS,
     "terminate($self, /)\n--\n\nSend SIGTERM."},
    {"kill", (PyCFunction)popen_kill, METH_NOARGS, "kill($self, /)\n--\n\nSend SIGKILL."},
    {"_fork", (PyCFunction)(void (*)(void))popen_fork, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "_fork($self, os_fork, child, process, known, /)\n--\n\n"
     "Call os.fork() and watch the child, which runs the process object and exits."},
    {"_close", (PyCFunction)popen_close, METH_NOARGS,
     "_close($self, /)\n--\n\nClose the descriptors that _fork() has opened."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef popen_getset[] = {
    {"returncode", (getter)popen_get_returncode, (setter)popen_set_returncode,
     "The exit code, once it was asked for after the end; None before.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef popen_members[] = {
    {"pid", T_INT, offsetof(PopenObject, pid), 0, "The process; 0 before the launch."},
    {"sentinel", T_INT, offsetof(PopenObject, sentinel), 0,
     "A descriptor that is readable once the process has ended."},
    {"pidfd", T_INT, offsetof(PopenObject, pidfd), 0,
     "A descriptor that stands for the process, or -1."},
    {"_is_served", T_BOOL, offsetof(PopenObject, is_served), 0,
     "A fork server's child: the exit code is read from the sentinel."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot popen_slots[] = {
    {Py_tp_doc, "A started process: its exit code, waiting for it, signals."},
    {Py_tp_new, popen_new},
    {Py_tp_dealloc, popen_dealloc},
    {Py_tp_methods, popen_methods},
    {Py_tp_getset, popen_getset},
    {Py_tp_members, popen_members},
    {0, NULL},
};

static PyType_Spec popen_spec = {
    .name = "fastmp._core.Popen",
    .basicsize = sizeof(PopenObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = popen_slots,
};

static PyObject *
open_pidfd(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int pid;
    if (fmp_int(arg, &pid) < 0) {
        return NULL;
    }
    int fd = fmp_pidfd_open(pid);
    if (fd == -ENOSYS || fd == -ESRCH) {
        Py_RETURN_NONE;
    }
    return fd >= 0 ? PyLong_FromLong(fd) : fmp_raise(fd, "open a process");
}

static PyMethodDef functions[] = {
    {"pidfd_open", open_pidfd, METH_O,
     "pidfd_open($module, pid, /)\n--\n\n"
     "A descriptor for the process; None when it is gone, or the kernel has no such thing."},
    {NULL, NULL, 0, NULL},
};

int
fmp_add_popen(PyObject *module)
{
    PyTypeObject *type = fmp_add_type(module, &popen_spec, NULL);
    Py_XDECREF(type);
    return type != NULL ? PyModule_AddFunctions(module, functions) : -1;
}
