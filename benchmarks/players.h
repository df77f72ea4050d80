/* players.h - what limits.c and ring.c have in common. */
#ifndef BENCHMARKS_PLAYERS_H
#define BENCHMARKS_PLAYERS_H

#include <Python.h>

/* Does something n times and returns how often it came out right. */
typedef long (*limits_player)(void *arg, long n);

double limits_now(void);

/* How often to do it: at least once, or -1 with an exception. */
long limits_count(PyObject *arg);

/* Memory that a fork shares; NULL with an exception. */
void *limits_shared(size_t size);

/* Runs child(arg, n + 1) in a fork and beside it parent(arg, 1), then parent(arg, n): the seconds
 * of the latter as a float, or NULL with an exception, also when not all n came out right. */
PyObject *limits_with_child(limits_player child, limits_player parent, void *arg, long n);

PyObject *limits_ring_round_trips(PyObject *module, PyObject *args);
PyObject *limits_ring_messages(PyObject *module, PyObject *arg);

#endif
