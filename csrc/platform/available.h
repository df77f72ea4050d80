/* available.h - how much memory may still be taken without driving the machine out of memory. */
#ifndef FMP_PLATFORM_AVAILABLE_H
#define FMP_PLATFORM_AVAILABLE_H

#include <stdint.h>

/* Bytes that the machine, and the control group this process is in, can still give. UINT64_MAX
 * when it cannot be known. An estimate, and of this moment: others take memory too. Reads files
 * below /proc and /sys, so it costs some 50 microseconds. */
uint64_t fmp_memory_available(void);

#endif
