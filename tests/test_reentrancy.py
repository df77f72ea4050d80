"""Calls that come back into the object they are in: another thread's, a handler's, a method's of
what they were given. Nothing crashes, hangs, or is lost."""

import os
import queue
import signal
import sys
import textwrap
import threading
import time

import pytest

import fastmp
from fastmp import _child, _core
from tests.support.programs import environment, run
from tests.support.waiting import Background, until

FORK = fastmp.get_context("fork")
Broken = threading.BrokenBarrierError


def survives(program, tmp_path):
    """Run a program that once crashed, in a process of its own."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    outcome = run([script], environment())
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


# --- made anew while in use --------------------------------------------------------------------


def test_an_array_that_only_its_iterator_holds(tmp_path):
    program = """
        import gc, threading, time, fastmp
        lock = fastmp.Lock()
        iterator = iter(fastmp.Array("i", [7], lock=lock))
        lock.acquire()
        got = []
        first = threading.Thread(target=lambda: got.append(next(iterator)))
        first.start()
        time.sleep(1)
        got.append(next(iterator, "end"))
        gc.collect()
        others = [fastmp.Array("i", [1]) for _ in range(100)]
        lock.release()
        first.join()
        print(got)
    """
    assert survives(program, tmp_path) == "['end', 7]\n"


def test_an_event_made_anew_wakes_nobody_who_waits_for_the_old_one():
    event = FORK.Event()
    waiter = Background(event.wait, 3)
    time.sleep(1)
    event.__init__(ctx=FORK)
    others = [FORK.Event() for _ in range(50)]  # which would take its place, were it free
    for other in others:
        other.set()
    event.set()
    assert waiter.result() is False
    assert event.wait(0)


def test_a_barrier_made_anew_while_a_party_waits():
    barrier = FORK.Barrier(5)
    party = Background(barrier.wait, 1.5)
    until(lambda: barrier.n_waiting == 1)
    barrier.__init__(1, ctx=FORK)
    others = [FORK.Barrier(1).wait() for _ in range(50)]
    assert others == [0] * 50
    with pytest.raises(Broken):
        party.result()
    assert barrier.wait() == 0


def test_a_condition_made_anew_while_somebody_waits():
    condition = FORK.Condition()
    lock = condition._lock

    def wait():
        with lock:
            return condition.wait(1.5), lock._semlock._is_mine()

    waiter = Background(wait)
    until(lambda: condition._waiting() == 1)
    condition.__init__(ctx=FORK)
    with condition:
        condition.notify_all()
    assert waiter.result() == (False, True)


def test_a_condition_whose_lock_lost_its_methods():
    condition = FORK.Condition(FORK.Semaphore(1))
    with condition:
        del condition.release
        with pytest.raises(AttributeError, match="release"):
            condition.wait(0.1)
        assert condition._waiting() == 0


def test_a_barrier_whose_action_goes_while_its_truth_is_asked():
    class Action:
        def __bool__(self):
            del barrier._action
            return True

        def __call__(self):
            acted.append(1)

    acted = []
    barrier = FORK.Barrier(1, Action())
    assert barrier.wait() == 0
    assert acted == [1]


def test_a_barrier_whose_action_goes_while_others_come():
    acted = []
    barrier = FORK.Barrier(2, lambda: acted.append(1))
    first = Background(barrier.wait)
    until(lambda: barrier.n_waiting == 1)
    second = FORK.Barrier(1)
    assert second.wait() == 0
    barrier._action = None
    assert barrier.wait() in (0, 1)
    assert first.result() in (0, 1)
    assert acted == []  # the last to come had none


# --- queues --------------------------------------------------------------------------------------


class Refuses:
    def __init__(self, kind=LookupError):
        self.kind = kind

    def __reduce__(self):
        return _refuse, (self.kind,)


def _refuse(kind):
    raise kind("refused")


class FailsToPickle:
    def __reduce__(self):
        raise LookupError("not to be pickled")


class Asks:
    """Something that takes from the queue while it is unpickled, and then fails."""

    def __reduce__(self):
        return _ask, ()


def _ask():
    Asks.got.append(Asks.queue.get_many(3))
    raise LookupError("asked")


def test_what_was_stashed_in_between_is_not_lost():
    q = FORK.Queue()
    q.put_many([1, Asks(), 2, 3])
    q.put_many([4, Refuses(), 5])
    Asks.queue, Asks.got = q, []
    assert q.get_many(4) == [1]
    assert Asks.got == [[4]]
    assert q.qsize() == 5
    Asks.queue = FORK.Queue()
    Asks.queue.put_many("abc")
    with pytest.raises(LookupError, match="asked"):
        q.get()
    assert q.get_many(9) == [2, 3]
    with pytest.raises(LookupError, match="refused"):
        q.get_many(9)
    assert q.get_many(9) == [5]
    assert q.empty()
    Asks.queue = None


def test_what_was_stashed_before_another_failure_is_not_lost():
    q = FORK.Queue()
    q.put_many([1, Refuses(), 2, Refuses(), 3])
    assert q.get_many(9) == [1]
    with pytest.raises(LookupError):
        q.get_many(9)
    assert q.get_many(9) == [2]
    with pytest.raises(LookupError):
        q.get_many(9)
    assert q.get_many(9) == [3]
    assert q.empty()


def test_stashed_objects_count():
    q = FORK.Queue()
    q.put_many([1, Refuses(), 2, 3])
    assert q.get_many(9) == [1]
    assert (q.qsize(), q.empty(), q._reader.poll(0)) == (3, False, True)
    with pytest.raises(LookupError):
        q.get()
    assert (q.qsize(), q.empty(), q._reader.poll(0)) == (2, False, True)
    assert q.get_many(1) == [2]
    assert q.get() == 3
    assert (q.qsize(), q.empty(), q._reader.poll(0)) == (0, True, False)


def test_stashed_objects_are_not_a_childs():
    q = FORK.Queue()
    q.put_many([1, Refuses(), 2])
    assert q.get_many(9) == [1]
    child = FORK.Process(target=lambda: os._exit(q.qsize()))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert q.qsize() == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_is_raised_at_once_and_loses_nothing_else(kind):
    q = FORK.Queue()
    q.put_many([1, 2, Refuses(kind), 3])
    with pytest.raises(kind):
        q.get_many(9)
    assert q.get_many(9) == [1, 2, 3]
    q.put_many([Refuses(), 1, Refuses(kind), 2])
    with pytest.raises(LookupError):
        q.get_many(9)
    with pytest.raises(kind):
        q.get_many(9)
    assert q.get_many(9) == [1, 2]


def test_put_many_keeps_its_promise_before_what_cannot_be_pickled():
    q = fastmp.queues.Queue(ctx=FORK, strict=True)
    with pytest.raises(LookupError, match="not to be pickled"):
        q.put_many([1, 2, FailsToPickle(), 3])
    assert q.get_many(9) == [1, 2]


def test_put_many_tells_both_what_went_wrong_and_what_there_was_no_room_for():
    def items():
        yield from (1, 2, 3)
        raise LookupError("no more")

    q = FORK.Queue(2)
    with pytest.raises(queue.Full) as full:
        q.put_many(items(), block=False)
    assert full.value.args == (2,)
    assert isinstance(full.value.__context__, LookupError)
    assert q.get_many(9) == [1, 2]


def test_put_many_takes_an_iterables_own_full_for_what_it_is():
    def items():
        yield 1
        raise queue.Full("mine")

    q = FORK.Queue()
    with pytest.raises(queue.Full, match="mine"):
        q.put_many(items())
    assert q.get_many(9) == [1]


def test_put_many_does_not_wait_for_room_after_an_interrupt():
    def items():
        yield from (1, 2, 3)
        raise KeyboardInterrupt

    q = FORK.Queue(2)
    with pytest.raises(KeyboardInterrupt):
        q.put_many(items())
    assert q.get_many(9) == [1, 2]


# --- connections ---------------------------------------------------------------------------------


class Closes:
    """A timeout, or an offset, that closes the connection."""

    def __init__(self, connection):
        self.connection = connection

    def __float__(self):
        self.connection.close()
        return 0.2

    def __index__(self):
        self.connection.close()
        return 0

    def __reduce__(self):
        self.connection.close()
        return int, ()


@pytest.mark.parametrize("foreign", [False, True])
def test_a_connection_that_its_arguments_close(foreign):
    def ends():
        a, b = FORK.Pipe()
        if not foreign:
            return a, b
        pair = [fastmp.connection.Connection(os.dup(end.fileno())) for end in (a, b)]
        a.close()
        b.close()
        return pair

    for use in (
        lambda conn, arg: conn.poll(arg),
        lambda conn, arg: conn.send_bytes(b"abc", arg),
        lambda conn, arg: conn.recv_bytes(arg),
        lambda conn, arg: conn.recv_bytes_into(bytearray(9), arg),
        lambda conn, arg: conn.send(arg),
    ):
        conn, other = ends()
        with other, pytest.raises(OSError, match="handle is closed"):
            use(conn, Closes(conn))


def test_a_connection_is_not_made_anew_while_a_thread_is_inside():
    conn, other = FORK.Pipe()
    foreign = fastmp.connection.Connection(os.dup(conn.fileno()))
    conn.close()
    inside = Background(foreign.recv)
    time.sleep(1)
    foreign.close()
    fd = os.dup(other.fileno())
    with pytest.raises(ValueError, match="has a handle already"):
        foreign.__init__(fd)
    other.send_bytes(b"")
    other.close()
    with pytest.raises((OSError, EOFError)):
        inside.result()
    os.fstat(fd)
    os.close(fd)


# --- pools ---------------------------------------------------------------------------------------


def _sleep_and_say(seconds):
    time.sleep(seconds)
    return seconds


def _kill_me(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("first, second", [(1.5, 0.3), (1, 1.5)])
def test_a_signals_handler_that_waits_for_a_result(first, second):
    got = []

    def handler(signum, frame):
        got.append(pool.apply_async(_sleep_and_say, (second,)).get(20))

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with FORK.Pool(2) as pool:
            result = pool.apply_async(_sleep_and_say, (first,))
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert result.get(20) == first
            assert got == [second]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_signals_handler_that_waits_for_a_worker_that_is_killed():
    got = []

    def handler(signum, frame):
        lost = pool.apply_async(_kill_me, (0,))
        while not lost.ready():
            time.sleep(0.01)
        got.append(lost.successful())
        with pytest.raises(fastmp.WorkerLostError):
            pool.apply(_kill_me, (0,))

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with FORK.Pool(2) as pool:
            result = pool.apply_async(_sleep_and_say, (1.5,))
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert result.get(20) == 1.5
            assert got == [False]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# --- arguments ------------------------------------------------------------------------------------


def test_integers_that_are_no_int():
    handle = _core.Popen()
    handle.pid = os.getpid()
    for call in (
        lambda: handle._send_signal(2**32),
        lambda: handle._send_signal(2**70),
        lambda: setattr(handle, "returncode", 2**32 + 1),
        lambda: _core.pidfd_open(2**32 + os.getpid()),
        lambda: handle._fork(lambda: 2**32, _core.Child(), None, None),
        lambda: _core.wait([2**32]),
    ):
        with pytest.raises(OverflowError):
            call()
    with pytest.raises(OSError):
        handle._fork(lambda: -1, _core.Child(), None, None)
    for arguments in (), (os.fork,), (os.fork, None, None, None), (os.fork, _core.Child(), None):
        with pytest.raises(TypeError):
            handle._fork(*arguments)


def test_a_child_whose_fork_raises_does_not_go_on_in_its_parents_code(capfd):
    def fork():
        pid = os.fork()
        if pid == 0:
            sys.unraisablehook = sys.__unraisablehook__  # pytest's keeps it
            raise ValueError("in the child")
        return pid

    handle = _core.Popen()
    handle._fork(fork, _core.Child(), None, None)
    assert handle.wait() == 1
    assert "ValueError: in the child" in capfd.readouterr().err


def test_a_child_that_nobody_has_filled(capfd):
    child = _core.Child()
    for call in (
        lambda: child.bootstrap(None, 0, None),
        lambda: child.bootstrap(None, 0, (False, None, None)),
        lambda: child.rehearse(None),
    ):
        with pytest.raises(TypeError, match="filled"):
            call()
    handle = _core.Popen()
    handle._fork(os.fork, child, None, None)
    assert handle.wait() == 1
    with pytest.raises(TypeError, match="prepare"):
        _child.prepare()[0].bootstrap(None, 0, ())


def test_native_locks_take_no_stray_keywords():
    assert _core.Lock(robust=True)._robust
    for make in (_core.Lock, _core.RLock, _core.Semaphore):
        with pytest.raises(TypeError):
            make(strange=1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no buffers of Python classes")
def test_an_interrupt_in_a_buffer():
    class Buffer:
        def __init__(self, error):
            self.error = error

        def __buffer__(self, flags):
            raise self.error

    array = FORK.Array("i", 2)
    with pytest.raises(KeyboardInterrupt):
        array[:] = Buffer(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        FORK.RawArray("i", type("Sized", (Buffer,), {"__len__": lambda self: 2})(KeyboardInterrupt))
    with pytest.raises(ValueError, match="same size"):  # as of any object without items
        array[:] = Buffer(BufferError)
    assert array[:] == [0, 0]
    assert array.get_lock().acquire(False)
    array.get_lock().release()
