/* stepper.h - scenarios for the ptrace stepper: a victim, what others do around it, what must hold.
 *
 * For each instruction k of the victim's operation (between begin() and end()) and for each action,
 * a fresh world: a process that makes the shared objects, forks the actors, lets the victim execute
 * k instructions and then
 *   KILL     kills it, and lets the others go on;
 *   PAUSE    lets the others go on until each has ended or sleeps, then the victim to its end;
 *   QUEUE    the same, but kills the victim instead, now that others wait for it.
 * Everybody but a killed victim has to come to his end, and the scenario judges what is there.
 *
 * In a scenario with a second victim the first is killed at some instruction, chosen anew for each
 * k, and the second, who finds what the first left, is stepped.
 */
#ifndef FMP_CRASH_STEPPER_H
#define FMP_CRASH_STEPPER_H

#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomics.h"
#include "base/status.h"
#include "check.h"
#include "support.h"

enum action { KILL, PAUSE, QUEUE, N_ACTIONS };

/* What is judged. Without ticks nobody learns of a death, so only what is promised without them. */
#define TICKS(action) (1u << (action))
#define NO_TICKS(action) (1u << (N_ACTIONS + (action)))
#define ALWAYS (TICKS(KILL) | TICKS(PAUSE) | TICKS(QUEUE) | NO_TICKS(PAUSE))
#define ALWAYS_AND_KILLS_WITHOUT_TICKS (ALWAYS | NO_TICKS(KILL) | NO_TICKS(QUEUE))

/* When one of the others starts, each kind in the order of the list. */
enum when {
    EARLY = 1, /* before the victim: asleep before it begins */
    WAKER,     /* when the victim falls asleep in its operation, at the latest with LATE */
    LATE,      /* after the kill, or while the victim is paused */
    LAST,      /* when all that came before have ended: shows that what is left can be used */
};

struct other {
    const char *name;
    enum when when;
    void (*run)(void);
};

#define MAX_OTHERS 8

struct scenario {
    const char *name;
    unsigned judged;
    void (*prepare)(void);  /* or NULL; makes what stays open, before the census begins */
    void (*setup)(void);    /* or NULL; in the world's process, before anybody is forked */
    void (*victim)(void);   /* calls begin() and end() */
    void (*second)(void);   /* or NULL */
    void (*look)(void);     /* or NULL; the victim stands still, nobody else has gone on */
    void (*between)(void);  /* or NULL; before the LAST */
    void (*judge)(void);    /* or NULL; all have ended */
    void (*teardown)(void); /* or NULL; gives back what setup() has made, for the census */
    struct other others[MAX_OTHERS + 1];
    struct scenario *next;
};

void scenario_register(struct scenario *one);

#define SCENARIO(variable)                                                                         \
    static struct scenario variable;                                                               \
    __attribute__((constructor)) static void register_##variable(void)                             \
    {                                                                                              \
        scenario_register(&variable);                                                              \
    }                                                                                              \
    static struct scenario variable

/* Shared by all of a world. */
#define VICTIM MAX_OTHERS
#define MAX_PROCESSES (MAX_OTHERS + 1)
struct world {
    fmp_a32 phase;                /* of the victim: enum phase */
    fmp_a32 killed;               /* the victim (of two, the last) was killed */
    fmp_a32 released;             /* ... was paused, and goes on */
    fmp_a32 ticks[MAX_PROCESSES]; /* by each: how often a sleep of his was over in vain */
    fmp_a32 asleep[MAX_PROCESSES];
    /* For the scenarios: zero when a world begins. */
    fmp_a32 inside;
    fmp_a32 recovered;
    fmp_a32 seen[16];
    fmp_a32 counts[16][32];
    _Alignas(64) char room[16384];
};
extern struct world *world;
extern int me; /* index of this process: VICTIM, or as in `others` */

enum phase { BEFORE, INSIDE, ENDED };

/* The victim has ended its operation (it may have been killed afterwards). */
static inline bool
victim_ended(void)
{
    return atomic_load(&world->phase) == ENDED;
}

static inline bool
victim_killed(void)
{
    return atomic_load(&world->killed) != 0;
}

/* Around the victim's operation; between them not a needless instruction. */
static inline void
begin(void)
{
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGSTOP);
    atomic_store(&world->phase, INSIDE);
}

static inline void
end(void)
{
    atomic_store(&world->phase, ENDED);
}

/* Tries until something else than FMP_AGAIN comes, as bridge/wait.c does: first with the GIL, so
 * to speak, spinning for a few looks, then sleeping; `tick`, or NULL, at each tick. */
typedef int (*tick_fn)(void *arg);
int wait_as_bridge(try_fn try_once, tick_fn tick, void *arg);

/* --- world.c ------------------------------------------------------------------------------------ */

/* For look(): does each of the others that lives sleep, at this moment? */
bool others_sleep(void);

struct outcome {
    bool ended;            /* the victim had come to its end before instruction k */
    uint32_t length;       /* and then: of how many instructions its operation was */
    uint32_t first_length; /* the same of the first of two */
    char why[200]; /* what was wrong, when the world's process has ended with another code than 0 */
};

/* Runs one world, as the process that this is, which then ends. */
_Noreturn void world_run(const struct scenario *s, enum action action, uint32_t k, uint32_t first_k,
                         bool leave_zombie, struct outcome *out);

#endif
