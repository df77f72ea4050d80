"""The public API as a typed program uses it: what type checkers accept of typeshed's
multiprocessing, they accept of fastmp.

Read by type checkers, never run: check.py gives it to mypy --strict and to pyright, once as it
stands and once with ``multiprocessing`` in the place of ``fastmp``.
"""

import ctypes
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from ctypes import c_char, c_double, c_int
from multiprocessing.context import BaseContext as StdlibContext
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue as StdlibQueue
from multiprocessing.synchronize import Lock as StdlibLock
from types import TracebackType
from typing import Any

from typing_extensions import assert_type

import fastmp
import fastmp as mp
import fastmp.connection
import fastmp.context
import fastmp.dummy
import fastmp.dummy.connection
import fastmp.forkserver
import fastmp.heap
import fastmp.managers
import fastmp.pool
import fastmp.process
import fastmp.queues
import fastmp.reduction
import fastmp.resource_sharer
import fastmp.resource_tracker
import fastmp.shared_memory
import fastmp.sharedctypes
import fastmp.spawn
import fastmp.synchronize
import fastmp.util
from fastmp import (
    Array,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    JoinableQueue,
    Lock,
    Manager,
    Pipe,
    Pool,
    Process,
    Queue,
    RawArray,
    RawValue,
    RLock,
    Semaphore,
    SimpleQueue,
    Value,
    cpu_count,
    current_process,
    get_context,
    reducer,
    shared_memory,
)
from fastmp import (
    managers as managers_module,
)
from fastmp import (
    pool as pool_module,
)
from fastmp.connection import Client, Connection, Listener, wait
from fastmp.managers import (
    BaseManager,
    BaseProxy,
    DictProxy,
    ListProxy,
    Namespace,
    RemoteError,
    SharedMemoryManager,
    SyncManager,
    Token,
    ValueProxy,
)
from fastmp.pool import ApplyResult, AsyncResult, IMapIterator, MapResult, ThreadPool
from fastmp.reduction import ForkingPickler
from fastmp.shared_memory import ShareableList, SharedMemory
from fastmp.sharedctypes import (
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    copy,
    synchronized,
)


def square(x: int) -> int:
    return x * x


def add(a: int, b: int) -> int:
    return a + b


#
# Processes
#


class Worker(Process):
    def __init__(self, queue: "fastmp.queues.Queue[int]") -> None:
        super().__init__(name="worker", daemon=True)
        self.queue = queue

    def run(self) -> None:
        self.queue.put(1)


class SpawnedWorker(fastmp.context.SpawnProcess):
    def run(self) -> None:
        print(self.name)


def processes() -> None:
    queue: fastmp.queues.Queue[int] = Queue(maxsize=3)
    worker = Worker(queue)
    process = Process(target=square, args=(2,), kwargs={"x": 1}, name=None, daemon=None)
    positional = Process(None, square, "name", [1], {})
    assert_type(process, Process)
    for p in (worker, process, positional, SpawnedWorker()):
        p.start()
        p.join(timeout=1.5)
    assert_type(process.is_alive(), bool)
    assert_type(process.exitcode, int | None)
    assert_type(process.pid, int | None)
    assert_type(process.ident, int | None)
    assert_type(process.sentinel, int)
    process.daemon = not process.daemon
    process.name = process.name.upper()
    process.authkey = bytes(process.authkey)
    process.run()
    process.terminate()
    process.kill()
    process.close()
    assert_type(current_process(), BaseProcess)
    parent: fastmp.process.BaseProcess | None = fastmp.parent_process()
    children: list[BaseProcess] = fastmp.active_children()
    base: BaseProcess = process
    print(base, parent, children)


#
# Queues and connections
#


def queues() -> None:
    queue: fastmp.queues.Queue[str] = Queue()
    queue.put("a", block=True, timeout=1.0)
    queue.put("a", False)
    queue.put_nowait("b")
    assert_type(queue.get(block=True, timeout=None), str)
    assert_type(queue.get_nowait(), str)
    assert_type(queue.qsize(), int)
    assert_type(queue.empty() or queue.full(), bool)
    queue.close()
    queue.join_thread()
    queue.cancel_join_thread()
    joinable: fastmp.queues.JoinableQueue[int] = JoinableQueue(3)
    joinable.task_done()
    joinable.join()
    assert_type(joinable.get(), int)
    simple: fastmp.queues.SimpleQueue[int] = SimpleQueue()
    simple.put(1)
    assert_type(simple.get(), int)
    assert_type(simple.empty(), bool)
    simple.close()
    # The package's functions serve as types, quoted or not called.
    named: mp.Queue[int] = mp.Queue()
    assert_type(named.get(), int)
    bases: list[mp.Queue[int]] = [named, joinable]
    stdlib: StdlibQueue[int] = named
    print(bases, stdlib, Urgent("name", limit=1.5))


