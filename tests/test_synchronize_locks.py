"""Lock, RLock, Semaphore, BoundedSemaphore: the stdlib's behaviour, and recovery from kills."""

import contextlib
import functools
import gc
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
import weakref

import pytest

import fastmp
from fastmp import _core, synchronize
from tests.support import sync_targets as targets
from tests.support.waiting import Background, Interrupted, finish, interruption, kill, until

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore"]
FORK = fastmp.get_context("fork")


def make(kind, context=FORK):
    return getattr(context, kind)()


def taken_elsewhere(kind):
    """A lock that another thread holds, as far as this thread can tell for ever."""
    lock = make(kind)
    Background(lock.acquire).result()
    return lock


# --- as in the stdlib ------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_calls_return(kind):
    lock = make(kind)
    assert lock.acquire() is True
    assert lock.release() is None
    assert lock.acquire(False) is True
    assert lock.acquire(block=False, timeout=None) is (kind == "RLock")
    lock.release()
    with lock as entered:
        assert entered is True
    lock.acquire()
    assert lock.__exit__(None, None, None) is None


def test_locks_derive_from_the_stdlibs():
    for kind in KINDS:
        lock = make(kind)
        assert isinstance(lock, getattr(synchronize, kind))
        assert isinstance(lock, getattr(fastmp._std.synchronize, kind))
        assert isinstance(lock, fastmp._std.synchronize.SemLock)


def test_rlock_is_held_until_released_as_often():
    lock = FORK.RLock()
    for _ in range(3):
        assert lock.acquire()
    for _ in range(3):
        assert not Background(lock.acquire, False).result()
        lock.release()
    assert Background(lock.acquire, False).result()


@pytest.mark.parametrize(
    "kind, error",
    [("Lock", ValueError), ("RLock", AssertionError), ("BoundedSemaphore", ValueError)],
)
def test_released_too_often(kind, error):
    lock = make(kind)
    with pytest.raises(error):
        lock.release()
    lock.acquire()
    lock.release()
    with pytest.raises(error):
        lock.release()
    assert lock.acquire(False)  # the refused releases have changed nothing
    assert lock.acquire(False) is (kind == "RLock")


def test_released_too_often_by_another_process(ctx):
    queue = ctx.SimpleQueue()
    for lock, error in ((ctx.Lock(), "ValueError"), (ctx.RLock(), "AssertionError")):
        process = ctx.Process(target=targets.tell_release, args=(queue, lock))
        process.start()
        assert queue.get() == error
        finish(process)
        assert lock.acquire(False)


def test_semaphore_counts():
    semaphore = FORK.Semaphore(2)
    assert semaphore.get_value() == 2
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(False)
    assert semaphore.get_value() == 0 and semaphore.locked()
    for value in range(1, 5):
        semaphore.release()
        assert semaphore.get_value() == value
    assert not semaphore.locked()


