"""Pool: what the stdlib's does, in values, order, errors and messages."""

import functools
import operator
import os
import pickle
import threading
import time
import warnings

import pytest

import fastmp
from fastmp import _std
from tests.pool_tasks import (
    Adder,
    BadState,
    add,
    fail,
    fail_if_odd,
    identity,
    make_bad_state,
    make_lambda,
    meet,
    nap,
    pid,
    raise_not_to_be_unpickled,
    raise_unpicklable,
    square,
)
from tests.support import START_METHODS
from tests.support.later import later

numpy = later("numpy")


@pytest.fixture(scope="module", params=START_METHODS)
def pool(request):
    """A pool of each start method in turn, which tests must leave as it is."""
    with fastmp.get_context(request.param).Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture(params=["fastmp", "stdlib"])
def either(request):
    """A pool of fastmp's and one of the stdlib's, for what must be the same."""
    contexts = fastmp if request.param == "fastmp" else _std.context._default_context
    with contexts.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


#
# Values and order
#


def test_apply(pool):
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(add, (1,), {"b": 2, "c": 3}) == 6
    assert pool.apply(add, [1, 2]) == 3
    assert pool.apply(pid) != os.getpid()


def test_apply_unpacks_as_python_does(either):
    with pytest.raises(TypeError, match="must be an iterable, not int"):
        either.apply(square, 5)
    with pytest.raises(TypeError, match=r"argument after|Value after \*\*"):  # 3.15
        either.apply(square, (), 5)


def test_map(pool):
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert pool.map(square, (x for x in range(100)), chunksize=7) == [x * x for x in range(100)]
    assert pool.map(square, range(50), 1) == [x * x for x in range(50)]
    assert pool.map(square, []) == []
    assert pool.map(str, [{"a": 1}, None, b"x"]) == ["{'a': 1}", "None", "b'x'"]


def test_starmap(pool):
    pairs = [(x, 3) for x in range(20)]
    assert pool.starmap(pow, pairs) == [x**3 for x in range(20)]
    assert pool.starmap(pow, pairs, chunksize=1) == [x**3 for x in range(20)]
    assert pool.starmap_async(operator.add, ["ab", "cd"]).get() == ["ab", "cd"]


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_imap(pool, chunksize):
    assert list(pool.imap(square, range(10), chunksize)) == [x * x for x in range(10)]
    assert list(pool.imap(square, iter(range(10)), chunksize)) == [x * x for x in range(10)]
    assert list(pool.imap(square, [], chunksize)) == []
    squares = pool.imap_unordered(square, range(10), chunksize)
    assert sorted(squares) == [x * x for x in range(10)]


def test_functions_of_all_kinds(pool):
    assert pool.map(functools.partial(add, 10), range(3)) == [10, 11, 12]
    assert pool.map(int, ["1", "2"]) == [1, 2]
    assert pool.map("x".join, ["ab", "cd"]) == ["axb", "cxd"]
    assert pool.map(str.upper, ["a"]) == ["A"]
    assert pool.map(len, ["abc"]) == [3]


