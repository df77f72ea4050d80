"""A pool ends, in whatever state it is and whoever ends it; nobody waits for it in vain."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import fastmp
import fastmp.pool
from tests.pool_tasks import fail_to_start, ignore_sigterm, nap, square
from tests.support.waiting import until


def sleep_at_start(path):
    with open(path, "a") as file:
        file.write("x")
    time.sleep(300)


#
# States: each makes a pool of two workers, and returns it with the results that are still to come.
#


def idle(_path):
    pool = fastmp.get_context("fork").Pool(2)
    assert pool.map(square, range(4)) == [0, 1, 4, 9]
    return pool, []


def busy(_path):
    pool, _ = idle(_path)
    return pool, [pool.map_async(nap, [300] * 100, chunksize=1), pool.apply_async(square, (1,))]


def full_of_tasks(_path):
    """More than may be waiting: the rest is fed by whoever waits."""
    pool, _ = idle(_path)
    large = [b"x" * (8 << 20)] * 12
    return pool, [pool.map_async(len, large, chunksize=1) for _ in range(2)]


def results_that_nobody_took(_path):
    pool, _ = idle(_path)
    return pool, [pool.apply_async(square, (i,)) for i in range(1000)]


def stopped_workers(_path):
    pool, results = busy(_path)
    for w in pool._pool:
        os.kill(w.pid, signal.SIGSTOP)
    return pool, results


def one_stopped_worker(_path):
    pool, _ = idle(_path)
    os.kill(pool._pool[0].pid, signal.SIGSTOP)
    return pool, [pool.apply_async(square, (i,)) for i in range(10)]


def deaf_workers(_path):
    pool = fastmp.get_context("fork").Pool(2, ignore_sigterm)
    return pool, [pool.map_async(nap, [300] * 4, chunksize=1)]


def dead_workers(_path):
    pool, results = busy(_path)
    for w in pool._pool:
        os.kill(w.pid, signal.SIGKILL)
    return pool, results


def starting_workers(path):
    pool = fastmp.get_context("fork").Pool(2, sleep_at_start, (str(path),))
    until(lambda: path.exists() and len(path.read_text()) == 2)
    return pool, [pool.apply_async(square, (1,))]


def broken(path):
    pool = fastmp.get_context("fork").Pool(2, fail_to_start, (str(path), "no"))
    result = pool.apply_async(square, (1,))
    with pytest.raises(fastmp.BrokenPoolError):
        result.get(30)
    return pool, []


def an_iterable_that_blocks(_path):
    pool, _ = idle(_path)
    go_on = threading.Event()

    def items():
        yield 1
        go_on.wait(300)
        yield 2

    results = pool.imap(square, items())
    assert next(results) == 1
    pool.go_on = go_on  # for who has ended it
    return pool, [results]


def callbacks(_path):
    pool, _ = idle(_path)
    return pool, [pool.apply_async(nap, (300,), callback=print, error_callback=str)]


def a_time_limit(_path):
    pool, _ = idle(_path)
    return pool, [pool.apply_async(nap, (300,), timeout=300)]


STATES = [
    idle,
    busy,
    full_of_tasks,
    results_that_nobody_took,
    stopped_workers,
    one_stopped_worker,
    deaf_workers,
    dead_workers,
    starting_workers,
    broken,
    callbacks,
    a_time_limit,
]


def settle(results):
    """Each result is there, or says that the pool was terminated: nobody waits for ever."""
    for result in results:
        try:
            result.get(30)
        except (fastmp.PoolTerminatedError, fastmp.WorkerLostError):
            pass


@pytest.mark.parametrize("state", STATES)
def test_terminate(state, tmp_path):
    pool, results = state(tmp_path / "begun")
    workers = [*pool._pool]
    pool.terminate()
    pool.join()
    settle(results)
    assert all(w.exitcode is not None for w in workers)


def test_terminate_while_an_iterable_blocks(tmp_path):
    pool, [results] = an_iterable_that_blocks(tmp_path)
    # Nothing can end a generator that runs; but it keeps nobody else.
    timer = threading.Timer(1.0, pool.go_on.set)
    timer.start()
    pool.terminate()
    pool.join()
    with pytest.raises(fastmp.PoolTerminatedError):
        results.next(30)
    timer.join()


def kill_all(pool):
    for w in pool._pool:
        os.kill(w.pid, signal.SIGKILL)


def stop_all(pool):
    for w in pool._pool:
        os.kill(w.pid, signal.SIGSTOP)


def leave_a_call(pool):
    pool.apply_async(nap, (0.5,))


def leave_calls_with_callbacks(pool):
    for _ in range(5):
        pool.apply_async(nap, (0.1,), callback=str)


def leave_a_map_that_has_to_be_fed(pool):
    pool.map_async(len, [b"x" * (8 << 20)] * 12, chunksize=1)


def leave_a_call_and_kill_all(pool):
    leave_a_call(pool)
    kill_all(pool)


ACTIONS = [
    None,
    kill_all,
    stop_all,
    leave_a_call,
    leave_calls_with_callbacks,
    leave_a_map_that_has_to_be_fed,
    leave_a_call_and_kill_all,
]


@pytest.mark.parametrize("action", ACTIONS)
def test_the_garbage_collector(action, tmp_path):
    """A pool that is forgotten goes with its last job, as the stdlib's."""
    pool, _ = idle(tmp_path)
    workers = [*pool._pool]
    if action is not None:
        action(pool)
    with warnings.catch_warnings():  # the stdlib warns about a pool that nobody ended
        warnings.simplefilter("ignore", ResourceWarning)
        del pool
        gc.collect()
        until(lambda: all(w.exitcode is not None for w in workers))


