/* copy.h - memcpy() that goes around the caches with what is larger than they are. */
#ifndef FMP_PLATFORM_COPY_H
#define FMP_PLATFORM_COPY_H

#include <stddef.h>

/* As memcpy(). What it wrote is to be seen by whoever sees a store that follows. */
void fmp_copy(void *to, const void *from, size_t size);

#endif
