"""concurrent.futures.ProcessPoolExecutor, given fastmp's contexts and under install()."""

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool

import pytest

import fastmp

from . import program


def divide(a, b):
    return a / b


def remember(value):
    global remembered
    remembered = value


def recall(_):
    return remembered, os.getpid()


def test_submit_map_and_exceptions(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert type(executor._mp_context).__module__ == "fastmp.context"
        futures = {executor.submit(divide, n, 2): n for n in range(20)}
        assert {futures[f]: f.result() for f in as_completed(futures)} == {
            n: n / 2 for n in range(20)
        }
        assert list(executor.map(divide, range(100), [4] * 100, chunksize=7)) == [
            n / 4 for n in range(100)
        ]
        with pytest.raises(ZeroDivisionError) as caught:
            executor.submit(divide, 1, 0).result()
        assert "in divide" in str(caught.value.__cause__)  # the worker's traceback
        big = bytes(3_000_000)
        assert executor.submit(len, big).result() == 3_000_000
        assert executor.submit(bytes, 3_000_000).result() == big


def test_initializer(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx, initializer=remember, initargs=("x",)) as executor:
        results = list(executor.map(recall, range(10)))
    assert {value for value, _ in results} == {"x"}
    assert os.getpid() not in {pid for _, pid in results}


def test_what_cannot_be_pickled_reaches_its_own_future(ctx):
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        good, bad, after = (
            executor.submit(divide, 4, 2),
            executor.submit(lambda: 1),
            executor.submit(divide, 6, 2),
        )
        assert good.result() == 2 and after.result() == 3
        assert "pickle" in str(bad.exception()).lower()


def test_a_killed_worker_breaks_the_executor_as_ever(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(signal.pause) for _ in range(2)]
        executor.submit(divide, 1, 1)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)
        done, left = wait(futures, timeout=30)
        assert not left
        assert {type(future.exception()) for future in done} == {BrokenProcessPool}


def test_a_fastmp_queue_goes_to_the_workers(ctx):
    """As initargs, the way that the standard library offers."""
    queue = ctx.Queue()
    with ProcessPoolExecutor(2, mp_context=ctx, initializer=remember, initargs=(queue,)) as e:
        wait([e.submit(put_remembered, number) for number in range(10)])
    assert sorted(queue.get(timeout=10) for _ in range(10)) == list(range(10))
    queue.close()
    queue.join_thread()


def put_remembered(value):
    remembered.put(value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="max_tasks_per_child is of 3.11")
def test_max_tasks_per_child():
    ctx = fastmp.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=ctx, max_tasks_per_child=1) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(2)]
    assert len(set(pids)) == 2


@pytest.mark.parametrize("order", ["before", "after"])
def test_under_install(tmp_path, order, start_method):
    """Whichever of concurrent.futures and fastmp.install() comes first."""
    imports = ["import fastmp; fastmp.install()", "import concurrent.futures.process as process"]
    if order == "after":
        imports.reverse()
    text = """
import multiprocessing, sys
def work(n):
    import multiprocessing
    return n * n, multiprocessing.__name__
if __name__ == "__main__":
    print(multiprocessing.__name__)
    ctx = multiprocessing.get_context(sys.argv[1])
    with process.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        results = list(executor.map(work, range(20)))
    print(sum(square for square, _ in results), {name for _, name in results})
"""
    lines = program.run(tmp_path, "\n".join(imports) + text, start_method, way="install()")
    assert lines == ["fastmp", "2470 {'fastmp'}"]


@pytest.mark.parametrize("way", program.WAYS)
def test_the_default_executor_of_a_program(tmp_path, way):
    lines = program.run(
        tmp_path,
        """
        from concurrent.futures import ProcessPoolExecutor
        import concurrent.futures.process as process
        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as executor:
                print(sum(executor.map(abs, range(-50, 50), chunksize=10)))
                print(type(executor._call_queue).__mro__[1].__module__, process.mp.__name__)
        """,
        way=way,
    )
    assert lines == ["2500", "fastmp.queues fastmp"]
