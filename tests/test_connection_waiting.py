"""The descriptor of a connection: readable exactly when something can be received; wait()."""

import os
import random
import select
import selectors
import socket
import threading
import time

import pytest

import fastmp
import fastmp.connection
from fastmp import _std
from tests.support.later import later

asyncio = later("asyncio")

PATIENCE = 20  # seconds; a wake-up that takes so long was lost


def select_(conn, timeout):
    return bool(select.select([conn], [], [], timeout)[0])


def poll_(conn, timeout):
    p = select.poll()
    p.register(conn, select.POLLIN)
    return bool(p.poll(timeout * 1000))


def epoll_(conn, timeout):
    with select.epoll() as p:
        p.register(conn.fileno(), select.EPOLLIN)
        return bool(p.poll(timeout))


def stdlib_wait(conn, timeout):
    return _std.connection.wait([conn], timeout) == [conn]


def our_wait(conn, timeout):
    return fastmp.connection.wait([conn], timeout) == [conn]


def our_poll(conn, timeout):
    return conn.poll(timeout)


WAYS = [select_, poll_, epoll_, stdlib_wait, our_wait, our_poll]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
def test_readable_exactly_when_something_is_there(way):
    a, b = fastmp.Pipe()
    with b:
        for n in (1, 2, 5):
            assert not way(b, 0)
            for i in range(n):
                a.send(i)
            assert way(b, 0) and not way(a, 0)
            for _ in range(n):
                assert way(b, 0)
                b.recv()
            assert not way(b, 0)
            begin = time.monotonic()
            assert not way(b, 0.1)
            assert time.monotonic() - begin >= 0.09
        a.send(1)
        a.close()
        assert way(b, 0)
        b.recv()
        assert way(b, 0)  # the end


def _send_paced(conn, count, seed):
    """In ones and twos, then waits for as many answers."""
    pace = random.Random(seed)
    sent = 0
    while sent < count:
        burst = min(pace.choice([1, 1, 2, 3]), count - sent)
        for _ in range(burst):
            conn.send(sent)
            sent += 1
        for _ in range(burst):
            assert conn.poll(PATIENCE)
            conn.recv()
        if pace.random() < 0.05:
            time.sleep(pace.random() / 1000)
    conn.close()


@pytest.mark.parametrize("way", [*WAYS, None], ids=lambda w: w.__name__ if w else "all")
def test_no_message_goes_unnoticed(ctx, way):
    """Waits one way, or by all of them in turn, recv() without waiting first among them."""
    count = 1500
    a, b = ctx.Pipe()
    process = ctx.Process(target=_send_paced, args=(a, count, 1))
    process.start()
    a.close()
    pace = random.Random(2)
    for i in range(count):
        wait = way or pace.choice([*WAYS, None])
        if wait is not None:
            assert wait(b, PATIENCE), f"message {i} was not noticed by {wait.__name__}"
        assert b.recv() == i
        b.send(None)
        if pace.random() < 0.05:
            time.sleep(pace.random() / 1000)
    with pytest.raises(EOFError):
        b.recv()
    process.join()
    b.close()


def test_asyncio_sees_every_message(ctx):
    count = 1500
    a, b = ctx.Pipe()
    process = ctx.Process(target=_send_paced, args=(a, count, 3))
    process.start()
    a.close()
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def readable():
            began = time.monotonic()
            if not b.poll():  # it waits for a writer between bell and message, but not for long
                assert time.monotonic() - began > 0.9, "readable over nothing"
                assert b.poll(PATIENCE)
            try:
                seen.append(b.recv())
            except EOFError:
                loop.remove_reader(b.fileno())
                done.set_result(None)
                return
            b.send(None)

        loop.add_reader(b.fileno(), readable)
        await asyncio.wait_for(done, 40)

    asyncio.run(main())
    assert seen == list(range(count))
    process.join()
    b.close()


def test_edge_triggered(ctx):
    """Drains at each edge, as such code must."""
    a, b = ctx.Pipe()
    process = ctx.Process(target=_send_paced, args=(a, 300, 4))
    process.start()
    a.close()
    seen = 0
    with select.epoll() as p:
        p.register(b.fileno(), select.EPOLLIN | select.EPOLLET)
        while seen < 300:
            assert p.poll(PATIENCE)
            assert b.poll(PATIENCE)  # its writer may stand between the bell and the message
            while seen < 300 and b.poll():
                assert b.recv() == seen
                b.send(None)
                seen += 1
    process.join()
    b.close()


# --- many at one end -------------------------------------------------------------------------


