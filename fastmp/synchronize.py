"""Locks, semaphores, conditions, events and barriers over futexes in shared memory.

Signatures, errors and ``repr`` are those of ``multiprocessing.synchronize``, whose classes these
derive from; the native types of ``fastmp._core`` come first and do the work.
"""

from . import _core, _std
from ._handles import check_start_method, for_child

SEM_VALUE_MAX = _std.synchronize.SEM_VALUE_MAX


def _is_fork(ctx):
    if ctx is None:
        ctx = _std.context._default_context.get_context()
    return ctx.get_start_method() == "fork"


def _rebuild(cls, state, handle, offset, size):
    obj = cls.__new__(cls)
    obj._attach((handle.detach(), offset, size))
    obj.__dict__.update(state)
    return obj


class _Shared:
    """What lies in one shared slot, and how it is handed to a spawned process."""

    _is_fork_ctx = False

    def __reduce__(self):
        check_start_method(self, self._is_fork_ctx)
        fd, offset, size = self._share()
        state = {k: v for k, v in self.__dict__.items() if k != "_is_fork_ctx"}
        return _rebuild, (type(self), state, for_child(fd), offset, size)


class Semaphore(_Shared, _core.Semaphore, _std.synchronize.Semaphore):
    """A counting semaphore.

    >>> Semaphore(value=1, *, ctx)

    OSError when *value* is negative or larger than ``SEM_VALUE_MAX``.
    """

    def __init__(self, value=1, *, ctx):
        self._is_fork_ctx = _is_fork(ctx)
        self._set(value, SEM_VALUE_MAX)


class BoundedSemaphore(Semaphore, _std.synchronize.BoundedSemaphore):
    """A semaphore that refuses, by ValueError, to be released above its first value."""

    def __init__(self, value=1, *, ctx):
        self._is_fork_ctx = _is_fork(ctx)
        self._set(value, value)

    __repr__ = _std.synchronize.BoundedSemaphore.__repr__


class Lock(_Shared, _core.Lock, _std.synchronize.Lock):
    """A lock that any thread of any process may release.

    A hold by ``with lock`` is taken over by the next waiter when its process is killed; so is one
    by ``acquire()`` when *robust* is true.  ``abandoned`` then tells the new holder.
    """

    def __init__(self, *, ctx=None, robust=False):
        self._is_fork_ctx = _is_fork(ctx)
        self._robust = robust


class RLock(_Shared, _core.RLock, _std.synchronize.RLock):
    """A lock that its owner, one thread of one process, may acquire again and must release."""

    def __init__(self, *, ctx):
        self._is_fork_ctx = _is_fork(ctx)


class Condition(_std.synchronize.Condition):
    pass


class Event(_std.synchronize.Event):
    pass


class Barrier(_std.synchronize.Barrier):
    pass


_std.inherit(globals())
