/* event.pml - the word behind Event: a flag and how often it was set; set(), clear(), wait().
 *
 * Stands for: fmp_event_set, fmp_event_clear, fmp_event_arrive, fmp_event_try (csrc/sync/event.[ch]),
 * fmp_wait_sleep and fmp_wake (csrc/sync/eventcount.[ch]), and the loop of csrc/bridge/wait.c around
 * them.
 *
 * N - 1 waiters; process N - 1 sets the event and clears it at once, ROUNDS times. Checked:
 *   - whoever waited while it was set is released, though it is clear again when he looks;
 *   - nobody is released who was not;
 *   - a killed waiter keeps nobody, and what a killed setter did not wake, a tick does.
 */
#ifndef N
#define N 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#include "kernel.pml"

#define SETTER (N - 1)
#define THE_WORD 1

byte word = 0; /* the count, and the flag as its lowest bit */
byte sleepers = 0;
/* What really happened: */
byte sets = 0;
byte sets_at[N]; /* when that waiter had arrived */
bool arrived[N];

inline wait()
{
    atomic { seen_first = word; sets_at[p] = sets; arrived[p] = true };
    do
    :: atomic {
           if
           :: (word & 1) || word / 2 != seen_first / 2 -> break
           :: else -> seen = word
           fi
       };
       sleepers++;
       futex_wait(THE_WORD, word == seen);
       sleepers--
    od;
    assert((seen_first & 1) || sets != sets_at[p])
}

inline wake()
{
    if :: sleepers > 0 -> futex_wake_all(THE_WORD) :: else fi
}

inline set()
{
#ifdef MUTANT_WAKES_FIRST
    wake();
#endif
#ifdef MUTANT_DOES_NOT_COUNT
    atomic { word = word | 1; sets++ };
#else
    atomic { word = (word + 2) | 1; sets++ };
#endif
#if !defined(MUTANT_WAKES_NOBODY) && !defined(MUTANT_WAKES_FIRST)
    wake()
#endif
}

inline clear()
{
    word = word & 254
}

proctype Process(byte p)
{
    byte seen, seen_first, round = 0;
    {
        if
        :: p == SETTER ->
            do
            :: round < ROUNDS -> set(); clear(); round++
            :: else -> break
            od
        :: else -> wait()
        fi;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic { asleep[p] = 0; dead[p] = true };
end:
    skip
}

init
{
    byte i;
    atomic { for (i : 0 .. (N - 1)) { run Process(i) } };
    AT_REST -> for (i : 0 .. (SETTER - 1)) {
        assert(through[i] || dead[i] || (!(word & 1) && sets == sets_at[i]))
    }
}