class Urgent(fastmp.queues.Queue[int]):
    def __init__(self, name: str, limit: float) -> None:
        super().__init__(3, ctx=get_context())
        self.name = f"{name} {limit}"

    def put(self, obj: int, block: bool = True, timeout: float | None = None) -> None:
        super().put(-obj, block, timeout)


def connections(sock: socket.socket, process: Process) -> None:
    here, there = Pipe(duplex=True)
    here.send({"a": 1})
    there.send_bytes(b"abc", 0, 2)
    there.send_bytes(memoryview(b"abc"), size=1)
    received: list[int] = there.recv()
    assert_type(here.recv_bytes(maxlength=10), bytes)
    assert_type(here.recv_bytes_into(bytearray(10), 1), int)
    assert_type(here.poll(0.5) or here.poll() or here.poll(None), bool)
    assert_type(here.fileno(), int)
    assert_type(here.closed and here.readable and here.writable, bool)
    for one in wait([here, sock, process.sentinel], timeout=1):
        if isinstance(one, Connection):
            one.close()
    typed: Connection[int, str] = fastmp.connection.Pipe(False)[0]
    typed.send(1)
    assert_type(typed.recv(), str)
    default: Connection = here
    with Listener(("localhost", 0), backlog=2, authkey=b"key") as listener:
        client = Client(listener.address, "AF_INET", authkey=b"key")
        accepted = listener.accept()
        client.send(accepted.recv())
        print(listener.last_accepted, received, default)
    with Connection(1, readable=True, writable=False) as end:
        assert_type(end.fileno(), int)


#
# Locks
#


def locks() -> None:
    for lock in (Lock(), RLock(), Semaphore(2), BoundedSemaphore(value=1)):
        with lock:
            pass
        with lock as got:
            assert_type(got, bool)
        if lock.acquire(block=True, timeout=1.0) or lock.acquire(False):
            lock.release()
    assert_type(Lock(), fastmp.synchronize.Lock)
    assert_type(RLock(), fastmp.synchronize.RLock)
    assert_type(Semaphore(), fastmp.synchronize.Semaphore)
    assert_type(BoundedSemaphore().get_value(), int)
    event = Event()
    event.set()
    event.clear()
    assert_type(event.is_set() or event.wait(timeout=0.1), bool)
    condition = Condition(Lock())
    with condition:
        condition.notify(2)
        condition.notify_all()
        assert_type(condition.wait(1.0), bool)
        assert_type(condition.wait_for(lambda: True, timeout=2), bool)
    if Condition(RLock()).acquire(timeout=1) and Condition().acquire():
        condition.release()
    barrier = Barrier(2, action=lambda: None, timeout=None)
    assert_type(barrier.wait(timeout=1), int)
    assert_type(barrier.parties + barrier.n_waiting, int)
    assert_type(barrier.broken, bool)
    barrier.reset()
    barrier.abort()
    direct = fastmp.synchronize.Lock(ctx=get_context())
    stdlib: StdlibLock = direct
    print(stdlib, fastmp.synchronize.Barrier(2, ctx=get_context()))


class Named(fastmp.synchronize.Semaphore):
    def __init__(self, name: str) -> None:
        super().__init__(3, ctx=fastmp.get_context("spawn"))
        self.name = name


#
# Shared memory
#


class Point(ctypes.Structure):
    _fields_ = [("x", c_double), ("y", c_double)]


