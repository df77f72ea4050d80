/* copy.c - copying what is larger than the caches; owns nothing.
 *
 * A store to a line that is in no cache reads the line first, so that a copy moves three bytes for each
 * one. Stores around the caches do not. The C library uses them, too, but only from three quarters of
 * the third level on, as which a virtual machine may name that of all its host's processors: hundreds
 * of MiB. A kill at any line leaves what one in memcpy() leaves.
 */
#include "platform/copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define BEYOND_CACHES ((size_t)8 << 20)
#define LINE ((size_t)64)
#define AHEAD (8 * LINE)

/* `to` begins with a line; so many whole ones. */
static void
stream(uint8_t *to, const uint8_t *from, size_t lines)
{
    for (; lines > 0; lines--, to += LINE, from += LINE) {
        _mm_prefetch((const char *)from + AHEAD, _MM_HINT_NTA);
        const __m128i *source = (const __m128i *)from;
        __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
        __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
        __m128i *target = (__m128i *)to;
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
    _mm_sfence(); /* such stores are not ordered with others */
}

void
fmp_copy(void *to, const void *from, size_t size)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    if (size >= BEYOND_CACHES) {
        size_t begin = -(uintptr_t)target & (LINE - 1);
        size_t lines = (size - begin) / LINE, streamed = lines * LINE;
        memcpy(target, source, begin);
        stream(target + begin, source + begin, lines);
        target += begin + streamed;
        source += begin + streamed;
        size -= begin + streamed;
    }
    memcpy(target, source, size);
}

#else

void
fmp_copy(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

#endif
