/* module.c - the definition of fastmp._core: multi-phase init, one state, one exec. */
#include "module.h"

static int
core_exec(PyObject *module)
{
    (void)module;
    return 0;
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
    {0, NULL},
};

struct PyModuleDef fmp_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastmp._core",
    .m_doc = "fastmp's native core: multiprocessing's primitives over shared memory.",
    .m_size = sizeof(struct fmp_state),
    .m_slots = core_slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&fmp_module_def);
}
