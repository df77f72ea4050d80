"""Queue, JoinableQueue and SimpleQueue, on every start method where processes take part."""

import os
import pickle
import queue
import signal
import threading
import time

import pytest

import fastmp
from tests.support.later import later

asyncio = later("asyncio")
numpy = later("numpy")

PLAIN = [
    None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**64), 0.0, -0.0, 1.5, float("inf"),
    "", "a", "ä€😀", "\ud800", "x" * 300, b"", b"a", b"\0" * 300,
    (), [], (1,), [1], (None, True, 2.5),
    [1, "a", b"b", None], (1, (2,)), [[1]], {"a": 1}, {1, 2}, "x" * 70_000, b"y" * 70_000,
    list(range(1000)), [float(i) for i in range(100)], ["s"] * 20, ("a", "b") * 20, range(3), 1j,
]  # fmt: skip


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


class IntSubclass(int):
    pass


class FailsToUnpickle:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise LookupError("refused")


class FailsToPickle:
    def __reduce__(self):
        raise LookupError("not to be pickled")


# --- what goes through -----------------------------------------------------------------------


@pytest.mark.parametrize("make", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_values_come_out_as_they_went_in(make):
    q = getattr(fastmp, make)()
    for value in [*PLAIN, Point(3), IntSubclass(5), FailsToUnpickle]:
        q.put(value)
        got = q.get()
        assert got == value
        assert type(got) is type(value)
    assert str(-0.0) == str([q.put(-0.0), q.get()][1])


def test_one_object_twice_stays_one_object():
    q = fastmp.Queue()
    text, data, inner = "one text", b"some bytes", [1]
    for pair in ([text, text], (data, data), [inner, inner], [text] * 20):
        q.put(pair)
        got = q.get()
        assert got == pair
        assert got[0] is got[1]


def test_sender_may_change_the_object_after_put():
    q = fastmp.Queue()
    value = [1, 2]
    q.put(value)
    value.append(3)
    assert q.get() == [1, 2]
    buffer = bytearray(b"a" * 100_000)
    q.put(pickle.PickleBuffer(buffer))
    buffer[:] = b"b" * 100_000
    assert bytes(q.get()) == b"a" * 100_000


@pytest.mark.skipif(numpy is None, reason="numpy is not installed")
def test_arrays_come_out_writable_aligned_and_alone():
    q = fastmp.Queue()
    big = numpy.arange(200_000.0)
    frozen = big[:1000].copy()
    frozen.setflags(write=False)
    sent = {"big": big, "small": big[:3], "strided": big[::2], "frozen": frozen,
            "fortran": numpy.asfortranarray(big[:600].reshape(20, 30)),
            "empty": big[:0]}  # fmt: skip
    q.put(sent)
    q.put(sent)
    first, second = q.get(), q.get()
    for name, array in sent.items():
        assert numpy.array_equal(first[name], array), name
        assert first[name].flags.aligned
        assert first[name].flags.writeable == array.flags.writeable, name
    first["big"][:] = -1
    assert second["big"][5] == big[5] == 5.0


def test_sizes_around_every_boundary_keep_their_order():
    q = fastmp.Queue()
    sizes = [0, 1, 7, 8, 9, 15, 16, 17, 255, 256, 4080, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20]
    messages = [bytes([i]) * n for i, n in enumerate(sizes)]
    for _ in range(3):  # the second and third time the ring wraps
        for message in messages:
            q.put(message)
        assert q.qsize() == len(messages)
        assert [q.get() for _ in messages] == messages


def test_unbounded_put_never_blocks_and_memory_comes_back():
    q = fastmp.Queue()
    message = b"z" * 100_000
    for _ in range(600):
        q.put(message)
    grown = os.fstat(q._share()[0]).st_blocks * 512
    assert grown > 60_000_000
    assert all(q.get() == message for _ in range(600))
    for _ in range(100):  # gives memory back when it has run empty often enough
        q.put(1)
        q.get()
    assert os.fstat(q._share()[0]).st_blocks * 512 < 4_000_000


# --- limits and time --------------------------------------------------------------------------


def test_maxsize_counts_items_exactly():
    q = fastmp.Queue(2)
    assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    q.put("x" * 100_000)
    q.put(1)
    assert (q.qsize(), q.empty(), q.full()) == (2, False, True)
    with pytest.raises(queue.Full):
        q.put(2, block=False)
    with pytest.raises(queue.Full):
        q.put_nowait(2)
    before = time.monotonic()
    with pytest.raises(queue.Full):
        q.put(2, timeout=0.2)
    assert time.monotonic() - before >= 0.19
    q.get()
    q.put_nowait(2)
    assert [q.get_nowait(), q.get(False)] == [1, 2]


def test_empty_and_timeouts():
    q = fastmp.Queue()
    for get in (
        q.get_nowait,
        lambda: q.get(False),
        lambda: q.get(True, 0),
        lambda: q.get(timeout=-1),
    ):
        with pytest.raises(queue.Empty):
            get()
    before = time.monotonic()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.2)
    assert time.monotonic() - before >= 0.19
    q.put(0)
    assert q.get(False, 100) == 0


