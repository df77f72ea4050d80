"""Condition: the stdlib's behaviour; order, signals, kills, and more waiters than places."""

import math
import multiprocessing
import os
import signal
import threading
import time

import pytest

import fastmp
from fastmp import _std, synchronize
from tests.support import procs
from tests.support import sync_targets as targets
from tests.support.waiting import Background, Interrupted, finish, interruption, kill, until

FORK = fastmp.get_context("fork")
PLACES = 64  # of the table in csrc/sync/condition.h

LOCKS = {
    "default": lambda: None,
    "RLock": FORK.RLock,
    "Lock": FORK.Lock,
    "Semaphore": FORK.Semaphore,
    "stdlib RLock": multiprocessing.get_context("fork").RLock,
    "stdlib Lock": multiprocessing.get_context("fork").Lock,
}


@pytest.fixture(params=LOCKS)
def condition(request):
    """A condition with each kind of lock in turn."""
    return FORK.Condition(LOCKS[request.param]())


def waiting(condition):
    return condition._sleeping_count.get_value() - condition._woken_count.get_value()


def start_waiter(condition, name, log, timeout=None):
    """A thread that waits; returns when it does."""
    inside = threading.Event()

    def wait():
        with condition:
            inside.set()
            got = condition.wait(timeout)
            log.append(name)
            return got

    waiter = Background(wait)
    assert inside.wait(30)
    with condition:  # which it gives up in wait() only
        return waiter


def notify(condition, n=1):
    with condition:
        condition.notify(n)


# --- as in the stdlib ------------------------------------------


def test_a_lock_of_its_own():
    condition = FORK.Condition()
    assert isinstance(condition, synchronize.Condition)
    assert isinstance(condition, _std.synchronize.Condition)
    assert isinstance(condition._lock, synchronize.RLock)
    assert condition.acquire() and condition.acquire(False)
    condition.release()
    assert not Background(condition.acquire, False).result()
    condition.release()
    with condition as entered:
        assert entered is True
    with pytest.raises(AssertionError):
        condition.release()


