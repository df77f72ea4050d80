"""Starts a process by fork.

The sentinels are pidfds: one of the child in the parent, one of the parent in the child.  Where the
kernel has none, the stdlib's launcher does it with its pipes, and the handle is the same.
"""

import os

from . import _core, _std, util

__all__ = ["Popen"]

_classic = _std.popen_fork

# Since 3.13 a child runs its own atexit handlers; before, _bootstrap() calls the exit function.
_atexit = getattr(_classic, "atexit", None)


class Popen(_core.Popen, _classic.Popen):
    """The handle on a forked process."""

    def _launch(self, process_obj):
        parent = _core.pidfd_open(os.getpid())
        if parent is None:
            _classic.Popen._launch(self, process_obj)
            return
        try:
            self.pid = os.fork()
        except BaseException:
            os.close(parent)
            raise
        if self.pid == 0:
            _run_child(process_obj, parent)
        os.close(parent)
        try:
            self.sentinel = open_sentinel(self)
        except BaseException:
            self.kill()
            self.wait()
            raise
        self.finalizer = util.Finalize(self, util.close_fds, (self.sentinel,))


def _run_child(process_obj, parent_sentinel):
    code = 1
    try:
        if _atexit is not None:
            _atexit._clear()
            _atexit.register(util._exit_function)
        code = process_obj._bootstrap(parent_sentinel=parent_sentinel)
    finally:
        # Whatever happens, the child must not go on in its parent's code.
        try:
            if _atexit is not None:
                _atexit._run_exitfuncs()
        finally:
            os._exit(code)


def open_sentinel(popen):
    """Open a descriptor that is readable once *popen*'s process, a child, has ended."""
    fd = _core.pidfd_open(popen.pid)
    if fd is not None:
        popen.pidfd = fd
        return fd
    # It has ended and somebody has waited for it: SIGCHLD is ignored, or has such a handler.
    fd, write_end = os.pipe()
    os.close(write_end)
    return fd
