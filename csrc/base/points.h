/* points.h - named places in a protocol where the C tests delay or kill the process.
 *
 * Built with FMP_POINTS (tests/c/Makefile), each calls fmp_point(), which the tests define; else
 * they are nothing. A race of a few instructions becomes one of microseconds there, and a kill can
 * be aimed between two stores.
 */
#ifndef FMP_BASE_POINTS_H
#define FMP_BASE_POINTS_H

#ifdef FMP_POINTS
void fmp_point(const char *name);
#define FMP_POINT(name) fmp_point(name)
#else
#define FMP_POINT(name) ((void)0)
#endif

#endif
