/* extent.pml - who may write to an extent: records that refer to one, and leases.
 *
 * Stands for: fmp_extent_write with is_waited_for() and is_free(), fmp_extents_trim, fmp_extent_lease
 * and fmp_extent_copy (csrc/channel/extent.c), as they are called under the locks of csrc/channel/ring.c between the look
 * at the positions and the commit; fmp_lease_take and fmp_lease_exists (csrc/platform/lease.c), of
 * which the kernel is asked in one step. Sleeping is queue.pml's matter: here who finds nothing waits.
 *
 * N - NT senders put PUTS messages into E extents, or copy them whole where none is free; NT takers
 * take them and look at them twice, under a lease, or before the commit, which is a copy. A message is
 * written in two steps. Checked:
 *   - what a taker sees, as long as it has its lease or copies, is the message that it took, whole;
 *   - memory that is given back is nobody's.
 */
#ifndef N
#define N 3
#endif
#ifndef NT
#define NT 1
#endif
#ifndef E
#define E 2
#endif
#ifndef PUTS
#define PUTS 3
#endif
#include "kernel.pml"

#define NONE E

byte head = 0, tail = 0;          /* positions; they do not wrap here */
byte head_lock = 0, tail_lock = 0; /* robust; nobody has to be told of a death */
bool head_died, tail_died;
byte place[PUTS];                 /* of the record at a position: its extent, or NONE */
bool reserved[E];
byte record[E];
byte first[E], second[E];         /* the two halves of what was written: 1 + the position, or 0 */
byte leases[E];                   /* a bit for each process */

#define LEASED(e) (leases[e] != 0)
#define WAITED_FOR(e) (reserved[e] && record[e] >= seen && record[e] < tail)

/* Sets `is_free`. */
inline look_at(e)
{
#ifdef MUTANT_LEASES_FIRST
    atomic { is_free = !LEASED(e) };
    seen = head;
    is_free = is_free && !WAITED_FOR(e)
#else
    seen = head;
    is_free = !WAITED_FOR(e);
#ifndef MUTANT_IGNORES_LEASES
    atomic { is_free = is_free && !LEASED(e) }
#endif
#endif
}

/* A free extent as `found`, or NONE. */
inline choose()
{
    found = NONE;
    i = 0;
    do
    :: i < E && found == NONE ->
        look_at(i);
        if :: is_free -> found = i :: else fi;
        i++
    :: else -> break
    od
}

inline write(e)
{
    reserved[e] = true;
    first[e] = tail + 1;
    second[e] = tail + 1;
#ifndef MUTANT_NAMED_AFTER_THE_COMMIT
    record[e] = tail
#endif
}

inline trim()
{
    i = 0;
    do
    :: i < E ->
        if
        :: reserved[i] ->
            look_at(i);
            if
            :: is_free ->
                reserved[i] = false;
                atomic { assert(!LEASED(i)); first[i] = 0; second[i] = 0 }
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od
}

inline put()
{
    choose();
    if
    :: found != NONE -> write(found)
    :: else
    fi;
    place[tail] = found;
    tail++;
#ifdef MUTANT_NAMED_AFTER_THE_COMMIT
    if :: found != NONE -> record[found] = tail - 1 :: else fi
#endif
}

proctype Sender(byte p)
{
    byte seen, found, i;
    bool is_free, died;
    {
        do
        :: robust_lock(tail_lock, tail_died, died);
           if
           :: tail == PUTS -> robust_unlock(tail_lock); break
           :: else ->
               if :: put() :: trim() fi;
               robust_unlock(tail_lock)
           fi
        od;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic { robust_exit(tail_lock, tail_died); dead[p] = true };
end:
    skip
}

inline look()
{
    atomic { assert(first[e] == number + 1 && second[e] == number + 1) }
}

proctype Taker(byte p)
{
    byte e, number;
    bool died, copies = false;
    {
        do
        :: atomic { (head < tail || head == PUTS) && head_lock == 0 -> head_lock = p + 1 };
           if
           :: head == PUTS -> robust_unlock(head_lock); break
           :: head == tail -> robust_unlock(head_lock)
           :: else ->
               number = head;
               e = place[number];
#ifdef MUTANT_COMMITS_FIRST
               head++;
#endif
#ifdef MUTANT_COPIES_AFTER_THE_COMMIT
               copies = true;
               head++;
#endif
               if
               :: e != NONE && !copies -> leases[e] = leases[e] | (1 << p)
               :: e != NONE -> copies = true; look(); look()
               :: else
               fi;
#if !defined(MUTANT_COMMITS_FIRST) && !defined(MUTANT_COPIES_AFTER_THE_COMMIT)
               head++;
#endif
               robust_unlock(head_lock);
               if
               :: e != NONE && !copies -> look(); look(); leases[e] = leases[e] & ~(1 << p)
               :: else
               fi;
               copies = false
           fi
        od;
        through[p] = true;
        goto end
    } unless { killed[p] && !through[p] };
    atomic { /* the kernel ends its leases */
        robust_exit(head_lock, head_died);
        e = 0;
        do
        :: e < E -> leases[e] = leases[e] & ~(1 << p); e++
        :: else -> break
        od;
        dead[p] = true
    };
end:
    skip
}

init
{
    byte i;
    atomic {
        for (i : 0 .. (NT - 1)) { run Taker(i) };
        for (i : NT .. (N - 1)) { run Sender(i) }
    }
}
