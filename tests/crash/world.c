/* world.c - one world: forks the actors, steps the victim, acts, waits for the survivors; see
 * stepper.h. The world's process is the tracer and the parent of all. */
#include "stepper.h"

#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "platform/clock.h"

#define SPINS 3                  /* looks before a sleep */
#define LONGEST_OPERATION 200000 /* instructions */
#define SHORT_TICK_US 5000       /* see the Makefile */
#define STUCK_TICKS 40           /* all that live have ticked so often in vain */
#define PATIENCE_MS 30000        /* for one who neither ends nor sleeps */
#define VICTIMS_TICK FMP_SECOND  /* so that time does not change what it executes */

#ifdef FMP_NO_TICK
#define NEVER_TICKS true
#else
#define NEVER_TICKS false
#endif

struct world *world;
int me;

static const struct scenario *scenario;

/* --- an actor's process -------------------------------------------------------------------------- */

static int64_t
my_tick(void)
{
    bool stepped = me == VICTIM && scenario->second == NULL && !atomic_load(&world->released);
    return stepped && FMP_TICK_NS < VICTIMS_TICK ? VICTIMS_TICK : FMP_TICK_NS;
}

int
wait_as_bridge(try_fn try_once, tick_fn tick, void *arg)
{
    struct fmp_wait w = {.budget_ns = 0, .fd = -1};
    int rc = try_once(arg, &w);
    for (int look = 0; rc == FMP_AGAIN && w.word != NULL && look < SPINS; look++) {
        if (fmp_wait_changed(&w)) {
            rc = try_once(arg, &w);
        }
    }
    while (rc == FMP_AGAIN) {
        w.budget_ns = my_tick() + 1;
        rc = try_once(arg, &w);
        if (rc != FMP_AGAIN) {
            break;
        }
        int slept = FMP_TIMEOUT;
        if (!fmp_wait_is_on_lock(&w)) {
            atomic_store(&world->asleep[me], 1);
            slept = fmp_wait_sleep(&w, my_tick());
            atomic_store(&world->asleep[me], 0);
        }
        CHECK(slept == FMP_OK || slept == FMP_TIMEOUT || slept == -EINTR);
        if (slept == FMP_TIMEOUT) {
            atomic_fetch_add(&world->ticks[me], 1);
            rc = tick != NULL ? tick(arg) : FMP_AGAIN;
        }
    }
    return rc;
}

/* --- this process's children ---------------------------------------------------------------------- */

struct child {
    const char *name;
    pid_t pid; /* 0: not started */
    bool over;
    bool zombie; /* killed, and to be reaped by us at the end */
};

static struct child children[MAX_PROCESSES];
static struct outcome *outcome;

__attribute__((format(printf, 1, 2))) static _Noreturn void
fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(outcome->why, sizeof outcome->why, format, args);
    va_end(args);
    _exit(1);
}

static void
start(int index, const char *name, void (*run)(void), bool traced)
{
    children[index] = (struct child){.name = name};
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        me = index;
        if (traced) {
            CHECK_EQ(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
        }
        run();
        _exit(0);
    }
    children[index].pid = pid;
}

/* A line of /proc about a child, from where `after` was found; "" when there is none. */
static void
read_proc(pid_t pid, const char *file, const char *after, char *out, size_t size)
{
    char path[40], text[4096];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    out[0] = '\0';
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return;
    }
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *at = strstr(text, after);
    if (at != NULL) {
        snprintf(out, size, "%s", at + strlen(after));
    }
}

static char
state_of(pid_t pid)
{
    char text[8];
    read_proc(pid, "stat", ") ", text, sizeof text); /* our names hold no brackets */
    return text[0];
}

/* How often it was switched away from, one kind and the other. */
static unsigned long
switches_of(pid_t pid)
{
    char text[400];
    read_proc(pid, "status", "voluntary_ctxt_switches:", text, sizeof text);
    const char *other = strstr(text, "switches:");
    return strtoul(text, NULL, 10) + (other != NULL ? strtoul(other + 9, NULL, 10) : 0);
}

static void
rest(long us)
{
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

/* --- stepping ------------------------------------------------------------------------------------- */

enum place { STANDS, SLEEPS, AT_END };

static void
on_alarm(int signal)
{
    (void)signal;
}

/* Signals at short intervals, so that a wait for a victim that sleeps comes back. */
static void
interrupt_waits(long us)
{
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static void
check_stop(int status)
{
    if (!WIFSTOPPED(status)) {
        children[VICTIM].over = true;
        fail("the victim has ended early, with status %#x", status);
    }
    if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
        fail("the victim got signal %d", WSTOPSIG(status));
    }
}

static void start_kind(enum when when);
static void reap(bool victim_goes_on);
static bool stuck(void);

/* Until the step that is under way is done. */
static enum place
await_stop(bool even_if_asleep)
{
    int status;
    pid_t pid = children[VICTIM].pid;
    int64_t limit = fmp_now() + PATIENCE_MS * INT64_C(1000000);
    while (waitpid(pid, &status, 0) < 0) {
        CHECK_EQ(errno, EINTR);
        if (!even_if_asleep && state_of(pid) == 'S') {
            return SLEEPS;
        }
        reap(false);
        if (fmp_now() > limit || (NEVER_TICKS && stuck())) {
            fail("the victim, stepped, sleeps for ever");
        }
    }
    check_stop(status);
    return STANDS;
}

static void
step(void)
{
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, children[VICTIM].pid, NULL, NULL), 0);
}

