/* kernel.pml - what the models take from the system: futexes, ticks, SIGKILL.
 *
 * N processes, numbered p. Steps that are one instruction (a load, a compare-and-swap, the kernel's
 * comparison and queueing under its bucket's lock) are `atomic`; between any two of them anybody may
 * run, or be killed. The models are sequentially consistent, as the C code's atomics are.
 *
 * TICK 0: sleepers are woken by nobody but their wakers. With K == 0 a process left asleep at the
 *         end is a lost wake-up.
 * TICK 1: any sleep may end at any time: for what must never happen.
 * TICK 2: when nothing else can happen, all sleeps end; a few times. For what must happen at last.
 */
#ifndef K
#define K 0 /* kills */
#endif
#ifndef TICK
#define TICK 0
#endif
#ifndef TICKS
#define TICKS 4
#endif

byte asleep[N];  /* on which word, or 0 */
bool killed[N];  /* SIGKILL is pending */
bool dead[N];    /* and was delivered */
bool through[N]; /* has done all it had to do: no more to kill */
byte kills = 0;
byte ticks = 0;

/* Wakes one of those who sleep on `w`, or all. */
inline futex_wake(w)
{
    d_step {
        if
        :: asleep[0] == w -> asleep[0] = 0
        :: asleep[1] == w -> asleep[1] = 0
#if N > 2
        :: asleep[2] == w -> asleep[2] = 0
#endif
#if N > 3
        :: asleep[3] == w -> asleep[3] = 0
#endif
        :: else
        fi
    }
}

inline futex_wake_all(w)
{
    d_step {
        if :: asleep[0] == w -> asleep[0] = 0 :: else fi;
        if :: asleep[1] == w -> asleep[1] = 0 :: else fi;
#if N > 2
        if :: asleep[2] == w -> asleep[2] = 0 :: else fi;
#endif
#if N > 3
        if :: asleep[3] == w -> asleep[3] = 0 :: else fi;
#endif
    }
}

/* Sleeps on `w` if `unchanged`, which is looked at in the same step. */
inline futex_wait(w, unchanged)
{
    atomic { if :: unchanged -> asleep[p] = w :: else fi };
#if TICK == 1
    asleep[p] = 0
#else
    asleep[p] == 0
#endif
}

#if TICK == 2
active proctype Ticker()
{
end_of_ticks:
    do
    :: timeout && ticks < TICKS ->
        d_step {
            ticks++;
            asleep[0] = 0;
            asleep[1] = 0;
#if N > 2
            asleep[2] = 0;
#endif
#if N > 3
            asleep[3] = 0;
#endif
        }
    od
}
#define AT_REST (timeout && ticks == TICKS)
#else
#define AT_REST timeout
#endif

#if K > 0
active proctype Killer()
{
    byte i;
    do
    :: kills < K -> atomic { select(i : 0 .. (N - 1)); killed[i] = true; kills++ }
    :: break
    od
}
#endif

/* A robust mutex: its words are the C library's, and the kernel hands it on when the owner dies.
 * 0: free, else the owner + 1. It is not what is modelled here: a waiter gets it as soon as it is
 * free. */
inline robust_lock(l, died_flag, died)
{
    atomic { l == 0 -> l = p + 1; died = died_flag; died_flag = false }
}

inline robust_unlock(l)
{
    l = 0
}

inline robust_exit(l, died_flag) /* of a process that is killed */
{
    if :: l == p + 1 -> l = 0; died_flag = true :: else fi
}
