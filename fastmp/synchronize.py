"""Locks, semaphores, conditions, events and barriers over futexes in shared memory.

Signatures, errors and ``repr`` are those of ``multiprocessing.synchronize``, whose classes these
derive from; the native types of ``fastmp._core`` come first and do the work.
"""

from . import _core, _std
from ._handles import check_start_method, for_child

RECURSIVE_MUTEX = _std.synchronize.RECURSIVE_MUTEX
SEMAPHORE = _std.synchronize.SEMAPHORE
SEM_VALUE_MAX = _core.SEM_VALUE_MAX


def _slot_for_child(obj, native):
    """What a spawned process needs to find the shared part of *obj*, which lies in *native*."""
    check_start_method(obj, obj._is_fork_ctx)
    fd, offset, size = native._share()
    return for_child(fd), offset, size


def _attach(native, slot):
    handle, offset, size = slot
    native._attach((handle.detach(), offset, size))
    return native


def _uses_fork(ctx):
    if ctx is None:
        ctx = _std.context._default_context.get_context()
    return ctx.get_start_method() == "fork"


class SemLock(_core.Guard, _std.synchronize.SemLock):
    """Base of locks and semaphores: ``_semlock`` is the native object, as in the stdlib.

    ValueError when *kind* is neither ``RECURSIVE_MUTEX`` nor ``SEMAPHORE``.
    """

    # With nothing in an instance's dictionary the interpreter finds methods faster.
    __slots__ = ("_is_fork_ctx", "_semlock")

    def __init__(self, kind, value, maxvalue, *, ctx):
        if kind not in (RECURSIVE_MUTEX, SEMAPHORE):
            raise ValueError("unrecognized kind")
        recursive = kind == RECURSIVE_MUTEX
        self._set_up(_core.RLock() if recursive else _core.Semaphore(value, maxvalue), ctx)

    def _set_up(self, semlock, ctx):
        self._semlock = semlock
        self._is_fork_ctx = _uses_fork(ctx)
        self._make_methods()

    def _make_methods(self):
        self._bind(self._semlock)

    def locked(self):
        """Whether ``acquire()`` would have to wait."""
        return self._semlock.locked()

    def __getstate__(self):
        return type(self._semlock), _slot_for_child(self, self._semlock)

    def __setstate__(self, state):
        native, slot = state
        self._semlock = _attach(native(), slot)
        self._is_fork_ctx = False
        self._make_methods()


class Semaphore(SemLock, _std.synchronize.Semaphore):
    """A counting semaphore.  OSError when *value* is negative or above ``SEM_VALUE_MAX``."""

    def __init__(self, value=1, *, ctx):
        SemLock.__init__(self, SEMAPHORE, value, SEM_VALUE_MAX, ctx=ctx)


class BoundedSemaphore(Semaphore, _std.synchronize.BoundedSemaphore):
    """A semaphore that refuses, by ValueError, to be released above its first value."""

    def __init__(self, value=1, *, ctx):
        SemLock.__init__(self, SEMAPHORE, value, value, ctx=ctx)

    __repr__ = _std.synchronize.BoundedSemaphore.__repr__


class Lock(SemLock, _std.synchronize.Lock):
    """A lock that any thread of any process may release.

    A hold by ``with lock`` is taken over by the next waiter when its process is killed; so is one
    by ``acquire()`` when *robust* is true.  ``abandoned`` then tells the new holder.
    """

    def __init__(self, *, ctx=None, robust=False):
        self._set_up(_core.Lock(robust), ctx)

    @property
    def abandoned(self):
        """Whether the current hold was taken over from a process that died holding it."""
        return self._semlock.abandoned


class RLock(SemLock, _std.synchronize.RLock):
    """A lock that its owner, one thread of one process, may acquire again and must release."""

    def __init__(self, *, ctx):
        self._set_up(_core.RLock(), ctx)

    abandoned = Lock.abandoned


class _Count:
    """One of the semaphores by which the stdlib's Condition counts its waiters, to be looked at."""

    def __init__(self, value):
        self._value = value
        self._semlock = self

    def get_value(self):
        return self._value()

    _get_value = get_value


class Condition(_core.Condition, _std.synchronize.Condition):
    """What to wait for under a lock: *lock*, or an RLock of its own.

    ``notify(n)`` wakes the *n* that have waited longest and are alive, and waits for nobody.  With
    more than 64 waiters it may wake more than *n*, as ``threading`` allows.
    """

    __slots__ = ("_is_fork_ctx",)

    def __init__(self, lock=None, *, ctx):
        self._lock = lock or ctx.RLock()
        self._create()
        self._is_fork_ctx = _uses_fork(ctx)
        self._make_methods()

    def _make_methods(self):
        self._bind(self._lock)

    def __getstate__(self):
        return self._lock, _slot_for_child(self, self)

    def __setstate__(self, state):
        self._lock, slot = state
        _attach(self, slot)
        self._is_fork_ctx = False
        self._make_methods()

    @property
    def _sleeping_count(self):
        return _Count(self._waiting)

    @property
    def _woken_count(self):
        return _Count(lambda: 0)

    _wait_semaphore = _woken_count


class Event(_core.Event, _std.synchronize.Event):
    """A flag to wait for.

    ``set()`` releases everybody who waits, also when ``clear()`` follows at once, and waits for
    nobody itself.
    """

    __slots__ = ("_is_fork_ctx",)

    def __init__(self, *, ctx):
        self._create()
        self._is_fork_ctx = _uses_fork(ctx)

    def __getstate__(self):
        return _slot_for_child(self, self)

    def __setstate__(self, state):
        _attach(self, state)
        self._is_fork_ctx = False

    def __repr__(self):
        set_status = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {set_status}>"


class Barrier(_core.Barrier, _std.synchronize.Barrier):
    """Where *parties* wait for each other; the last to come calls *action* before all go on.

    A party that is killed while it waits breaks the barrier for the others.  ValueError when
    *parties* is below 1 or above 1,048,576.
    """

    def __init__(self, parties, action=None, timeout=None, *, ctx):
        self._create(parties)
        self._action = action
        self._timeout = timeout
        self._is_fork_ctx = _uses_fork(ctx)

    def __getstate__(self):
        return self._action, self._timeout, _slot_for_child(self, self)

    def __setstate__(self, state):
        self._action, self._timeout, slot = state
        _attach(self, slot)
        self._is_fork_ctx = False


_std.inherit(globals())
