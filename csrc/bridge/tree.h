/* tree.h - small nested values as bytes: tuples, lists and dicts of plain values. */
#ifndef FMP_BRIDGE_TREE_H
#define FMP_BRIDGE_TREE_H

#include "bridge/plain.h"

/* Writes a container and all that it holds. False: it is too large or too deep, has something in it
 * that is not plain, or a container twice; or there is no memory. What was written is then of no use. */
bool fmp_write_tree(struct fmp_writer *w, PyObject *container);

/* The object; NULL, perhaps without an exception, when it is malformed. */
PyObject *fmp_read_tree(struct fmp_reader *r);

#endif