def test_wait_and_notify_need_the_lock(condition):
    for call, complaint in (
        (condition.wait, r"must acquire\(\) condition before using wait\(\)"),
        (condition.notify, "lock is not owned"),
        (condition.notify_all, "lock is not owned"),
        (lambda: condition.wait_for(lambda: False), r"must acquire\(\)"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            call()
    Background(condition.acquire).result()
    with pytest.raises(AssertionError):
        condition.wait(0)
    with pytest.raises(AssertionError):
        condition.notify()
    assert waiting(condition) == 0


def test_wait_times_out(condition):
    with condition:
        for timeout in (0, -1, -math.inf, 1e-9, 0.05):
            start = time.monotonic()
            assert condition.wait(timeout) is False
            assert time.monotonic() - start >= timeout
            assert condition._lock._semlock._is_mine()
    assert waiting(condition) == 0


def test_bad_calls():
    condition = FORK.Condition()
    with condition:
        for call in (
            lambda: condition.wait("soon"),
            lambda: condition.wait(1, 2),
            lambda: condition.notify("all"),
            lambda: condition.notify(1, 2),
        ):
            with pytest.raises(TypeError):
                call()
        with pytest.raises(ValueError, match="not a number"):
            condition.wait(math.nan)
        for n in (0, -1, -(2**70)):
            condition.notify(n)
        condition.notify(2**70)
    with pytest.raises(AttributeError, match="acquire"):
        FORK.Condition(5)
    with pytest.raises(AttributeError, match="_semlock"):
        FORK.Condition(threading.Lock()).wait()
    with pytest.raises(RuntimeError, match="__init__"):
        synchronize.Condition.__new__(synchronize.Condition).wait()


def test_repr_is_the_stdlibs():
    def texts(mp):
        condition = mp.get_context("fork").Condition()
        yield repr(condition)
        with condition:
            yield repr(condition)

    assert list(texts(fastmp)) == list(texts(multiprocessing))
    condition = FORK.Condition()
    waiters = [start_waiter(condition, n, []) for n in range(3)]
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 3)>"
    with condition:
        condition.notify_all()
    assert [waiter.result() for waiter in waiters] == [True] * 3


def test_wait_gives_the_lock_up_and_has_it_back(condition):
    log = []
    waiter = start_waiter(condition, "a", log)
    with condition:  # it is free meanwhile
        condition.notify()
        time.sleep(0.05)
        assert log == []  # and not free for the waiter before we release it
    assert waiter.result() is True
    assert Background(condition.acquire, False).result()


@pytest.mark.parametrize("lock", [FORK.RLock, multiprocessing.get_context("fork").RLock])
def test_all_holds_of_an_rlock_are_given_up(lock):
    condition = FORK.Condition(lock())

    def notifier():
        with condition:
            condition.notify()

    with condition, condition, condition:
        thread = Background(notifier)
        assert condition.wait(30) is True
        thread.result()
        assert condition._lock._semlock._count() == 3
    assert Background(condition.acquire, False).result()


def test_wait_for():
    condition = FORK.Condition()
    state = []

    def change():
        for n in range(4):
            with condition:
                state.append(n)
                condition.notify()
            time.sleep(0.01)

    with condition:
        thread = Background(change)
        assert condition.wait_for(lambda: len(state) == 4, timeout=30) is True
        thread.result()
        assert condition.wait_for(lambda: "at once") == "at once"
        start = time.monotonic()
        assert condition.wait_for(lambda: 0, timeout=0.05) == 0
        assert time.monotonic() - start >= 0.05


# --- who is woken ------------------------------------------


def test_notify_wakes_the_longest_waiting_first(condition):
    log = []
    waiters = [start_waiter(condition, n, log) for n in range(6)]
    for n in range(6):
        notify(condition)
        assert waiters[n].result() is True
        assert waiting(condition) == 5 - n
    assert log == list(range(6))


def test_places_are_used_again_in_order():
    condition, log = FORK.Condition(), []
    waiters = [start_waiter(condition, n, log) for n in range(3)]
    for n in range(3, 200):
        notify(condition)
        assert waiters.pop(0).result()
        waiters.append(start_waiter(condition, n, log))
    notify(condition, 3)
    for waiter in waiters:
        assert waiter.result()
    assert log[:197] == list(range(197))


def test_notify_n_wakes_n_and_none_that_comes_later(condition):
    log = []
    waiters = [start_waiter(condition, n, log) for n in range(4)]
    with condition:
        condition.notify(2)
        condition.notify(0)
        late = Background(lambda: targets.wait_and_tell(condition, FORK.SimpleQueue(), "late"))
    assert waiters[0].result() and waiters[1].result()
    until(lambda: waiting(condition) == 3)
    assert sorted(log) == [0, 1]
    notify(condition, 3)
    for waiter in (*waiters[2:], late):
        waiter.result()
    notify(condition, 5)  # nobody waits: it is not kept for later
    with condition:
        assert condition.wait(0.01) is False


def test_notify_all(condition):
    log = []
    waiters = [start_waiter(condition, n, log) for n in range(10)]
    with condition:
        condition.notify_all()
        assert waiting(condition) == 0
    assert [waiter.result() for waiter in waiters] == [True] * 10


def test_a_notification_that_meets_a_timeout_counts():
    condition = FORK.Condition()
    waiter = start_waiter(condition, "a", [], timeout=1)
    with condition:
        time.sleep(1.3)  # it wants the lock back by now
        condition.notify()
    assert waiter.result() is True


def test_who_has_timed_out_is_not_notified():
    condition, log = FORK.Condition(), []
    first = start_waiter(condition, "first", log, timeout=0.05)
    second = start_waiter(condition, "second", log)
    assert first.result() is False
    notify(condition)
    assert second.result() is True
    assert waiting(condition) == 0


def test_across_processes(ctx):
    condition, queue = ctx.Condition(), ctx.SimpleQueue()
    processes = []
    for n in range(3):
        process = ctx.Process(target=targets.wait_and_tell, args=(condition, queue, n))
        process.start()
        processes.append(process)
        until(lambda n=n: waiting(condition) == n + 1)
    for n in range(3):
        notify(condition)
        assert queue.get() == (n, True)
    finish(*processes)
    process = ctx.Process(target=targets.notify, args=(condition,))
    with condition:
        process.start()
        assert condition.wait(30) is True
    finish(process)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_stdlib_lock_across_processes(ctx, start_method):
    condition = ctx.Condition(multiprocessing.get_context(start_method).Lock())
    process = ctx.Process(target=targets.notify, args=(condition,))
    with condition:
        process.start()
        assert condition.wait(30) is True
    finish(process)


def test_ping_pong(ctx):
    condition, turn, rounds = ctx.Condition(), ctx.RawValue("i", 0), 300
    process = ctx.Process(target=targets.play_ping_pong, args=(condition, turn, 1, rounds))
    process.start()
    targets.play_ping_pong(condition, turn, 0, rounds)
    finish(process)


def test_fork_while_a_thread_waits():
    condition, log = FORK.Condition(), []
    waiter = start_waiter(condition, "a", log)
    process = FORK.Process(target=targets.notify, args=(condition,))
    process.start()
    finish(process)
    assert waiter.result() is True
    assert waiting(condition) == 0


# --- signals ------------------------------------------


def test_interrupted(condition):
    with condition:
        for timeout in (None, 30):
            with pytest.raises(Interrupted), interruption():
                condition.wait(timeout)
            assert condition._lock._semlock._is_mine()
            assert waiting(condition) == 0
    assert Background(condition.acquire, False).result()


@pytest.mark.parametrize("lock", [FORK.RLock, multiprocessing.get_context("fork").RLock])
def test_interrupted_while_it_wants_the_lock_back(lock):
    condition = FORK.Condition(lock())
    held = threading.Event()

    def hold():
        with condition:
            condition.notify()
            held.set()
            os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(0.3)

    with condition, condition:
        thread = Background(hold)
        with pytest.raises(Interrupted), interruption(30):
            condition.wait()
        assert held.is_set()
        assert condition._lock._semlock._is_mine()
        assert condition._lock._semlock._count() == 2
    thread.result()
    assert Background(condition.acquire, False).result()


def test_a_notification_to_who_is_interrupted_goes_to_the_next():
    condition, log = FORK.Condition(), []

    def hold():
        with condition:
            condition.notify()  # the main thread, which has waited longest
            time.sleep(1.2)

    def second():
        until(lambda: waiting(condition) == 1)
        waiter = start_waiter(condition, "second", log)
        hold()
        return waiter.result()

    with condition:
        thread = Background(second)
        with pytest.raises(Interrupted), interruption(1):
            condition.wait()
    assert thread.result() is True
    assert log == ["second"]
    assert waiting(condition) == 0


# --- many ------------------------------------------


def test_more_waiters_than_places():
    condition, log = FORK.Condition(), []
    waiters = [start_waiter(condition, n, log) for n in range(PLACES + 10)]
    assert waiting(condition) == PLACES + 10
    notify(condition)
    assert waiters[0].result()
    waiters.append(start_waiter(condition, "late", log))  # behind those without a place
    notify(condition, PLACES - 1)
    for waiter in waiters[:PLACES]:
        assert waiter.result()
    assert sorted(log) == list(range(PLACES))
    assert waiting(condition) == 11
    notify(condition)  # wakes at least one of the rest
    until(lambda: len(log) > PLACES)
    with condition:
        condition.notify_all()
    for waiter in waiters:
        assert waiter.result()
    assert waiting(condition) == 0
    test_notify_wakes_the_longest_waiting_first(condition)


def test_the_crowd_times_out():
    condition, log = FORK.Condition(), []
    waiters = [start_waiter(condition, n, log) for n in range(PLACES)]
    late = start_waiter(condition, "late", log, timeout=0.05)
    assert late.result() is False
    assert waiting(condition) == PLACES
    with condition:
        condition.notify_all()
    for waiter in waiters:
        assert waiter.result()


# --- kills ------------------------------------------


def killed_waiters(ctx, condition, count=1):
    process = ctx.Process(target=targets.wait_in_threads, args=(condition, count))
    before = waiting(condition)
    process.start()
    until(lambda: waiting(condition) == before + count)
    kill(process)


def test_a_killed_waiter_is_skipped(ctx):
    condition, log = ctx.Condition(), []
    killed_waiters(ctx, condition, 2)
    alive = start_waiter(condition, "alive", log)
    notify(condition)
    assert alive.result() is True
    assert waiting(condition) == 0


@pytest.mark.needs_tick
def test_what_a_zombie_was_notified_of_goes_to_the_next():
    condition, log = FORK.Condition(), []
    process = FORK.Process(target=targets.wait_in_threads, args=(condition, 3))
    process.start()
    until(lambda: waiting(condition) == 3)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: procs.read(process.pid).state == "Z")
    alive = start_waiter(condition, "alive", log)
    notify(condition)
    assert alive.result() is True
    assert waiting(condition) == 0
    process.join()
    process.close()


