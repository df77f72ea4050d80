"""Starts a process by fork.

The sentinels are pidfds: one of the child in the parent, one of the parent in the child.  Where the
kernel has none they are pipes, as the stdlib's.
"""

from . import _child, _core, _std
from ._fork import fork

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Popen"]

_fork: "Callable[[], int]" = fork

if "_fork_intent" in _std.popen_fork.Popen._launch.__code__.co_names:  # 3.14
    from . import resource_tracker

    def _fork_for_tracked():
        """fork(), of which the resource tracker is told that the child may go on using it."""
        intent = resource_tracker._fork_intent
        intent.preserve_fd = True
        try:
            return fork()
        finally:
            intent.preserve_fd = False

    _fork = _fork_for_tracked


_runs_atexit = hasattr(_std.popen_fork, "atexit")  # in a child: since 3.13

_original_init = _std.popen_fork.Popen.__init__
_is_known = frozenset(_original_init.__code__.co_names) == frozenset(
    ["util", "_flush_std_streams", "returncode", "finalizer", "_launch"]
)


class Popen(_core.Popen, _std.popen_fork.Popen):
    """The handle on a forked process."""

    close = _core.Popen._close

    def __init__(self, process_obj):
        if not _is_known:
            _original_init(self, process_obj)
            return
        _child.flush_std_streams()  # or the child would write what they hold again
        self._launch(process_obj)

    def _launch(self, process_obj):
        child, known = _child.prepare(process_obj)
        child.runs_atexit = _runs_atexit
        self._fork(_fork, child, process_obj, known)

    @property
    def finalizer(self):
        """Closes the descriptors, as the stdlib's; they also go with the last reference."""
        return self.close

    @finalizer.setter
    def finalizer(self, value):
        pass  # the stdlib's constructor has None to say