def memory() -> None:
    value = Value("i", 1)
    with value.get_lock():
        value.value += 1
    with value:
        print(value.value, value.get_obj())
    number = Value(c_int, 1)
    assert_type(number, Synchronized[int])
    number.value += 1
    shared: Synchronized[int] = Value("i", lock=True)
    unguarded = Value("i", 1, lock=False)
    unguarded.value += 1
    guarded: Any = Value("d", 1.5, lock=RLock())
    array = Array("d", 10)
    array[0] = 1.5
    array[0:2] = [1.5, 2.5]
    array.acquire(True, 1.0)
    array.release()
    numbers = Array(c_int, [1, 2, 3])
    assert_type(numbers, SynchronizedArray[int])
    assert_type(numbers[0], int)
    assert_type(numbers[0:2], list[int])
    assert_type(len(numbers), int)
    text: SynchronizedString = fastmp.sharedctypes.Array(c_char, 10)
    text.value = text.raw[:2]
    assert_type(RawValue(c_int, 7).value, int)
    raw_array = RawArray(c_double, 3)
    raw_array[0] = 2.5
    point = RawValue(Point, 1.0, 2.0)
    wrapped: SynchronizedBase[Any] = synchronized(copy(point), Lock())
    points = Array(Point, [(1.0, 2.0)])
    assert_type(synchronized(c_int(1)), Synchronized[int])
    print(shared, guarded, points[0].x, wrapped.get_obj())
    block = SharedMemory(name=None, create=True, size=10)
    assert block.buf is not None
    block.buf[0] = 1
    block.close()
    block.unlink()
    items = ShareableList([1, 2, 3])
    assert_type(items[0], int)
    print(block.name, block.size, items.shm.name)


#
# Pools
#


def pools() -> None:
    with Pool(processes=2, initializer=print, initargs=("hello",), maxtasksperchild=10) as pool:
        assert_type(pool.apply(square, (2,)), int)
        result: AsyncResult[int] = pool.apply_async(
            square, args=(2,), kwds={}, callback=print, error_callback=print
        )
        assert_type(result.get(timeout=1), int)
        result.wait(1)
        assert_type(result.ready() and result.successful(), bool)
        assert_type(pool.map(square, range(3), chunksize=1), list[int])
        assert_type(pool.starmap(add, [(1, 2)]), list[int])
        mapped: MapResult[int] = pool.map_async(square, range(3))
        assert_type(mapped.get(), list[int])
        assert_type(pool.map_async(square, range(3), 2, print).get(), list[int])
        assert_type(pool.starmap_async(add, [(1, 2)]).get(), list[int])
        lazily: Iterator[int] = pool.imap(square, range(3))
        assert_type(pool.imap(square, range(3)), IMapIterator[int])
        assert_type(pool.imap_unordered(square, range(3), chunksize=2).next(timeout=1), int)
        print(list(lazily))
        pool.close()
        pool.join()
        pool.terminate()
    assert_type(pool, fastmp.pool.Pool)
    threads: fastmp.pool.Pool = ThreadPool(2, print, ("hello",))
    assert_type(ThreadPool().imap(square, [1]), IMapIterator[int])
    results: list[ApplyResult[int]] = [threads.apply_async(square, (1,))]
    print(threads.map(square, [1]), [one.get() for one in results], NamedPool("name", 2))


class NamedPool(fastmp.pool.Pool):
    def __init__(self, name: str, processes: int) -> None:
        super().__init__(processes, context=get_context("fork"))
        self.name = name

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()
        self.join()


#
# Managers and the other modules that are shared with the stdlib
#


class Shared(BaseManager):
    pass


class CounterProxy(BaseProxy):
    _exposed_ = ("get",)

    def get(self) -> Any:
        return self._callmethod("get")


def managers() -> None:
    with Manager() as manager:
        assert_type(manager, SyncManager)
        names: DictProxy[str, int] = manager.dict()
        names["a"] = 1
        numbers = manager.list([1, 2, 3])
        assert_type(numbers, ListProxy[int])
        numbers.append(4)
        space: Namespace = manager.Namespace()
        space.x = 1
        manager.Queue().put(1)
        manager.JoinableQueue(2).task_done()
        manager.Lock().acquire()
        manager.Event().set()
        with manager.Condition(), manager.RLock(), manager.Semaphore(2):
            pass
        value: ValueProxy[int] = manager.Value("i", 1)
        print(names["a"], numbers[0], value.value, manager.Array("i", [1]), manager.Pool(2))
    sync: SyncManager = fastmp.managers.SyncManager(ctx=get_context("spawn"))
    sync.start()
    sync.shutdown()
    Shared.register("get", callable=lambda: 1, proxytype=CounterProxy)
    shared = Shared(address=("localhost", 0), authkey=b"key")
    shared.connect()
    shared.start(initializer=print, initargs=("hello",))
    shared.get_server().serve_forever()
    with SharedMemoryManager() as memory:
        memory.SharedMemory(size=10).close()
        print(memory.ShareableList([1])[0], RemoteError, Token)


