"""Queues and connections while many use them: exact sizes, joins that come first, peers killed.

Messages are large, so that a kill falls into the middle of one: it is then absent, never cut off,
and never mixed with another.
"""

import os
import queue
import random
import time

import pytest

import fastmp
from fastmp.connection import Client, Listener

SIZE = 4_000_000


def message(number):
    return bytes([number % 251]) * SIZE + b"%08d" % number


def number_of(data):
    """The number of a message that is whole."""
    number = int(data[-8:])
    assert data == message(number)
    return number


#
# Sizes
#


def put_and_tell(q, turn, n):
    for i in range(n):
        q.put((i, "x" * (i * 37 % 3000)))
        turn.send(q.qsize())
        turn.recv()


def test_what_was_put_is_there(ctx):
    """As soon as put() has returned: for qsize(), for empty(), for get_nowait()."""
    q, (here, there) = ctx.Queue(), ctx.Pipe()
    p = ctx.Process(target=put_and_tell, args=(q, there, 200))
    p.start()
    waiting = 0
    for i in range(200):
        size = here.recv()
        waiting += 1
        assert q.qsize() == size == waiting and not q.empty()
        if i % 3:
            assert q.get_nowait()[0] == i + 1 - waiting
            waiting -= 1
        assert q.qsize() == waiting
        here.send("go on")
    p.join()
    for _ in range(waiting):
        q.get_nowait()
    assert q.empty() and q.qsize() == 0
    with pytest.raises(queue.Empty):
        q.get_nowait()


def put_all(q, first, n):
    for i in range(first, first + n):
        q.put(i)


def get_all(q, results, n):
    results.put([q.get() for _ in range(n)])


def test_sizes_while_others_put_and_get():
    fork, n = fastmp.get_context("fork"), 2000
    q, results = fork.Queue(5), fork.Queue()
    processes = [fork.Process(target=put_all, args=(q, i * n, n)) for i in range(3)]
    processes += [fork.Process(target=get_all, args=(q, results, n)) for _ in range(3)]
    seen = {q.qsize()}
    for p in processes[:3]:
        p.start()
    while not q.full():
        seen.add(q.qsize())
    seen.add(q.qsize())
    for p in processes[3:]:
        p.start()
    while any(p.is_alive() for p in processes):
        seen.add(q.qsize())
        q.empty(), q.full()
    for p in processes:
        p.join()
    assert {0, 5} <= seen <= {*range(6)}
    assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    assert sorted(number for _ in range(3) for number in results.get_nowait()) == [*range(3 * n)]


#
# Joined before anybody has read
#


def put_megabytes(q, how):
    if how == "put_many":
        q.put_many(message(i) for i in range(3))
    else:
        for i in range(3):
            q.put(message(i))


@pytest.mark.parametrize("how", ["SimpleQueue", "JoinableQueue", "put_many"])
def test_a_child_that_has_put_megabytes_is_joined_first(ctx, how):
    q = getattr(ctx, "Queue" if how == "put_many" else how)()
    p = ctx.Process(target=put_megabytes, args=(q, how))
    p.start()
    p.join()
    assert p.exitcode == 0
    assert [number_of(q.get()) for _ in range(3)] == [0, 1, 2]


#
# Killed in the middle of a message
#


def put_for_ever(q):
    i = 0
    while True:
        q.put(message(i))
        i += 1


def test_a_producer_killed_in_the_middle_of_a_message(ctx):
    q = ctx.Queue(3)
    random_ = random.Random(5)
    for _ in range(4):
        p = ctx.Process(target=put_for_ever, args=(q,))
        p.start()
        expected = 0
        until = time.monotonic() + random_.random() * 0.05
        while expected < 2 or time.monotonic() < until:
            assert number_of(q.get()) == expected
            expected += 1
        p.kill()
        p.join()
        while not q.empty():
            assert number_of(q.get()) == expected
            expected += 1
        q.put(message(7))
        assert number_of(q.get()) == 7


def send_for_ever(connection):
    i = 0
    while True:
        connection.send(message(i))
        i += 1


def call_and_send(address):
    with Client(address) as connection:
        send_for_ever(connection)


def receive_until_the_end(connection, p, seconds):
    """Kills the sender after so long; all that was sent until then comes, and then the end."""
    until, expected = time.monotonic() + seconds, 0
    with pytest.raises((EOFError, OSError)) as raised:
        while True:
            assert number_of(connection.recv()) == expected
            expected += 1
            if expected >= 2 and time.monotonic() >= until and p.is_alive():
                p.kill()
    p.join()
    assert expected >= 2
    return raised.value


@pytest.mark.parametrize("duplex", [True, False])
def test_a_sender_killed_in_the_middle_of_a_message(ctx, duplex):
    random_ = random.Random(6)
    for _ in range(3):
        here, there = ctx.Pipe(duplex)
        p = ctx.Process(target=send_for_ever, args=(there,))
        p.start()
        there.close()
        error = receive_until_the_end(here, p, random_.random() * 0.05)
        assert isinstance(error, EOFError)
        here.close()


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_client_killed_in_the_middle_of_a_message(family):
    """The wire has an end in the middle of a message: that is told as in the stdlib."""
    fork = fastmp.get_context("fork")
    random_ = random.Random(7)
    with Listener(family=family) as listener:
        for _ in range(4):
            p = fork.Process(target=call_and_send, args=(listener.address,))
            p.start()
            with listener.accept() as connection:
                error = receive_until_the_end(connection, p, random_.random() * 0.05)
            reset = isinstance(error, ConnectionResetError)
            assert isinstance(error, EOFError) or reset or "end of file during" in str(error)


def receive_one(connection, ready):
    ready.send(os.getpid())
    connection.recv()


def test_a_receiver_killed_in_the_middle_of_a_message(ctx):
    """What it had taken is gone with it; who shares its end gets the next one, whole."""
    random_ = random.Random(8)
    here, there = ctx.Pipe()
    ready, tell = ctx.Pipe()
    for i in range(4):
        p = ctx.Process(target=receive_one, args=(there, tell))
        p.start()
        ready.recv()
        here.send(message(2 * i))
        time.sleep(random_.random() * 0.004)
        p.kill()
        p.join()
        if there.poll():
            assert number_of(there.recv()) == 2 * i
        assert not there.poll()
        here.send(2 * i + 1)
        assert there.recv() == 2 * i + 1
