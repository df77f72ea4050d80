"""Connections of managers move from the wire to shared memory in mid-stream, if both sides can."""

import contextlib
import os
import pickle
import resource
import signal
import socket
import threading
import time

import pytest

import fastmp
import fastmp.connection
from fastmp import _std
from fastmp._manager_rings import RingClient, RingListener
from fastmp.connection import Connection


def has_rings(conn):
    return min(conn._share()) >= 0


@pytest.fixture
def ends():
    """The two ends of a local socket: one that may offer, and one that may accept."""
    here, there = (Connection(s.detach()) for s in socket.socketpair())
    here._offer_rings()
    there._accept_rings()
    yield here, there
    here.close()
    there.close()


def ask(client, server, message):
    """A request and its answer."""
    client.send(message)
    assert server.recv() == message
    server.send(["answer", message])
    assert client.recv() == ["answer", message]


def test_a_few_requests_stay_on_the_wire(ends):
    for i in range(3):
        ask(*ends, i)
    assert not has_rings(ends[0]) and not has_rings(ends[1])


def test_many_requests_go_over_to_rings(ends):
    for i in range(6):
        ask(*ends, i)
    assert has_rings(ends[0]) and has_rings(ends[1])
    ask(*ends, list(range(1000)))


def test_order_is_kept_across_the_switch(ends):
    """Both sides send on end, so that messages of both formats are under way at the same time."""
    client, server = ends
    n = 3000

    def stream(conn, got):
        def receive():
            got.extend(conn.recv() for _ in range(n))

        receiver = threading.Thread(target=receive)
        receiver.start()
        for i in range(n):
            conn.send((i, b"x" * (i % 500)))
        receiver.join()

    received = [], []
    threads = [
        threading.Thread(target=stream, args=args) for args in zip(ends, received, strict=True)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert received[0] == received[1] == [(i, b"x" * (i % 500)) for i in range(n)]
    ask(client, server, "the last")
    assert has_rings(client) and has_rings(server)


@pytest.mark.parametrize("receive", ["recv", "recv_bytes"])
def test_a_receiver_that_waits_while_another_thread_offers(ends, receive):
    client, server = ends
    got = []
    receiver = threading.Thread(target=lambda: got.append(getattr(client, receive)()))
    receiver.start()
    time.sleep(0.1)  # it reads the socket by now
    for i in range(4):
        client.send(i)
        assert server.recv() == i
    for _ in range(2):  # the switch and a bell, then no bell
        server.send("answer")
    receiver.join()
    assert got == ["answer"] or pickle.loads(got[0]) == "answer"
    assert client.recv() == "answer"
    ask(client, server, "more")


def test_a_full_socket_puts_the_switch_off(ends):
    client, server = ends
    for i in range(4):
        client.send(i)
    assert [server.recv() for _ in range(4)] == [0, 1, 2, 3]  # from here the server may switch
    filled = 0
    with socket.socket(fileno=os.dup(server.fileno())) as raw, pytest.raises(BlockingIOError):
        while True:
            sent = raw.send(b"\x00\x00\x00\x01p", socket.MSG_DONTWAIT)
            assert sent == 5
            filled += 1
    late = threading.Thread(target=server.send, args=("late",))
    late.start()
    assert {client.recv_bytes() for _ in range(filled)} == {b"p"}
    assert client.recv() == "late"
    late.join()
    ask(client, server, "then they switch")
    ask(client, server, "both")
    assert has_rings(client) and has_rings(server)


def test_bytes_poll_and_wait_on_both_formats(ends):
    client, server = ends
    for i in range(12):
        assert not server.poll() and not client.poll(0.001)
        client.send_bytes(b"%d" % i)
        assert server.poll(20) and fastmp.connection.wait([server], 20) == [server]
        assert server.recv_bytes() == b"%d" % i
        client.send(i)
        assert server.poll(20) and server.recv() == i
        server.send_bytes(b"x" * i)
        assert client.poll(20) and fastmp.connection.wait([client], 20) == [client]
        buffer = bytearray(20)
        assert client.recv_bytes_into(buffer) == i
        server.send(None)
        assert client.recv() is None
    assert has_rings(client) and has_rings(server)
    server.close()
    assert client.poll()
    with pytest.raises(EOFError):
        client.recv()


def test_offers_are_not_looked_at_by_recv_bytes(ends):
    """Which is what authentication works with: its peer is not trusted yet."""
    client, server = ends
    for i in range(6):
        client.send(i)
        assert pickle.loads(server.recv_bytes()) == i
        server.send(i)
        assert client.recv() == i
    assert not has_rings(server)


def test_a_connection_on_its_way_is_not_passed_on(ends):
    client, server = ends
    for i in range(4):
        client.send(i)
    for _ in range(4):
        server.recv()
    for conn in ends:
        with pytest.raises(ValueError, match="moving to shared memory"):
            conn._share()


@pytest.mark.parametrize("closed", [0, 1])
def test_closed_in_between(ends, closed):
    for i in range(4):
        ends[0].send(i)
    for _ in range(4):
        ends[1].recv()
    ends[1 - closed].send("last")
    ends[1 - closed].close()
    assert ends[closed].recv() == "last"
    with pytest.raises(EOFError):
        ends[closed].recv()
    with pytest.raises(OSError):
        for i in range(4):
            ends[closed].send(i)


# --- who takes no part in it -------------------------------------------------------------------


def serve(listener, n):
    with listener, listener.accept() as conn:
        for _ in range(n):
            conn.send(conn.recv())


FASTMP = RingListener, RingClient
STDLIB = _std.connection.Listener, _std.connection.Client


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
@pytest.mark.parametrize("listener", [FASTMP, STDLIB], ids=["fastmp listens", "stdlib listens"])
@pytest.mark.parametrize("client", [FASTMP, STDLIB], ids=["fastmp asks", "stdlib asks"])
def test_either_side_may_be_the_stdlibs(listener, client, family):
    n = 20
    listener = listener[0](family=family, authkey=b"key")
    address = listener.address
    thread = threading.Thread(target=serve, args=(listener, n))
    thread.start()
    with client[1](address, authkey=b"key") as conn:
        for i in range(n):
            conn.send([i] * 100)
            assert conn.recv() == [i] * 100
        if client is FASTMP and family == "AF_INET":
            assert not has_rings(conn)
        if client is FASTMP and type(listener) is RingListener and family == "AF_UNIX":
            assert has_rings(conn)
    thread.join()


@pytest.fixture
def few_descriptors():
    """A context manager: the lower half of the descriptors that the process may have is taken."""

    @contextlib.contextmanager
    def limit():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(lowest_free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * lowest_free, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limit


def test_no_descriptors_for_an_offer(ends, few_descriptors):
    with few_descriptors():
        for i in range(6):
            ask(*ends, i)
    assert not has_rings(ends[0]) and not has_rings(ends[1])


def test_no_descriptors_to_accept_with(ends, few_descriptors):
    for i in range(6):
        ends[0].send(i)
        with few_descriptors():
            assert ends[1].recv() == i
        ends[1].send(i)
        assert ends[0].recv() == i
    assert not has_rings(ends[1])


# --- managers ----------------------------------------------------------------------------------


def test_a_managers_proxy(ctx):
    with ctx.Manager() as manager:
        numbers = manager.dict()
        for i in range(10):
            numbers[i] = i
        assert has_rings(numbers._tls.connection)
        process = ctx.Process(target=use_proxy, args=(numbers,))
        process.start()
        process.join()
        assert process.exitcode == 0 and numbers["child"] == b"x" * 3_000_000
        assert sorted(map(str, numbers.keys())) == sorted([*map(str, range(10)), "child"])


def use_proxy(numbers):
    for i in range(10):
        assert numbers[i] == i
    assert has_rings(numbers._tls.connection)
    numbers["child"] = b"x" * 3_000_000


def test_the_managers_process_is_killed():
    manager = fastmp.Manager()
    numbers = manager.list(range(10))
    assert [numbers[i] for i in range(10)] == list(range(10))
    os.kill(manager._process.pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionError)):
        for _ in range(3):
            numbers[0]
    manager.shutdown()
