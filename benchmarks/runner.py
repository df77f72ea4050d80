"""A side of a row, in a process of its own.

The process is forked from one without threads that has imported no peer, and leads a session: what
it starts, however it ends, goes with it. It is told how many operations to do, and answers with
what they took and how often it slept in them.
"""

import atexit
import gc
import multiprocessing.util
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

from .rows import Unable

ENDS = set()  # the measuring process's ends of its sockets
OPENING = 60.0  # seconds that a side may take to set up, and to leave


class RowTimeout(Exception):
    """A side took longer than it may."""


class Failed(Exception):
    """What went wrong in a side's process, as text."""


@dataclass(frozen=True)
class Sample:
    """What `count` operations took in all, and how often the process went to sleep meanwhile."""

    count: int
    value: float
    sleeps: int


class Runner:
    """The measuring process's handle on a side's process."""

    def __init__(self, way, side):
        self.side = side
        self._socket, far = socket.socketpair()
        ENDS.add(self._socket)
        with far:
            self._pid = os.fork()
            if self._pid == 0:
                _serve(way, side, far)
        self._stopped = False
        try:
            self._receive(OPENING)
        except BaseException:
            self.kill()
            raise
        self._pause(True)

    def sample(self, count, seconds):
        """Do `count` operations in at most so many seconds."""
        self._pause(False)
        _send(self._socket, count)
        value, sleeps = self._receive(seconds)
        self._pause(True)
        return Sample(count, value, sleeps)

    def close(self):
        """Let it end what it has begun; it has to, and may still find something wrong."""
        try:
            self._pause(False)
            _send(self._socket, None)
            self._receive(OPENING)
        finally:
            self.kill()

    def kill(self):
        """End the process and whatever it started."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self._pid, signal.SIGKILL)  # not yet the leader of its group
        os.waitpid(self._pid, 0)
        ENDS.discard(self._socket)
        self._socket.close()

    def _pause(self, stop):
        if self.side.restless and stop != self._stopped:
            os.killpg(self._pid, signal.SIGSTOP if stop else signal.SIGCONT)
            self._stopped = stop

    def _receive(self, seconds):
        try:
            kind, answer = _receive(self._socket, time.monotonic() + seconds, seconds)
        except EOFError:
            raise Failed("its process died") from None
        if kind == "unable":
            raise Unable(answer)
        if kind == "failed":
            raise Failed(answer)
        return answer


def _send(sock, thing):
    data = pickle.dumps(thing)
    sock.sendall(struct.pack("<I", len(data)) + data)


def _receive(sock, deadline=None, seconds=None):
    data = b""
    wanted = 4
    while len(data) < wanted:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([sock], [], [], left)[0]:
                raise RowTimeout(f"not done after {seconds:g} s")
        piece = sock.recv(wanted - len(data))
        if not piece:
            raise EOFError
        data += piece
        if len(data) == 4 and wanted == 4:
            wanted += struct.unpack("<I", data)[0]
    return pickle.loads(data[4:])


def _serve(way, side, sock):
    """The side's process, from the fork to its end."""
    code = 1
    try:
        os.setsid()
        atexit._clear()  # what the measuring process has to do at its end
        for end in ENDS:  # open here too, they would keep the other sides from seeing it end
            end.close()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _be_a_program(side)
        # The stdlib's pools and queues start threads, and rows fork beside them.
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        _answer(way, side, sock)
        code = 0
    except Unable as error:
        _send(sock, ("unable", str(error)))
    except (EOFError, BrokenPipeError):
        os.killpg(0, signal.SIGKILL)  # nobody measures any more
    except BaseException as error:
        if os.environ.get("BENCHMARKS_TRACEBACKS"):
            traceback.print_exc()
        _send(sock, ("failed", f"{type(error).__name__}: {error}".splitlines()[0]))
    finally:
        os._exit(code)


def _be_a_program(side):
    """A spawned process, and a forkserver, run their parent's main module: not this command."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if side.is_package:
        main.__file__ = str(Path(__file__).with_name("program.py"))
        os.environ["BENCHMARKS_PACKAGE"] = side.module


def _answer(way, side, sock):
    with way(side) as sample:
        gc.collect()
        _send(sock, ("ready", None))
        while (count := _receive(sock)) is not None:
            before = _sleeps()
            value = sample(count)
            _send(sock, ("done", (value, _sleeps() - before)))
    del sample  # and with it what it holds, so that it goes before the process
    gc.collect()
    atexit._run_exitfuncs()  # those of packages that this process has imported
    multiprocessing.util._exit_function()
    _send(sock, ("closed", None))


def _sleeps():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
