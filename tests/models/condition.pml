/* condition.pml - the table of waiters behind Condition: arrive, notify, time out, die.
 *
 * Stands for: fmp_condition_arrive, fmp_condition_try, fmp_condition_leave, notify_place, reach,
 * fmp_condition_notify and fmp_condition_tick (csrc/sync/condition.c) under a lock that is not
 * native, where a notified waiter is woken. The crowd beyond the table is left out: it sleeps on one
 * word, as Event's waiters do (event.pml).
 *
 * N - 1 waiters; when all have arrived, process N - 1 notifies one, under the lock. -DTIMEOUTS lets
 * any wait run out. Checked:
 *   - no more than one living waiter is told that it was notified;
 *   - nobody waits on when nobody was told: a notification that a killed waiter had got goes to
 *     another, and what meets a timeout counts;
 *   - nobody who was notified sleeps on.
 */
#ifndef N
#define N 3
#endif
#include "kernel.pml"

#define WAITERS (N - 1)
#define NOTIFIER (N - 1)
#define NOBODY 0
#define EMPTY 0
#define WAITING 1
#define NOTIFIED 2
#define WORD(i) ((i) + 1) /* a futex each */

byte lock = 0;
bool lock_owner_died = false;
byte arrivals = 0;
byte who[WAITERS];   /* the owner of the place + 1 */
byte state[WAITERS]; /* of the place's word */
byte order[WAITERS];
byte told = 0;       /* waiters that left as notified */
byte told_dead = 0;  /* and were killed then */
bool notified_one = false;

inline user_lock()
{
    robust_lock(lock, lock_owner_died, died)
}

/* The oldest that waits, or WAITERS. */
inline find_oldest()
{
    d_step {
        found = WAITERS;
        i = 0;
        do
        :: i < WAITERS ->
            if
            :: state[i] == WAITING && (found == WAITERS || order[i] < order[found]) -> found = i
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0
    }
}

/* for_certain: a zombie counts as dead; otherwise it may pass for alive. */
inline notify(for_certain)
{
    do
    :: find_oldest();
       if :: found == WAITERS -> break :: else fi;
       owner = who[found];
       atomic { won = state[found] == WAITING; if :: won -> state[found] = NOTIFIED :: else fi };
       if
       :: won ->
           atomic {
               slept = false;
               if
               :: owner != NOBODY && asleep[owner - 1] == WORD(found) -> slept = true
               :: else
               fi;
#ifndef MUTANT_NOTIFY_WAKES_NOBODY
               futex_wake(WORD(found))
#endif
           };
           if
           :: slept || !dead[owner - 1] -> notified_one = true; break
           :: !slept && dead[owner - 1] && !for_certain -> notified_one = true; break
           :: !slept && dead[owner - 1] ->
               bury(found, NOTIFIED);
               if :: !won -> notified_one = true; break :: else fi /* who did passes it on */
           fi
       :: else
       fi
    od
}

/* Frees the place of a dead owner, unless somebody else did something to it. */
inline bury(place, seen)
{
#ifdef MUTANT_BURIES_BLINDLY
    won = true;
    state[place] = EMPTY;
#else
    atomic { won = state[place] == seen; if :: won -> state[place] = EMPTY :: else fi };
#endif
    atomic { if :: won && who[place] == owner -> who[place] = NOBODY :: else fi }
}

inline tick()
{
    j = 0;
    do
    :: j < WAITERS ->
        owner = who[j];
        if
        :: state[j] == NOTIFIED && owner != p + 1 && owner != NOBODY && dead[owner - 1] ->
            bury(j, NOTIFIED);
            if
            :: won ->
                skip;
#ifndef MUTANT_ZOMBIE_KEEPS_IT
                notify(true)
#endif
            :: else
            fi
        :: else
        fi;
        j++
    :: else -> break
    od
}

inline arrive()
{
    atomic { who[p] == NOBODY -> who[p] = p + 1 }; /* a place each: the search is not the point */
    order[p] = arrivals;
    arrivals++;
    state[p] = WAITING
}

/* The place back; was it notified? */
inline leave()
{
    atomic { won = state[p] == WAITING; if :: won -> state[p] = EMPTY :: else fi };
    atomic {
        state[p] = EMPTY; /* who is killed from here on has had it */
#ifdef MUTANT_TIMEOUT_SWALLOWS
        if :: !won && !ran_out -> told++; told_me = true :: else fi
#else
        if :: !won -> told++; told_me = true :: else fi
#endif
    };
    who[p] = NOBODY
}

proctype Waiter(byte p)
{
    byte i = 0, j = 0, found = 0, owner = 0;
    bool died, won, slept, ran_out = false, told_me = false;
    {
        user_lock();
        arrive();
        robust_unlock(lock);
        do
        :: state[p] != WAITING -> break
        :: state[p] == WAITING ->
            futex_wait(WORD(p), state[p] == WAITING);
#if TICK > 0
            if :: state[p] == WAITING -> tick() :: else fi
#endif
#ifdef TIMEOUTS
        :: ran_out = true; break
#endif
        od;
        leave();
        user_lock();
        robust_unlock(lock);
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic {
        asleep[p] = 0;
        dead[p] = true;
        if :: told_me -> told_dead++ :: else fi;
        robust_exit(lock, lock_owner_died)
    };
end:
    skip
}

proctype Notifier(byte p)
{
    byte i = 0, found = 0, owner = 0;
    bool died, won, slept;
    arrivals == WAITERS;
    user_lock();
    notify(false);
    robust_unlock(lock);
    through[p] = true
}

init
{
    byte i;
    atomic {
        for (i : 0 .. (WAITERS - 1)) { run Waiter(i) };
        run Notifier(NOTIFIER)
    };
    AT_REST ->
    assert(told - told_dead <= 1);
    for (i : 0 .. (WAITERS - 1)) {
        if
        :: !dead[i] && !through[i] -> assert(state[i] == WAITING && (!notified_one || told > 0))
        :: else
        fi
    }
}