@pytest.mark.parametrize("maxsize", [0, -1, -(10**30)])
def test_no_limit(maxsize):
    q = fastmp.Queue(maxsize)
    for i in range(1000):
        q.put(i)
    assert q.qsize() == 1000
    assert not q.full()


def test_bad_arguments():
    q = fastmp.Queue()
    for call in (
        lambda: fastmp.Queue("3"),
        lambda: q.put(),
        lambda: q.put(1, True, None, 4),
        lambda: q.put(1, timout=3),
        lambda: q.put(1, obj=1),
        lambda: q.get(timeout="soon"),
        lambda: q.get_many("all"),
        lambda: q.put_many(7),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match="SEM_VALUE_MAX"):
        fastmp.Queue(10**12)
    with pytest.raises(ValueError, match="not a number"):
        q.get(timeout=float("nan"))
    with pytest.raises(ValueError, match="at least 1"):
        q.get_many(0)
    assert q.empty()


def test_waits_are_interrupted_by_signals():
    class Alarm(Exception):
        pass

    def handler(signum, frame):
        raise Alarm

    full = fastmp.Queue(1)
    full.put(1)
    joinable = fastmp.JoinableQueue()
    joinable.put(1)
    old = signal.signal(signal.SIGALRM, handler)
    try:
        for wait in (
            fastmp.Queue().get,
            fastmp.SimpleQueue().get,
            lambda: full.put(2),
            joinable.join,
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                wait()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert full.get() == 1


def test_handled_signals_do_not_end_or_lengthen_a_wait():
    q = fastmp.Queue()
    old = signal.signal(signal.SIGALRM, lambda *args: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        before = time.monotonic()
        with pytest.raises(queue.Empty):
            q.get(timeout=0.3)
        assert 0.29 <= time.monotonic() - before < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


# --- between processes ------------------------------------------------------------------------


def _produce(q, name, count):
    for i in range(count):
        q.put((name, i))


def _consume(q, out):
    taken = []
    while (item := q.get()) is not None:
        taken.append(item)
    out.put(taken)


def test_every_message_arrives_once_and_in_order(ctx):
    q, out = ctx.Queue(), ctx.SimpleQueue()
    count = 500
    producers = [ctx.Process(target=_produce, args=(q, n, count)) for n in range(3)]
    consumers = [ctx.Process(target=_consume, args=(q, out)) for _ in range(3)]
    for p in producers + consumers:
        p.start()
    for p in producers:
        p.join()
        assert p.exitcode == 0
    for _ in consumers:
        q.put(None)
    taken = [out.get() for _ in consumers]
    for p in consumers:
        p.join()
    for part in taken:  # each consumer sees each producer's messages in their order
        for n in range(3):
            mine = [i for name, i in part if name == n]
            assert mine == sorted(mine)
    everything = sorted(item for part in taken for item in part)
    assert everything == [(n, i) for n in range(3) for i in range(count)]
    assert q.empty()


def _echo(q_in, q_out):
    while (item := q_in.get()) is not None:
        q_out.put(item)


def test_bounded_round_trip(ctx):
    there, back = ctx.Queue(1), ctx.Queue(1)
    p = ctx.Process(target=_echo, args=(there, back))
    p.start()
    for i in [*range(100), "x" * 1_000_000, b"y" * 1_000_000]:
        there.put(i)
        assert back.get() == i
    there.put(None)
    p.join()
    assert p.exitcode == 0


def _leave_data(q):
    q.put("x" * 1_000_000)
    q.put("last")
    q.close()
    q.join_thread()


def test_data_outlives_its_producer_and_join_may_come_first(ctx):
    q = ctx.Queue()
    p = ctx.Process(target=_leave_data, args=(q,))
    p.start()
    p.join()  # the stdlib's queue would hang here
    assert p.exitcode == 0
    assert len(q.get(timeout=10)) == 1_000_000
    assert q.get(timeout=10) == "last"


def test_queue_in_a_closure_under_fork():
    q = fastmp.get_context("fork").Queue()
    p = fastmp.get_context("fork").Process(target=lambda: q.put(os.getpid()))
    p.start()
    assert q.get() == p.pid
    p.join()


def test_raw_fork_shares_the_queue():
    q = fastmp.Queue()
    pid = os.fork()
    if pid == 0:
        q.put("from the child")
        os._exit(0)
    assert q.get() == "from the child"
    os.waitpid(pid, 0)


@pytest.mark.parametrize("make", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_pickling_only_while_spawning(make):
    q = getattr(fastmp.get_context("spawn"), make)()
    with pytest.raises(
        RuntimeError, match="should only be shared between processes through inheritance"
    ):
        pickle.dumps(q)
    forked = getattr(fastmp.get_context("fork"), make)()
    p = fastmp.get_context("spawn").Process(target=_echo, args=(forked, forked))
    with pytest.raises(RuntimeError, match="A SemLock created in a fork"):
        p.start()


def _work(tasks, done):
    while (item := tasks.get()) is not None:
        done.put(item * 2)
        tasks.task_done()
    tasks.task_done()


def test_joinable_queue(ctx):
    tasks, done = ctx.JoinableQueue(), ctx.Queue()
    workers = [ctx.Process(target=_work, args=(tasks, done)) for _ in range(2)]
    for w in workers:
        w.start()
    for i in range(50):
        tasks.put(i)
    tasks.join()
    assert sorted(done.get_nowait() for _ in range(50)) == [2 * i for i in range(50)]
    for _ in workers:
        tasks.put(None)
    tasks.join()
    for w in workers:
        w.join()
    with pytest.raises(ValueError, match="called too many times"):
        tasks.task_done()


# --- killed processes --------------------------------------------------------------------------


def _put_forever(q):
    i = 0
    while True:
        q.put((i, b"z" * (i % 3000)))
        i += 1


def _get_forever(q):
    while True:
        i, data = q.get()
        assert len(data) == i % 3000


@pytest.mark.parametrize("victim", [_put_forever, _get_forever])
def test_survivors_go_on_when_a_peer_is_killed(victim):
    ctx = fastmp.get_context("fork")
    q = ctx.Queue(50)
    for _ in range(15):
        peer = ctx.Process(
            target=_put_forever if victim is _get_forever else _get_forever, args=(q,)
        )
        killed = ctx.Process(target=victim, args=(q,))
        peer.start()
        killed.start()
        time.sleep(0.02)
        killed.kill()
        killed.join()
        if victim is _put_forever:  # what is left is whole, and the queue takes more
            q.put((3000, b""))
            peer.kill()
            peer.join()
        else:
            i, data = q.get(timeout=30)
            assert len(data) == i % 3000
            peer.kill()
            peer.join()
            while not q.empty():
                i, data = q.get()
                assert len(data) == i % 3000


def test_waiting_consumer_is_served_after_another_was_killed():
    ctx = fastmp.get_context("fork")
    q, out = ctx.Queue(), ctx.SimpleQueue()
    waiting = [ctx.Process(target=_echo, args=(q, out)) for _ in range(4)]
    for p in waiting:
        p.start()
    time.sleep(0.2)
    for p in waiting[:3]:
        p.kill()
        p.join()
    for i in range(20):
        q.put(i)
    assert [out.get() for _ in range(20)] == list(range(20))
    q.put(None)
    waiting[3].join()


# --- errors of pickling -------------------------------------------------------------------------


def test_unpicklable_object_goes_to_the_hook(capfd):
    q = fastmp.Queue(1)
    for bad in (lambda: 1, FailsToPickle()):
        q.put(bad)
        assert q.empty()
    q.put("good")
    assert q.get() == "good"
    printed = capfd.readouterr().err
    assert printed.count("Traceback") == 2
    assert "LookupError: not to be pickled" in printed


def test_strict_queue_raises_it():
    ctx = fastmp.get_context()
    made = [
        make(ctx=ctx, strict=True) for make in (fastmp.queues.Queue, fastmp.queues.JoinableQueue)
    ]
    for q in (*made, fastmp.Queue(strict=True), ctx.JoinableQueue(3, strict=True)):
        with pytest.raises(LookupError, match="not to be pickled"):
            q.put(FailsToPickle())
    with pytest.raises(LookupError):
        fastmp.SimpleQueue().put(FailsToPickle())


def test_exception_of_unpickling_costs_only_its_message():
    q = fastmp.Queue()
    for item in (1, FailsToUnpickle(), 2):
        q.put(item)
    assert q.get() == 1
    with pytest.raises(LookupError, match="refused"):
        q.get()
    assert q.get() == 2


# --- many at a time ------------------------------------------------------------------------------


def test_put_many_and_get_many():
    q = fastmp.Queue()
    assert q.put_many(iter(range(5000))) == 5000
    assert q.qsize() == 5000
    got = []
    while len(got) < 5000:
        part = q.get_many(700)
        assert 0 < len(part) <= 700
        got += part
    assert got == list(range(5000))
    assert q.put_many([]) == 0
    with pytest.raises(queue.Empty):
        q.get_many(3, timeout=0.05)
    assert q.put_many(["a", b"b" * 200_000, Point(1), "c"]) == 4
    assert q.get_many(10) + (q.get_many(10) if not q.empty() else []) == [
        "a", b"b" * 200_000, Point(1), "c",
    ]  # fmt: skip


def test_put_many_into_a_bounded_queue():
    q = fastmp.Queue(3)
    with pytest.raises(queue.Full) as full:
        q.put_many(range(5), block=False)
    assert full.value.args == (3,)
    assert q.get_many(9) == [0, 1, 2]
    taker = threading.Thread(target=lambda: [q.get() for _ in range(100)])
    taker.start()
    assert q.put_many(range(100)) == 100
    taker.join()


def test_put_many_from_an_iterable_that_raises():
    def items():
        yield 1
        yield 2
        raise LookupError("no more")

    q = fastmp.Queue()
    with pytest.raises(LookupError, match="no more"):
        q.put_many(items())
    assert q.get_many(9) == [1, 2]


def test_get_many_loses_nothing_behind_what_cannot_be_unpickled():
    q = fastmp.Queue()
    q.put_many([1, 2, FailsToUnpickle(), 3, 4])
    assert q.get_many(10) == [1, 2]
    with pytest.raises(LookupError):
        q.get()
    assert q.get() == 3
    assert q.get_many(10) == [4]
    q.put_many([FailsToUnpickle(), 5])
    with pytest.raises(LookupError):
        q.get_many(10)
    assert q.get_many(10) == [5]
    assert q.empty()


# --- threads, and many ---------------------------------------------------------------------------


def test_threads_share_a_queue():
    q, out = fastmp.Queue(3), fastmp.Queue()
    takers = [threading.Thread(target=_echo, args=(q, out)) for _ in range(4)]
    for t in takers:
        t.start()
    for i in range(400):
        q.put(i)
    for _ in takers:
        q.put(None)
    for t in takers:
        t.join()
    assert sorted(out.get_many(1000)) == list(range(400))


def test_many_queues_come_and_go():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        queues = [fastmp.Queue() for _ in range(200)]
        for q in queues:
            q.put(1)
        del queues, q
    assert len(os.listdir("/proc/self/fd")) == before
