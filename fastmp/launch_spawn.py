"""Starts a process by running a fresh interpreter.

The command line and what the child is sent are the stdlib's.  In the parent a pidfd takes the place
of the pipe whose end the child holds, and any child of the child with it; and the pipe to the child
has no reader but the child, so that a child that dies early cannot leave the parent writing.
"""

import os

from . import _core, _install, _started, _std, _tracker, spawn, util
from ._handles import pickle_process

__all__ = ["Popen"]


class Popen(_core.Popen, _std.popen_spawn_posix.Popen):
    """The handle on a spawned process."""

    def _launch(self, process_obj):
        tracker_fd = _tracker.getfd()
        self._fds.append(tracker_fd)
        data = pickle_process(self, process_obj)
        ours, theirs = [], []
        try:
            self._open_pipe(ours, theirs)
            self._open_pipe(theirs, ours)
            (sentinel, to_child), (held_by_child, from_parent) = ours, theirs
            command = spawn.get_command_line(tracker_fd=tracker_fd, pipe_handle=from_parent)
            if _started.is_known(spawn):
                command = _install.spawn_command(command)
            self._fds += [from_parent, held_by_child]
            self.pid = util.spawnv_passfds(spawn.get_executable(), command, self._fds)
            self.sentinel = sentinel
        finally:
            self.finalizer = util.Finalize(self, util.close_fds, ours)
            util.close_fds(*theirs)
        try:
            self._use_pidfd()
            with open(to_child, "wb", closefd=False) as file:
                file.write(data)
        except BrokenPipeError:
            pass  # it has ended already, and join() will tell how
        except BaseException:  # a child that has not got all it needs
            self.kill()
            self.wait()
            raise

    @staticmethod
    def _open_pipe(readers, writers):
        r, w = os.pipe()
        readers.append(r)
        writers.append(w)

    def _use_pidfd(self):
        pidfd = _core.pidfd_open(self.pid)
        if pidfd is None:
            return
        try:
            os.dup2(pidfd, self.sentinel, inheritable=False)
        finally:
            os.close(pidfd)
        self.pidfd = self.sentinel
