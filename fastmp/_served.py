"""The fork server: what it loads and compiles so that its children need not, and its loop.

The address, the requests and the answers are the stdlib's, for children of both packages.  So is
the server itself where its ``main()`` is not known step by step, as with 3.14, whose clients
authenticate themselves.

The loop holds few objects and touches few: what it writes to after a fork is copied, page by page,
and so is what the child writes to before it is another process's.

A request is handed to a spare child (``_spare.py``), forked after the request before, and if there
is none to one that is forked for it; the client is told its pid in either case.  The server holds
the client's pipe from the request until it has reaped the child, so if the server is killed, at
whatever line, the client reads the end of the pipe, and a spare that of its socket.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import atexit
import errno
import gc
import os
import select
import signal
import sys
import threading
import warnings

from . import (  # noqa: F401  (most children need them)
    _child,
    _core,
    _spare,
    _started,
    _workers,
    connection,
    forkserver,
    process,
    queues,
    resource_tracker,
    spawn,
    synchronize,
    util,
)
from ._fork import fork

__all__ = ["begin"]

# What the known versions of the stdlib's main() refer to, 3.10-3.13.
_MAIN = frozenset("""
    process current_process _inheriting spawn import_main_path __import__ ImportError util
    _close_stdin os pipe set_blocking signal SIGCHLD SIGINT SIG_IGN items set_wakeup_fd socket
    AF_UNIX selectors DefaultSelector getsockname _forkserver _forkserver_address register
    EVENT_READ select read SystemExit waitpid WNOHANG ChildProcessError pop waitstatus_to_exitcode
    write_signed BrokenPipeError close warnings warn accept reduction recvfds MAXFDS_TO_SEND len
    RuntimeError format fork extend values _serve_one Exception sys excepthook exc_info stderr flush
    _exit OSError errno ECONNABORTED
""".split())  # fmt: skip  # noqa: SIM905
_LATER = frozenset("""
    fileobj atexit _clear _exit_function _run_exitfuncs _flush_std_streams
""".split())  # fmt: skip  # noqa: SIM905
_SERVE_ONE = frozenset("""
    signal set_wakeup_fd items os close _forkserver _forkserver_alive_fd resource_tracker
    _resource_tracker _fd _inherited_fds dup spawn _main
""".split())  # fmt: skip  # noqa: SIM905

_state = forkserver._forkserver
_MOST_BYTES = _socket.CMSG_SPACE(4 * (forkserver.MAXFDS_TO_SEND + 1))
_runs_atexit = "atexit" in forkserver.main.__code__.co_names  # in a child: since 3.13


def begin(main_path):
    """Change the stdlib's server before it starts; *main_path* is what its children will run."""
    if not _started.is_known(spawn):
        return
    spawn._main = _started.main
    _child.prepare()
    _spare.prepare()
    if main_path is not None:
        _started.compile_main(main_path)
    if _names(forkserver.main) - _LATER == _MAIN and _names(forkserver._serve_one) == _SERVE_ONE:
        forkserver.main = main


def _names(function):
    return frozenset(function.__code__.co_names)


def main(listener_fd, alive_r, preload, main_path=None, sys_path=None):
    """The stdlib's ``main()``: run the fork server."""
    if preload:
        _preload(preload, main_path)
        util._flush_std_streams()  # of which each child would have a copy
    util._close_stdin()
    listener = _socket_of(listener_fd)
    _state._forkserver_address = listener.getsockname()
    _Server(listener, alive_r).serve()


def _preload(names, main_path):
    if "__main__" in names and main_path is not None:
        process.current_process()._inheriting = True
        try:
            spawn.import_main_path(main_path)
        finally:
            del process.current_process()._inheriting
    for name in names:
        try:
            __import__(name)
        except ImportError:
            pass


def _awake(*unused):
    """The handler of SIGCHLD: without one, the signal would not be written to the wakeup fd."""


