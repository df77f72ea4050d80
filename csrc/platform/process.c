/* process.c - identity and liveness of processes.
 *
 * Owns three process-wide words (this process's identity and two fork counters), each reset or
 * advanced by the atfork handlers below, and nothing in shared memory.
 */
#include "platform/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomics.h"

fmp_a64 fmp_process_me;
fmp_a32 fmp_process_generation;
static fmp_a32 epoch; /* reset after fork: advanced on both sides */

static void
forked_parent(void)
{
    atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
}

static void
forked_child(void)
{
    atomic_store_explicit(&fmp_process_me, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&fmp_process_generation, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
}

__attribute__((constructor(200))) static void
watch_forks(void)
{
    pthread_atfork(NULL, forked_parent, forked_child);
}

enum { STATE = 3, THREADS = 20, START = 22 }; /* fields of /proc/<pid>/stat, see proc(5) */

struct stat_fields {
    char state;
    uint64_t threads;
    uint64_t start;
};

/* The name in the file may hold spaces and brackets, so fields are counted from the last ')'. */
static bool
read_stat(uint32_t pid, struct stat_fields *out)
{
    char path[32], text[1024];
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    char *field = strrchr(text, ')');
    if (field == NULL || field[1] != ' ') {
        return false;
    }
    field += 2;
    out->state = *field;
    for (int number = STATE; number < START; field++) {
        field = strchr(field, ' ');
        if (field == NULL) {
            return false;
        }
        if (++number == THREADS) {
            out->threads = strtoull(field, NULL, 10);
        }
    }
    out->start = strtoull(field, NULL, 10);
    return true;
}

static fmp_who
who_of(uint32_t pid, uint64_t start)
{
    return (fmp_who)(uint32_t)start << 32 | pid;
}

fmp_who
fmp_who_look_up(void)
{
    struct stat_fields mine = {0};
    uint32_t pid = (uint32_t)getpid();
    (void)read_stat(pid, &mine);
    fmp_who who = who_of(pid, mine.start);
    atomic_store_explicit(&fmp_process_me, who, memory_order_relaxed);
    return who;
}

bool
fmp_who_vanished(fmp_who who)
{
    return kill((pid_t)fmp_who_pid(who), 0) < 0 && errno == ESRCH;
}

bool
fmp_who_alive(fmp_who who)
{
    uint32_t pid = fmp_who_pid(who);
    if (fmp_who_vanished(who)) {
        return false;
    }
    struct stat_fields found;
    if (!read_stat(pid, &found)) {
        return !fmp_who_vanished(who);
    }
    /* A main thread that has ended is a zombie too; the others may go on for long. */
    if (found.state == 'X' || (found.state == 'Z' && found.threads <= 1)) {
        return false;
    }
    return who >> 32 == 0 || who_of(pid, found.start) == who;
}

void
fmp_process_leave(int code)
{
    _exit(code);
}

uint32_t
fmp_fork_epoch(void)
{
    return atomic_load_explicit(&epoch, memory_order_relaxed);
}
