"""How much is in flight in a pipe, who waits for whom, and what ends such a wait."""

import os
import pickle
import signal
import socket
import threading
import time

import pytest

import fastmp
import fastmp.connection

LARGER = 5 << 20  # than what a pipe takes at once


def pattern(size):
    return bytes(range(256)) * (size // 256)


@pytest.fixture(params=[True, False], ids=["duplex", "oneway"])
def pipe(request):
    """(reader, writer)"""
    r, w = fastmp.Pipe(request.param)
    with r, w:
        yield r, w


class Interrupted(Exception):
    pass


# --- what is in flight -----------------------------------------------------------------------


def fill(w, size=10_000):
    """Sends until the pipe is full, from a thread; returns (thread, counter)."""
    sent = []

    def work():
        try:
            while True:
                w.send_bytes(bytes(size))
                sent.append(size)
        except OSError as e:
            sent.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    seen = -1
    while len(sent) != seen or seen * size <= 500_000:
        seen = len(sent)
        time.sleep(0.3)
    return thread, sent


def test_a_full_pipe_blocks_until_somebody_reads(pipe):
    r, w = pipe
    thread, sent = fill(w)
    n = len(sent)
    assert 500_000 < n * 10_000 <= 1 << 20
    for _ in range(n):
        r.recv_bytes()
    deadline = time.monotonic() + 20
    while len(sent) == n and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(sent) > n
    r.close()
    thread.join(20)
    assert isinstance(sent[-1], BrokenPipeError)


def test_one_message_larger_than_the_limit_goes_through(pipe):
    r, w = pipe
    w.send_bytes(pattern(LARGER))
    assert r.recv_bytes() == pattern(LARGER)


def test_a_full_nonblocking_pipe_raises():
    r, w = fastmp.Pipe()
    os.set_blocking(w.fileno(), False)
    with r, w, pytest.raises(BlockingIOError):
        for _ in range(10_000):
            w.send_bytes(bytes(1000))


# --- a larger message to another process -----------------------------------------------------


class Buffer:
    """Pickled with its bytes beside, which go into an extent."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.data),)


def _interrupt(*args):
    raise Interrupted


def _send_and_tell(conn, tell, others, how):
    for other in others:
        other.close()
    signal.signal(signal.SIGUSR1, _interrupt)
    try:
        if how == "bytes":
            conn.send_bytes(pattern(LARGER))
        else:
            conn.send(Buffer(pattern(LARGER)) if how == "buffer" else pattern(LARGER))
        tell.send("sent")
    except (Interrupted, OSError) as e:
        tell.send(type(e))


@pytest.fixture(params=[True, False], ids=["duplex", "oneway"])
def start_sender(request, ctx):
    """Starts one: (where its message arrives, where it tells how that went, the process)."""
    started = []

    def start(how="bytes"):
        here, there = ctx.Pipe(request.param)
        told, tell = ctx.Pipe(False)
        # A forked child has our end too, until it closes it.
        args = (there, tell, (here,), how)
        process = ctx.Process(target=_send_and_tell, args=args)
        process.start()
        there.close()
        tell.close()
        assert here.poll(20)
        started.append((here, told, process))
        return started[-1]

    yield start
    for here, told, process in started:
        here.close()
        told.close()
        process.join(20)
        assert process.exitcode is not None


@pytest.mark.parametrize("how", ["bytes", "object", "buffer"])
def test_its_sender_goes_on_when_it_is_taken(start_sender, how):
    here, told, process = start_sender(how)
    assert not told.poll(0.3)
    assert process.is_alive()
    got = here.recv_bytes() if how == "bytes" else here.recv()
    assert bytes(got.data if how == "buffer" else got) == pattern(LARGER)
    assert told.recv() == "sent"


def test_its_sender_is_told_that_nobody_will_take_it(start_sender):
    here, told, _ = start_sender()
    here.close()
    assert issubclass(told.recv(), BrokenPipeError | ConnectionResetError)


def test_a_signal_handlers_exception_ends_its_senders_wait(start_sender):
    here, told, process = start_sender()
    os.kill(process.pid, signal.SIGUSR1)
    assert told.recv() is Interrupted
    assert here.recv_bytes() == pattern(LARGER)


def test_it_is_whole_when_its_sender_is_killed(start_sender):
    here, _, process = start_sender()
    process.kill()
    process.join()
    assert here.recv_bytes() == pattern(LARGER)
    with pytest.raises(EOFError):
        here.recv_bytes()


def _leave(conn, others):
    for other in others:
        other.close()
    conn.poll(None)
    os.kill(os.getpid(), signal.SIGKILL)


def test_its_sender_is_told_that_its_taker_was_killed(ctx):
    here, there = ctx.Pipe()
    process = ctx.Process(target=_leave, args=(there, (here,)))
    process.start()
    there.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        here.send_bytes(pattern(LARGER))
    process.join()
    here.close()


def test_the_sender_of_a_nonblocking_end_does_not_wait_for_its_taker():
    here, there = fastmp.Pipe()
    os.set_blocking(there.fileno(), False)
    pid = os.fork()
    if pid == 0:
        here.close()
        there.send_bytes(pattern(LARGER))
        os._exit(0)
    there.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert here.recv_bytes() == pattern(LARGER)
    here.close()


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["recv", "poll", "send", "foreign recv", "foreign send"])
def test_a_signal_handlers_exception_ends_the_wait(kind):
    if kind.startswith("foreign"):
        pair = socket.socketpair()
        a, b = (fastmp.connection.Connection(s.detach()) for s in pair)
    else:
        a, b = fastmp.Pipe()
    calls = []

    def handler(*args):
        calls.append(args)
        if len(calls) == 2:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        with pytest.raises(Interrupted):
            if "recv" in kind:
                a.recv()
            elif kind == "poll":
                a.poll(30)
            else:
                while True:
                    a.send_bytes(bytes(100_000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(calls) == 2  # the first was survived (PEP 475)
    if kind == "recv":
        b.send(1)
        assert a.recv() == 1
    a.close()
    b.close()


def _interrupt_me(kind, ready, result):
    a, b = fastmp.Pipe()
    try:
        ready.send(os.getpid())
        if kind == "recv":
            a.recv()
        while True:
            a.send_bytes(bytes(100_000))
    except KeyboardInterrupt:
        result.send("interrupted")
    b.close()


@pytest.mark.parametrize("kind", ["recv", "send"])
def test_ctrl_c(ctx, kind):
    here, there = ctx.Pipe()
    process = ctx.Process(target=_interrupt_me, args=(kind, there, there))
    process.start()
    pid = here.recv()
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    assert here.poll(20)
    assert here.recv() == "interrupted"
    process.join()
    here.close()
    there.close()
