"""Stand-in: the stdlib's pools, until the native ones take their place."""

from . import _std
from .context import _default_context


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


class ThreadPool(_std.pool.ThreadPool, Pool):
    pass


_std.inherit(globals())
