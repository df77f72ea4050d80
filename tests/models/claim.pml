/* claim.pml - who holds a pool's task, and what becomes of it when its worker is killed.
 *
 * Stands for: fmp_taskboard_take with the claim that fmp_mailbox_take writes before its commit,
 * fmp_taskboard_post, fmp_taskboard_claimed_elsewhere (csrc/channel/taskboard.c) and the burial of a
 * worker in csrc/objects/py_pool_slots.c and fastmp/_workers.py. Sleeping is queue.pml's matter:
 * here who finds nothing simply waits.
 *
 * TASKS tasks, SLOTS workers, K kills; each dead worker is buried, and its slot given to another.
 * Checked: each task has one outcome in the end, a result or a failure; and it fails only if a
 * worker was killed that held it.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef K
#define K 1
#endif
#define NO_CLAIM 0
#define NOBODY 0

byte head = 0;                 /* of the tasks' ring; task t lies at position t - 1 */
byte head_lock = NOBODY;       /* robust: slot + 1, or SLOTS + 1 for the parent */
byte claim[SLOTS];
bool killed[SLOTS], dead[SLOTS], idle[SLOTS];
byte kills = 0;
byte posted[TASKS + 1];        /* results in the ring */
byte outcome[TASKS + 1];       /* 0, or 1: a result, 2: failed */
byte run_by[TASKS + 1];        /* how many workers have begun it */
bool was_held[TASKS + 1];      /* a worker died between its commit and its result */

proctype Worker(byte p)
{
    byte task = 0;
    {
        do
        :: idle[p] = false;
           atomic { head_lock == NOBODY -> head_lock = p + 1 };
           if
           :: head == TASKS -> head_lock = NOBODY; break
           :: else ->
#ifdef MUTANT_CLAIMS_LATE
               task = head + 1;
               head++;
               claim[p] = task;
#else
               task = head + 1;
               claim[p] = task;
               head++;
#endif
               head_lock = NOBODY;
               run_by[task]++;
#ifdef MUTANT_UNCLAIMS_EARLY
               claim[p] = NO_CLAIM;
               posted[task]++;
#else
               posted[task]++;
               claim[p] = NO_CLAIM;
#endif
               task = 0
           fi
        od;
        idle[p] = true;
        goto end
    } unless { killed[p] && !idle[p] };
    atomic {
        if :: head_lock == p + 1 -> head_lock = NOBODY :: else fi;
        if :: task != 0 && head >= task && posted[task] == 0 -> was_held[task] = true :: else fi;
        dead[p] = true
    };
end:
    skip
}

active proctype Killer()
{
    byte i;
    do
    :: kills < K -> atomic { select(i : 0 .. (SLOTS - 1)); killed[i] = true; kills++ }
    :: break
    od
}

inline collect()
{
    d_step {
        t = 1;
        do
        :: t <= TASKS ->
            if
            :: posted[t] > 0 ->
                posted[t]--;
                if :: outcome[t] == 0 -> outcome[t] = 1 :: else -> assert(outcome[t] == 2) fi
            :: else
            fi;
            t++
        :: else -> break
        od;
        t = 0
    }
}

/* claimed_elsewhere under the lock that takes need; then the results; then the verdict. */
inline bury()
{
    lost = claim[s];
#ifdef MUTANT_RESULTS_FIRST
    collect();
#endif
    atomic { head_lock == NOBODY -> head_lock = SLOTS + 1 };
    elsewhere = (lost != NO_CLAIM && head == lost - 1);
    other = 0;
    do
    :: other < SLOTS ->
#ifndef MUTANT_LOOKS_AT_NO_OTHER
        if :: other != s && lost != NO_CLAIM && claim[other] == lost -> elsewhere = true :: else fi;
#endif
        other++
    :: else -> break
    od;
    head_lock = NOBODY;
#ifndef MUTANT_RESULTS_FIRST
    collect();
#endif
    if
    :: lost != NO_CLAIM && !elsewhere && outcome[lost] == 0 ->
        outcome[lost] = 2;
        assert(was_held[lost])
    :: else
    fi;
    claim[s] = NO_CLAIM;
    atomic { killed[s] = false; dead[s] = false; run Worker(s) }
}

active proctype Parent()
{
    byte s = 0, t = 0, lost, other;
    bool elsewhere;
    do
    :: atomic { dead[0] -> s = 0 }; bury()
#if SLOTS > 1
    :: atomic { dead[1] -> s = 1 }; bury()
#endif
#if SLOTS > 2
    :: atomic { dead[2] -> s = 2 }; bury()
#endif
    :: timeout -> break
    od;
    collect();
    for (t : 1 .. TASKS) { assert(outcome[t] != 0) }
}

init
{
    byte i;
    atomic { for (i : 0 .. (SLOTS - 1)) { run Worker(i) } }
}
