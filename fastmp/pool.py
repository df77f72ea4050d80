"""Process pools: tasks, results and workers over a native task board.

Signatures and errors are those of ``multiprocessing.pool``.  ``Pool(...)`` is native; a subclass of
it is the stdlib's, in Python over fastmp's queues and processes, for code that overrides how a pool
talks to its workers (joblib, torch).

When a worker is killed, the task that it ran fails with ``fastmp.WorkerLostError``, and the pool
goes on.  A pool has no threads of its own: whoever waits for a result collects results.  Threads
run only while callbacks are due, ``maxtasksperchild`` is set, a call has a time limit, or an
iterator has to be fed.
"""

import operator
import os
import warnings
import weakref

from . import _core, _std, queues
from ._workers import Crew, describe
from .context import _default_context
from .errors import TaskCancelledError

_original = _std.pool
util = _std.util

INIT = _original.INIT
RUN = _original.RUN
CLOSE = _original.CLOSE
TERMINATE = _original.TERMINATE
mapstar = _original.mapstar
starmapstar = _original.starmapstar

_MAP, _IMAP, _IMAP_UNORDERED = 1, 2, 3
_FED_BY_WAITERS, _FED_BY_THREAD = 1, 2

# map() cuts a long range into eight times as many tasks as the stdlib does, if they stay this long,
# so that results come early and the workers end together. Not another iterable: what its items
# share travels with each task. Nor with maxtasksperchild, which counts tasks.
_LONG_TASK = 8192


class _TaskQueue(queues.SimpleQueue):
    """A subclass, hence the queue of pipe and locks into which the stdlib's pools reach."""


class Pool(_original.Pool):
    """A pool of worker processes.

    ValueError when *processes* or *maxtasksperchild* is below 1, TypeError when *initializer* is
    not callable.  *processes* is the number of usable CPUs when it is None.
    """

    # The parameters are for inspect.signature(); a subclass may take others.
    def __new__(
        cls,
        processes=None,
        initializer=None,
        initargs=(),
        maxtasksperchild=None,
        context=None,
        *args,
        **kwds,
    ):
        return object.__new__(_NativePool if cls is Pool else cls)

    def __init__(
        self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None
    ):
        super().__init__(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context or _default_context.get_context(),
        )

    def _setup_queues(self):
        self._inqueue = _TaskQueue(ctx=self._ctx)
        self._outqueue = _TaskQueue(ctx=self._ctx)
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


class ThreadPool(_original.ThreadPool, Pool):
    """The stdlib's pool of threads."""


class _Job:
    @property
    def _pool(self):
        """The pool, while there is one and the result is unfinished."""
        crew = self._crew
        return None if crew is None else crew.owner()


class _Cancellable(_Job):
    def cancel(self):
        """End the call before its result comes; False when it has come already.

        What no worker has begun is not begun any more; a worker that is at it is killed, and
        another takes its place.  ``get()`` raises ``TaskCancelledError``, with which the
        error_callback is called.  RuntimeError in a process that did not make the pool.
        """
        crew = self._crew
        if crew is None:
            return False
        return crew.cancel(self, TaskCancelledError(f"{describe(self)} was cancelled"))


class _ApplyResult(_Cancellable, _core.PoolResult, _original.ApplyResult):
    pass


class _MapResult(_Cancellable, _core.PoolResult, _original.MapResult):
    pass


class _IMapIterator(_Job, _core.PoolIterator, _original.IMapIterator):
    pass


class _IMapUnorderedIterator(_Job, _core.PoolIterator, _original.IMapUnorderedIterator):
    pass


class _Handler:
    """What is asked of ``pool._worker_handler`` and its like: there is no such thread."""

    daemon = True

    def __init__(self, pool):
        self._state = pool._state

    def is_alive(self):
        return self._state in (RUN, CLOSE)

    def join(self, timeout=None):
        pass


class _TasksWaiting:
    """What ``pool._taskqueue`` is asked for: how much nobody has taken yet."""

    def __init__(self, board):
        self.qsize = board.tasks_waiting

    def empty(self):
        return self.qsize() == 0


def _bounded(result):
    """The results; when nobody takes them any more, no more tasks are given out."""
    try:
        yield from result
    finally:
        result._cut()


def _cpu_count():
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


