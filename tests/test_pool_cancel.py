"""Calls of a pool that are cancelled, or run over their time: one worker goes, nothing else."""

import os
import random
import signal
import threading
import time

import pytest

import fastmp
from tests.support import procs
from tests.support.waiting import is_asleep, until


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def whoami(_=None):
    return os.getpid()


def square(x):
    return x * x


def mark_and_stay(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(300)


def mark(path):
    with open(path, "a") as file:
        file.write("x")


def mark_and_return(path_and_value):
    mark(path_and_value[0])
    return path_and_value[1]


def stay_until(path, value):
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def busy(seconds, value):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


def pids(pool):
    return {w.pid for w in pool._pool}


def begun(path):
    until(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def test_a_running_call(pool, tmp_path):
    before = pids(pool)
    result = pool.apply_async(mark_and_stay, (str(tmp_path / "begun"),))
    other = pool.apply_async(nap, (0.5, "other"))
    pid = begun(tmp_path / "begun")
    assert result.cancel() is True
    with pytest.raises(fastmp.TaskCancelledError, match=r"mark_and_stay\(\) was cancelled"):
        result.get(10)
    assert result.ready() and not result.successful()
    assert result.cancel() is False
    assert other.get(10) == "other"
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert before - pids(pool) == {pid}  # one worker, and no other, has gone
    assert len(pids(pool)) == 2
    assert not procs.runs(pid)


def test_a_waiting_call_is_never_begun(pool, tmp_path):
    before = pids(pool)
    go = tmp_path / "go"
    blockers = [pool.apply_async(stay_until, (str(go), i)) for i in range(2)]
    marks = [pool.apply_async(mark, (str(tmp_path / str(i)),)) for i in range(20)]
    assert [marks[i].cancel() for i in range(0, 20, 2)] == [True] * 10
    go.touch()
    assert [x.get(10) for x in blockers] == [0, 1]
    for i, result in enumerate(marks):
        if i % 2 == 0:
            with pytest.raises(fastmp.TaskCancelledError):
                result.get(10)
        else:
            result.get(10)
        assert (tmp_path / str(i)).exists() == (i % 2 == 1)
    assert pids(pool) == before


def test_a_finished_call_keeps_its_result(pool):
    result = pool.apply_async(square, (3,))
    assert result.get(10) == 9
    assert result.cancel() is False
    assert result.get() == 9


def test_a_result_that_nobody_has_collected_yet(ctx):
    with ctx.Pool(1) as pool:
        pool.apply(square, (1,))  # has imported what it needs
        before = pids(pool)
        result = pool.apply_async(square, (3,))
        until(lambda: pool._board.tasks_waiting() == 0 and is_asleep(pool._pool[0].pid))
        assert result.cancel() is False
        assert result.get(0) == 9
        assert pids(pool) == before
        pool.terminate()
        pool.join()


def test_a_map(pool, tmp_path):
    tasks = [(str(tmp_path / str(i)), i) for i in range(1000)]
    go = tmp_path / "go"
    blockers = [pool.apply_async(stay_until, (str(go), i)) for i in range(2)]
    result = pool.map_async(mark_and_return, tasks, chunksize=1)
    assert result.cancel() is True
    go.touch()
    with pytest.raises(fastmp.TaskCancelledError):
        result.get(10)
    assert [x.get(10) for x in blockers] == [0, 1]
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert os.listdir(tmp_path) == ["go"]


def test_a_map_that_is_running(pool, tmp_path):
    before = pids(pool)
    paths = [str(tmp_path / str(i)) for i in range(4)]
    result = pool.map_async(mark_and_stay, paths, chunksize=1)
    until(lambda: len(os.listdir(tmp_path)) == 2)
    assert result.cancel() is True
    with pytest.raises(fastmp.TaskCancelledError):
        result.get(10)
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert len(os.listdir(tmp_path)) == 2
    assert not before & pids(pool)  # both were at it


def test_the_error_callback_is_told(pool, tmp_path):
    errors = []
    result = pool.apply_async(
        mark_and_stay,
        (str(tmp_path / "begun"),),
        callback=errors.append,
        error_callback=errors.append,
    )
    begun(tmp_path / "begun")
    assert result.cancel()
    result.wait(10)
    assert [type(e) for e in errors] == [fastmp.TaskCancelledError]


def test_somebody_waits_for_it(pool, tmp_path):
    result = pool.apply_async(mark_and_stay, (str(tmp_path / "begun"),))
    errors = []

    def wait():
        try:
            result.get(30)
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=wait)
    thread.start()
    begun(tmp_path / "begun")
    assert result.cancel()
    thread.join(10)
    assert [type(e) for e in errors] == [fastmp.TaskCancelledError]


def test_at_any_moment():
    """The worker is between two tasks when it is to be killed: no other task may be hit."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    cancelled = 0
    with fastmp.get_context("fork").Pool(3) as pool:
        for _ in range(60):
            results = [pool.apply_async(busy, (rng.random() * 0.002, i)) for i in range(12)]
            victims = set(rng.sample(range(12), 3))
            time.sleep(rng.random() * 0.004)
            ended = {i for i in sorted(victims) if results[i].cancel()}
            cancelled += len(ended)
            for i, result in enumerate(results):
                if i in ended:
                    with pytest.raises(fastmp.TaskCancelledError):
                        result.get(20)
                else:
                    assert result.get(20) == i, f"seed {seed}"
        pool.close()
        pool.join()
    assert cancelled > 0


def test_from_many_threads():
    with fastmp.get_context("fork").Pool(3) as pool:
        wrong = []

        def use(number):
            for i in range(30):
                result = pool.apply_async(busy, (0.001, (number, i)))
                ended = i % 3 == 0 and result.cancel()
                try:
                    value = result.get(20)
                except fastmp.TaskCancelledError:
                    value = None
                if value != (None if ended else (number, i)):
                    wrong.append((number, i, value))

        threads = [threading.Thread(target=use, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert wrong == []
        pool.close()
        pool.join()


def test_in_a_forked_child(tmp_path):
    with fastmp.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(mark_and_stay, (str(tmp_path / "begun"),))
        begun(tmp_path / "begun")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                result.cancel()
            except RuntimeError as e:
                status = 0 if "only be used in the process that made it" in str(e) else 2
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert not result.ready()
        assert result.cancel()
        pool.terminate()
        pool.join()


def test_after_terminate(ctx):
    pool = ctx.Pool(1)
    result = pool.apply_async(nap, (100,))
    pool.terminate()
    pool.join()
    assert result.cancel() is False
    with pytest.raises(fastmp.PoolTerminatedError):
        result.get()


def test_the_last_call_of_a_closed_pool(ctx, tmp_path):
    pool = ctx.Pool(2)
    result = pool.apply_async(mark_and_stay, (str(tmp_path / "begun"),))
    begun(tmp_path / "begun")
    pool.close()
    assert result.cancel()
    pool.join()


def test_a_stopped_worker(tmp_path):
    """A worker under SIGSTOP is killed all the same."""
    with fastmp.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(mark_and_stay, (str(tmp_path / "begun"),))
        pid = begun(tmp_path / "begun")
        os.kill(pid, signal.SIGSTOP)
        assert result.cancel()
        assert pool.apply(square, (4,)) == 16
        pool.terminate()
        pool.join()


#
# Time limits
#


def test_over_its_time(pool):
    before = pids(pool)
    other = pool.apply_async(nap, (1, "other"))
    result = pool.apply_async(nap, (300,), timeout=0.2)
    with pytest.raises(fastmp.TaskTimeoutError, match=r"nap\(\) ran over 0.2 s") as info:
        result.get(20)
    assert isinstance(info.value, fastmp.TimeoutError)
    assert (info.value.seconds, info.value.task) == (0.2, "nap()")
    assert other.get(10) == "other"
    assert len(before & pids(pool)) == 1
    assert pool.apply(square, (5,)) == 25


def test_time_begins_with_the_call(pool):
    """Not when it is given out: here each waits for others before it."""
    pool.map(square, range(10))
    results = [pool.apply_async(nap, (0.5, i), timeout=3) for i in range(16)]
    assert [r.get(30) for r in results] == list(range(16))


def test_within_its_time(pool):
    results = [pool.apply_async(square, (i,), timeout=60) for i in range(100)]
    assert [r.get(10) for r in results] == [i * i for i in range(100)]
    pool.close()
    pool.join()  # waits for no limit


def test_nobody_waits(pool):
    errors = []
    pool.apply_async(nap, (300,), timeout=0.1, error_callback=errors.append)
    until(lambda: errors)
    assert isinstance(errors[0], fastmp.TaskTimeoutError)


def test_several_limits(pool):
    results = [pool.apply_async(nap, (300,), timeout=t) for t in (0.4, 0.1, 0.2, 0)]
    for r in results:
        with pytest.raises(fastmp.TaskTimeoutError):
            r.get(30)
    assert pool.map(square, range(10)) == [x * x for x in range(10)]


def test_with_keyword_arguments(pool):
    result = pool.apply_async(nap, (), {"seconds": 0.01, "value": 7}, timeout=30)
    assert result.get(30) == 7
    with pytest.raises(fastmp.TaskTimeoutError):
        pool.apply_async(nap, (), {"seconds": 300}, timeout=0.1).get(30)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_bad_limits(timeout):
    with fastmp.get_context("fork").Pool(1) as pool:
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0"):
            pool.apply_async(square, (1,), timeout=timeout)
        with pytest.raises((TypeError, ValueError)):
            pool.apply_async(square, (1,), timeout="soon")
        assert pool.apply_async(square, (2,), timeout=float("inf")).get(10) == 4
        pool.terminate()
        pool.join()
