"""What is broken on purpose, and which scenario of the stepper has to notice.

A mutant is one textual change of a copy of csrc/. Its old text must occur exactly once, so a
change of the sources that makes a mutant meaningless is an error, not a mutant that is missed.
"""

from typing import NamedTuple

TICKS, NO_TICKS = "ticks", "noticks"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    #: (variant, scenario, ...): these are run, and one of them has to report violations
    caught_by: tuple[str, ...]
    quick: bool = False  # in CI too
    points: int = 40  # of each operation: enough to meet it


#: What was tried and cannot be told from the original: docs/crash-safety.md.
MUTANTS: list[Mutant] = [
    Mutant(
        "mutex: a dead owner's mutex is not made consistent",
        "sync/mutex.c",
        "        pthread_mutex_consistent(&m->mutex);\n",
        "",
        (TICKS, "mutex"),
    ),
    Mutant(
        "lock: a dead holder's lock is taken over without comparing",
        "sync/userlock.c",
        "!atomic_compare_exchange_strong(&l->word, &held, tag)) {",
        "(atomic_store(&l->word, tag), false)) {",
        (TICKS, "lock-twice"),
    ),
    Mutant(
        "lock: no recovery",
        "sync/userlock.c",
        "if ((held & FMP_USERLOCK_SCOPED) == 0) {",
        "if (held != 1) {",
        (TICKS, "lock"),
    ),
    Mutant(
        "lock: a release wakes nobody",
        "sync/userlock.h",
        "    fmp_wake(fmp_low_half(&l->word), &l->sleepers, 1);\n",
        "",
        (NO_TICKS, "lock-woken", "lock-release"),
    ),
    Mutant(
        "sleep: counted after the kernel's look",
        "sync/eventcount.c",
        "    atomic_fetch_add(w->sleepers, 1);\n"
        "    int rc = fmp_futex_wait(w->word, w->seen, nap ? w->nap_ns : ns);\n",
        "    int rc = fmp_futex_wait(w->word, w->seen, nap ? w->nap_ns : ns);\n"
        "    atomic_fetch_add(w->sleepers, 1);\n",
        (NO_TICKS, "lock-woken", "queue-put"),
    ),
    Mutant(
        "sleep: the word is not compared with what was seen",
        "sync/eventcount.c",
        "fmp_futex_wait(w->word, w->seen, nap",
        "fmp_futex_wait(w->word, atomic_load(w->word), nap",
        (NO_TICKS, "lock-woken", "queue-get-woken"),
        quick=True,
    ),
    Mutant(
        "semaphore: a release wakes nobody",
        "sync/semaphore.c",
        "    fmp_wake(fmp_low_half(&s->word), &s->sleepers, count);\n",
        "    (void)s;\n    (void)count;\n",
        (NO_TICKS, "semaphore-give", "semaphore-woken"),
    ),
    Mutant(
        "semaphore: a dead owner's units are not given back",
        "sync/semaphore.c",
        "uint64_t value = (uint64_t)(uint32_t)word + held;",
        "uint64_t value = (uint64_t)(uint32_t)word;",
        (TICKS, "semaphore", "semaphore-twice"),
    ),
    Mutant(
        "semaphore: a stamp is replaced before it is in its place",
        "sync/semaphore.c",
        "        reflect(s, word);\n        taken =",
        "        taken =",
        (TICKS, "semaphore", "semaphore-twice"),
    ),
    Mutant(
        "semaphore: a dead owner's units are given back without a stamp",
        "sync/semaphore.c",
        "lost = make_stamp(place, LOST, next_number(p)) | value;",
        "lost = fmp_semaphore_after(word, (uint32_t)value);",
        (TICKS, "semaphore", "semaphore-twice"),
    ),
    Mutant(
        "event: set() wakes nobody",
        "sync/event.c",
        "    fmp_wake(&e->word, &e->sleepers, INT_MAX);\n",
        "    (void)INT_MAX;\n",
        (NO_TICKS, "event-set", "event-wait"),
    ),
    Mutant(
        "event: set() does not count",
        "sync/event.c",
        "(word + 2) | 1",
        "word | 1",
        (NO_TICKS, "event-flash"),
    ),
    Mutant(
        "event: set() wakes before it sets",
        "sync/event.c",
        "    uint32_t word = atomic_load(&e->word);\n    while",
        "    uint32_t word = atomic_load(&e->word);\n"
        "    fmp_wake(&e->word, &e->sleepers, INT_MAX);\n    if ((word & 1) == 0) {\n"
        "        atomic_store(&e->word, (word + 2) | 1);\n        return;\n    }\n    while",
        (NO_TICKS, "event-set", "event-wait"),
    ),
    Mutant(
        "condition: notify() wakes nobody",
        "sync/condition.c",
        "? fmp_futex_requeue(word, atomic_load(word), fmp_low_half(&lock->word))",
        "? false",
        (NO_TICKS, "condition-notify", "condition-wait"),
    ),
    Mutant(
        "condition: what a dead waiter was told goes to nobody",
        "sync/condition.c",
        "    notify(c, 1, NULL, true); /* who is",
        "    /* who is",
        (TICKS, "condition-wait"),
    ),
    Mutant(
        "condition: notify() does not look whether its waiter lives",
        "sync/condition.c",
        "    return for_certain ? fmp_who_alive(owner) : !fmp_who_vanished(owner);\n",
        "    (void)for_certain;\n    return true;\n",
        (NO_TICKS, "condition-dead"),
    ),
    Mutant(
        "condition: a moved waiter stays counted as the lock's sleeper",
        "sync/condition.c",
        "        if ((found & STATE) == MOVED && lock != NULL) {\n",
        "        if (false) {\n",
        (TICKS, "condition-notify"),
    ),
    Mutant(
        "barrier: a dead owner's round is not broken",
        "sync/barrier.c",
        "    if (rc == FMP_OWNER_DIED) {\n"
        "        end_round(b, FMP_PLACE_BROKE, FMP_BARRIER_BROKEN);\n",
        "    if (rc == FMP_OWNER_DIED) {\n",
        (TICKS, "barrier-last"),
        points=200,
    ),
    Mutant(
        "barrier: who waits does not look at the mutex",
        "sync/barrier.c",
        "    if (lock(b, &now) == FMP_OK) {\n        fmp_mutex_unlock(&b->shm->mutex);\n    }\n",
        "    (void)now;\n",
        (TICKS, "barrier-last"),
        points=200,
    ),
    Mutant(
        "barrier: a dead neighbour is not looked at",
        "sync/barrier.c",
        "        if (who != me && !fmp_who_alive(who)) {\n            bury_at_tick",
        "        if (who == 1) {\n            bury_at_tick",
        (TICKS, "barrier-die"),
    ),
    Mutant(
        "barrier: the last to come wakes nobody",
        "sync/barrier.c",
        "        end_round(b, FMP_PLACE_PASSED, FMP_BARRIER_FILLING);\n"
        "        return unlock_and_wake(b, FMP_OK);\n",
        "        end_round(b, FMP_PLACE_PASSED, FMP_BARRIER_FILLING);\n"
        "        return unlock(b, FMP_OK);\n",
        (NO_TICKS, "barrier-wait", "barrier-last"),
    ),
    Mutant(
        "ring: committed before the record is written",
        "channel/ring.c",
        '    FMP_POINT("ring: to write");\n',
        "    atomic_store(&shm->tail, advance(tail, units, batch->items));\n",
        (TICKS, "queue-put", "queue-put-many", "pipe-send"),
        quick=True,
    ),
    Mutant(
        "ring: the place is free before the record is read",
        "channel/ring.c",
        "        out->size = f->span * FMP_UNIT;\n",
        "        out->size = f->span * FMP_UNIT;\n"
        "    atomic_store(&r->shm->head, advance(f->head, f->span, f->items));\n"
        "    fmp_wake(fmp_low_half(&r->shm->head), &r->shm->putters, 1);\n",
        (TICKS, "queue-get"),
    ),
    Mutant(
        "ring: a put wakes nobody",
        "channel/ring.c",
        "    fmp_wake(fmp_low_half(&shm->tail), &shm->takers, items > INT_MAX "
        "? INT_MAX : (int)items);\n",
        "    (void)items;\n",
        (NO_TICKS, "queue-put", "queue-get-woken"),
    ),
    Mutant(
        "ring: a take wakes no putter",
        "channel/ring.c",
        "    fmp_wake(fmp_low_half(&shm->head), &shm->putters, shm->max_units "
        "!= 0 ? INT_MAX : 1);\n",
        "",
        (NO_TICKS, "queue-put-full", "queue-get"),
    ),
    Mutant(
        "ring: who finds a dead owner wakes nobody",
        "channel/ring.c",
        "        fmp_ring_wake_everybody(r);\n        return FMP_OK;\n",
        "        return FMP_OK;\n",
        (NO_TICKS, "queue-get-last"),
        quick=True,
    ),
    Mutant(
        "ring: the new capacity is stored before the records are moved",
        "channel/ring_grow.c",
        "    move_live(r->put.units, head, tail, old, new);\n",
        "    atomic_store(&r->shm->capacity, new);\n"
        "    move_live(r->put.units, head, tail, old, new);\n",
        (TICKS, "ring-growth", "ring-growth-twice"),
        quick=True,
    ),
    Mutant(
        "ring: grows without the takers' lock",
        "channel/ring_grow.c",
        "    int rc = fmp_ring_lock_head(r, w);\n"
        "    if (rc != FMP_OK) {\n        return rc;\n    }\n"
        "    rc = grow_locked(r, old, new);\n    fmp_ring_unlock_head(r);\n    return rc;\n",
        "    (void)w;\n    return grow_locked(r, old, new);\n",
        (TICKS, "ring-growth-beside"),
    ),
    Mutant(
        "ring: gives memory back without a second look",
        "channel/ring_grow.c",
        "    if (atomic_load(&shm->head) == atomic_load(&shm->tail)) {\n        if (old >",
        "    if (shm != NULL) {\n        if (old >",
        (TICKS, "ring-shrink"),
        points=160,
    ),
    Mutant(
        "extent: one that is leased is written over",
        "channel/extent.c",
        "!is_waited_for(r, i) && !fmp_lease_exists(r->fd, fmp_extent_begin(i))",
        "!is_waited_for(r, i)",
        (TICKS, "extent-put", "extent-get"),
        quick=True,
    ),
    Mutant(
        "extent: one that is waited for is written over",
        "channel/extent.c",
        "    return record - head < items_of(atomic_load(&r->shm->tail)) - head;\n",
        "    return (void)head, (void)record, false;\n",
        (TICKS, "extent-put", "extent-put-warm", "extent-get", "extent-get-copied"),
    ),
    Mutant(
        "extent: the record is named after the commit",
        "channel/extent.c",
        "items_of(atomic_load(&r->shm->tail)));\n    FMP_POINT",
        "items_of(atomic_load(&r->shm->tail)) - 1);\n    FMP_POINT",
        (TICKS, "extent-put", "extent-get"),
    ),
    Mutant(
        "queue: the bell is rung after the commit",
        "channel/mailbox.c",
        "        if (bell_is_armed(m)) {\n            fmp_eventfd_signal(m->bell);\n        }\n"
        "        fmp_ring_commit_put(&m->ring, commit, batch->items);\n",
        "        fmp_ring_commit_put(&m->ring, commit, batch->items);\n"
        "        if (bell_is_armed(m)) {\n            fmp_eventfd_signal(m->bell);\n        }\n",
        (TICKS, "queue-put-bell"),
    ),
    Mutant(
        "queue: the bell is silenced without a second look",
        "channel/mailbox.c",
        "    if (fmp_ring_count(&m->ring) == 0) {\n        fmp_eventfd_clear(m->bell);\n    }\n",
        "    fmp_eventfd_clear(m->bell);\n",
        (NO_TICKS, "queue-get-bell"),
        quick=True,
    ),
    Mutant(
        "queue: task_done() wakes no joiner",
        "channel/mailbox.c",
        "        fmp_wake(done, &m->ring.shm->extra[JOINERS], INT_MAX);\n",
        "        (void)INT_MAX;\n",
        (NO_TICKS, "queue-task-done"),
    ),
    Mutant(
        "pipe: the bell is rung after the commit",
        "channel/pipe.c",
        "    if (rc == FMP_OK) {\n        rc = announce(p);\n    }\n"
        '    if (rc == FMP_OK) {\n        FMP_POINT("pipe: announced");\n'
        "        fmp_ring_commit_put(p->out, commit, batch->items);\n",
        '    if (rc == FMP_OK) {\n        FMP_POINT("pipe: announced");\n'
        "        fmp_ring_commit_put(p->out, commit, batch->items);\n        rc = announce(p);\n",
        (TICKS, "pipe-send"),
    ),
    Mutant(
        "pipe: who took a message stays registered as watching",
        "channel/pipe.c",
        "        if (call->watching) {\n            atomic_store(word_of(p->in, WATCHER), 0);\n",
        "        if (call->watching) {\n",
        (NO_TICKS, "pipe-receive-spinning"),
        points=240,
    ),
    Mutant(
        "pipe: a receiver stops watching and does not look again",
        "channel/pipe.c",
        "        return rc == FMP_OK ? RETRY : rc;\n",
        "        if (rc != FMP_OK) {\n            return rc;\n        }\n",
        (NO_TICKS, "pipe-receive-alone"),
        points=120,
    ),
    Mutant(
        "pipe: a receiver that closes wakes no sender",
        "channel/pipe.c",
        "        fmp_wake(fmp_low_half(&p->in->shm->head), &p->in->shm->putters, INT_MAX);\n",
        "",
        (NO_TICKS, "pipe-end-of-receiver"),
    ),
    Mutant(
        "pipe: a sender sleeps on a take that it has not looked for since",
        "channel/pipe.c",
        "    fmp_wait_on_word(w, fmp_low_half(&shm->head), head, &shm->putters);\n"
        "    return (int32_t)(head - number) >= 0;\n",
        "    bool taken = (int32_t)(head - number) >= 0;\n"
        "    head = items_of(atomic_load(&shm->head));\n"
        "    fmp_wait_on_word(w, fmp_low_half(&shm->head), head, &shm->putters);\n"
        "    return taken;\n",
        (NO_TICKS, "pipe-send-awaiting"),
        points=2000,  # its window is one instruction
    ),
    Mutant(
        "pipe: who waits for a take does not look whether anybody is left to take",
        "channel/pipe.c",
        "    int rc = may_wait(p);\n",
        "    int rc = FMP_AGAIN;\n",
        (TICKS, "pipe-end-of-taker"),
    ),
    Mutant(
        "pool: the claim is written after the commit",
        "channel/mailbox.c",
        "        if (claim != NULL) {\n            write_claim(claim, out);\n        }\n"
        "        fmp_ring_commit_take(&m->ring, commit);\n",
        "        fmp_ring_commit_take(&m->ring, commit);\n"
        "        if (claim != NULL) {\n            write_claim(claim, out);\n        }\n",
        (TICKS, "pool-work"),
        points=320,
    ),
    Mutant(
        "pool: the claim is given up before the result is there",
        "channel/taskboard.c",
        "    int rc = fmp_mailbox_put(&b->results, batch, w);\n    if",
        "    atomic_store(&b->shm->workers[worker].claim, 0);\n"
        "    int rc = fmp_mailbox_put(&b->results, batch, w);\n    if",
        (TICKS, "pool-work", "pool-work-twice"),
    ),
    Mutant(
        "pool: a dead worker's claim is not looked for elsewhere",
        "channel/taskboard.c",
        "    *elsewhere = (rc == FMP_OK && tag == claim) || another_claims(b, worker, claim);\n",
        "    *elsewhere = false && another_claims(b, worker, claim | tag);\n",
        (TICKS, "pool-work"),
        points=320,
    ),
    Mutant(
        "slab: a child cuts from its parent's slab",
        "arena/slab.c",
        "    slab.inherited = true;\n",
        "",
        (TICKS, "slots"),
    ),
    Mutant(
        "segment: one that is known already stays mapped twice",
        "arena/segment.c",
        "    if (*out != fresh) {\n        unmap_segment(fresh);\n    }\n",
        "",
        (TICKS, "slots"),
    ),
]