def mark(path):
    with open(path, "a") as file:
        file.write("x")


def test_work_of_a_forgotten_pool_is_done(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        fastmp.get_context("fork").Pool(2).map_async(mark, [str(tmp_path / "marks")] * 100, 1)
    until(lambda: (tmp_path / "marks").exists() and len((tmp_path / "marks").read_text()) == 100)


def test_results_of_a_forgotten_pool_come():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        results = [fastmp.get_context("fork").Pool(1).apply_async(square, (i,)) for i in range(3)]
        slow = fastmp.get_context("fork").Pool(1).apply_async(nap, (0.5,))
        lazy = fastmp.get_context("fork").Pool(1).imap(square, iter(range(100)))
        few = fastmp.get_context("fork").Pool(1).imap(square, iter(range(20)), buffersize=2)
    assert [r.get(30) for r in results] == [0, 1, 4]
    assert slow.get(30) == 0.5
    assert slow._pool is None
    assert [*lazy] == [x * x for x in range(100)]
    assert [*few] == [x * x for x in range(20)]


def test_a_forgotten_pool_at_exit(tmp_path):
    """Its work is not waited for, as that of any pool."""
    program = (
        "import fastmp, time\n"
        "fastmp.get_context('fork').Pool(1).apply_async(time.sleep, (300,))\n"
        "print('the end', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


@pytest.mark.parametrize("state", STATES)
def test_an_exception_in_its_block(state, tmp_path):
    with pytest.raises(ZeroDivisionError):
        pool, results = state(tmp_path / "begun")
        with pool:
            _ = 1 / 0
    pool.join()
    settle(results)


@pytest.mark.parametrize(
    "state", [idle, full_of_tasks, results_that_nobody_took, dead_workers, broken]
)
def test_close_and_join(state, tmp_path):
    pool, results = state(tmp_path / "begun")
    if state is dead_workers:
        results[0].cancel()  # its hundred naps of five minutes
    pool.close()
    pool.join()
    for result in results:
        try:
            result.get(0)
        except (fastmp.TaskCancelledError, fastmp.WorkerLostError):
            assert state is dead_workers


def test_close_and_join_wait_for_a_stopped_worker(tmp_path):
    pool, results = one_stopped_worker(tmp_path)
    stopped = pool._pool[0].pid
    pool.close()
    timer = threading.Timer(0.5, os.kill, (stopped, signal.SIGCONT))
    timer.start()
    pool.join()
    timer.join()
    assert [r.get(0) for r in results] == [i * i for i in range(10)]


class PlainProcess:
    """As little as the stdlib's pools ask of a process that their context makes."""

    made: list = []
    exitcode = None
    name = "PlainProcess"

    def __init__(self, ctx, **kwargs):
        self.state = "made"
        self.made.append(self)

    def start(self):
        if len(self.made) == 3:
            raise OSError("no third process")
        self.state = "started"

    def terminate(self):
        self.state = "stopping"

    def join(self):
        self.state = "stopped"


def test_a_pool_that_cannot_be_made_takes_back_its_workers(monkeypatch):
    monkeypatch.setattr(fastmp.pool.Pool, "Process", PlainProcess)
    with pytest.raises(OSError, match="no third process"):
        fastmp.pool.Pool(5)
    assert [p.state for p in PlainProcess.made] == ["stopped", "stopped", "made"]
