"""The resource tracker's descriptor, without waking the tracker."""

import select

from . import resource_tracker

__all__ = ["getfd", "is_alive"]

_tracker = resource_tracker._resource_tracker


def is_alive():
    """Whether a tracker runs. The stdlib writes to it to find out, which it then has to read."""
    if _tracker._fd is None:
        return False
    poll = select.poll()
    poll.register(_tracker._fd, 0)
    return not poll.poll(0)  # an error: nobody reads, or it is closed


def getfd():
    """``resource_tracker.getfd()``: of one that runs."""
    return _tracker._fd if is_alive() else resource_tracker.getfd()
