/* module.h - what every object of fastmp._core shares: the module's state and its definition.
 *
 * The state belongs to one module object (one interpreter); it is filled by module.c's exec and
 * only read afterwards. Objects reach it through their type: fmp_state_of_type().
 */
#ifndef FMP_MODULE_H
#define FMP_MODULE_H

#include <Python.h>

struct fmp_state {
    PyObject *reserved;
};

extern struct PyModuleDef fmp_module_def;

#endif
