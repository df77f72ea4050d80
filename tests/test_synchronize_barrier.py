"""Barrier: the stdlib's behaviour; kills, signals, and more threads than parties."""

import math
import multiprocessing
import os
import random
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
Broken = threading.BrokenBarrierError


def start_party(barrier, timeout=None):
    """A thread at the barrier; returns when it waits there."""
    before = barrier.n_waiting
    party = Background(targets.outcome_of_wait, barrier, timeout)
    until(lambda: barrier.n_waiting > before or not party.is_running())
    return party


def start_process(ctx, barrier, queue):
    before = barrier.n_waiting
    process = ctx.Process(target=targets.pass_barrier, args=(barrier, queue))
    process.start()
    until(lambda: barrier.n_waiting > before)
    return process


# --- as in the stdlib ------------------------------------------


def test_attributes():
    barrier = FORK.Barrier(3, timeout=5)
    assert isinstance(barrier, synchronize.Barrier)
    assert isinstance(barrier, _std.synchronize.Barrier)
    assert isinstance(barrier, threading.Barrier)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    party = start_party(barrier)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 1, False)
    barrier.abort()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, True)
    assert party.result() == "broken"
    for name in ("parties", "n_waiting", "broken"):
        with pytest.raises(AttributeError):
            setattr(barrier, name, 1)


def test_repr_is_threadings():
    barrier = FORK.Barrier(2)
    texts = [repr(barrier)]
    barrier.abort()
    texts.append(repr(barrier))
    where = f"<fastmp.synchronize.Barrier at {id(barrier):#x}: "
    if "__repr__" in vars(threading.Barrier):  # since 3.11
        assert texts == [where + "waiters=0/2>", where + "broken>"]


def test_indices_follow_the_arrivals():
    barrier = FORK.Barrier(5)
    for _ in range(3):
        parties = [start_party(barrier) for _ in range(4)]
        assert barrier.wait() == 4
        assert [party.result() for party in parties] == [0, 1, 2, 3]
        assert barrier.n_waiting == 0


def test_one_party():
    barrier = FORK.Barrier(1)
    assert [barrier.wait() for _ in range(3)] == [0, 0, 0]


