"""Starts a process by asking the fork server for one.

The server is its parent: it waits for it, and sends the exit code through the sentinel, a pipe.  A
pidfd beside it makes sure that signals reach this process and no other.
"""

import os
import socket

from . import _core, _std, _tracker, forkserver, reduction, util
from ._handles import pickle_process

__all__ = ["Popen"]

_server = forkserver._forkserver


class Popen(_core.Popen, _std.popen_forkserver.Popen):
    """The handle on a process that the fork server has started."""

    def _launch(self, process_obj):
        self._is_served = True
        data = pickle_process(self, process_obj)
        self.sentinel, to_child = _connect(self._fds)
        # The child reads from the other end, and watches it for the end of its parent.
        self.finalizer = util.Finalize(self, util.close_fds, (to_child, self.sentinel))
        with open(to_child, "wb", closefd=False) as file:
            file.write(data)
        self.pid = forkserver.read_signed(self.sentinel)
        pidfd = _core.pidfd_open(self.pid)
        if pidfd is not None:
            self.pidfd = pidfd
            self.finalizer = util.Finalize(self, _close, (self.finalizer, pidfd))


def _close(finalizer, pidfd):
    finalizer()
    os.close(pidfd)


def _connect(fds):
    """``forkserver.connect_to_new_process()``, shorter where a server and a tracker run."""
    if not _is_plain() or len(fds) + 4 >= forkserver.MAXFDS_TO_SEND:
        return forkserver.connect_to_new_process(fds)
    opened = []
    try:
        opened += os.pipe()
        opened += os.pipe()
        ours, status, data, to_child = opened
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(_server._forkserver_address)
            fixed = [data, status, _server._forkserver_alive_fd, _tracker.getfd()]
            reduction.sendfds(client, [*fixed, *fds])
    except BaseException:
        util.close_fds(*opened)
        raise
    util.close_fds(data, status)
    return ours, to_child


def _is_plain():
    """Whether a server runs that this process has started, and whom it need not convince."""
    if _server._forkserver_pid is None or getattr(_server, "_forkserver_authkey", None):
        return False
    try:
        ended = os.waitid(os.P_PID, _server._forkserver_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return ended is None and _tracker.is_alive()
