"""A child of the fork server that was forked before anybody asked for it.

The fork, and the copying of the pages that every child writes to first, then take place beside the
child before it, and a request costs a message.

``Spare`` is the server's handle: the pid, which is not reaped while it is held, and one end of a
pair of sockets, through which the spare gets the descriptors of the request.  The spare has the
other, and nobody else either: so when the server ends, however that is, the spare reads the end
and ends too.  A spare that is killed before it has been handed a request is forgotten; after, it
is a child that was killed, whose pid and exit code are the client's.  The descriptors of a request
are meanwhile the socket's, and are closed with it.
"""

import _socket
import os
import signal
import sys
from array import array

from . import _child, _started, context, process

__all__ = ["Spare", "prepare", "rehearse"]

_pickled = b""  # what a parent may send, of a process that calls len()


class Spare:
    """A process that waits for a request."""

    def __init__(self, pid, socket):
        self.pid = pid
        self._socket = socket

    def give(self, fds):
        """Send the descriptors of a request, with which the process is a child, and forget it.

        It is killed if they cannot be sent: too many are on their way.  Its client will be told.
        """
        rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", fds)
        try:
            self._socket.sendmsg([b"x"], [rights], _socket.MSG_NOSIGNAL)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)  # which may be what has happened to it before
        self.close()

    def has_ended(self):
        """Ask, and reap the process if it has; somebody else in the server may have done so."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def close(self):
        """Forget the process: it has a request, or was reaped."""
        self._socket.close()

    def end(self):
        """Kill and reap the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.close()


def prepare():
    """Make, in the server, what rehearse() needs."""
    global _pickled
    import pickle

    # Not by __init__(), which counts processes.
    self = object.__new__(context.ForkServerProcess)
    vars(self).update(_identity=(1,), _config={}, _parent_pid=1, _parent_name="", _popen=None)
    vars(self).update(_closed=False, _target=len, _args=(7,), _kwargs={}, _name="")
    current = process.current_process()
    # What the server has, or what a request sets in any case. Less than a pipe holds, whatever its
    # size.
    data = {
        "log_to_stderr": False,
        "authkey": bytes(current.authkey),
        "name": current.name,
        "sys_path": [],
        "sys_argv": [""],
        "orig_dir": process.ORIGINAL_DIR,
        "start_method": "forkserver",
        "init_main_from_path": __file__,
    }
    _started.compile_main(__file__, "pass")
    _pickled = pickle.dumps(data) + pickle.dumps(self)


def rehearse():
    """Touch what a child is going to touch, so that its pages are copied before there is a request.

    These are the first steps of ``_started.main()``, on what changes nothing and is thrown away.
    """
    mains = {name: sys.modules[name] for name in ("__main__", "__mp_main__")}
    before = sys.path, sys.argv
    try:
        reading, writing = os.pipe()
    except OSError:  # no descriptors, or no memory for them
        return
    os.write(writing, _pickled)
    os.close(writing)
    try:
        self = _started.receive(reading)
        child, _ = _child.prepare(self)
        child.rehearse(self)
    finally:
        sys.path, sys.argv = before
        sys.modules.update(mains)
        _started.forget_main()
