/* process.h - who a process is, and whether it still lives.
 *
 * A pid alone may be reused; a pid and a birth (start time) may not.
 */
#ifndef FMP_PLATFORM_PROCESS_H
#define FMP_PLATFORM_PROCESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"

/* A process in one 64 bit word, so that it can be compared and swapped: the low half is the pid,
 * the high half the low bits of its start time. 0 is nobody. */
typedef uint64_t fmp_who;

/* Written by process.c only; here so that reading them needs no call. */
#define FMP_LOCAL __attribute__((visibility("hidden")))
extern FMP_LOCAL fmp_a64 fmp_process_me;         /* reset after fork: 0 until asked for */
extern FMP_LOCAL fmp_a32 fmp_process_generation; /* reset after fork: advanced in the child */

fmp_who fmp_who_look_up(void);

/* This process if it was looked up before, or 0: no call in any case. */
static inline fmp_who
fmp_who_if_known(void)
{
    return atomic_load_explicit(&fmp_process_me, memory_order_relaxed);
}

/* This process. Looked up once per process, and again after fork. */
static inline fmp_who
fmp_who_am_i(void)
{
    fmp_who who = fmp_who_if_known();
    return who != 0 ? who : fmp_who_look_up();
}

static inline uint32_t
fmp_who_pid(fmp_who who)
{
    return (uint32_t)who;
}

/* False when the process has ended, is a zombie (but not while one of its threads goes on after the
 * main thread's end), or its pid belongs to a younger process. When it cannot be known (no /proc),
 * true. Costs two system calls or more: for ticks, not for hot paths. */
bool fmp_who_alive(fmp_who who);

/* True when nobody has its pid any more; false also for a zombie. One system call. */
bool fmp_who_vanished(fmp_who who);

/* This thread, among those of its process that live. Where its block lies tells that, without the
 * call that pthread_self() is. */
static inline unsigned long
fmp_thread_self(void)
{
#if defined(__x86_64__) && defined(__LP64__)
    unsigned long self;
    __asm__("movq %%fs:0, %0" : "=r"(self)); /* the block's first word is its own address */
    return self;
#elif defined(__aarch64__)
    unsigned long self;
    __asm__("mrs %0, tpidr_el0" : "=r"(self));
    return self;
#else
    return (unsigned long)pthread_self();
#endif
}

/* Ends this process at once: nothing is flushed, no exit function is called. */
_Noreturn void fmp_process_leave(int code);

/* How many times this process descends from a fork since fastmp was loaded; changes in the child,
 * so state that must not cross a fork remembers the value it was made under. */
static inline uint32_t
fmp_fork_generation(void)
{
    return atomic_load_explicit(&fmp_process_generation, memory_order_relaxed);
}

/* How many forks this process has made or descends from: what was made under another value may be
 * shared with a relative. */
uint32_t fmp_fork_epoch(void);

#endif
