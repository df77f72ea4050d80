"""Stand-in: the stdlib's pools, until the native ones take their place."""

from . import _std, queues
from .context import _default_context


class _TaskQueue(queues.SimpleQueue):
    """A subclass, hence the queue of pipe and locks into which the stdlib's pools reach."""


class Pool(_std.pool.Pool):
    def __init__(
        self,
        processes=None,
        initializer=None,
        initargs=(),
        maxtasksperchild=None,
        context=None,
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


class ThreadPool(_std.pool.ThreadPool, Pool):
    pass


_std.inherit(globals())
