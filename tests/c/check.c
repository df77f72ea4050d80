/* check.c - runs the cases of a C test program; see check.h.
 *
 * Each case runs in a child process, the leader of a session of its own, so that a crash, a hang
 * or a stray child of one case is that case's failure and disturbs no other. With arguments, only
 * the cases named; with FMP_CHECK_NOFORK set, in this process (for a debugger).
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct check_case *first_case;

void
check_register(struct check_case *one)
{
    struct check_case **end = &first_case;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = one;
}

void
check_failed(const char *file, int line, const char *what, long long left, long long right)
{
    fflush(stdout);
    if (left != right) {
        fprintf(stderr, "%s:%d: CHECK failed: %s (%lld, %lld)\n", file, line, what, left, right);
    }
    else {
        fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, what);
    }
    _exit(1);
}

#ifdef CHECK_THREADS

#define MOST_THREADS 256
#define NO_PID (1 << 30) /* no process has such a one, should a test signal it */

static struct started {
    pthread_t thread;
    void (*body)(void *);
    void *arg;
} started[MOST_THREADS];
static int n_started;

static void *
run_body(void *one)
{
    struct started *s = one;
    s->body(s->arg);
    return NULL;
}

pid_t
check_fork(void (*body)(void *), void *arg)
{
    CHECK(n_started < MOST_THREADS);
    struct started *s = &started[n_started++];
    s->body = body;
    s->arg = arg;
    CHECK_EQ(pthread_create(&s->thread, NULL, run_body, s), 0);
    return NO_PID + n_started;
}

void
check_reap(pid_t pid)
{
    CHECK_EQ(pthread_join(started[pid - NO_PID - 1].thread, NULL), 0);
}

void
check_kill(pid_t pid)
{
    (void)pid;
    CHECK_NEEDS_PROCESSES();
}

#else

pid_t
check_fork(void (*body)(void *), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(arg);
        fflush(NULL);
        _exit(0);
    }
    return pid;
}

void
check_reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        CHECK_EQ(errno, EINTR);
    }
    CHECK_EQ(status, 0);
}

void
check_kill(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGKILL), 0);
    while (waitpid(pid, NULL, 0) < 0) {
        CHECK_EQ(errno, EINTR);
    }
}

#endif

long long
check_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void
check_sleep_ms(int ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

/* Returns NULL when the case passed, left_out, or what was wrong. The child keeps its pid until it is
 * reaped below, so its session can be killed without hitting a stranger. */
static const char left_out[] = "left out";

static const char *
run_case(const struct check_case *one)
{
    static char why[100];
    siginfo_t info;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        alarm(CHECK_SECONDS);
#ifdef CHECK_THREADS /* a program of its own: ThreadSanitizer does not follow a fork's handlers */
        setenv("FMP_CHECK_INSIDE", "1", 1);
        execl("/proc/self/exe", one->name, one->name, NULL);
        exit(1);
#endif
        one->run();
        if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) {
            fprintf(stderr, "%s left a child process behind\n", one->name);
            exit(2);
        }
        exit(0); /* not _exit: LeakSanitizer looks at exit */
    }
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (info.si_code == CLD_EXITED && info.si_status == 0) {
        return NULL;
    }
    if (info.si_code == CLD_EXITED && info.si_status == CHECK_LEFT_OUT) {
        return left_out;
    }
    if (info.si_code != CLD_EXITED && info.si_status == SIGALRM) {
        snprintf(why, sizeof why, "ran longer than %d s", CHECK_SECONDS);
    }
    else {
        snprintf(why, sizeof why, "%s %d",
                 info.si_code == CLD_EXITED ? "exit status" : "killed by signal", info.si_status);
    }
    return why;
}

static int
is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return 1;
        }
    }
    return argc < 2;
}

int
check_main(int argc, char **argv)
{
    int cases = 0, failed = 0;
    for (const struct check_case *one = first_case; one != NULL; one = one->next) {
        if (!is_wanted(one->name, argc, argv)) {
            continue;
        }
        if (getenv("FMP_CHECK_INSIDE") != NULL) {
            one->run();
            exit(0);
        }
        cases++;
        const char *why = NULL;
        if (getenv("FMP_CHECK_NOFORK") != NULL) {
            one->run();
        }
        else {
            why = run_case(one);
        }
        if (why == left_out) {
            printf("left out %s\n", one->name);
            cases--;
        }
        else if (why == NULL) {
            printf("ok %s\n", one->name);
        }
        else {
            printf("FAILED %s: %s\n", one->name, why);
            failed++;
        }
    }
    printf("cases %d\n", cases);
    return failed > 0;
}