/* The tracer and the victim take turns: on one processor that is twice as fast. */
static void
pin(bool here)
{
    static cpu_set_t all;
    cpu_set_t one;
    if (here) {
        CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
    }
    CHECK_EQ(sched_setaffinity(0, sizeof all, here ? &one : &all), 0);
    if (!here) {
        CHECK_EQ(sched_setaffinity(children[VICTIM].pid, sizeof all, &all), 0);
    }
}

/* Starts a victim and lets it execute k instructions of its operation. */
static enum place
step_to(void (*run)(void), uint32_t k)
{
    atomic_store(&world->phase, BEFORE);
    start(VICTIM, "victim", run, true);
    (void)await_stop(true);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, children[VICTIM].pid, NULL, PTRACE_O_EXITKILL), 0);
    while (atomic_load(&world->phase) == BEFORE) {
        step();
        (void)await_stop(true);
    }
    for (uint32_t done = 0; done < k; done++) {
        if (atomic_load(&world->phase) == ENDED) {
            outcome->ended = true;
            outcome->length = done;
            return AT_END;
        }
        if (done > LONGEST_OPERATION) {
            fail("the operation has more than %u instructions", done);
        }
        step();
        if (await_stop(false) == SLEEPS) {
            if (done + 1 == k) {
                return SLEEPS;
            }
            start_kind(WAKER);
            (void)await_stop(true);
        }
    }
    return STANDS;
}

