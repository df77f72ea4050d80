/* check.h - consistency checks of the debug build (FMP_DEBUG): what must hold if we are right.
 *
 * Not for what a hostile or damaged peer can cause: that is looked at in every build and becomes
 * FMP_CORRUPT. A check that fails is a bug of ours, and ends the process where it stands.
 */
#ifndef FMP_BASE_CHECK_H
#define FMP_BASE_CHECK_H

#ifdef FMP_DEBUG
#include <stdio.h>
#include <stdlib.h>

#define FMP_CHECK(condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "fastmp: %s:%d: %s: does not hold: %s\n", __FILE__, __LINE__,          \
                    __func__, #condition);                                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#else
#define FMP_CHECK(condition) ((void)0)
#endif

#endif
