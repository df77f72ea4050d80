"""Queues at their ends: closing, their descriptors, and the classes that derive from them."""

import io
import os
import pickle
import queue
import select
import threading
import time

import pytest

import fastmp
from fastmp import _std
from tests.support.later import later

asyncio = later("asyncio")


def _produce(q, name, count):
    for i in range(count):
        q.put((name, i))


def test_close():
    q = fastmp.Queue()
    q.put(1)
    with pytest.raises(AssertionError, match="not closed"):
        q.join_thread()
    q.close()
    q.close()
    q.join_thread()
    q.cancel_join_thread()
    for call in (
        lambda: q.put(1),
        q.get,
        q.get_nowait,
        lambda: q.put_many([1]),
        lambda: q.get_many(1),
    ):
        with pytest.raises(ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        q.empty()
    unused = fastmp.Queue()
    unused.close()
    assert unused.empty()
    s = fastmp.SimpleQueue()
    assert not s._reader.closed
    s.close()
    assert s._reader.closed and s._writer.closed
    for call in (s.get, s.empty, lambda: s.put(1), lambda: s._reader.poll(0)):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


def test_reader_is_readable_exactly_when_something_is_there():
    q = fastmp.Queue()
    q.put("before anybody asked")
    fd = q._reader.fileno()
    assert readable(fd)
    assert q._reader.poll(0)
    q.put(2)
    q.get()
    assert readable(fd)
    q.get()
    assert not readable(fd)
    assert not q._reader.poll(0.01)
    threading.Timer(0.1, q.put, [3]).start()
    assert select.select([fd], [], [], 20)[0] == [fd]
    assert q._reader.recv() == 3
    assert not readable(fd)
    q.put_many(range(10))
    q.get_many(10)
    assert not readable(fd)
    while threading.active_count() > 1:
        time.sleep(0.01)


def test_asyncio_sees_every_message(ctx):
    async def collect():
        loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()

        def on_readable():
            try:
                got.append(q.get_nowait())
            except queue.Empty:
                return
            if len(got) == 300:
                done.set()

        loop.add_reader(q._reader.fileno(), on_readable)
        await asyncio.wait_for(done.wait(), 40)
        loop.remove_reader(q._reader.fileno())
        return got

    q = ctx.Queue()
    p = ctx.Process(target=_produce, args=(q, "p", 300))
    p.start()
    assert asyncio.run(collect()) == [("p", i) for i in range(300)]
    p.join()


class Counting(fastmp.queues.Queue):
    """A subclass reaches into the stdlib's queue: it gets that."""

    def put(self, obj, block=True, timeout=None):
        self.puts = getattr(self, "puts", 0) + 1
        super().put(obj, block, timeout)


def test_subclasses_are_the_stdlib_class(ctx):
    q = Counting(ctx=ctx)
    assert isinstance(q, _std.queues.Queue)
    assert isinstance(ctx.Queue(), (fastmp.queues.Queue, _std.queues.Queue))
    p = ctx.Process(target=_produce, args=(q, 0, 3))
    p.start()
    assert [q.get(timeout=30) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
    p.join()
    q.put(1)
    assert (q.puts, q.get()) == (1, 1)
    assert q._buffer is not None and q._notempty is not None
    q.close()
    q.join_thread()


class ClassicJoinable(fastmp.queues.JoinableQueue):
    pass


class ClassicSimple(fastmp.queues.SimpleQueue):
    pass


class ByDescriptor(pickle.Pickler):
    """As loky's: it knows `Connection` alone, and hands the descriptor over."""

    def reducer_override(self, obj):
        if type(obj) is fastmp.connection.Connection:
            fd = os.dup(obj.fileno())
            return fastmp.connection.Connection, (fd, obj.readable, obj.writable)
        return NotImplemented


@pytest.mark.parametrize("kind", [Counting, ClassicJoinable, ClassicSimple])
def test_a_subclass_has_connections_of_ours(kind):
    q = kind(ctx=fastmp.get_context("fork"))
    data = io.BytesIO()
    ByDescriptor(data).dump((q._reader, q._writer))
    reader, writer = pickle.loads(data.getvalue())
    q.put("x" * 100)
    assert q._poll(10) and reader.recv() == "x" * 100 and not q._poll()
    writer.send("by the copy")  # for the one that was read past q.get()
    assert q.get() == "by the copy"
    reader.close()
    writer.close()
    q.close()
    if hasattr(q, "join_thread"):
        q.join_thread()
    assert q._reader.closed
