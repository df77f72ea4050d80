/* limits.c - what the machine itself takes: the least that any implementation could cost.
 *
 * A Python extension that limits.py compiles. Each function does something n times and returns the
 * seconds; what it needs a second process for, it forks, and the first round trip, which waits for
 * that process to begin, is not measured. Nothing is shared with a fork but anonymous memory and
 * pipes, so nothing is left behind.
 */
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "players.h"

#define CACHE_LINE 64

/* Two words that two processes pass back and forth, each on a cache line of its own. */
struct court {
    _Alignas(CACHE_LINE) _Atomic uint32_t there;
    _Alignas(CACHE_LINE) _Atomic uint32_t back;
};

double
limits_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void *
limits_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    return p;
}

PyObject *
limits_with_child(limits_player child, limits_player parent, void *arg, long n)
{
    pid_t pid = fork();
    if (pid < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (pid == 0) {
        child(arg, n + 1);
        _exit(0);
    }
    double start = 0, end = 0;
    long right;
    Py_BEGIN_ALLOW_THREADS
    right = parent(arg, 1);
    start = limits_now();
    right += parent(arg, n);
    end = limits_now();
    if (right != n + 1) {
        kill(pid, SIGKILL);
    }
    waitpid(pid, NULL, 0);
    Py_END_ALLOW_THREADS
    if (right != n + 1) {
        return PyErr_Format(PyExc_RuntimeError, "%ld of %ld came out right", right, n + 1);
    }
    return PyFloat_FromDouble(end - start);
}

long
limits_count(PyObject *arg)
{
    long n = PyLong_AsLong(arg);
    if (n < 1 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "at least once");
    }
    return PyErr_Occurred() ? -1 : n;
}

/*
 * A compare-and-swap pair, as a free lock takes it; a type whose methods do nothing
 */

static PyObject *
cas_pairs(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long n = limits_count(arg);
    if (n < 0) {
        return NULL;
    }
    static _Atomic uint64_t word;
    double start = limits_now();
    for (long i = 0; i < n; i++) {
        uint64_t expected = 0;
        atomic_compare_exchange_strong(&word, &expected, 1);
        expected = 1;
        atomic_compare_exchange_strong(&word, &expected, 0);
    }
    return PyFloat_FromDouble(limits_now() - start);
}

static PyObject *
empty_acquire(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n),
              PyObject *Py_UNUSED(names))
{
    Py_RETURN_TRUE;
}

static PyObject *
empty_release(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

static PyObject *
empty_exit(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    Py_RETURN_NONE;
}

static PyMethodDef empty_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))empty_acquire, METH_FASTCALL | METH_KEYWORDS,
     "Nothing, taking arguments as a lock does."},
    {"release", empty_release, METH_NOARGS, "Nothing."},
    {"__enter__", empty_release, METH_NOARGS, "Nothing."},
    {"__exit__", (PyCFunction)(void (*)(void))empty_exit, METH_FASTCALL, "Nothing."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot empty_slots[] = {
    {Py_tp_doc, "A lock that locks nothing: what two calls of C methods cost."},
    {Py_tp_methods, empty_methods},
    {0, NULL},
};

static PyType_Spec empty_spec = {
    .name = "limits.Empty",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = empty_slots,
};

/*
 * Ints in a C struct: what Python's way to them costs at the least
 */

#define ITEMS 1000

struct field {
    PyObject_HEAD
    int value;
    int items[ITEMS];
};

static int
field_store(PyObject *self, PyObject *key, PyObject *value)
{
    Py_ssize_t i = PyLong_AsSsize_t(key);
    long number = value != NULL ? PyLong_AsLong(value) : 0;
    if (i < 0 || i >= ITEMS || (number == -1 && PyErr_Occurred())) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_IndexError, "out of range");
        }
        return -1;
    }
    ((struct field *)self)->items[i] = (int)number;
    return 0;
}

static PyObject *
field_load(PyObject *self, Py_ssize_t i)
{
    if (i < 0 || i >= ITEMS) {
        PyErr_SetString(PyExc_IndexError, "out of range");
        return NULL;
    }
    return PyLong_FromLong(((struct field *)self)->items[i]);
}

