/* main.c - runs the scenarios of the stepper over all their points, and prints a row for each.
 *
 *   stepper [--points N] [--offset N] [--jobs N] [--stop-after N] [SCENARIO ...]
 *
 * --points N: about N instructions of each operation instead of all, which of them --offset says.
 * --stop-after N: enough of a scenario after so many violations. Exit code 1: there were some. */
#include <getopt.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "stepper.h"

#define SHOWN 3       /* violations of a scenario that are told in full */
#define FIRST_KILLS 2 /* of a first victim, for each point of the second */
#define QUEUE_EVERY 3 /* instructions, in a run over all: the two other actions come near it */
#define UNKNOWN_LENGTH 300

#ifdef FMP_NO_TICK
#define VARIANT "no ticks"
#define JUDGED(action) NO_TICKS(action)
#else
#define VARIANT "ticks"
#define JUDGED(action) TICKS(action)
#endif

static const char *const action_names[] = {"kill", "pause", "queue"};

static struct scenario *first_scenario;

void
scenario_register(struct scenario *one)
{
    struct scenario **end = &first_scenario;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = one;
}

static uint32_t points, offset, jobs = 2, stop_after = UINT32_MAX;

/* What the jobs share while they go over a scenario. */
struct progress {
    fmp_a32 next;
    fmp_a32 end; /* the first k known to lie behind the operation's end */
    fmp_a32 worlds, kills, pauses, violations;
    fmp_a32 longest; /* instructions */
    struct outcome outcome[];
};
static struct progress *progress;

struct point {
    enum action action;
    uint32_t k, first_k;
    bool leave_zombie;
};

/* Runs a world; what it has written to its output is in `said`. Whether it was as it should be. */
static bool
run(const struct scenario *s, const struct point *p, struct outcome *out, char *said, size_t size)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("said", 0);
        CHECK(fd >= 0);
    }
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    memset(out, 0, sizeof *out);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setsid();
        dup2(fd, 1);
        dup2(fd, 2);
        world_run(s, p->action, p->k, p->first_k, p->leave_zombie, out);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        CHECK_EQ(errno, EINTR);
    }
    kill(-pid, SIGKILL);
    ssize_t n = pread(fd, said, size - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    return status == 0;
}

static bool
judged(const struct scenario *s, enum action action)
{
    return (s->judged & JUDGED(action)) != 0;
}

/* How long the operations are: of the first of two victims and of the one that is stepped. False
 * when that does not come to its end: then so far it is gone over. */
static bool
measure(const struct scenario *s, uint32_t *length, uint32_t *first_length)
{
    char said[1000];
    struct point whole = {.action = PAUSE, .k = UINT32_MAX, .first_k = UINT32_MAX};
    bool good =
        run(s, &whole, &progress->outcome[0], said, sizeof said) && progress->outcome[0].length > 0;
    *length = progress->outcome[0].length;
    *first_length = progress->outcome[0].first_length;
    if (!good) {
        printf("VIOLATION %s (%s) at full length: %s\n%s", s->name, VARIANT,
               progress->outcome[0].why, said);
        atomic_store(&progress->violations, 1);
        *length = *length > 0 ? *length : UNKNOWN_LENGTH;
    }
    return good;
}

static void
report(const struct scenario *s, const struct point *p, const struct outcome *out, const char *said)
{
    if (atomic_fetch_add(&progress->violations, 1) >= SHOWN) {
        return;
    }
    printf("VIOLATION %s (%s): %s at %u", s->name, VARIANT, action_names[p->action], p->k);
    if (s->second != NULL) {
        printf(", the first killed at %u", p->first_k);
    }
    printf(": %s\n%s", out->why[0] != '\0' ? out->why : "the judge", said);
    fflush(stdout);
}