def test_threads_share_an_end():
    a, b = fastmp.Pipe()
    got, lock = [], threading.Lock()

    def write(n):
        for i in range(300):
            a.send((n, i))

    def read():
        for message in iter(b.recv, None):
            with lock:
                got.append(message)

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for t in readers + writers:
        t.start()
    for t in writers:
        t.join()
    for _ in readers:
        a.send(None)
    for t in readers:
        t.join()
    assert sorted(got) == [(n, i) for n in range(3) for i in range(300)]
    a.close()
    b.close()


def _read_a_share(conn, out, selects):
    got = []
    while True:
        if selects and not select.select([conn], [], [], PATIENCE)[0]:
            out.put(("nothing came", got))
            return
        message = conn.recv()
        if message is None:
            break
        got.append(message)
    out.put((None, got))


@pytest.mark.parametrize("size", [0, 100_000])
def test_processes_share_an_end(ctx, size):
    """Large messages too, which are received in two steps."""
    a, b = ctx.Pipe()
    out = ctx.SimpleQueue()
    count = 300 if size else 1000
    processes = [ctx.Process(target=_read_a_share, args=(b, out, False)) for _ in range(3)]
    for p in processes:
        p.start()
    for i in range(count):
        a.send(b"%d." % i + bytes(size))
        if i % 50 == 0:
            time.sleep(0.001)
    for _ in processes:
        a.send(None)
    results = [out.get() for _ in processes]
    for p in processes:
        p.join()
    messages = [m for _, got in results for m in got]
    assert all(m.endswith(b"." + bytes(size)) for m in messages)
    assert sorted(int(m.partition(b".")[0]) for m in messages) == list(range(count))
    a.close()
    b.close()


# --- wait() ----------------------------------------------------------------------------------


def test_wait_returns_all_that_is_ready():
    pipes = [fastmp.Pipe(False) for _ in range(5)]
    readers = [r for r, _ in pipes]
    assert fastmp.connection.wait(readers, 0) == []
    for _, w in pipes[1:4]:
        w.send(1)
    assert set(fastmp.connection.wait(readers)) == set(readers[1:4])
    assert set(fastmp.connection.wait(iter(readers), 5)) == set(readers[1:4])
    for r, w in pipes:
        r.close()
        w.close()


def _exit_soon():
    time.sleep(0.2)


def test_wait_for_different_things(ctx):
    r, w = ctx.Pipe(False)
    a, b = _std.connection.Pipe()
    s, t = socket.socketpair()
    fd, other = os.pipe()
    process = ctx.Process(target=_exit_soon)
    process.start()
    things = [r, a, s, fd, process.sentinel]
    for m in (fastmp.connection, _std.connection):
        assert m.wait(things[:4], 0.01) == []
        assert m.wait(things) == [process.sentinel]
    w.send(1)
    b.send(1)
    t.send(b"1")
    os.write(other, b"1")
    for m in (fastmp.connection, _std.connection):
        assert set(m.wait(things)) == set(things)
    process.join()
    for c in (r, w, a, b, s, t):
        c.close()
    os.close(fd)
    os.close(other)


def test_wait_keeps_its_times():
    r, w = fastmp.Pipe(False)
    for timeout in (0, -1, 0.3):
        begin = time.monotonic()
        assert fastmp.connection.wait([r], timeout) == []
        assert max(timeout, 0) <= time.monotonic() - begin < 5
    assert fastmp.connection.wait([], 0.01) == []
    threading.Timer(0.2, w.send, (1,)).start()
    assert fastmp.connection.wait([r], PATIENCE) == [r]
    r.recv()
    w.close()
    assert fastmp.connection.wait([r]) == [r]
    r.close()


def test_wait_fails_like_the_stdlib():
    r, w = fastmp.Pipe(False)
    for bad, error in [([r, r], KeyError), (["x"], ValueError), ([-1], ValueError)]:
        for m in (fastmp.connection, _std.connection):
            with pytest.raises(error):
                m.wait(bad, 0)
    assert fastmp.connection.wait([w], 0) == []
    r.close()
    assert fastmp.connection.wait([w], 0) == [w]
    w.close()


def test_a_bell_that_a_killed_writer_left_is_nothing_to_receive():
    """As if it had died between the bell and the commit."""
    a, b = fastmp.Pipe()
    with a, b:
        os.write(a.fileno(), b"\xd1")
        assert select_(b, 0)
        assert fastmp.connection.wait([b], 0.1) == []
        assert not select_(b, 0)
        os.write(a.fileno(), b"\xd1")
        threading.Timer(0.2, a.send, (1,)).start()
        assert b.recv() == 1
        assert not select_(b, 0)


def test_selectors_take_connections():
    a, b = fastmp.Pipe()
    with a, b, selectors.DefaultSelector() as selector:
        selector.register(b, selectors.EVENT_READ, "data")
        assert selector.select(0) == []
        a.send(1)
        assert [key.data for key, _ in selector.select()] == ["data"]
