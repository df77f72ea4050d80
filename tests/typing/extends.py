"""What fastmp adds to the stdlib's API, as a typed program uses it.

Read by type checkers, never run: check.py gives it to mypy --strict and to pyright.
"""

from collections.abc import Generator
from ctypes import c_int
from multiprocessing.pool import Pool as StdlibPool
from typing import Any

from typing_extensions import assert_type

import fastmp
import fastmp.context
import fastmp.errors
import fastmp.pool
import fastmp.queues
import fastmp.sharedctypes
import fastmp.synchronize
from fastmp import Array, JoinableQueue, Lock, Pool, Process, Queue, RLock, Semaphore, Value
from fastmp.pool import IMapIterator


def square(x: int) -> int:
    return x * x


def queues() -> None:
    queue: fastmp.queues.Queue[int] = Queue(3, strict=True)
    assert_type(queue.put_many(range(10)), int)
    assert_type(queue.put_many([1, 2], block=True, timeout=1.5), int)
    assert_type(queue.get_many(5), list[int])
    assert_type(queue.get_many(5, timeout=None), list[int])
    joinable: fastmp.queues.JoinableQueue[str] = JoinableQueue(strict=True)
    assert_type(joinable.get_many(max_items=5), list[str])
    ctx = fastmp.get_context("spawn")
    assert_type(ctx.Queue(strict=True), fastmp.queues.Queue[Any])
    direct: fastmp.queues.Queue[int] = fastmp.queues.Queue(ctx=ctx, strict=True)
    direct.put_many(queue.get_many(1))


def locks() -> None:
    for lock in (Lock(), Lock(robust=True), RLock(), fastmp.get_context().Lock(robust=True)):
        assert_type(lock.locked(), bool)
        with lock:
            assert_type(lock.abandoned, bool)
    assert_type(Semaphore(3).locked(), bool)
    assert_type(fastmp.synchronize.Lock(robust=True).abandoned, bool)


def memory() -> None:
    numbers = Array("i", [1, 2, 3])
    with memoryview(numbers) as view:
        view[0] = 1
    memoryview(Value(c_int, 1)).release()
    text = fastmp.sharedctypes.Array("c", 10)
    memoryview(text)[0:1] = b"a"
    assert_type(bytes(Array("B", 3)), bytes)


def processes(process: Process) -> None:
    process.interrupt()
    spawned = fastmp.get_context("spawn").Process()
    spawned.interrupt()
    fastmp.get_context("fork").Process().interrupt()
    fastmp.get_context("forkserver").Process().interrupt()


def pools(limit: int | None) -> None:
    with Pool(2) as pool:
        assert_type(pool.imap(square, [1], buffersize=4), Generator[int, None, None])
        assert_type(pool.imap_unordered(square, [1], 2, buffersize=4), Generator[int, None, None])
        assert_type(pool.imap(square, [1], buffersize=None), IMapIterator[int])
        for number in pool.imap(square, [1], buffersize=limit):
            assert_type(number, int)
        assert_type(pool.apply_async(square, (1,), timeout=0.5).get(), int)
        assert_type(pool.apply_async(square, (1,), timeout=None).cancel(), bool)
        assert_type(pool.map_async(square, [1]).cancel(), bool)
        assert_type(pool.starmap_async(square, [(1,)]).get(), list[int])
        stdlib: StdlibPool = pool
        print(stdlib)


def errors() -> None:
    try:
        fastmp.install()
    except fastmp.WorkerLostError as lost:
        assert_type(lost.pid, int | None)
        assert_type(lost.exitcode, int | None)
        assert_type(lost.task, str | None)
        runtime: RuntimeError = lost
        print(runtime)
    except fastmp.TaskTimeoutError as late:
        assert_type(late.seconds, float | None)
        assert_type(late.task, str | None)
        timeout: fastmp.TimeoutError = late
        print(timeout)
    except fastmp.TaskCancelledError as cancelled:
        print(cancelled)
    except fastmp.CorruptionError as corrupt:
        assert_type(corrupt.errno, int | None)
    except (fastmp.BrokenPoolError, fastmp.PoolTerminatedError):
        raise fastmp.errors.WorkerLostError("text", pid=1, exitcode=-9, task="f()") from None