def test_notify_does_not_wait_for_a_killed_waiter(ctx):
    condition = ctx.Condition()
    killed_waiters(ctx, condition)
    notify(condition, 3)
    with condition:
        condition.notify_all()
    with condition:
        assert condition.wait(0.01) is False


@pytest.mark.parametrize("count", [PLACES - 1, PLACES, PLACES + 5])
def test_places_of_killed_waiters_are_used_again(count):
    condition, log = FORK.Condition(), []
    killed_waiters(FORK, condition, count)
    waiters = [start_waiter(condition, n, log) for n in range(3)]
    for _ in range(3):
        notify(condition)
    for waiter in waiters:
        assert waiter.result()
    assert waiting(condition) == 0
    test_notify_wakes_the_longest_waiting_first(condition)


@pytest.mark.needs_tick
def test_killed_with_the_lock(ctx):
    condition, ready, log = ctx.Condition(), ctx.Event(), []
    waiter = start_waiter(condition, "a", log)
    process = ctx.Process(target=targets.hold, args=(condition, "with", ready))
    process.start()
    assert ready.wait(30)
    kill(process)
    with pytest.warns(RuntimeWarning, match="died holding a lock"), condition:
        condition.notify()
    assert waiter.result() is True


@pytest.mark.needs_tick
def test_a_waiter_finds_that_the_last_holder_died(ctx):
    """It was notified and wants the lock back from a process that is killed with it."""
    condition, ready = ctx.Condition(), ctx.Event()
    process = ctx.Process(target=targets.notify_and_hold, args=(condition, ready))
    with condition:
        process.start()
        killer = Background(lambda: (ready.wait(30), time.sleep(0.05), kill(process)))
        with pytest.warns(RuntimeWarning, match="died holding a lock"):
            assert condition.wait(30) is True
        killer.result()
        assert condition._lock.abandoned
    with condition:
        assert not condition._lock.abandoned
