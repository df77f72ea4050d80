/* py_pool_function.c - functions that travel by name: "module\nqualified.name".
 *
 * What pickle does with a module's function or class, without pickle: look that the name leads to
 * this very object here, and look it up there. Everything else is pickled. Owns nothing.
 */
#include "objects/pool.h"

#include <string.h>

#include "base/status.h"
#include "bridge/errors.h"

/* Objects of which pickle writes the name and nothing else, whatever reducers there are. */
static bool
has_only_a_name(PyObject *function)
{
    if (PyCFunction_CheckExact(function)) {
        PyObject *self = PyCFunction_GET_SELF(function);
        return self == NULL || PyModule_Check(self);
    }
    return PyFunction_Check(function) || Py_IS_TYPE(function, &PyType_Type);
}

/* The attribute of `object` at the dotted path [at, end); a new reference, or NULL with an
 * exception. */
static PyObject *
follow(PyObject *object, const char *at, const char *end)
{
    Py_INCREF(object);
    while (object != NULL && at < end) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *stop = dot != NULL ? dot : end;
        PyObject *name = PyUnicode_FromStringAndSize(at, stop - at);
        PyObject *next = name != NULL ? PyObject_GetAttr(object, name) : NULL;
        Py_XDECREF(name);
        Py_SETREF(object, next);
        at = stop + (dot != NULL);
    }
    return object;
}

/* A str attribute as UTF-8 without newlines, kept alive by *owner; NULL without an exception. */
static const char *
text_attribute(PyObject *object, const char *attribute, PyObject **owner, Py_ssize_t *size)
{
    *owner = PyObject_GetAttrString(object, attribute);
    const char *text = NULL;
    if (*owner != NULL && PyUnicode_CheckExact(*owner)) {
        text = PyUnicode_AsUTF8AndSize(*owner, size);
    }
    if (text != NULL && memchr(text, '\n', (size_t)*size) != NULL) {
        text = NULL;
    }
    PyErr_Clear();
    return text;
}

PyObject *
fmp_function_to_name(PyObject *function)
{
    if (!has_only_a_name(function)) {
        return NULL;
    }
    PyObject *module_owner, *name_owner, *result = NULL;
    Py_ssize_t module_size, name_size;
    const char *module = text_attribute(function, "__module__", &module_owner, &module_size);
    const char *name = text_attribute(function, "__qualname__", &name_owner, &name_size);
    if (module != NULL && name != NULL) {
        PyObject *where = PyImport_GetModule(module_owner);
        PyObject *found = where != NULL ? follow(where, name, name + name_size) : NULL;
        if (found == function) {
            result = PyBytes_FromStringAndSize(NULL, module_size + 1 + name_size);
        }
        if (result != NULL) {
            char *out = PyBytes_AS_STRING(result);
            memcpy(out, module, (size_t)module_size);
            out[module_size] = '\n';
            memcpy(out + module_size + 1, name, (size_t)name_size);
        }
        Py_XDECREF(found);
        Py_XDECREF(where);
    }
    Py_XDECREF(module_owner);
    Py_XDECREF(name_owner);
    PyErr_Clear(); /* whatever it was: pickle will say it better */
    return result;
}

PyObject *
fmp_function_from_name(const char *text, size_t size)
{
    const char *newline = memchr(text, '\n', size);
    if (newline == NULL) {
        return fmp_raise(FMP_CORRUPT, "take a task of a pool");
    }
    const char *name = newline + 1, *end = text + size;
    PyObject *module_name = PyUnicode_FromStringAndSize(text, newline - text);
    PyObject *module = module_name != NULL ? PyImport_GetModule(module_name) : NULL;
    if (module == NULL && module_name != NULL && !PyErr_Occurred()) {
        module = PyImport_Import(module_name);
    }
    PyObject *function = module != NULL ? follow(module, name, end) : NULL;
    if (function == NULL && module != NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyObject *shown = PyUnicode_FromStringAndSize(name, end - name);
        if (shown != NULL) { /* pickle's words */
            PyErr_Format(PyExc_AttributeError, "Can't get attribute %R on %R", shown, module);
        }
        Py_XDECREF(shown);
    }
    Py_XDECREF(module);
    Py_XDECREF(module_name);
    return function;
}
