/* cpus.h - how many processors this process may run on. */
#ifndef FMP_PLATFORM_CPUS_H
#define FMP_PLATFORM_CPUS_H

/* At least 1. Looked up once per process, and again after fork. */
unsigned fmp_cpus_available(void);

#endif