BAD_CALLS = {
    "no parties": lambda mp: mp.Barrier(),
    "a timeout that is no number": lambda mp: mp.Barrier(2).wait("soon"),
    "a default timeout that is no number": lambda mp: mp.Barrier(2, timeout="soon").wait(),
    "an action that cannot be called": lambda mp: mp.Barrier(1, action=5).wait(),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_raise_what_the_stdlib_raises(case):
    errors = []
    for mp in (multiprocessing, fastmp):
        with pytest.raises(Exception) as caught:
            BAD_CALLS[case](mp.get_context("fork"))
        errors.append(type(caught.value))
    assert errors[0] == errors[1]


def test_bad_numbers():
    for parties in (0, -1, -(2**70), 2**20 + 1, 2**70):
        with pytest.raises(ValueError, match="parties must be"):
            FORK.Barrier(parties)
    for parties in ("two", 2.0, None):
        with pytest.raises(TypeError):
            FORK.Barrier(parties)
    with pytest.raises(ValueError, match="not a number"):
        FORK.Barrier(2).wait(math.nan)
    with pytest.raises(RuntimeError, match="__init__"):
        synchronize.Barrier.__new__(synchronize.Barrier).wait()
    barrier = FORK.Barrier(2**20)
    assert barrier.parties == 2**20
    with pytest.raises(Broken):
        barrier.wait(0.01)


def test_processes_pass_in_step(ctx):
    barrier, queue, rounds = ctx.Barrier(3), ctx.SimpleQueue(), 20
    processes = [
        ctx.Process(target=targets.pass_barrier, args=(barrier, queue, rounds)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for _ in range(rounds):
        assert sorted(queue.get() for _ in range(3)) == [0, 1, 2]
    finish(*processes)


@pytest.mark.parametrize("threads, parties", [(8, 2), (7, 3), (20, 5)])
def test_more_threads_than_parties(threads, parties):
    """Rounds overlap: some are still on their way out of one while the next ones fill."""
    barrier = FORK.Barrier(parties)
    rounds = 60
    left = [rounds * parties]
    indices = []
    lock = threading.Lock()

    def run():
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
            indices.append(barrier.wait(30))

    workers = [Background(run) for _ in range(threads)]
    for worker in workers:
        worker.result()
    assert sorted(indices) == sorted(list(range(parties)) * rounds)


# --- action ------------------------------------------


def test_action_runs_once_before_anybody_goes_on():
    calls = []

    def action():
        calls.append([party.is_running() for party in parties])
        time.sleep(0.05)

    barrier = FORK.Barrier(3, action)
    parties = [start_party(barrier) for _ in range(2)]
    assert barrier.wait() == 2
    assert [party.result() for party in parties] == [0, 1]
    assert calls == [[True, True]]


def test_action_across_processes(ctx):
    calls, queue, rounds = ctx.RawValue("i", 0), ctx.SimpleQueue(), 10
    barrier = ctx.Barrier(2, targets.CountCalls(calls))
    process = ctx.Process(target=targets.pass_barrier, args=(barrier, queue, rounds))
    process.start()
    for n in range(1, rounds + 1):
        mine = barrier.wait(30)
        assert calls.value == n
        assert {mine, queue.get()} == {0, 1}
    finish(process)


def test_an_exception_of_the_action_breaks_the_barrier():
    barrier = FORK.Barrier(2, lambda: 1 / 0)
    party = start_party(barrier)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert party.result() == "broken"
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_a_timeout_does_not_break_a_full_barrier():
    """Everybody has come: the time is over while the action runs, but the barrier is passed."""
    barrier = FORK.Barrier(2, lambda: time.sleep(1.5))
    party = start_party(barrier, 1)
    assert barrier.wait() == 1
    assert party.result() == 0
    assert not barrier.broken


def test_who_comes_while_the_action_runs_is_in_the_next_round():
    running, go_on = threading.Event(), threading.Event()

    def action():
        running.set()
        assert go_on.wait(30)

    barrier = FORK.Barrier(2, action)
    parties = [Background(barrier.wait) for _ in range(2)]
    assert running.wait(30)
    assert barrier.n_waiting == 2
    late = Background(barrier.wait)
    time.sleep(0.05)
    assert late.is_running()
    go_on.set()
    assert sorted(party.result() for party in parties) == [0, 1]
    assert barrier.wait() in (0, 1)
    late.result()


def test_abort_and_reset_in_the_action():
    for method in ("abort", "reset"):
        barrier = FORK.Barrier(2, lambda: getattr(barrier, method)())  # noqa: B023
        party = start_party(barrier)
        with pytest.raises(Broken):
            barrier.wait()
        assert party.result() == "broken"
        assert barrier.broken is (method == "abort")


# --- abort, reset, timeouts ------------------------------------------


def test_abort(ctx):
    barrier, queue = ctx.Barrier(3), ctx.SimpleQueue()
    process = start_process(ctx, barrier, queue)
    party = start_party(barrier)
    barrier.abort()
    assert queue.get() == "broken"
    assert party.result() == "broken"
    with pytest.raises(Broken):
        barrier.wait()
    with pytest.raises(Broken):
        barrier.wait(0)
    barrier.abort()
    assert barrier.broken
    finish(process)


def test_reset(ctx):
    barrier, queue = ctx.Barrier(3), ctx.SimpleQueue()
    process = start_process(ctx, barrier, queue)
    party = start_party(barrier)
    barrier.reset()
    assert queue.get() == "broken"
    assert party.result() == "broken"
    assert not barrier.broken
    finish(process)
    parties = [start_party(barrier) for _ in range(2)]
    assert barrier.wait() == 2
    assert [party.result() for party in parties] == [0, 1]


def test_reset_of_a_broken_barrier():
    barrier = FORK.Barrier(2)
    barrier.abort()
    barrier.reset()
    party = start_party(barrier)
    assert barrier.wait() == 1
    assert party.result() == 0


@pytest.mark.parametrize("timeout", [0, -1, 1e-9, 0.05])
def test_timeouts(timeout):
    barrier = FORK.Barrier(3)
    party = start_party(barrier)
    start = time.monotonic()
    with pytest.raises(Broken):
        barrier.wait(timeout)
    assert time.monotonic() - start >= timeout
    assert barrier.broken
    assert party.result() == "broken"


def test_default_timeout():
    barrier = FORK.Barrier(2, timeout=0.05)
    assert start_party(barrier).result() == "broken"
    barrier.reset()
    party = start_party(barrier, timeout=30)
    time.sleep(0.1)
    assert barrier.wait() == 1  # no longer than the default, but it is the last
    assert party.result() == 0


# --- signals ------------------------------------------


def test_who_is_interrupted_leaves_the_others_waiting():
    barrier = FORK.Barrier(3)
    party = start_party(barrier)
    for _ in range(2):
        with pytest.raises(Interrupted), interruption():
            barrier.wait()
        assert barrier.n_waiting == 1
        assert not barrier.broken
    other = start_party(barrier)
    assert barrier.wait() == 2
    assert [party.result(), other.result()] == [0, 1]


def test_the_index_of_who_left_goes_to_the_next():
    barrier = FORK.Barrier(4)
    parties = []

    def come_later():
        until(lambda: barrier.n_waiting == 1)
        parties.append(start_party(barrier))

    helper = Background(come_later)
    with pytest.raises(Interrupted), interruption(1):
        barrier.wait()  # 0, while the other one is 1
    helper.result()
    parties.append(start_party(barrier))
    parties.append(start_party(barrier))
    assert barrier.wait() == 3
    assert sorted(party.result() for party in parties) == [0, 1, 2]


def test_an_interrupted_action_breaks_the_barrier():
    barrier = FORK.Barrier(2, lambda: time.sleep(30))
    party = start_party(barrier)
    with pytest.raises(Interrupted), interruption():
        barrier.wait()
    assert party.result() == "broken"


# --- kills ------------------------------------------


@pytest.mark.needs_tick
def test_a_killed_party_breaks_the_barrier(ctx):
    barrier, queue = ctx.Barrier(4), ctx.SimpleQueue()
    victim = start_process(ctx, barrier, queue)
    other = start_process(ctx, barrier, queue)
    party = start_party(barrier)
    start = time.monotonic()
    kill(victim)
    assert queue.get() == "broken"
    assert party.result() == "broken"
    assert time.monotonic() - start < 20
    assert barrier.broken
    finish(other)
    barrier.reset()
    assert start_party(barrier).is_running()
    barrier.abort()


def test_the_last_to_come_notices_that_the_others_died_long_ago():
    barrier, queue = FORK.Barrier(2), FORK.SimpleQueue()
    kill(start_process(FORK, barrier, queue))
    time.sleep(2)
    with pytest.raises(Broken):
        barrier.wait()


@pytest.mark.needs_tick
def test_who_waits_notices_that_all_others_died(ctx):
    barrier, queue = ctx.Barrier(4), ctx.SimpleQueue()
    for process in [start_process(ctx, barrier, queue) for _ in range(2)]:
        kill(process)
    assert targets.outcome_of_wait(barrier) == "broken"


@pytest.mark.needs_tick
def test_killed_in_the_action(ctx):
    running, queue = ctx.Event(), ctx.SimpleQueue()
    barrier = ctx.Barrier(2, targets.SleepInAction(running))
    party = start_party(barrier)
    process = ctx.Process(target=targets.pass_barrier, args=(barrier, queue))
    process.start()
    assert running.wait(30)
    late = Background(targets.outcome_of_wait, barrier)
    time.sleep(0.05)
    kill(process)
    assert party.result() == "broken"
    assert late.result() == "broken"


@pytest.mark.needs_tick
def test_killed_at_any_moment():
    """A storm: whatever the victim was doing, the others can go on, and so can the barrier."""
    rounds = FORK.RawValue("i", 0)
    barrier = FORK.Barrier(3, targets.CountCalls(rounds))
    choose = random.Random(5)
    inside = 0
    for _ in range(14):
        processes = [
            FORK.Process(target=targets.pass_until_broken, args=(barrier,)) for _ in range(3)
        ]
        for process in processes:
            process.start()
        before = rounds.value
        until(lambda before=before: rounds.value > before)
        time.sleep(choose.random() * 0.005)
        victim = processes.pop(choose.randrange(3))
        kill(victim)
        try:
            until(lambda: barrier.broken, 1)
            inside += 1
        except AssertionError:  # it was outside, and the others rightly wait; or they are slow
            until(lambda: barrier.broken or barrier.n_waiting == 2)
            barrier.abort()
        finish(*processes)
        barrier.reset()
    assert inside > 1
    parties = [start_party(barrier) for _ in range(2)]
    assert barrier.wait() == 2
    assert [party.result() for party in parties] == [0, 1]


def pass_stopped(barrier):
    """A process passes, and is killed before it has left."""
    process = start_process(FORK, barrier, FORK.SimpleQueue())
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: procs.read(process.pid).state == "T")
    assert barrier.wait() == 1
    kill(process)


@pytest.mark.needs_tick
def test_killed_when_released_breaks_the_next_round():
    barrier = FORK.Barrier(2)
    pass_stopped(barrier)
    assert not barrier.broken
    assert start_party(barrier).result() == "broken"


@pytest.mark.needs_tick
def test_a_reset_forgives_those_killed_when_released():
    barrier = FORK.Barrier(2)
    for _ in range(12):  # more than the table has places
        pass_stopped(barrier)
        barrier.reset()
    party = start_party(barrier)
    time.sleep(0.3)
    assert barrier.wait() == 1
    assert party.result() == 0


# --- passing it on ------------------------------------------


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_forks_barrier_is_refused_elsewhere(ctx):
    process = ctx.Process(target=targets.pass_barrier, args=(FORK.Barrier(2), None))
    with pytest.raises(RuntimeError, match="A SemLock created in a fork context is being shared"):
        process.start()


def test_timeout_and_action_travel(ctx):
    calls, queue = ctx.RawValue("i", 0), ctx.SimpleQueue()
    barrier = ctx.Barrier(2, targets.CountCalls(calls), timeout=0.05)
    process = ctx.Process(target=targets.pass_barrier, args=(barrier, queue))
    process.start()
    assert queue.get() == "broken"
    finish(process)
    assert calls.value == 0
