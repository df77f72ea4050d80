/* lock.pml - the word behind Lock and RLock, with kills at every step.
 *
 * Stands for: fmp_userlock_try, fmp_userlock_release, fmp_userlock_recover (csrc/sync/userlock.[ch]),
 * fmp_wait_sleep and fmp_wake (csrc/sync/eventcount.[ch]), and the loop of csrc/bridge/wait.c around
 * them. All holds are scoped.
 *
 * N processes take the lock ROUNDS times each; K of them are killed anywhere. Checked:
 *   - never two living processes inside;
 *   - without kills, and without ticks, everybody gets through: no wake-up is lost;
 *   - with kills, and with ticks, every living process gets through.
 */
#ifndef N
#define N 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#include "kernel.pml"

#define FREE 0
#define ME (p + 1)
#define THE_WORD 1

byte word = FREE; /* the holder + 1 */
byte sleepers = 0;
byte inside = 0; /* living processes that hold the lock */

inline recover() /* fmp_userlock_recover: the holder is looked at, then a compare-and-swap */
{
    seen = word;
    if
    :: seen != FREE && dead[seen - 1] ->
#ifdef MUTANT_RECOVERS_BLINDLY
        word = ME; inside++; break
#else
        atomic { if :: word == seen -> word = ME; inside++; break :: else fi }
#endif
    :: else
    fi
}

inline acquire()
{
    do
    :: atomic {
           if
           :: word == FREE -> word = ME; inside++; break
           :: else -> seen = word
           fi
       };
#ifdef MUTANT_COUNTS_LATE
       futex_wait(THE_WORD, word == seen);
       sleepers++;
#else
       sleepers++;
       futex_wait(THE_WORD, word == seen);
#endif
       sleepers--;
#if TICK > 0 && !defined(MUTANT_NO_RECOVERY)
       recover()
#endif
    od
}

inline release()
{
    atomic { word = FREE; inside-- };
#ifndef MUTANT_NO_WAKE
    if :: sleepers > 0 -> futex_wake(THE_WORD) :: else fi
#endif
}

proctype Process(byte p)
{
    byte seen, round = 0;
    {
        do
        :: round < ROUNDS ->
            acquire();
            assert(inside <= 1);
            release();
            round++
        :: else -> break
        od;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic { asleep[p] = 0; dead[p] = true; if :: word == ME -> inside-- :: else fi };
end:
    skip
}

init
{
    byte i;
    atomic { for (i : 0 .. (N - 1)) { run Process(i) } };
    AT_REST -> for (i : 0 .. (N - 1)) { assert(through[i] || dead[i]) }
}