BAD_CALLS = {
    "negative value": lambda mp: mp.Semaphore(-1),
    "huge value": lambda mp: mp.Semaphore(2**31),
    "negative bound": lambda mp: mp.BoundedSemaphore(-1),
    "value that is no number": lambda mp: mp.Semaphore("one"),
    "timeout that is no number": lambda mp: mp.Lock().acquire(True, "soon"),
    "unknown argument": lambda mp: mp.Lock().acquire(wait=True),
    "too many arguments": lambda mp: mp.Lock().acquire(True, 1, 2),
    "release with an argument": lambda mp: mp.Lock().release(1),
    "a lock with an argument": lambda mp: mp.Lock(1),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_raise_what_the_stdlib_raises(case):
    errors = []
    for mp in (multiprocessing, fastmp):
        with pytest.raises(Exception) as caught:
            BAD_CALLS[case](mp)
        errors.append((type(caught.value), getattr(caught.value, "errno", None)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("kind", KINDS)
def test_repr_is_the_stdlibs(kind):
    def texts(mp):
        lock = make(kind, mp.get_context("fork"))
        yield repr(lock)
        lock.acquire()
        yield repr(lock)
        yield Background(repr, lock).result().replace(threading.current_thread().name, "")
        lock.release()
        Background(lock.acquire).result()
        yield repr(lock)

    assert list(texts(fastmp)) == list(texts(multiprocessing))


def test_repr_and_locked_across_processes(ctx):
    lock, queue, asked = ctx.Lock(), ctx.SimpleQueue(), ctx.Event()
    process = ctx.Process(target=targets.state_of, args=(lock, queue, asked))
    process.start()
    lock.acquire()
    asked.set()
    assert queue.get() == (True, "<Lock(owner=SomeOtherProcess)>")
    finish(process)
    lock.release()
    assert not lock.locked()


def test_a_lock_released_by_another_is_no_longer_mine():
    lock = FORK.Lock()
    lock.acquire()
    Background(lock.release).result()
    assert not lock._semlock._is_mine()
    assert repr(lock) == "<Lock(owner=None)>"
    lock.acquire()
    assert lock._semlock._count() == 1  # the stdlib counts such a lock up for ever


@pytest.mark.parametrize("kind", KINDS)
def test_used_as_a_context_manager_by_others(kind):
    lock = make(kind)
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(lock) is True
        assert lock._semlock._get_value() == 0
    assert lock._semlock._get_value() == 1
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0  # noqa: B018
    assert lock._semlock._get_value() == 1
    assert type(lock).__enter__(lock) is True
    assert type(lock).__exit__(lock, None, None, None) is None
    for wrong in (lambda: lock.__enter__(1), lambda: lock.__enter__(block=True)):
        with pytest.raises(TypeError, match="__enter__"):
            wrong()
    assert lock._semlock._get_value() == 1


@pytest.mark.parametrize("kind", [*KINDS, "Condition", "Event"])
def test_an_instance_has_a_dictionary_of_the_users_alone(kind):
    # What is in it makes the interpreter look there for every method.
    lock = getattr(FORK, kind)()
    assert vars(lock) == {}
    lock.note = "mine"
    assert vars(lock) == {"note": "mine"}


def test_a_subclass_may_wrap_with():
    class Logged(synchronize.Lock):
        def __enter__(self):
            log.append("enter")
            return super().__enter__()

        def __exit__(self, *args):
            log.append("exit")
            return super().__exit__(*args)

    log = []
    with Logged(ctx=FORK):
        pass
    assert log == ["enter", "exit"]


def test_semlock_is_made_as_the_stdlibs():
    kinds = (synchronize.RECURSIVE_MUTEX, synchronize.SEMAPHORE)
    for module in (fastmp._std.synchronize, synchronize):
        recursive, semaphore = (module.SemLock(kind, 1, 1, ctx=FORK) for kind in kinds)
        assert recursive.acquire() and recursive.acquire(False)
        assert semaphore.acquire() and not semaphore.acquire(False)
        semaphore.release()
        with pytest.raises(ValueError, match="too many times"):
            semaphore.release()
        assert (recursive._semlock.kind, semaphore._semlock.kind) == kinds
        assert module.SemLock(kinds[1], 0, 5, ctx=FORK)._semlock.maxvalue == 5
        with pytest.raises(ValueError, match="unrecognized kind"):
            module.SemLock(7, 1, 1, ctx=FORK)


def test_a_lock_that_was_not_made():
    lock = synchronize.Lock.__new__(synchronize.Lock)
    for use in (lambda: lock.acquire(), lambda: lock.__enter__(), lambda: lock.release()):
        with pytest.raises(AttributeError):
            use()
    with pytest.raises(TypeError):
        synchronize.Lock.__enter__(5)
    with pytest.raises(TypeError):
        _core.Guard.__dict__["__enter__"].__get__(5)
    with pytest.raises(TypeError):
        synchronize.Lock.__exit__()


def test_a_lock_in_a_circle_is_collected():
    lock = FORK.Lock()
    lock.acquire = functools.partial(print, lock)
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


# --- waiting ------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [0, -1, -math.inf, 0.0, 1e-9, 0.05, True - 0.95])
def test_timeouts(kind, timeout):
    lock = taken_elsewhere(kind)
    start = time.monotonic()
    assert lock.acquire(True, timeout) is False
    assert time.monotonic() - start >= timeout
    assert lock.acquire(timeout=timeout) is False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [None, 30, 1e300, math.inf, 2**70])
def test_long_timeouts(kind, timeout):
    lock = make(kind)
    lock.acquire()
    waiter = Background(lock.acquire, True, timeout)
    time.sleep(0.05)
    assert waiter.is_running()
    lock.release()
    assert waiter.result() is True


def test_a_timeout_that_is_not_a_number():
    with pytest.raises(ValueError, match="not a number"):
        FORK.Lock().acquire(True, math.nan)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted(kind):
    lock = taken_elsewhere(kind)
    with pytest.raises(Interrupted), interruption():
        lock.acquire()
    with pytest.raises(Interrupted), interruption():
        lock.acquire(timeout=30)
    with pytest.raises(Interrupted), interruption(), lock:
        pass
    assert not lock.acquire(False)


def test_a_handler_that_does_not_raise_does_not_end_the_wait():
    lock = taken_elsewhere("Lock")
    seen = []
    previous = signal.signal(signal.SIGALRM, lambda *args: seen.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        start = time.monotonic()
        assert lock.acquire(timeout=1) is False
        assert time.monotonic() - start >= 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert len(seen) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_mutual_exclusion(ctx, kind):
    lock, total = make(kind, ctx), ctx.RawValue("i", 0)
    processes = [
        ctx.Process(target=targets.add_under_lock, args=(lock, total, 3000)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    targets.add_under_lock(lock, total, 3000)
    finish(*processes)
    assert total.value == 4 * 3000


def test_waiters_of_a_semaphore_are_all_served():
    semaphore = FORK.Semaphore(0)
    waiters = [Background(semaphore.acquire) for _ in range(10)]
    time.sleep(0.05)
    for _ in range(10):
        semaphore.release()
    assert all(waiter.result() for waiter in waiters)
    assert semaphore.get_value() == 0


# --- fork, spawn and forkserver ------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_fork_while_holding(kind):
    lock, queue, asked = make(kind), FORK.SimpleQueue(), FORK.Event()

    def child():
        queue.put(lock.acquire(False))
        queue.put(lock._semlock._is_mine())
        asked.wait()
        queue.put(lock.acquire(timeout=30))
        lock.release()

    with lock:
        process = FORK.Process(target=child)
        process.start()
        assert queue.get() is False  # the child has not inherited the hold
        assert queue.get() is False
    asked.set()
    assert queue.get() is True
    finish(process)
    assert lock.acquire(False)


def test_rlock_of_the_parent_cannot_be_released_in_the_child():
    lock, queue = FORK.RLock(), FORK.SimpleQueue()
    with lock:
        process = FORK.Process(target=targets.tell_release, args=(queue, lock))
        process.start()
        assert queue.get() == "AssertionError"
        finish(process)


def test_released_by_another_process(ctx):
    lock = ctx.Lock()
    for _ in range(2):
        lock.acquire()
        process = ctx.Process(target=targets.release, args=(lock,))
        process.start()
        assert lock.acquire(timeout=30)
        finish(process)
        lock.release()


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_passed_on_to_a_grandchild(ctx):
    lock, done = ctx.Lock(), ctx.Event()
    lock.acquire()
    process = ctx.Process(target=targets.pass_on, args=(ctx.Process, done, lock))
    process.start()
    assert done.wait(30)
    assert lock.acquire(timeout=30)
    finish(process)


@pytest.mark.parametrize("kind", [*KINDS, "Event", "Condition"])
def test_pickled_only_for_a_child(kind):
    with pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
        pickle.dumps(make(kind))
    with pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
        pickle.dumps(make(kind, fastmp.get_context("spawn")))


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("kind", [*KINDS, "Event", "Condition"])
def test_a_forks_lock_is_refused_elsewhere(ctx, kind):
    process = ctx.Process(target=targets.release, args=(make(kind),))
    with pytest.raises(RuntimeError, match="A SemLock created in a fork context is being shared"):
        process.start()


# --- kills ------------------------------------------


def killed_holder(ctx, lock, how):
    ready = ctx.Event()
    process = ctx.Process(target=targets.hold, args=(lock, how, ready))
    process.start()
    assert ready.wait(30)
    kill(process)


RECOVERED = {
    "with Lock": (lambda ctx: ctx.Lock(), "with"),
    "with RLock": (lambda ctx: ctx.RLock(), "with"),
    "RLock.acquire": (lambda ctx: ctx.RLock(), "acquire"),
    "RLock.acquire twice": (lambda ctx: ctx.RLock(), "twice"),
    "robust Lock.acquire": (lambda ctx: synchronize.Lock(ctx=ctx, robust=True), "acquire"),
    "robust by the context": (lambda ctx: ctx.Lock(robust=True), "acquire"),
}


@pytest.mark.parametrize("case", RECOVERED)
@pytest.mark.needs_tick
def test_a_hold_of_a_killed_process_is_taken_over(ctx, case):
    new, how = RECOVERED[case]
    lock = new(ctx)
    killed_holder(ctx, lock, how)
    assert not lock.abandoned
    with pytest.warns(RuntimeWarning, match=r"process \d+ died holding a lock"):
        assert lock.acquire(timeout=30)
    assert lock.abandoned
    assert lock._semlock._is_mine()
    lock.release()
    with lock:
        assert not lock.abandoned
    assert not lock.locked()


def test_a_bare_acquire_is_nobodys_to_take_over():
    lock = FORK.Lock()
    killed_holder(FORK, lock, "acquire")
    assert lock.acquire(timeout=0.5) is False
    lock.release()  # as anybody may
    assert lock.acquire(False)


@pytest.mark.parametrize("wait", [{"block": False}, {"timeout": 0}, {"timeout": 0.001}])
def test_who_polls_finds_a_dead_holder_too(wait):
    lock = FORK.RLock()
    killed_holder(FORK, lock, "with")
    with pytest.warns(RuntimeWarning, match="died holding"):
        until(lambda: lock.acquire(**wait))
    assert lock.abandoned


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize(
    "wait", [pytest.param({"timeout": 30}, marks=pytest.mark.needs_tick), {"block": False}]
)
def test_a_unit_of_a_killed_process_is_given_back(ctx, kind, wait):
    semaphore = getattr(ctx, kind)(2)
    semaphore.acquire()
    killed_holder(ctx, semaphore, "with")
    with pytest.warns(RuntimeWarning, match=r"process \d+ died holding a semaphore"):
        until(lambda: semaphore.acquire(**wait))
    assert semaphore.get_value() == 0
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 2


def test_a_unit_by_a_bare_acquire_is_nobodys_to_give_back():
    semaphore = FORK.Semaphore(1)
    killed_holder(FORK, semaphore, "acquire")
    assert semaphore.acquire(timeout=0.3) is False
    semaphore.release()  # as anybody may
    assert semaphore.acquire(False)


def test_with_and_bare_calls_mix():
    semaphore = FORK.BoundedSemaphore(3)
    with semaphore:
        semaphore.acquire()
        with semaphore:
            assert semaphore.get_value() == 0
        semaphore.release()
        semaphore.release()
        assert semaphore.get_value() == 3
        semaphore.acquire()
    assert semaphore.get_value() == 3
    semaphore.__enter__()
    semaphore.release()
    with pytest.raises(ValueError, match="too many times"):
        semaphore.__exit__(None, None, None)
    assert semaphore.get_value() == 3


def test_more_processes_than_places_hold_a_semaphore():
    semaphore, ready = FORK.Semaphore(20), FORK.Semaphore(0)

    def child():
        with semaphore:
            ready.release()
            asked.wait()

    asked = FORK.Event()
    processes = [FORK.Process(target=child) for _ in range(20)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    assert semaphore.get_value() == 0
    asked.set()
    finish(*processes)
    assert semaphore.get_value() == 20


@pytest.mark.needs_tick
def test_killed_again_and_again_with_units():
    semaphore, total = FORK.BoundedSemaphore(2), FORK.RawValue("i", 0)
    warnings.simplefilter("ignore", RuntimeWarning)
    for n in range(20):
        processes = [
            FORK.Process(target=targets.add_under_lock, args=(semaphore, total, 10**9))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        enough = total.value + n * 10
        until(lambda enough=enough: total.value > enough)
        for process in processes:
            kill(process)
        assert semaphore.acquire(timeout=30) and semaphore.acquire(timeout=30)
        semaphore.release()
        semaphore.release()
    assert semaphore.get_value() == 2


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("how", ["acquire", "__enter__"])
@pytest.mark.needs_tick
def test_a_warning_made_an_error_leaves_the_lock_free(kind, how):
    lock = make(kind)
    killed_holder(FORK, lock, "with")
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        getattr(lock, how)()
    assert not lock.locked()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock:
            assert lock.locked()
    assert not lock.locked()


@pytest.mark.needs_tick
def test_one_of_many_waiters_takes_over(ctx):
    lock, queue, ready = ctx.Lock(), ctx.SimpleQueue(), ctx.Event()
    holder = ctx.Process(target=targets.hold, args=(lock, "with", ready))
    holder.start()
    assert ready.wait(30)
    waiters = [
        ctx.Process(target=targets.count_recoveries, args=(lock, queue, 5)) for _ in range(4)
    ]
    for process in waiters:
        process.start()
    kill(holder)
    assert sorted(queue.get() for _ in waiters) == [0, 0, 0, 1]
    finish(*waiters)


@pytest.mark.needs_tick
def test_killed_again_and_again():
    """Holders are killed at any moment; the count of recoveries and the lock stay right."""
    lock, total = FORK.Lock(), FORK.RawValue("i", 0)
    warnings.simplefilter("ignore", RuntimeWarning)
    for n in range(20):
        process = FORK.Process(target=targets.add_under_lock, args=(lock, total, 10**9))
        process.start()
        enough = total.value + n * 10
        until(lambda enough=enough: total.value > enough)
        kill(process)
        assert lock.acquire(timeout=30)
        lock.release()


def test_a_waiter_that_is_killed_is_no_trouble(ctx):
    lock, ready = ctx.Lock(), ctx.Event()
    with lock:
        process = ctx.Process(target=targets.acquire_and_wait, args=(lock, ready))
        process.start()
        assert ready.wait(30)
        time.sleep(0.05)
        kill(process)
    for _ in range(3):
        with lock:
            assert not lock.abandoned


# --- many ------------------------------------------


def test_ten_thousand_locks():
    before = len(os.listdir("/proc/self/fd"))
    locks = [FORK.Lock() for _ in range(10_000)]
    assert len(os.listdir("/proc/self/fd")) - before <= 12
    for lock in locks[::2]:
        lock.acquire()
    assert [lock.locked() for lock in locks] == [True, False] * 5000


def test_memory_of_a_lock_that_a_child_has_is_not_used_again(ctx):
    lock, queue, asked = ctx.Lock(), ctx.SimpleQueue(), ctx.Event()
    process = ctx.Process(target=targets.state_of, args=(lock, queue, asked))
    process.start()
    del lock
    gc.collect()
    others = [ctx.Lock() for _ in range(2000)]
    for other in others:
        other.acquire()
    asked.set()
    assert queue.get()[0] is False
    finish(process)


def test_memory_of_a_lock_that_nobody_else_has_is_used_again():
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(20_000):
        FORK.Lock()
    assert len(os.listdir("/proc/self/fd")) - fds <= 2
    lock = FORK.Lock()
    lock.acquire()
    del lock
    assert not FORK.Lock().locked()
