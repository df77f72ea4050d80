"""Starts a process by running a fresh interpreter.

What the child is given, and how, is the stdlib's; in the parent a pidfd takes the place of the pipe
whose end the child holds, and any child of the child with it.
"""

import os

from . import _core, _std

__all__ = ["Popen"]


class Popen(_core.Popen, _std.popen_spawn_posix.Popen):
    """The handle on a spawned process."""

    def _launch(self, process_obj):
        try:
            super()._launch(process_obj)
            pidfd = _core.pidfd_open(self.pid)
            if pidfd is not None:
                try:
                    os.dup2(pidfd, self.sentinel, inheritable=False)
                finally:
                    os.close(pidfd)
                self.pidfd = self.sentinel
        except BaseException:
            if self.pid:  # a child that did not get all it needs
                self.kill()
                self.wait()
            raise
