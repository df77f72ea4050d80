"""Pipe() and Connection: what goes through, how calls fail, how much is in flight, the end."""

import array
import errno
import multiprocessing.connection
import os
import pickle
import socket
import struct
import sys
import threading
import time

import pytest

import fastmp
import fastmp.connection
from fastmp import _std
from tests.support.later import later

numpy = later("numpy")

SIZES = [0, 1, 15, 16, 17, 65535, 65536, 1 << 20, 20 << 20]
MODULES = {"fastmp": fastmp.connection, "stdlib": _std.connection}


def pattern(size, seed=0):
    block = bytes((i * 7 + seed) % 251 for i in range(2510))
    return (block * (size // len(block) + 1))[:size]


@pytest.fixture(params=[True, False], ids=["duplex", "oneway"])
def pipe(request):
    """(reader, writer)"""
    r, w = fastmp.Pipe(request.param)
    with r, w:
        yield r, w


# --- what goes through -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_sizes(pipe, size):
    r, w = pipe
    data = pattern(size)
    w.send_bytes(data)
    assert r.recv_bytes() == data
    w.send(data)
    assert r.recv() == data
    target = bytearray(size + 3)
    w.send_bytes(data)
    assert r.recv_bytes_into(target, 3) == size
    assert target[3:] == data


@pytest.mark.parametrize(
    "value",
    [None, True, 1, -(2**70), 1.5, "ä", "\ud800", b"x", (1, "a"), [1, [2]], {"a": {1}}, range(3)],
    ids=repr,
)
def test_values(pipe, value):
    r, w = pipe
    w.send(value)
    got = r.recv()
    assert got == value and type(got) is type(value)


def test_bytes_and_objects_are_one_thing(pipe):
    """As in the stdlib, whose wire knows no difference."""
    r, w = pipe
    w.send(["an", "object"])
    assert pickle.loads(r.recv_bytes()) == ["an", "object"]
    w.send_bytes(pickle.dumps({"a": 1}))
    assert r.recv() == {"a": 1}
    w.send(7)
    target = bytearray(100)
    n = r.recv_bytes_into(target)
    assert pickle.loads(target[:n]) == 7


@pytest.mark.skipif(numpy is None, reason="needs numpy")
@pytest.mark.parametrize("n", [10, 1_000_000])
def test_arrays_arrive_writable(pipe, n):
    r, w = pipe
    sent = numpy.arange(n, dtype="f8")
    w.send({"a": sent, "b": sent[:: max(n // 10, 1)]})
    sent += 1
    got = r.recv()
    assert got["a"][5] == 5 and len(got["a"]) == n
    got["a"][:] = 0
    got["b"][0] = 1
    assert got["b"][1] == max(n // 10, 1)


def test_the_sender_may_change_the_object(pipe):
    r, w = pipe
    data = bytearray(b"before")
    items = [1]
    w.send_bytes(data)
    w.send(items)
    data[:] = b"behind"
    items.append(2)
    assert r.recv_bytes() == b"before"
    assert r.recv() == [1]


@pytest.mark.parametrize(
    "buf",
    [b"abcdef", bytearray(b"abcdef"), memoryview(b"xabcdef")[1:], array.array("h", [1, 2, 3])],
)
def test_parts_of_buffers(pipe, buf):
    r, w = pipe
    whole = bytes(buf)
    for args in [(), (2,), (2, 3), (0, 0), (6,), (6, 0), (0, None)]:
        w.send_bytes(buf, *args)
        offset, size = args[0] if args else 0, args[1] if len(args) > 1 else None
        end = None if size is None else offset + size
        assert r.recv_bytes() == whole[offset:end]
    w.send_bytes(buf=buf, offset=1, size=2)
    assert r.recv_bytes(maxlength=2) == whole[1:3]


def test_into_an_array(pipe):
    r, w = pipe
    target = array.array("i", [0] * 4)
    w.send_bytes(array.array("i", [1, 2]))
    assert r.recv_bytes_into(target, 4) == 8
    assert list(target) == [0, 1, 2, 0]


def test_unpicklable_is_an_error_of_send(pipe):
    r, w = pipe
    with pytest.raises((pickle.PicklingError, AttributeError)):
        w.send(lambda: 0)
    w.send(1)
    assert r.recv() == 1


def _refuse():
    raise LookupError("refused")


class FailsToUnpickle:
    def __reduce__(self):
        return _refuse, ()


def test_a_message_that_cannot_be_unpickled_is_gone(pipe):
    r, w = pipe
    w.send(FailsToUnpickle())
    w.send(2)
    with pytest.raises(LookupError):
        r.recv()
    assert r.recv() == 2


class ClosesWhenPickled:
    def __init__(self, conn):
        self.conn = conn

    def __reduce__(self):
        self.conn.close()
        return int, ()


def test_closed_while_pickling(pipe):
    _, w = pipe
    with pytest.raises(OSError, match="handle is closed"):
        w.send(ClosesWhenPickled(w))


LARGE = (2 << 30) + 5


@pytest.mark.skipif(
    not os.environ.get("FASTMP_TEST_LARGE"), reason="needs 12 GB of memory: FASTMP_TEST_LARGE=1"
)
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("foreign", [False, True])
def test_more_than_2_gib(foreign):
    r, w = fastmp.Pipe()
    if foreign:
        r.close()
        w.close()
        a, b = socket.socketpair()
        r, w = (fastmp.connection.Connection(s.detach()) for s in (a, b))
    data = bytearray(LARGE)
    data[0], data[-1] = 1, 2
    sender = threading.Thread(target=w.send_bytes, args=(data,))
    sender.start()
    got = r.recv_bytes()
    sender.join()
    assert len(got) == LARGE and got[0] == 1 and got[-1] == 2
    r.close()
    w.close()


# --- the same calls on both packages fail alike ----------------------------------------------


def bad_handles(m):
    yield lambda: m.Connection(-1)
    yield lambda: m.Connection("x")
    yield lambda: m.Connection(0, readable=False, writable=False)
    yield lambda: m.Connection()


def wrong_direction(m):
    r, w = m.Pipe(False)
    with r, w:
        yield lambda: r.send(1)
        yield lambda: r.send_bytes(b"")
        yield lambda: w.recv()
        yield lambda: w.recv_bytes()
        yield lambda: w.recv_bytes_into(bytearray(1))
        yield lambda: w.poll()
        yield lambda: (r.readable, r.writable, w.readable, w.writable)


def bad_arguments(m):
    a, b = m.Pipe()
    with a, b:
        yield lambda: a.send_bytes(b"abc", -1)
        yield lambda: a.send_bytes(b"abc", 4)
        yield lambda: a.send_bytes(b"abc", 1, -1)
        yield lambda: a.send_bytes(b"abc", 1, 3)
        yield lambda: a.send_bytes("abc")
        yield lambda: a.send_bytes(None)
        yield lambda: a.send_bytes(array.array("i", [1]), 5)
        yield lambda: a.send_bytes(memoryview(b"abcdef")[::2])
        yield lambda: a.send_bytes(memoryview(array.array("h", [1, 2, 3, 4]))[::2])
        yield lambda: a.recv_bytes(-1)
        yield lambda: a.recv_bytes("x")
        yield lambda: a.recv_bytes_into(bytearray(3), -1)
        yield lambda: a.recv_bytes_into(bytearray(3), 4)
        yield lambda: a.recv_bytes_into("x")
        yield lambda: a.poll("x")
        yield lambda: a.poll(-1)


def read_only_target(m):
    a, b = m.Pipe()
    with a, b:
        a.send_bytes(b"abc")
        yield lambda: b.recv_bytes_into(b"xyz")


def too_short(m):
    a, b = m.Pipe()
    with a, b:
        a.send_bytes(b"abcdef")
        yield lambda: b.recv_bytes_into(bytearray(3))
        a.send_bytes(b"abcdef")
        yield lambda: b.recv_bytes_into(bytearray(6), 1)
        a.send_bytes(b"next")
        yield lambda: b.recv_bytes()


def too_long(m):
    a, b = m.Pipe()
    with a, b:
        a.send_bytes(b"abcdef")
        yield lambda: b.recv_bytes(5)
        yield lambda: b.recv_bytes()
        yield lambda: (b.closed, b.readable, b.writable)
    r, w = m.Pipe(False)
    with r, w:
        w.send_bytes(b"abcdef")
        yield lambda: r.recv_bytes(5)
        yield lambda: r.recv_bytes()
        yield lambda: (r.closed, r.readable)


def closed(m):
    a, b = m.Pipe()
    a.close()
    a.close()
    yield lambda: a.closed
    for name in ["send", "send_bytes", "recv_bytes_into"]:
        yield lambda name=name: getattr(a, name)(b"")
    for name in ["recv", "recv_bytes", "poll", "fileno"]:
        yield lambda name=name: getattr(a, name)()
    yield lambda: m.wait([a], 0)
    yield lambda: a._handle
    b.close()


def peer_closed(m):
    a, b = m.Pipe()
    b.close()
    for _ in range(2):
        yield lambda: a.poll()
        yield lambda: a.poll(None)
        yield lambda: a.recv()
        yield lambda: a.recv_bytes()
        yield lambda: a.recv_bytes_into(bytearray(1))
        yield lambda: a.send(1)
        yield lambda: a.send_bytes(b"")
    a.close()


def peer_closed_oneway(m):
    for messages in range(3):
        r, w = m.Pipe(False)
        for i in range(messages):
            w.send(i)
        r.close()
        yield lambda w=w: w.send(1)
        yield lambda w=w: w.send_bytes(b"1")
        w.close()
        r, w = m.Pipe(False)
        for i in range(messages):
            w.send(i)
        w.close()
        for _ in range(messages + 2):
            yield lambda r=r: r.poll()
            yield lambda r=r: r.recv()
        r.close()


def peer_closed_with_unread_data(m):
    a, b = m.Pipe()
    a.send(1)
    b.send("an answer")
    b.close()
    yield lambda: a.recv()
    yield lambda: a.poll()
    yield lambda: a.recv()
    yield lambda: a.recv()
    yield lambda: a.send(1)
    a.close()


def non_blocking(m):
    a, b = m.Pipe()
    with a, b:
        os.set_blocking(a.fileno(), False)
        yield lambda: a.recv()
        yield lambda: a.recv_bytes()
        b.send(3)
        yield lambda: a.recv()
        yield lambda: a.poll(0.01)


def detached(m):
    a, b = m.Pipe()
    fd = a._handle
    a._handle = None
    yield lambda: a.closed
    yield lambda: a.send(1)
    yield lambda: b.poll()
    os.close(fd)
    yield lambda: b.poll()
    b.close()


def bad_fd(m):
    a = m.Connection(99999)
    yield lambda: a.recv()
    yield lambda: a.send(1)
    a._handle = None


def foreign(m):
    """A descriptor that is no pipe of ours: exactly the bytes of the stdlib."""
    r, w = os.pipe()
    a, b = m.Connection(r, writable=False), m.Connection(w, readable=False)
    with a, b:
        b.send_bytes(b"abc")
        yield lambda: os.read(r, 100)
        b.send([1])
        yield lambda: os.read(r, 100)
        os.write(w, b"\0\0\0\3ab")
        yield lambda: a.poll()
        os.write(w, b"c\0\0\0\0")
        yield lambda: a.recv_bytes()
        yield lambda: a.recv_bytes()
        os.write(w, b"\xff\xff\xff\xff" + struct.pack("!Q", 2) + b"xy")
        yield lambda: a.recv_bytes()
        os.write(w, b"\xff\xff\xff\xfe")
        yield lambda: a.recv_bytes()
        os.write(w, b"\0\0\0\3xyz\0\0\0\1z")
        yield lambda: a.recv_bytes_into(bytearray(2))
        yield lambda: a.recv_bytes(0)
        yield lambda: a.closed


def foreign_end(m):
    for rest in [b"", b"\0", b"\0\0\0\3", b"\0\0\0\3a"]:
        r, w = os.pipe()
        os.write(w, rest)
        os.close(w)
        with m.Connection(r) as a:
            yield lambda a=a: a.poll()
            yield lambda a=a: a.recv_bytes()
            yield lambda a=a: a.recv_bytes()
    r, w = os.pipe()
    os.close(r)
    with m.Connection(w) as a:
        yield lambda a=a: a.send(1)
    a, b = socket.socketpair()
    with m.Connection(a.detach()) as a:
        os.set_blocking(a.fileno(), False)
        yield lambda a=a: a.recv()
        yield lambda a=a: a.send_bytes(b"x" * (1 << 20))
        b.close()


SCENARIOS = [
    bad_handles, wrong_direction, bad_arguments, read_only_target, too_short, too_long, closed,
    peer_closed, peer_closed_oneway, peer_closed_with_unread_data, non_blocking, detached, bad_fd,
    foreign, foreign_end,
]  # fmt: skip


def outcome(call):
    try:
        return call()
    except Exception as e:
        return type(e), str(e), getattr(e, "errno", None)


def same(ours, theirs):
    """Equal, but for the wording of errors of type and of the end of a pickle."""
    if isinstance(theirs, tuple) and theirs and theirs[0] in (TypeError, AttributeError):
        return ours[0] is theirs[0]
    return ours == theirs


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_like_the_stdlib(scenario):
    ours = [outcome(call) for call in scenario(MODULES["fastmp"])]
    theirs = [outcome(call) for call in scenario(MODULES["stdlib"])]
    assert len(ours) == len(theirs)
    for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert same(our, their), f"call {i}: {our} instead of {their}"


def test_the_stdlibs_private_parts():
    a, b = fastmp.Pipe()
    with a, b:
        assert isinstance(a, _std.connection.Connection)
        assert isinstance(a, fastmp.connection.Connection)
        assert type(a).__name__ == "Connection"
        a._send_bytes(b"raw")
        assert b._poll(0)
        assert b._recv_bytes().getvalue() == b"raw"
        fd = a.fileno()
        a._detach()
        assert a.closed
        b.send_bytes(b"x")
        os.close(fd)


# --- the end of things -----------------------------------------------------------------------


def test_dropping_the_last_reference_closes():
    a, b = fastmp.Pipe()
    fd = a.fileno()
    del a
    with pytest.raises(OSError):
        os.fstat(fd)
    with pytest.raises(EOFError):
        b.recv()
    b.close()


def test_descriptors_go_with_the_objects():
    before = len(os.listdir("/proc/self/fd"))
    for duplex in (True, False):
        a, b = fastmp.Pipe(duplex)
        assert len(os.listdir("/proc/self/fd")) - before == (4 if duplex else 3)
        a.close()
        b.close()
        del a, b
        assert len(os.listdir("/proc/self/fd")) == before


def test_end_in_the_middle_of_a_blocked_receive(pipe):
    r, w = pipe
    threading.Timer(0.2, w.close).start()
    with pytest.raises(EOFError):
        r.recv()


needs_tick = pytest.mark.needs_tick


@pytest.mark.parametrize(
    "kind", [pytest.param("recv", marks=needs_tick), pytest.param("poll", marks=needs_tick), "send"]
)
def test_closing_under_a_thread(kind):
    """The thread gets an error, and never a stranger's descriptor. (Nothing wakes one that is in a
    poll already: its tick does.)"""
    a, b = fastmp.Pipe()
    errors = []

    def work():
        try:
            if kind == "send":
                while True:
                    a.send_bytes(bytes(100_000))
            elif kind == "recv":
                a.recv()
            else:
                a.poll(None)
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1)
    fd = a.fileno()
    a.close()
    other = os.dup(0)
    assert other != fd or kind == "send"  # which is woken at once, and may have left by now
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(errors[0], OSError) and "handle is closed" in str(errors[0])
    os.close(other)
    with pytest.raises(OSError):
        os.fstat(fd)
    b.close()


# --- poll ------------------------------------------------------------------------------------


def test_poll_waits_as_long_as_it_is_told(pipe):
    r, w = pipe
    assert r.poll() is False
    assert r.poll(0) is False
    begin = time.monotonic()
    assert r.poll(0.3) is False
    assert 0.29 <= time.monotonic() - begin < 5
    w.send(1)
    assert r.poll() is True
    assert r.poll(None) is True
    r.recv()
    threading.Timer(0.2, w.send, (2,)).start()
    assert r.poll(30) is True
    threading.Timer(0.2, w.send, (3,)).start()
    r.recv()
    assert r.poll(timeout=None) is True


def test_errno_of_a_broken_pipe(pipe):
    r, w = pipe
    r.close()
    with pytest.raises(BrokenPipeError) as e:
        w.send(1)
    assert e.value.errno == errno.EPIPE


def test_replaced_or_not_it_is_the_same_class():
    assert issubclass(fastmp.connection.Connection, _std.connection.Connection)
    if sys.modules["multiprocessing"] is not fastmp:
        assert multiprocessing.connection.Connection is _std.connection.Connection
