/* python.h - the targets that need Python: an interpreter with fastmp in it, whose unpickling does
 * nothing but look at what it is given. */
#ifndef FMP_TESTS_FUZZ_PYTHON_H
#define FMP_TESTS_FUZZ_PYTHON_H

#include <Python.h>

#include "module.h"

/* Starts the interpreter, once; imports fastmp on the core that is linked into this program.
 * pickle.loads is replaced before that: unpickling runs any code, and is pickle's to fuzz. */
struct fmp_state *start_python(void);

/* An attribute of a module of fastmp. */
PyObject *fastmp_name(const char *module, const char *name);

/* The result of a call: an object, which is given up, or an exception, which is cleared. Aborts on
 * the exceptions that stand for a defect of fastmp's. */
void check_object(PyObject *object);

#endif