static void
kill_victim(bool leave_zombie)
{
    struct child *v = &children[VICTIM];
    siginfo_t info;
    CHECK_EQ(kill(v->pid, SIGKILL), 0);
    /* An event of a victim that woke meanwhile may come first. */
    do {
        info.si_code = 0;
    } while ((waitid(P_PID, (id_t)v->pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
             || info.si_code != CLD_KILLED);
    v->over = true;
    v->zombie = leave_zombie;
    if (!leave_zombie) {
        while (waitpid(v->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}

/* --- waiting for the others ----------------------------------------------------------------------- */

static void
notice_end(int i, int status)
{
    children[i].over = true;
    if (WIFSIGNALED(status)) {
        fail("%s was killed by signal %d", children[i].name, WTERMSIG(status));
    }
    if (status != 0) {
        fail("%s failed a check", children[i].name);
    }
}

static void
reap(bool victim_goes_on)
{
    for (int i = 0; i < MAX_PROCESSES; i++) {
        struct child *c = &children[i];
        int status;
        if (c->pid == 0 || c->over || (i == VICTIM && !victim_goes_on)
            || waitpid(c->pid, &status, WNOHANG) != c->pid) {
            continue;
        }
        if (!WIFSTOPPED(status)) {
            notice_end(i, status);
        }
        else {
            /* Was asleep in its last step when the others went on. */
            CHECK_EQ(ptrace(PTRACE_DETACH, c->pid, NULL, NULL), 0);
        }
    }
}

static bool
lives(int i)
{
    return children[i].pid != 0 && !children[i].over;
}

bool
others_sleep(void)
{
    for (int i = 0; i < MAX_OTHERS; i++) {
        if (lives(i) && state_of(children[i].pid) != 'S') {
            return false;
        }
    }
    return true;
}

/* Until each of the others has ended or sleeps. */
static void
settle(void)
{
    int64_t limit = fmp_now() + PATIENCE_MS * INT64_C(1000000);
    for (int calm = 0; calm < 3; calm++) {
        rest(150);
        reap(false);
        if (!others_sleep()) {
            calm = -1;
        }
        if (fmp_now() > limit) {
            return;
        }
    }
}

static void
await_asleep(int i)
{
    int64_t limit = fmp_now() + PATIENCE_MS * INT64_C(1000000);
    while (atomic_load(&world->asleep[i]) == 0 || state_of(children[i].pid) != 'S') {
        rest(50);
        reap(false);
        if (children[i].over || fmp_now() > limit) {
            fail("%s does not fall asleep", children[i].name);
        }
    }
}

/* Starts those of the others that were not started yet. */
static void
start_kind(enum when when)
{
    for (int i = 0; i < MAX_OTHERS; i++) {
        const struct other *o = &scenario->others[i];
        if (o->run == NULL || o->when != when || children[i].pid != 0) {
            continue;
        }
        start(i, o->name, o->run, false);
        if (when == EARLY) {
            await_asleep(i);
        }
        else if (when == WAKER && o[1].when == WAKER) {
            settle();
        }
    }
}

/* Without ticks: has everybody who lives slept since the last look? Then there was a moment when all
 * slept at once, and nobody is left to wake them. */
static bool
asleep_at_once(void)
{
    static unsigned long before[MAX_PROCESSES];
    bool all = true;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        if (!lives(i)) {
            continue;
        }
        unsigned long now = switches_of(children[i].pid);
        if (now != before[i] || state_of(children[i].pid) != 'S') {
            all = false;
        }
        before[i] = now;
    }
    rest(10000);
    return all;
}

/* With ticks: has everybody who lives ticked often, and nothing come of it? */
static bool
ticked_in_vain(void)
{
    static uint32_t since[MAX_PROCESSES];
    static int lived;
    int living = 0;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        living += lives(i);
    }
    if (living != lived) { /* who waited for one that has ended has had no time yet */
        memset(since, 0, sizeof since);
        lived = living;
    }
    for (int i = 0; i < MAX_PROCESSES; i++) {
        uint32_t now = atomic_load(&world->ticks[i]);
        if (lives(i)) {
            since[i] = since[i] != 0 ? since[i] : now + 1;
            if (now + 1 - since[i] < STUCK_TICKS) {
                return false;
            }
        }
    }
    return true;
}

static bool
stuck(void)
{
    return NEVER_TICKS ? asleep_at_once() : ticked_in_vain();
}

static _Noreturn void
fail_stuck(const char *how)
{
    char names[150] = "";
    for (int i = 0; i < MAX_PROCESSES; i++) {
        if (lives(i)) {
            size_t n = strlen(names);
            snprintf(names + n, sizeof names - n, " %s(%c)", children[i].name,
                     state_of(children[i].pid));
        }
    }
    fail("%s:%s", how, names);
}

/* Until all have ended. */
static void
finish(void)
{
    int64_t begun = fmp_now();
    for (;;) {
        bool all = true;
        reap(true);
        for (int i = 0; i < MAX_PROCESSES; i++) {
            all = all && !lives(i);
        }
        if (all) {
            return;
        }
        int64_t waited = fmp_now() - begun;
        rest(waited < 2000000 ? 50 : 500);
        if (waited > 20000000 && stuck()) {
            /* It may have been the last thing that one did. */
            reap(true);
            for (int i = 0; i < MAX_PROCESSES; i++) {
                if (lives(i)) {
                    fail_stuck("asleep for ever");
                }
            }
        }
        if (waited > PATIENCE_MS * INT64_C(1000000)) {
            fail_stuck("does not end");
        }
    }
}

/* --- one world ------------------------------------------------------------------------------------ */

static int
count_mappings(void)
{
    char line[300];
    int count = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL) {
        count += strstr(line, "memfd:fastmp") != NULL;
    }
    fclose(f);
    return count;
}

static void
act(enum action action, enum place place, bool leave_zombie)
{
    if (scenario->look != NULL) {
        scenario->look();
    }
    if (action == KILL) {
        kill_victim(leave_zombie);
        atomic_store(&world->killed, 1);
    }
    start_kind(WAKER);
    start_kind(LATE);
    if (action == KILL) {
        return;
    }
    if (scenario->second != NULL) {
        rest(2 * SHORT_TICK_US); /* what the first has left is found at ticks */
    }
    settle();
    if (action == QUEUE) {
        kill_victim(leave_zombie);
        atomic_store(&world->killed, 1);
    }
    else {
        atomic_store(&world->released, 1);
        if (place != SLEEPS) {
            CHECK_EQ(ptrace(PTRACE_DETACH, children[VICTIM].pid, NULL, NULL), 0);
        }
    }
}

void
world_run(const struct scenario *s, enum action action, uint32_t k, uint32_t first_k,
          bool leave_zombie, struct outcome *out)
{
    scenario = s;
    outcome = out;
    memset(children, 0, sizeof children);
    world = shared_zeros(sizeof *world);
    if (s->prepare != NULL) {
        s->prepare();
    }
    int fds = count_fds(), mappings = count_mappings();
    if (s->setup != NULL) {
        s->setup();
    }
    start_kind(EARLY);
    interrupt_waits(3000);
    pin(true);
    if (s->second != NULL) {
        (void)step_to(s->victim, first_k);
        out->first_length = out->length;
        out->ended = false;
        kill_victim(false);
    }
    enum place place = step_to(s->second != NULL ? s->second : s->victim, k);
    interrupt_waits(0);
    pin(false);
    act(action, place, leave_zombie);
    finish();
    if (s->between != NULL) {
        s->between();
    }
    start_kind(LAST);
    finish();
    if (s->judge != NULL) {
        s->judge();
    }
    if (s->teardown != NULL) {
        s->teardown();
    }
    CHECK_EQ(count_fds(), fds);
    CHECK_EQ(count_mappings(), mappings);
    _exit(0);
}
