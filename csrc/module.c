/* module.c - the definition of fastmp._core: multi-phase init, one state, one exec.
 *
 * Owns the module's state. Each object's file knows its own types; here is only their order.
 */
#include "module.h"

#include <string.h>

static struct PyModuleDef core_def;

/* clang-format off */ /* one a line merges better */
static int (*const add_objects[])(PyObject *) = {
    fmp_add_popen,
    fmp_add_guard,
    fmp_add_lock,
    fmp_add_semaphore,
    fmp_add_block,
    fmp_add_synced,
    fmp_add_barrier,
    fmp_add_condition,
    fmp_add_event,
    fmp_add_queue,
    fmp_add_simple_queue,
    fmp_add_connection,
    fmp_add_pool_board,
    fmp_add_pool_job,
    fmp_add_pool_items,
    fmp_add_child,
    fmp_add_fork,
};
/* clang-format on */

PyTypeObject *
fmp_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type == NULL) {
        return NULL;
    }
    const char *dot = strrchr(spec->name, '.');
    if (PyModule_AddObjectRef(module, dot != NULL ? dot + 1 : spec->name, type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

int
fmp_publish_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyTypeObject *type = fmp_add_type(module, spec, base);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}

/* A base class with our definition; PyType_GetModule() raises for classes of no module. */
struct fmp_state *
fmp_state_of_type(PyTypeObject *type)
{
    for (PyTypeObject *t = type; t != NULL; t = t->tp_base) {
        PyObject *module = PyType_HasFeature(t, Py_TPFLAGS_HEAPTYPE) ? PyType_GetModule(t) : NULL;
        if (module != NULL && PyModule_GetDef(module) == &core_def) {
            PyErr_Clear();
            return fmp_state_of(module);
        }
        PyErr_Clear();
    }
    PyErr_Format(PyExc_SystemError, "%s is no class of fastmp._core", type->tp_name);
    return NULL;
}

static int
core_exec(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    state->pool_gate = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    if (state->pool_gate == NULL || fmp_codec_init(&state->codec, module) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(add_objects) / sizeof(add_objects[0]); i++) {
        if (add_objects[i](module) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct fmp_state *state = fmp_state_of(module);
    Py_VISIT(state->queue_empty);
    Py_VISIT(state->queue_full);
    Py_VISIT(state->pool_gate);
    Py_VISIT(state->connection);
    Py_VISIT(state->array_iterator);
    Py_VISIT(state->pool_board);
    Py_VISIT(state->pool_job);
    Py_VISIT(state->pool_result);
    Py_VISIT(state->pool_items);
    Py_VISIT(state->child);
    return fmp_codec_traverse(&state->codec, visit, arg);
}

static int
core_clear(PyObject *module)
{
    struct fmp_state *state = fmp_state_of(module);
    Py_CLEAR(state->queue_empty);
    Py_CLEAR(state->queue_full);
    Py_CLEAR(state->pool_gate);
    Py_CLEAR(state->connection);
    Py_CLEAR(state->array_iterator);
    Py_CLEAR(state->pool_board);
    Py_CLEAR(state->pool_job);
    Py_CLEAR(state->pool_result);
    Py_CLEAR(state->pool_items);
    Py_CLEAR(state->child);
    fmp_known_ints_clear(&state->known_ints);
    fmp_codec_clear(&state->codec);
    return 0;
}

/* What guards this process's part of each object without a GIL has been compiled, never run
 * (docs/compatibility.md): by default a free-threaded Python is to switch the GIL on. */
#ifdef FMP_GIL_NOT_USED
#define FMP_GIL Py_MOD_GIL_NOT_USED
#else
#define FMP_GIL Py_MOD_GIL_USED
#endif

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, FMP_GIL},
#endif
    {0, NULL},
};

static struct PyModuleDef core_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastmp._core",
    .m_doc = "fastmp's native core: multiprocessing's primitives over shared memory.",
    .m_size = sizeof(struct fmp_state),
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_def);
}
