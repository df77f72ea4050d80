"""Queues in shared memory: an object is there for everybody when ``put()`` returns.

The classes of these names are native; a subclass of one is the stdlib's, in Python over fastmp's
connections and locks, for code that reaches into a queue's inner life (concurrent.futures, loky).
"""

import functools

from . import _core, _std
from ._handles import check_start_method
from .connection import _adopt


class _End:
    """What ``queue._reader`` and ``queue._writer`` are to code that knows a pipe there."""

    def __init__(self, queue, name):
        self._queue = queue
        self._name = name

    def fileno(self):
        """A descriptor that is readable exactly when something is in the queue."""
        if self.closed:
            raise OSError("handle is closed")
        return self._queue._fileno()

    def poll(self, timeout=0.0):
        """Whether something is in the queue, or comes within *timeout* seconds (None: ever)."""
        if self.closed:
            raise OSError("handle is closed")
        return self._queue._wait_nonempty(timeout)

    def recv(self):
        return self._queue.get()

    def send(self, obj):
        self._queue.put(obj)

    def recv_bytes(self):
        return bytes(_std.reduction.ForkingPickler.dumps(self._queue.get()))

    def send_bytes(self, data):
        self._queue.put(_std.reduction.ForkingPickler.loads(data))

    @property
    def closed(self):
        return self._queue._closed or self._name in self._queue._closed_ends

    def close(self):
        """Close this end alone: a pool's worker closes the one that it does not use."""
        self._queue._closed_ends.add(self._name)


def _rebuild(public, ring, bell, state):
    queue = public.__new__(public, (ring.detach(), bell.detach()))
    queue.__dict__.update(state)
    queue._is_fork_ctx = False
    return queue


class _Native:
    """What the native queues have in common: made by a context, handed to spawned processes."""

    def _remember(self, ctx):
        self._is_fork_ctx = ctx.get_start_method() == "fork"

    @functools.cached_property
    def _closed_ends(self):
        return set()

    @property
    def _reader(self):
        return _End(self, "reader")

    @property
    def _writer(self):
        return _End(self, "writer")

    def __reduce__(self):
        check_start_method(self, self._is_fork_ctx)
        ring, bell = self._share()
        dup = _std.reduction.DupFd
        state = {name: value for name, value in self.__dict__.items() if name != "_closed_ends"}
        return _rebuild, (self._public, dup(ring), dup(bell), state)


class Queue(_std.queues.Queue):
    """A first-in-first-out queue, for any number of producers and consumers.

    >>> Queue(maxsize=0, *, ctx, strict=False)

    ``put()`` pickles at once.  An object that cannot be pickled goes to
    ``_on_queue_feeder_error()``, which prints the traceback, as in the stdlib; with *strict* the
    exception is raised.  ValueError when *maxsize* is above ``SEM_VALUE_MAX``.
    """

    def __new__(cls, maxsize=0, *args, ctx=None, strict=False, **kwargs):
        if cls is Queue:
            cls = _NativeQueue
        return _new(cls, maxsize)

    def __init__(self, maxsize=0, *, ctx):
        super().__init__(maxsize, ctx=ctx)
        _adopt_ends(self, send_bytes="_writer", recv_bytes="_reader", poll="_reader")


class JoinableQueue(Queue, _std.queues.JoinableQueue):
    """A queue that counts unfinished tasks: ``task_done()`` and ``join()``."""

    def __new__(cls, maxsize=0, *args, ctx=None, strict=False, **kwargs):
        if cls is JoinableQueue:
            cls = _NativeJoinableQueue
        return _new(cls, maxsize)


class SimpleQueue(_std.queues.SimpleQueue):
    """A queue with ``put()``, ``get()`` and ``empty()`` only."""

    def __new__(cls, where=0, *args, ctx=None, **kwargs):
        if cls is SimpleQueue:
            cls = _NativeSimpleQueue
        return _new(cls, where)

    def __init__(self, *, ctx):
        super().__init__(ctx=ctx)
        _adopt_ends(self, poll="_reader")


def _adopt_ends(queue, **methods):
    """Give a classic queue connections of ours, and the methods that it keeps of them.

    A subclass's pickler may know a connection by ``multiprocessing.connection.Connection`` alone,
    which is ours where fastmp is installed (loky's does).
    """
    queue._reader = _adopt(queue._reader)
    queue._writer = _adopt(queue._writer)
    for method, end in methods.items():
        setattr(queue, f"_{method}", getattr(getattr(queue, end), method))


def _new(cls, maxsize):
    # A subclass may take arguments of its own: what else was given is for its __init__ alone.
    if issubclass(cls, _core.Queue):
        return _core.Queue.__new__(cls, maxsize)
    return object.__new__(cls)


class _NativeQueue(_Native, _core.Queue, Queue):
    """What ``Queue(...)`` gives."""

    _ignore_epipe = False

    def __init__(self, maxsize=0, *, ctx, strict=False):
        self._remember(ctx)
        self._strict = strict
        self._maxsize = maxsize if maxsize > 0 else _core.SEM_VALUE_MAX

    def close(self):
        """Say that this process will neither put nor get any more."""
        self._closed = True

    def join_thread(self):
        """Nothing to wait for: what was put is in shared memory."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Nothing to cancel: leaving never waits for a queue."""


class _NativeJoinableQueue(_NativeQueue, JoinableQueue):
    """What ``JoinableQueue(...)`` gives."""

    def task_done(self):
        """Say that one object that was got is dealt with.  ValueError when called too often."""
        self._task_done()

    def join(self):
        """Wait until every object that was put is dealt with."""
        self._join_tasks()


class _NativeSimpleQueue(_Native, _core.SimpleQueue, SimpleQueue):
    """What ``SimpleQueue()`` gives."""

    def __init__(self, *, ctx):
        self._remember(ctx)

    def close(self):
        """Say that this process will neither put nor get any more."""
        self._closed = True


for _native, _public in (
    (_NativeQueue, Queue),
    (_NativeJoinableQueue, JoinableQueue),
    (_NativeSimpleQueue, SimpleQueue),
):
    _native.__name__ = _native.__qualname__ = _public.__name__
    _native._public = _public
del _native, _public

_std.inherit(globals())
