/* python.c - see python.h. Owns the interpreter. */
#include "python.h"

#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

PyMODINIT_FUNC PyInit__core(void);

static void
give_up(const char *what)
{
    fprintf(stderr, "%s\n", what);
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    abort();
}

/* pickle.loads(data, *, buffers=()): reads and writes what it may. Fails for a first byte of 0. */
static PyObject *
look_at_pickle(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"data", "buffers", NULL};
    Py_buffer data, buffer;
    PyObject *buffers = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|O", (char **)names, &data, &buffers)) {
        return NULL;
    }
    look_at(data.buf, (size_t)data.len);
    bool fails = data.len > 0 && *(const char *)data.buf == 0;
    PyBuffer_Release(&data);
    if (fails) {
        return PyErr_Format(PyExc_ValueError, "cannot be unpickled");
    }
    for (Py_ssize_t i = 0; buffers != NULL && i < PyTuple_GET_SIZE(buffers); i++) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(buffers, i), &buffer, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        look_at(buffer.buf, (size_t)buffer.len);
        if (!buffer.readonly) {
            memset(buffer.buf, 1, (size_t)buffer.len);
        }
        PyBuffer_Release(&buffer);
    }
    return Py_NewRef(buffers != NULL ? buffers : Py_None);
}

static PyMethodDef loads_method = {"loads", (PyCFunction)(void (*)(void))look_at_pickle,
                                   METH_VARARGS | METH_KEYWORDS, NULL};

static void
start_interpreter(void)
{
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitPythonConfig(&before);
    before.allocator = PYMEM_ALLOCATOR_MALLOC; /* so that ASan sees each object */
    before.utf8_mode = 1;
    if (PyStatus_Exception(Py_PreInitialize(&before))
        || PyImport_AppendInittab("fastmp._core", PyInit__core) < 0) {
        give_up("no Python");
    }
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.site_import = 0;
    PyConfig_SetBytesString(&config, &config.executable, FUZZ_PYTHON);
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        give_up(status.err_msg);
    }
}

static const char setup[] = "import sys, pickle, importlib.machinery as m, importlib.util as u\n"
                            "sys.path.insert(0, '.')\n"
                            "pickle.loads = loads\n"
                            "spec = m.ModuleSpec('fastmp._core', m.BuiltinImporter)\n"
                            "core = u.module_from_spec(spec)\n"
                            "spec.loader.exec_module(core)\n"
                            "sys.modules['fastmp._core'] = core\n"
                            "import fastmp, fastmp.connection\n"
                            "assert fastmp.connection._core is core\n";

struct fmp_state *
start_python(void)
{
    static struct fmp_state *state;
    if (state != NULL) {
        return state;
    }
    start_interpreter();
    PyObject *globals = PyDict_New();
    PyObject *loads = PyCFunction_New(&loads_method, NULL);
    if (globals == NULL || loads == NULL || PyDict_SetItemString(globals, "loads", loads) < 0
        || PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) < 0) {
        give_up("no memory");
    }
    PyObject *done = PyRun_String(setup, Py_file_input, globals, globals);
    PyObject *core = done != NULL ? PyDict_GetItemString(globals, "core") : NULL;
    if (core == NULL) {
        give_up("cannot import fastmp");
    }
    state = fmp_state_of(core);
    Py_DECREF(done);
    Py_DECREF(loads);
    return state;
}

PyObject *
fastmp_name(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from != NULL ? PyObject_GetAttrString(from, name) : NULL;
    if (found == NULL) {
        give_up(name);
    }
    Py_DECREF(from);
    return found;
}

void
check_object(PyObject *object)
{
    if ((object == NULL) == (PyErr_Occurred() == NULL)) {
        give_up("neither an object nor an exception, or both");
    }
    if (object == NULL
        && (PyErr_ExceptionMatches(PyExc_SystemError)
            || PyErr_ExceptionMatches(PyExc_AssertionError))) {
        give_up("a defect");
    }
    PyErr_Clear();
    Py_XDECREF(object);
}
