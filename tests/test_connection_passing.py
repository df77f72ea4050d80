"""Connections in other processes: inherited, pickled, sent through queues and pipes; listeners and
clients of both packages; descriptors over a connection's own socket."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

import fastmp
import fastmp.connection
from fastmp import _std
from fastmp.reduction import ForkingPickler, recv_handle, send_handle
from tests.support.later import later

numpy = later("numpy")


# --- to a child ------------------------------------------------------------------------------


def _echo(conn, *others):
    for other in others:
        other.close()
    try:
        while True:
            conn.send(conn.recv())
    except EOFError:
        conn.close()


@pytest.mark.parametrize("duplex", [True, False])
def test_ends_go_to_a_child(ctx, duplex):
    if duplex:
        here, there = ctx.Pipe()
        process = ctx.Process(target=_echo, args=(there,) + (here,) * (ctx._name == "fork"))
        out = back = here
        ours = [there]
    else:
        (there_r, out), (back, there_w) = ctx.Pipe(False), ctx.Pipe(False)
        process = ctx.Process(target=_relay, args=(there_r, there_w))
        ours = [there_r, there_w]
    process.start()
    for end in ours:
        end.close()
    for message in [1, "a", b"x" * 300_000, {"a": [1]}]:
        out.send(message)
        assert back.recv() == message
    if not duplex:
        out.send(None)
    out.close()
    process.join(30)
    assert process.exitcode == 0
    back.close()


def _relay(r, w):
    for message in iter(r.recv, None):
        w.send(message)


def _both_ends(a, b, same):
    a.send(1)
    assert b.recv() == 1
    b.send("back")
    assert a.recv() == "back"
    same.send("really the same")
    a.close()
    assert b.recv() == "really the same"
    try:
        b.recv()
    except EOFError:
        os._exit(7)


def test_both_ends_and_one_twice_to_one_child(ctx):
    a, b = ctx.Pipe()
    process = ctx.Process(target=_both_ends, args=(a, b, a))
    process.start()
    a.close()
    b.close()
    process.join(30)
    assert process.exitcode == 7


def _sum_array(conn):
    array = conn.recv()
    array += 1
    conn.send(array)


@pytest.mark.skipif(numpy is None, reason="needs numpy")
def test_arrays(ctx):
    a, b = ctx.Pipe()
    process = ctx.Process(target=_sum_array, args=(b,))
    process.start()
    a.send(numpy.arange(100_000))
    got = a.recv()
    assert got[99_999] == 100_000 and got.flags.writeable
    process.join()
    a.close()
    b.close()


# --- to anybody ------------------------------------------------------------------------------


def _answer_on_what_comes(carrier):
    conn = carrier.get() if hasattr(carrier, "get") else carrier.recv()
    conn.send(conn.recv() + 1)
    conn.close()


@pytest.mark.parametrize("carrier", ["Queue", "SimpleQueue", "Pipe"])
def test_through_a_queue_or_a_pipe(ctx, carrier):
    if carrier == "Pipe":
        put, get = ctx.Pipe()
        send = put.send
    else:
        get = getattr(ctx, carrier)()
        send = get.put
    process = ctx.Process(target=_answer_on_what_comes, args=(get,))
    process.start()
    a, b = ctx.Pipe()
    a.send(41)  # in the ring before the other side knows it
    send(b)
    assert a.poll(30)
    b.close()
    assert a.recv() == 42
    with pytest.raises(EOFError):
        a.recv()
    a.close()
    process.join()
    if carrier == "Pipe":
        put.close()
    get.close()


def test_within_one_process():
    a, b = fastmp.Pipe()
    copy = pickle.loads(bytes(ForkingPickler.dumps(b)))
    assert copy.fileno() != b.fileno()
    a.send(1)
    a.send(2)
    assert copy.recv() == 1
    assert b.recv() == 2
    b.close()
    a.send(3)
    assert copy.recv() == 3
    copy.close()
    with pytest.raises(BrokenPipeError):
        a.send(4)
    a.close()


def test_a_foreign_connection_too():
    a, b = (fastmp.connection.Connection(s.detach()) for s in socket.socketpair())
    copy = pickle.loads(bytes(ForkingPickler.dumps(b)))
    a.send(1)
    assert copy.recv() == 1
    for c in (a, b, copy):
        c.close()


def test_another_packages_reducer_for_connection_leaves_pipes_alone():
    """loky registers one for Connection, which sends the descriptor and nothing else."""
    a, b = fastmp.Pipe()

    class Pickler(pickle.Pickler):
        dispatch_table = {fastmp.connection.Connection: lambda conn: (int, ())}

    with tempfile.TemporaryFile() as file:
        Pickler(file).dump(b)
        file.seek(0)
        copy = pickle.load(file)
    copy.send(1)
    assert a.recv() == 1
    for c in (a, b, copy):
        c.close()


def _stdlib_echo(conn):
    assert isinstance(conn, _std.connection.Connection)
    _echo(conn)


@pytest.mark.parametrize("pipe", [fastmp, _std], ids=["fastmp's pipe", "stdlib's pipe"])
@pytest.mark.parametrize("child", [fastmp, _std], ids=["fastmp's child", "stdlib's child"])
def test_mixed(start_method, pipe, child):
    a, b = pipe.connection.Pipe()
    ctx = child.context._default_context.get_context(start_method)
    process = ctx.Process(target=_stdlib_echo, args=(b,))
    process.start()
    b.close()
    a.send({"a": 1})
    assert a.recv() == {"a": 1}
    if start_method != "fork":
        a.close()
    else:
        process.terminate()
        a.close()
    process.join()


# --- descriptors over the same socket --------------------------------------------------------


def _write_to_what_comes(conn, first):
    if first:
        assert conn.recv() == "first"
    fd = recv_handle(conn)
    os.write(fd, b"written there")
    os.close(fd)
    conn.send("done")
    conn.close()


@pytest.mark.parametrize("first", [False, True])
def test_send_handle(ctx, first):
    a, b = ctx.Pipe()
    process = ctx.Process(target=_write_to_what_comes, args=(b, first))
    process.start()
    b.close()
    if first:
        a.send("first")
    with tempfile.TemporaryFile() as file:
        send_handle(a, file.fileno(), process.pid)
        assert a.recv() == "done"
        file.seek(0)
        assert file.read() == b"written there"
    process.join()
    a.close()


def test_the_bell_is_never_met_by_a_raw_reader():
    a, b = fastmp.Pipe()
    with a, b:
        for i in range(100):
            a.send(i)
            assert b.recv() == i
            os.write(a.fileno(), b"r")
            assert b.poll()
            assert os.read(b.fileno(), 10) == b"r"
            assert not b.poll()


# --- listeners and clients -------------------------------------------------------------------


FAMILIES = ["AF_UNIX", "AF_INET"]
PACKAGES = {"fastmp": fastmp.connection, "stdlib": _std.connection}


@pytest.mark.parametrize("authkey", [None, b"secret"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("client", PACKAGES)
@pytest.mark.parametrize("server", PACKAGES)
def test_listener_and_client(server, client, family, authkey):
    with PACKAGES[server].Listener(family=family, authkey=authkey) as listener:
        answers = []

        def talk():
            with PACKAGES[client].Client(listener.address, authkey=authkey) as conn:
                conn.send([1, "two"])
                answers.append(conn.recv())
                answers.append(conn.recv_bytes())

        thread = threading.Thread(target=talk)
        thread.start()
        with listener.accept() as conn:
            assert type(conn) is PACKAGES[server].Connection
            assert conn.recv() == [1, "two"]
            conn.send({"a": b"x" * 100_000})
            conn.send_bytes(b"")
            with pytest.raises(EOFError):
                conn.recv()
        thread.join()
    assert answers == [{"a": b"x" * 100_000}, b""]


def test_wrong_key():
    with fastmp.connection.Listener(authkey=b"one") as listener:
        errors = []

        def talk():
            try:
                fastmp.connection.Client(listener.address, authkey=b"two")
            except Exception as e:
                errors.append(e)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(fastmp.AuthenticationError):
            listener.accept()
        thread.join()
        assert type(errors[0]) in (fastmp.AuthenticationError, EOFError, ConnectionResetError)


def test_bad_addresses():
    for m in PACKAGES.values():
        with pytest.raises(OSError):
            m.Client("/nowhere/at/all")
        with pytest.raises((TypeError, ValueError)):
            m.Client(3)
        with m.Listener() as listener:
            pass
        with pytest.raises(OSError, match="listener is closed"):
            listener.accept()


SERVER = """
import sys
from {package}.connection import Listener
with Listener(("localhost", 0), authkey=b"k") as listener:
    print(listener.address[1], flush=True)
    with listener.accept() as conn:
        for message in iter(conn.recv, None):
            conn.send(message)
