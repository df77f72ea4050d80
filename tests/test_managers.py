"""Managers, shared_memory, listeners, dummy and thread pools, on every start method."""

import _thread
import os
import queue

import pytest

import fastmp
import fastmp.connection
import fastmp.dummy
import fastmp.managers
import fastmp.pool
import fastmp.shared_memory
from fastmp.managers import BaseManager, SharedMemoryManager


def in_a_child(ctx, function, *args):
    process = ctx.Process(target=function, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager


# --- what a SyncManager makes --------------------------------------------------------------------


def fill(numbers, names, space, messages):
    numbers.extend([3, 4])
    names["child"] = os.getpid()
    space.x += 1
    messages.put(("from", "child"))


def test_containers(ctx, manager):
    numbers, names, space = manager.list([1, 2]), manager.dict(a=1), manager.Namespace()
    messages = manager.Queue(maxsize=2)
    space.x = 41
    in_a_child(ctx, fill, numbers, names, space, messages)
    assert numbers[:] == [1, 2, 3, 4] and len(numbers) == 4 and 3 in numbers
    assert names["a"] == 1 and names["child"] != os.getpid()
    assert space.x == 42
    assert messages.get(timeout=20) == ("from", "child")
    with pytest.raises(queue.Empty):
        messages.get_nowait()
    nested = manager.list([manager.dict(b=2)])
    assert nested[0]["b"] == 2
    with pytest.raises(KeyError):
        names["missing"]


def test_joinable_queue(manager):
    messages = manager.JoinableQueue()
    messages.put(1)
    assert messages.get() == 1
    messages.task_done()
    messages.join()
    with pytest.raises(ValueError):
        messages.task_done()


def take_all(lock, rlock, semaphore, bounded, event, condition, barrier):
    for one in (lock, rlock, semaphore, bounded):
        with one:
            pass
    barrier.wait(20)
    with condition:
        event.set()
        assert condition.wait(20)


def test_synchronization(ctx, manager):
    lock, rlock, event, condition = (
        getattr(manager, name)() for name in ("Lock", "RLock", "Event", "Condition")
    )
    semaphore, bounded, barrier = (
        manager.Semaphore(2),
        manager.BoundedSemaphore(1),
        manager.Barrier(2),
    )
    process = ctx.Process(
        target=take_all, args=(lock, rlock, semaphore, bounded, event, condition, barrier)
    )
    process.start()
    barrier.wait(20)
    assert event.wait(20)
    with condition:
        condition.notify_all()
    process.join()
    assert process.exitcode == 0
    with pytest.raises(ValueError):
        bounded.release()
    assert lock.acquire() and not lock.acquire(False)
    lock.release()


def increment(value, array):
    value.value += 1
    array[1] = 7


def test_value_and_array(ctx, manager):
    value, array = manager.Value("i", 1), manager.Array("i", [1, 2, 3])
    in_a_child(ctx, increment, value, array)
    assert value.value == 2 and list(array) == [1, 7, 3]


def square(x):
    return x * x


def test_pool_of_a_manager(manager):
    pool = manager.Pool(2)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert pool.apply_async(square, (3,)).get(20) == 9
    assert list(pool.imap(square, range(3))) == [0, 1, 4]
    pool.close()
    pool.join()


# --- managers of one's own -----------------------------------------------------------------------


class Adder:
    def __init__(self, start=0):
        self.total = start

    def add(self, n):
        self.total += n
        return self.total

    def fail(self):
        raise ZeroDivisionError("in the server")

    def pid(self):
        return os.getpid()


class AdderManager(BaseManager):
    pass


AdderManager.register("Adder", Adder)


def add_five(adder):
    adder.add(5)


def test_a_registered_class(ctx):
    with AdderManager(ctx=ctx) as manager:
        adder = manager.Adder(10)
        assert adder.pid() != os.getpid()
        in_a_child(ctx, add_five, adder)
        assert adder.add(1) == 16
        with pytest.raises(ZeroDivisionError, match="in the server"):
            adder.fail()


shared = queue.Queue()


def get_shared():
    return shared


class Server(BaseManager):
    pass


class Remote(BaseManager):
    pass


Server.register("get_queue", callable=get_shared)
Remote.register("get_queue")


@pytest.mark.parametrize("address", [("127.0.0.1", 0), None], ids=["tcp", "local"])
def test_a_remote_manager(ctx, address):
    with Server(address=address, authkey=b"right", ctx=ctx) as server:
        first, second = (Remote(address=server.address, authkey=b"right") for _ in range(2))
        first.connect()
        second.connect()
        put, get = first.get_queue(), second.get_queue()
        for i in range(20):
            put.put(i)
        assert [get.get(timeout=20) for _ in range(20)] == list(range(20))
        wrong = Remote(address=server.address, authkey=b"wrong")
        with pytest.raises(fastmp.AuthenticationError):
            wrong.connect()


# --- shared_memory -------------------------------------------------------------------------------


def write_byte(name):
    block = fastmp.shared_memory.SharedMemory(name)
    block.buf[0] = 42
    block.close()


def test_shared_memory(ctx):
    block = fastmp.shared_memory.SharedMemory(create=True, size=100)
    try:
        in_a_child(ctx, write_byte, block.name)
        assert block.buf[0] == 42
    finally:
        block.close()
        block.unlink()


def change(items):
    items[1] = "changed"
    items.shm.close()


@pytest.mark.watchdog(90)
def test_shared_memory_manager(ctx):
    with SharedMemoryManager(ctx=ctx) as manager:
        items = manager.ShareableList([1, "a" * 10, None, 2.5, b"bytes"])
        block = manager.SharedMemory(size=10)
        in_a_child(ctx, change, items)
        assert list(items) == [1, "changed", None, 2.5, b"bytes"]
        items.shm.close()
        block.close()


# --- listeners, dummy, threads -------------------------------------------------------------------


def ask(address, authkey):
    with fastmp.connection.Client(address, authkey=authkey) as conn:
        conn.send(["question"] * 1000)
        assert conn.recv() == "answer"


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
@pytest.mark.parametrize("authkey", [None, b"key"])
def test_listener_and_client(ctx, family, authkey):
    with fastmp.connection.Listener(family=family, authkey=authkey) as listener:
        process = ctx.Process(target=ask, args=(listener.address, authkey))
        process.start()
        with listener.accept() as conn:
            assert conn.recv() == ["question"] * 1000
            conn.send("answer")
            process.join()
        assert process.exitcode == 0


def test_dummy():
    results = fastmp.dummy.Queue()
    process = fastmp.dummy.Process(target=lambda: results.put(_thread.get_ident()))
    process.start()
    process.join()
    assert process.exitcode == 0 and results.get() != _thread.get_ident()
    with fastmp.dummy.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def test_thread_pool():
    with fastmp.pool.ThreadPool(3) as pool:
        assert isinstance(pool, fastmp.pool.Pool)
        assert pool.map(square, range(50)) == [i * i for i in range(50)]
        assert sorted(pool.imap_unordered(square, range(5))) == [0, 1, 4, 9, 16]
        with pytest.raises(ZeroDivisionError):
            pool.apply(lambda: 1 / 0)
