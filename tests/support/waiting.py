"""Waiting for what a test needs, and interrupting what waits."""

import contextlib
import os
import signal
import threading
import time


def until(condition, seconds=30):
    """Wait until *condition()* is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.002)


def is_asleep(pid):
    """Whether the process's main thread sleeps in a futex: it waits for a lock, event, ..."""
    with open(f"/proc/{pid}/wchan") as file:
        return "futex" in file.read()


class Interrupted(Exception):
    """Raised by the handler of `interruption()`."""


@contextlib.contextmanager
def interruption(after=0.1):
    """The main thread gets `Interrupted` from a signal handler after so many seconds, once."""

    def handler(signum, frame):
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Background:
    """Calls a function in a thread; `result()` joins it and gives what it returned or raised."""

    def __init__(self, function, *args):
        self._outcome = None
        self._thread = threading.Thread(target=self._run, args=(function, *args))
        self._thread.start()

    def _run(self, function, *args):
        try:
            self._outcome = function(*args), None
        except Exception as e:
            self._outcome = None, e

    def is_running(self):
        return self._thread.is_alive()

    def result(self):
        self._thread.join(30)
        assert not self._thread.is_alive(), "still waiting"
        value, error = self._outcome
        if error is not None:
            raise error
        return value


def kill(process):
    """SIGKILL, and reap."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


def finish(*processes):
    """Join processes that have to end well."""
    for process in processes:
        process.join(30)
        assert process.exitcode == 0, process
        process.close()