def test_a_function_with_state_is_made_anew_for_each_chunk(either):
    results = either.map(Adder(1), range(6), chunksize=2)
    assert results == [(1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (6, 2)]


def test_many_results_and_many_jobs(pool):
    results = [pool.apply_async(square, (i,)) for i in range(300)]
    assert [r.get(30) for r in results] == [i * i for i in range(300)]
    assert pool._cache == {}


def test_large_arguments_and_results(pool):
    data = os.urandom(3_000_000)
    assert pool.apply(identity, (data,)) == data
    assert pool.map(len, [data] * 5, chunksize=1) == [len(data)] * 5


def test_arrays_are_copies_and_writable(pool):
    array = numpy.arange(200_000)
    back = pool.apply(identity, (array,))
    back[0] = 7
    assert array[0] == 0 and (back[1:] == array[1:]).all()
    assert [a.sum() for a in pool.map(numpy.ones, [10, 20])] == [10, 20]


def test_lengths_that_lie():
    class Liar:
        def __init__(self, says, gives):
            self.says, self.gives = says, gives

        def __len__(self):
            return self.says

        def __iter__(self):
            return iter(range(self.gives))

    with fastmp.get_context("fork").Pool(2) as pool:
        assert pool.map(square, Liar(5, 3), 1) == [0, 1, 4]
        assert pool.map(square, Liar(3, 5), 1) == [0, 1, 4, 9, 16]
        assert pool.map(square, Liar(3, 5), 2) == [0, 1, 4, 9, 16]
    pool.join()


#
# Exceptions
#


def test_exceptions_come_with_their_traceback(pool):
    with pytest.raises(ValueError, match="no 3") as e:
        pool.apply(fail, (3,))
    assert isinstance(e.value.__cause__, fastmp.pool.RemoteTraceback)
    assert "in fail\n" in str(e.value.__cause__)
    with pytest.raises(ValueError, match="no 1"):
        pool.map(fail_if_odd, range(2), chunksize=1)


def test_map_waits_for_all_before_it_raises(either):
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        either.map(functools.partial(operator.truediv, 1), [0])
    with pytest.raises(TypeError):
        either.map(nap, ["x", 0.5], chunksize=1)
    assert time.monotonic() - began > 0.45


def test_what_cannot_be_pickled_fails_alone(either):
    with pytest.raises((pickle.PicklingError, AttributeError)):
        either.apply(lambda: 1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        either.map(identity, [1, threading.Lock()], chunksize=1)
    assert either.apply(square, (3,)) == 9


def test_a_result_that_cannot_be_pickled(pool):
    with pytest.raises(fastmp.pool.MaybeEncodingError, match="Error sending result"):
        pool.apply(make_lambda)
    with pytest.raises(fastmp.pool.MaybeEncodingError):
        pool.map(make_lambda, [1, 2])


def test_what_cannot_be_unpickled_fails_alone(pool):
    with pytest.raises(fastmp.pool.MaybeEncodingError):
        pool.apply(raise_unpicklable)
    with pytest.raises(TypeError):
        pool.apply(raise_not_to_be_unpickled)
    with pytest.raises(KeyError, match="bad state"):
        pool.apply(make_bad_state)
    with pytest.raises(KeyError, match="bad state"):  # in the worker
        pool.apply(identity, (BadState(),))
    assert pool.apply(square, (3,)) == 9


def failing(n):
    yield from range(n)
    raise LookupError("iterable")


def test_an_iterable_that_raises(pool):
    it = pool.imap(square, failing(3))
    assert [next(it), next(it), next(it)] == [0, 1, 4]
    with pytest.raises(LookupError):
        next(it)
    with pytest.raises(StopIteration):
        next(it)
    it = pool.imap(square, failing(5), chunksize=2)
    assert [next(it) for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(LookupError):
        next(it)
    with pytest.raises(LookupError):
        list(pool.imap_unordered(square, failing(3)))
    with pytest.raises(LookupError):
        pool.map(square, failing(3))
    with pytest.raises(TypeError):
        next(pool.imap(square, 5))


def test_an_exception_in_imap_does_not_end_it(either):
    it = either.imap(fail_if_odd, range(4))
    assert next(it) == 0
    with pytest.raises(ValueError, match="no 1"):
        next(it)
    assert next(it) == 2


#
# AsyncResult and iterators
#


def test_async_result(either):
    result = either.apply_async(nap, (1,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(fastmp.TimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(fastmp.TimeoutError):
        result.get(0)
    assert result.wait(0.01) is None
    assert result.get(10) == 1 and result.ready() and result.successful()
    result = either.apply_async(fail, (1,))
    result.wait()
    assert result.ready() and not result.successful()
    for _ in range(2):
        with pytest.raises(ValueError, match="no 1"):
            result.get()


def test_ready_collects_by_itself(pool):
    result = pool.map_async(square, range(10), chunksize=1)
    deadline = time.monotonic() + 20
    while not result.ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert result._number_left == 0
    assert result.get() == [x * x for x in range(10)]


def test_results_are_the_stdlibs_classes_too(pool):
    assert isinstance(pool.apply_async(square, (1,)), fastmp.pool.AsyncResult)
    assert isinstance(pool.map_async(square, [1]), _std.pool.MapResult)
    assert isinstance(pool.imap(square, [1]), fastmp.pool.IMapIterator)
    assert isinstance(pool.imap_unordered(square, [1]), _std.pool.IMapUnorderedIterator)
    assert not hasattr(pool.apply_async(square, (1,)), "__next__")
    assert isinstance(pool, _std.pool.Pool) and isinstance(pool, fastmp.pool.Pool)


def test_iterator_timeout(either):
    it = either.imap(nap, [1])
    with pytest.raises(fastmp.TimeoutError):
        it.next(timeout=0.01)
    with pytest.raises(fastmp.TimeoutError):
        it.next(0)
    assert it.next(10) == 1
    with pytest.raises(StopIteration):
        it.next(timeout=0.01)


def test_unordered_results_come_as_they_are_ready(pool, tmp_path):
    pool.map(meet, [(str(tmp_path), i, b"") for i in range(2)], 1)  # both workers are there
    assert list(pool.imap_unordered(nap, [0.6, 0.01])) == [0.01, 0.6]
    assert list(pool.imap(nap, [0.3, 0.01])) == [0.3, 0.01]


def test_many_threads_wait_for_one_pool(pool):
    results = {}

    def use(i):
        results[i] = (
            pool.apply(square, (i,)),
            pool.map(square, range(i)),
            list(pool.imap(square, iter(range(i)))),
        )

    threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        squares = [x * x for x in range(i)]
        assert results[i] == (i * i, squares, squares)


#
# Callbacks
#


def test_callbacks(pool):
    got, errors = [], []
    assert pool.apply_async(square, (3,), callback=got.append).get() == 9
    assert got == [9]
    pool.map_async(square, [1, 2], callback=got.append, error_callback=errors.append).wait()
    assert got == [9, [1, 4]] and errors == []
    with pytest.raises(ValueError):
        pool.apply_async(fail, (1,), callback=got.append, error_callback=errors.append).get()
    assert len(got) == 2 and [str(e) for e in errors] == ["no 1"]
    assert pool.map_async(square, [], callback=got.append).get() == [] and len(got) == 2


def test_callbacks_come_without_anybody_waiting(pool):
    called = threading.Event()
    pool.apply_async(square, (3,), callback=lambda _: called.set())
    assert called.wait(20)


def test_callbacks_run_one_at_a_time_elsewhere(pool):
    inside, most, threads = [], [], set()

    def callback(value):
        inside.append(value)
        threads.add(threading.current_thread())
        time.sleep(0.005)
        most.append(len(inside))
        inside.remove(value)

    results = [pool.apply_async(square, (i,), callback=callback) for i in range(10)]
    for r in results:
        r.wait()
    assert most == [1] * 10 and threading.main_thread() not in threads


def test_what_a_callback_raises_is_the_result_and_stops_nothing(pool, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    with pytest.raises(ZeroDivisionError):
        pool.apply_async(square, (3,), callback=lambda _: 1 / 0).get()
    with pytest.raises(ZeroDivisionError) as e:
        pool.apply_async(fail, (3,), error_callback=lambda _: 1 / 0).get()
    assert isinstance(e.value.__context__, ValueError)
    assert pool.apply_async(square, (4,), callback=seen.append).get() == 16
    assert seen == [ZeroDivisionError, ZeroDivisionError, 16]


def test_an_unpicklable_argument_calls_back(pool):
    errors = []
    result = pool.apply_async(identity, (threading.Lock(),), error_callback=errors.append)
    with pytest.raises(TypeError):
        result.get(20)
    assert len(errors) == 1


class Interrupts:
    def __reduce__(self):
        try:
            raise LookupError("first")
        except LookupError:
            raise KeyboardInterrupt  # noqa: B904  # for its context


def test_what_ends_the_pickling_of_an_argument_keeps_its_context(pool):
    with pytest.raises(KeyboardInterrupt) as e:
        try:
            raise ValueError("being handled")
        except ValueError:
            pool.apply(identity, (Interrupts(),))
    assert isinstance(e.value.__context__, LookupError)
    assert isinstance(e.value.__context__.__context__, ValueError)


def test_a_callback_may_use_its_pool(pool):
    results = []
    first = pool.apply_async(
        square, (3,), callback=lambda x: results.append(pool.apply(square, (x,)))
    )
    assert first.get(20) == 9 and results == [81]


#
# Misuse
#


def test_bad_arguments(start_method):
    ctx = fastmp.get_context(start_method)
    for processes in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            ctx.Pool(processes)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ctx.Pool(1, initializer=5)
    for value in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
            ctx.Pool(1, maxtasksperchild=value)


def test_bad_chunksizes(either):
    for imap in (either.imap, either.imap_unordered):
        for size in (0, -1):
            with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not"):
                imap(square, [1], size)
    assert either.map(square, [1, 2], chunksize=0) == [None, None]


def test_states(either):
    with pytest.raises(ValueError, match="Pool is still running"):
        either.join()
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed"):
        pickle.dumps(either)
    assert "state=RUN pool_size=2" in repr(either)
    either.close()
    for use in (
        lambda: either.apply(square, (1,)),
        lambda: either.map(square, [1]),
        lambda: either.map_async(square, [1]),
        lambda: either.imap(square, [1]),
        lambda: either.imap_unordered(square, [1]),
        lambda: either.starmap(add, [(1,)]),
        either.__enter__,
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            use()
    either.join()
    assert "state=CLOSE pool_size=2" in repr(either)
    assert [p.exitcode for p in either._pool] == [0, 0]
    either.terminate()
    either.close()
    assert "state=TERMINATE" in repr(either)


def test_close_finishes_what_was_given_out(either):
    result = either.map_async(nap, [0.05] * 6, chunksize=1)
    iterator = either.imap(square, iter(range(10)))
    either.close()
    either.join()
    assert result.get(0) == [0.05] * 6
    assert list(iterator) == [x * x for x in range(10)]


def test_workers(either):
    assert [p.name.partition("-")[0] for p in either._pool] == ["ForkPoolWorker"] * 2
    assert all(p.daemon and p.is_alive() for p in either._pool)
    pids = set(either.map(pid, range(50), chunksize=1))
    assert pids <= {p.pid for p in either._pool}


def test_a_pool_that_is_forgotten_warns():
    pool = fastmp.get_context("fork").Pool(1)
    workers = pool._pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
    assert workers[0].exitcode in (-15, 0)  # killed, or it saw that the pool has stopped


def test_a_result_keeps_its_pool():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the pool goes with the last result
        it = fastmp.get_context("fork").Pool(1).imap(square, range(3))
        assert list(it) == [0, 1, 4]


def test_the_number_of_processes():
    pool = fastmp.get_context("fork").Pool()
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    assert len(pool._pool) == count == pool._processes
    pool.terminate()
    pool.join()