class _NativePool(Pool):
    """What ``Pool(...)`` gives."""

    def __init__(
        self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None
    ):
        # Early, for __del__() when something below raises.
        self._pool = []
        self._state = INIT

        if processes is None:
            processes = _cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")

        self._ctx = context or _default_context.get_context()
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        self._crew = crew = Crew(
            self._ctx,
            self.Process,
            self._pool,
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            self._wrap_exception,
        )
        self._board = crew.board
        crew.owner = weakref.ref(self)
        try:
            crew.repopulate()
        except BaseException:
            crew.abandon()
            raise
        self._terminate = util.Finalize(self, crew.let_go, exitpriority=15)
        self._state = RUN
        if maxtasksperchild is not None:
            crew.need_server()

    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN and self._board.owned:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def _setup_queues(self):
        pass

    def _repopulate_pool(self):
        self._crew.size = self._processes
        self._crew.repopulate()

    @property
    def _cache(self):
        """The unfinished results by their numbers; looks what has come, as nobody else may."""
        return self._board.cache

    @property
    def _taskqueue(self):
        return _TasksWaiting(self._board)

    @property
    def _worker_handler(self):
        return _Handler(self)

    _task_handler = _result_handler = _worker_handler

    #
    # Giving out tasks
    #

    def apply(self, func, args=(), kwds={}):  # noqa: B006
        """Call *func* with *args* and *kwds* in a worker, and wait for the result."""
        if self._state != RUN:
            raise ValueError("Pool not running")
        return self._board.apply(self._crew, func, args, kwds)

    def apply_async(
        self,
        func,
        args=(),
        kwds={},  # noqa: B006
        callback=None,
        error_callback=None,
        *,
        timeout=None,
    ):
        """Call *func* in a worker; returns an ``AsyncResult`` at once.

        *callback* is called with the result, or *error_callback* with the exception, before
        ``get()`` returns, in a thread of this process.  When the call runs for more than *timeout*
        seconds, which begin when a worker has taken it, its worker is killed and ``get()`` raises
        ``TaskTimeoutError``; other calls do not notice.  ValueError when *timeout* is negative.
        """
        if self._state != RUN:
            raise ValueError("Pool not running")
        if timeout is not None:
            timeout = float(timeout)
            if not timeout >= 0:
                raise ValueError(f"timeout must be a number of seconds from 0, not {timeout}")
        result = self._board.call(
            _ApplyResult,
            self._crew,
            func,
            args,
            kwds,
            callback,
            error_callback,
            timeout is not None,
        )
        if callback or error_callback:
            self._start_or_end(result, self._crew.need_server)
        if timeout is not None:
            self._crew.limit(result, timeout)
        return result

    @staticmethod
    def _start_or_end(result, start, *args):
        """Start the thread that a result needs; when there can be none, that is the result."""
        try:
            start(*args)
        except BaseException as e:
            result._end(e)
            raise

    def _map_async(
        self, func, iterable, mapper, chunksize=None, callback=None, error_callback=None
    ):
        result, how = self._start_map(func, iterable, mapper, chunksize, callback, error_callback)
        if how == _FED_BY_WAITERS or callback or error_callback:
            self._start_or_end(result, self._crew.need_server)
        return result

    def _start_map(
        self, func, iterable, mapper, chunksize=None, callback=None, error_callback=None
    ):
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        length = len(iterable)
        if chunksize is None:
            chunksize, extra = divmod(length, (len(self._pool) or self._processes) * 4)
            if extra:
                chunksize += 1
            if type(iterable) is range and self._maxtasksperchild is None:
                chunksize = min(chunksize, max(chunksize // 8, _LONG_TASK))
        if length == 0:
            chunksize = 0
        return self._board.start(
            _MapResult,
            self._crew,
            _MAP,
            func,
            iterable,
            mapper is starmapstar,
            chunksize,
            length,
            0,
            callback,
            error_callback,
        )

    def map(self, func, iterable, chunksize=None):
        """Call *func* with each item, in the workers; returns the list of results in order.

        Raises the first exception that came, when all items have been dealt with.
        """
        return self._start_map(func, iterable, mapstar, chunksize)[0].get()

    def starmap(self, func, iterable, chunksize=None):
        """``map()`` whose items are unpacked as arguments: ``func(a, b)`` for ``(a, b)``."""
        return self._start_map(func, iterable, starmapstar, chunksize)[0].get()

    def imap(self, func, iterable, chunksize=1, *, buffersize=None):
        """An iterator over the results, in order.

        *iterable* is consumed at once, or as fast as the workers go, in a thread.  With
        *buffersize*, no more than so many tasks (items, or chunks of them) are out whose results
        have not been taken; ``close()`` then ends the iteration.
        """
        return self._imap(_IMapIterator, _IMAP, func, iterable, chunksize, buffersize)

    def imap_unordered(self, func, iterable, chunksize=1, *, buffersize=None):
        """``imap()`` whose results come as they are ready."""
        return self._imap(
            _IMapUnorderedIterator, _IMAP_UNORDERED, func, iterable, chunksize, buffersize
        )

    def _imap(self, iterator, kind, func, iterable, chunksize, buffersize):
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        if buffersize is not None and operator.index(buffersize) < 1:
            raise ValueError("buffersize must be None or at least 1")
        result, how = self._board.start(
            iterator,
            self._crew,
            kind,
            func,
            iterable,
            False,
            chunksize,
            0,
            buffersize or 0,
            None,
            None,
        )
        if how == _FED_BY_THREAD:
            self._start_or_end(result, self._crew.feed, result)
        if buffersize is not None:
            result = _bounded(result)
        if chunksize == 1:
            return result
        return (item for chunk in result for item in chunk)

    #
    # The end
    #

    def close(self):
        """Take no more tasks; the workers leave after the last one."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._crew.close()

    def terminate(self):
        """End the workers at once.  What was not done fails with ``PoolTerminatedError``."""
        self._state = TERMINATE
        self._terminate()

    def join(self):
        """Wait for the workers' end.  ValueError before ``close()`` or ``terminate()``."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._crew.join()


_NativePool.__name__ = _NativePool.__qualname__ = "Pool"

_std.inherit(globals())
