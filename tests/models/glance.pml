/* glance.pml - reading what a lock guards without taking it, with kills at every step.
 *
 * Stands for: fmp_userlock_take, fmp_userlock_recover, fmp_userlock_glance, fmp_userlock_glanced
 * (csrc/sync/userlock.[ch]) and fmp_synced_glance (csrc/objects/synced.h). How holders wait for one another
 * is lock.pml's.
 *
 * Process N - 1 glances; the others hold the lock ROUNDS times each, and write twice in each hold. K of
 * them are killed anywhere. Checked: a glance that is believed has seen what a hold left that had ended,
 * and none that had been followed by another when the glance began.
 */
#ifndef N
#define N 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#include "kernel.pml"

#define READER (N - 1)
#define FREE 0
#define ME (p + 1)

byte word = FREE; /* the holder + 1 */
byte holds = 0;
byte item = 0; /* odd: somebody is at it */
/* What really happened: */
byte left = 0; /* by the last hold that ended */

inline count_hold()
{
    n = holds;
    holds = n + 1
}

inline acquire()
{
    if
    :: atomic { word == FREE -> word = ME };
#ifndef MUTANT_COUNTS_LATE
       count_hold()
#endif
    :: atomic { word != FREE && dead[word - 1] -> word = ME };
#ifndef MUTANT_RECOVERY_DOES_NOT_COUNT
       count_hold()
#endif
    fi
}

inline write()
{
    item = item | 1;
    item = item + 1;
#ifdef MUTANT_COUNTS_LATE
    count_hold();
#endif
}

inline release()
{
    atomic { left = item; word = FREE }
}

inline glance()
{
    atomic { n = holds; since = left };
#ifndef MUTANT_LOOKS_AT_NO_WORD
    if :: word != FREE -> goto end :: else fi;
#endif
    seen = item;
    atomic {
        if
#ifdef MUTANT_BELIEVES_AT_ONCE
        :: true ->
#else
        :: holds == n ->
#endif
            assert((seen & 1) == 0 && since <= seen && seen <= left)
        :: else
        fi
    }
}

proctype Process(byte p)
{
    byte n, seen, since, round = 0;
    {
        if
        :: p == READER -> glance()
        :: else ->
            do
            :: round < ROUNDS -> acquire(); write(); release(); round++
            :: else -> break
            od
        fi;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    dead[p] = true;
end:
    skip
}

init
{
    byte i;
    atomic { for (i : 0 .. (N - 1)) { run Process(i) } };
    AT_REST -> for (i : 0 .. (N - 2)) { assert(through[i] || dead[i]) }
}
