/* hot.h - keeping what most calls do apart from what few do.
 *
 * A call that ends in a handful of instructions pays for every register that its other ways save.
 * So those ways are functions of their own, called last.
 */
#ifndef FMP_BASE_HOT_H
#define FMP_BASE_HOT_H

/* Not inlined: the caller's usual way needs no stack for it. */
#define FMP_APART __attribute__((noinline))

/* The same, and hardly ever called. */
#define FMP_RARE __attribute__((noinline, cold))

#endif
