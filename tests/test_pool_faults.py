"""Pool: workers that die, initializers that fail, stuck workers, ^C, the parent's end."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import fastmp
from fastmp import BrokenPoolError, PoolTerminatedError, WorkerLostError
from tests.pool_tasks import (
    die,
    fail_once,
    fail_to_start,
    ignore_sigterm,
    leave,
    meet,
    nap,
    pid,
    recall,
    remember,
    segfault,
    square,
)
from tests.support import census, procs
from tests.support.waiting import is_asleep


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def fork_pool():
    with fastmp.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


def has_worked(pool):
    """Whether all tasks are done: a worker sleeps only when it has posted its results."""
    return pool._board.tasks_waiting() == 0 and all(is_asleep(p.pid) for p in pool._pool)


def is_finished(result):
    """Whether it has its outcome; unlike ready(), this does not look for what has come."""
    return result._crew is None


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


#
# Workers that die
#


@pytest.mark.parametrize(
    "how, exitcode, said",
    [("exit", 3, "exit code 3"), (signal.SIGKILL, -9, "SIGKILL"), (signal.SIGTERM, -15, "SIGTERM")],
)
@pytest.mark.needs_tick
def test_a_worker_that_dies_in_a_task(pool, how, exitcode, said):
    with pytest.raises(WorkerLostError, match=said) as e:
        pool.apply(die, (how,))
    assert e.value.exitcode == exitcode and e.value.task == "die()" and e.value.pid > 1
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert len(pool._pool) == 2 and e.value.pid not in [p.pid for p in pool._pool]


@pytest.mark.needs_tick
def test_a_worker_that_crashes(fork_pool):
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        fork_pool.apply(segfault)
    assert fork_pool.apply(square, (2,)) == 4


@pytest.mark.needs_tick
def test_only_the_task_of_the_dead_worker_fails(fork_pool):
    hows = ["nothing"] * 10 + ["exit"] + ["nothing"] * 10
    it = fork_pool.imap(die, hows)
    pids = [next(it) for _ in range(10)]
    with pytest.raises(WorkerLostError, match=r"die\(\) on item 10") as e:
        next(it)
    assert len(list(it)) == 10 and e.value.pid in pids
    other = fork_pool.map_async(nap, [0.3] * 4, chunksize=1)
    with pytest.raises(WorkerLostError, match="items 10 to 11"):
        fork_pool.map(die, hows, chunksize=2)
    assert other.get(20) == [0.3] * 4


def test_a_death_is_noticed_by_who_waits_for_something_else(fork_pool):
    lost = fork_pool.apply_async(die, (signal.SIGKILL,))
    wait_until(lambda: fork_pool.apply(nap, (0.5,)) and is_finished(lost))
    with pytest.raises(WorkerLostError):
        lost.get(0)


@pytest.mark.needs_tick
def test_a_death_is_noticed_by_polling(fork_pool):
    lost = fork_pool.apply_async(die, (signal.SIGKILL,))
    wait_until(lost.ready)
    assert not lost.successful()


def test_a_death_is_noticed_while_results_stream(fork_pool):
    lost = fork_pool.apply_async(die, (signal.SIGKILL,))
    for _ in fork_pool.imap_unordered(nap, [0.01] * 3000):
        if is_finished(lost):
            break
    with pytest.raises(WorkerLostError):
        lost.get(0)


@pytest.mark.needs_tick
def test_a_death_calls_back(fork_pool):
    errors = []
    fork_pool.apply_async(die, ("exit",), error_callback=errors.append).wait(20)
    assert len(errors) == 1 and isinstance(errors[0], WorkerLostError)


@pytest.mark.needs_tick
def test_idle_workers_that_are_killed(pool):
    pool.map(pid, range(10))
    for _ in range(2):
        for p in list(pool._pool):
            os.kill(p.pid, signal.SIGKILL)
        assert pool.map(square, range(20), chunksize=1) == [x * x for x in range(20)]
        wait_until(lambda: pool.apply(pid) and all(p.is_alive() for p in pool._pool))


@pytest.mark.needs_tick
def test_every_task_kills_its_worker(fork_pool):
    results = [fork_pool.apply_async(die, ("exit",)) for _ in range(20)]
    for r in results:
        with pytest.raises(WorkerLostError):
            r.get(20)
    assert fork_pool.apply(square, (2,)) == 4


@pytest.mark.parametrize("how", [0, 3, "text", "interrupt"])
def test_a_task_that_exits(fork_pool, how):
    said = "KeyboardInterrupt" if how == "interrupt" else f"SystemExit: {how}"
    with pytest.raises(WorkerLostError, match=said) as e:
        fork_pool.apply(leave, (how,))
    assert "in leave" in str(e.value.__cause__)
    assert fork_pool.map(square, [1, 2, 3], 1) == [1, 4, 9]
    assert len(fork_pool._pool) == 2


@pytest.mark.needs_tick
def test_kills_at_random_lose_no_task_unsaid(fork_pool):
    """Each task's result comes, or WorkerLostError for it, while workers are being killed."""
    stop = threading.Event()

    def killer():
        while not stop.wait(0.03):
            for p in list(fork_pool._pool)[:1]:
                try:
                    os.kill(p.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        it = fork_pool.imap(square, range(3000))
        lost = 0
        for i in range(3000):
            try:
                assert it.next(30) == i * i
            except WorkerLostError as e:
                assert e.task == f"square() on item {i}"
                lost += 1
        with pytest.raises(StopIteration):
            next(it)
    finally:
        stop.set()
        thread.join()
    assert lost < 300
    assert fork_pool._cache == {}


#
# Initializers, and workers that cannot start
#


@pytest.mark.needs_tick
def test_initializer(ctx):
    with ctx.Pool(2, remember, (1, "two")) as pool:
        assert pool.apply(recall) == [(1, "two")]
        with pytest.raises(WorkerLostError):
            pool.apply(die, ("exit",))
        assert pool.map(recall, range(4), 1) == [[(1, "two")]] * 4
    pool.join()


def test_an_initializer_that_raises(ctx, tmp_path, capfd):
    path = tmp_path / "starts"
    pool = ctx.Pool(2, fail_to_start, (str(path), "no luck"))
    waiting = pool.map_async(square, range(10))
    with pytest.raises(BrokenPoolError, match="initializer raised OSError"):
        pool.apply(square, (1,))
    with pytest.raises(BrokenPoolError, match="no luck") as e:
        waiting.get(10)
    assert isinstance(e.value.__cause__, OSError)
    assert "in fail_to_start" in str(e.value.__cause__.__cause__)
    with pytest.raises(BrokenPoolError):
        list(pool.imap(square, iter(range(10))))
    assert len(path.read_text()) <= 8
    pool.close()
    pool.join()


@pytest.mark.needs_tick
def test_workers_that_die_before_they_are_ready(capfd):
    pool = fastmp.get_context("fork").Pool(2, die, ("exit",))
    with pytest.raises(BrokenPoolError, match="exit code 3 before it was ready"):
        pool.map(square, range(10))
    pool.terminate()
    pool.join()


def test_an_initializer_that_fails_once(tmp_path, capfd):
    with fastmp.get_context("fork").Pool(2, fail_once, (str(tmp_path / "x"),)) as pool:
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
        wait_until(lambda: pool.apply(pid) and len(pool._pool) == 2)
    pool.join()


#
# maxtasksperchild
#


def test_maxtasksperchild_counts_chunks(ctx):
    with ctx.Pool(1, maxtasksperchild=2) as pool:
        pids = pool.map(pid, range(12), chunksize=2)
        assert [pids.count(p) for p in dict.fromkeys(pids)] == [4, 4, 4]
    pool.join()


def test_maxtasksperchild_works_without_anybody_waiting(fork_pool):
    with fastmp.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        result = pool.map_async(pid, range(10), chunksize=1)
        wait_until(lambda: pool._board.tasks_waiting() == 0)
        assert len(set(result.get(10))) == 10
        pool.close()
        pool.join()


#
# Stuck workers, terminate()
#


def test_terminate_kills_what_does_not_end():
    pool = fastmp.get_context("fork").Pool(2, ignore_sigterm)
    pool._crew.grace = 0.3
    result = pool.map_async(nap, [60] * 4, chunksize=1)
    wait_until(lambda: pool._board.tasks_waiting() == 2)
    began = time.monotonic()
    pool.terminate()
    assert time.monotonic() - began < 5
    with pytest.raises(PoolTerminatedError, match="terminated before the result came"):
        result.get()
    pool.join()
    assert [p.exitcode for p in pool._pool] == [-9, -9]


def test_terminate_ends_stopped_workers(ctx):
    pool = ctx.Pool(2)
    pool.map(pid, range(4))
    for p in pool._pool:
        os.kill(p.pid, signal.SIGSTOP)
    began = time.monotonic()
    pool.terminate()
    assert time.monotonic() - began < 4
    pool.join()
    assert [p.exitcode for p in pool._pool] == [-15, -15]


def test_terminate_wakes_those_who_wait():
    pool = fastmp.get_context("fork").Pool(2)
    errors = []

    def wait(call):
        try:
            call()
        except BaseException as e:
            errors.append(type(e))

    calls = [
        lambda: pool.apply(nap, (60,)),
        lambda: pool.map(nap, [60] * 5),
        lambda: next(pool.imap(nap, iter([60, 60]))),
        lambda: next(pool.imap_unordered(nap, [60])),
    ]
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for t in threads:
        t.start()
    wait_until(lambda: len(pool._board.cache) == 4)
    pool.terminate()
    for t in threads:
        t.join(5)
    assert errors == [PoolTerminatedError] * 4
    pool.join()


def test_results_that_came_before_terminate_count(fork_pool):
    result = fork_pool.map_async(square, range(10))
    wait_until(lambda: has_worked(fork_pool))
    fork_pool.terminate()
    assert result.get(0) == [x * x for x in range(10)]


def test_terminate_from_a_callback():
    pool = fastmp.get_context("fork").Pool(2)
    done = threading.Event()

    def callback(_):
        pool.terminate()
        done.set()

    pool.apply_async(square, (2,), callback=callback)
    assert done.wait(20)
    pool.join()


def test_a_forked_child_cannot_use_the_pool(fork_pool):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fork_pool.apply(square, (1,))
        except RuntimeError as e:
            status = 0 if "only be used in the process that made it" in str(e) else 2
        try:
            fork_pool.close()
            fork_pool.terminate()
        except BaseException:
            status = 3
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert fork_pool.apply(square, (3,)) == 9


#
# Nothing is left
#


@pytest.mark.watchdog(120)
def test_many_pools_leave_nothing():
    ctx = fastmp.get_context("fork")
    with ctx.Pool(2) as pool:
        pool.map(square, range(4))
    pool.join()
    before = census.take()
    for i in range(50):
        pool = ctx.Pool(2, maxtasksperchild=None if i % 2 else 5)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        assert list(pool.imap(square, iter(range(3)))) == [0, 1, 4]
        if i % 3:
            pool.terminate()
        else:
            pool.close()
        pool.join()
    del pool
    assert census.settle(before) == []


def script(text):
    return [sys.executable, "-c", textwrap.dedent(text)]


def run(text, **kwargs):
    return subprocess.run(script(text), capture_output=True, text=True, timeout=50, **kwargs)


PRELUDE = """
    import os, signal, sys, time
    import fastmp
    def pid(_=None):
        return os.getpid()
    def nap(s):
        time.sleep(s)
        return s
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_interpreter_ends_with_a_pool_alive(tmp_path, method):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import time, sys
            import fastmp
            def nap(s):
                time.sleep(s)
            if __name__ == "__main__":
                pool = fastmp.get_context("{method}").Pool(2)
                pool.map(nap, [0, 0])
                result = pool.map_async(nap, [60] * 10, callback=print)
                it = pool.imap(nap, iter([60] * 10))
                print([p.pid for p in pool._pool])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=50, env=environment()
    )
    assert done.returncode == 0 and done.stderr == ""
    for p in eval(done.stdout):
        assert procs.read(p) is None


def environment():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {**os.environ, "PYTHONPATH": root}


def test_workers_leave_with_their_parent():
    done = subprocess.run(
        script(
            PRELUDE
            + """
    pool = fastmp.get_context("fork").Pool(3)
    print(*{pid for pid in pool.map(pid, range(30), 1)}, *[p.pid for p in pool._pool], flush=True)
    pool.apply_async(nap, (1,))
    os.kill(os.getpid(), signal.SIGKILL)
    """
        ),
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        env=environment(),
    )
    assert done.returncode == -9
    pids = {int(p) for p in done.stdout.split()}
    assert len(pids) == 3
    wait_until(lambda: not any(alive(p) for p in pids), 10)


def alive(pid):
    proc = procs.read(pid)
    return proc is not None and proc.state != "Z"


def test_interrupt():
    """^C reaches everybody; the waiting call raises, and the pool can be closed and joined."""
    process = subprocess.Popen(
        script(
            PRELUDE
            + """
    pool = fastmp.get_context("fork").Pool(2)
    pool.map(pid, range(4))
    try:
        print("ready", flush=True)
        pool.map(nap, [5] * 2 + [0] * 20, 1)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
    pool.close()
    pool.join()
    print("joined")
    """
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=40)
    assert out == "interrupted\njoined\n" and process.returncode == 0


@pytest.fixture
def idle_workers(fork_pool, tmp_path):
    """Their pids. Each has worked: one that is still starting rightly ends when interrupted."""
    assert fork_pool.map(meet, [(str(tmp_path), i, b"") for i in range(2)], 1) == [True] * 2
    return {p.pid for p in fork_pool._pool}


def interrupt(pids):
    for p in pids:
        os.kill(p, signal.SIGINT)


def test_idle_workers_stay_when_interrupted(fork_pool, idle_workers):
    interrupt(idle_workers)
    time.sleep(0.3)
    assert set(fork_pool.map(pid, range(20), 1)) <= idle_workers
    assert {p.pid for p in fork_pool._pool} == idle_workers


def test_an_interrupt_that_meets_the_next_task_is_not_its(fork_pool, idle_workers):
    for _ in range(100):
        fork_pool.map(pid, range(4), 1)
        interrupt(idle_workers)
        time.sleep(0.01)
        assert set(fork_pool.map(pid, range(4), 1)) <= idle_workers
    assert {p.pid for p in fork_pool._pool} == idle_workers
