/* queue.pml - the ring behind queues, pipes and pools: put, take, growth in place, kills.
 *
 * Stands for: fmp_ring_write, fmp_ring_commit_put, fmp_ring_grow and move_live, fmp_ring_read,
 * fmp_ring_commit_take, lock_side (csrc/channel/ring.c, ring_grow.c), fmp_mailbox_put and fmp_mailbox_take
 * (csrc/channel/mailbox.c), and the waiting around them. A record takes one unit; the ring begins
 * with room for one and doubles. Shrinking, which needs both locks and an empty ring, is left out.
 *
 * NC consumers take one record each, NP producers put PUTS each; MAX > 0 limits the records. Checked:
 *   - whoever takes the record at a position gets what was put there, whole;
 *   - without kills and ticks, nobody sleeps while there is something for him to do;
 *   - with kills, nobody does for longer than some ticks.
 */
#ifndef NC
#define NC 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef PUTS
#define PUTS 3
#endif
#ifndef MAX
#define MAX 0
#endif
#define N (NC + NP)
#include "kernel.pml"

#define HEAD 1
#define TAIL 2
#define LARGEST 4

byte head = 0, tail = 0; /* positions, never reduced: slot number modulo capacity */
byte capacity = 1;
byte slot[LARGEST];
byte takers = 0, putters = 0;                       /* sleepers */
byte head_lock = 0, tail_lock = 0;                  /* robust mutexes */
bool head_owner_died = false, tail_owner_died = false;

inline wake_everybody()
{
    if :: takers > 0 -> futex_wake_all(TAIL) :: else fi;
    if :: putters > 0 -> futex_wake_all(HEAD) :: else fi
}

inline lock(l, owner_died)
{
    robust_lock(l, owner_died, died);
    if :: died -> wake_everybody() :: else fi
}

inline grow() /* with tail_lock */
{
    lock(head_lock, head_owner_died);
#ifdef MUTANT_CAPACITY_FIRST
    capacity = capacity * 2;
    at = head;
    do
    :: at != tail -> slot[at % capacity] = slot[at % (capacity / 2)]; at++
    :: else -> break
    od;
#else
    at = head;
    do
    :: at != tail -> slot[at % (capacity * 2)] = slot[at % capacity]; at++
    :: else -> break
    od;
    capacity = capacity * 2;
#endif
    robust_unlock(head_lock)
}

inline put()
{
    do
    :: lock(tail_lock, tail_owner_died);
       seen = head;
       if
       :: MAX > 0 && tail - seen >= MAX ->
           robust_unlock(tail_lock);
           putters++;
           futex_wait(HEAD, head == seen);
           putters--
       :: else ->
           if :: tail - seen + 1 > capacity -> grow() :: else fi;
#ifdef MUTANT_COMMITS_FIRST
           tail++;
           slot[(tail - 1) % capacity] = tail;
#else
           slot[tail % capacity] = tail + 1;
           tail++;
#endif
#ifndef MUTANT_PUT_WAKES_NOBODY
           if :: takers > 0 -> futex_wake(TAIL) :: else fi;
#endif
           if :: putters > 0 && (MAX == 0 || tail - head < MAX) -> futex_wake(HEAD) :: else fi;
           robust_unlock(tail_lock);
           break
       fi
    od
}

inline take()
{
    do
    :: lock(head_lock, head_owner_died);
       seen = tail;
       if
       :: head == seen ->
           robust_unlock(head_lock);
           takers++;
           futex_wait(TAIL, tail == seen);
           takers--
       :: else ->
           at = head;
#ifdef MUTANT_FREES_FIRST
           head++;
           got = slot[at % capacity];
#else
           got = slot[at % capacity];
           head++;
#endif
           assert(got == at + 1);
#ifndef MUTANT_TAKE_WAKES_NOBODY
           if :: putters > 0 -> futex_wake(HEAD) :: else fi;
#endif
           if :: head != tail && takers > 0 -> futex_wake(TAIL) :: else fi;
           robust_unlock(head_lock);
           break
       fi
    od
}

proctype Process(byte p)
{
    byte seen, at, got, done = 0;
    bool died;
    {
        do
        :: done < (p < NC -> 1 : PUTS) ->
            if :: p < NC -> take() :: else -> put() fi;
            done++
        :: else -> break
        od;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic {
        asleep[p] = 0;
        dead[p] = true;
        robust_exit(head_lock, head_owner_died);
        robust_exit(tail_lock, tail_owner_died)
    };
end:
    skip
}

init
{
    byte i;
    atomic { for (i : 0 .. (N - 1)) { run Process(i) } };
    AT_REST ->
    for (i : 0 .. (N - 1)) {
        assert(through[i] || dead[i] || (i < NC -> head == tail : (MAX > 0 && tail - head >= MAX)))
    }
}
