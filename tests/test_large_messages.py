"""Large buffers in messages: copied once, by who sends; their taker's own; never anybody else's.

What is received lies in shared memory under a lease (csrc/channel/extent.c), so the tests hold
views while more messages come, write to both sides, fork and kill.
"""

import contextlib
import os
import pickle
import re
import signal
import threading
import time

import pytest

import fastmp

MIB = 1 << 20
KEPT = 4  # views that a process keeps when their leases have ended
VIEW = re.compile(r"^\S+ rw-p \S+ \S+ \d+ +/memfd:fastmp", re.MULTILINE)


class Block:
    """Pickled with its buffer beside it, as numpy's arrays are."""

    def __init__(self, data):
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol):
        if protocol < 5:
            return Block, (bytes(self.data),)
        return Block, (pickle.PickleBuffer(self.data),)


def block(number, size=2 * MIB):
    return Block(bytearray(pattern(number, size)))


def pattern(number, size=2 * MIB):
    return (b"%08d" % number) * (size // 8)


def views():
    """How many views of leased memory this process has."""
    with open("/proc/self/maps") as maps:
        return len(VIEW.findall(maps.read()))


def send_blocks(put, numbers, size=2 * MIB):
    for number in numbers:
        put(block(number, size))


def check_and_answer(get, conn, count):
    for number in range(count):
        received = get()
        conn.send(received.data == pattern(number) and views() > 0)
        received.data[:8] = b"mine now"


@pytest.fixture(autouse=True)
def views_are_given():
    """Who has written over what he received, as other tests may have, gets copies for a while."""
    queue = fastmp.Queue()
    for _ in range(16):
        queue.put(block(0))
        queue.get()
    queue.close()


# --- what comes out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_blocks_cross_to_a_child_and_nothing_is_copied_there(ctx, kind):
    conn, far = ctx.Pipe()
    if kind == "Pipe":
        reader, writer = ctx.Pipe(False)
        get, put = reader.recv, writer.send
    else:
        queue = getattr(ctx, kind)()
        get, put = queue.get, queue.put
    child = ctx.Process(target=check_and_answer, args=(get, far, 5))
    child.start()
    for number in range(5):
        sent = block(number)
        put(sent)
        sent.data[:] = bytes(len(sent.data))  # after put() it is the sender's again
        assert conn.recv()
    child.join()
    assert child.exitcode == 0


def test_a_received_block_is_writable_and_its_takers_own():
    queue = fastmp.Queue()
    kept = []
    for number in range(12):
        queue.put(block(number))
        received = queue.get()
        received.data[8:16] = b"scribble"
        kept.append(received)
    assert views() == 12
    for number in range(100, 124):
        queue.put(block(number))
    for number, received in enumerate(kept):
        assert received.data[:8] == b"%08d" % number and received.data[8:16] == b"scribble"
        assert received.data[16:] == pattern(number)[16:]
    for number in range(100, 124):
        assert queue.get().data == pattern(number)
    del kept, received
    assert views() <= KEPT
    queue.close()
    del queue
    assert views() == 0


def test_read_only_stays_read_only():
    queue = fastmp.Queue()
    queue.put(Block(pattern(1)))
    received = queue.get()
    assert views() == 1 and received.data.readonly and received.data == pattern(1)
    queue.close()


class Looks:
    """Made of what it is given for its buffer, as whoever pickles in band expects of bytes."""

    def __init__(self, data):
        self.data = data
        self.seen = len(data), bytes(data[:4]), data[-1], bytes(data) == data

    def __reduce_ex__(self, protocol):
        return Looks, (pickle.PickleBuffer(self.data),)


@pytest.mark.parametrize("size", [5, 5000, 2 * MIB])
def test_a_buffer_arrives_as_something_like_bytes(size):
    queue = fastmp.Queue()
    queue.put(Looks(bytearray(b"abcd" + bytes(size - 5) + b"z")))
    received = queue.get()
    assert received.seen == (size, b"abcd", ord("z"), True)
    received.data[0] = 7
    queue.put(Looks(b"abcd" + bytes(size - 5) + b"z"))
    assert queue.get().seen == received.seen
    queue.close()


def test_many_buffers_in_one_message():
    queue = fastmp.Queue()
    sizes = [0, 8, 16, 24, MIB, 800, 3 * MIB, 8]
    queue.put({"blocks": [block(n, size) for n, size in enumerate(sizes)], "text": "x" * 1000})
    received = queue.get()
    assert views() == 1 and received["text"] == "x" * 1000
    for number, (size, one) in enumerate(zip(sizes, received["blocks"], strict=True)):
        assert one.data == pattern(number, size)
    one = received["blocks"][6]
    del received
    assert one.data == pattern(6, 3 * MIB)  # one buffer keeps them all
    queue.close()


def test_a_view_outlives_its_queue():
    queue = fastmp.Queue()
    queue.put(block(1))
    received = queue.get()
    queue.close()
    del queue
    assert received.data == pattern(1)
    received.data[:4] = b"late"
    assert views() == 1


def test_many_at_once_and_more_than_there_are_extents():
    queue = fastmp.Queue()
    assert queue.put_many(block(n, MIB) for n in range(150)) == 150
    kept = []
    while len(kept) < 150:
        kept += queue.get_many(7)
    queue.put_many(block(n, MIB) for n in range(500, 650))
    assert [one.data == pattern(n, MIB) for n, one in enumerate(kept)] == [True] * 150
    kept.clear()
    assert [queue.get().data == pattern(n, MIB) for n in range(500, 650)] == [True] * 150
    queue.close()


def test_what_was_sent_as_an_object_can_be_had_as_bytes():
    reader, writer = fastmp.Pipe(False)
    sender = threading.Thread(target=writer.send, args=(block(3),))
    sender.start()
    assert pickle.loads(reader.recv_bytes()).data == pattern(3)
    sender.join()
    reader.close()
    writer.close()


def test_an_object_that_cannot_be_unpickled_keeps_no_lease():
    queue = fastmp.Queue()
    for _ in range(2 * KEPT):
        queue.put((block(1), Refused()))
        with pytest.raises(LookupError, match="refused"):
            queue.get()
    assert views() <= KEPT and backed(queue) < 5 * MIB
    queue.close()


class Refused:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise LookupError("refused")


def check_rows(size):
    """What is no buffer to pickle and large all the same; equal and of the same type afterwards."""
    text = "grün " * (size // 6)
    yield from (
        b"x" * size,
        "x" * size,
        text,
        bytearray(b"y" * size),
        [b"z" * size, text],
        {1: text},
    )


@pytest.mark.parametrize("size", [MIB - 8, MIB, MIB + 1, 3 * MIB + 5])
def test_bytes_and_text_come_back_as_they_were(size):
    queue, simple, (reader, writer) = fastmp.Queue(), fastmp.SimpleQueue(), fastmp.Pipe(False)
    for thing in check_rows(size):
        for put, get in (
            (queue.put, queue.get),
            (queue.put, lambda: queue.get_many(5)[0]),
            (lambda thing: queue.put_many([1, thing]), lambda: (queue.get(), queue.get())[1]),
            (simple.put, simple.get),
            (writer.send, reader.recv),
            (writer.send, lambda: pickle.loads(reader.recv_bytes())),
        ):
            put(thing)
            received = get()
            assert type(received) is type(thing) and received == thing
    writer.send_bytes(b"q" * size)
    assert reader.recv_bytes() == b"q" * size
    into = bytearray(size + 3)
    writer.send_bytes(memoryview(b"r" * size))
    assert reader.recv_bytes_into(into, 2) == size and into == b"\0\0" + b"r" * size + b"\0"
    for end in (queue, simple, reader, writer):
        end.close()


def test_bytes_need_no_more_memory_than_they_have():
    """In a ring, which doubles, 40 MiB would take 64, and a second message as many again."""
    queue = fastmp.Queue()
    for number in range(4):
        queue.put(pattern(number, 40 * MIB))
        assert queue.get() == pattern(number, 40 * MIB)
        assert backed(queue) <= 41 * MIB
    queue.close()


def test_more_bytes_at_once_than_there_are_extents():
    queue = fastmp.Queue()
    for number in range(150):
        queue.put(pattern(number, MIB + 8))
    assert [queue.get() == pattern(number, MIB + 8) for number in range(150)] == [True] * 150
    queue.close()


def make_block(number):
    return block(number)


def read_and_write(sent):
    number = int(bytes(sent.data[:8]))
    whole = sent.data == pattern(number) and views() > 0
    sent.data[:8] = b"mine now"
    return number, whole


def test_arguments_of_a_pool():
    """The workers get views of the tasks, their own; the blocks here stay as they are."""
    blocks = [block(number) for number in range(20)]
    with fastmp.Pool(2) as pool:
        for chunksize in (1, 3):
            first = pool.map(read_and_write, blocks[:6], chunksize=chunksize)
            assert first == [(number, True) for number in range(6)]
        pool.close()
        pool.join()
    with fastmp.Pool(2) as pool:
        got = list(pool.imap(bytes_of, blocks))
        assert got == [pattern(number) for number in range(20)]
        assert pool.apply(len, (b"x" * (5 * MIB),)) == 5 * MIB
        assert pool.starmap(add, [(pattern(1), pattern(2))]) == [pattern(1) + pattern(2)]
        pool.close()
        pool.join()
    assert [one.data == pattern(number) for number, one in enumerate(blocks)] == [True] * 20


def bytes_of(sent):
    return bytes(sent.data)


def add(one, other):
    return one + other


initial = {}


def set_up(event):
    initial["event"] = event


def be_busy():
    assert initial["event"].wait(30)


def test_large_tasks_that_are_cancelled_give_their_memory_back():
    fork = fastmp.get_context("fork")
    cancelled = fork.Event()
    with fork.Pool(1, set_up, (cancelled,)) as pool:
        busy = pool.apply_async(be_busy)
        waiting = [pool.apply_async(bytes_of, (block(n, 4 * MIB),)) for n in range(6)]
        assert [result.cancel() for result in waiting] == [True] * 6
        cancelled.set()
        assert busy.get(20) is None
        assert pool.apply(bytes_of, (block(7),)) == pattern(7)
        assert backed_in_all() > 20 * MIB
        for _ in range(2000):  # a worker only tries the lock that it takes
            pool.apply(abs, (1,))
            if backed_in_all() < MIB:
                break
        assert backed_in_all() < MIB
        pool.close()
        pool.join()


def test_results_of_a_pool():
    with fastmp.Pool(2) as pool:
        kept = pool.map(make_block, range(20), chunksize=1)
        again = pool.map(make_block, range(100, 120), chunksize=1)
        assert views() > 0
        for number, (first, second) in enumerate(zip(kept, again, strict=True)):
            assert first.data == pattern(number) and second.data == pattern(100 + number)
        pool.close()
        pool.join()


# --- a pipe holds a bounded number of bytes ---------------------------------------------------


def test_a_large_message_fills_a_pipe():
    reader, writer = fastmp.Pipe(False)
    sent = []

    def send():
        for message in (block(1), "small", block(2)):
            writer.send(message)
            sent.append(message)

    sender = threading.Thread(target=send)
    sender.start()
    while len(sent) < 1:
        time.sleep(0.001)
    time.sleep(0.1)
    assert len(sent) == 1  # as in the stdlib, where not even that would have been sent
    assert reader.recv().data == pattern(1)
    assert reader.recv() == "small"
    assert reader.recv().data == pattern(2)
    sender.join()
    reader.close()
    writer.close()


# --- forks and kills --------------------------------------------------------------------------


def in_child(check):
    """The pid of a fork that exits 0 if check() is true."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return pid


def succeeded(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_after_a_fork_each_has_its_own():
    queue = fastmp.Queue()
    ready, go = fastmp.Event(), fastmp.Event()
    queue.put(block(1))
    queue.put(block(2))
    held = [queue.get(), queue.get()]
    held[1].data[:8] = b"by  both"

    def check():
        received, touched = held
        received.data[:8] = b"childish"
        touched.data[8:16] = b"childish"
        ready.set()
        go.wait(30)
        return (
            received.data[:8] == b"childish"
            and received.data[8:] == pattern(1)[8:]
            and touched.data[:16] == b"by  bothchildish"
            and touched.data[16:] == pattern(2)[16:]
        )

    pid = in_child(check)
    ready.wait(30)
    assert held[0].data == pattern(1)
    assert held[1].data[:8] == b"by  both" and held[1].data[8:] == pattern(2)[8:]
    held[0].data[:8] = b"parental"
    held.clear()
    assert views() == 0  # what was there before a fork is not kept
    for number in range(20):  # the child has its leases still
        queue.put(block(number))
        assert queue.get().data == pattern(number)
    go.set()
    assert succeeded(pid)
    queue.close()


def test_a_child_may_drop_what_its_parent_keeps():
    queue = fastmp.Queue()
    queue.put(block(1))
    held = [queue.get()]

    def check():
        held.clear()
        for number in range(10):
            queue.put(block(number))
            if queue.get().data != pattern(number):
                return False
        return True

    assert succeeded(in_child(check))
    for number in range(10):
        queue.put(block(number))
        assert queue.get().data == pattern(number)
    assert held[0].data == pattern(1)
    queue.close()


def hold_for_ever(queue, conn):
    kept = [queue.get() for _ in range(3)]
    conn.send(views())
    time.sleep(600)
    del kept


def backed_in_all():
    """Of all shared memory that this process has a descriptor of."""
    files = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:fastmp" in os.readlink(f"/proc/self/fd/{fd}"):
                stat = os.stat(int(fd))
                files[stat.st_ino] = stat.st_blocks * 512
    return sum(files.values())


def backed(queue):
    return os.stat(queue._share()[0]).st_blocks * 512


def test_what_a_killed_receiver_held_is_used_again(ctx):
    queue = ctx.Queue()
    conn, far = ctx.Pipe()
    for _ in range(4):
        child = ctx.Process(target=hold_for_ever, args=(queue, far))
        child.start()
        send_blocks(queue.put, range(3))
        assert conn.recv() == 3
        child.kill()
        child.join()
    assert backed(queue) < 9 * MIB
    send_blocks(queue.put, range(3))
    assert [queue.get().data == pattern(n) for n in range(3)] == [True] * 3
    queue.close()


def send_and_be_killed(queue, count):
    send_blocks(queue.put, range(count))
    os.kill(os.getpid(), signal.SIGKILL)


def test_messages_of_a_killed_sender_are_whole(ctx):
    queue = ctx.Queue()
    child = ctx.Process(target=send_and_be_killed, args=(queue, 6))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and queue.qsize() == 6
    kept = [queue.get() for _ in range(6)]
    send_blocks(queue.put, range(10, 16))
    assert [one.data == pattern(n) for n, one in enumerate(kept)] == [True] * 6
    assert [queue.get().data == pattern(n) for n in range(10, 16)] == [True] * 6
    queue.close()


def send_for_ever(queue, first):
    number = first
    while True:
        queue.put(block(number, MIB))
        number += 1


@pytest.mark.watchdog(120)
def test_senders_are_killed_again_and_again():
    queue = fastmp.Queue(3)
    kept = []
    for round_ in range(15):
        child = fastmp.Process(target=send_for_ever, args=(queue, round_ * 1000))
        child.start()
        for _ in range(4):
            received = queue.get(timeout=30)
            number = int(bytes(received.data[:8]))
            assert received.data == pattern(number, MIB)
            kept.append((number, received))
        time.sleep(0.001 * round_)
        child.kill()
        child.join()
    for number, received in kept:
        assert received.data == pattern(number, MIB)
    queue.close()


# --- memory -----------------------------------------------------------------------------------


def test_a_hundred_wait_and_their_memory_comes_back():
    queue = fastmp.Queue()
    for number in range(100):
        queue.put(block(number, 4 * MIB))
    assert backed(queue) >= 400 * MIB
    for number in range(100):
        assert queue.get().data == pattern(number, 4 * MIB)
    assert backed(queue) <= 258 * MIB
    for number in range(200):
        queue.put(number)
        queue.get()
    assert backed(queue) <= 2 * MIB
    queue.close()


def test_receiving_takes_few_descriptors():
    queue = fastmp.Queue()
    before = len(os.listdir("/proc/self/fd")) + KEPT
    kept = []
    for number in range(60):
        queue.put(block(number, MIB))
        kept.append(queue.get())
    assert views() == 60 and len(os.listdir("/proc/self/fd")) <= before
    queue.close()