class _Server:
    def __init__(self, listener, alive_r):
        self._listener = listener
        self._alive_r = alive_r
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wakes, False)
        self._before = [
            (number, _signal.signal(number, handler))
            for number, handler in ((signal.SIGCHLD, _awake), (signal.SIGINT, _signal.SIG_IGN))
        ]
        signal.set_wakeup_fd(self._wakes)
        self._clients = {}  # where to send the exit code, by pid
        self._spare = None
        self._wants_spare = False  # from a request on, until one was forked or could not be

    def serve(self):
        gc.collect()  # so that there is little for a child to traverse soon
        events = select.poll()
        # What has ended first: a spare that was killed is not to be given a request.
        for fd in self._woken, self._listener.fileno(), self._alive_r:
            events.register(fd, select.POLLIN)
        try:
            while True:
                ready = events.poll(0 if self._wants_spare else None)
                if not ready:  # nobody waits for what the fork would hold up
                    self._fork_spare()
                for fd, _ in ready:
                    self._handle(fd)
        finally:
            self._end_spare()  # it would end by itself, but after the server

    def _handle(self, fd):
        if fd == self._woken:
            self._reap()
        elif fd == self._alive_r:  # there is no client any more
            assert os.read(fd, 1) == b"", "Not at EOF?"
            raise SystemExit
        else:
            self._accept()

    def _reap(self):
        os.read(self._woken, 65536)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            client = self._clients.pop(pid, None)
            if client is not None:
                _tell(client, os.waitstatus_to_exitcode(status))
                os.close(client)
            elif self._spare is not None and pid == self._spare.pid:  # it was killed
                self._spare.close()
                self._spare = None
            else:
                warnings.warn(f"forkserver: waitpid returned unexpected pid {pid}", stacklevel=1)

    def _accept(self):
        try:
            fd, _ = self._listener._accept()
        except OSError as e:
            if e.errno == errno.ECONNABORTED:
                return
            raise
        connected = _socket_of(fd)
        fds = _receive(connected)
        connected.close()
        if len(fds) >= 4:
            self._start(*fds)
        else:  # somebody who has died on the way
            _close(fds)

    def _start(self, data, client, *fds):
        """Have a child that reads from *data*; the other *fds* are its."""
        spare = self._take_spare()
        try:
            pid = spare.pid if spare is not None else self._fork_child(data, client, fds)
        except OSError:  # the client will see its pipe end
            _close([data, client, *fds])
            return
        self._clients[pid] = client
        _tell(client, pid)
        if spare is not None:  # only now: it may keep this processor for as long as it runs
            spare.give((data, *fds))
        os.close(data)
        _close(fds)
        # A spare stays what the server was; other threads, of a preloaded module, may change that.
        self._wants_spare = threading.active_count() == 1

    def _take_spare(self):
        """The spare, if there is one and it lives: the signal of its end may not have come yet."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.has_ended():
            spare.close()
            return None
        return spare

    def _fork_child(self, data, client, fds):
        pid = fork()
        if pid == 0:
            _exit_after(self._be_child, data, client, fds)
        return pid

    def _be_child(self, data, client, fds):
        self._leave()
        os.close(client)
        self._restore_signals()
        return _run(data, *fds)

    def _fork_spare(self):
        self._wants_spare = False
        if self._spare is not None:
            return
        try:
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError:
            return
        try:
            pid = fork()
        except OSError:  # then the next child is forked when somebody asks for it
            ours.close()
            theirs.close()
            return
        if pid == 0:
            ours.close()
            _exit_after(self._be_spare, theirs)
        theirs.close()
        self._spare = _spare.Spare(pid, ours)

    def _be_spare(self, server):
        """Wait for a request, and be its child; ignore meanwhile what the server ignores."""
        self._leave()
        _spare.rehearse()
        fds = _receive(server)
        if not fds:  # the server has ended
            os._exit(0)
        self._restore_signals()
        server.close()
        return _run(*fds)

    def _end_spare(self):
        if self._spare is not None:
            self._spare.end()

    def _leave(self):
        """Give up, after a fork, what is the server's, but for what it does at signals."""
        signal.set_wakeup_fd(-1)
        if _runs_atexit:
            atexit._clear()
            atexit.register(util._exit_function)
        self._listener.close()
        _close([self._alive_r, self._woken, self._wakes])
        _close(self._clients.values())

    def _restore_signals(self):
        for number, handler in self._before:
            _signal.signal(number, handler)


def _run(data, *fds):
    """Run the process that *data* brings; its exit code."""
    _state._forkserver_alive_fd, resource_tracker._resource_tracker._fd, *rest = fds
    _state._inherited_fds = rest
    return _started.main(data, os.dup(data))


def _exit_after(function, *args):
    """Exit, in a process just forked, with what *function* returns."""
    code = 1
    try:
        code = function(*args)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        try:
            if _runs_atexit:
                atexit._run_exitfuncs()
        finally:
            os._exit(code)


def _socket_of(fd):
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)


def _receive(connected):
    """The descriptors that a client has sent; none if it has not."""
    try:
        _, messages, _, _ = connected.recvmsg(1, _MOST_BYTES, _socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return []
    for level, kind, data in messages:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            return memoryview(data)[: len(data) // 4 * 4].cast("i").tolist()
    return []


def _close(fds):
    for fd in fds:
        os.close(fd)


def _tell(client, number):
    """Write a pid or an exit code to a client, who may be gone."""
    try:
        os.write(client, number.to_bytes(8, sys.byteorder, signed=True))
    except BrokenPipeError:
        pass
