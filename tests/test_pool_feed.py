"""Pool: how the tasks of large, endless, slow and bounded iterables are given out."""

import gc
import itertools
import os
import threading
import time

import pytest

import fastmp
from tests.pool_tasks import identity, meet, nap, size_and_sum, square


@pytest.fixture
def pool():
    with fastmp.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


def block(i, size=4 << 20):
    return bytes([i]) * size


def test_a_map_over_more_than_may_be_waiting(pool):
    """160 MB through a pool that keeps 32 MB of tasks waiting, and feeds as they are taken."""

    class Blocks:
        made = 0

        def __len__(self):
            return 40

        def __iter__(self):
            for i in range(40):
                self.made += 1
                yield block(i)

    naps = pool.map_async(nap, [1.0, 1.0], chunksize=1)
    blocks = Blocks()
    result = pool.map_async(size_and_sum, blocks, chunksize=1)
    assert naps.ready() or blocks.made <= 10
    assert result.get(50) == [(4 << 20, 10 * i) for i in range(40)]
    assert blocks.made == 40
    assert pool.map(size_and_sum, Blocks(), chunksize=3) == [(4 << 20, 10 * i) for i in range(40)]


def test_a_large_map_goes_on_while_nobody_waits(pool):
    result = pool.map_async(size_and_sum, [block(i) for i in range(16)], chunksize=1)
    deadline = time.monotonic() + 40
    while pool._cache and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pool._cache and len(result.get(0)) == 16


@pytest.mark.parametrize("method", ["map", "imap"])
def test_large_tasks_occupy_all_workers(pool, method, tmp_path):
    """Each is larger than what may be waiting; the second is given out when the first is taken."""
    pool.map(square, range(4))
    tasks = [(str(tmp_path), index, bytes(40 << 20)) for index in range(2)]
    assert list(getattr(pool, method)(meet, tasks, chunksize=1)) == [True, True]


def test_imap_over_an_endless_iterable(pool):
    it = pool.imap(square, itertools.count())
    assert [next(it) for _ in range(3000)] == [x * x for x in range(3000)]
    it = pool.imap_unordered(square, itertools.count(), chunksize=10)
    assert len({next(it) for _ in range(3000)}) == 3000


def test_imap_is_eager(pool):
    """As in the stdlib, the iterable is consumed though nobody asks for results."""
    taken = []

    def iterable():
        for i in range(50):
            taken.append(i)
            yield i

    it = pool.imap(square, iterable())
    deadline = time.monotonic() + 20
    while len(taken) < 50 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(taken) == 50
    assert list(it) == [i * i for i in range(50)]


def test_imap_does_not_wait_for_a_slow_iterable(pool):
    go_on = threading.Event()

    def iterable():
        yield 1
        go_on.wait(20)
        yield 2

    it = pool.imap(square, iterable())
    assert next(it) == 1
    assert pool.apply(square, (3,)) == 9
    with pytest.raises(fastmp.TimeoutError):
        it.next(0.05)
    go_on.set()
    assert next(it) == 4
    with pytest.raises(StopIteration):
        next(it)


def test_an_iterable_may_depend_on_results(pool):
    results = []

    def iterable():
        yield 1
        while len(results) < 5:
            time.sleep(0.001)
            if results:
                yield results[-1] + 1

    it = pool.imap(identity, iterable())
    for value in it:
        results.append(value)
        if len(results) == 5:
            break
    assert results[0] == 1 and results[-1] > 1
    for _ in it:
        pass


def test_no_thread_remains_when_all_is_fed(pool):
    before = threading.active_count()
    assert list(pool.imap(square, range(100))) == [x * x for x in range(100)]
    assert threading.active_count() == before  # a sequence needs none
    assert list(pool.imap(square, iter(range(100)))) == [x * x for x in range(100)]
    pool.apply_async(square, (1,), callback=lambda _: None).wait()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_buffersize(pool, method, chunksize):
    taken = []

    def iterable():
        for i in range(60):
            taken.append(i)
            yield i

    it = getattr(pool, method)(square, iterable(), chunksize, buffersize=4)
    results = []
    for _ in range(10):
        assert len(taken) <= len(results) + 4 * chunksize + chunksize
        results.append(next(it))
    results += it
    assert sorted(results) == [i * i for i in range(60)]
    if method == "imap":
        assert results == sorted(results)


def test_buffersize_needs_no_end(pool):
    it = pool.imap(square, itertools.count(), buffersize=2)
    assert [next(it) for _ in range(100)] == [x * x for x in range(100)]
    del it
    gc.collect()
    it = pool.imap(square, itertools.count(), buffersize=2)
    assert next(it) == 0
    pool.close()
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        list(it)


@pytest.mark.parametrize("buffersize", [0, -1])
def test_bad_buffersizes(pool, buffersize):
    with pytest.raises(ValueError, match="buffersize must be"):
        pool.imap(square, [1], buffersize=buffersize)
    with pytest.raises(TypeError):
        pool.imap_unordered(square, [1], buffersize="x")


def test_jobs_do_not_wait_for_an_endless_one(pool):
    it = pool.imap(square, itertools.count())
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    assert list(pool.imap(square, iter(range(5)), 2)) == [0, 1, 4, 9, 16]
    assert next(it) == 0
    pool.terminate()
    with pytest.raises(fastmp.PoolTerminatedError):
        list(it)


def test_terminate_while_an_iterable_blocks():
    go_on = threading.Event()

    def iterable():
        yield 1
        go_on.wait(20)

    pool = fastmp.get_context("fork").Pool(2)
    pool._crew.grace = 0.5
    it = pool.imap(square, iterable())
    assert next(it) == 1
    began = time.monotonic()
    pool.terminate()
    assert time.monotonic() - began < 5
    go_on.set()
    with pytest.raises(fastmp.PoolTerminatedError):
        next(it)
    pool.join()


def test_a_slow_consumer_of_many_results(pool):
    it = pool.imap_unordered(os.urandom, [100_000] * 50)
    time.sleep(0.1)
    assert sum(len(b) for b in it) == 5_000_000


def test_a_job_that_waits_behind_slow_ones(pool):
    slow = pool.map_async(nap, [0.2] * 4, chunksize=1)
    began = time.monotonic()
    assert pool.apply(square, (2,)) == 4
    assert time.monotonic() - began < 5 and slow.get(5) == [0.2] * 4