def others(sock: socket.socket) -> None:
    thread = fastmp.dummy.Process(target=square, args=(1,))
    thread.start()
    print(fastmp.dummy.Pool(2).map(square, [1]), fastmp.dummy.Pipe()[0].recv())
    print(fastmp.dummy.connection.Pipe(), fastmp.dummy.Value, fastmp.dummy.Namespace())
    data = bytes(ForkingPickler.dumps({"a": 1}))
    print(data, reducer.dump, managers_module, pool_module, shared_memory)
    ForkingPickler.register(Point, lambda point: (Point, (point.x, point.y)))
    print(fastmp.reduction.DupFd(sock.fileno()), fastmp.reduction.AbstractReducer)
    fastmp.util.Finalize(None, print, args=("end",), exitpriority=1)
    fastmp.util.register_after_fork(thread, print)
    fastmp.util.log_to_stderr(fastmp.util.DEBUG)
    fastmp.resource_tracker.register("name", "shared_memory")
    fastmp.resource_tracker.ensure_running()
    fastmp.forkserver.set_forkserver_preload(["module"])
    fastmp.spawn.set_executable("/usr/bin/python3")
    print(fastmp.spawn.get_preparation_data("name"), fastmp.resource_sharer.DupFd(1))
    print(fastmp.heap.BufferWrapper(3).create_memoryview(), fastmp.heap.Arena(10))


#
# Contexts
#


def contexts(method: str) -> None:
    ctx = fastmp.get_context("spawn")
    assert_type(ctx, fastmp.context.SpawnContext)
    assert_type(get_context("fork"), fastmp.context.ForkContext)
    assert_type(get_context("forkserver").Process(), fastmp.context.ForkServerProcess)
    assert_type(get_context(), fastmp.context.DefaultContext)
    assert_type(get_context(method), fastmp.context.BaseContext)
    process = ctx.Process(target=square, args=(1,))
    process.start()
    assert_type(ctx.Lock(), fastmp.synchronize.Lock)
    assert_type(ctx.Pool(2).map(square, [1]), list[int])
    assert_type(ctx.Value(c_int, 1), Synchronized[int])
    assert_type(ctx.Array("i", 3, lock=True), SynchronizedArray[Any])
    assert_type(ctx.Pipe(False)[0].recv_bytes(), bytes)
    queue: fastmp.queues.Queue[int] = ctx.Queue(1)
    for name in ("fork", "spawn", "forkserver"):
        one: StdlibContext = fastmp.get_context(name)
        print(one.Pool(2), one.Manager(), one.Value("i"), one.cpu_count())
        print(one.Barrier(2), one.Condition(one.RLock()), one.Event(), one.SimpleQueue(), queue)
    fastmp.set_start_method("fork", force=True)
    fastmp.set_start_method(None)
    assert_type(fastmp.get_start_method(), str)
    assert_type(fastmp.get_all_start_methods(), list[str])
    current: str | None = fastmp.get_start_method(allow_none=True)
    fastmp.freeze_support()
    fastmp.allow_connection_pickling()
    fastmp.set_executable("/usr/bin/python3")
    fastmp.set_forkserver_preload(["module"])
    logger: logging.Logger = fastmp.get_logger()
    logger = fastmp.log_to_stderr(logging.INFO)
    print(current, logger, cpu_count())
    try:
        raise ctx.TimeoutError
    except fastmp.TimeoutError:
        pass
    except (fastmp.ProcessError, fastmp.BufferTooShort, fastmp.AuthenticationError):
        pass


def passed_on(
    target: Callable[[int], int],
    items: Iterable[int],
    conn: "Connection[Any, Any]",
    lock: fastmp.synchronize.Lock,
    event: fastmp.synchronize.Event,
    queue: "fastmp.queues.Queue[int]",
    pool: fastmp.pool.Pool,
    ctx: fastmp.context.BaseContext,
) -> None:
    conn.send(pool.map(target, items))
    with lock:
        event.set()
        queue.put(1)
        passed_on(square, [1], conn, ctx.Lock(), ctx.Event(), ctx.Queue(), ctx.Pool(), ctx)