/* Whatever the attribute's name: it has one. */
static PyObject *
field_get(PyObject *self, PyObject *Py_UNUSED(name))
{
    return PyLong_FromLong(((struct field *)self)->value);
}

static int
field_set(PyObject *self, PyObject *Py_UNUSED(name), PyObject *value)
{
    long number = value != NULL ? PyLong_AsLong(value) : 0;
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    ((struct field *)self)->value = (int)number;
    return 0;
}

static PyType_Slot field_slots[] = {
    {Py_tp_doc, "A value and an array that are shared with nobody."},
    {Py_tp_getattro, field_get},
    {Py_tp_setattro, field_set},
    {Py_mp_ass_subscript, field_store},
    {Py_sq_item, field_load},
    {0, NULL},
};

static PyType_Spec field_spec = {
    .name = "limits.Field",
    .basicsize = sizeof(struct field),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = field_slots,
};

static PyObject *
int_lists(PyObject *Py_UNUSED(self), PyObject *args)
{
    long first, length, n;
    if (!PyArg_ParseTuple(args, "lll", &first, &length, &n)) {
        return NULL;
    }
    double start = limits_now();
    for (long i = 0; i < n; i++) {
        PyObject *list = PyList_New(length);
        for (long j = 0; list != NULL && j < length; j++) {
            PyList_SET_ITEM(list, j, PyLong_FromLong(first + j));
        }
        Py_XDECREF(list);
    }
    return PyFloat_FromDouble(limits_now() - start);
}

/*
 * Round trips: a cache line, a futex, a pipe
 */

static void
spin_until(_Atomic uint32_t *word, uint32_t value)
{
    while (atomic_load_explicit(word, memory_order_acquire) != value) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

static long
line_parent(void *arg, long n)
{
    struct court *court = arg;
    uint32_t at = atomic_load(&court->there);
    for (long i = 0; i < n; i++) {
        at++;
        atomic_store_explicit(&court->there, at, memory_order_release);
        spin_until(&court->back, at);
    }
    return n;
}

static long
line_child(void *arg, long n)
{
    struct court *court = arg;
    for (uint32_t at = 1; at <= (uint32_t)n; at++) {
        spin_until(&court->there, at);
        atomic_store_explicit(&court->back, at, memory_order_release);
    }
    return n;
}

static void
sleep_until(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t seen;
    while ((seen = atomic_load(word)) != value) {
        syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
    }
}

static void
store_and_wake(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static long
futex_parent(void *arg, long n)
{
    struct court *court = arg;
    uint32_t at = atomic_load(&court->there);
    for (long i = 0; i < n; i++) {
        at++;
        store_and_wake(&court->there, at);
        sleep_until(&court->back, at);
    }
    return n;
}

static long
futex_child(void *arg, long n)
{
    struct court *court = arg;
    for (uint32_t at = 1; at <= (uint32_t)n; at++) {
        sleep_until(&court->there, at);
        store_and_wake(&court->back, at);
    }
    return n;
}

static PyObject *
in_court(PyObject *arg, limits_player child, limits_player parent)
{
    long n = limits_count(arg);
    if (n < 0) {
        return NULL;
    }
    struct court *court = limits_shared(sizeof(*court));
    if (court == NULL) {
        return NULL;
    }
    PyObject *seconds = limits_with_child(child, parent, court, n);
    munmap(court, sizeof(*court));
    return seconds;
}

static PyObject *
line_round_trips(PyObject *Py_UNUSED(module), PyObject *arg)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) < 2) {
        PyErr_SetString(PyExc_RuntimeError, "two that spin need two processors");
        return NULL;
    }
    return in_court(arg, line_child, line_parent);
}

static PyObject *
futex_round_trips(PyObject *Py_UNUSED(module), PyObject *arg)
{
    return in_court(arg, futex_child, futex_parent);
}

struct pipes {
    int there[2], back[2];
};

