"""Event: the stdlib's behaviour; set() reaches everybody who waits, and waits for nobody."""

import math
import signal
import threading
import time

import pytest

import fastmp
from fastmp import _std, synchronize
from tests.support import sync_targets as targets
from tests.support.waiting import (
    Background,
    Interrupted,
    finish,
    interruption,
    is_asleep,
    kill,
    until,
)

FORK = fastmp.get_context("fork")


def test_set_clear_wait():
    event = FORK.Event()
    assert isinstance(event, synchronize.Event) and isinstance(event, _std.synchronize.Event)
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.set() is None
    assert event.is_set() is True
    assert event.wait() is True and event.wait(timeout=0) is True and event.wait(-1) is True
    event.set()
    assert event.clear() is None
    event.clear()
    assert event.is_set() is False
    assert event.wait(0.01) is False


def test_repr():
    event = FORK.Event()
    assert repr(event) == f"<Event at {id(event):#x} unset>"
    event.set()
    assert repr(event) == f"<Event at {id(event):#x} set>"


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, 1e-9, 0.05])
def test_timeouts(timeout):
    event = FORK.Event()
    start = time.monotonic()
    assert event.wait(timeout) is False
    assert time.monotonic() - start >= timeout


@pytest.mark.parametrize("timeout", [None, 30, 1e300, math.inf, 2**70])
def test_long_timeouts(timeout):
    event = FORK.Event()
    waiter = Background(event.wait, timeout)
    time.sleep(0.02)
    assert waiter.is_running()
    event.set()
    assert waiter.result() is True


def test_bad_calls():
    event = FORK.Event()
    for bad in (lambda: event.wait("soon"), lambda: event.wait(1, 2), lambda: event.set(1)):
        with pytest.raises(TypeError):
            bad()
    with pytest.raises(ValueError, match="not a number"):
        event.wait(math.nan)
    with pytest.raises(TypeError):
        synchronize.Event()
    unmade = synchronize.Event.__new__(synchronize.Event)
    for use in (unmade.is_set, unmade.set, unmade.clear, unmade.wait):
        with pytest.raises(RuntimeError, match="__init__"):
            use()


def test_interrupted():
    event = FORK.Event()
    with pytest.raises(Interrupted), interruption():
        event.wait()
    with pytest.raises(Interrupted), interruption():
        event.wait(30)
    event.set()
    assert event.wait(0)


def test_one_set_wakes_everybody(ctx):
    event, queue = ctx.Event(), ctx.SimpleQueue()
    processes = [ctx.Process(target=targets.tell_wait, args=(event, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    threads = [Background(event.wait) for _ in range(5)]
    time.sleep(0.05)
    event.set()
    assert [queue.get() for _ in processes] == [True] * 3
    assert [thread.result() for thread in threads] == [True] * 5
    finish(*processes)


def test_set_directly_followed_by_clear_releases_who_waited(ctx):
    event, queue = ctx.Event(), ctx.SimpleQueue()
    process = ctx.Process(target=targets.tell_wait, args=(event, queue, ready := ctx.Event()))
    process.start()
    assert ready.wait(30)
    until(lambda: is_asleep(process.pid))
    event.set()
    event.clear()
    assert queue.get() is True
    assert not event.is_set()
    finish(process)


def test_set_and_clear_in_quick_turns_lose_nobody():
    event, arrived = FORK.Event(), FORK.Semaphore(0)
    rounds, waiters = 100, 4
    processes = [
        FORK.Process(target=targets.wait_for_rounds, args=(event, arrived, rounds))
        for _ in range(waiters)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        event.set()
        event.clear()
    finish(*processes)
    assert arrived.get_value() == rounds * waiters


def test_question_and_answer(ctx):
    question, reply, rounds = ctx.Event(), ctx.Event(), 300
    process = ctx.Process(target=targets.answer, args=(question, reply, rounds))
    process.start()
    for _ in range(rounds):
        question.set()
        assert reply.wait(30)
        reply.clear()
    finish(process)


def test_a_killed_waiter_blocks_nobody(ctx):
    event, queue = ctx.Event(), ctx.SimpleQueue()
    ready = [ctx.Event(), ctx.Event()]
    victim, other = (ctx.Process(target=targets.tell_wait, args=(event, queue, r)) for r in ready)
    victim.start()
    other.start()
    for r in ready:
        assert r.wait(30)
    until(lambda: is_asleep(victim.pid))
    kill(victim)
    for _ in range(3):
        event.set()
    assert queue.get() is True
    finish(other)
    event.clear()
    waiter = Background(event.wait)
    event.set()
    assert waiter.result()


def test_fork_while_a_thread_waits():
    event = FORK.Event()
    waiter = Background(event.wait)
    time.sleep(0.02)
    process = FORK.Process(target=event.set)
    process.start()
    assert waiter.result() is True
    finish(process)


def test_a_stopped_waiter_gets_it_later():
    event, queue, ready = FORK.Event(), FORK.SimpleQueue(), FORK.Event()
    process = FORK.Process(target=targets.tell_wait, args=(event, queue, ready))
    process.start()
    assert ready.wait(30)
    until(lambda: is_asleep(process.pid))
    process._popen._send_signal(signal.SIGSTOP)
    event.set()
    event.clear()
    process._popen._send_signal(signal.SIGCONT)
    assert queue.get() is True
    finish(process)


def test_threads_and_events_of_threading_agree():
    """The same script on both, so that what is tested here is what threading.Event does."""
    for event in (threading.Event(), FORK.Event()):
        waiter = Background(event.wait, 30)
        time.sleep(1)
        event.set()
        event.clear()
        assert waiter.result() is True
        assert event.wait(0) is False
