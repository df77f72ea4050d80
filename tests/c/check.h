/* check.h - the frame of the C tests: cases, each run in a forked child under an alarm.
 *
 * A test program defines cases with CASE(name) { ... } and ends with CHECK_MAIN. A case fails when
 * a CHECK in it (or in a process that it forked and reaps with check_reap) fails, when it crashes,
 * when it leaves a child process behind, or when it runs longer than CHECK_SECONDS.
 *
 * Built with CHECK_THREADS (for ThreadSanitizer, which sees one process), check_fork() starts a
 * thread instead. A case that kills, or that is about processes, is left out there.
 */
#ifndef FMP_TESTS_CHECK_H
#define FMP_TESTS_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef CHECK_SECONDS
#define CHECK_SECONDS 60
#endif

struct check_case {
    const char *name;
    void (*run)(void);
    struct check_case *next;
};

void check_register(struct check_case *one);
int check_main(int argc, char **argv);
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *what,
                                            long long left, long long right);

/* Forks; the child runs body(arg) and exits 0, or with the failure of a CHECK. */
pid_t check_fork(void (*body)(void *), void *arg);
/* Waits for a child and checks that it exited 0. */
void check_reap(pid_t pid);
/* Kills a child with SIGKILL and reaps it. */
void check_kill(pid_t pid);
/* This case says nothing when its processes are threads. */
#ifdef CHECK_THREADS
#define CHECK_HAS_PROCESSES 0
#else
#define CHECK_HAS_PROCESSES 1
#endif
#define CHECK_NEEDS_PROCESSES()                                                                    \
    do {                                                                                           \
        if (!CHECK_HAS_PROCESSES) {                                                                \
            _exit(CHECK_LEFT_OUT);                                                                 \
        }                                                                                          \
    } while (0)
#define CHECK_LEFT_OUT 77
/* Monotonic milliseconds. */
long long check_now_ms(void);
void check_sleep_ms(int ms);

#define CASE(fn)                                                                                   \
    static void fn(void);                                                                          \
    __attribute__((constructor)) static void register_##fn(void)                                   \
    {                                                                                              \
        static struct check_case one = {#fn, fn, NULL};                                            \
        check_register(&one);                                                                      \
    }                                                                                              \
    static void fn(void)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_failed(__FILE__, __LINE__, #condition, 0, 0);                                    \
        }                                                                                          \
    } while (0)

/* Like CHECK(left == right) for integers, and prints both. */
#define CHECK_EQ(left, right)                                                                      \
    do {                                                                                           \
        long long left_ = (long long)(left), right_ = (long long)(right);                          \
        if (left_ != right_) {                                                                     \
            check_failed(__FILE__, __LINE__, #left " == " #right, left_, right_);                  \
        }                                                                                          \
    } while (0)

#define CHECK_MAIN                                                                                 \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return check_main(argc, argv);                                                             \
    }

#endif