static void
pass_byte(int from, int to)
{
    char byte = 0;
    while (read(from, &byte, 1) < 0 && errno == EINTR) {
    }
    while (write(to, &byte, 1) < 0 && errno == EINTR) {
    }
}

static long
pipe_child(void *arg, long n)
{
    struct pipes *p = arg;
    for (long i = 0; i < n; i++) {
        pass_byte(p->there[0], p->back[1]);
    }
    return n;
}

static long
pipe_parent(void *arg, long n)
{
    struct pipes *p = arg;
    for (long i = 0; i < n; i++) {
        char byte = 0;
        if (write(p->there[1], &byte, 1) != 1 || read(p->back[0], &byte, 1) != 1) {
            return i;
        }
    }
    return n;
}

static PyObject *
pipe_round_trips(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long n = limits_count(arg);
    if (n < 0) {
        return NULL;
    }
    struct pipes p;
    if (pipe(p.there) < 0 || pipe(p.back) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *seconds = limits_with_child(pipe_child, pipe_parent, &p, n);
    for (int i = 0; i < 2; i++) {
        close(p.there[i]);
        close(p.back[i]);
    }
    return seconds;
}

/*
 * Copying into shared memory, and starting a process
 */

/* Copies `source` n times into memory that is mapped anew for each copy, or was touched before.
 * Below 0: there was no memory, or it did not hold what was copied. */
static double
copy(const Py_buffer *source, long n, bool fresh)
{
    size_t size = (size_t)source->len;
    double seconds = 0;
    void *target = NULL;
    for (long i = fresh ? 0 : -1; i < n; i++) {
        if (target == NULL) {
            target = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            if (target == MAP_FAILED) {
                return -1;
            }
        }
        double start = limits_now();
        memcpy(target, source->buf, size);
        seconds += i < 0 ? 0 : limits_now() - start;
        if (memcmp(target, source->buf, size) != 0) {
            seconds = -1;
            break;
        }
        if (fresh) {
            munmap(target, size);
            target = NULL;
        }
    }
    if (target != NULL) {
        munmap(target, size);
    }
    return seconds;
}

static PyObject *
copies(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer source;
    long n;
    int fresh;
    if (!PyArg_ParseTuple(args, "y*lp:copies", &source, &n, &fresh)) {
        return NULL;
    }
    double seconds = copy(&source, n, fresh != 0);
    PyBuffer_Release(&source);
    return seconds < 0 ? PyErr_NoMemory() : PyFloat_FromDouble(seconds);
}

static PyObject *
forks(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long n = limits_count(arg);
    if (n < 0) {
        return NULL;
    }
    double start = limits_now();
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (pid == 0) {
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
    return PyFloat_FromDouble(limits_now() - start);
}

static PyMethodDef methods[] = {
    {"cas_pairs", cas_pairs, METH_O, "Swap a word there and back."},
    {"int_lists", int_lists, METH_VARARGS, "Lists of new ints: (first, length, how many lists)."},
    {"line_round_trips", line_round_trips, METH_O, "A cache line between two that spin."},
    {"futex_round_trips", futex_round_trips, METH_O, "Two that sleep on futexes."},
    {"pipe_round_trips", pipe_round_trips, METH_O, "A byte through two pipes."},
    {"copies", copies, METH_VARARGS, "memcpy(buffer, n, fresh) into shared pages."},
    {"forks", forks, METH_O, "fork, _exit, waitpid."},
    {"ring_round_trips", limits_ring_round_trips, METH_VARARGS,
     "fastmp's ring without Python: (n, spin)."},
    {"ring_messages", limits_ring_messages, METH_O, "fastmp's ring without Python, one way."},
    {NULL, NULL, 0, NULL},
};

static int
add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    int rc = type != NULL ? PyModule_AddObjectRef(module, name, type) : -1;
    Py_XDECREF(type);
    return rc;
}

static int
add_types(PyObject *module)
{
    int rc = add_type(module, "Empty", &empty_spec);
    return rc == 0 ? add_type(module, "Field", &field_spec) : rc;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_types},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "limits",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_limits(void)
{
    return PyModuleDef_Init(&module);
}
