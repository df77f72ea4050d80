"""What comes from others is not believed: bytes on a socket, handles, shared memory.

The floors below Python are fuzzed (tests/fuzz); here is what a program sees of it.
"""

import fcntl
import os
import pickle
import random
import resource
import socket
import stat
import struct
import threading
from multiprocessing import connection as stdlib_connection

import pytest

import fastmp
from fastmp import _core, connection, shared_memory

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def pair():
    """A Connection, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    return connection.Connection(ours.detach()), theirs


def header(length):
    return struct.pack("!i", length)


def long_header(length):
    return struct.pack("!iQ", -1, length)


# --- streams ---------------------------------------------------------------------------------


def garbage(rng):
    """A few pieces of what a peer may write, few of them messages."""
    for _ in range(rng.randrange(1, 6)):
        choice = rng.randrange(6)
        if choice == 0:
            yield rng.randbytes(rng.randrange(40))
        elif choice == 1:
            yield header(rng.randrange(-(2**31), 2**31))
        elif choice == 2:
            yield long_header(rng.randrange(2**64))
        elif choice == 3:
            body = bytearray(pickle.dumps({"a": [1, 2.5, None], "b": "text" * 20}))
            # Only what unpickles to plain values, or not at all: no globals can come of this.
            body = body[: rng.randrange(len(body))]
            yield header(len(body)) + body
        elif choice == 4:
            yield bytes([rng.choice([0xD1, 0xD2, 0x00, 0xFF])])
        else:
            body = rng.randbytes(rng.randrange(8)).replace(b"c", b"").replace(b"\x93", b"")
            yield header(len(body)) + body


@pytest.mark.parametrize("role", ["", "_accept_rings", "_offer_rings"])
def test_a_damaged_stream_ends_in_an_exception_or_a_message(role):
    rng = random.Random(role)
    ends = 0
    for _ in range(150):
        conn, peer = pair()
        with conn, peer:
            if role:
                getattr(conn, role)()
            for piece in garbage(rng):
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            for _ in range(6):
                try:
                    rng.choice([conn.recv, conn.recv_bytes, conn.poll])()
                except (EOFError, OSError):  # OSError: "got end of file during message"
                    ends += 1
                    break
                except Exception as error:  # of unpickling: the stream goes on
                    assert not isinstance(error, (SystemError, AssertionError))
    assert ends > 50


@pytest.mark.parametrize("head", [header(2**31 - 1), long_header(2**40), long_header(2**62)])
def test_memory_is_taken_as_a_message_comes_not_as_its_header_says(head):
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    conn, peer = pair()
    with conn, peer:
        peer.sendall(head + b"some of it")
        peer.close()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 256 * 2**20, limits[1]))
        try:
            with pytest.raises(OSError, match="got end of file during message"):
                conn.recv_bytes()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_message_above_what_is_taken_at_once_comes_whole():
    message = random.Random(1).randbytes(2**20) * 50
    conn, peer = pair()
    with conn, peer:
        writer = threading.Thread(target=peer.sendall, args=(header(len(message)) + message,))
        writer.start()
        got = conn.recv_bytes()
        writer.join()
    assert len(got) == len(message) and got == message


@pytest.mark.parametrize("role", ["", "_offer_rings"])
@pytest.mark.parametrize("sent", [header(5)[:1], header(5)[:3], header(5) + b"123"])
def test_a_truncated_message_is_said_to_be_one(role, sent):
    conn, peer = pair()
    with conn, peer:
        if role:
            getattr(conn, role)()
        peer.sendall(sent)
        peer.close()
        with pytest.raises(OSError, match="got end of file during message"):
            conn.recv_bytes()


@pytest.mark.parametrize("head", [header(257), header(2**31 - 1), long_header(2**63)])
def test_an_oversize_header_is_refused_before_its_message_is_read(head):
    conn, peer = pair()
    with conn, peer:
        peer.sendall(head)
        with pytest.raises(OSError, match="bad message length"):
            conn.recv_bytes(256)
        with pytest.raises(OSError):  # and the connection is read no more
            conn.recv_bytes(256)


# --- authentication --------------------------------------------------------------------------

AUTH_FAILURES = (fastmp.AuthenticationError, EOFError, OSError)
CLIENTS = {
    "fastmp": connection.Client,
    "stdlib": stdlib_connection.Client,
}


def accept(listener, results):
    try:
        with listener.accept() as conn:
            results.append(conn.recv())
    except AUTH_FAILURES as error:
        results.append(type(error))  # its traceback holds the connection


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("key", [b"wrong", b"", b"right" * 100])
def test_a_wrong_key_is_refused(client, key):
    results = []
    with connection.Listener(authkey=b"right") as listener:
        thread = threading.Thread(target=accept, args=(listener, results))
        thread.start()
        with pytest.raises(AUTH_FAILURES):
            CLIENTS[client](listener.address, authkey=key).send("in")
        thread.join()
    assert issubclass(results[0], AUTH_FAILURES)


@pytest.mark.parametrize("head", [header(2**31 - 1), long_header(2**62), header(-7), b"\xd2\xd1"])
@pytest.mark.parametrize("with_rings", [False, True])
def test_a_hostile_answer_to_the_challenge_is_refused(head, with_rings):
    """Descriptors that come with it are closed: nobody offers rings who has not proved the key."""
    results = []
    before = len(os.listdir("/proc/self/fd"))
    with connection.Listener(authkey=b"right") as listener:
        thread = threading.Thread(target=accept, args=(listener, results))
        thread.start()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(listener.address)
            sock.recv(1000)  # the challenge
            if with_rings:
                ring, bell = (queue := fastmp.SimpleQueue())._share()
                socket.send_fds(sock, [head], [ring, ring])
                del queue, bell
            else:
                sock.sendall(head)
        thread.join()
    assert issubclass(results[0], AUTH_FAILURES)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_remote_manager_refuses_wrong_keys_and_goes_on():
    from fastmp.managers import BaseManager

    class Remote(BaseManager):
        pass

    Remote.register("value", callable=lambda: [1, 2, 3])
    with Remote(
        address=("localhost", 0), authkey=b"right", ctx=fastmp.get_context("fork")
    ) as server:
        for key in (b"wrong", b"", b"right!"):
            with pytest.raises(AUTH_FAILURES):
                Remote(address=server.address, authkey=key).connect()
        with socket.create_connection(server.address) as sock:
            sock.sendall(long_header(2**60))
        good = Remote(address=server.address, authkey=b"right")
        good.connect()
        assert list(good.value()._getvalue()) == [1, 2, 3]


# --- who may touch it ------------------------------------------------------------------------


def memfds():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:fastmp"):
                yield fd
        except FileNotFoundError:
            pass  # the directory's own


def test_all_shared_memory_is_sealed():
    ctx = fastmp.get_context("fork")
    objects = [
        ctx.Lock(), ctx.Semaphore(2), ctx.Condition(), ctx.Event(), ctx.Barrier(500),
        ctx.Queue(), ctx.SimpleQueue(), ctx.JoinableQueue(), ctx.Value("i"), ctx.Array("d", 5000),
        *ctx.Pipe(),
    ]  # fmt: skip
    with ctx.Pool(2) as pool:
        assert pool.apply(len, ["four"]) == 4
        fds = list(memfds())
        assert len(fds) >= 7
        for fd in fds:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 0)
        pool.terminate()
        pool.join()
    for obj in objects:
        getattr(obj, "close", int)()


def test_what_has_a_name_is_the_users_alone():
    segment = shared_memory.SharedMemory(create=True, size=100)
    try:
        mode = os.stat(f"/dev/shm/{segment.name.lstrip('/')}").st_mode
        assert stat.S_IMODE(mode) == 0o600
    finally:
        segment.close()
        segment.unlink()
    with connection.Listener(family="AF_UNIX") as listener:
        directory = os.path.dirname(listener.address)
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700


# --- handles ---------------------------------------------------------------------------------


def sealed(size, content=b""):
    fd = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.pwrite(fd, content, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def header_page(kind):
    """Of a segment of that kind (csrc/base/layout.h); nothing else is in it."""
    return struct.pack("<QIIQ", 0x31706D7473616600, 1, kind, 4096)


#: Descriptors of what is no memory that fastmp made for the purpose.
FILES = {
    "null": lambda: os.open("/dev/null", os.O_RDWR),
    "directory": lambda: os.open("/", os.O_RDONLY),
    "socket": lambda: socket.socket().detach(),
    "empty": lambda: sealed(0),
    "zeros": lambda: sealed(65536),
    "not known": lambda: sealed(65536, header_page(9)),
    "too short": lambda: sealed(100, header_page(1) + header_page(3)),
    "unsealed": lambda: os.memfd_create("other"),
    "not open": lambda: 1000,
}


def event_fd():
    return os.dup(0)


#: Each object from a handle, which takes its descriptors over.
ATTACH = {
    "Lock": lambda fd: _core.Lock()._attach((fd(), 64, 64)),
    "RLock": lambda fd: _core.RLock()._attach((fd(), 64, 64)),
    "Semaphore": lambda fd: _core.Semaphore(1)._attach((fd(), 64, 512)),
    "Condition": lambda fd: _core.Condition()._attach((fd(), 64, 1024)),
    "Event": lambda fd: _core.Event()._attach((fd(), 64, 64)),
    "Barrier": lambda fd: _core.Barrier(2)._attach((fd(), 64, 1024)),
    "Block": lambda fd: _core.Block._attach((fd(), 64, 64), 64),
    "Queue": lambda fd: _core.Queue((fd(), event_fd())),
    "SimpleQueue": lambda fd: _core.SimpleQueue((fd(), event_fd())),
    "Connection": lambda fd: connection._PipeEnd._attach(event_fd(), fd(), -1, True, True),
    "TaskBoard": lambda fd: _core.TaskBoard((fd(), event_fd(), fd(), event_fd(), fd(), 64, 512)),
}
NAMED_ERRORS = (fastmp.CorruptionError, OSError)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ATTACH)
def test_a_handle_of_something_else_is_refused(name, file):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NAMED_ERRORS):
        ATTACH[name](FILES[file])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("offset", [-64, 0, 1, 63, 65536, 2**62, -(2**63)])
@pytest.mark.parametrize("size", [-1, 0, 7, 64, 2**62])
def test_a_handle_that_points_elsewhere_is_refused(offset, size):
    lock = _core.Lock()
    fd, _, _ = lock._share()
    for attach in (_core.Lock()._attach, _core.Semaphore(1)._attach, _core.Barrier(2)._attach):
        with pytest.raises(NAMED_ERRORS):
            attach((os.dup(fd), offset, size))
    with pytest.raises(NAMED_ERRORS):
        _core.Block._attach((os.dup(fd), offset, size), 64)
    assert lock.acquire() is True
    lock.release()


def test_an_end_whose_rings_are_none_leaves_no_descriptor():
    """As it is unpickled: what was received so far is closed."""

    class Handle:
        def __init__(self, fd):
            self.fd = fd

        def detach(self):
            return self.fd

    before = len(os.listdir("/proc/self/fd"))
    for rings in ([FILES["null"]()], [FILES["zeros"](), FILES["null"]()]):
        with pytest.raises(NAMED_ERRORS):
            handles = [Handle(fd) for fd in rings] + [None] * (2 - len(rings))
            connection.rebuild_connection(Handle(os.dup(0)), True, True, *handles)
    assert len(os.listdir("/proc/self/fd")) == before


# --- shared memory ---------------------------------------------------------------------------

RECORDS = 4096  # where the units begin: csrc/channel/ring.h


def page(queue):
    return os.pread(queue._share()[0], RECORDS, 0)


def words_that_change():
    """The offsets of the words that puts and takes change: positions, not the locks there."""
    queue = fastmp.SimpleQueue()
    pages = [page(queue)]
    for _ in range(3):
        queue.put(1)
        pages.append(page(queue))
        queue.get()
        pages.append(page(queue))
    words = [struct.unpack("<512Q", one) for one in pages]
    changed = {i * 8 for i in range(512) if len({one[i] for one in words}) == len(words) // 2 + 1}
    assert 2 <= len(changed) <= 4
    return sorted(changed)


def damaged(queue, offset, value):
    os.pwrite(queue._share()[0], struct.pack("<Q", value), offset)


@pytest.mark.parametrize("value", [0, 2**64 - 1, 2**63, 9 << 8 | 99, 2**40 << 8 | 7, 64 << 8 | 9])
def test_a_damaged_record_is_an_exception_and_the_program_goes_on(value):
    queue, other = fastmp.SimpleQueue(), fastmp.SimpleQueue()
    queue.put([1, 2, "three"])
    damaged(queue, RECORDS, value)
    with pytest.raises((fastmp.CorruptionError, pickle.UnpicklingError, ValueError)):
        queue.get()
    other.put("whole")
    assert other.get() == "whole"


def test_random_damage_to_a_queue_is_an_exception_or_a_wrong_message():
    """Anywhere but in the locks: who seems to hold one is waited for."""
    rng = random.Random(6)
    positions = words_that_change()
    raised = 0
    for _ in range(300):
        queue = fastmp.Queue()
        for i in range(5):
            queue.put((i, "text", 2.5))
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice([RECORDS + rng.randrange(0, 256), rng.choice(positions)])
            damaged(queue, at, rng.choice([rng.randrange(2**64), rng.randrange(2**10), 2**32 - 1]))
        for call in (queue.get, queue.get_nowait, queue.qsize, queue.empty, queue.get_nowait):
            try:
                call(timeout=0.01) if call == queue.get else call()
            except Exception as error:
                assert not isinstance(error, (SystemError, AssertionError))
                raised += 1
        try:
            queue.put_nowait("more")
        except (OSError, MemoryError, fastmp.queues.Full):
            raised += 1
        queue.close()
    assert raised > 300
