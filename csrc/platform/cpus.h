/* cpus.h - how many processors this process may run on, and leaving one to others. */
#ifndef FMP_PLATFORM_CPUS_H
#define FMP_PLATFORM_CPUS_H

/* At least 1. Looked up once per process, and again after fork. */
unsigned fmp_cpus_available(void);

/* Lets who waits for this processor go first, once; at once back if nobody does. */
void fmp_cpu_yield(void);

#endif