static void
go_over(const struct scenario *s, unsigned job, uint32_t stride, uint32_t first_length)
{
    enum action actions[N_ACTIONS] = {KILL};
    uint32_t n_actions = 0, repeats = s->second == NULL ? 1
                                    : stride == 1       ? FIRST_KILLS
                                                        : FIRST_KILLS / 2;
    for (enum action a = 0; a < N_ACTIONS; a++) {
        if (judged(s, a)) {
            actions[n_actions++] = a;
        }
    }
    struct outcome *out = &progress->outcome[job];
    while (atomic_load(&progress->violations) < stop_after) {
        uint32_t index = atomic_fetch_add(&progress->next, 1);
        uint32_t turn = index / n_actions;
        struct point p = {.action = actions[index % n_actions],
                          .k = turn / repeats * stride + offset % stride};
        uint64_t seed = (uint64_t)turn * 31 + offset;
        (void)random_next(&seed);
        p.first_k = random_next(&seed) % (first_length + 1);
        p.leave_zombie = random_next(&seed) & 1;
        if (p.k > atomic_load(&progress->end)) {
            return;
        }
        if (p.action == QUEUE && stride == 1 && p.k % QUEUE_EVERY != offset % QUEUE_EVERY) {
            continue;
        }
        char said[1000];
        if (!run(s, &p, out, said, sizeof said)) {
            report(s, &p, out, said);
        }
        atomic_fetch_add(&progress->worlds, 1);
        atomic_fetch_add(p.action == PAUSE ? &progress->pauses : &progress->kills, 1);
        uint32_t end = atomic_load(&progress->end);
        while (out->ended && p.k < end
               && !atomic_compare_exchange_weak(&progress->end, &end, p.k)) {
        }
    }
}

static uint32_t
run_scenario(const struct scenario *s)
{
    if (!judged(s, KILL) && !judged(s, PAUSE) && !judged(s, QUEUE)) {
        return 0;
    }
    uint32_t length, first_length;
    long long begun = check_now_ms();
    progress = shared_zeros(sizeof *progress + jobs * sizeof progress->outcome[0]);
    /* Where another was in the way it may be longer, so its own end is what counts. */
    bool good = measure(s, &length, &first_length);
    atomic_store(&progress->end, good ? UINT32_MAX - 1 : length);
    uint32_t stride = points != 0 && length > points ? length / points : 1;
    for (unsigned job = 0; job < jobs; job++) {
        fflush(NULL);
        if (fork() == 0) {
            go_over(s, job, stride, first_length);
            fflush(NULL);
            _exit(0);
        }
    }
    for (unsigned job = 0; job < jobs; job++) {
        int status;
        CHECK(wait(&status) > 0 && status == 0);
    }
    uint32_t violations = atomic_load(&progress->violations);
    printf("%-22s%-10s%8u%8u%8u%8u%8u%8.1f\n", s->name, VARIANT, length,
           atomic_load(&progress->worlds), atomic_load(&progress->kills),
           atomic_load(&progress->pauses), violations, (double)(check_now_ms() - begun) / 1000);
    fflush(stdout);
    munmap(progress, sizeof *progress + jobs * sizeof progress->outcome[0]);
    return violations;
}

static bool
wanted(const char *name, int argc, char **argv)
{
    bool found = optind == argc;
    for (int i = optind; i < argc; i++) {
        found = found || strcmp(argv[i], name) == 0;
    }
    return found;
}

static void
parse(int argc, char **argv)
{
    static const struct option options[] = {{"points", required_argument, NULL, 'p'},
                                            {"offset", required_argument, NULL, 'o'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"stop-after", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        uint32_t value = optarg != NULL ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'p':
            points = value;
            break;
        case 'o':
            offset = value;
            break;
        case 'j':
            jobs = value;
            break;
        case 's':
            stop_after = value;
            break;
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    parse(argc, argv);
    uint32_t violations = 0;
    for (const struct scenario *s = first_scenario; s != NULL; s = s->next) {
        if (wanted(s->name, argc, argv)) {
            violations += run_scenario(s);
        }
    }
    return violations > 0;
}