"""


@pytest.mark.parametrize("server,client", [("multiprocessing", "fastmp"), ("fastmp", "stdlib")])
def test_a_server_that_knows_only_one_package(server, client):
    with subprocess.Popen(
        [sys.executable, "-c", SERVER.format(package=server)], stdout=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline())
        with PACKAGES[client].Client(("localhost", port), authkey=b"k") as conn:
            for message in [1, "a" * 70_000, {"k": [None]}]:
                conn.send(message)
                assert conn.recv() == message
            conn.send(None)
        assert process.wait(30) == 0


def test_challenges_are_the_stdlibs():
    for name in ["deliver_challenge", "answer_challenge", "families", "address_type"]:
        assert getattr(fastmp.connection, name) is getattr(_std.connection, name)


# --- killed ----------------------------------------------------------------------------------


def _send_for_ever(conn):
    i = 0
    while True:
        conn.send((i, b"%d" % (i % 10) * (i * 37 % 5000)))
        i += 1


def test_of_a_killed_sender_every_message_is_whole(ctx):
    for round in range(3):
        a, b = ctx.Pipe(round % 2 == 0)
        process = ctx.Process(target=_send_for_ever, args=(b,))
        process.start()
        b.close()
        n = 0
        try:
            while True:
                i, data = a.recv()
                assert i == n and data == b"%d" % (i % 10) * (i * 37 % 5000)
                n += 1
                if n == 1000 * (round + 1):
                    os.kill(process.pid, signal.SIGKILL)
        except EOFError:
            assert n >= 1000 * (round + 1)
        process.join()
        a.close()


def _receive_for_ever(conn):
    conn.send("here")
    while True:
        conn.recv()


def test_a_killed_receiver_breaks_the_pipe(ctx):
    a, b = ctx.Pipe()
    process = ctx.Process(target=_receive_for_ever, args=(b,))
    process.start()
    b.close()
    assert a.recv() == "here"
    for i in range(100):
        a.send(i)
    process.kill()
    process.join()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        a.send(1)
    with pytest.raises((EOFError, ConnectionResetError)):
        a.recv()
    a.close()
