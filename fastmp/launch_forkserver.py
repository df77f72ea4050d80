"""Starts a process by asking the fork server for one.

The server is its parent: it waits for it, and sends the exit code through the sentinel, a pipe.  A
pidfd beside it makes sure that signals reach this process and no other.
"""

import os

from . import _core, _std, util

__all__ = ["Popen"]


class Popen(_core.Popen, _std.popen_forkserver.Popen):
    """The handle on a process that the fork server has started."""

    def _launch(self, process_obj):
        self._is_served = True
        super()._launch(process_obj)
        pidfd = _core.pidfd_open(self.pid)
        if pidfd is not None:
            self.pidfd = pidfd
            self.finalizer = util.Finalize(self, _close, (self.finalizer, pidfd))


def _close(finalizer, pidfd):
    finalizer()
    os.close(pidfd)
