"""The fork server: what it loads and compiles so that its children need not, and its loop.

The address, the requests and the answers are the stdlib's, for children of both packages.  So is
the server itself where its ``main()`` is not known step by step, as with 3.14, whose clients
authenticate themselves.

The loop holds few objects and touches few: what it writes to after a fork is copied, page by page,
and so is what the child writes to before it is another process's.
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
import warnings

from . import (  # noqa: F401  (most children need them)
    _child,
    _core,
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

    def serve(self):
        gc.collect()  # so that there is little for a child to traverse soon
        events = select.poll()
        listener_fd = self._listener.fileno()
        for fd in listener_fd, self._alive_r, self._woken:
            events.register(fd, select.POLLIN)
        while True:
            for fd, _ in events.poll():
                if fd == self._woken:
                    self._reap()
                elif fd == listener_fd:
                    self._accept()
                else:  # there is no client any more
                    assert os.read(fd, 1) == b"", "Not at EOF?"
                    raise SystemExit

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
        """Fork a child that reads from *data*; the other *fds* are its."""
        try:
            pid = fork()
        except OSError:  # the client will see its pipe end
            _close([data, client, *fds])
            return
        if pid == 0:
            self._be_child(data, client, fds)
        _tell(client, pid)
        self._clients[pid] = client
        os.close(data)
        _close(fds)

    def _be_child(self, data, client, fds):
        code = 1
        try:
            self._leave(client)
            _state._forkserver_alive_fd, resource_tracker._resource_tracker._fd, *rest = fds
            _state._inherited_fds = rest
            if _runs_atexit:
                atexit._clear()
                atexit.register(util._exit_function)
            code = _started.main(data, os.dup(data))
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            try:
                if _runs_atexit:
                    atexit._run_exitfuncs()
            finally:
                os._exit(code)

    def _leave(self, client):
        """Give up, in a child, what is the server's."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before:
            _signal.signal(number, handler)
        self._listener.close()
        _close([self._alive_r, self._woken, self._wakes, client])
        _close(self._clients.values())


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
